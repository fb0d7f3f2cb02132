"""Small graphs, options and jobs for the tests of the adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libkge_standins as standins
import torch
import yaml

import pykeen_advneg_libkge
from pykeen_advneg.negatives import Negatives
from pykeen_advneg_libkge.settings import KEY

ENTITIES, RELATIONS = 14, 5


YAML = Path(pykeen_advneg_libkge.__file__).parent / f"{KEY}.yaml"


def triples(n: int = 60, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(high, (n,), generator=generator) for high in (ENTITIES, RELATIONS, ENTITIES)]
    return torch.stack(columns, dim=-1)


def negatives(positives: torch.Tensor, k: int = 6, one_sided: bool = True) -> Negatives:
    b = len(positives)
    column = 2 * torch.randint(2, (b, 1 if one_sided else k))
    return Negatives(positives, torch.randint(ENTITIES, (b, k)), column)


def options(**given: Any) -> dict[str, Any]:
    """The defaults of the YAML, as `Config.get` gives them, with changes."""
    defaults = yaml.safe_load(YAML.read_text(encoding="utf-8"))[KEY]
    found: dict[str, Any] = {"train.loss": "kl", "train.batch_size": 16, "train.subbatch_size": -1}
    found["train.num_workers"] = 0
    for key in ("sampler", "num_samples", "filtered"):
        found[f"{KEY}.{key}"] = defaults[key]
    found[f"{KEY}.sampler_args"] = {}
    for key in ("epochs", "sampler", "num_samples", "filtered"):
        found[f"{KEY}.pretraining.{key}"] = defaults["pretraining"][key]
    found[f"{KEY}.pretraining.sampler_args"] = {}
    assert defaults["sampler_args"] == defaults["pretraining"]["sampler_args"] == {"+++": "+++"}
    names = {name for name in found if name.startswith(KEY)}
    assert len(names) == len(defaults) - 2 + len(defaults["pretraining"]), "an option of the YAML is not read"
    for key, value in given.items():
        name = key.replace("__", ".")
        found[name if name.startswith("train.") else f"{KEY}.{name}"] = value
    return found


KBGAN = dict(sampler="kbgan", train__loss="margin_ranking", sampler_args=dict(num_candidates=5))
EMU = dict(sampler="emu", num_samples=4)


MMRNS = dict(sampler="mmrns", num_samples=2, sampler_args=dict(pool_size=10))


def make_job(jobs: Any, model: str = "distmult", seed: int = 0, kind: Any = standins.Model, **given: Any) -> Any:
    torch.manual_seed(seed)
    instance = kind(model, ENTITIES, RELATIONS)
    dataset = standins.Dataset(triples(), ENTITIES, RELATIONS)
    return jobs.TrainingJobAdvnegNegativeSampling(standins.Config(options(**given)), dataset, model=instance)


def states(job: Any) -> list[torch.Tensor]:
    sampler = [value for value in job.sampler.state_dict().values() if isinstance(value, torch.Tensor)]
    return [*job.model.state_dict().values(), *sampler]


def same(one: Any, other: Any) -> bool:
    pairs = list(zip(states(one), states(other), strict=True))
    return all(torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in pairs)

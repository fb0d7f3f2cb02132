"""What a user may ask for, and what is refused before training; without LibKGE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libkge_standins as standins
import pytest
import torch
import yaml
from libkge_cases import (
    EMU,
    ENTITIES,
    KBGAN,
    MMRNS,
    YAML,
    make_job,
    options,
    states,
)

import pykeen_advneg_libkge
from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.multimodal import MultimodalFeatures
from pykeen_advneg_libkge.__main__ import read_ranges
from pykeen_advneg_libkge.settings import KEY, Settings
from pykeen_advneg_libkge.tuning import default_ranges

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampler": "kbgam"}, "sampler='kbgam' is no sampler"),
        ({"sampler_args": {"generatr": "complex"}}, "unknown keywords"),
        ({"sampler_args": {"num_negs_per_pos": 3}}, "num_samples"),
        ({"sampler_args": {"generatr": "complex"}}, "sampler_args has"),
        ({"num_samples": 0}, "num_samples=0"),
        ({"num_samples": -2}, "num_samples=-2"),
        ({"pretraining__num_samples": 0}, r"pretraining\.num_samples=0"),
        ({"pretraining__sampler_args": {"filtered": True}}, "filtered beside it"),
        ({"filtered": "yes"}, "filtered='yes'"),
        ({"pretraining__epochs": 1, "pretraining__sampler": "kbgan"}, "needs the model"),
    ],
)
def test_options_which_cannot_work(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Settings.of(options(**given).__getitem__)


def test_options_which_are_not_given_are_the_samplers() -> None:
    """The number of negatives is passed on if it is given, for each of the two samplers by itself."""
    settings = Settings.of(options(sampler="kbgan").__getitem__)
    assert settings.sampler.kwargs == settings.pretraining_sampler.kwargs == {"filtered": False}
    given = options(num_samples=7, filtered=True, pretraining__num_samples=3)
    settings = Settings.of(given.__getitem__)
    assert settings.sampler.kwargs == {"num_negs_per_pos": 7, "filtered": True}
    assert settings.pretraining_sampler.kwargs == {"num_negs_per_pos": 3, "filtered": False}


def test_flags_from_the_command_line() -> None:
    """LibKGE hands on what it does not know as text."""
    args = {"base_kwargs": {"corruption_scheme": ["head", "False"]}, "independent_passes": "False", "tied": "true"}
    found = Settings.of(options(sampler="emu", sampler_args=args).__getitem__).sampler.kwargs
    assert found["base_kwargs"] == {"corruption_scheme": ["head", False]}
    assert found["independent_passes"] is False
    assert found["tied"] is True


def test_ranges_which_samplers_suggest() -> None:
    """Those of a sampler and of its components, by the names of options, without what is given."""
    args = {"mutation_rate": 0.3, "base": "kbgan", "base_kwargs": {"num_candidates": 7}}
    given = options(sampler="emu", num_samples=4, sampler_args=args)
    found = default_ranges(Settings.of(given.__getitem__).sampler, given.__getitem__)
    names = {name.removeprefix(f"{KEY}.") for name in found}
    assert {"sampler_args.negative_label", "sampler_args.base_kwargs.generator_kwargs.embedding_dim"} <= names
    assert not {"num_samples", "sampler_args.mutation_rate", "sampler_args.base_kwargs.num_candidates"} & names
    given = options(sampler="emu")
    assert f"{KEY}.num_samples" in default_ranges(Settings.of(given.__getitem__).sampler, given.__getitem__)


def test_files_of_ranges(tmp_path: Path) -> None:
    assert read_ranges(EXAMPLES / "ranges.yaml")["train.optimizer.default.args.lr"]["log"] is True
    (tmp_path / "list.yaml").write_text("[1, 2]")
    for name, message in (("list.yaml", "no mapping"), ("nothing.yaml", "cannot be read")):
        with pytest.raises(ConfigurationError, match=message):
            read_ranges(tmp_path / name)


def test_options_without_effect(jobs: Any) -> None:
    given = {"train.pin_memory": True, "negative_sampling": {"shared": False, "num_samples": {"s": 5}}}
    job = make_job(jobs)
    job._prepare()
    assert not any("no effect" in message for message in job.config.messages)
    job = make_job(jobs)
    job.config.options.update(given)
    job._prepare()
    first, *others = job.config.messages
    assert first.startswith("Warning: train.pin_memory, negative_sampling.num_samples.s: no effect")
    assert "Use instead: advneg_negative_sampling.num_samples (s + o + 1" in first
    assert "filtered" not in first, "what was not given"
    assert any(
        "'shared', 256 entities drawn for each positive; known triples may be among them" in message
        for message in others
    )
    assert "known triples are left out" in _said(make_job(jobs, num_samples=7, filtered=True))
    assert "7 entities drawn" in _said(make_job(jobs, num_samples=7, filtered=True))


def _said(job: Any) -> str:
    job._prepare()
    return " ".join(job.config.messages)


def test_the_class_of_the_options() -> None:
    name = yaml.safe_load(YAML.read_text(encoding="utf-8"))[KEY]["class_name"]
    assert name in pykeen_advneg_libkge.__all__
    with pytest.raises(AttributeError):
        pykeen_advneg_libkge.Nothing  # noqa: B018


def test_labels(jobs: Any, tmp_path: Path) -> None:
    """Features which have labels are brought into the order of LibKGE's numbers."""
    order = torch.randperm(ENTITIES)
    text = order.float().view(-1, 1, 1).repeat(1, 1, 3)
    features = MultimodalFeatures(text=text, labels=[f"entity {number}" for number in order.tolist()])
    features.save(tmp_path / "features.safetensors")
    args = dict(pool_size=10, features=str(tmp_path / "features.safetensors"))
    job = make_job(jobs, **dict(MMRNS, sampler_args=args))
    assert job.sampler.comparison.features.text[:, 0, 0].tolist() == list(range(ENTITIES))
    job.train(1)


IMPOSSIBLE: list[tuple[Any, dict[str, Any], str]] = [
    (standins.Model, dict(num_samples=2, filtered=True, train__loss="bce_mean"), "do not count"),
    (standins.Model, dict(num_samples=2, sampler_args=dict(log_q_correction=True), train__loss="bce"), "log_q"),
    (standins.Reciprocal, dict(sampler="dans"), "generates representations"),
    (standins.Reciprocal, MMRNS, "PooledNegatives, which hold more"),
    (standins.Reciprocal, dict(sampler="basic", num_samples=2), "both sides"),
    (standins.Reciprocal, dict(KBGAN, pretraining__epochs=1, pretraining__sampler="basic", pretraining__num_samples=2),
     "both sides"),
    (standins.Model, dict(sampler="dans", sampler_args=dict(detach_fakes=False), train__subbatch_size=4),
     "detach_fakes"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "message"), IMPOSSIBLE)
def test_what_cannot_work_is_said_before_training(jobs: Any, kind: Any, given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_job(jobs, kind=kind, **given)


def test_trying_out_changes_nothing(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    after = []
    for is_tried in (True, False):
        if not is_tried:
            monkeypatch.setattr("pykeen_advneg_libkge.binding.Binding._try_out", lambda *_: None)
        job = make_job(jobs, **EMU)
        after.append((torch.rand(1), states(job)))
        assert job.model.training
        assert job.sampler.training
    assert torch.equal(after[0][0], after[1][0])
    assert all(torch.equal(a, b) for a, b in zip(after[0][1], after[1][1], strict=True))

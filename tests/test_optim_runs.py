"""The optimizers by rows in PyKEEN: by name, in each of its loops, in a study."""

from __future__ import annotations

import inspect
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pykeen.hpo import hpo_pipeline
from pykeen.optimizers import optimizer_resolver, optimizers_hpo_defaults
from pykeen.pipeline import pipeline
from pykeen.training import TrainingCallback
from pykeen.utils import set_random_seed
from torch.optim import Optimizer

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.optim import RowAdagrad, RowAdam, RowOptimizer, SparseAdagrad
from pykeen_advneg.testing.graphs import GRAPH, VALIDATION, make_model
from pykeen_advneg.training import AdversarialTrainingLoop
from pykeen_advneg.training.rows import MANY_ROWS


class SlowRowAdagrad(Optimizer):
    """The twin as an optimizer: a loop over the rows of dense gradients."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                sums = self.state[parameter].setdefault("sums", [0.0] * len(parameter))
                for i, gradient in enumerate(parameter.grad):
                    if bool(gradient.any()):
                        sums[i] += gradient.double().square().mean().item()
                        parameter[i] -= group["lr"] / math.sqrt(sums[i]) * gradient


@pytest.mark.parametrize(
    ("fast", "slow"), [(RowAdagrad, SlowRowAdagrad), (SparseAdagrad, torch.optim.Adagrad)], ids=["row", "sparse"]
)
@pytest.mark.parametrize("name", ["complex", "transd"])
@pytest.mark.parametrize("sampler", ["shared", "basic"])
def test_in_the_loop(name: str, sampler: str, fast: type[Optimizer], slow: type[Optimizer]) -> None:
    """Models of complex numbers, too, whose tables are real."""
    weights, losses = [], []
    for optimizer in (fast, slow):
        loop = AdversarialTrainingLoop(
            model=make_model(name),
            triples_factory=GRAPH,
            optimizer=optimizer,
            optimizer_kwargs={"lr": 0.05},
            negative_sampler=sampler,
            negative_sampler_kwargs={"num_negs_per_pos": 3},
        )
        set_random_seed(0)
        losses.append(loop.train(GRAPH, num_epochs=3, batch_size=64, use_tqdm=False))
        weights.append([parameter.detach() for parameter in loop.model.parameters()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for x, y in zip(*weights, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def run_pipeline(**kwargs: Any) -> Any:
    common: dict[str, Any] = {
        "training": GRAPH,
        "testing": VALIDATION,
        "validation": VALIDATION,
        "model": "complex",
        "model_kwargs": {"embedding_dim": 4},
        "training_kwargs": {"num_epochs": 5, "batch_size": 64, "use_tqdm": False},
        "evaluation_kwargs": {"use_tqdm": False, "batch_size": 32},
        "random_seed": 0,
        "device": "cpu",
    }
    return pipeline(**(common | kwargs))


@pytest.mark.parametrize("training_loop", ["slcwa", "lcwa", "adversarial"])
@pytest.mark.parametrize(
    ("name", "cls", "lr"),
    [("rowadagrad", RowAdagrad, 0.1), ("rowadam", RowAdam, 0.02), ("sparseadagrad", SparseAdagrad, 0.1)],
)
def test_by_name(name: str, cls: type[RowOptimizer], lr: float, training_loop: str) -> None:
    seen: list[Optimizer] = []

    class Watch(TrainingCallback):
        def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
            seen.append(self.optimizer)
            rates.append(self.optimizer.param_groups[0]["lr"])

    rates: list[float] = []
    result = run_pipeline(
        optimizer=name,
        optimizer_kwargs={"lr": lr},
        lr_scheduler="exponential",
        lr_scheduler_kwargs={"gamma": 0.9},
        training_loop=training_loop,
        training_kwargs={"num_epochs": 6, "batch_size": 64, "use_tqdm": False, "callbacks": [Watch()]},
        **({} if training_loop == "lcwa" else {"negative_sampler": "basic"}),
    )
    assert {type(optimizer) for optimizer in seen} == {cls}
    assert rates[-1] < rates[0] <= lr
    assert result.losses[-1] < result.losses[0]


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [("rowadagrad", {"lr": -1.0}, r"lr=-1\.0"), ("rowadam", {"beta2": 1.0}, r"beta2=1\.0")],
)
def test_bad_settings_by_name(name: str, kwargs: dict[str, float], message: str) -> None:
    """Said before anything is trained."""
    batches = []

    class Callback(TrainingCallback):
        def pre_batch(self, **kwargs: Any) -> None:
            batches.append(1)

    training_kwargs = {"num_epochs": 1, "batch_size": 64, "use_tqdm": False, "callbacks": [Callback()]}
    with pytest.raises(ConfigurationError, match=message):
        run_pipeline(optimizer=name, optimizer_kwargs=kwargs, training_kwargs=training_kwargs)
    assert batches == []


def test_ranges_whatever_is_imported_first() -> None:
    """Where the class is there before the resolver, the resolver finds it by itself, without its ranges."""
    code = """
import pykeen_advneg.optim
from pykeen.optimizers import optimizers_hpo_defaults
assert pykeen_advneg.optim.RowAdam in optimizers_hpo_defaults
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# goes with the mark of the test above: which module this process imported first depends on the other tests
@pytest.mark.parametrize(
    ("name", "cls"), [("rowadagrad", RowAdagrad), ("rowadam", RowAdam), ("sparseadagrad", SparseAdagrad)]
)
def test_study(name: str, cls: type[RowOptimizer]) -> None:
    """PyKEEN's study knows what to tune, within the bounds of the class."""
    assert optimizer_resolver.lookup(name) is cls
    assert optimizers_hpo_defaults[cls] is cls.hpo_default
    result = hpo_pipeline(
        training=GRAPH,
        testing=VALIDATION,
        validation=VALIDATION,
        model="distmult",
        model_kwargs={"embedding_dim": 4},
        model_kwargs_ranges={},
        optimizer=name,
        n_trials=1,
        training_kwargs={"num_epochs": 1, "batch_size": 64, "use_tqdm": False},
        evaluator_kwargs={"batch_size": 32},
        evaluation_kwargs={"use_tqdm": False},
        study_name=None,
        device="cpu",
    )
    (trial,) = result.study.trials
    assert trial.state.name == "COMPLETE"
    bounds = cls.hpo_default["lr"]
    assert bounds["low"] <= trial.params["optimizer.lr"] <= bounds["high"]


def test_page() -> None:
    """The table of settings has all of them with their defaults, and the bound is that of the loop."""
    text = (Path(__file__).parents[1] / "docs" / "optimizers.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"## Settings\n(.*?)\n## ", text, re.DOTALL)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines() if line[:1] == "|"]
    header, _, *lines = cells
    found: dict[str, dict[str, float]] = {}
    for column, title in enumerate(header[1:], start=1):
        for name in re.findall(r"`(\w+)`", title):
            pairs = [(re.findall(r"`(\w+)`", line[0]), line[column].split(",")) for line in lines if line[column]]
            found[name] = {key: float(value) for keys, values in pairs for key, value in zip(keys, values, strict=True)}
    for name, defaults in found.items():
        parameters = inspect.signature(optimizer_resolver.lookup(name).__init__).parameters.values()
        assert defaults == {p.name: p.default for p in parameters if p.name not in {"self", "params"}}
    assert set(found) == {"rowadagrad", "rowadam", "sparseadagrad"}
    assert f"more than {MANY_ROWS:,} rows" in text

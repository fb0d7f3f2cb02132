"""Loops on a small real knowledge graph, as the tests of the loop want them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from pykeen.datasets import UMLS, Dataset
from pykeen.evaluation import RankBasedEvaluator
from pykeen.models import Model, model_resolver
from pykeen.stoppers import EarlyStopper
from pykeen.utils import set_random_seed

from pykeen_advneg.training import AdversarialTrainingLoop

BATCH_SIZE = 1024


@cache
def umls(inverse: bool = False) -> Dataset:
    return UMLS(create_inverse_triples=inverse)


def make_model(name: str = "transe", inverse: bool = False, **kwargs: Any) -> Model:
    kwargs = {"embedding_dim": 8, "random_seed": 0, **kwargs}
    return model_resolver.make(name, kwargs, triples_factory=umls(inverse).training)


def make_loop(
    sampler: Any = "kbgan", sampler_kwargs: Any = None, model: Model | None = None, inverse: bool = False, **kwargs: Any
) -> AdversarialTrainingLoop:
    model = make_model(inverse=inverse) if model is None else model
    return AdversarialTrainingLoop(
        model=model,
        triples_factory=umls(inverse).training,
        negative_sampler=sampler,
        negative_sampler_kwargs={} if sampler_kwargs is None and isinstance(sampler, str) else sampler_kwargs,
        **{"optimizer": "adam", "optimizer_kwargs": {"lr": 0.01}, **kwargs},
    )


def train(
    loop: AdversarialTrainingLoop, num_epochs: int, inverse: bool = False, seed: int | None = 7, **kwargs: Any
) -> list[float]:
    if seed is not None:
        set_random_seed(seed)
    kwargs = {"batch_size": BATCH_SIZE, "use_tqdm": False, **kwargs}
    losses = loop.train(umls(inverse).training, num_epochs=num_epochs, **kwargs)
    assert losses is not None
    return list(losses)


def state_of(loop: AdversarialTrainingLoop) -> dict[str, Any]:
    """Everything which has to be equal after equal training."""
    assert loop._sampler is not None
    optimizer = {} if loop.optimizer is None else loop.optimizer.state_dict()
    # after resuming, an optimizer which keeps nothing has an empty entry, so that the host does not take it for new
    state = {key: value for key, value in optimizer.get("state", {}).items() if value}
    return {
        "model": loop.model.state_dict(),
        "sampler": loop._sampler.state_dict(),
        "optimizer": {**optimizer, "state": state},
    }


def assert_same(a: Any, b: Any, path: str = "") -> None:
    """Compare nested states to the last bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{index}]")
    else:
        assert a == b, path


def differs(a: Any, b: Any) -> bool:
    try:
        assert_same(a, b)
    except AssertionError:
        return True
    return False


def make_stopper(loop: AdversarialTrainingLoop, **kwargs: Any) -> EarlyStopper:
    dataset = umls()
    assert dataset.validation is not None
    return EarlyStopper(
        model=loop.model,
        evaluator=RankBasedEvaluator(),
        training_triples_factory=dataset.training,
        evaluation_triples_factory=dataset.validation,
        evaluation_batch_size=128,
        metric="inverse_harmonic_mean_rank",
        frequency=1,
        **kwargs,
    )

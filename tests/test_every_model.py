"""The loop trains every model and every loss of PyKEEN, and takes the loss which PyKEEN's own loop takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.losses import loss_resolver
from pykeen.models import ERModel, Model, model_resolver
from pykeen.regularizers import Regularizer
from pykeen.training import SLCWATrainingLoop, TrainingCallback
from pykeen.triples import TriplesFactory
from pykeen.utils import set_random_seed

from pykeen_advneg.training import AdversarialTrainingLoop

#: models which want more than a triples factory, or whose default size is for other data; why they are built this way
MODEL_KWARGS: dict[str, dict[str, Any]] = {
    "autosf": {"embedding_dim": 8},
    "boxe": {"embedding_dim": 8},
    "conve": {"embedding_dim": 16, "embedding_height": 4, "embedding_width": 4},
    "convkb": {"embedding_dim": 8, "num_filters": 4},
    "ermlp": {"embedding_dim": 8, "hidden_dim": 8},
    "ermlpe": {"embedding_dim": 8, "hidden_dim": 8},
    "rgcn": {"embedding_dim": 8, "num_layers": 1},
    "compgcn": {"embedding_dim": 8},
    "transformer": {"embedding_dim": 8, "interaction_kwargs": {"num_heads": 1, "num_layers": 1, "dim_feedforward": 8}},
}

#: what cannot be built from triples alone
UNAVAILABLE = {
    "distma": "is no model of its own",
    "distmultliteral": "needs numeric literals",
    "distmultliteralgated": "needs numeric literals",
    "complexliteral": "needs numeric literals",
    "inductivenodepiece": "needs an inductive data set",
    "mkbe": "needs a multimodal graph: see test_mkbe.py",
    "inductivenodepiecegnn": "needs an inductive data set",
}


def models() -> list[str]:
    return sorted(
        name
        for name, cls in model_resolver.lookup_dict.items()
        if issubclass(cls, ERModel) and cls is not ERModel and name not in UNAVAILABLE
    )


def factory_for(name: str) -> TriplesFactory:
    factory = Nations(create_inverse_triples=name in {"compgcn", "nodepiece"}).training
    assert isinstance(factory, TriplesFactory)
    return factory


def build(name: str, **kwargs: Any) -> Model:
    kwargs = {**MODEL_KWARGS.get(name, {}), "random_seed": 0, **kwargs}
    return model_resolver.make(name, kwargs, triples_factory=factory_for(name))


class CompareWithHost(TrainingCallback):
    """Compute the host's loss of each batch, with the random numbers that ours has used."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[float, float]] = []

    def on_batch(self, epoch: int, batch: Any, batch_loss: float, **kwargs: Any) -> None:
        # with gradients enabled: regularisers take no part otherwise
        host = SLCWATrainingLoop._process_batch_static(
            self.model,
            self.loss,
            None,
            {"positives": batch["positives"], "negatives": batch["negatives"]},
            0,
            None,
        )
        self.pairs.append((batch_loss, host.item()))


def train(model: Model, sampler: str, **kwargs: Any) -> CompareWithHost:
    factory = factory_for(model_resolver.normalize_inst(model))
    callback = CompareWithHost()
    set_random_seed(1)
    loop = AdversarialTrainingLoop(
        model=model,
        triples_factory=factory,
        optimizer="sgd",
        optimizer_kwargs={"lr": 1e-4},
        negative_sampler=sampler,
        negative_sampler_kwargs=kwargs,
        automatic_memory_optimization=False,
    )
    loop.train(factory, num_epochs=1, batch_size=800, use_tqdm=False, callbacks=callback)
    return callback


def is_random(model: Model) -> bool:
    """Tell whether two passes of the same batch differ."""
    kinds = torch.nn.Dropout | torch.nn.Dropout1d | torch.nn.Dropout2d | torch.nn.modules.batchnorm._BatchNorm
    return any(isinstance(module, kinds) for module in model.modules())


def is_regularized(model: Model) -> bool:
    return any(isinstance(module, Regularizer) for module in model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("name", models())
def test_every_model_trains(name: str) -> None:
    model = build(name)
    callback = train(model, "bernoulli", num_negs_per_pos=2)
    ours, host = callback.pairs[0]
    if not is_random(model):
        # regularisers estimate the same mean from other rows: of a kept slot, the host takes a row for each negative
        assert ours == pytest.approx(host, rel=2e-2 if is_regularized(model) else 1e-4)
    train(build(name), "kbgan", num_candidates=5)


@pytest.mark.parametrize("name", sorted(loss_resolver.lookup_dict))
def test_every_loss_equals_the_hosts(name: str) -> None:
    model = build("transe", embedding_dim=8, loss=name)
    positives = Nations().training.mapped_triples[:8]
    try:
        SLCWATrainingLoop._process_batch_static(
            model, model.loss, None, {"positives": positives, "negatives": positives.unsqueeze(1)}, 0, None
        )
    except NotImplementedError:
        pytest.skip("PyKEEN's own sLCWA loop cannot train by this loss")
    for ours, host in train(model, "basic", num_negs_per_pos=3).pairs:
        assert ours == pytest.approx(host, rel=1e-4)

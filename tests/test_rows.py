"""Training row by row: with sparse gradients, all comes out as with dense ones."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pykeen.models import Model, model_resolver
from pykeen.nn.representation import Embedding
from pykeen.training import SLCWATrainingLoop, TrainingCallback
from pykeen.triples import CoreTriplesFactory
from pykeen.utils import set_random_seed
from torch import Tensor, nn

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.optim import RowAdagrad, RowOptimizer
from pykeen_advneg.testing.graphs import same
from pykeen_advneg.training import AdversarialTrainingLoop, rows
from pykeen_advneg.training.runs import Clipping

NUM_ENTITIES = rows.MANY_ROWS + 200
NUM_TRIPLES, BATCH_SIZE = 150, 60
#: larger than any table
HUGE = 10**9

#: constrained entities and a regulariser; a regulariser of complex numbers; constrained relations; several tables
MODELS: Mapping[str, Mapping[str, Any]] = {
    "distmult": {"embedding_dim": 4},
    "complex": {"embedding_dim": 3},
    "transe": {"embedding_dim": 4, "scoring_fct_norm": 2},
    "rotate": {"embedding_dim": 3},
    "transd": {"embedding_dim": 4, "relation_dim": 4},
}
OPTIMIZERS = {"rowadagrad": {"lr": 0.1}, "rowadam": {"lr": 0.02}, "sparseadagrad": {"lr": 0.1}}


@cache
def graph() -> CoreTriplesFactory:
    """So few triples that most entities have none."""
    generator = torch.Generator().manual_seed(0)
    triples = [torch.randint(high, (NUM_TRIPLES,), generator=generator) for high in (NUM_ENTITIES, 3, NUM_ENTITIES)]
    return CoreTriplesFactory.create(torch.stack(triples, dim=1), num_entities=NUM_ENTITIES, num_relations=3)


def make_loop(
    name: str = "distmult",
    optimizer: Any = "rowadagrad",
    cls: type[SLCWATrainingLoop] = AdversarialTrainingLoop,
    sampler: str = "shared",
    loop_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> SLCWATrainingLoop:
    kwargs = {"loss": "crossentropy", "random_seed": 0, **MODELS[name], **kwargs}
    model = model_resolver.make(name, kwargs, triples_factory=graph())
    options = OPTIMIZERS.get(optimizer, {}) if isinstance(optimizer, str) else {"lr": 0.1}
    return cls(
        model=model,
        triples_factory=graph(),
        optimizer=optimizer,
        optimizer_kwargs=options,
        negative_sampler=sampler,
        negative_sampler_kwargs={"num_negs_per_pos": 5},
        **(loop_kwargs or {}),
    )


def train(loop: SLCWATrainingLoop, num_epochs: int = 2, seed: int = 0, **kwargs: Any) -> list[float]:
    set_random_seed(seed)
    kwargs = {"batch_size": BATCH_SIZE, "use_tqdm": False, **kwargs}
    losses = loop.train(graph(), num_epochs=num_epochs, **kwargs)
    assert losses is not None
    return losses


def tables(model: Model) -> Iterator[Embedding]:
    return (module for module in model.modules() if isinstance(module, Embedding))


def weights(loop: SLCWATrainingLoop) -> list[Tensor]:
    return [parameter.detach() for parameter in loop.model.parameters()]


def entities_of(loop: SLCWATrainingLoop) -> Tensor:
    return loop.model.entity_representations[0]._embeddings.weight.detach()


def is_normed(x: Tensor) -> bool:
    return torch.allclose(x.norm(dim=-1), torch.ones(len(x)), atol=1e-5)


class Watch(TrainingCallback):
    """Notes for each batch, before its step: which tables have sparse gradients, and the entities."""

    def __init__(self) -> None:
        super().__init__()
        self.sparse: list[list[bool]] = []
        self.entities: list[Tensor] = []

    @property
    def normed(self) -> list[bool]:
        return [is_normed(entities) for entities in self.entities]

    def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
        self.sparse.append([table._embeddings.sparse for table in tables(self.training_loop.model)])
        self.entities.append(entities_of(self.training_loop).clone())


def compare(monkeypatch: pytest.MonkeyPatch, tolerance: float = 1e-5, **kwargs: Any) -> None:
    """Train with dense gradients, with sparse ones, and with sparse ones of the large tables only."""
    training = kwargs.pop("training", {})
    results = []
    for many in (HUGE, 0, 2048):
        monkeypatch.setattr(rows, "MANY_ROWS", many)
        loop, watch = make_loop(**kwargs), Watch()
        losses = train(loop, callbacks=[watch], **training)
        assert watch.sparse[0] == [table.max_id > many for table in tables(loop.model)]
        results.append((losses, weights(loop)))
    (losses, dense), *others = results
    for other_losses, sparse in others:
        assert other_losses == pytest.approx(losses, rel=1e-5)
        for x, y in zip(sparse, dense, strict=True):
            torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [(name, "rowadagrad") for name in MODELS]
    + [(name, optimizer) for name in ("distmult", "rotate") for optimizer in ("rowadam", "sparseadagrad")],
)
def test_sparse_is_dense(name: str, optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(monkeypatch, name=name, optimizer=optimizer)


def test_hinge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where many rows of the batch have a gradient of zeros."""
    compare(monkeypatch, loss="marginranking", loss_kwargs={"margin": 0.1})


@pytest.mark.parametrize("sampler", ["basic", "kbgan"])
def test_samplers(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(monkeypatch, sampler=sampler)


@pytest.mark.parametrize("name", ["distmult", "complex"])
def test_sub_batches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a batch add to one sparse gradient, in which rows are repeated."""
    compare(monkeypatch, name=name, training={"sub_batch_size": 7})
    kwargs: dict[str, Any] = {"regularizer": None} if name == "complex" else {}
    whole, parts = make_loop(name, **kwargs), make_loop(name, **kwargs)
    losses = train(whole)
    if kwargs:
        assert train(parts, sub_batch_size=7) == pytest.approx(losses, rel=1e-5)
        for x, y in zip(weights(parts), weights(whole), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "clipping",
    [
        {"gradient_clipping_max_norm": 0.01},
        {"gradient_clipping_max_norm": 0.01, "gradient_clipping_norm_type": 1.0},
        {"gradient_clipping_max_abs_value": 0.001},
    ],
    ids=str,
)
def test_clipping(clipping: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimizer has an accumulator to begin with, else it would not notice the size of the gradients."""
    sizes = []

    class Size(RowAdagrad):
        def __init__(self, params: Any, **kwargs: float) -> None:
            super().__init__(params, **{**kwargs, "initial_accumulator_value": 1.0})

    for options in ({}, clipping):
        loop = make_loop("complex", optimizer=Size)
        train(loop, num_epochs=1, **options)
        start = copy.deepcopy(loop.model)
        set_random_seed(0)
        start.reset_parameters_()
        sizes.append(sum(float((x - y).norm()) for x, y in zip(weights(loop), start.parameters(), strict=True)))
    assert sizes[1] < sizes[0] / 2
    compare(monkeypatch, name="complex", optimizer=Size, training=clipping, tolerance=1e-6)


@pytest.mark.parametrize("norm_type", [None, 1.0, 2.0, float("inf")])
def test_clipped_gradients(norm_type: float | None) -> None:
    """Sparse gradients with repeated rows, and dense ones, against PyTorch's on dense gradients."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(6, 3, generator=generator)
    sparse = torch.sparse_coo_tensor(torch.tensor([[1, 4, 1, 0, 4, 4]]), values, (6, 3), check_invariants=True)
    other = torch.randn(5, generator=generator)
    for max_norm, max_abs_value in ((0.7, None), (100.0, None), (None, 0.4), (0.7, 0.2)):
        ours, theirs = ([nn.Parameter(torch.zeros(6, 3)), nn.Parameter(torch.zeros(5))] for _ in range(2))
        ours[0].grad, theirs[0].grad = sparse.clone(), sparse.to_dense()
        ours[1].grad, theirs[1].grad = other.clone(), other.clone()
        Clipping(max_norm, norm_type, max_abs_value)([*ours, nn.Parameter(torch.zeros(1))])
        if max_norm is not None:
            nn.utils.clip_grad_norm_(theirs, max_norm, norm_type or 2.0)
        if max_abs_value is not None:
            nn.utils.clip_grad_value_(theirs, max_abs_value)
        for x, y in zip(ours, theirs, strict=True):
            assert x.grad is not None
            assert y.grad is not None
            torch.testing.assert_close(x.grad.to_dense(), y.grad)


# ------------------------------------------------------------------------------------------------------- constraints


class Counting:
    """A constrainer which notes of how many rows."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return nn.functional.normalize(x, dim=-1)


def unconstrained(folder: Path) -> Path:
    """A file with weights which break the constraint."""
    model = make_loop().model
    model.load_state_dict({key: 3 * value + 1 for key, value in model.state_dict().items()})
    torch.save(model.state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_all_rows_are_constrained(optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first step those which no batch ever has, too, part by part; later, only the rows of the batch are."""
    monkeypatch.setattr(rows, "CONSTRAINED_AT_ONCE", NUM_ENTITIES - 7)
    constrainer, watch = Counting(), Watch()
    loop = make_loop(optimizer=optimizer, loop_kwargs={"warm_start": unconstrained(tmp_path)})
    loop.model.entity_representations[0].constrainer = constrainer

    class Forget(TrainingCallback):
        """What was constrained before training."""

        def post_batch(self, **kwargs: Any) -> None:
            if not watch.entities:
                constrainer.sizes.clear()

    train(loop, callbacks=[Forget(), watch])
    assert watch.normed == [False] + [True] * 5
    assert is_normed(entities_of(loop))
    first, second, *others = constrainer.sizes
    assert (first, second) == (NUM_ENTITIES - 7, 7)
    states = [*watch.entities[1:], entities_of(loop)]
    changed = [int((x != y).any(dim=-1).sum()) for x, y in itertools.pairwise(states)]
    assert len(others) == len(changed) == 5
    for number, size in zip(changed, others, strict=True):
        # two entities of each positive, and five shared ones
        assert 0 < number <= size <= 2 * BATCH_SIZE + 5


def test_model_is_pickled_during_training(tmp_path: Path) -> None:
    """With the constrainer of the host, and not with one which belongs to the loop."""
    loop = make_loop()
    constrainer = loop.model.entity_representations[0].constrainer

    class Save(TrainingCallback):
        def post_epoch(self, **kwargs: Any) -> None:
            assert self.model.entity_representations[0].constrainer is not constrainer
            torch.save(self.model, tmp_path / "model.pt")

    train(loop, callbacks=Save())
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert loaded.entity_representations[0].constrainer is constrainer
    assert same(loaded.state_dict(), loop.model.state_dict())


def test_second_training_constrains_all_rows_again(tmp_path: Path) -> None:
    """Its weights are those of the file once more."""
    loop = make_loop(loop_kwargs={"warm_start": unconstrained(tmp_path)})
    for _ in range(2):
        watch = Watch()
        train(loop, callbacks=[watch])
        assert watch.normed == [False] + [True] * 5


# ------------------------------------------------------------------------------------------------------------- flags


class Interrupt(TrainingCallback):
    def post_batch(self, **kwargs: Any) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("fails", [False, True])
def test_all_is_restored(fails: bool) -> None:
    loop = make_loop("transe")
    before = [(table._embeddings.sparse, table.constrainer) for table in tables(loop.model)]
    watch = Watch()
    if fails:
        with pytest.raises(KeyboardInterrupt):
            train(loop, callbacks=[watch, Interrupt()])
    else:
        train(loop, callbacks=[watch])
    assert watch.sparse[0] == [True, False]
    assert all(
        now is then
        for table, old in zip(tables(loop.model), before, strict=True)
        for now, then in zip((table._embeddings.sparse, table.constrainer), old, strict=True)
    )


def test_sparse_tables_stay_sparse() -> None:
    """Those which the user made so; their constrainer is left alone."""
    loop, watch = make_loop(), Watch()
    entities = loop.model.entity_representations[0]
    entities._embeddings.sparse, entities.constrainer = True, Counting()
    train(loop, callbacks=[watch])
    assert watch.sparse[-1] == [True, False]
    assert entities._embeddings.sparse
    assert set(entities.constrainer.sizes) == {NUM_ENTITIES}
    assert watch.normed == [True] * 6


@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "sgd"])
def test_other_optimizers(optimizer: str) -> None:
    loop, watch = make_loop(optimizer=optimizer), Watch()
    train(loop, callbacks=[watch])
    assert watch.sparse == [[False, False]] * 6
    assert watch.normed == [True] * 6


def test_small_tables_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is the number of rows up to which a gradient is dense."""
    for many, is_sparse in ((NUM_ENTITIES, False), (NUM_ENTITIES - 1, True)):
        monkeypatch.setattr(rows, "MANY_ROWS", many)
        loop, watch = make_loop(), Watch()
        train(loop, num_epochs=1, callbacks=[watch])
        assert {flags[0] for flags in watch.sparse} == {is_sparse}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stock_loop(optimizer: str) -> None:
    """PyKEEN's own loop trains with dense gradients, in which most rows are zero, and leaves these rows as they are."""
    loop, watch = make_loop("complex", optimizer=optimizer, cls=SLCWATrainingLoop, sampler="basic"), Watch()
    losses = train(loop, num_epochs=4, callbacks=[watch], pin_memory=False)
    assert losses[-1] < losses[0]
    assert watch.sparse == [[False, False]] * 12
    changed = (watch.entities[0] != watch.entities[1]).any(dim=-1)
    # at most two entities of each positive, and five negatives
    assert 0 < int(changed.sum()) <= BATCH_SIZE * 7 < NUM_ENTITIES


# ------------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["distmult", "complex"])
def test_resumed_run_equals_unbroken_run(name: str, optimizer: str, tmp_path: Path) -> None:
    unbroken = make_loop(name, optimizer)
    losses = train(unbroken, 4)
    checkpoint = {"checkpoint_directory": tmp_path, "checkpoint_name": "run.pt", "checkpoint_frequency": 0}
    train(make_loop(name, optimizer), 2, **checkpoint)
    resumed, watch = make_loop(name, optimizer), Watch()
    assert train(resumed, 4, seed=99, callbacks=[watch], **checkpoint) == losses
    assert watch.sparse == [[True, False]] * 6
    assert same(dict(resumed.model.state_dict()), dict(unbroken.model.state_dict()))
    assert resumed.optimizer is not None
    assert unbroken.optimizer is not None
    assert same(resumed.optimizer.state_dict()["state"], unbroken.optimizer.state_dict()["state"])


def test_continued_training() -> None:
    whole, twice = make_loop(), make_loop()
    losses = train(whole, 4)
    train(twice, 2)
    assert isinstance(twice.optimizer, RowOptimizer)
    assert twice.train(graph(), 4, continue_training=True, batch_size=BATCH_SIZE, use_tqdm=False) == losses
    assert same(dict(twice.model.state_dict()), dict(whole.model.state_dict()))


def test_pretraining() -> None:
    """The optimizer forgets its state between the phases, and constrains all rows once more."""
    constrainer = Counting()
    loop = make_loop(sampler="kbgan", loop_kwargs={"pretraining_epochs": 1})
    loop.model.entity_representations[0].constrainer = constrainer
    train(loop, 3)
    assert isinstance(loop.optimizer, RowOptimizer)
    assert loop.optimizer.num_steps(loop.model.entity_representations[0]._embeddings.weight) == 6
    # the last nine are those of the steps
    assert [size == NUM_ENTITIES for size in constrainer.sizes[-9:]] == [i in {0, 3} for i in range(9)]
    assert is_normed(entities_of(loop))


def test_sparse_adam_is_refused() -> None:
    """Small tables have dense gradients, which it does not take: it would fail in its first step."""
    loop = make_loop(optimizer="sparseadam")
    with pytest.raises(ConfigurationError, match="choose 'rowadam'"):
        train(loop)

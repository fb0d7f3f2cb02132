"""Positives and negatives looked up at once: scores, regularisation and gradients of PyKEEN's explicit triples."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.models import ERModel, model_resolver
from pykeen.nn.representation import Embedding
from pykeen.regularizers import LpRegularizer, NormLimitRegularizer, PowerSumRegularizer, Regularizer
from pykeen.typing import COLUMN_HEAD, COLUMN_TAIL
from torch import Tensor, nn

from pykeen_advneg.negatives import Negatives
from pykeen_advneg.queries.lookups import regularize
from pykeen_advneg.scoring import Scorer

TRIPLES = Nations().training
B, K = 12, 4

#: complex and real numbers; entities and relations, or relations only; several tables
MODELS: Mapping[str, Mapping[str, Any]] = {
    "complex": {"embedding_dim": 3},
    "distmult": {"embedding_dim": 5},
    "transe": {"embedding_dim": 5, "scoring_fct_norm": 2},
    "rotate": {"embedding_dim": 3},
    "simple": {"embedding_dim": 4},
    "transd": {"embedding_dim": 4, "relation_dim": 4},
}

Make = Callable[[], Regularizer]


def make_model(
    name: str, regularizer: Make | None = None, slots: str = "both", **kwargs: Any
) -> ERModel[Any, Any, Any]:
    """Make a model with random weights in double precision, with regularisers in some slots, if given."""
    kwargs = {**MODELS[name], "random_seed": 0, **kwargs}
    model = model_resolver.make(name, kwargs, triples_factory=TRIPLES)
    assert isinstance(model, ERModel)
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    if regularizer is not None:
        for representation in model.entity_representations:
            representation.regularizer = regularizer() if slots in {"both", "entities"} else None
        for representation in model.relation_representations:
            representation.regularizer = regularizer() if slots in {"both", "relations"} else None
    return model.double().train()


def make_negatives(sharing: str, columns: str = "one") -> Negatives:
    """Ids which each positive or each of equal chunks meets, none of them twice where they are not shared."""
    positives = TRIPLES.mapped_triples[:: TRIPLES.num_triples // B][:B]
    generator = torch.Generator().manual_seed(1)
    rows = {"unshared": B, "chunks": 3, "one": 1}[sharing]
    if sharing == "unshared":
        # 14 entities, each of them once among the candidates
        ids = torch.randperm(TRIPLES.num_entities, generator=generator)[:B].view(B, 1)
    else:
        ids = torch.randint(TRIPLES.num_entities, (rows, K), generator=generator)
    # as many of each side, so that a mean over both is that of one side a positive
    width = ids.shape[1] if columns == "each" else 1
    column = torch.tensor([COLUMN_HEAD, COLUMN_TAIL]).repeat(B * width)[: B * width].view(B, width)
    column = column[torch.randperm(B, generator=generator)]
    return Negatives(positives, ids, column, chunk_size=B // rows)


def explicit(model: ERModel[Any, Any, Any], negatives: Negatives) -> tuple[Tensor, Tensor]:
    """As PyKEEN's loop scores them."""
    positive = model.score_hrt(negatives.positives)
    return positive, model.score_hrt(negatives.triples.view(-1, 3)).view(negatives.shape)


def outcome(model: ERModel[Any, Any, Any], score: Callable[[], tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Scores, regularisation term, and the gradients of both."""
    scores = score()
    weights = [torch.linspace(-1, 2, x.numel()).double().view(x.shape) for x in scores]
    value = sum((x * w).sum() for x, w in zip(scores, weights, strict=True))
    term = torch.as_tensor(model.collect_regularization_term()).clone()
    assert isinstance(value, Tensor)
    results = [x.detach() for x in scores] + [term.detach()]
    for part in (value, term):
        if part.requires_grad:
            gradients = torch.autograd.grad(
                part, list(model.parameters()), allow_unused=True, materialize_grads=True, retain_graph=True
            )
            results.extend(gradients)
    return results


def check(model: ERModel[Any, Any, Any], negatives: Negatives) -> None:
    fast = outcome(model, lambda: Scorer(model).both(negatives))
    slow = outcome(model, lambda: explicit(model, negatives))
    assert float(slow[2]) > 0
    assert len(fast) == len(slow)
    for x, y in zip(fast, slow, strict=True):
        torch.testing.assert_close(x, y.view(x.shape), rtol=1e-7, atol=1e-9)


def lp(**kwargs: Any) -> Make:
    return lambda: LpRegularizer(weight=0.3, **kwargs)


REGULARIZERS: dict[str, Make] = {
    **{f"{p} {normalize}": lp(p=p, normalize=normalize) for p in (1.0, 2.0, 3.0) for normalize in (False, True)},
    "2 of all dimensions": lp(p=2.0, dim=None),
    "2 of the rows": lp(p=2.0, dim=0),
    "powersum": lambda: PowerSumRegularizer(weight=0.3, p=3.0, normalize=True),
}


@pytest.mark.parametrize("sharing", ["unshared", "chunks", "one"])
@pytest.mark.parametrize("name", ["complex", "distmult"])
def test_default_regularizers(name: str, sharing: str) -> None:
    """Those which PyKEEN gives the model: all slots, relations only."""
    check(make_model(name), make_negatives(sharing))


@pytest.mark.parametrize("sharing", ["unshared", "chunks", "one"])
@pytest.mark.parametrize("regularizer", [key for key in REGULARIZERS if not key.startswith("2 of")])
@pytest.mark.parametrize("name", ["complex", "distmult"])
def test_regularizers(name: str, regularizer: str, sharing: str) -> None:
    for slots in ("both", "entities", "relations"):
        check(make_model(name, REGULARIZERS[regularizer], slots), make_negatives(sharing))


@pytest.mark.parametrize("sharing", ["unshared", "chunks", "one"])
@pytest.mark.parametrize("name", ["complex", "distmult", "simple", "transe"])
def test_models(name: str, sharing: str) -> None:
    check(make_model(name, lp(p=2.0, normalize=True)), make_negatives(sharing))


@pytest.mark.parametrize("sharing", ["unshared", "chunks", "one"])
def test_rotate(sharing: str) -> None:
    """Whose gradients differ in PyKEEN from method to method, cf. test_scoring.py."""
    model, negatives = make_model("rotate", lp(p=2.0, normalize=True)), make_negatives(sharing)
    unit = model.relation_representations[0]._embeddings.weight.data.view(-1, 2)
    unit.copy_(nn.functional.normalize(unit, dim=-1))
    fast = outcome(model, lambda: Scorer(model).both(negatives))
    slow = outcome(model, lambda: explicit(model, negatives))
    for x, y in zip(fast[:3], slow[:3], strict=True):
        torch.testing.assert_close(x, y.view(x.shape))


@pytest.mark.xfail(strict=True, reason="heads and tails are two parts, each of which regularizes what it looks up")
@pytest.mark.parametrize("sharing", ["unshared", "chunks", "one"])
def test_interaction_without_a_form(sharing: str) -> None:
    check(make_model("transd", lp(p=2.0, normalize=True)), make_negatives(sharing))


@pytest.mark.parametrize("sharing", ["unshared", "chunks", "one"])
def test_interaction_without_a_form_on_one_side(sharing: str) -> None:
    negatives = make_negatives(sharing)
    tails = torch.full_like(negatives.column, COLUMN_TAIL)
    check(make_model("transd", lp(p=2.0, normalize=True)), dataclasses.replace(negatives, column=tails))


@pytest.mark.parametrize("name", ["complex", "distmult"])
def test_a_side_for_each_negative(name: str) -> None:
    """Of as many heads as tails, all of both slots are kept equally often where each has its share of the negatives."""
    negatives = make_negatives("one", columns="each")
    assert negatives.column.shape == (B, K)
    assert bool(((negatives.column == COLUMN_HEAD).sum(dim=1) == K // 2).all())
    model = make_model(name, lp(p=2.0), "relations")
    check(model, negatives)
    check(make_model(name, lp(p=2.0), "entities"), negatives)


@pytest.mark.parametrize("column", [COLUMN_HEAD, COLUMN_TAIL])
def test_one_side(column: int) -> None:
    for name, sharing in itertools.product(("complex", "distmult"), ("unshared", "chunks", "one")):
        negatives = make_negatives(sharing)
        one_sided = dataclasses.replace(negatives, column=torch.full_like(negatives.column, column))
        check(make_model(name, lp(p=2.0)), one_sided)


def test_each_table_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it has one gradient."""
    asked: list[int] = []
    plain_forward = Embedding._plain_forward

    def counted(self: Embedding, indices: Tensor | None = None) -> Tensor:
        asked.append(self.max_id)
        return plain_forward(self, indices)

    monkeypatch.setattr(Embedding, "_plain_forward", counted)
    for name, number in (("complex", 1), ("simple", 2)):
        model = make_model(name, lp(p=2.0))
        asked.clear()
        Scorer(model).both(make_negatives("chunks"))
        model.collect_regularization_term()
        assert asked.count(TRIPLES.num_entities) == number
        assert asked.count(TRIPLES.num_relations) == number


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("has_grad", [False, True])
def test_regularizers_at_rest(is_training: bool, has_grad: bool) -> None:
    """In evaluation mode, or without gradients, they notice nothing."""
    model = make_model("complex").train(is_training)
    with torch.set_grad_enabled(has_grad):
        Scorer(model).both(make_negatives("one"))
    term = float(model.collect_regularization_term())
    assert (term > 0) is (is_training and has_grad)


@pytest.mark.parametrize("shape", [(7, 3), (7, 2, 3)])
@pytest.mark.parametrize("key", [*REGULARIZERS, "once", "limit"])
def test_regularize(key: str, shape: tuple[int, ...]) -> None:
    """The short cut for complex numbers adds what the regulariser itself adds, step by step."""
    others: dict[str, Make] = {
        "once": lp(p=2.0, apply_only_once=True),
        "limit": lambda: NormLimitRegularizer(weight=0.3, p=2.0, max_norm=0.5, power_norm=False),
    }
    ours, theirs = ({**REGULARIZERS, **others}[key]().double() for _ in range(2))
    for dtype in (torch.complex128, torch.float64):
        for n in (7, 3):
            x = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(n))[:n].requires_grad_()
            representation = Embedding(max_id=2, shape=(2,), regularizer=ours)
            regularize(representation, x)
            theirs.update(x)
            torch.testing.assert_close(ours.regularization_term, theirs.regularization_term)
            gradients = [
                torch.autograd.grad(r.regularization_term.sum(), x, allow_unused=True, materialize_grads=True)[0]
                for r in (ours, theirs)
            ]
            torch.testing.assert_close(*gradients)
    torch.testing.assert_close(ours.pop_regularization_term(), theirs.pop_regularization_term())
    assert float(ours.regularization_term) == 0

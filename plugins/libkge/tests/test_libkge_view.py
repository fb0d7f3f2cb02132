"""A model of LibKGE seen as one of PyKEEN, reciprocal relations and losses; without LibKGE."""

from __future__ import annotations

import copy
from typing import Any

import libkge_standins as standins
import pytest
import torch
from libkge_cases import (
    ENTITIES,
    RELATIONS,
    negatives,
    triples,
)

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.scoring import Scorer
from pykeen_advneg_libkge.checks import check_scores
from pykeen_advneg_libkge.losses import EXCLUDED, HostLoss
from pykeen_advneg_libkge.reciprocal import ReciprocalScorer, directed
from pykeen_advneg_libkge.view import make_view

MODELS = [("transe", 1.0), ("transe", 2.0), ("transe", 3.0), ("distmult", 2.0), ("complex", 2.0), ("rotate", 1.0)]
MODELS += [("rotate", 2.0), ("other", 2.0)]


# the view


@pytest.mark.parametrize(("name", "norm"), MODELS)
def test_scores_of_the_view(name: str, norm: float) -> None:
    """Scores and gradients of negatives are those of the model, asked triple by triple."""
    torch.manual_seed(0)
    model = standins.Model(name, ENTITIES, RELATIONS, norm=norm)
    before = copy.deepcopy(model.state_dict())
    scorer = Scorer(make_view(model, ENTITIES, RELATIONS))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), "to look at a model does not initialise it"
    drawn = negatives(triples(), one_sided=False)
    positives, scores = scorer.both(drawn)
    s, p, o = drawn.triples.view(-1, 3).unbind(-1)
    expected = model.score_spo(s, p, o, direction="o").view(scores.shape)
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(positives.flatten(), model.score_spo(*drawn.positives.unbind(-1)), atol=1e-4, rtol=1e-4)
    parameters = list(model.parameters())
    weights = torch.randn_like(scores)
    found, wanted = (torch.autograd.grad((x * weights).sum(), parameters) for x in (scores, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_known_scorers_have_forms() -> None:
    forms = {
        (name, norm): Scorer(make_view(standins.Model(name, ENTITIES, RELATIONS, norm=norm), ENTITIES, RELATIONS)).form
        for name, norm in MODELS
    }
    products = {(name, norm): "product" for name, norm in MODELS if name in {"distmult", "complex"}}
    distances = dict.fromkeys([("transe", 1.0), ("transe", 2.0), ("rotate", 2.0)], "distance")
    others = dict.fromkeys([("transe", 3.0), ("rotate", 1.0), ("other", 2.0)], "broadcast")
    assert forms == {**products, **distances, **others}


def test_dropout_falls_in_training_only() -> None:
    model = standins.Model("distmult", ENTITIES, RELATIONS, dropout=0.5)
    scorer = Scorer(make_view(model, ENTITIES, RELATIONS))
    assert not torch.equal(scorer.positives(triples()), scorer.positives(triples()))
    model.eval()
    assert torch.equal(scorer.positives(triples()), scorer.positives(triples()))


class Doubled(torch.nn.Module):
    """The scorer of a model, whose scores are a little larger."""

    def __init__(self, scorer: Any) -> None:
        super().__init__()
        self.scorer = scorer

    def score_emb(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.scorer.score_emb(*args, **kwargs) * 1.01


@pytest.mark.parametrize("kind", [standins.Model, standins.Reciprocal])
@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 100.0])
def test_scores_of_any_size_are_compared(kind: Any, scale: float) -> None:
    """One part in a hundred is seen, whether scores are as small as those of new embeddings, or large."""
    torch.manual_seed(0)
    model = kind("distmult", ENTITIES, RELATIONS)
    for parameter in model.parameters():
        parameter.data *= scale
    count = RELATIONS * (1 + (kind is standins.Reciprocal))
    view = make_view(model, ENTITIES, count)
    check_scores(model, view, triples(), RELATIONS)
    model._the_scorer = Doubled(model._the_scorer)
    with pytest.raises(ConfigurationError, match="does not score"):
        check_scores(model, view, triples(), RELATIONS)
    assert model.training


def test_both_directions_are_compared() -> None:
    model = standins.Reciprocal("other", ENTITIES, RELATIONS)
    view = make_view(model, ENTITIES, 2 * RELATIONS)
    check_scores(model, view, triples(), RELATIONS)
    # the inverse relations of the model are not those of the view
    model.num = 0
    with pytest.raises(ConfigurationError, match="does not score"):
        check_scores(model, view, triples(), RELATIONS)


def test_models_which_compute_otherwise_are_refused() -> None:
    class Odd(standins.Model):
        def score_spo(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return super().score_spo(*args, **kwargs)

        def get_o_embedder(self) -> torch.nn.Module:
            return self._objects

    odd = Odd("distmult", ENTITIES, RELATIONS)
    odd._objects = odd._entities
    view = make_view(odd, ENTITIES, RELATIONS)
    with pytest.raises(ConfigurationError, match=r"Odd scores triples in a way of its own.*reciprocal"):
        check_scores(odd, view, triples(), RELATIONS)
    odd._objects = standins.Embedder(ENTITIES, 8)
    with pytest.raises(ConfigurationError, match="different embedders"):
        make_view(odd, ENTITIES, RELATIONS)


# reciprocal relations


def test_reciprocal_scores() -> None:
    model = standins.Reciprocal("distmult", ENTITIES, RELATIONS)
    scorer = ReciprocalScorer(make_view(model, ENTITIES, 2 * RELATIONS), RELATIONS)
    drawn = negatives(triples())
    positives, scores = scorer.both(drawn)
    torch.testing.assert_close(scorer.negatives(drawn), scores)
    for i, (side, positive) in enumerate(zip(drawn.column.flatten().tolist(), drawn.positives, strict=True)):
        direction = "s" if side == 0 else "o"
        expected = model.score_spo(*positive.view(1, 3).unbind(-1), direction=direction)
        torch.testing.assert_close(positives[i], expected)
        torch.testing.assert_close(scores[i], model.score_spo(*drawn.triples[i].unbind(-1), direction=direction))
    heads = scorer.candidates(drawn.positives, 0)
    h = torch.full((len(drawn),), 3)
    torch.testing.assert_close(heads[:, 3], model.score_spo(h, *drawn.positives[:, 1:].unbind(-1), direction="s"))
    for ask in (lambda: scorer.with_slots(drawn), lambda: scorer.replaced([], 0, torch.zeros(1, 1, 8))):
        with pytest.raises(ConfigurationError, match="scores representations"):
            ask()


def test_reciprocal_refuses_both_sides() -> None:
    with pytest.raises(ConfigurationError, match="both sides"):
        directed(negatives(triples(), one_sided=False), RELATIONS)
    drawn = negatives(triples())
    relations = Negatives(drawn.positives, drawn.ids % RELATIONS, torch.ones_like(drawn.column))
    with pytest.raises(ConfigurationError, match="corrupts relations"):
        directed(relations, RELATIONS)


# losses


@pytest.mark.parametrize("name", sorted(standins.LOSSES))
def test_losses(name: str) -> None:
    """Masked negatives add nothing, neither to the loss nor to its gradient: rows are computed without them."""
    torch.manual_seed(1)
    drawn = negatives(triples(8))
    mask = torch.rand(8, 6) > 0.4
    mask[0] = False
    leaves = torch.randn(8, 1, requires_grad=True), torch.randn(8, 8, requires_grad=True)
    drawn = Negatives(drawn.positives, drawn.ids, drawn.column, mask)
    # two more scores than ids: those of generated negatives always count
    loss = HostLoss(standins.LOSSES[name], name)(Scores(*leaves), drawn)
    keep = torch.cat([mask, torch.ones(8, 2, dtype=torch.bool)], dim=1)
    expected = torch.zeros(())
    for i in range(8):
        row = torch.cat([leaves[0][i], leaves[1][i][keep[i]]]).unsqueeze(0)
        labels = torch.zeros(1, dtype=torch.long)
        if name != "kl":
            labels = torch.zeros_like(row)
            labels[0, 0] = 1
        expected = expected + standins.LOSSES[name](row, labels, num_negatives=row.shape[1] - 1) / 8
    torch.testing.assert_close(loss, expected)
    for one, other in zip(*(torch.autograd.grad(x, leaves) for x in (loss, expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_losses_which_cannot_leave_out() -> None:
    drawn = negatives(triples(4))
    scores = Scores(torch.zeros(4, 1), torch.zeros(4, 6))
    masked = Negatives(drawn.positives, drawn.ids, drawn.column, torch.ones(4, 6, dtype=torch.bool))
    assert "bce_mean" not in EXCLUDED
    with pytest.raises(ConfigurationError, match=r"train.loss='bce_mean'.*do not count"):
        HostLoss(standins.bce, "bce_mean")(scores, masked)
    corrected = Negatives(drawn.positives, drawn.ids, drawn.column, log_q=torch.ones(4, 6))
    with pytest.raises(ConfigurationError, match="log_q_correction"):
        HostLoss(standins.bce, "bce")(scores, corrected)
    torch.testing.assert_close(HostLoss(standins.kl, "kl")(scores, corrected), (1 + 6 * torch.tensor(-1.0).exp()).log())


@pytest.mark.parametrize(("name", "norm"), [("other", 2.0), ("rotate", 1.0)])
def test_shared_candidates_of_any_scorer(name: str, norm: float) -> None:
    """What a chunk shares is scored by the scorer's own product of queries and candidates, with the same gradient."""
    torch.manual_seed(0)
    model = standins.Model(name, ENTITIES, RELATIONS, norm=norm)
    scorer, kge = Scorer(make_view(model, ENTITIES, RELATIONS)), model.get_scorer()
    positives = triples(12)
    drawn = Negatives(positives, torch.randint(ENTITIES, (3, 5)), 2 * torch.randint(2, (12, 1)), chunk_size=4)
    expected = model.score_spo(*drawn.triples.view(-1, 3).unbind(-1)).view(drawn.shape)
    kge.calls.clear()
    scores = scorer.negatives(drawn)
    assert set(kge.calls) <= {"sp_", "_po"}
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
    weights = torch.randn_like(scores)
    found, wanted = (torch.autograd.grad((x * weights).sum(), list(model.parameters())) for x in (scores, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)

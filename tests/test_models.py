"""KBGAN's TransD, its initialisers and its constraint."""

from __future__ import annotations

import math

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.losses import MarginRankingLoss
from pykeen.models import TransE, model_resolver
from pykeen.nn.init import initializer_resolver
from pykeen.nn.modules import TransDInteraction, interaction_resolver
from pykeen.nn.representation import Embedding, constrainer_resolver
from pykeen.triples import KGInfo
from pykeen.utils import project_entity
from scipy.stats import kstest

import pykeen_advneg  # noqa: F401  # registers
from pykeen_advneg.initializers import ball_normal_, factor_normal_, range_uniform_, unit_ball
from pykeen_advneg.models import KBGANTransD, UnclampedTransDInteraction
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.scoring import Scorer


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pairs(*shape: int, scale: float = 1.0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Random representations of head, relation and tail."""
    return [(scale * torch.randn(*shape), scale * torch.randn(*shape)) for _ in range(3)]


def make_model(**kwargs: object) -> KBGANTransD:
    return KBGANTransD(triples_factory=KGInfo(40, 5, create_inverse_triples=False), random_seed=0, **kwargs)


def test_score_by_hand() -> None:
    """With h_p^T h = 2 and t_p^T t = -1: h' = (1, 2) + 2 (1, -1) = (3, 0), t' = (3, 1) - (1, -1) = (2, 2)."""
    h = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])
    r = torch.tensor([0.5, 1.0]), torch.tensor([1.0, -1.0])
    t = torch.tensor([3.0, 1.0]), torch.tensor([0.0, -1.0])
    # h' + r - t' = (1.5, -1)
    assert UnclampedTransDInteraction()(h, r, t).item() == -2.5
    assert UnclampedTransDInteraction(p=2)(h, r, t).item() == pytest.approx(-math.sqrt(3.25))
    assert UnclampedTransDInteraction(p=2, power_norm=True)(h, r, t).item() == pytest.approx(-3.25)
    # PyKEEN's scales (3, 0) to (1, 0) and (2, 2) to (1, 1) / sqrt(2)
    root = math.sqrt(0.5)
    assert TransDInteraction(p=1, power_norm=False)(h, r, t).item() == pytest.approx(-(1.5 - root) - (1 - root))


@pytest.mark.parametrize(("p", "power_norm"), [(1, False), (2, False), (2, True)])
def test_as_pykeen_where_no_clamp_is_active(p: int, power_norm: bool) -> None:
    h, r, t = pairs(64, 7, scale=0.1)
    for e, e_p in (h, t):
        # the clamp of PyKEEN would show in its own projection
        expected = e + (e * e_p).sum(dim=-1, keepdim=True) * r[1]
        assert expected.norm(dim=-1).max() < 1
        assert torch.allclose(project_entity(e, e_p, r[1]), expected)
    ours = UnclampedTransDInteraction(p=p, power_norm=power_norm)(h, r, t)
    assert torch.allclose(ours, TransDInteraction(p=p, power_norm=power_norm)(h, r, t), atol=1e-6)


def test_differs_from_pykeen_for_long_vectors() -> None:
    h, r, t = pairs(64, 7)
    ours, theirs = UnclampedTransDInteraction()(h, r, t), TransDInteraction(p=1, power_norm=False)(h, r, t)
    assert not torch.isclose(ours, theirs).any()


def test_inputs_are_left_alone() -> None:
    slots = pairs(8, 3)
    copies = [[x.clone() for x in pair] for pair in slots]
    UnclampedTransDInteraction()(*slots)
    assert all(
        torch.equal(x, y) for pair, copy in zip(slots, copies, strict=True) for x, y in zip(pair, copy, strict=True)
    )


def test_without_projections_it_is_transe() -> None:
    """A projection vector of zeros leaves each entity where it is."""
    model = make_model(embedding_dim=6)
    with torch.no_grad():
        model.relation_representations[1]._embeddings.weight.zero_()
    transe = TransE(triples_factory=KGInfo(40, 5, create_inverse_triples=False), embedding_dim=6, random_seed=1)
    for mine, theirs in (
        (model.entity_representations, transe.entity_representations),
        (model.relation_representations, transe.relation_representations),
    ):
        theirs[0].load_state_dict(mine[0].state_dict())
    triples = torch.randint(5, (16, 3))
    assert torch.allclose(model.score_hrt(triples), transe.score_hrt(triples), atol=1e-6)


@pytest.mark.parametrize("name", ["score_h", "score_t"])
def test_one_against_all(name: str) -> None:
    """What evaluation computes is what training computes."""
    model = make_model(embedding_dim=6).eval()
    triples = torch.randint(5, (9, 3))
    columns = [1, 2] if name == "score_h" else [0, 1]
    scores = getattr(model, name)(triples[:, columns])
    column = 0 if name == "score_h" else 2
    expected = torch.cat([model.score_hrt(replaced(triples, column, entity)) for entity in range(40)], dim=1)
    assert torch.allclose(scores, expected, atol=1e-5)


def replaced(triples: torch.Tensor, column: int, entity: int) -> torch.Tensor:
    triples = triples.clone()
    triples[:, column] = entity
    return triples


def test_scorer() -> None:
    """The scores which the loop computes are those of the model."""
    model = make_model(embedding_dim=6)
    positives, ids = torch.randint(5, (9, 3)), torch.randint(40, (9, 4))
    negatives = Negatives(positives, ids, column=torch.randint(2, (9, 1)) * 2)
    expected = model.score_hrt(negatives.triples.view(-1, 3)).view(9, 4)
    assert torch.allclose(Scorer(model).negatives(negatives), expected, atol=1e-5)


def tables(model: KBGANTransD) -> list[torch.Tensor]:
    return [x() for x in (*model.entity_representations, *model.relation_representations)]


def test_all_four_tables_start_in_the_ball() -> None:
    model = make_model()
    assert [tuple(x.shape) for x in tables(model)] == [(40, 50), (40, 50), (5, 50), (5, 50)]
    for x in tables(model):
        # the norm of 50 normal deviates exceeds 1 with near certainty
        assert torch.allclose(x.norm(dim=-1), torch.ones(len(x)), atol=1e-5)
    first, second, *_ = tables(model)
    assert not torch.allclose(first, second)


def test_all_four_tables_stay_in_the_ball() -> None:
    model = make_model(embedding_dim=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.score_hrt(torch.randint(5, (64, 3))).sum().neg().backward()
    optimizer.step()
    assert all(x.norm(dim=-1).max() > 1 + 1e-3 for x in tables(model))
    inside = [x.norm(dim=-1) < 1 for x in tables(model)]
    before = [x.detach().clone() for x in tables(model)]
    model.post_parameter_update()
    for x, old, short in zip(tables(model), before, inside, strict=True):
        assert x.norm(dim=-1).max() <= 1 + 1e-6
        assert torch.equal(x[short], old[short])


def test_default_loss_is_the_paper_s() -> None:
    loss = make_model().loss
    assert isinstance(loss, MarginRankingLoss)
    assert (loss.margin, loss.reduction) == (3.0, "sum")


def test_unit_ball_by_hand() -> None:
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    assert torch.allclose(unit_ball(x), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def test_ball_normal_() -> None:
    """Directions of N(1/sqrt(d), 1): for d = 50, the mean coordinate is 1/sqrt(50) over a norm of about sqrt(51)."""
    x = torch.zeros(20_000, 50)
    assert ball_normal_(x) is x
    assert torch.allclose(x.norm(dim=-1), torch.ones(len(x)), atol=1e-5)
    assert x.mean().item() == pytest.approx(1 / math.sqrt(50 * 51), rel=0.05)


@pytest.mark.parametrize(("shape", "std"), [((40_000, 50), 0.3047), ((40_000, 25, 2), 0.3420)])
def test_factor_normal_(shape: tuple[int, ...], std: float) -> None:
    """The standard deviations which the authors' code draws with."""
    x = torch.zeros(shape)
    assert factor_normal_(x) is x
    assert x.std().item() == pytest.approx(std, rel=0.01)
    assert x.mean().item() == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize("shape", [(5_000, 100), (5_000, 50, 2)])
def test_range_uniform(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.empty(shape)
    assert range_uniform_(x) is x
    bound = 26 / shape[1]
    assert kstest(x.flatten()[:10_000], "uniform", (-bound, 2 * bound)).pvalue > 1e-3
    assert float(range_uniform_(x, scale=1.0).abs().max()) == pytest.approx(1 / shape[1], rel=1e-3)


def test_factor_normal_keeps_the_score_small() -> None:
    """The sum of products of three such factors has the scale that was asked for."""
    h, r, t = (factor_normal_(torch.zeros(20_000, 30), sigma=0.5) for _ in range(3))
    assert (h * r * t).sum(dim=-1).std().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("name", ["distmult", "complex"])
def test_factor_normal_in_models(name: str) -> None:
    """PyKEEN hands over the parts of complex numbers such that each has this standard deviation."""
    model = model_resolver.make(
        name,
        embedding_dim=25,
        entity_initializer="factor_normal_",
        triples_factory=KGInfo(20_000, 5, create_inverse_triples=False),
        random_seed=0,
        **({"entity_constrainer": None} if name == "distmult" else {}),
    )
    weight = model.entity_representations[0]._embeddings.weight
    assert weight.std().item() == pytest.approx(0.3420, rel=0.02)


def test_by_name() -> None:
    assert model_resolver.lookup("kbgan-transd") is KBGANTransD
    assert interaction_resolver.lookup("UnclampedTransD") is UnclampedTransDInteraction
    assert initializer_resolver.lookup("ball_normal_") is ball_normal_
    assert initializer_resolver.lookup("factor_normal_") is factor_normal_
    assert initializer_resolver.lookup("range_uniform_") is range_uniform_
    assert constrainer_resolver.lookup("unit_ball") is unit_ball
    embedding = Embedding(max_id=3, shape=4, initializer="ball_normal_", constrainer="unit_ball")
    embedding.reset_parameters()
    assert embedding().norm(dim=-1).max() <= 1 + 1e-6


def test_scale_of_scores_on_a_data_set() -> None:
    """Scores are negative distances of vectors: finite, and not above zero."""
    model = KBGANTransD(triples_factory=Nations().training, random_seed=0)
    scores = model.score_hrt(Nations().training.mapped_triples)
    assert torch.isfinite(scores).all()
    assert scores.max() <= 0

"""The sampler ``shared``: its distribution, its masks, and that sharing changes no expectation."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.losses import CrossEntropyLoss, SoftplusLoss
from pykeen.training import SLCWATrainingLoop, TrainingCallback
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import COLUMN_HEAD, COLUMN_TAIL
from pykeen.utils import set_random_seed
from scipy.stats import binomtest, chisquare
from torch import Tensor

from pykeen_advneg.errors import ConfigurationError, ModelRequiredError
from pykeen_advneg.filtering import ExactFilterer
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.sampling.shared import SharedNegativeSampler
from pykeen_advneg.sampling.sides import head_probability
from pykeen_advneg.scoring import Scorer
from pykeen_advneg.testing.graphs import DENSE_GRAPH, GRAPH, graphs, make_model, random_graph
from pykeen_advneg.training import AdversarialTrainingLoop, parts
from pykeen_advneg.training.losses import slcwa_loss
from pykeen_advneg.training.parts import score, whole_chunks

#: below it, a distribution is taken for another one; seeds are fixed
ALPHA = 1e-3


def make(graph: CoreTriplesFactory = GRAPH, seed: int = 0, **kwargs: Any) -> SharedNegativeSampler:
    torch.manual_seed(seed)
    return SharedNegativeSampler(
        mapped_triples=graph.mapped_triples,
        num_entities=graph.num_entities,
        num_relations=graph.num_relations,
        **{"num_negs_per_pos": 6, **kwargs},
    )


def skewed_graph() -> CoreTriplesFactory:
    """The degrees of 20 entities differ by far, and one has none."""
    generator = torch.Generator().manual_seed(0)
    heads, tails = ((torch.rand(400, generator=generator) ** power * 19).long() for power in (4, 2))
    triples = torch.stack([heads, torch.arange(400) % 2, tails], dim=1).unique(dim=0)
    return CoreTriplesFactory.create(triples, num_entities=20, num_relations=2)


SKEWED = skewed_graph()


def degrees(triples: Tensor, num_entities: int) -> Tensor:
    return torch.tensor([sum(int(i in (h, t)) + int(h == t == i) for h, _, t in triples.tolist())
                         for i in range(num_entities)])  # fmt: skip


def check_counts(ids: Tensor, weights: Tensor) -> None:
    """Independent draws have frequencies in proportion to the weights."""
    counts = torch.bincount(ids.flatten(), minlength=len(weights))
    possible = weights > 0
    assert not bool(counts[~possible].any())
    expected = (weights.double() / weights.sum() * ids.numel())[possible]
    assert bool((expected > 5).all()), "too few draws for the test"
    assert chisquare(counts[possible].numpy(), expected.numpy()).pvalue > ALPHA


# ------------------------------------------------------------------------------------------------------ distribution


@pytest.mark.parametrize("chunk_size", [None, 1, 16, 10_000])
def test_uniform(chunk_size: int | None) -> None:
    sampler = make(SKEWED, num_negs_per_pos=5000, chunk_size=chunk_size)
    check_counts(sampler.propose(SKEWED.mapped_triples[:40]).ids, torch.ones(20))


@pytest.mark.parametrize("side", ["uniform", "head"])
def test_in_batch(side: str) -> None:
    """In proportion to how often an entity stands in the batch, whichever side is corrupted."""
    sampler = make(SKEWED, num_negs_per_pos=20_000, chunk_size=16, in_batch_share=1.0, side=side)
    for positives in (SKEWED.mapped_triples, SKEWED.mapped_triples[10:43]):
        check_counts(sampler.propose(positives).ids, degrees(positives, 20))


def test_mixed() -> None:
    """The share of each kind is not left to chance."""
    sampler = make(SKEWED, num_negs_per_pos=40_000, in_batch_share=0.3)
    ids = sampler.propose(SKEWED.mapped_triples).ids
    check_counts(ids[:, :12_000], degrees(SKEWED.mapped_triples, 20))
    check_counts(ids[:, 12_000:], torch.ones(20))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_expected_frequencies(share: float) -> None:
    """The logarithms are those of the expected numbers of each entity in a row, whose sum is the number of draws."""
    sampler = make(SKEWED, num_negs_per_pos=50, in_batch_share=share, log_q_correction=True)
    k, total = round(50 * share), 2 * SKEWED.num_triples
    expected = k * degrees(SKEWED.mapped_triples, 20) / total + (50 - k) / 20
    drawn = expected > 0
    torch.testing.assert_close(sampler.log_frequency.exp()[drawn], expected[drawn])
    assert float(expected.sum()) == pytest.approx(50)
    negatives = sampler.propose(SKEWED.mapped_triples[:7])
    assert negatives.log_q is not None
    assert torch.equal(negatives.log_q, sampler.log_frequency[negatives.ids])
    assert make(SKEWED).propose(SKEWED.mapped_triples).log_q is None


def test_chunks_draw_by_themselves() -> None:
    """Each chunk, and each batch, has draws of its own; the positives of a chunk have the same."""
    graph = random_graph(1000, 1, 50)
    sampler = make(graph, chunk_size=20, num_negs_per_pos=40)
    first, second = (sampler.propose(graph.mapped_triples) for _ in range(2))
    assert first.ids.shape == (3, 40)
    assert first.chunk_size == 20
    rows = [set(row) for row in (*first.ids.tolist(), *second.ids.tolist())]
    assert all(len(x & y) < 10 for i, x in enumerate(rows) for y in rows[:i])


def test_uniform_sides() -> None:
    sampler = make(num_negs_per_pos=1)
    column = torch.cat([sampler.propose(GRAPH.mapped_triples).column for _ in range(40)])
    assert set(column.unique().tolist()) == {COLUMN_HEAD, COLUMN_TAIL}
    assert binomtest(int((column == COLUMN_HEAD).sum()), len(column)).pvalue > ALPHA


@pytest.mark.parametrize(("side", "column"), [("head", COLUMN_HEAD), ("tail", COLUMN_TAIL)])
def test_one_side(side: str, column: int) -> None:
    negatives = make(side=side).propose(GRAPH.mapped_triples)
    assert bool((negatives.column == column).all())
    other = COLUMN_TAIL - column
    assert torch.equal(negatives.triples[..., other], GRAPH.mapped_triples[:, None, other].expand(-1, 6))


def test_bernoulli_sides() -> None:
    """By the relation of each positive, within one chunk."""
    triples = torch.tensor([[0, 0, t] for t in range(1, 10)] + [[h, 1, 0] for h in range(1, 7)] + [[1, 1, 2]])
    graph = CoreTriplesFactory.create(triples, num_entities=10, num_relations=2)
    probability = head_probability("bernoulli", triples, 2)
    assert probability.tolist() == pytest.approx([9 / 10, 2 / 8])
    sampler = make(graph, side="bernoulli", num_negs_per_pos=1, chunk_size=None)
    column = torch.stack([sampler.propose(triples).column.squeeze(1) for _ in range(300)])
    for relation in (0, 1):
        own = column[:, triples[:, 1] == relation]
        heads = int((own == COLUMN_HEAD).sum())
        assert binomtest(heads, own.numel(), float(probability[relation])).pvalue > ALPHA


# ------------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_own_entity_is_masked(share: float) -> None:
    """And nothing else, unless asked for."""
    negatives = make(DENSE_GRAPH, num_negs_per_pos=30, in_batch_share=share).draw(DENSE_GRAPH.mapped_triples)
    assert negatives.mask is not None
    kept = [
        [triple != positive for triple in triples]
        for positive, triples in zip(negatives.positives.tolist(), negatives.triples.tolist(), strict=True)
    ]
    assert negatives.mask.tolist() == kept
    assert not bool(negatives.mask.all())


@given(
    graph=graphs(),
    num_negs_per_pos=st.integers(1, 9),
    chunk_size=st.one_of(st.none(), st.integers(1, 14)),
    share=st.sampled_from([0.0, 0.4, 1.0]),
    size=st.integers(0, 12),
    seed=st.integers(0, 99),
)
@settings(max_examples=200, deadline=None)
def test_filtered(
    graph: CoreTriplesFactory, num_negs_per_pos: int, chunk_size: int | None, share: float, size: int, seed: int
) -> None:
    """Known triples are found without errors, and the entity of the positive itself is masked even if unknown."""
    options = {"num_negs_per_pos": num_negs_per_pos, "chunk_size": chunk_size, "in_batch_share": share}
    # also positives which are not known, as those of a validation loss
    generator = torch.Generator().manual_seed(seed)
    limits = torch.tensor([graph.num_entities, graph.num_relations, graph.num_entities])
    unknown = (torch.rand(3, 3, generator=generator) * limits).long()
    positives = torch.cat([graph.mapped_triples, unknown])[:size]
    masks, triples = [], []
    for filterer in (None, "pythonset"):
        sampler = make(graph, filtered=True, filterer=filterer, **options)
        torch.manual_seed(seed)
        negatives = sampler.draw(positives)
        assert negatives.mask is not None
        masks.append(negatives.mask)
        triples.append(negatives.triples)
    expected = ExactFilterer(graph.mapped_triples)(triples[0]) & (triples[0] != positives.unsqueeze(1)).any(dim=-1)
    assert torch.equal(triples[0], triples[1])
    assert torch.equal(masks[0], expected)
    assert torch.equal(masks[1], expected)


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("shape", [(70,), (5, 14), (0,)])
def test_sample(shape: tuple[int, ...], filtered: bool) -> None:
    """PyKEEN's loop gets the triples and the mask of the same draw, in the shape of its batch."""
    sampler = make(DENSE_GRAPH, chunk_size=16, filtered=filtered)
    positives = DENSE_GRAPH.mapped_triples[: int(torch.tensor(shape).prod())]
    torch.manual_seed(1)
    triples, mask = sampler.sample(positives.view(*shape, 3))
    torch.manual_seed(1)
    negatives = sampler.draw(positives)
    assert mask is not None
    assert negatives.mask is not None
    assert triples.shape == (*shape, 6, 3)
    assert torch.equal(triples.view(-1, 6, 3), negatives.triples)
    assert mask.shape == (*shape, 6)
    assert torch.equal(mask.view(-1, 6), negatives.mask)


def test_stock_loop() -> None:
    """Its batches have the masks, and never the positive itself among the negatives which count."""
    seen = []

    class Watch(TrainingCallback):
        def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
            seen.append(batch)

    loop = SLCWATrainingLoop(
        model=make_model("distmult", DENSE_GRAPH),
        triples_factory=DENSE_GRAPH,
        negative_sampler="shared",
        negative_sampler_kwargs={"num_negs_per_pos": 4, "filtered": True},
    )
    set_random_seed(0)
    loop.train(DENSE_GRAPH, num_epochs=1, batch_size=32, callbacks=[Watch()], use_tqdm=False, pin_memory=False)
    known = set(map(tuple, DENSE_GRAPH.mapped_triples.tolist()))
    assert len(seen) >= 4
    for batch in seen:
        for triple, keep in zip(
            batch["negatives"].view(-1, 3).tolist(), batch["masks"].flatten().tolist(), strict=True
        ):
            assert keep is (tuple(triple) not in known)


# ------------------------------------------------------------------------------------------------------- expectation


def table(graph: CoreTriplesFactory) -> Tensor:
    """Scores of all triples, shape: ``(e, r, e)``."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(graph.num_entities, graph.num_relations, graph.num_entities, generator=generator).double()


def expected_terms(positives: Tensor, scores: Tensor, q: list[float]) -> list[float]:
    """For one negative: the expectation of softplus(negative - positive) over side and entity, by a loop."""
    result = []
    for h, r, t in positives.tolist():
        for_heads = [q[e] * torch.nn.functional.softplus(scores[e, r, t] - scores[h, r, t]) for e in range(len(q))]
        for_tails = [q[e] * torch.nn.functional.softplus(scores[h, r, e] - scores[h, r, t]) for e in range(len(q))]
        for_heads[h] = for_tails[t] = torch.tensor(0.0)
        result.append(float(sum(for_heads) + sum(for_tails)) / 2)
    return result


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("chunk_size", [1, 7, None])
def test_expected_loss(chunk_size: int | None, share: float) -> None:
    """That of unshared negatives, whatever is shared: a sum over all entities by their probability.

    The cross-entropy of one negative is softplus(negative - positive). The mean over the draws has to lie within four
    of its standard errors, which are less than 1% of the value. The batch is all triples, so that the degrees are
    those in it.
    """
    positives, draws = SKEWED.mapped_triples[:60], 3000
    graph = CoreTriplesFactory.create(positives, num_entities=20, num_relations=2)
    scores, loss = table(graph), CrossEntropyLoss()
    degree = degrees(positives, 20) / (2 * len(positives))
    q = (degree if share else torch.full((20,), 1 / 20)).tolist()
    sampler = make(graph, num_negs_per_pos=1, chunk_size=chunk_size, in_batch_share=share)
    values = torch.stack([loss_of(loss, scores, sampler.draw(positives)) for _ in range(draws)])
    terms = expected_terms(positives, scores, q)
    error = values.std() / draws**0.5
    assert error < 0.01 * values.mean()
    assert abs(values.mean() - sum(terms) / len(terms)) < 4 * error


def loss_of(loss: Any, scores: Tensor, negatives: Negatives) -> Tensor:
    positive = scores[negatives.positives.unbind(dim=1)].unsqueeze(1)
    negative = scores[negatives.triples.unbind(dim=-1)]
    return slcwa_loss(loss, Scores(positive, negative), negatives, num_entities=len(scores))


def test_sharing_only_adds_variance() -> None:
    """With several negatives and filtered ones, the mean loss of shared draws is that of unshared draws."""
    scores, loss, draws = table(GRAPH), SoftplusLoss(reduction="sum"), 1500
    values = []
    for chunk_size in (1, None):
        sampler = make(chunk_size=chunk_size, filtered=True)
        values.append(torch.stack([loss_of(loss, scores, sampler.draw(GRAPH.mapped_triples)) for _ in range(draws)]))
    unshared, shared = values
    error = ((unshared.var() + shared.var()) / draws).sqrt()
    assert abs(unshared.mean() - shared.mean()) < 4 * error
    assert error < 0.01 * unshared.mean()
    assert shared.var() > unshared.var()


# ---------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"chunk_size": 0}, "chunk_size=0 is too small"),
        ({"in_batch_share": 1.5}, r"in_batch_share=1\.5"),
        ({"in_batch_share": -0.1}, r"in_batch_share=-0\.1"),
        ({"in_batch_share": float("nan")}, "in_batch_share=nan"),
        ({"side": "left"}, "side='left'"),
        ({"num_negs_per_pos": 0}, "num_negs_per_pos=0"),
        ({"num_negs_per_pos": 2.5}, r"num_negs_per_pos=2\.5 must be a whole number"),
        ({"chunk_size": 16.5}, r"chunk_size=16\.5 must be a whole number of at least 1"),
        ({"filtered": "no"}, "filtered='no' must be True or False"),
    ],
    ids=str,
)
def test_impossible_settings(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**kwargs)


@given(size=st.integers(1, 300), chunk_size=st.integers(1, 300))
def test_whole_chunks(size: int, chunk_size: int) -> None:
    part = whole_chunks(size, chunk_size)
    fitting = [n for n in range(1, size + 1) if n % chunk_size == 0 or chunk_size % n == 0]
    # where parts of a chunk would be much smaller, chunks are cut
    assert part == (max(fitting) if 4 * max(fitting) >= size or size >= chunk_size else size)
    assert whole_chunks(size, None) == size


def test_a_batch_smaller_than_a_chunk_is_one_part() -> None:
    """Of whatever size chunks are, a prime number here."""
    loop = AdversarialTrainingLoop(
        model=make_model("distmult"),
        triples_factory=GRAPH,
        negative_sampler="shared",
        negative_sampler_kwargs={"num_negs_per_pos": 5, "chunk_size": 463},
        automatic_memory_optimization=False,
    )
    with mock.patch.object(torch.Tensor, "backward", autospec=True, side_effect=torch.Tensor.backward) as backward:
        loop.train(GRAPH, num_epochs=1, batch_size=64, sub_batch_size=64, use_tqdm=False)
    assert backward.call_count == -(-GRAPH.num_triples // 64)


@pytest.mark.parametrize(("sub_batch_size", "expected"), [(20, {16}), (16, {16}), (7, {4}), (3, {2})])
def test_parts_share_as_the_whole_does(
    sub_batch_size: int, expected: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random masks of EMU, and the time of a step, depend on which positives share their candidates."""
    seen: list[Negatives] = []

    def watch(scorer: Scorer, negatives: Negatives, *args: Any) -> Scores:
        seen.append(negatives)
        return score(scorer, negatives, *args)

    monkeypatch.setattr(parts, "score", watch)
    loop = AdversarialTrainingLoop(
        model=make_model("transe"),
        triples_factory=GRAPH,
        negative_sampler="emu",
        negative_sampler_kwargs={"num_negs_per_pos": 5, "base": "shared", "base_kwargs": {"chunk_size": 8}},
    )
    loop.train(GRAPH, num_epochs=1, batch_size=64, sub_batch_size=sub_batch_size, use_tqdm=False)
    # the last batch and its last part may be shorter
    assert {len(part) for part in seen[:2]} == expected
    assert all(part.chunk_size == 8 for part in seen)
    assert all(len(part.ids) == -(-len(part) // 8) for part in seen)


def test_sub_batches_and_chunks_may_cross() -> None:
    """The loss does not depend on how a batch is cut, whole chunks or not."""
    losses = []
    for sub_batch_size in (None, 16, 7):
        loop = AdversarialTrainingLoop(
            model=make_model("transe"),
            triples_factory=GRAPH,
            negative_sampler="shared",
            negative_sampler_kwargs={"num_negs_per_pos": 5, "chunk_size": 8, "in_batch_share": 0.5, "filtered": True},
        )
        set_random_seed(0)
        losses.append(loop.train(GRAPH, num_epochs=2, batch_size=64, sub_batch_size=sub_batch_size, use_tqdm=False))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)


def test_page() -> None:
    """The table of the page has all arguments and their defaults."""
    text = (Path(__file__).parents[1] / "docs" / "samplers" / "shared.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE))
    parameters = inspect.signature(SharedNegativeSampler.__init__).parameters.values()
    given_by_the_loop = {"self", "mapped_triples", "num_entities", "num_relations"}
    expected = {p.name: repr(p.default).replace("'", '"') for p in parameters if p.name not in given_by_the_loop}
    assert rows == expected


def test_the_stock_loop_refuses_the_correction() -> None:
    """It would not know of it, and train without a word."""
    sampler = make(SKEWED, log_q_correction=True)
    with pytest.raises(ModelRequiredError, match=r"log_q_correction=True .* training_loop='adversarial'"):
        sampler.sample(SKEWED.mapped_triples)


def test_entities_without_triples_have_a_finite_correction() -> None:
    sampler = make(SKEWED, in_batch_share=1.0, log_q_correction=True)
    assert bool(torch.isfinite(sampler.log_frequency).all())

"""Each setting of MMRNS does what it says: the whole sampler against slow twins, and what it says of itself."""

from __future__ import annotations

import logging
import math
from typing import Any

import loops
import mmrns_twins as twins
import pytest
import torch

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.multimodal import MultimodalFeatures
from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.sampling.mmrns import MMRNSNegativeSampler
from pykeen_advneg.sampling.mmrns.feature_store import FeatureStore
from pykeen_advneg.sampling.mmrns.proposals import PooledNegatives
from pykeen_advneg.scoring import Scorer
from pykeen_advneg.testing.graphs import GRAPH, make_model

TRIPLES = GRAPH.mapped_triples[:25]
KNOWN = set(map(tuple, GRAPH.mapped_triples.tolist()))


def make_text(lack: int | None = None) -> MultimodalFeatures:
    """Of all entities, or of all but each ``lack``-th."""
    text = torch.randn(40, 2, 5, generator=torch.Generator().manual_seed(1))
    if lack is not None:
        text[::lack] = 0
    return MultimodalFeatures(text=text)


def make_sampler(seed: int = 0, **kwargs: Any) -> MMRNSNegativeSampler:
    torch.manual_seed(seed)
    settings = {"num_negs_per_pos": 3, "pool_size": 20, "attention_dim": 6, "hidden_dim": 5, "features": make_text()}
    sampler = MMRNSNegativeSampler(
        mapped_triples=GRAPH.mapped_triples, num_entities=40, num_relations=3, **(settings | kwargs)
    )
    sampler.bind(Scorer(make_model("distmult")))
    return sampler


def propose(sampler: MMRNSNegativeSampler) -> PooledNegatives:
    negatives = sampler.draw(TRIPLES)
    assert isinstance(negatives, PooledNegatives)
    return negatives


def likenesses(sampler: MMRNSNegativeSampler, negatives: PooledNegatives) -> dict[str, torch.Tensor]:
    return sampler.comparison.similarities(
        negatives.positives, negatives.column, negatives.pool, detached=sampler.gradient == "detached"
    )


def is_known(negatives: PooledNegatives) -> torch.Tensor:
    """Which candidates are known answers, triple by triple."""
    rows = []
    for triple, column in zip(negatives.positives.tolist(), negatives.column.flatten().tolist(), strict=True):
        rows.append([(*triple[:column], e, *triple[column + 1 :]) in KNOWN for e in negatives.pool.tolist()])
    return torch.tensor(rows)


def slow_contrast(
    sampler: MMRNSNegativeSampler, negatives: PooledNegatives, scores: torch.Tensor, temperature: float
) -> torch.Tensor:
    sims = list(likenesses(sampler, negatives).values())
    weights = (temperature * scores.detach()).softmax(dim=1)
    if sampler.variant == "released":
        return twins.released(sims, is_known(negatives), negatives.places, weights)
    return twins.contrast(sims, is_known(negatives), negatives.places, weights, 40)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_common_loss(variant: str) -> None:
    """L_KGC + beta L_con, with the weights of the variant and of the temperature."""
    sampler = make_sampler(variant=variant, contrast_weight=0.3, adversarial_temperature=1.7)
    negatives = propose(sampler)
    scores = sampler.score(sampler.scorer, negatives)
    loss = sampler.loss(negatives, scores, lambda s: s.negatives.mean())
    contrast = slow_contrast(sampler, negatives, scores.negatives, 1.7)
    torch.testing.assert_close(loss, scores.negatives.mean() + 0.3 * contrast)
    assert sampler.comparison.network is not None
    loss.backward()
    sampler.learn(negatives, scores.map(torch.Tensor.detach))
    assert sampler.end_epoch()["contrast"] == pytest.approx(contrast.item(), rel=1e-4)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_detached_lesson(variant: str) -> None:
    """A step of the contrastive loss, whatever its weight in the common loss, unless that is zero."""
    settings: dict[str, Any] = dict(variant=variant, gradient="detached", adversarial_temperature=1.7)
    sampler = make_sampler(**settings, contrast_weight=0.3, optimizer="sgd", optimizer_kwargs=dict(lr=1.0))
    negatives = propose(sampler)
    scores = sampler.score(sampler.scorer, negatives).map(torch.Tensor.detach)
    assert sampler.comparison.network is not None
    contrast = slow_contrast(sampler, negatives, scores.negatives, 1.7)
    parameters = list(sampler.comparison.network.parameters())
    gradients = torch.autograd.grad(contrast, parameters, allow_unused=True, materialize_grads=True)
    before = [p.detach().clone() for p in parameters]
    sampler.learn(negatives, scores)
    for start, end, gradient in zip(before, parameters, gradients, strict=True):
        torch.testing.assert_close(start - end, gradient, rtol=1e-3, atol=1e-5)
    idle = make_sampler(**settings, contrast_weight=0.0)
    states = [p.detach().clone() for p in idle.parameters()]
    idle.learn(propose(idle), scores)
    assert all(torch.equal(x, y) for x, y in zip(states, idle.parameters(), strict=True))


def test_objective_of_the_paper_term_by_term() -> None:
    """Self-adversarial weights of the temperature, and subsampling weights by counts which start from 4."""
    sampler = make_sampler(objective="mmrns", contrast_weight=0.0, adversarial_temperature=1.7, margin=0.4)
    negatives = propose(sampler)
    scores = sampler.score(sampler.scorer, negatives)
    u = [
        1 / math.sqrt(sum(x[:2] == (h, r) for x in KNOWN) + 3 + sum(x[1:] == (r, t) for x in KNOWN) + 3)
        for h, r, t in TRIPLES.tolist()
    ]
    expected = twins.self_adversarial(
        scores.positives.flatten().tolist(), scores.negatives.tolist(), u, temperature=1.7, margin=0.4
    )
    assert sampler.loss(negatives, scores, lambda _: torch.zeros(())).item() == pytest.approx(expected, rel=1e-5)


def test_gumbel_temperature() -> None:
    """The same noise at half of the temperature: squares of the soft draws, normalised."""
    warm, cold = (make_sampler(gumbel_temperature=temperature) for temperature in (1.0, 0.5))
    torch.manual_seed(3)
    one = propose(warm)
    torch.manual_seed(3)
    other = propose(cold)
    assert one.soft is not None
    assert other.soft is not None
    assert torch.equal(one.ids, other.ids)
    squares = one.soft.square()
    torch.testing.assert_close(other.soft, squares / squares.sum(dim=-1, keepdim=True))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("logarithmic", 4 / (1 + math.log(4))), ("geometric", 4 * (0.5 / 4) ** (3 / 6)), ("constant", 4.0)],
)
def test_exploration_falls_with_lessons(schedule: str, expected: float) -> None:
    """Once a lesson, not once a proposal."""
    sampler = make_sampler(exploration=4.0, exploration_schedule=schedule, exploration_end=0.5, exploration_steps=6)
    assert sampler.exploration_factor == pytest.approx(4)
    for _ in range(3):
        propose(sampler)
        negatives = propose(sampler)
        sampler.learn(negatives, Scores(*sampler.scorer.both(negatives)).map(torch.Tensor.detach))
    assert sampler.exploration_factor == pytest.approx(expected)
    assert sampler.end_epoch()["exploration"] == pytest.approx(expected)


def test_proposal_where_texts_lack() -> None:
    """Distribution and metrics, pair by pair: what is not there has no say."""
    features = make_text(lack=3)
    sampler = make_sampler(features=features, exploration=0.2, exploration_schedule="constant")
    negatives = propose(sampler)
    sims = {name: x.tolist() for name, x in likenesses(sampler, negatives).items()}
    known, pool = is_known(negatives).tolist(), negatives.pool.tolist()
    anchors = negatives.positives.gather(1, negatives.column).flatten().tolist()
    sizes, answered, means, chosen = [], [], [], []
    for b, anchor in enumerate(anchors):
        sides = [twins.mixture([sims["structure"][b]], 0.2)]
        if anchor % 3:
            with_text = [j for j, e in enumerate(pool) if e % 3]
            of_text = twins.mixture([[sims["text"][b][j] for j in with_text]], 0.2)
            row = [1 / len(pool)] * len(pool)
            for j, p in zip(with_text, of_text, strict=True):
                row[j] = p * len(with_text) / len(pool)
            sides.append(row)
        q = [sum(side[j] for side in sides) for j, e in enumerate(pool) if not known[b][j] and e != anchor]
        sizes.append(sum(q) ** 2 / sum(x * x for x in q) / len(q))
        answered.append(any(known[b][j] and e != anchor for j, e in enumerate(pool)))
        own = [
            (sims["structure"][b][j] + sims["text"][b][j]) / 2 if anchor % 3 and e % 3 else sims["structure"][b][j]
            for j, e in enumerate(pool)
        ]
        means += own
        chosen += [own[j] for j in negatives.places[b].tolist()]
    expected = {
        "effective_share": sum(sizes) / len(sizes),
        "answered_share": sum(answered) / len(answered),
        "pool_similarity": sum(means) / len(means),
        "similarity": sum(chosen) / len(chosen),
    }
    assert {name: negatives.statistics[name].item() for name in expected} == pytest.approx(expected, rel=1e-4)
    assert 0 < expected["answered_share"] < sum(map(any, known)) / len(known), "the anchor itself does not count"
    assert expected["effective_share"] < 0.9


def test_large_pool(caplog: pytest.LogCaptureFixture) -> None:
    """As an optimiser of hyper-parameters may choose it."""
    with caplog.at_level(logging.WARNING):
        sampler = make_sampler(pool_size=2000)
    assert sampler.pool_size == 40
    assert caplog.text.count("pool_size=2000 exceeds the 40 entities") == 1
    assert len(propose(sampler).pool) == 40
    # more negatives than there are: masked, as with the default pool
    negatives = propose(make_sampler(pool_size=100, num_negs_per_pos=45))
    assert negatives.mask is not None
    with pytest.raises(ConfigurationError, match="pool_size=44 is less than num_negs_per_pos=45"):
        make_sampler(pool_size=44, num_negs_per_pos=45)


def test_labels_of_something_else() -> None:
    """Fewer than half of the labels are those of the graph: not a slip, but other labels."""
    ids = {f"e{i}": i for i in range(40)}
    labels = [f"e{i}" for i in range(4)] + [f"wrong{i}" for i in range(5)]
    features = MultimodalFeatures(text=torch.ones(9, 1, 2), labels=labels)
    store = FeatureStore(features, 40)
    with pytest.raises(ConfigurationError, match=r"has 4 of their 9 labels only.*'wrong0', 'wrong1', 'wrong2'.*drop"):
        store.read_labels(ids)
    half = FeatureStore(MultimodalFeatures(text=torch.ones(8, 1, 2), labels=labels[:8]), 40)
    half.read_labels(ids)
    FeatureStore(features.align(ids, unknown="drop"), 40).check()


def test_training_too_short_for_the_schedule(caplog: pytest.LogCaptureFixture) -> None:
    """It says so once, at the end; not where the schedule came down."""
    settings = {"pool_size": 10, "num_negs_per_pos": 2, "exploration_schedule": "geometric"}
    for steps, count in ((10_000, 1), (2, 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            loops.train(loops.make_loop("mmrns", settings | {"exploration_steps": steps}), 2, batch_size=2048)
        assert caplog.text.count("exploration hardly fell. exploration_steps=10000 is too many") == count

"""The sampler MMRNS in training: gradients, modes, features, state, what is planted is found."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import loops
import numpy as np
import pytest
import torch
from pykeen.models import model_resolver
from pykeen.pipeline import pipeline
from pykeen.trackers import PythonResultTracker
from pykeen.triples import CoreTriplesFactory, TriplesFactory

from pykeen_advneg.errors import ConfigurationError, NonFiniteSamplerError
from pykeen_advneg.multimodal import MultimodalFeatures
from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.sampling.mmrns import MMRNSNegativeSampler
from pykeen_advneg.sampling.mmrns.proposals import PooledNegatives
from pykeen_advneg.sampling.mmrns.statistics import METRICS
from pykeen_advneg.scoring import Scorer
from pykeen_advneg.testing.graphs import GRAPH, make_model
from pykeen_advneg.testing.proposals import ProposalContract
from pykeen_advneg.testing.runs import RunContract


def make_features(n: int = 40, seed: int = 0) -> MultimodalFeatures:
    """Of some entities, one modality or both lack."""
    generator = torch.Generator().manual_seed(seed)
    text, image = torch.randn(n, 2, 5, generator=generator), torch.randn(n, 3, 6, generator=generator)
    text[::3], image[::4], text[1, 1] = 0, 0, 0
    return MultimodalFeatures(text=text, image=image)


def make_sampler(model: Any, factory: CoreTriplesFactory = GRAPH, seed: int = 0, **kwargs: Any) -> MMRNSNegativeSampler:
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"num_negs_per_pos": 3, "pool_size": 20, "attention_dim": 6, "hidden_dim": 5} | kwargs
    sampler = MMRNSNegativeSampler(
        mapped_triples=factory.mapped_triples,
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
        **settings,
    )
    sampler.bind(Scorer(model))
    return sampler


class TestWithFeatures(RunContract):
    """The shipped tests of whole runs, with both modalities."""

    cls = MMRNSNegativeSampler
    kwargs = {"pool_size": 15, "attention_dim": 5, "hidden_dim": 6, "features": make_features()}  # noqa: RUF012


class TestDetached(ProposalContract):
    """What it proposes, learns and keeps, in the mode with hard draws."""

    cls = MMRNSNegativeSampler
    kwargs = {"pool_size": 8, "attention_dim": 5, "hidden_dim": 6, "gradient": "detached"}  # noqa: RUF012
    tiny_kwargs = {"pool_size": None}  # noqa: RUF012


@pytest.mark.parametrize("name", ["complex", "distmult", "transd", "transe"])
def test_gradients_reach_everything(name: str) -> None:
    """The common loss trains the network, all of it, and the embeddings through the distribution."""
    model = make_model(name)
    sampler = make_sampler(model, features=make_features(), contrast_weight=0.5)
    negatives = sampler.draw(GRAPH.mapped_triples[:50])
    scorer = Scorer(model)
    scores = sampler.score(scorer, negatives)
    torch.testing.assert_close(scores.negatives, scorer.negatives(negatives))
    loss = sampler.loss(negatives, scores, lambda s: s.negatives.exp().mean() - s.positives.mean())
    loss.backward()
    assert sampler.comparison.network is not None
    for key, parameter in sampler.comparison.network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key
    with_sampler = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    plain = Scores(*scorer.both(negatives))
    (plain.negatives.exp().mean() - plain.positives.mean()).backward()
    without = [p.grad for p in model.parameters() if p.grad is not None]
    assert any(not torch.allclose(x, y) for x, y in zip(with_sampler, without, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_straight_through_gradient_through_the_model(temperature: float) -> None:
    """Against finite differences of the soft scores: DistMult's are linear in the negative, so that they are exact."""
    model = make_model("distmult").eval()
    sampler = make_sampler(model, features=make_features(), contrast_weight=0.0, gumbel_temperature=temperature)
    negatives = sampler.draw(GRAPH.mapped_triples[:12])
    assert isinstance(negatives, PooledNegatives)
    assert negatives.soft is not None
    scores = sampler.score(Scorer(model), negatives)
    assert sampler.comparison.network is not None
    weight = torch.randn(12, 3)
    target = sampler.comparison.network.structure.gate.bias
    (fast,) = torch.autograd.grad((weight * scores.negatives).sum(), target)

    # the noise of each draw, up to a constant
    def log_q() -> torch.Tensor:
        values = sampler.comparison.similarities(negatives.positives, negatives.column, negatives.pool, detached=False)
        branches = sampler.comparison.branches(values, negatives.positives, negatives.column, negatives.pool)
        from pykeen_advneg.sampling.mmrns.exploration import log_mixture

        return log_mixture(branches, sampler.exploration_factor)

    start = log_q().detach()
    noise = temperature * negatives.soft.clamp(min=1e-38).log() - start.unsqueeze(1)
    logits = (log_q().unsqueeze(1) + noise) / temperature
    soft = logits.masked_fill(negatives.soft == 0, -torch.inf).softmax(dim=-1)
    pool = model.entity_representations[0](negatives.pool)
    h, r, t = (x.squeeze(1) for x in [
        model.entity_representations[0](negatives.positives[:, :1]),
        model.relation_representations[0](negatives.positives[:, 1:2]),
        model.entity_representations[0](negatives.positives[:, 2:]),
    ])  # fmt: skip
    query = torch.where(negatives.column == 0, r * t, h * r)
    soft_scores = torch.einsum("bkp,pd,bd->bk", soft, pool.detach(), query.detach())
    (slow,) = torch.autograd.grad((weight * soft_scores).sum(), target)
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-6)


def test_detached_leaves_the_model_to_its_loss() -> None:
    model = make_model("transe")
    sampler = make_sampler(model, features=make_features(), gradient="detached", contrast_weight=1.0)
    before = [p.detach().clone() for p in sampler.parameters()]
    negatives = sampler.draw(GRAPH.mapped_triples[:60])
    scores = sampler.score(Scorer(model), negatives)
    assert scores.extra == ()
    marker = torch.tensor(3.0)
    assert sampler.loss(negatives, scores, lambda _: marker) is marker
    sampler.learn(negatives, scores.map(torch.Tensor.detach))
    assert all(p.grad is None for p in model.parameters())
    assert any(not torch.equal(x, y) for x, y in zip(before, sampler.parameters(), strict=True))


def test_parts_of_a_batch() -> None:
    """Sub-batches give the gradients of the whole batch, of the model and of the sampler."""
    results, contrasts = [], []
    for size in (None, 300):
        loop = loops.make_loop(
            "mmrns",
            {"pool_size": 40, "num_negs_per_pos": 4, "contrast_weight": 0.3, "optimizer_kwargs": {"lr": 0.01}},
            optimizer_kwargs={"lr": 0.01},
            result_tracker=(tracker := PythonResultTracker(store_metrics=True)),
        )
        losses = loops.train(loop, 2, sub_batch_size=size)
        results.append((losses, loop.model.state_dict(), loop._sampler.state_dict()))  # type: ignore[union-attr]
        contrasts.append([tracker.metrics[epoch]["sampler.contrast"] for epoch in (1, 2)])
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-4)
    assert contrasts[0] == pytest.approx(contrasts[1], rel=1e-3)
    assert all(contrasts[0])
    for one, two in zip(results[0][1].values(), results[1][1].values(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-2, atol=2e-3)


def test_draws_are_never_known() -> None:
    model = make_model("distmult")
    sampler = make_sampler(model, pool_size=40, num_negs_per_pos=20)
    known = set(map(tuple, GRAPH.mapped_triples.tolist()))
    for _ in range(10):
        negatives = sampler.draw(GRAPH.mapped_triples)
        assert not known & set(
            map(tuple, negatives.triples[negatives.mask if negatives.mask is not None else ...].view(-1, 3).tolist())
        )
        assert all(len(set(row)) == 20 for row in negatives.ids.tolist())


def planted(visible: str) -> tuple[CoreTriplesFactory, Any, MultimodalFeatures | None, torch.Tensor]:
    """A graph of 5 clusters; a source leads to members of one cluster, which can be seen in one way only."""
    generator = torch.Generator().manual_seed(0)
    members, sources = 100, 60
    cluster = torch.arange(members) % 5
    triples = [
        (members + s, 0, int(t))
        for s in range(sources)
        for t in (cluster == s % 5).nonzero().squeeze(-1)[torch.randperm(20, generator=generator)[:6]]
    ]
    factory = CoreTriplesFactory(torch.tensor(triples), num_entities=members + sources, num_relations=1)
    prototypes = torch.nn.functional.one_hot(cluster, 5).float() * 3
    signal = torch.cat([prototypes, torch.zeros(sources, 5)])

    def noisy(x: torch.Tensor, parts: int) -> torch.Tensor:
        return x.unsqueeze(1) + torch.randn(len(x), parts, x.shape[1], generator=generator) * 0.5

    silent = torch.zeros_like(signal)
    features = MultimodalFeatures(
        text=noisy(signal if visible == "text" else silent, 2), image=noisy(signal if visible == "image" else silent, 3)
    )
    model = model_resolver.make("distmult", {"embedding_dim": 5, "random_seed": 0}, triples_factory=factory)
    with torch.no_grad():
        model.entity_representations[0]._embeddings.weight.copy_(
            noisy(signal if visible == "structure" else silent, 1)[:, 0]
        )
    return factory, model, features, cluster


def inside_share(sampler: MMRNSNegativeSampler, triples: torch.Tensor, cluster: torch.Tensor) -> float:
    """The share of the drawn members which are in the cluster of the true answer."""
    with torch.no_grad():
        negatives = sampler.draw(triples)
    drawn = negatives.ids < len(cluster)
    same = cluster[negatives.ids.clamp(max=len(cluster) - 1)] == cluster[triples[:, 2:]]
    return float((same & drawn).sum() / drawn.sum())


@pytest.mark.parametrize("visible", ["text", "image", "structure"])
def test_planted_clusters(visible: str) -> None:
    """What only one modality shows is learnt by the contrastive loss, and drawn more often."""
    factory, model, features, cluster = planted(visible)
    sampler = make_sampler(
        model,
        factory,
        features=features,
        pool_size=160,
        num_negs_per_pos=5,
        gradient="detached",
        contrast_weight=1.0,
        exploration=0.1,
        exploration_schedule="constant",
        side="tail",
        optimizer_kwargs={"lr": 0.02},
    )
    triples = factory.mapped_triples
    for _ in range(30):
        for positives in triples[torch.randperm(len(triples))].split(120):
            negatives = sampler.draw(positives)
            scores = sampler.score(Scorer(model), negatives).map(torch.Tensor.detach)
            sampler.learn(negatives, scores)
    shares = torch.tensor([inside_share(sampler, triples, cluster) for _ in range(3)])
    # 14 of 94 unknown members are inside; the two other branches know nothing
    assert shares.mean() > 1.5 * 14 / 94


def test_metrics_and_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The published exploration is close to uniform at the first steps, a small factor is not; and it says so."""
    shares = {}
    with caplog.at_level(logging.WARNING):
        for factor in (10.0, 0.05):
            tracker = PythonResultTracker(store_metrics=True)
            pipeline(
                dataset="umls",
                model="transe",
                model_kwargs=dict(embedding_dim=8),
                training_loop="adversarial",
                negative_sampler="mmrns",
                negative_sampler_kwargs=dict(num_negs_per_pos=5, exploration=factor, pool_size=100),
                training_kwargs=dict(num_epochs=1, batch_size=512, use_tqdm=False),
                evaluation_kwargs=dict(use_tqdm=False),
                result_tracker=tracker,
                random_seed=0,
            )
            metrics = {k.removeprefix("sampler."): v for k, v in tracker.metrics[1].items() if k.startswith("sampler.")}
            assert set(metrics) == {*METRICS, "exploration"}
            assert 0 < metrics["masked_share"] < 1
            assert 0 < metrics["answered_share"] <= 1
            shares[factor] = metrics["effective_share"]
            assert metrics["similarity"] >= metrics["pool_similarity"] - 0.02
    assert shares[10.0] > 0.98
    assert shares[0.05] < shares[10.0] - 0.05
    assert "no features" in caplog.text


def test_features_by_label_and_path(tmp_path: Path) -> None:
    """Features with labels come into the order of the ids by themselves, from a file too."""
    dataset = loops.umls()
    training = dataset.training
    assert isinstance(training, TriplesFactory)
    labels = sorted(training.entity_to_id, reverse=True)
    values = torch.randn(len(labels) + 1, 2, 4)
    features = MultimodalFeatures(text=values, labels=[*labels, "not in the graph"])
    features.save(tmp_path / "features.safetensors")
    loop = loops.make_loop(
        "mmrns", {"features": tmp_path / "features.safetensors", "pool_size": 30, "num_negs_per_pos": 2}
    )
    loops.train(loop, 1)
    store = loop._sampler.comparison.features  # type: ignore[union-attr]
    for i, label in enumerate(labels):
        assert torch.equal(store.text[training.entity_to_id[label]], values[i])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"features": 3}, "features must be MultimodalFeatures"),
        ({"features": "nowhere.safetensors"}, "there is no such file"),
        (
            {"features": MultimodalFeatures(text=torch.ones(3, 1, 2))},
            "features are of 3 entities, and the graph has 40",
        ),
        ({"features": MultimodalFeatures(text=torch.ones(1, 1, 2), labels=["a"])}, "the training triples have none"),
        ({"pool_size": 2}, "pool_size=2 is less than num_negs_per_pos=3"),
        ({"pool_size": 2.5}, "pool_size=2.5 must be a whole number"),
        ({"exploration": 0}, "exploration=0 is too small"),
        ({"exploration": float("nan")}, "exploration=nan"),
        ({"exploration_schedule": "cubic"}, "exploration_schedule='cubic' is none of"),
        ({"contrast_weight": -1}, "contrast_weight=-1"),
        ({"contrast_weight": float("inf")}, "must be finite"),
        ({"gradient": "soft"}, "gradient='soft' is none of"),
        ({"variant": "mine"}, "variant='mine' is none of"),
        ({"objective": "mine"}, "objective='mine' is none of"),
        ({"optimizer": "none"}, "optimizer='none' cannot be built"),
    ],
)
def test_errors(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_sampler(make_model("distmult"), **kwargs)


def test_objective_of_the_paper() -> None:
    """It takes the place of the model's loss, and refuses what only that has."""
    model = make_model("transe")
    sampler = make_sampler(model, objective="mmrns", contrast_weight=0.0, margin=2.0)
    negatives = sampler.draw(GRAPH.mapped_triples[:20])
    scores = sampler.score(Scorer(model), negatives)

    def host(_: Scores) -> torch.Tensor:
        raise AssertionError("not asked")

    assert torch.isfinite(sampler.loss(negatives, scores, host))
    with pytest.raises(
        ConfigurationError, match=r"label_smoothing=0.1 is not possible with the loss of 'mmrns'.*objective='host'"
    ):
        pipeline(
            dataset="nations",
            model="transe",
            training_loop="adversarial",
            negative_sampler="mmrns",
            negative_sampler_kwargs=dict(objective="mmrns"),
            training_kwargs=dict(num_epochs=1, label_smoothing=0.1, use_tqdm=False),
        )


def test_non_finite_gradient() -> None:
    model = make_model("distmult")
    sampler = make_sampler(model)
    negatives = sampler.draw(GRAPH.mapped_triples[:20])
    scores = sampler.score(Scorer(model), negatives)
    assert sampler.comparison.network is not None
    (scores.negatives.sum() + sampler.comparison.network.structure.gate.bias.sum() * torch.inf).backward()
    with pytest.raises(NonFiniteSamplerError, match="optimizer_kwargs"):
        sampler.learn(negatives, scores.map(torch.Tensor.detach))


def test_warm_up() -> None:
    model = make_model("distmult")
    sampler = make_sampler(model, contrast_weight=0.5, features=make_features(), pool_size=40)
    before = [p.detach().clone() for p in sampler.parameters()]
    sampler.warm_up(GRAPH.mapped_triples)
    assert any(not torch.equal(x, y) for x, y in zip(before, sampler.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_unlabelled_row_order() -> None:
    """Features without labels are taken as they are."""
    features = make_features()
    sampler = make_sampler(make_model("distmult"), features=features)
    assert features.text is not None
    assert np.array_equal(sampler.comparison.features.text.numpy(), features.text.numpy())


@pytest.mark.parametrize("model", ["rotate", "pairre", "rescal", "conve", "quate", "hole", "ermlp", "se"])
def test_other_models(model: str) -> None:
    """Complex numbers, several parts, matrices, batch normalisation."""
    loop = loops.make_loop(
        "mmrns",
        {"pool_size": 50, "num_negs_per_pos": 3, "contrast_weight": 0.1},
        model=loops.make_model(model, embedding_dim=16),
    )
    losses = loops.train(loop, 1)
    assert np.isfinite(losses).all()

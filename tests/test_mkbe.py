"""MKBE by name through the pipeline, with every kind of loop and sampler, and its evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from multimodal_graphs import dataset
from pykeen.evaluation import RankBasedEvaluator
from pykeen.pipeline import PipelineResult, pipeline

from pykeen_advneg.errors import ConfigurationError, DivergenceError
from pykeen_advneg.hpo.making import make_objective
from pykeen_advneg.multimodal.evaluation import EntityRankingEvaluator, RelationRankingEvaluator, rank_values
from pykeen_advneg.multimodal.mkbe import MKBE

DATA = dataset()
#: trains in a second
SMALL = dataset("text", "images", "categorical")
N = DATA.training.num_link_entities


def run(**kwargs: Any) -> PipelineResult:
    training_kwargs = {"num_epochs": 2, "batch_size": 64, "use_tqdm": False, **kwargs.pop("training_kwargs", {})}
    options: dict[str, Any] = {
        "dataset": DATA,
        "model": "mkbe",
        "model_kwargs": {"embedding_dim": 16},
        "evaluator": "entityranking",
        "evaluation_kwargs": {"use_tqdm": False},
        "random_seed": 0,
        "device": "cpu",
        **kwargs,
    }
    return pipeline(**options, training_kwargs=training_kwargs)


RUNS: dict[str, dict[str, Any]] = {
    "slcwa": {"negative_sampler": "attributetyped", "loss": "marginranking", "loss_kwargs": {"margin": 1.5}},
    "pseudotyped": {"negative_sampler": "pseudotyped"},
    "lcwa": {"training_loop": "lcwa"},
    "conve": {
        "training_loop": "lcwa",
        "model_kwargs": {"embedding_dim": 16, "interaction": "conve"},
    },
    "adversarial conve": {
        "training_loop": "adversarial",
        "negative_sampler": "attributetyped",
        "model_kwargs": {"embedding_dim": 16, "interaction": "conve"},
    },
    "attributetyped": {"training_loop": "adversarial", "negative_sampler": "attributetyped"},
    "shared": {
        "training_loop": "adversarial",
        "negative_sampler": "shared",
        "negative_sampler_kwargs": {"num_negs_per_pos": 8},
        "optimizer": "sparseadagrad",
        "loss": "crossentropy",
    },
    "kbgan": {
        "training_loop": "adversarial",
        "negative_sampler": "kbgan",
        "negative_sampler_kwargs": {"num_candidates": 4, "generator_kwargs": {"embedding_dim": 8}},
    },
    "emu": {"training_loop": "adversarial", "negative_sampler": "emu", "loss": "crossentropy"},
    "dans": {"training_loop": "adversarial", "negative_sampler": "dans"},
    "complex": {
        "training_loop": "adversarial",
        "negative_sampler": "attributetyped",
        "model_kwargs": {"embedding_dim": 8, "interaction": "complex"},
    },
}


#: what each change of the code runs; the others are slow where the machine is busy
FAST = {"slcwa", "attributetyped", "complex"}


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in RUNS]
)
def test_by_name(name: str) -> None:
    result = run(**RUNS[name])
    assert isinstance(result.model, MKBE)
    assert len(result.losses) == 2
    assert all(torch.isfinite(torch.tensor(result.losses)))
    # twenty links of testing, from both sides; the three numbers are no links
    assert result.get_metric("both.realistic.count") == 40
    assert 0 < result.get_metric("mrr") <= 1


@pytest.mark.slow
def test_inverse_links() -> None:
    """The paper's setting: all objects, inverses of links only."""
    training, testing = DATA.training, DATA.testing
    inverse = training.clone_and_exchange_triples(training.mapped_triples, create_inverse_triples=True)
    result = run(dataset=None, training=inverse, testing=testing, training_loop="lcwa")
    assert result.model.num_relations == 2 * training.num_relations
    assert result.get_metric("both.realistic.count") == 40


def test_links_are_ranked_among_entities() -> None:
    """The evaluator gives what PyKEEN's gives, told to do so."""
    model = MKBE(triples_factory=DATA.training, embedding_dim=16, random_seed=0)
    triples = DATA.testing.mapped_triples
    ours = EntityRankingEvaluator().evaluate(
        model, triples, additional_filter_triples=DATA.training.mapped_triples, use_tqdm=False
    )
    theirs = RankBasedEvaluator().evaluate(
        model,
        DATA.testing.of_links(),
        additional_filter_triples=DATA.training.mapped_triples,
        restrict_entities_to=range(N),
        use_tqdm=False,
        batch_size=8,
    )
    for name in ("both.realistic.count", "mrr", "hits_at_3", "mean_rank", "head.pessimistic.hits_at_1"):
        assert ours.get_metric(name) == pytest.approx(theirs.get_metric(name)), name
    with pytest.raises(ConfigurationError, match="no link"):
        EntityRankingEvaluator().evaluate(model, DATA.testing.of_attribute("age"))


def test_values_are_ranked_among_their_attribute() -> None:
    model = MKBE(triples_factory=DATA.training, embedding_dim=16, random_seed=0).eval()
    triples = DATA.training.mapped_triples
    results = rank_values(model, triples, attributes=["job", "age"])
    assert set(results) == {"job", "age"}
    relation, ids = model.attribute_ids["age"]
    ranks = []
    with torch.no_grad():
        for h, r, t in triples[triples[:, 1] == relation].tolist():
            scores = model.score_t(torch.tensor([[h, r]]))[0, ids.start : ids.stop]
            ranks.append(1 + int((scores > scores[t - ids.start]).sum()))
    assert results["age"].get_metric("tail.optimistic.mrr") == pytest.approx(sum(1 / x for x in ranks) / len(ranks))
    assert set(rank_values(model, triples)) == set(DATA.training.attributes)
    with pytest.raises(ConfigurationError, match="'height' is none of"):
        rank_values(model, triples, attributes=["height"])


@pytest.mark.slow
def test_resumed(tmp_path: Path) -> None:
    kwargs = {**RUNS["kbgan"], "dataset": SMALL}
    checkpoint = {"checkpoint_name": "run.pt", "checkpoint_directory": tmp_path, "checkpoint_frequency": 0}
    unbroken = run(**kwargs, training_kwargs={"num_epochs": 4})
    run(**kwargs, training_kwargs={"num_epochs": 2, **checkpoint})
    resumed = run(**kwargs, training_kwargs={"num_epochs": 4, **checkpoint})
    assert resumed.losses == unbroken.losses


@pytest.mark.slow
def test_same_seed_same_bits_and_saved(tmp_path: Path) -> None:
    first, second = (run(**RUNS["attributetyped"]) for _ in range(2))
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)
    first.save_to_directory(tmp_path / "saved")
    loaded = torch.load(tmp_path / "saved" / "trained_model.pkl", weights_only=False)
    batch = DATA.testing.mapped_triples
    with torch.no_grad():
        assert torch.equal(loaded.eval().score_hrt(batch), first.model.eval().score_hrt(batch))


@pytest.mark.slow
def test_attributes_are_learnt() -> None:
    """Old users like war films: what links a user has tells which age is likelier."""
    result = run(
        dataset=SMALL,
        training_loop="adversarial",
        negative_sampler="attributetyped",
        negative_sampler_kwargs={"num_negs_per_pos": 8},
        training_kwargs={"num_epochs": 120},
        optimizer_kwargs={"lr": 0.02},
    )
    ranked = rank_values(result.model, SMALL.training.mapped_triples)
    assert set(ranked) == {"age", "genre"}
    for name, results in ranked.items():
        # a random order of n values gives about log(n) / n
        assert results.get_metric("tail.realistic.mrr") > 0.7, name


def slow_ranks(scores: torch.Tensor, relations: list[int], known: set[tuple[int, ...]], triples: Any) -> list[float]:
    ranks = []
    for row, (h, r, t) in zip(scores.tolist(), triples.tolist(), strict=True):
        true = row[relations.index(r)]
        better = equal = 0
        for score, other in zip(row, relations, strict=True):
            if other != r and (h, other, t) not in known:
                better += score > true
                equal += score == true
        ranks.append(1 + better + equal / 2)
    return ranks


@pytest.mark.parametrize("filtered", [True, False])
def test_relations_are_ranked(filtered: bool) -> None:
    model = MKBE(triples_factory=DATA.training, embedding_dim=16, random_seed=0).eval()
    relations = [1, 0, 3]
    triples = torch.cat([DATA.testing.mapped_triples, torch.tensor([[0, 0, 12], [0, 1, 12]])])
    evaluator = RelationRankingEvaluator(relations={1: 5.0, 0: 1.0, 3: 2.0}, filtered=filtered, batch_size=7)
    result = evaluator.evaluate(model, triples, additional_filter_triples=DATA.training.mapped_triples)
    ours = triples[torch.isin(triples[:, 1], torch.tensor(relations))]
    known = {tuple(x) for x in (*triples.tolist(), *DATA.training.mapped_triples.tolist())} if filtered else set()
    with torch.no_grad():
        scores = model.score_r(ours[:, [0, 2]])[:, relations]
    ranks = slow_ranks(scores, relations, known, ours)
    assert result.get_metric("mrr") == pytest.approx(sum(1 / r for r in ranks) / len(ranks))
    assert result.get_metric("hits@2") == pytest.approx(sum(r <= 2 for r in ranks) / len(ranks))
    values = torch.tensor([5.0, 1.0, 2.0])
    true = torch.tensor([values[relations.index(r)] for r in ours[:, 1].tolist()])
    best = values[scores.argmax(dim=1)]
    assert result.get_metric("best.rmse") == pytest.approx(float((best - true).square().mean().sqrt()), rel=1e-5)
    expected = scores.softmax(dim=1) @ values
    assert result.get_metric("rmse") == pytest.approx(float((expected - true).square().mean().sqrt()), rel=1e-4)
    assert result.to_df().shape[0] == len(result.to_flat_dict())


def test_relations_of_a_model_with_inverses_are_ranked() -> None:
    """By their ids in the graph, which are not those in the model."""
    training = DATA.training
    inverse = training.clone_and_exchange_triples(training.mapped_triples, create_inverse_triples=True)
    model = MKBE(triples_factory=inverse, embedding_dim=16, random_seed=0).eval()
    triples, relations = DATA.testing.of_links(), [0, 1, 3]
    result = RelationRankingEvaluator(relations=relations, filtered=False).evaluate(model, triples)
    with torch.no_grad():
        columns = []
        for relation in relations:
            batch = triples.clone()
            batch[:, 1] = 2 * relation
            columns.append(model.score_hrt(batch))
    ranks = slow_ranks(torch.cat(columns, dim=1), relations, set(), triples)
    assert result.get_metric("mrr") == pytest.approx(sum(1 / r for r in ranks) / len(ranks))


def test_scores_which_are_no_numbers_have_no_rank() -> None:
    model = MKBE(triples_factory=DATA.training, embedding_dim=4, random_seed=0)
    with torch.no_grad():
        model.entity_representations[0].entities._embeddings.weight.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="not finite"):
        RelationRankingEvaluator(relations=[0, 1]).evaluate(model, DATA.testing.of_links())


@pytest.mark.parametrize(
    ("metric", "direction"), [("expected.rmse", "minimize"), ("mae", "minimize"), ("h@1", "maximize")]
)
def test_a_study_knows_which_way_a_metric_goes(metric: str, direction: str) -> None:
    made = make_objective(
        model="mkbe",
        evaluator="relationranking",
        evaluator_kwargs={"relations": {0: 1.0, 1: 2.0}},
        metric=metric,
        dataset=DATA,
        negative_sampler="attributetyped",
    )
    assert made[1] == direction
    assert made[0].larger_is_better == (direction == "maximize")


@pytest.mark.slow
def test_relation_ranking_by_name() -> None:
    result = run(
        dataset=SMALL,
        training_loop="adversarial",
        negative_sampler="attributetyped",
        negative_sampler_kwargs={"num_negs_per_pos": 4, "relation_groups": [[0, 1]], "relation_share": 0.5},
        evaluator="relationranking",
        evaluator_kwargs={"relations": [0, 1]},
        training_kwargs={"num_epochs": 60},
        optimizer_kwargs={"lr": 0.02},
    )
    assert result.get_metric("hits_at_1") > 0.7, "who likes what can be learnt"
    assert result.get_metric("hits_at_2") == 1


def test_ties_are_realistic() -> None:
    class Constant(MKBE):
        pass

    model = Constant(triples_factory=DATA.training, embedding_dim=4, random_seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    result = RelationRankingEvaluator(relations=[0, 1, 2], filtered=False).evaluate(model, DATA.testing.of_links())
    assert result.get_metric("optimistic.mrr") == 1
    assert result.get_metric("realistic.mrr") == pytest.approx(0.5)
    assert result.get_metric("pessimistic.mrr") == pytest.approx(1 / 3)
    with pytest.raises(KeyError):
        result.get_metric("rmse")
    with pytest.raises(ValueError, match="none of mrr"):
        result.get_metric("colour")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"relations": [0]}, "at least two"), ({"relations": [0, 1], "temperature": 0}, "temperature")],
)
def test_bad_relation_ranking(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RelationRankingEvaluator(**kwargs)
    with pytest.raises(ConfigurationError, match="none of the relations"):
        RelationRankingEvaluator(relations=[4, 5]).evaluate(
            MKBE(triples_factory=DATA.training), DATA.testing.of_links()
        )

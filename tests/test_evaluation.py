"""The fast evaluator against a plain Python twin and against the host; metrics against those made by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.datasets import Dataset, Kinships, Nations
from pykeen.evaluation import RankBasedEvaluator, RankBasedMetricResults
from pykeen.metrics.ranking import HitsAtK, rank_based_metric_resolver
from pykeen.models import DistMult, Model, TransE, model_resolver
from pykeen.pipeline import pipeline
from pykeen.triples import CoreTriplesFactory

import pykeen_advneg
from pykeen_advneg.evaluation import FastRankBasedEvaluator, candidate_scores
from pykeen_advneg.filtering import TripleIndex
from pykeen_advneg.metrics import NDCGAt3, NDCGAt5, NDCGAtK
from pykeen_advneg.ranking import AnswerRanker, count_ranks

DATASETS: dict[tuple[type[Dataset], bool], Dataset] = {}
MODELS = ["TransE", "DistMult", "ComplEx", "RotatE", "TuckER", "UM", "RGCN", "ConvE"]


def _dataset(cls: type[Dataset], inverse: bool = False) -> Dataset:
    if (cls, inverse) not in DATASETS:
        DATASETS[cls, inverse] = cls(create_inverse_triples=inverse)
    return DATASETS[cls, inverse]


def _model(name: str, dataset: Dataset, weights: str = "random", **kwargs: Any) -> Model:
    """An untrained model, whose scores may have ties."""
    if name != "UM":
        kwargs["embedding_dim"] = 64 if name == "ConvE" else 16
    model = model_resolver.make(name, kwargs, triples_factory=dataset.training, random_seed=0)
    if weights == "integers":
        for parameter in model.parameters():
            parameter.data = (parameter.data * 3).round()
    elif weights == "twins":
        for parameter in model.entity_representations[0].parameters():
            parameter.data[1::2] = parameter.data[: len(parameter.data) - 1 : 2]
    return model


def _triples(dataset: Dataset, n: int = 150) -> torch.Tensor:
    assert dataset.validation is not None
    return dataset.validation.mapped_triples[:n]


def _both(
    model: Model, triples: torch.Tensor, mode: Any = None, **kwargs: Any
) -> tuple[RankBasedEvaluator, RankBasedEvaluator]:
    """Evaluate with both evaluators, and compare all they give; returned with their ranks."""
    options: dict[str, Any] = {"clear_on_finalize": False, "mode": mode}
    evaluators = RankBasedEvaluator(**options), FastRankBasedEvaluator(**options)
    host, ours = (e.evaluate(model, triples, **{"use_tqdm": False, **kwargs}) for e in evaluators)
    a, b = evaluators
    assert a.ranks.keys() == b.ranks.keys()
    for key, parts in a.ranks.items():
        np.testing.assert_array_equal(np.concatenate(b.ranks[key]), np.concatenate(parts), err_msg=str(key))
        assert b.ranks[key][0].dtype == parts[0].dtype
    for side, counts in a.num_candidates.items():
        np.testing.assert_array_equal(np.concatenate(b.num_candidates[side]), np.concatenate(counts))
    assert a.num_entities == b.num_entities
    assert type(ours) is type(host) is RankBasedMetricResults
    expected, given_ = host.to_flat_dict(), ours.to_flat_dict()
    assert list(given_) == list(expected)
    for key, value in expected.items():
        assert given_[key] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), key
    return evaluators


@pytest.mark.parametrize("weights", ["random", "integers", "twins"])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("dataset", [Nations, Kinships])
@pytest.mark.parametrize("model", MODELS)
def test_equals_host(model: str, dataset: type[Dataset], inverse: bool, weights: str) -> None:
    if model == "RGCN" and inverse:
        pytest.skip("the host's RGCN takes no inverse triples")
    if model in {"RotatE", "TuckER"} and weights == "integers":
        pytest.skip("its scores are no integers; equal ones differ by rounding, in the host as well as here")
    data = _dataset(dataset, inverse)
    _both(
        _model(model, data, weights),
        _triples(data),
        additional_filter_triples=data.training.mapped_triples,
        batch_size=32,
    )


def _options() -> Iterator[Any]:
    training = _dataset(Nations).training.mapped_triples
    few = [training[:300], training[200:700]]
    yield pytest.param({"additional_filter_triples": few}, id="list")
    yield pytest.param({"additional_filter_triples": []}, id="empty list")
    yield pytest.param({}, id="no filter triples")
    yield pytest.param({"targets": ["tail"]}, id="one target")
    yield pytest.param({"targets": {"head", "tail"}}, id="set of targets")
    yield pytest.param({"batch_size": 1}, id="batches of one")
    yield pytest.param({"batch_size": 7, "slice_size": 5}, id="slices")
    yield pytest.param({"batch_size": 10_000}, id="one batch")
    yield pytest.param({"restrict_entities_to": list(range(14))}, id="all entities")
    yield pytest.param({"restrict_entities_to": [0, 2, 3, 5, 7, 11], "pre_filtered_triples": False}, id="some entities")
    yield pytest.param({"restrict_entities_to": [5, 3, 3, 9], "do_time_consuming_checks": False}, id="unchecked")
    yield pytest.param({"restrict_relations_to": [1, 4, 9], "pre_filtered_triples": False}, id="some relations")


@pytest.mark.parametrize("options", list(_options()))
@pytest.mark.parametrize("model", ["DistMult", "ConvE"])
def test_options_equal_host(model: str, options: dict[str, Any]) -> None:
    data = _dataset(Nations)
    _both(_model(model, data, "integers"), _triples(data), **{"batch_size": 32, **options})


def test_sigmoid_equals_host() -> None:
    data = _dataset(Nations)
    model = _model("DistMult", data, predict_with_sigmoid=True)
    for parameter in model.parameters():
        parameter.data *= 20  # many scores become exactly 0 or 1
    a, _ = _both(model, _triples(data), batch_size=32)
    assert (a.ranks["tail", "optimistic"][0] != a.ranks["tail", "pessimistic"][0]).any()


def test_not_finite_scores_equal_host() -> None:
    data = _dataset(Nations)
    model = _model("DistMult", data)
    weights = model.entity_representations[0]._embeddings.weight.data
    weights[3], weights[7], weights[8] = math.nan, math.inf, -math.inf
    _both(model, _triples(data), batch_size=32, additional_filter_triples=data.training.mapped_triples)


@pytest.mark.parametrize("mode", ["training", "validation"])
def test_inductive_mode_equals_host(mode: Any) -> None:
    """The unseen graph has fewer entities than the training graph."""
    training = _dataset(Nations, inverse=True).training
    triples = training.mapped_triples[(training.mapped_triples[:, ::2] < 9).all(dim=-1)]
    unseen = CoreTriplesFactory(triples, 9, training.real_num_relations, create_inverse_triples=True)
    model = model_resolver.make(
        "InductiveNodePiece", triples_factory=training, inference_factory=unseen, num_tokens=3, random_seed=0
    )
    a, _ = _both(model, triples[:80], batch_size=32, mode=mode)
    assert a.num_entities == (14 if mode == "training" else 9)


def test_own_scoring_methods_are_used() -> None:
    class Own(DistMult):
        """Its scores are not those of its interaction."""

        def score_t(self, hr_batch: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            return -super().score_t(hr_batch, **kwargs)

    data = _dataset(Nations)
    own, base = (cls(triples_factory=data.training, random_seed=0) for cls in (Own, DistMult))
    batch = _triples(data)[:5]
    own.eval()
    torch.testing.assert_close(candidate_scores(batch, model=own, target="tail"), own.predict_t(batch[:, :2]))
    assert not torch.allclose(own.predict_t(batch[:, :2]), base.predict_t(batch[:, :2]))
    _both(own, _triples(data), batch_size=32)


def _twin(
    scores: list[list[float]],
    rows: list[int],
    true: list[int],
    known: set[tuple[int, int]] | None,
    candidates: list[int] | None,
) -> list[tuple[int, float, int, int]]:
    """Optimistic, realistic, pessimistic rank and number of candidates of each answer, one candidate after another."""
    result = []
    for row, answer in zip(rows, true, strict=True):
        better = equal = total = 0
        for i in range(len(scores[row])) if candidates is None else candidates:
            if known is not None and (row, i) in known and i != answer:
                continue
            better += scores[row][i] > scores[row][answer]
            equal += scores[row][i] == scores[row][answer]
            total += math.isfinite(scores[row][i])
        result.append((better + 1, (better + 1 + better + equal) / 2, better + equal, total))
    return result


@st.composite
def _rankings(draw: st.DrawFn) -> dict[str, Any]:
    n = draw(st.integers(1, 6))
    value = st.sampled_from([-1.0, 0.0, 1.0, 2.0, math.inf, -math.inf, math.nan])
    scores = draw(st.lists(st.lists(value, min_size=n, max_size=n), min_size=1, max_size=4))
    ids, queries = st.integers(0, n - 1), st.integers(0, len(scores) - 1)
    answers = draw(st.lists(st.tuples(queries, ids), min_size=1, max_size=8))
    known = draw(st.none() | st.sets(st.tuples(queries, ids)))
    return {
        "scores": scores,
        "rows": [row for row, _ in answers],
        "true": [answer for _, answer in answers],
        "known": None if known is None else known.union(answers),
        "candidates": draw(st.none() | st.lists(ids, min_size=1)),
    }


@given(ranking=_rankings())
@settings(max_examples=300, deadline=None)
def test_count_ranks_equals_twin(ranking: dict[str, Any]) -> None:
    known = ranking["known"]
    ranks = count_ranks(
        torch.tensor(ranking["scores"]),
        torch.tensor(ranking["true"]),
        torch.tensor(ranking["rows"]),
        None if known is None else tuple(torch.tensor(sorted(known)).view(-1, 2).t()),
        None if ranking["candidates"] is None else torch.tensor(ranking["candidates"]),
    )
    fields = ranks.optimistic, ranks.realistic, ranks.pessimistic, ranks.number_of_options
    assert list(zip(*(field.tolist() for field in fields), strict=True)) == _twin(**ranking)


@pytest.mark.parametrize("filtered", [False, True])
def test_evaluator_equals_twin(filtered: bool) -> None:
    """Also without the filter, where the host cannot evaluate."""
    data = _dataset(Nations)
    model, triples = _model("TransE", data, "integers"), _triples(data, 40)
    truth = {tuple(x) for x in torch.cat([triples, data.training.mapped_triples]).tolist()}
    evaluator = FastRankBasedEvaluator(filtered=filtered, clear_on_finalize=False)
    evaluator.evaluate(model, triples, additional_filter_triples=data.training.mapped_triples, use_tqdm=False)
    for column, side in ((0, "head"), (2, "tail")):
        expected = []
        for triple in triples:
            corrupted = triple.repeat(data.num_entities, 1)
            corrupted[:, column] = torch.arange(data.num_entities)
            scores = model.predict_hrt(corrupted).squeeze(-1).tolist()
            known = {(0, int(x[column])) for x in corrupted if tuple(x.tolist()) in truth} if filtered else None
            expected += _twin([scores], [0], [int(triple[column])], known, None)
        found = [evaluator.ranks[side, kind][0] for kind in ("optimistic", "realistic", "pessimistic")]
        np.testing.assert_array_equal(np.stack([*found, evaluator.num_candidates[side][0]], axis=-1), expected)


def test_relation_ranking_is_refused_as_in_the_host() -> None:
    data = _dataset(Nations)
    for evaluator in (RankBasedEvaluator(), FastRankBasedEvaluator()):
        with pytest.raises(NotImplementedError):
            evaluator.evaluate(_model("DistMult", data), _triples(data), targets=["relation"])


def test_unrestricted_triples_are_refused() -> None:
    data = _dataset(Nations)
    with pytest.raises(ValueError, match="not contained in restrict_entities_to"):
        FastRankBasedEvaluator().evaluate(_model("DistMult", data), _triples(data), restrict_entities_to=[0, 1])


def test_no_triples_are_refused() -> None:
    data = _dataset(Nations)
    with pytest.raises(ValueError, match="mapped_triples is empty"):
        FastRankBasedEvaluator().evaluate(
            _model("DistMult", data), _triples(data), restrict_relations_to=[], pre_filtered_triples=False
        )


@pytest.mark.parametrize("name", ["DistMult", "ConvE"])
def test_batch_size(name: str) -> None:
    data = _dataset(Nations)
    model = _model(name, data)
    evaluator = FastRankBasedEvaluator()
    evaluator.evaluate(model, _triples(data), use_tqdm=False)
    chosen = evaluator.batch_size
    assert chosen is not None
    assert 32 <= chosen * data.num_entities * 4 <= 2**28
    evaluator.evaluate(model, _triples(data), batch_size=5, use_tqdm=False)
    assert evaluator.batch_size == 5
    evaluator.evaluate(model, _triples(data), use_tqdm=False)
    assert evaluator.batch_size == chosen
    evaluator = FastRankBasedEvaluator(batch_size=3)
    evaluator.evaluate(model, _triples(data), use_tqdm=False)
    assert evaluator.batch_size == 3


def _ranker(limit: int, sizes: list[int]) -> AnswerRanker:
    def score(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return (batch[:, :1] * 7 + batch[:, 1:2] * 3 + torch.arange(20)) % 11 * 1.0

    return AnswerRanker(score, column=2)


def test_batches_are_halved_when_memory_runs_out() -> None:
    triples = torch.cartesian_prod(torch.arange(5), torch.arange(8), torch.tensor([3, 17]))[torch.randperm(80)]
    sizes: list[int] = []
    ranks, batch_size = _ranker(limit=9, sizes=sizes).rank(triples, 80, lambda _: None)
    expected, _ = _ranker(limit=1000, sizes=[]).rank(triples, 80, lambda _: None)
    assert batch_size == 10
    assert max(sizes[3:]) <= 9
    assert torch.equal(ranks.realistic, expected.realistic)
    with pytest.raises(MemoryError, match="single triple"):
        _ranker(limit=0, sizes=[]).rank(triples, 80, lambda _: None)


def test_other_errors_are_raised() -> None:
    def score(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no memory of this")

    with pytest.raises(RuntimeError, match="no memory of this"):
        AnswerRanker(score, column=2).rank(torch.zeros(4, 3, dtype=torch.long), 4, lambda _: None)


def test_each_query_is_scored_once() -> None:
    triples = torch.cartesian_prod(torch.arange(5), torch.arange(8), torch.tensor([3, 17]))
    sizes: list[int] = []
    _ranker(limit=1000, sizes=sizes).rank(triples, 80, lambda _: None)
    assert sizes == [40]


def test_index_is_kept_until_triples_change(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    class Counting(TripleIndex):
        def __init__(self, triples: torch.Tensor) -> None:
            built.append(len(triples))
            super().__init__(triples)

    monkeypatch.setattr("pykeen_advneg.evaluation.TripleIndex", Counting)
    data = _dataset(Nations)
    model, triples, training = _model("DistMult", data), _triples(data).clone(), data.training.mapped_triples.clone()
    evaluator = FastRankBasedEvaluator()
    for expected in (1, 1):
        evaluator.evaluate(model, triples, additional_filter_triples=[training], use_tqdm=False)
        assert len(built) == expected
    training[0] = training[1]
    evaluator.evaluate(model, triples, additional_filter_triples=[training], use_tqdm=False)
    evaluator.evaluate(model, triples, additional_filter_triples=[], use_tqdm=False)
    assert built == [1742, 1742, 150]


@pytest.mark.slow
def test_pipeline_with_early_stopping() -> None:
    pykeen_advneg.register()
    results = []
    for hint in ("rankbased", "fastrankbased"):
        result = pipeline(
            dataset="nations",
            model="transe",
            evaluator=hint,
            stopper="early",
            stopper_kwargs={"frequency": 2, "patience": 5, "metric": "both.realistic.amri"},
            training_kwargs={
                "num_epochs": 6,
                "use_tqdm": False,
                "callbacks": "evaluation",
                "callbacks_kwargs": {
                    "evaluation_triples": _triples(_dataset(Nations)),
                    "evaluator": hint,
                    "prefix": "callback",
                    "use_tqdm": False,
                },
            },
            random_seed=1,
            use_tqdm=False,
        )
        results.append(result)
    host, ours = results
    assert isinstance(ours.stopper.evaluator, FastRankBasedEvaluator)
    assert ours.stopper.evaluation_batch_size == ours.stopper.evaluator.batch_size
    assert len(ours.stopper.results) == 3
    assert ours.stopper.results == pytest.approx(host.stopper.results, rel=1e-6)
    assert ours.losses == host.losses
    expected = host.metric_results.to_flat_dict()
    assert dict(ours.metric_results.to_flat_dict()) == pytest.approx(dict(expected), rel=1e-6, abs=1e-6, nan_ok=True)


def test_encodings_of_old_weights_are_not_evaluated() -> None:
    """R-GCN keeps the encodings of its last call; PyKEEN's stopper loads the best weights and does not tell it."""
    factory = Nations().training
    model, other = (
        model_resolver.make("rgcn", {"embedding_dim": 8, "random_seed": seed}, triples_factory=factory)
        for seed in range(2)
    )
    before = FastRankBasedEvaluator().evaluate(model, factory.mapped_triples, use_tqdm=False)
    model.load_state_dict(other.state_dict())
    after = FastRankBasedEvaluator().evaluate(model, factory.mapped_triples, use_tqdm=False)
    expected = RankBasedEvaluator().evaluate(other, factory.mapped_triples, use_tqdm=False)
    assert after.get_metric("mrr") == pytest.approx(expected.get_metric("mrr"))
    assert after.get_metric("mrr") != pytest.approx(before.get_metric("mrr"))


def test_weights_and_mode_are_left_as_the_host_leaves_them() -> None:
    data = _dataset(Nations)
    model = TransE(triples_factory=data.training, random_seed=0).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    FastRankBasedEvaluator().evaluate(model, _triples(data), use_tqdm=False)
    assert not model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.score_hrt(_triples(data)).sum().backward()  # no inference tensors are left behind


@pytest.mark.cuda
def test_cuda() -> None:
    data = _dataset(Kinships)
    model = _model("TransE", data, "integers").cuda()
    _both(model, _triples(data), additional_filter_triples=data.training.mapped_triples)


def test_confidence_equals_host() -> None:
    data = _dataset(Nations)
    a, b = _both(_model("DistMult", data), _triples(data), batch_size=32)
    expected = a.finalize_with_confidence(n_boot=3)
    for key, value in b.finalize_with_confidence(n_boot=3).items():
        assert value == pytest.approx(expected[key], rel=1e-6, abs=1e-6, nan_ok=True)


@pytest.fixture
def _ndcg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the metrics, for one test."""
    for name in ("lookup_dict", "synonyms"):
        monkeypatch.setattr(rank_based_metric_resolver, name, dict(getattr(rank_based_metric_resolver, name)))
    for cls in (NDCGAtK, NDCGAt3, NDCGAt5):
        rank_based_metric_resolver.register(cls, raise_on_conflict=False)


RANKS = np.array([1, 2, 2.5, 5, 5.5, 40])


def test_ndcg_by_hand() -> None:
    gains = [1, 1 / math.log2(3), 1 / math.log2(3.5), 1 / math.log2(6)]
    assert NDCGAt5()(RANKS) == pytest.approx(sum(gains) / 6)
    assert NDCGAtK(k=10)(RANKS) == pytest.approx((sum(gains) + 1 / math.log2(6.5)) / 6)
    assert NDCGAtK(k=1)(RANKS) == HitsAtK(k=1)(RANKS)
    weights = np.array([3.0, 0, 0, 1, 0, 4])
    assert NDCGAt5()(RANKS, weights=weights) == pytest.approx((3 + gains[3]) / 8)


def test_ndcg_moments_by_enumeration() -> None:
    metric = NDCGAtK(k=3)
    sizes = np.array([2, 5])
    values = [metric(np.array([i, j])) for i in range(1, 3) for j in range(1, 6)]
    assert metric.expected_value(sizes) == pytest.approx(np.mean(values))
    assert metric.variance(sizes) == pytest.approx(np.var(values))
    weights = np.array([1.0, 3.0])
    values = [metric(np.array([i, j]), weights=weights) for i in range(1, 3) for j in range(1, 6)]
    assert metric.expected_value(sizes, weights=weights) == pytest.approx(np.mean(values))
    assert metric.variance(sizes, weights=weights) == pytest.approx(np.var(values))


def test_ndcg_needs_positive_k() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        NDCGAtK(k=0)


@pytest.mark.parametrize(
    ("name", "key"),
    [("ndcg", "10"), ("ndcg@10", "10"), ("ndcg_at_10", "10"), ("ndcg@5", "5"), ("ndcg_at_5", "5"), ("ndcg_at_3", "3")],
)
@pytest.mark.usefixtures("_ndcg")
def test_ndcg_by_name(name: str, key: str) -> None:
    assert issubclass(rank_based_metric_resolver.lookup(name), NDCGAtK)
    assert RankBasedMetricResults.key_from_string(f"tail.optimistic.{name}") == (
        "tail",
        "optimistic",
        f"ndcg_at_{key}",
    )


@pytest.mark.usefixtures("_ndcg")
def test_ndcg_in_results() -> None:
    data = _dataset(Nations)
    evaluator = FastRankBasedEvaluator(metrics="ndcg_at_k", metrics_kwargs={"k": 7}, clear_on_finalize=False)
    result = evaluator.evaluate(_model("DistMult", data), _triples(data), use_tqdm=False)
    ranks = evaluator.ranks["tail", "realistic"][0]
    assert result.to_flat_dict()["tail.realistic.ndcg_at_7"] == pytest.approx(NDCGAtK(k=7)(ranks))
    assert result.get_metric("tail.ndcg@5") == pytest.approx(NDCGAt5()(ranks))


def test_like_has_the_settings_and_values_of_the_other() -> None:
    dataset = _dataset(Nations)
    model = _model("DistMult", dataset)
    other = RankBasedEvaluator(metrics=["hits@k"], metrics_kwargs=[{"k": 7}], add_defaults=False)
    fast = FastRankBasedEvaluator.like(other)
    values = []
    for evaluator in (other, fast):
        result = evaluator.evaluate(
            model, _triples(dataset), additional_filter_triples=dataset.training.mapped_triples, use_tqdm=False
        )
        values.append(result.to_flat_dict())
    assert [str(metric) for metric in fast.metrics] == [str(metric) for metric in other.metrics]
    assert values[0].keys() == values[1].keys()
    assert any("hits_at_7" in key for key in values[0])
    assert values[1] == pytest.approx(values[0])


def test_early_stopping_takes_the_fast_evaluator(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the loop ``adversarial`` only; afterwards PyKEEN's is there again."""
    calls: list[str] = []
    evaluate = FastRankBasedEvaluator.evaluate
    monkeypatch.setattr(
        FastRankBasedEvaluator,
        "evaluate",
        lambda self, *args, **kwargs: calls.append("") or evaluate(self, *args, **kwargs),
    )
    for loop, expected in (("slcwa", 0), ("adversarial", 3)):
        calls.clear()
        result = pipeline(
            dataset="nations",
            model="distmult",
            training_loop=loop,
            negative_sampler="basic",
            stopper="early",
            stopper_kwargs={"frequency": 1, "patience": 10},
            training_kwargs={"num_epochs": 3, "use_tqdm": False},
            evaluation_kwargs={"use_tqdm": False},
            random_seed=0,
        )
        assert len(calls) == expected
        stopper: Any = result.stopper
        assert type(stopper.evaluator) is RankBasedEvaluator
        assert len(stopper.results) == 3

"""Evaluation of relations which exclude each other, e.g., ratings: their ranks, and the errors of their values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from pykeen.constants import TARGET_TO_INDEX
from pykeen.evaluation import Evaluator, MetricResults
from pykeen.models import Model
from pykeen.typing import COLUMN_RELATION, FloatTensor, LongTensor, MappedTriples, Target
from typing_extensions import override

from ..errors import ConfigurationError, DivergenceError
from ..filtering import ExactFilterer
from ..scoring import Scorer

__all__ = ["RelationRankingEvaluator", "RelationRankingKey", "RelationRankingResults"]

_HITS = re.compile(r"^(?:hits?_at_|hits@|h@)(\d+)$")
_TYPES = ("optimistic", "realistic", "pessimistic")
#: metrics of values, which are better if they are smaller
_ERRORS = frozenset({"rmse", "mae"})


class RelationRankingKey(NamedTuple):
    """The name of a metric."""

    #: ``optimistic``, ``realistic`` or ``pessimistic`` for ranks; ``best`` or ``expected`` for values
    kind: str

    #: ``mrr``, ``hits_at_K``, ``rmse``, ``mae``
    metric: str


class RelationRankingResults(MetricResults[RelationRankingKey]):
    """Results of :class:`RelationRankingEvaluator`."""

    @classmethod
    @override
    def key_from_string(cls, s: str | None) -> RelationRankingKey:
        kind, _, metric = (s or "mrr").rpartition(".")
        metric = {"inverse_harmonic_mean_rank": "mrr", "mean_reciprocal_rank": "mrr"}.get(metric, metric.lower())
        hits = _HITS.match(metric)
        if hits:
            metric = f"hits_at_{hits[1]}"
        if metric in _ERRORS:
            kind = kind or "expected"
        elif metric != "mrr" and not hits:
            raise ValueError(f"metric {s!r} is none of mrr, hits_at_K, rmse, mae, optionally after a kind and a dot.")
        return RelationRankingKey(kind or "realistic", metric)

    @classmethod
    def is_increasing(cls, metric: str | None) -> bool:
        """Tell whether more is better, as it is of hits and reciprocal ranks, and is not of errors.

        :param metric: the name of a metric

        :returns: whether it is

        :raises ValueError: if there is no such metric
        """
        return cls.key_from_string(metric).metric not in _ERRORS


class RelationRankingEvaluator(Evaluator[RelationRankingKey]):
    r"""Ranks the relation of a triple among relations which exclude each other, e.g., a rating among five.

    PyKEEN evaluates heads and tails only (pykeen#728). Here, the candidates for $(h, ?, t)$ are the given relations;
    those which are known of $h$ and $t$ in other triples do not count, if filtered. Triples with any other relation are
    left out. Relations are told by their ids in the graph, also where the model has inverse relations.

    With values $v_1, \ldots, v_n$ of the relations, two predictions are compared with the true value: that of the
    ``best`` relation, and the ``expected`` one, $\sum_i \mathrm{softmax}(s / \tau)_i v_i$, for their root mean squared
    error and mean absolute error.
    """

    metric_result_cls = RelationRankingResults

    def __init__(
        self,
        *,
        relations: Mapping[int, float] | Sequence[int],
        ks: Sequence[int] = (1, 2, 3),
        temperature: float = 1.0,
        filtered: bool = True,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize the evaluator.

        :param relations: the ids of the relations; or the value of each by its id
        :param ks: for which ranks hits are counted
        :param temperature: the temperature of the softmax of the expected value
        :param filtered: whether other known relations of a pair do not count
        :param batch_size: how many triples are scored at once; None: 4,096
        :param kwargs: keyword-based parameters of :class:`pykeen.evaluation.Evaluator`

        :raises ConfigurationError: if there are fewer than two relations, or if the temperature is not positive
        """
        super().__init__(filtered=filtered, batch_size=batch_size, **kwargs)
        if len(set(map(int, relations))) < 2:  # noqa: PLR2004
            raise ConfigurationError(f"relations={relations!r}: give the ids of at least two.")
        if not temperature > 0:
            raise ConfigurationError(f"temperature={temperature!r} must be greater than 0.")
        # the keys of JSON are strings
        self.relations = torch.as_tensor([int(i) for i in relations], dtype=torch.long)
        self.values = (
            torch.as_tensor(list(relations.values()), dtype=torch.double) if isinstance(relations, Mapping) else None
        )
        self.ks, self.temperature = tuple(ks), temperature
        self.clear()

    @override
    def clear(self) -> None:
        self._ranks: dict[str, list[LongTensor]] = {kind: [] for kind in _TYPES[::2]}
        self._errors: dict[str, list[FloatTensor]] = {"best": [], "expected": []}

    @override
    def evaluate(  # type: ignore[override]
        self,
        model: Model,
        mapped_triples: MappedTriples,
        batch_size: int | None = None,
        slice_size: int | None = None,
        device: torch.device | None = None,
        additional_filter_triples: MappedTriples | list[MappedTriples] | None = None,
        **kwargs: Any,
    ) -> RelationRankingResults:
        """Evaluate a model.

        :param model: the model
        :param mapped_triples: shape: ``(n, 3)``
        :param batch_size: how many triples are scored at once
        :param slice_size: of no concern here
        :param device: where; None: where the model is
        :param additional_filter_triples: other known triples
        :param kwargs: what else the host's evaluators know; of no concern here

        :returns: the results

        :raises ConfigurationError: if no triple has one of the relations
        :raises DivergenceError: if a score is not finite
        """
        model.eval()
        if device is not None:
            model = model.to(device)
        if torch.is_tensor(additional_filter_triples):
            additional_filter_triples = [additional_filter_triples]
        known = torch.cat([mapped_triples, *(additional_filter_triples or [])])
        filterer = ExactFilterer(known).to(model.device) if self.filtered else None
        triples = mapped_triples[torch.isin(mapped_triples[:, COLUMN_RELATION], self.relations)]
        if not len(triples):
            raise ConfigurationError(f"mapped_triples has none of the relations {self.relations.tolist()}; check them.")
        scorer, relations = Scorer(model, self.mode), self.relations.to(model.device)
        scored = _ids_of_model(model, relations)
        self.clear()
        with torch.inference_mode():
            for batch in triples.to(model.device).split(batch_size or self.batch_size or 4096):
                scores = scorer.candidates(batch, COLUMN_RELATION, scored)
                mask = None
                if filterer is not None:
                    candidates = batch.unsqueeze(1).repeat(1, len(relations), 1)
                    candidates[:, :, COLUMN_RELATION] = relations
                    mask = filterer.contains(candidates)
                self.process_scores_(batch, "relation", scores, dense_positive_mask=cast(FloatTensor, mask))
        return self.finalize()

    @override
    def process_scores_(
        self,
        hrt_batch: MappedTriples,
        target: Target,
        scores: FloatTensor,
        true_scores: FloatTensor | None = None,
        dense_positive_mask: FloatTensor | None = None,
    ) -> None:
        """Rank the relations of a batch.

        :param hrt_batch: shape: ``(b, 3)``
        :param target: always the relation
        :param scores: of the candidates, shape: ``(b, n)``
        :param true_scores: of no concern here: they are among the scores
        :param dense_positive_mask: which candidates are known, shape: ``(b, n)``

        :raises DivergenceError: if a score is not finite
        """
        assert TARGET_TO_INDEX[target] == COLUMN_RELATION
        if not bool(scores.isfinite().all()):
            # nothing is greater than what is no number, which would be ranked first
            raise DivergenceError("The scores of relations are not finite: the model has diverged; lower its rate.")
        is_true = hrt_batch[:, COLUMN_RELATION, None] == self.relations.to(hrt_batch.device)
        true = scores[is_true].unsqueeze(-1)
        rivals = ~is_true if dense_positive_mask is None else ~(is_true | dense_positive_mask.bool())
        self._ranks["optimistic"].append(1 + ((scores > true) & rivals).sum(dim=-1).cpu())
        self._ranks["pessimistic"].append(1 + ((scores >= true) & rivals).sum(dim=-1).cpu())
        if self.values is not None:
            scores, values = scores.cpu().double(), self.values
            wanted = is_true.cpu().double() @ values
            self._errors["best"].append(values[scores.argmax(dim=-1)] - wanted)
            self._errors["expected"].append((scores / self.temperature).softmax(dim=-1) @ values - wanted)

    @override
    def finalize(self) -> RelationRankingResults:
        ranks = {kind: torch.cat(parts).double() for kind, parts in self._ranks.items()}
        ranks["realistic"] = (ranks["optimistic"] + ranks["pessimistic"]) / 2
        data: dict[RelationRankingKey | str, float] = {}
        for kind in _TYPES:
            data[RelationRankingKey(kind, "mrr")] = ranks[kind].reciprocal().mean().item()
            for k in self.ks:
                data[RelationRankingKey(kind, f"hits_at_{k}")] = (ranks[kind] <= k).double().mean().item()
        if self.values is not None:
            for kind, parts in self._errors.items():
                errors = torch.cat(parts)
                data[RelationRankingKey(kind, "rmse")] = math.sqrt(errors.square().mean().item())
                data[RelationRankingKey(kind, "mae")] = errors.abs().mean().item()
        self.clear()
        return RelationRankingResults(data)


def _ids_of_model(model: Model, relations: LongTensor) -> LongTensor:
    """Turn ids of relations in the graph into those which they have in a model with inverse relations."""
    if not model.use_inverse_triples:
        return relations
    return model.relation_inverter.map(batch=relations.unsqueeze(-1), index=0).squeeze(-1)

"""Evaluation of graphs with values: links among entities, values of an attribute, relations which exclude others."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from pykeen.constants import TARGET_TO_INDEX
from pykeen.evaluation import Evaluator, MetricResults
from pykeen.evaluation.rank_based_evaluator import RankBasedMetricResults
from pykeen.models import Model
from pykeen.typing import COLUMN_RELATION, LABEL_HEAD, LABEL_TAIL, FloatTensor, LongTensor, MappedTriples, Target
from typing_extensions import override

from ..errors import ConfigurationError
from ..evaluation import FastRankBasedEvaluator
from ..filtering import ExactFilterer
from ..scoring import Scorer
from .mkbe import MKBE

__all__ = [
    "EntityRankingEvaluator",
    "RelationRankingEvaluator",
    "RelationRankingKey",
    "RelationRankingResults",
    "rank_values",
]

_HITS = re.compile(r"^(?:hits?_at_|hits@|h@)(\d+)$")
_TYPES = ("optimistic", "realistic", "pessimistic")


class EntityRankingEvaluator(FastRankBasedEvaluator):
    """The evaluator ``fastrankbased`` on links alone: values are no candidates, and triples with values are left out.

    On a model without attributes, it is ``fastrankbased``.
    """

    @override
    def evaluate(
        self,
        model: Model,
        mapped_triples: MappedTriples,
        batch_size: int | None = None,
        slice_size: int | None = None,
        device: torch.device | None = None,
        use_tqdm: bool = True,
        tqdm_kwargs: Mapping[str, Any] | None = None,
        restrict_entities_to: Collection[int] | None = None,
        restrict_relations_to: Collection[int] | None = None,
        do_time_consuming_checks: bool = True,
        additional_filter_triples: MappedTriples | list[MappedTriples] | None = None,
        pre_filtered_triples: bool = True,
        targets: Collection[Target] = (LABEL_HEAD, LABEL_TAIL),
    ) -> RankBasedMetricResults:
        if isinstance(model, MKBE) and model.num_link_entities < model.num_entities:
            is_link = (mapped_triples[:, [0, 2]] < model.num_link_entities).all(dim=-1)
            if not bool(is_link.any()):
                raise ConfigurationError("mapped_triples has no link; rank values by rank_values.")
            if not bool(is_link.all()):
                mapped_triples = mapped_triples[is_link]
            if restrict_entities_to is None:
                restrict_entities_to, do_time_consuming_checks = range(model.num_link_entities), False
        return super().evaluate(
            model,
            mapped_triples,
            batch_size=batch_size,
            slice_size=slice_size,
            device=device,
            use_tqdm=use_tqdm,
            tqdm_kwargs=tqdm_kwargs,
            restrict_entities_to=restrict_entities_to,
            restrict_relations_to=restrict_relations_to,
            do_time_consuming_checks=do_time_consuming_checks,
            additional_filter_triples=additional_filter_triples,
            pre_filtered_triples=pre_filtered_triples,
            targets=targets,
        )


def rank_values(
    model: MKBE,
    mapped_triples: MappedTriples,
    additional_filter_triples: Sequence[MappedTriples] = (),
    attributes: Collection[str] | None = None,
    **kwargs: Any,
) -> dict[str, RankBasedMetricResults]:
    """Rank the true value of an attribute among all values of this attribute.

    :param model: the model
    :param mapped_triples: the triples, of which those of attributes are evaluated, shape: ``(n, 3)``
    :param additional_filter_triples: other known triples, whose values do not count
    :param attributes: which attributes; None: all which occur
    :param kwargs: keyword-based parameters of :meth:`FastRankBasedEvaluator.evaluate`

    :returns: PyKEEN's results by attribute

    :raises ConfigurationError: if there is no such attribute
    """
    unknown = sorted(set(attributes or ()) - set(model.attribute_ids))
    if unknown:
        raise ConfigurationError(f"attribute {unknown[0]!r} is none of {sorted(model.attribute_ids)}.")
    results = {}
    for name, (relation, ids) in model.attribute_ids.items():
        triples = mapped_triples[mapped_triples[:, COLUMN_RELATION] == relation]
        if not len(triples) or (attributes is not None and name not in attributes):
            continue
        results[name] = FastRankBasedEvaluator().evaluate(
            model,
            triples,
            restrict_entities_to=ids,
            do_time_consuming_checks=False,
            targets=[LABEL_TAIL],
            additional_filter_triples=list(additional_filter_triples),
            use_tqdm=False,
            **kwargs,
        )
    return results


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
        if metric in {"rmse", "mae"}:
            kind = kind or "expected"
        elif metric != "mrr" and not hits:
            raise ValueError(f"metric {s!r} is none of mrr, hits_at_K, rmse, mae, optionally after a kind and a dot.")
        return RelationRankingKey(kind or "realistic", metric)


class RelationRankingEvaluator(Evaluator[RelationRankingKey]):
    r"""Ranks the relation of a triple among relations which exclude each other, e.g., a rating among five.

    PyKEEN evaluates heads and tails only (pykeen#728). Here, the candidates for $(h, ?, t)$ are the given relations;
    those which are known of $h$ and $t$ in other triples do not count, if filtered. Triples with any other relation are
    left out.

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
        self.clear()
        with torch.inference_mode():
            for batch in triples.to(model.device).split(batch_size or self.batch_size or 4096):
                scores = scorer.candidates(batch, COLUMN_RELATION, relations)
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
        """
        assert TARGET_TO_INDEX[target] == COLUMN_RELATION
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

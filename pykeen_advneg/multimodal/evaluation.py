"""Evaluation of graphs with values: links among entities, values of an attribute, relations which exclude others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from pykeen.evaluation.rank_based_evaluator import RankBasedMetricResults
from pykeen.models import Model
from pykeen.typing import COLUMN_RELATION, LABEL_HEAD, LABEL_TAIL, MappedTriples, Target
from typing_extensions import override

from ..errors import ConfigurationError
from ..evaluation import FastRankBasedEvaluator
from .mkbe import MKBE
from .relation_ranking import RelationRankingEvaluator, RelationRankingKey, RelationRankingResults

__all__ = [
    "EntityRankingEvaluator",
    "RelationRankingEvaluator",
    "RelationRankingKey",
    "RelationRankingResults",
    "rank_values",
]


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

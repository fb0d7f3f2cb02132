"""A rank-based evaluator with the host's values: queries scored once, known answers looked up, ranks by counting."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, cast

import torch
from class_resolver import OneOrManyHintOrType, OneOrManyOptionalKwargs
from pykeen.constants import TARGET_TO_INDEX
from pykeen.evaluation import RankBasedEvaluator
from pykeen.evaluation.rank_based_evaluator import RankBasedMetricResults
from pykeen.evaluation.ranks import Ranks
from pykeen.metrics.ranking import RankBasedMetric
from pykeen.models import ERModel, Model
from pykeen.typing import (
    COLUMN_HEAD,
    COLUMN_RELATION,
    COLUMN_TAIL,
    LABEL_HEAD,
    LABEL_TAIL,
    FloatTensor,
    InductiveMode,
    MappedTriples,
    Target,
)
from tqdm.auto import tqdm

from .filtering import TripleIndex
from .queries import query_form
from .queries.lookups import forget_encodings
from .ranking import AnswerRanker
from .scoring import Scorer

__all__ = ["FastRankBasedEvaluator", "candidate_scores"]

#: the largest memory of the scores of one batch, in bytes
_MAX_BYTES = 2**28
#: what is enough on the CPU, where matrices which fit into the cache are faster, and a number of queries which is not
_CPU_BYTES = 2**23
_CPU_QUERIES = 32

#: the methods of a model which define its predictions
_PREDICTION = ("predict", "predict_h", "predict_t", "score_h", "score_t", "score_h_inverse")


def _has_query_form(model: Model) -> bool:
    """Whether the scores of all candidates need no term for each candidate and dimension."""
    return (
        isinstance(model, ERModel)
        and all(getattr(type(model), name) is getattr(ERModel, name) for name in _PREDICTION)
        and query_form(model.interaction) is not None
    )


def candidate_scores(
    hrt_batch: MappedTriples,
    *,
    model: Model,
    target: Target,
    mode: InductiveMode | None = None,
    slice_size: int | None = None,
) -> FloatTensor:
    """Score all candidates of a slot as the host predicts: heads by inverse relations, and with its sigmoid if any.

    :param hrt_batch: shape: ``(b, 3)``, whose target slot does not matter
    :param model: the model, in evaluation mode
    :param target: the slot
    :param mode: the inductive mode; ``None``: transductive
    :param slice_size: the host's slice size, for models which only the host can score

    :returns: shape: ``(b, num_candidates)``
    """
    if not _has_query_form(model):
        return model.predict(hrt_batch=hrt_batch, target=target, mode=mode, slice_size=slice_size)
    column = TARGET_TO_INDEX[target]
    if model.use_inverse_triples:
        invert = column == COLUMN_HEAD
        hrt_batch = model.relation_inverter.map(batch=hrt_batch, index=COLUMN_RELATION, invert=invert)
        if invert:
            hrt_batch, column = hrt_batch.flip(dims=[-1]), COLUMN_TAIL
    scores = Scorer(model, mode).candidates(hrt_batch, column)
    return scores.sigmoid() if model.predict_with_sigmoid else scores


def _bytes_per_query(model: Model, mode: InductiveMode | None) -> int:
    """Estimate the memory of the scores of one query, in bytes."""
    size = 4 * model._get_entity_len(mode=mode)
    if _has_query_form(model) or not isinstance(model, ERModel):
        return size
    shapes = [representation.shape for representation in model.entity_representations]
    return size * max((math.prod(shape) for shape in shapes), default=1)


class FastRankBasedEvaluator(RankBasedEvaluator):
    """The host's rank-based evaluator in batched form.

    The constructor, the arguments of :meth:`evaluate`, the keys and the values are those of
    :class:`pykeen.evaluation.RankBasedEvaluator`. What is different:

    - each query is scored once, however many of the triples ask it, by :class:`pykeen_advneg.Scorer`;
    - the known answers come from an index, which is kept between calls with the same triples, instead of a comparison
      of each query with each known triple;
    - ranks are counted without masking scores;
    - without ``batch_size``, a batch is as large as a bound on memory allows;
    - ``filtered=False`` works.

    .. note::

        Scores are computed in another order than in the host, and differ by rounding. Candidates whose scores are equal
        up to rounding may therefore change places, most of all those of an untrained model in single precision.
    """

    def __init__(
        self,
        filtered: bool = True,
        metrics: OneOrManyHintOrType[RankBasedMetric] = None,
        metrics_kwargs: OneOrManyOptionalKwargs = None,
        add_defaults: bool = True,
        clear_on_finalize: bool = True,
        **kwargs: Any,
    ) -> None:
        """Initialize the evaluator.

        :param filtered: whether other known answers of a query are left out of the ranking
        :param metrics: the rank-based metrics to compute
        :param metrics_kwargs: additional keyword parameters of the metrics
        :param add_defaults: whether to add all default metrics
        :param clear_on_finalize: whether to drop the ranks once the metrics are computed
        :param kwargs: additional keyword parameters of :class:`pykeen.evaluation.Evaluator`; its ``batch_size`` is used
            where :meth:`evaluate` gets none
        """
        super().__init__(
            filtered=filtered,
            metrics=metrics,
            metrics_kwargs=metrics_kwargs,
            add_defaults=add_defaults,
            clear_on_finalize=clear_on_finalize,
            **kwargs,
        )
        self._default_batch_size = self.batch_size
        self._filter_triples: list[MappedTriples] = []
        self._indexed: list[tuple[MappedTriples, int]] = []
        self._index: TripleIndex | None = None

    @classmethod
    def like(cls, evaluator: RankBasedEvaluator) -> FastRankBasedEvaluator:
        """Make an evaluator which gives the values of another.

        :param evaluator: an evaluator of PyKEEN

        :returns: one with the same settings and metrics
        """
        return cls(
            filtered=evaluator.filtered,
            metrics=evaluator.metrics,
            add_defaults=False,
            clear_on_finalize=evaluator.clear_on_finalize,
            batch_size=evaluator.batch_size,
            slice_size=evaluator.slice_size,
            mode=evaluator.mode,
        )

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
        """Evaluate a model; the arguments are those of :meth:`pykeen.evaluation.Evaluator.evaluate`.

        The batch size used is :attr:`batch_size` afterwards.
        """
        if torch.is_tensor(additional_filter_triples):
            additional_filter_triples = [additional_filter_triples]
        self._filter_triples = additional_filter_triples or []
        result = super().evaluate(
            model=model,
            mapped_triples=mapped_triples,
            batch_size=batch_size,
            slice_size=slice_size,
            device=None if device is None else torch.device(device),
            use_tqdm=use_tqdm,
            tqdm_kwargs=tqdm_kwargs,
            restrict_entities_to=restrict_entities_to,
            restrict_relations_to=restrict_relations_to,
            do_time_consuming_checks=do_time_consuming_checks,
            # the host would sort all of them in each evaluation; without any, it warns
            additional_filter_triples=None if additional_filter_triples is None else [],
            pre_filtered_triples=pre_filtered_triples,
            targets=targets,
        )
        return cast("RankBasedMetricResults", result)

    @torch.inference_mode()
    def _evaluate_on_device(
        self,
        model: Model,
        mapped_triples: MappedTriples,
        batch_size: int | None,
        slice_size: int | None,
        device: torch.device,
        all_pos_triples: MappedTriples | None,
        targets: Collection[Target],
        tqdm_kwargs: Mapping[str, Any],
        **kwargs: Any,
    ) -> RankBasedMetricResults:
        if not len(mapped_triples):
            raise ValueError("mapped_triples is empty, maybe after a restriction; pass at least one triple.")
        model.eval()
        model = model.to(device)
        # whoever loaded weights since the last evaluation, maybe PyKEEN's own stopper, left old encodings behind
        forget_encodings(model)
        index = self._get_index(mapped_triples, device) if self.filtered else None
        triples = mapped_triples.to(device)
        batch_size = batch_size or self._default_batch_size or self._choose_batch_size(model, device)
        self.clear()
        options = {"desc": f"Evaluating on {device}", "total": len(targets) * len(triples), "unit": "rank"}
        with tqdm(**{**options, **tqdm_kwargs}) as progress_bar:
            for target in targets:
                score = partial(candidate_scores, model=model, target=target, mode=self.mode, slice_size=slice_size)
                ranker = AnswerRanker(score, TARGET_TO_INDEX[target], index, kwargs.get("restrict_entities_to"))
                ranks, batch_size = ranker.rank(triples, batch_size, progress_bar.update)
                self._store(target, ranks)
                self.num_entities = ranker.num_candidates
        self.batch_size, self.slice_size = batch_size, slice_size
        return self.finalize()

    def _store(self, target: Target, ranks: Ranks) -> None:
        """Store ranks where the host's metrics look for them."""
        for rank_type, values in ranks.items():
            self.ranks[target, rank_type].append(values.cpu().numpy())
        self.num_candidates[target].append(ranks.number_of_options.cpu().numpy())

    def _choose_batch_size(self, model: Model, device: torch.device) -> int:
        """Give the number of queries whose scores fit into the bound on memory."""
        size = _bytes_per_query(model, self.mode)
        maximum = max(1, _MAX_BYTES // size)
        return min(maximum, max(_CPU_QUERIES, _CPU_BYTES // size)) if device.type == "cpu" else maximum

    def _get_index(self, mapped_triples: MappedTriples, device: torch.device) -> TripleIndex:
        """Index the known triples, unless they are those of the last call."""
        parts = (mapped_triples, *self._filter_triples)
        triples = [(part, 0 if part.is_inference() else part._version) for part in parts]
        same = len(triples) == len(self._indexed) and all(
            part is old and version == old_version
            for (part, version), (old, old_version) in zip(triples, self._indexed, strict=True)
        )
        if self._index is None or not same:
            self._index = TripleIndex(torch.cat([part.to(device) for part in parts]))
            self._indexed = triples
        return self._index.to(device)

"""Scores of positives, of negatives and of all candidates, for any of PyKEEN's models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, cast

import torch
from pykeen.models import ERModel, Model
from pykeen.typing import (
    COLUMN_HEAD,
    COLUMN_RELATION,
    COLUMN_TAIL,
    BoolTensor,
    FloatTensor,
    InductiveMode,
    LongTensor,
)
from pykeen.utils import get_batchnorm_modules

from .negatives import Negatives
from .queries import Layout, QueryForm, Slot, choose, combine, each, query_form
from .queries.broadcasting import broadcast
from .queries.grouped import Grouped
from .queries.lookups import Lookups

__all__ = ["Scorer"]

COLUMNS = (COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL)
SIDES: list[int] = [COLUMN_HEAD, COLUMN_TAIL]


class Scorer:
    r"""Scores of a model, each in its cheapest exact form; differentiable once.

    Where the interaction can be written as $f(h, r, t) = \mathrm{compare}(q, c)$ with a query $q$ from two slots and a
    candidate $c$ from the third, cf. :mod:`pykeen_advneg.queries`, candidates are scored by products of matrices, dense
    if they are shared and sparse if not, and nothing of shape ``(batch, candidates, dim)`` arises. All other
    interactions are evaluated as they are, broadcast, the slots which are kept not repeated.

    Representations come from the model, so that normalisation, dropout and regularisation apply, but once for each slot
    which is kept and once for each candidate, where :meth:`pykeen.models.Model.score_hrt` on negatives does so once for
    each negative and slot:

    * A regulariser which is a mean (:class:`pykeen.regularizers.LpRegularizer`,
      :class:`pykeen.regularizers.PowerSumRegularizer`) yields the same term if negatives are shared by equally many
      positives and each positive has one corrupted side. Of candidates which are not shared, it sees each entity once,
      so that its term has the same expectation where they are drawn uniformly. A regulariser which is a sum
      (:class:`pykeen.regularizers.NormLimitRegularizer`) does not count repetitions. Where an interaction has no form
      for both sides (``broadcast`` in the table of forms), corrupted heads and corrupted tails are regularised each for
      itself, which gives them up to twice the weight.
    * Dropout, in representations or in the interaction, sees a kept slot once for all of its candidates, as in
      :meth:`pykeen.models.Model.score_t`.

    Batch normalisation in training mode makes a score depend on the rest of its batch: the negatives of such a model
    are scored as triples, all in one batch, as PyKEEN does.
    """

    def __init__(self, model: Model, mode: InductiveMode | None = None) -> None:
        """Initialize the scorer.

        :param model: the model, which has to be an :class:`pykeen.models.ERModel`
        :param mode: the inductive mode; ``None``: transductive

        :raises ValueError: if the model has no interaction
        """
        if not isinstance(model, ERModel):
            raise ValueError(  # noqa: TRY004
                f"model must be an ERModel, i.e., have representations and an interaction, got {type(model).__name__}. "
                f"Use an embedding model, e.g., 'transe'."
            )
        self.model: ERModel[Any, Any, Any] = model
        self.mode = mode
        self.lookups = Lookups(model, mode)
        self._has_batch_norm = bool(get_batchnorm_modules(model))

    @property
    def form(self) -> str:
        """How tails are scored: ``"product"``, ``"distance"``, or ``"broadcast"`` (by the interaction itself)."""
        form = self._form(COLUMN_TAIL)
        return "broadcast" if form is None else form.compare.name

    def positives(self, hrt: LongTensor) -> FloatTensor:
        """Score triples.

        :param hrt: shape: ``(b, 3)``

        :returns: shape: ``(b, 1)``
        """
        h, r, t = self.lookups.represent(*hrt.unbind(dim=-1))
        return self.model.interaction.score_hrt(h=h, r=r, t=t)

    def negatives(self, negatives: Negatives) -> FloatTensor:
        """Score negatives, including those which are masked.

        :param negatives: the negatives of $b$ positives, $k$ each

        :returns: shape: ``(b, k)``
        """
        if self._needs_whole_batch or not len(negatives):
            return self.model.score_hrt(negatives.triples.view(-1, 3), mode=self.mode).view(negatives.shape)
        parts = list(self._parts(self._columns(negatives)))
        if len(parts) == 1:
            return self._part(negatives, parts[0])
        scores: FloatTensor | None = None
        for columns in parts:
            chosen = torch.isin(negatives.column, negatives.column.new_tensor(columns))
            part = self._some_rows(negatives, columns, chosen)
            scores = part if scores is None else torch.where(chosen, part, scores)
        return cast(FloatTensor, scores)

    def both(self, negatives: Negatives) -> tuple[FloatTensor, FloatTensor]:
        """Score negatives and their positives, as :meth:`positives` and :meth:`negatives` do, but in less time.

        Entities are looked up once for both, if no regulariser would notice.

        :param negatives: the negatives of $b$ positives, $k$ each

        :returns: the scores of the positives, shape: ``(b, 1)``, and of the negatives, shape: ``(b, k)``
        """
        is_joint = self.lookups.are_joint and not self._needs_whole_batch
        if not is_joint or list(self._parts(self._columns(negatives))) != [SIDES]:
            return self.positives(negatives.positives), self.negatives(negatives)
        form = cast(QueryForm, self._form(COLUMN_TAIL))
        if form.either is not None and negatives.column.shape[1] == 1:
            return self._matched(negatives, form)
        positives, scores, _ = self._joint(negatives)
        return positives, scores

    def _joint(self, negatives: Negatives) -> tuple[FloatTensor, FloatTensor, list[Slot]]:
        """Look all entities up at once."""
        h, r, t = negatives.positives.unbind(dim=-1)
        ids, layout = self.lookups.layout(negatives.ids, COLUMN_TAIL, negatives.chunk_size)
        requests = (COLUMN_HEAD, h), (COLUMN_RELATION, r), (COLUMN_TAIL, t), (COLUMN_TAIL, ids)
        h, r, t, pool = self.lookups.look_up(*requests)
        if self.lookups.are_regularized(COLUMN_HEAD):
            self._regularize_kept(negatives, h, t)
        self.lookups.regularize(COLUMN_RELATION, r)
        slots = [h, r, t]
        return self.model.interaction.score_hrt(h=h, r=r, t=t), self._sides(negatives, slots, pool, layout), slots

    def with_slots(self, negatives: Negatives) -> tuple[FloatTensor, FloatTensor, list[Slot]]:
        """Score negatives and their positives as :meth:`both` does, and give what the positives are represented by.

        :param negatives: the negatives of $b$ positives, $k$ each

        :returns: the scores of the positives, shape: ``(b, 1)``, and of the negatives, shape: ``(b, k)``; and the
            representations of heads, relations and tails, prefix of their shapes: ``(b,)``
        """
        is_joint = self.lookups.are_joint and not self._needs_whole_batch
        have_forms = all(self._form(side) is not None for side in SIDES)
        if is_joint and have_forms and set(self._columns(negatives)) <= set(SIDES):
            return self._joint(negatives)
        slots = self.lookups.represent(*negatives.positives.unbind(dim=-1))
        h, r, t = slots
        return self.model.interaction.score_hrt(h=h, r=r, t=t), self.negatives(negatives), slots

    def replaced(self, slots: Sequence[Slot], column: int, candidates: Slot) -> FloatTensor:
        """Score triples with one slot replaced by representations, of whatever origin.

        :param slots: the representations of heads, relations and tails, prefix of their shapes: ``(b,)``
        :param column: the slot to replace (0: head, 1: relation, 2: tail)
        :param candidates: the representations which stand there, prefix of their shapes: ``(b, n)``

        :returns: shape: ``(b, n)``
        """
        form = self.form_of(column)
        kept = [slot for i, slot in enumerate(slots) if i != column]
        if form is not None:
            return form.score(form.queries[column](*kept), form.encode(candidates), Grouped(1))
        first = candidates if isinstance(candidates, torch.Tensor) else candidates[0]
        b, n = first.shape[:2]
        parts = [candidates if i == column else slot for i, slot in enumerate(slots)]
        return broadcast(self.model.interaction, parts, column, (b, n), 1)

    def _matched(self, negatives: Negatives, form: QueryForm) -> tuple[FloatTensor, FloatTensor]:
        """Let the query of each positive meet its own entity, as it meets the candidates."""
        h, r, t = negatives.positives.unbind(dim=-1)
        ids, layout = self.lookups.layout(negatives.ids, COLUMN_TAIL, negatives.chunk_size)
        is_head = negatives.column == COLUMN_HEAD
        kept, own = (torch.where(is_head.squeeze(-1), *sides) for sides in ((t, h), (h, t)))
        requests = (COLUMN_HEAD, kept), (COLUMN_RELATION, r), (COLUMN_TAIL, own), (COLUMN_TAIL, ids)
        kept, r, own, pool = self.lookups.look_up(*requests)
        self.lookups.regularize(COLUMN_HEAD, kept)
        self.lookups.regularize(COLUMN_RELATION, r)
        query = form.sides(is_head, kept, r)
        positives = form.score(query, form.encode(each(own, lambda x: x.unsqueeze(1))), Grouped(1))
        return positives, form.score(query, form.encode(pool), layout)

    def _regularize_kept(self, negatives: Negatives, h: Slot, t: Slot) -> None:
        """Regularise what negatives keep of their positives, after the positives."""
        is_head = negatives.column == COLUMN_HEAD

        def kept(x: FloatTensor, y: FloatTensor) -> FloatTensor:
            if is_head.shape[1] > 1:
                return torch.cat([x, y])
            return torch.where(is_head.view(-1, *[1] * (x.ndim - 1)), x, y)

        self.lookups.regularize(COLUMN_HEAD, combine(kept, t, h))

    def candidates(self, hrt: LongTensor, column: int, ids: LongTensor | None = None) -> FloatTensor:
        """Score triples with one slot replaced by each of some candidates.

        :param hrt: shape: ``(b, 3)``, the triples, whose slot ``column`` does not matter
        :param column: the slot to replace (0: head, 1: relation, 2: tail)
        :param ids: the candidates, shape: ``(n,)`` for all triples, or ``(b, n)``; ``None``: all entities or relations

        :returns: shape: ``(b, n)``

        :raises ValueError: if the column or the shape of the ids is invalid
        """
        if column not in COLUMNS:
            raise ValueError(f"column must be 0 (head), 1 (relation) or 2 (tail), got {column}.")
        b = len(hrt)
        if ids is None or ids.ndim == 1:
            return self._column(hrt, None if ids is None else ids.unsqueeze(0), column, chunk_size=b)
        if ids.ndim != 2 or len(ids) != b:  # noqa: PLR2004
            raise ValueError(f"ids must have shape (n,) or ({b}, n), got {tuple(ids.shape)}.")
        return self._column(hrt, ids, column, chunk_size=1)

    @property
    def _needs_whole_batch(self) -> bool:
        """Whether scores depend on what else is in the batch, which then must not be taken apart."""
        return self._has_batch_norm and self.model.training

    @property
    def needs_whole_batch(self) -> bool:
        """Whether scores depend on what else is in the batch, which then must not be taken apart."""
        return self._needs_whole_batch

    def form_of(self, column: int) -> QueryForm | None:
        """Return how a slot full of candidates is scored now.

        :param column: the slot (0: head, 1: relation, 2: tail)

        :returns: the form; ``None`` if the interaction itself is asked, or if the batch must not be taken apart
        """
        return None if self._needs_whole_batch else self._form(column)

    def _form(self, column: int) -> QueryForm | None:
        """Return the form of the interaction in its present mode, if it has one for the column."""
        form = query_form(self.model.interaction)
        return form if form is not None and column in form.queries else None

    @staticmethod
    def _columns(negatives: Negatives) -> list[int]:
        """Return the columns which are corrupted in some negative."""
        return [column for column in COLUMNS if bool((negatives.column == column).any())]

    def _parts(self, columns: list[int]) -> Iterator[list[int]]:
        """Group the corrupted columns into those which are scored together: both sides, if they share candidates."""
        together = all(side in columns and self._form(side) is not None for side in SIDES)
        if together and self.lookups.are_same:
            yield SIDES
            columns = [column for column in columns if column not in SIDES]
        yield from ([column] for column in columns)

    def _part(self, negatives: Negatives, columns: Sequence[int]) -> FloatTensor:
        """Score all negatives as if only the given columns were corrupted."""
        if len(columns) == 1:
            return self._column(negatives.positives, negatives.ids, columns[0], negatives.chunk_size)
        return self._both_sides(negatives)

    def _some_rows(self, negatives: Negatives, columns: Sequence[int], chosen: BoolTensor) -> FloatTensor:
        """Score the rows in which some negative is chosen; the others have any score.

        A matrix product of whole chunks costs less than to take them apart; an interaction without a form says by
        ``scores_chunks`` that it has one.
        """
        # ids of relations may not be ids of entities, and vice versa
        negatives = replace(negatives, ids=negatives.ids.clamp(max=self.lookups.count(columns[0]) - 1), mask=None)
        has_product = self._form(columns[0]) is not None or getattr(self.model.interaction, "scores_chunks", False)
        if negatives.chunk_size > 1 and has_product:
            return self._part(negatives, columns)
        rows = chosen.any(dim=1).nonzero().squeeze(-1)
        ids, column = negatives.dense_ids[rows], negatives.column[rows]
        part = self._part(Negatives(negatives.positives[rows], ids, column), columns)
        return part.new_zeros(negatives.shape).index_copy(0, rows, part)

    def _column(self, hrt: LongTensor, ids: LongTensor | None, column: int, chunk_size: int) -> FloatTensor:
        """Score triples with one slot replaced by ids, shape: ``(g, n)``, each row shared by a chunk of triples."""
        form = self._form(column)
        indices: list[LongTensor | None] = list(hrt.unbind(dim=-1))
        if form is None:
            indices[column], layout = ids, None
        else:
            indices[column], layout = self.lookups.layout(ids, column, chunk_size)
        slots = self.lookups.represent(*indices)
        if ids is None:
            slots[column] = each(slots[column], lambda x: x.unsqueeze(0))
        if form is None or layout is None:
            n = self.lookups.count(column) if ids is None else ids.shape[1]
            return broadcast(self.model.interaction, slots, column, (len(hrt), n), chunk_size)
        candidates = slots.pop(column)
        return form.score(form.queries[column](*slots), form.encode(candidates), layout)

    def _both_sides(self, negatives: Negatives) -> FloatTensor:
        """Score corrupted heads and tails, whose candidates are in one space, together."""
        h, r, t = negatives.positives.unbind(dim=-1)
        ids, layout = self.lookups.layout(negatives.ids, COLUMN_TAIL, negatives.chunk_size)
        if negatives.column.shape[1] == 1:
            kept = torch.where(negatives.column.squeeze(-1) == COLUMN_HEAD, t, h)
            entities, r, pool = self.lookups.represent(kept, r, ids)
            form = cast(QueryForm, self._form(COLUMN_TAIL))
            return form.score(form.sides(negatives.column == COLUMN_HEAD, entities, r), form.encode(pool), layout)
        entities, r, pool = self.lookups.represent(torch.stack([h, t]), r, ids)
        h, t = each(entities, itemgetter(0)), each(entities, itemgetter(1))
        return self._sides(negatives, (h, r, t), pool, layout)

    def _sides(self, negatives: Negatives, slots: Sequence[Slot], pool: Slot, layout: Layout) -> FloatTensor:
        """Score corrupted heads and tails, given the representations of the slots which are kept, and of candidates."""
        form = cast(QueryForm, self._form(COLUMN_TAIL))
        h, r, t = slots
        candidates = form.encode(pool)
        head, tail = form.queries[COLUMN_HEAD](r, t), form.queries[COLUMN_TAIL](h, r)
        is_head = negatives.column == COLUMN_HEAD
        if is_head.shape[1] == 1:
            return form.score(choose(is_head, head, tail), candidates, layout)
        return torch.where(is_head, form.score(head, candidates, layout), form.score(tail, candidates, layout))

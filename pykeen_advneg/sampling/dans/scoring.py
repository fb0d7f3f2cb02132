"""Scores of generated entities by the model being trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL, BoolTensor, FloatTensor

from ...queries.form import Slot, combine, each
from ...scoring import Scorer
from .views import ModelView

__all__ = ["generated_scores"]


def generated_scores(
    scorer: Scorer, view: ModelView, slots: Sequence[Slot], generated: FloatTensor, is_head: BoolTensor
) -> FloatTensor:
    """Score positives with one side replaced by each of their generated entities.

    :param scorer: gives the scores of the model
    :param view: the entities of the model as vectors
    :param slots: the representations of heads, relations and tails of the positives, prefix of their shapes: ``(b,)``
    :param generated: the generated entities, shape: ``(b, n, dim)``
    :param is_head: whether a generated entity stands for the head, shape: ``(b, n)``

    :returns: shape: ``(b, n)``
    """
    heads, tails = (view.slot(generated, column) for column in (COLUMN_HEAD, COLUMN_TAIL))
    if scorer.needs_whole_batch:
        return _triple_by_triple(scorer, slots, heads, tails, is_head)
    of_heads = scorer.replaced(slots, COLUMN_HEAD, heads)
    return torch.where(is_head, of_heads, scorer.replaced(slots, COLUMN_TAIL, tails))


def _triple_by_triple(
    scorer: Scorer, slots: Sequence[Slot], heads: Slot, tails: Slot, is_head: BoolTensor
) -> FloatTensor:
    """Score each negative once, all in one batch, whose mean and variance are then those of negatives and no others."""
    h, r, t = (each(slots[column], partial(_repeated, n=is_head.shape[1])) for column in _COLUMNS)
    h = combine(partial(_where, is_head), heads, h)
    t = combine(partial(_where, ~is_head), tails, t)
    h, r, t = (each(slot, lambda x: x.flatten(end_dim=1)) for slot in (h, r, t))
    return scorer.model.interaction.score_hrt(h=h, r=r, t=t).view(is_head.shape)


_COLUMNS = (COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL)


def _repeated(x: FloatTensor, n: int) -> FloatTensor:
    """Repeat what each positive has, shape: ``(b, *s)`` to ``(b, n, *s)``."""
    return x.unsqueeze(1).expand(-1, n, *x.shape[1:])


def _where(condition: BoolTensor, x: FloatTensor, y: FloatTensor) -> FloatTensor:
    """Choose, shapes: ``(b, n)``, ``(b, n, *s)`` and the same."""
    return torch.where(condition.view(*condition.shape, *(1 for _ in x.shape[2:])), x, y)

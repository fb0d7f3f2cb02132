"""The interactions which change the score of another interaction, their base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pykeen.nn.modules import (
    ClampedInteraction,
    DirectionAverageInteraction,
    Interaction,
    MonotonicAffineTransformationInteraction,
    SimplEInteraction,
)
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL

from .comparisons import Product
from .form import Encoded, Query, QueryForm, Slot

__all__ = ["WRAPPERS"]

_REVERSED: dict[int, int] = {COLUMN_HEAD: COLUMN_TAIL, COLUMN_RELATION: COLUMN_RELATION, COLUMN_TAIL: COLUMN_HEAD}


def _clamped(interaction: ClampedInteraction[Any, Any, Any], base: QueryForm) -> QueryForm:
    """Clamp the scores of the base."""
    if interaction.clamp_score is None:
        return base
    low, high = interaction.clamp_score
    return base.then(lambda scores: torch.clamp(scores, min=low, max=high))


def _affine(interaction: MonotonicAffineTransformationInteraction[Any, Any, Any], base: QueryForm) -> QueryForm:
    """Scale and shift the scores of the base."""
    return base.then(lambda scores: interaction.log_scale.exp() * scores + interaction.bias)


def _join(x: Encoded, y: Encoded) -> Encoded:
    """Join two vectors such that their products add up, and so do their biases."""
    biases = [bias for bias in (x.bias, y.bias) if bias is not None]
    return Encoded(torch.cat([x.vector, y.vector], dim=-1), bias=torch.stack(biases).sum(dim=0) if biases else None)


def _average(interaction: DirectionAverageInteraction, base: QueryForm) -> QueryForm | None:
    """Write $(f(h_1, r_1, t_1) + f(t_2, r_2, h_2)) / 2$ for a base f which is a product, as one product."""
    if not isinstance(base.compare, Product) or base.finish is not None:
        return None

    def query(column: int) -> Query:
        forward, backward = base.queries[column], base.queries[_REVERSED[column]]
        return lambda x, y: _join(forward(x[0], y[0]), backward(y[1], x[1]))

    def encode(x: Slot) -> Encoded:
        return _join(*map(base.encode, x))

    queries = {column: query(column) for column, other in _REVERSED.items() if {column, other} <= set(base.queries)}
    return QueryForm(base.compare, queries, encode, finish=lambda scores: 0.5 * scores)


#: from the exact class of an interaction to the function which, from an instance and the form of its base, makes a form
WRAPPERS: dict[type[Interaction[Any, Any, Any]], Callable[[Any, QueryForm], QueryForm | None]] = {
    ClampedInteraction: _clamped,
    DirectionAverageInteraction: _average,
    MonotonicAffineTransformationInteraction: _affine,
    SimplEInteraction: _average,
}

r"""Sums of $|x_{ijl}|$ or $x_{ijl}^2$ with $x_{ij} = q_i - s_i c_j - a_{ij} u_i$, cf. ``kernels.blockwise_sum``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import njit, prange
from pykeen.typing import FloatTensor

from .loops import ABSOLUTE, KINDS, Array, Kind, by_candidate, loops, rows

if TYPE_CHECKING:
    from ..layouts import Layout

__all__ = ["distance_gradients", "distances"]

Shift = tuple[FloatTensor, FloatTensor]


def distances(
    kind: Kind, q: FloatTensor, c: FloatTensor, s: FloatTensor | None, shift: Shift | None, layout: Layout
) -> FloatTensor:
    """Sum up the terms of pairs.

    :param kind: which terms, ``absolute`` or ``square``
    :param q: the queries, as the layout has them
    :param c: the candidates
    :param s: the scales of the queries; None: 1
    :param shift: the directions, of the shape of the queries, and how far each pair is moved; None: no pair is
    :param layout: which query meets which candidate

    :returns: the sum for each pair
    """
    total = layout.empty(q, c)
    ids = layout.ids_of(q, c).contiguous().numpy()
    _distances(KINDS[kind], ids, *_given(q, c, s, shift, total), total.view(ids.shape).numpy())
    return total


def distance_gradients(
    kind: Kind,
    q: FloatTensor,
    c: FloatTensor,
    s: FloatTensor | None,
    shift: Shift | None,
    layout: Layout,
    by: FloatTensor,
) -> tuple[FloatTensor | None, ...]:
    """Compute the gradients of :func:`distances`, whose parameters are the same.

    :param kind: which terms
    :param q: the queries
    :param c: the candidates
    :param s: the scales
    :param shift: the directions and how far
    :param layout: which query meets which candidate
    :param by: the gradient by the sum of each pair

    :returns: the gradients by the queries, the candidates, the scales, the directions, and how far
    """
    of_q, of_c, of_s, of_u = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, c, q, q))
    of_a = torch.empty_like(by, memory_format=torch.contiguous_format)
    ids = layout.ids_of(q, c).contiguous().numpy()
    weights, given = by.contiguous().view(ids.shape).numpy(), _given(q, c, s, shift, by)
    flags = s is not None, shift is not None
    _of_queries(KINDS[kind], *flags, ids, *given, weights, *rows(of_q, of_s, of_u), of_a.view(ids.shape).numpy())
    (found,) = rows(of_c)
    order, starts = by_candidate(ids.ravel(), len(found))
    _of_candidates(KINDS[kind], ids.shape[1], order, starts, *given, weights.ravel(), found)
    return of_q, of_c, *(x if flag else None for x, flag in zip((of_s, of_u, of_a), (*flags, flags[1]), strict=True))


def _given(
    q: FloatTensor, c: FloatTensor, s: FloatTensor | None, shift: Shift | None, pairs: FloatTensor
) -> list[Array]:
    """Give queries, candidates, scales, directions and how far as matrices; without a shift, these are 0."""
    u, a = (torch.zeros_like(q), torch.zeros_like(pairs)) if shift is None else shift
    return rows(q, c, torch.ones_like(q) if s is None else s, u, a)


@njit(inline="always")
def _slope(kind: int, x: Any) -> Any:
    return np.sign(x) if kind == ABSOLUTE else x + x


@loops
def _distances(kind: int, ids: Array, q: Array, c: Array, s: Array, u: Array, a: Array, total: Array) -> None:
    for i in prange(len(q)):
        for j in range(ids.shape[1]):
            candidate, amount = c[ids[i, j]], a[i, j]
            t = q.dtype.type(0)
            for n in range(q.shape[1]):
                x = q[i, n] - s[i, n] * candidate[n] - amount * u[i, n]
                t += abs(x) if kind == ABSOLUTE else x * x
            total[i, j] = t


@loops
def _of_queries(
    kind: int,
    has_scale: bool,
    has_shift: bool,
    ids: Array,
    q: Array,
    c: Array,
    s: Array,
    u: Array,
    a: Array,
    by: Array,
    of_q: Array,
    of_s: Array,
    of_u: Array,
    of_a: Array,
) -> None:
    for i in prange(len(q)):
        y, z, v = np.zeros_like(q[i]), np.zeros_like(q[i]), np.zeros_like(q[i])
        for j in range(ids.shape[1]):
            candidate, amount, weight = c[ids[i, j]], a[i, j], by[i, j]
            g = q.dtype.type(0)
            for n in range(q.shape[1]):
                x = weight * _slope(kind, q[i, n] - s[i, n] * candidate[n] - amount * u[i, n])
                y[n] += x
                if has_scale:
                    z[n] -= x * candidate[n]
                if has_shift:
                    v[n] -= x * amount
                    g -= x * u[i, n]
            of_a[i, j] = g
        of_q[i], of_s[i], of_u[i] = y, z, v


@loops
def _of_candidates(
    kind: int,
    k: int,
    order: Array,
    starts: Array,
    q: Array,
    c: Array,
    s: Array,
    u: Array,
    a: Array,
    by: Array,
    of_c: Array,
) -> None:
    for m in prange(len(c)):
        y = np.zeros_like(c[m])
        for place in range(starts[m], starts[m + 1]):
            i, j = order[place] // k, order[place] % k
            amount, weight = a[i, j], by[order[place]]
            for n in range(q.shape[1]):
                x = q[i, n] - s[i, n] * c[m, n] - amount * u[i, n]
                y[n] -= weight * s[i, n] * _slope(kind, x)
        of_c[m] = y

r"""Sums over the components of pairs, as they are and mixed, cf. :mod:`pykeen_advneg.queries.mixing`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import njit, prange
from pykeen.typing import FloatTensor

from .loops import ABSOLUTE, KINDS, PRODUCT, Array, Kind, by_candidate, loops, rows
from .masks import is_one

if TYPE_CHECKING:
    from ..layouts import Layout
    from ..masks import PairMasks

__all__ = ["gradients", "sums"]


def sums(
    kind: Kind,
    q: FloatTensor,
    c: FloatTensor,
    s: FloatTensor | None,
    own: FloatTensor,
    masks: PairMasks,
    layout: Layout,
) -> tuple[FloatTensor, FloatTensor]:
    """Sum up the terms of pairs, as they are and mixed with those of the queries' own entities.

    :param kind: which terms
    :param q: the queries, as the layout has them
    :param c: the candidates
    :param s: the scales of the queries; None: 1
    :param own: the terms of the own entities, of the shape of the queries
    :param masks: where a candidate's term is kept; elsewhere it is the own one
    :param layout: which query meets which candidate

    :returns: both sums for each pair
    """
    plain, mixed = layout.empty(q, c), layout.empty(q, c)
    ids = layout.ids_of(q, c)
    arrays = rows(q, c, torch.ones_like(q) if s is None else s, own)
    _sums(KINDS[kind], *_key(masks), *arrays, ids.contiguous().numpy(), *rows(plain, mixed))
    return plain, mixed


def gradients(
    kind: Kind,
    q: FloatTensor,
    c: FloatTensor,
    s: FloatTensor | None,
    masks: PairMasks,
    layout: Layout,
    by_plain: FloatTensor,
    by_mixed: FloatTensor,
) -> tuple[FloatTensor, FloatTensor, FloatTensor | None, FloatTensor]:
    """Compute the gradients of :func:`sums`, whose parameters are the same.

    :param kind: which terms
    :param q: the queries
    :param c: the candidates
    :param s: the scales
    :param masks: where a candidate's term is kept
    :param layout: which query meets which candidate
    :param by_plain: the gradient by the plain sum of each pair
    :param by_mixed: the gradient by the mixed sum

    :returns: the gradients by the queries, the candidates, the scales and the own terms
    """
    of_q, of_c, of_s, of_own = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, c, q, q))
    ids = layout.ids_of(q, c).contiguous().numpy()
    given = *_key(masks), *rows(q, c, torch.ones_like(q) if s is None else s, by_plain, by_mixed)
    found = rows(of_q, of_c, of_s, of_own)
    _of_queries(KINDS[kind], s is not None, ids, *given, found[0], *found[2:])
    order, starts = by_candidate(ids.ravel(), len(found[1]))
    _of_candidates(KINDS[kind], ids.shape[1], order, starts, *given, found[1])
    return of_q, of_c, None if s is None else of_s, of_own


def _key(masks: PairMasks) -> tuple[Any, ...]:
    """Give what the loops need of masks."""
    limit, low, high = map(np.uint32, masks.key)
    return limit, low, high, np.uint32(masks.width), masks.components.numpy().astype(np.uint32)


@njit(inline="always")
def _term(kind: int, q: Any, c: Any, s: Any) -> Any:
    if kind == PRODUCT:
        return q * c
    x = q - s * c
    return abs(x) if kind == ABSOLUTE else x * x


@njit(inline="always")
def _slope(kind: int, q: Any, c: Any, s: Any) -> Any:
    x = q - s * c
    return np.sign(x) if kind == ABSOLUTE else x + x


@loops
def _sums(
    kind: int,
    limit: Any,
    low: Any,
    high: Any,
    width: Any,
    components: Array,
    q: Array,
    c: Array,
    s: Array,
    own: Array,
    ids: Array,
    plain: Array,
    mixed: Array,
) -> None:
    k, d = ids.shape[1], q.shape[1]
    plain, mixed = plain.reshape(ids.shape), mixed.reshape(ids.shape)
    # sums by halves, since a sum in one go is not vectorised: its order is that of the code
    size = 1
    while size < d:
        size *= 2
    for i in prange(len(q)):
        a, b = np.zeros(size, q.dtype), np.zeros(size, q.dtype)
        for j in range(k):
            candidate, first = c[ids[i, j]], np.uint32(np.uint32(i * k + j) * width)
            for n in range(d):
                x = _term(kind, q[i, n], candidate[n], s[i, n])
                a[n] = x
                b[n] = x if is_one(np.uint32(first + components[n]), limit, low, high) else own[i, n]
            a[d:] = 0
            b[d:] = 0
            half = size // 2
            while half > 0:
                for n in range(half):
                    a[n] += a[n + half]
                    b[n] += b[n + half]
                half //= 2
            plain[i, j], mixed[i, j] = a[0], b[0]


@loops
def _of_queries(
    kind: int,
    has_scale: bool,
    ids: Array,
    limit: Any,
    low: Any,
    high: Any,
    width: Any,
    components: Array,
    q: Array,
    c: Array,
    s: Array,
    by_plain: Array,
    by_mixed: Array,
    of_q: Array,
    of_s: Array,
    of_own: Array,
) -> None:
    k, zero = ids.shape[1], q.dtype.type(0)
    by_plain, by_mixed = by_plain.reshape(ids.shape), by_mixed.reshape(ids.shape)
    for i in prange(len(q)):
        a, o, z = np.zeros_like(q[i]), np.zeros_like(q[i]), np.zeros_like(q[i])
        for j in range(k):
            candidate, first = c[ids[i, j]], np.uint32(np.uint32(i * k + j) * width)
            plain, mixed = by_plain[i, j], by_mixed[i, j]
            for n in range(q.shape[1]):
                share = mixed if is_one(np.uint32(first + components[n]), limit, low, high) else zero
                o[n] += mixed - share
                if kind == PRODUCT:
                    a[n] += (plain + share) * candidate[n]
                else:
                    x = (plain + share) * _slope(kind, q[i, n], candidate[n], s[i, n])
                    a[n] += x
                    if has_scale:
                        z[n] -= x * candidate[n]
        of_q[i], of_own[i], of_s[i] = a, o, z


@loops
def _of_candidates(
    kind: int,
    k: int,
    order: Array,
    starts: Array,
    limit: Any,
    low: Any,
    high: Any,
    width: Any,
    components: Array,
    q: Array,
    c: Array,
    s: Array,
    by_plain: Array,
    by_mixed: Array,
    of_c: Array,
) -> None:
    zero = q.dtype.type(0)
    by_plain, by_mixed = by_plain.ravel(), by_mixed.ravel()
    for m in prange(len(c)):
        a = np.zeros_like(c[m])
        for place in range(starts[m], starts[m + 1]):
            pair = order[place]
            i, first = pair // k, np.uint32(np.uint32(pair) * width)
            plain, mixed = by_plain[pair], by_mixed[pair]
            for n in range(q.shape[1]):
                kept = is_one(np.uint32(first + components[n]), limit, low, high)
                factor = plain + (mixed if kept else zero)
                if kind == PRODUCT:
                    a[n] += factor * q[i, n]
                else:
                    a[n] -= factor * s[i, n] * _slope(kind, q[i, n], c[m, n], s[i, n])
        of_c[m] = a

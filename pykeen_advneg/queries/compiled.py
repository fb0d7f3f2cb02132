r"""Loops over all components of all pairs on a CPU, compiled by Numba: one pass, and no temporary.

Sums are those which :mod:`pykeen_advneg.queries.mixing` computes by PyTorch, a block of pairs at a time; masks are
those of :mod:`pykeen_advneg.queries.masks`, computed where they are needed. Each number is computed by one thread in a
fixed order: how many threads there are does not change it.

Numba is an extra; cf. :func:`pykeen_advneg.queries.compiling.kernels`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numba import config, njit, prange, set_num_threads
from numpy.typing import NDArray
from pykeen.typing import FloatTensor

from .hashes import FACTORS, SHIFTS, STRIDE

if TYPE_CHECKING:
    from .layouts import Layout
    from .masks import PairMasks

__all__ = ["TYPES", "Kind", "bernoulli", "gradients", "sums"]

#: $q_{il} c_{jl}$, or $|x_{ijl}|$ or $x_{ijl}^2$ with $x_{ij} = q_i - s_i c_j$
Kind = Literal["product", "absolute", "square"]

Array = NDArray[Any]

#: the types of numbers which are served
TYPES = frozenset({torch.float32, torch.float64})

PRODUCT, ABSOLUTE, SQUARE = 0, 1, 2

KINDS: dict[Kind, int] = {"product": PRODUCT, "absolute": ABSOLUTE, "square": SQUARE}

#: sums may be reordered, so that they are vectorised; NaN and infinity stay what they are
FAST = {"reassoc", "contract", "nsz", "arcp"}


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
    arrays = _rows(q, c, torch.ones_like(q) if s is None else s, own)
    _sums(KINDS[kind], *_key(masks), *arrays, ids.contiguous().numpy(), *_rows(plain, mixed))
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
    given = *_key(masks), *_rows(q, c, torch.ones_like(q) if s is None else s, by_plain, by_mixed)
    rows = _rows(of_q, of_c, of_s, of_own)
    _of_queries(KINDS[kind], s is not None, ids, *given, rows[0], *rows[2:])
    order, starts = _by_candidate(ids.ravel(), len(rows[1]))
    _of_candidates(KINDS[kind], ids.shape[1], order, starts, *given, rows[1])
    return of_q, of_c, None if s is None else of_s, of_own


def bernoulli(numbers: FloatTensor, limit: int, low: int, high: int) -> None:
    """Write the numbers at the first places, cf. :class:`pykeen_advneg.queries.masks.Key`."""
    _bernoulli(numbers.view(-1).numpy(), np.uint32(limit), np.uint32(low), np.uint32(high))


def _rows(*tensors: torch.Tensor) -> list[Array]:
    """View tensors as matrices with the same last dimension; those whose memory has another order are copied."""
    return [x.detach().contiguous().view(-1, x.shape[-1]).numpy() for x in tensors]


def _key(masks: PairMasks) -> tuple[Any, ...]:
    """Give what the loops need of masks."""
    limit, low, high = map(np.uint32, masks.key)
    return limit, low, high, np.uint32(masks.width), masks.components.numpy().astype(np.uint32)


def _loops(function: Callable[..., None]) -> Callable[..., None]:
    """Compile loops for several threads and for one, which then waits for no other."""
    # files of compiled code are told apart by the name alone
    name = f"{function.__name__}_of_one_thread"
    twin = FunctionType(function.__code__, function.__globals__, name)
    twin.__qualname__ = name
    several, one = (njit(parallel=flag, fastmath=FAST, cache=True)(x) for flag, x in ((True, function), (False, twin)))

    def run(*arguments: Any) -> None:
        threads = min(torch.get_num_threads(), config.NUMBA_NUM_THREADS)
        if threads == 1:
            one(*arguments)
        else:
            set_num_threads(threads)
            several(*arguments)

    return run


STEP, FIRST, SECOND = map(np.uint32, (STRIDE, *FACTORS))
ONE, TWO, THREE = map(np.uint32, SHIFTS)


@njit(inline="always")
def _is_one(place: Any, limit: Any, low: Any, high: Any) -> Any:
    # products and sums of 32 bits have 64 in Numba
    x = np.uint32(np.uint32(place * STEP) + low)
    x ^= x >> ONE
    x = np.uint32(np.uint32(x * FIRST) + high)
    x ^= x >> TWO
    x = np.uint32(np.uint32(x * SECOND) + high)
    x ^= x >> THREE
    return x < limit


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


@_loops
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
    k = ids.shape[1]
    plain, mixed = plain.reshape(ids.shape), mixed.reshape(ids.shape)
    for i in prange(len(q)):
        for j in range(k):
            candidate, first = c[ids[i, j]], np.uint32(np.uint32(i * k + j) * width)
            a = b = q.dtype.type(0)
            for n in range(q.shape[1]):
                x = _term(kind, q[i, n], candidate[n], s[i, n])
                a += x
                b += x if _is_one(np.uint32(first + components[n]), limit, low, high) else own[i, n]
            plain[i, j] = a
            mixed[i, j] = b


@_loops
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
                share = mixed if _is_one(np.uint32(first + components[n]), limit, low, high) else zero
                o[n] += mixed - share
                if kind == PRODUCT:
                    a[n] += (plain + share) * candidate[n]
                else:
                    x = (plain + share) * _slope(kind, q[i, n], candidate[n], s[i, n])
                    a[n] += x
                    if has_scale:
                        z[n] -= x * candidate[n]
        of_q[i], of_own[i], of_s[i] = a, o, z


@_loops
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
                kept = _is_one(np.uint32(first + components[n]), limit, low, high)
                factor = plain + (mixed if kept else zero)
                if kind == PRODUCT:
                    a[n] += factor * q[i, n]
                else:
                    a[n] -= factor * s[i, n] * _slope(kind, q[i, n], c[m, n], s[i, n])
        of_c[m] = a


@njit(cache=True)
def _by_candidate(ids: Array, n: int) -> tuple[Array, Array]:
    """Give the pairs in the order of their candidates, and where those of each candidate start."""
    starts = np.zeros(n + 1, np.int64)
    for candidate in ids:
        starts[candidate + 1] += 1
    for candidate in range(n):
        starts[candidate + 1] += starts[candidate]
    free, order = starts[:-1].copy(), np.empty(len(ids), np.int64)
    for pair in range(len(ids)):
        order[free[ids[pair]]] = pair
        free[ids[pair]] += 1
    return order, starts


@_loops
def _bernoulli(numbers: Array, limit: Any, low: Any, high: Any) -> None:
    one, zero = numbers.dtype.type(1), numbers.dtype.type(0)
    for i in prange(len(numbers)):
        numbers[i] = one if _is_one(np.uint32(i), limit, low, high) else zero

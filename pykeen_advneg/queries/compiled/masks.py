"""Masks which are hashes of places, cf. :mod:`pykeen_advneg.queries.masks`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from pykeen.typing import FloatTensor

from ..hashes import FACTORS, SHIFTS, STRIDE
from .loops import Array, loops

__all__ = ["bernoulli", "is_one"]

STEP, FIRST, SECOND = map(np.uint32, (STRIDE, *FACTORS))
ONE, TWO, THREE = map(np.uint32, SHIFTS)


@njit(inline="always")
def is_one(place: Any, limit: Any, low: Any, high: Any) -> Any:
    """Say whether the number at a place is 1."""
    # products and sums of 32 bits have 64 in Numba
    x = np.uint32(np.uint32(place * STEP) + low)
    x ^= x >> ONE
    x = np.uint32(np.uint32(x * FIRST) + high)
    x ^= x >> TWO
    x = np.uint32(np.uint32(x * SECOND) + high)
    x ^= x >> THREE
    return x < limit


def bernoulli(numbers: FloatTensor, limit: int, low: int, high: int) -> None:
    """Write the numbers at the first places, cf. :class:`pykeen_advneg.queries.masks.Key`."""
    _bernoulli(numbers.view(-1).numpy(), np.uint32(limit), np.uint32(low), np.uint32(high))


@loops
def _bernoulli(numbers: Array, limit: Any, low: Any, high: Any) -> None:
    one, zero = numbers.dtype.type(1), numbers.dtype.type(0)
    for i in prange(len(numbers)):
        numbers[i] = one if is_one(np.uint32(i), limit, low, high) else zero

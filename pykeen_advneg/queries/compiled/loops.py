"""How loops over pairs are compiled, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, Literal

import numpy as np
import torch
from numba import config, njit, set_num_threads
from numpy.typing import NDArray

__all__ = ["ABSOLUTE", "KINDS", "PRODUCT", "SQUARE", "TYPES", "Array", "Kind", "by_candidate", "loops", "rows"]

#: $q_{il} c_{jl}$, or $|x_{ijl}|$ or $x_{ijl}^2$ with $x_{ij} = q_i - s_i c_j$
Kind = Literal["product", "absolute", "square"]

Array = NDArray[Any]

#: the types of numbers which are served
TYPES = frozenset({torch.float32, torch.float64})

PRODUCT, ABSOLUTE, SQUARE = 0, 1, 2

KINDS: dict[Kind, int] = {"product": PRODUCT, "absolute": ABSOLUTE, "square": SQUARE}

#: sums may be reordered, so that they are vectorised; NaN and infinity stay what they are
FAST = {"reassoc", "contract", "nsz", "arcp"}


def loops(function: Callable[..., None]) -> Callable[..., None]:
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


def rows(*tensors: torch.Tensor) -> list[Array]:
    """View tensors as matrices with the same last dimension; those whose memory has another order are copied."""
    return [x.detach().contiguous().view(-1, x.shape[-1]).numpy() for x in tensors]


@njit(cache=True)
def by_candidate(ids: Array, n: int) -> tuple[Array, Array]:
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

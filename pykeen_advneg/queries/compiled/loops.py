"""How loops over pairs are compiled, and what they have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

import numpy as np
import torch
from numba import config, njit, set_num_threads
from numpy.typing import NDArray

from .. import hashes

__all__ = ["ABSOLUTE", "KINDS", "PRODUCT", "SQUARE", "TYPES", "Array", "Kind", "by_candidate", "loops", "rows"]

#: $q_{il} c_{jl}$, or $|x_{ijl}|$ or $x_{ijl}^2$ with $x_{ij} = q_i - s_i c_j$
Kind = Literal["product", "absolute", "square"]

Array = NDArray[Any]

#: the types of numbers which are served
TYPES = frozenset({torch.float32, torch.float64})

PRODUCT, ABSOLUTE, SQUARE = 0, 1, 2

KINDS: dict[Kind, int] = {"product": PRODUCT, "absolute": ABSOLUTE, "square": SQUARE}

#: Numba finds stale machine code by the file of a function alone, not by what is inlined into it
SOURCES = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted([*Path(__file__).parent.glob("*.py"), Path(hashes.__file__)]))
).hexdigest()[:12]


def loops(function: Callable[..., None]) -> Callable[..., None]:
    """Compile loops for several threads and for one, which then waits for no other."""

    def compiled(is_parallel: bool) -> Callable[..., None]:
        # the cache has one file for each name
        name = f"{function.__name__}_{'of_threads' if is_parallel else 'of_one'}_{SOURCES}"
        renamed = FunctionType(function.__code__, function.__globals__, name)
        renamed.__qualname__ = name
        dispatcher: Callable[..., None] = njit(parallel=is_parallel, cache=True)(renamed)
        return dispatcher

    several, one = compiled(True), compiled(False)

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
    return [x.detach().reshape(x.shape[:-1].numel(), x.shape[-1]).contiguous().numpy() for x in tensors]


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

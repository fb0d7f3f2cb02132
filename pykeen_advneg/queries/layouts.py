r"""Which query meets which candidate, and the sums over these pairs which need no temporary of shape (pairs, dim).

With queries $q_i$, candidates $c_j$ and weights $w_{ij}$ of the pairs, a layout knows the products $q_i c_j$ and their
two transposes, $\sum_j w_{ij} c_j$ and $\sum_i w_{ij} q_i$. For pairs of everything within a group these are matrix
products; for candidates chosen by ids they are products with a sparse matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from pykeen.typing import FloatTensor, LongTensor

__all__ = ["Block", "Buffer", "Index", "Layout", "blocks", "elements"]

#: how many elements a temporary may have: what fits into the cache of a CPU core, and what keeps a GPU busy
ELEMENTS = {"cpu": 2**20, "cuda": 2**25}

#: Where a block of pairs lies in the result
Block = tuple[slice, ...]

#: Where single pairs, or their queries or candidates, lie
Index = tuple[LongTensor, ...]


def elements(x: torch.Tensor) -> int:
    """Return how many elements a temporary may have on the device of x."""
    return ELEMENTS.get(x.device.type, ELEMENTS["cpu"])


class Layout(ABC):
    """Which query meets which candidate."""

    @abstractmethod
    def arrange(self, x: FloatTensor) -> FloatTensor:
        """Arrange what each query has, shape ``(b, *s)``, as the layout needs it."""

    @abstractmethod
    def flatten(self, scores: FloatTensor, b: int) -> FloatTensor:
        """Return the scores of the pairs, shape ``(b, n)``, of the first b queries."""

    @abstractmethod
    def empty(self, q: FloatTensor, c: FloatTensor) -> FloatTensor:
        """Return an uninitialised number for each pair."""

    @abstractmethod
    def products(self, q: FloatTensor, c: FloatTensor) -> FloatTensor:
        """Return $q_i c_j$ for each pair."""

    @abstractmethod
    def to_queries(self, w: FloatTensor, c: FloatTensor) -> FloatTensor:
        r"""Return $\sum_j w_{ij} c_j$ for each query."""

    @abstractmethod
    def to_candidates(self, w: FloatTensor, q: FloatTensor, c: FloatTensor) -> FloatTensor:
        r"""Return $\sum_i w_{ij} q_i$ for each candidate; c only has the shape of the result."""

    @abstractmethod
    def total(self, w: FloatTensor, c: FloatTensor) -> FloatTensor:
        r"""Return $\sum_i w_{ij}$ for each candidate, with a last dimension of size 1."""

    @abstractmethod
    def of_candidates(self, x: FloatTensor) -> FloatTensor:
        """Return, for each pair, a number which each candidate has."""

    @abstractmethod
    def locate(self, pairs: LongTensor) -> tuple[Index, Index]:
        """Return where the query and the candidate of some pairs are; the pairs are given as by ``nonzero()``."""

    @abstractmethod
    def ids_of(self, q: FloatTensor, c: FloatTensor) -> LongTensor:
        """Return the candidates of each query, shape ``(queries, n)``, where both are counted over all groups."""

    @abstractmethod
    def differences(self, q: FloatTensor, c: FloatTensor, s: FloatTensor | None) -> Iterator[tuple[Block, FloatTensor]]:
        """Yield $q_i - s_i c_j$ for all pairs, a block at a time, always in the same buffer."""

    @abstractmethod
    def subtract_from_candidates(self, gradient: FloatTensor, block: Block, x: FloatTensor) -> None:
        """Subtract what belongs to each pair of a block, shape ``(*block, d)``, from its candidate; x may change."""

    @abstractmethod
    def candidates(self, c: FloatTensor, block: Block) -> FloatTensor:
        """Return the candidate of each pair of a block, in a shape which broadcasts to ``(*block, d)``."""


class Buffer:
    """Memory which is allocated once."""

    def __init__(self, like: FloatTensor) -> None:
        self.memory = like.new_empty(0)

    def __call__(self, *shape: int) -> FloatTensor:
        """Return a tensor in this memory, which the next call overwrites."""
        numel = torch.Size(shape).numel()
        if numel > self.memory.numel():
            self.memory = self.memory.new_empty(numel)
        return self.memory[:numel].view(shape)


def blocks(size: tuple[int, ...], pairs: int) -> Iterator[Block]:
    """Cut the pairs into blocks of at most so many, the last dimension first; if need be, of one."""
    if not size:
        yield ()
        return
    inner = torch.Size(size[1:]).numel()
    step = max(1, min(size[0], pairs // max(1, inner)))
    for start in range(0, size[0], step):
        for rest in blocks(size[1:], pairs):
            yield (slice(start, start + step), *rest)

"""Candidates which each query has for itself, looked up in a table: products with a sparse matrix."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache, cached_property
from typing import Any, cast

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch.nn.functional import embedding_bag
from typing_extensions import override

from .layouts import Block, Buffer, Index, Layout, blocks, elements

__all__ = ["Looked"]

#: A product with the whole table takes less time unless it has so many times more rows than a query has candidates.
#: (At least 1: PyTorch does not let a sparse matrix have more elements than a dense one.)
DENSE = 4


class Looked(Layout):
    """Each query meets those candidates of a table which have the ids of its row.

    Shapes: queries ``(b, d)``, candidates ``(t, d)``, ids and pairs ``(b, k)``.
    """

    def __init__(self, ids: LongTensor) -> None:
        """Initialize the layout.

        :param ids: the rows of the table, shape: ``(b, k)``
        """
        self.ids = ids

    @override
    def arrange(self, x: FloatTensor) -> FloatTensor:
        return x

    @override
    def flatten(self, scores: FloatTensor, b: int) -> FloatTensor:
        return scores

    @override
    def empty(self, q: FloatTensor, c: FloatTensor) -> FloatTensor:
        return q.new_empty(self.ids.shape)

    @override
    def products(self, q: FloatTensor, c: FloatTensor) -> FloatTensor:
        if len(c) < DENSE * self.ids.shape[1]:
            return (q @ c.t()).gather(1, self.ids)
        pattern = self._matrix(torch.zeros_like(self.empty(q, c)), len(c))
        products = torch.sparse.sampled_addmm(pattern, q.contiguous(), c.t(), beta=0.0).values()
        return cast(FloatTensor, products.view(self.ids.shape))

    @override
    def to_queries(self, w: FloatTensor, c: FloatTensor) -> FloatTensor:
        return embedding_bag(self.ids, c, per_sample_weights=w.contiguous(), mode="sum")

    @override
    def to_candidates(self, w: FloatTensor, q: FloatTensor, c: FloatTensor) -> FloatTensor:
        ids, order, rows = self._by_candidate
        bags = torch.searchsorted(ids, torch.arange(len(c), dtype=ids.dtype, device=ids.device))
        return embedding_bag(rows, q.contiguous(), bags, per_sample_weights=w.flatten()[order], mode="sum")

    @override
    def total(self, w: FloatTensor, c: FloatTensor) -> FloatTensor:
        return w.new_zeros(len(c)).index_add_(0, self.ids.flatten(), w.flatten()).unsqueeze(-1)

    @override
    def of_candidates(self, x: FloatTensor) -> FloatTensor:
        return x.index_select(0, self.ids.flatten()).view(self.ids.shape)

    @override
    def locate(self, pairs: LongTensor) -> tuple[Index, Index]:
        row, column = pairs.unbind(dim=-1)
        return (row,), (self.ids[row, column],)

    @override
    def ids_of(self, q: FloatTensor, c: FloatTensor) -> LongTensor:
        # loops do not look whether a row exists
        if self.ids.numel() and not 0 <= int(self.ids.min()) <= int(self.ids.max()) < len(c):
            raise IndexError(f"The ids are {int(self.ids.min())} to {int(self.ids.max())}, of {len(c)} candidates.")
        return self.ids

    @override
    def differences(self, q: FloatTensor, c: FloatTensor, s: FloatTensor | None) -> Iterator[tuple[Block, FloatTensor]]:
        buffer = Buffer(q)
        d = q.shape[1]
        for block in blocks(tuple(self.ids.shape), elements(q) // d):
            ids = self.ids[block]
            x = buffer(ids.numel(), d)
            torch.index_select(c, 0, ids.flatten(), out=x)
            x = x.view(*ids.shape, d)
            rows = block[0]
            if s is not None:
                x.mul_(s[rows].unsqueeze(1))
            yield block, torch.sub(q[rows].unsqueeze(1), x, out=x)

    @override
    def subtract_from_candidates(self, gradient: FloatTensor, block: Block, x: FloatTensor) -> None:
        # another factor than 1 takes several times as long
        gradient.index_add_(0, self.ids[block].flatten(), x.flatten(end_dim=-2).neg_())

    @override
    def candidates(self, c: FloatTensor, block: Block) -> FloatTensor:
        return c[self.ids[block]]

    @cached_property
    def _by_candidate(self) -> Index:
        """Return the ids in order, which pairs have them, and which queries have these pairs."""
        ids, order = self.ids.flatten().int().sort()
        return ids, order, order.div(self.ids.shape[1], rounding_mode="floor")

    def _matrix(self, w: FloatTensor, columns: int) -> Any:
        """Return the weights of the pairs as a sparse matrix, shape: ``(b, columns)``."""
        b, k = self.ids.shape
        _accept_beta()
        rows = torch.arange(0, b * k + 1, k, device=w.device)
        return torch.sparse_csr_tensor(rows, self.ids.flatten(), w.flatten(), (b, columns), check_invariants=False)


@cache
def _accept_beta() -> None:
    """Let PyTorch warn, once and for all, unheard, that its sparse matrices by rows are in beta state."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)
        torch.sparse_csr_tensor([0, 1], [0], [1.0], (1, 1), check_invariants=False)

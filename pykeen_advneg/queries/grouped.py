"""Candidates which a group of queries shares: products of dense matrices."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pykeen.typing import FloatTensor, LongTensor
from typing_extensions import override

from .layouts import Block, Buffer, Index, Layout, blocks, elements

__all__ = ["Grouped"]


class Grouped(Layout):
    """Each query meets each candidate of its group.

    Shapes: queries ``(g, m, d)``, candidates ``(g, n, d)``, pairs ``(g, m, n)``.
    """

    def __init__(self, m: int) -> None:
        """Initialize the layout.

        :param m: how many consecutive queries are a group
        """
        self.m = m

    @override
    def arrange(self, x: FloatTensor) -> FloatTensor:
        missing = -len(x) % self.m
        if missing:
            x = torch.cat([x, x.new_zeros(missing, *x.shape[1:])])
        return x.reshape(-1, self.m, *x.shape[1:])

    @override
    def flatten(self, scores: FloatTensor, b: int) -> FloatTensor:
        return scores.flatten(end_dim=1)[:b]

    @override
    def empty(self, q: FloatTensor, c: FloatTensor) -> FloatTensor:
        return q.new_empty(*q.shape[:2], c.shape[1])

    @override
    def products(self, q: FloatTensor, c: FloatTensor) -> FloatTensor:
        if _is_single(q, c):
            scores: FloatTensor = torch.linalg.vecdot(q, c).unsqueeze(-1)
            return scores
        return torch.bmm(q, c.transpose(1, 2))

    @override
    def to_queries(self, w: FloatTensor, c: FloatTensor) -> FloatTensor:
        return w * c if w.shape[1:] == (1, 1) else torch.bmm(w, c)

    @override
    def to_candidates(self, w: FloatTensor, q: FloatTensor, c: FloatTensor) -> FloatTensor:
        return w * q if w.shape[1:] == (1, 1) else torch.bmm(w.transpose(1, 2), q)

    @override
    def total(self, w: FloatTensor, c: FloatTensor) -> FloatTensor:
        return w.sum(dim=1).unsqueeze(-1)

    @override
    def of_candidates(self, x: FloatTensor) -> FloatTensor:
        return x.unsqueeze(1)

    @override
    def locate(self, pairs: LongTensor) -> tuple[Index, Index]:
        g, m, n = pairs.unbind(dim=-1)
        return (g, m), (g, n)

    @override
    def ids_of(self, q: FloatTensor, c: FloatTensor) -> LongTensor:
        ids = torch.arange(c.shape[0] * c.shape[1], device=c.device).view(-1, c.shape[1])
        return ids.repeat_interleave(q.shape[1], dim=0)

    @override
    def differences(self, q: FloatTensor, c: FloatTensor, s: FloatTensor | None) -> Iterator[tuple[Block, FloatTensor]]:
        buffer = Buffer(q)
        for block in blocks((*q.shape[:2], c.shape[1]), elements(q) // q.shape[2]):
            left, right = q[block[:2]].unsqueeze(2), self.candidates(c, block)
            x = buffer(*left.shape[:2], *right.shape[2:])
            if s is not None:
                right = torch.mul(right, s[block[:2]].unsqueeze(2), out=x)
            yield block, torch.sub(left, right, out=x)

    @override
    def subtract_from_candidates(self, gradient: FloatTensor, block: Block, x: FloatTensor) -> None:
        gradient[block[0], block[2]] -= x.sum(dim=1)

    @override
    def candidates(self, c: FloatTensor, block: Block) -> FloatTensor:
        return c[block[0], block[2]].unsqueeze(1)


def _is_single(q: FloatTensor, c: FloatTensor) -> bool:
    """Return whether each query meets one candidate, for which a product of matrices takes many times longer."""
    return q.shape[1] == 1 == c.shape[1]

"""Negatives: which slot of each positive is corrupted, and which ids stand there instead."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL, BoolTensor, LongTensor

__all__ = ["Negatives"]


@dataclass(frozen=True)
class Negatives:
    r"""The negatives of a batch of positives: one slot of a positive replaced by another id.

    Negative $j$ of positive $i$ is the positive $(h_i, r_i, t_i)$ with the slot ``column[i, j]`` replaced by
    ``ids[i, j]``.

    Shapes: $b$ positives with $k$ negatives each.
    """

    #: the positives, shape: ``(b, 3)``
    positives: LongTensor

    #: the ids which replace the corrupted slot, shape: ``(b, k)``. One row, shape ``(1, k)``, or one row per chunk of
    #: consecutive positives, shape ``(c, k)`` with ``c = ceil(b / chunk_size)``, is shared by these positives.
    ids: LongTensor

    #: the corrupted slot (0: head, 1: relation, 2: tail), shape: ``(b, 1)`` (one for each positive) or ``(b, k)``
    column: LongTensor

    #: which negatives count (True: keep), shape: ``(b, k)``; ``None``: all
    mask: BoolTensor | None = None

    #: how many consecutive positives share a row of ``ids``
    chunk_size: int = 1

    def __post_init__(self) -> None:
        b = len(self.positives)
        rows = -(-b // self.chunk_size)
        if self.positives.shape != (b, 3):
            raise ValueError(f"positives must have shape (b, 3), got {tuple(self.positives.shape)}.")
        if self.ids.ndim != 2 or len(self.ids) != rows:  # noqa: PLR2004
            raise ValueError(
                f"ids must have shape ({rows}, k) for {b} positives in chunks of {self.chunk_size}, "
                f"got {tuple(self.ids.shape)}."
            )
        if self.column.shape not in {(b, 1), self.shape}:
            raise ValueError(f"column must have shape ({b}, 1) or {self.shape}, got {tuple(self.column.shape)}.")
        if self.mask is not None and self.mask.shape != self.shape:
            raise ValueError(f"mask must have shape {self.shape}, got {tuple(self.mask.shape)}.")

    def __len__(self) -> int:
        return len(self.positives)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape ``(b, k)`` of the scores of these negatives."""
        return len(self.positives), self.ids.shape[1]

    @property
    def dense_ids(self) -> LongTensor:
        """The replacing ids of each positive, shape: ``(b, k)``, shared rows repeated."""
        if self.chunk_size == 1:
            return self.ids
        return self.ids.repeat_interleave(self.chunk_size, dim=0)[: len(self)]

    @property
    def triples(self) -> LongTensor:
        """The negatives as triples, shape: ``(b, k, 3)``."""
        b, k = self.shape
        triples = self.positives.unsqueeze(1).repeat(1, k, 1)
        column = self.column.expand(b, k).unsqueeze(-1)
        return triples.scatter_(dim=2, index=column, src=self.dense_ids.unsqueeze(-1))

    @classmethod
    def from_triples(cls, positives: LongTensor, triples: LongTensor, mask: BoolTensor | None = None) -> Negatives:
        """Read the corrupted slot off corrupted triples; a triple equal to its positive counts as a corrupted tail.

        :param positives: shape: ``(b, 3)``
        :param triples: shape: ``(b, k, 3)``, each with at most one slot that differs from its positive
        :param mask: shape: ``(b, k)``, True where the negative counts

        :returns: the negatives

        :raises ValueError: if a triple differs from its positive in more than one slot
        """
        changed = triples != positives.unsqueeze(1)
        if bool((changed.sum(dim=-1) > 1).any()):
            raise ValueError("A negative differs from its positive in more than one slot; only one may be corrupted.")
        column = torch.where(
            changed[..., COLUMN_HEAD],
            COLUMN_HEAD,
            torch.where(changed[..., COLUMN_RELATION], COLUMN_RELATION, COLUMN_TAIL),
        )
        ids = triples.gather(dim=2, index=column.unsqueeze(-1)).squeeze(-1)
        return cls(positives=positives, ids=ids, column=column, mask=mask)

    def narrow(self, start: int, stop: int) -> Negatives:
        """Cut out the negatives of the positives ``start:stop``, with ids of their own for each positive."""
        if start == 0 and stop >= len(self):
            return self
        mask = None if self.mask is None else self.mask[start:stop]
        return replace(
            self,
            positives=self.positives[start:stop],
            ids=self.dense_ids[start:stop],
            column=self.column[start:stop],
            mask=mask,
            chunk_size=1,
        )

"""Negatives: which slot of each positive is corrupted, and which ids stand there instead."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL, BoolTensor, FloatTensor, LongTensor

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

    #: the logarithm of how often each id is expected in its row of ``ids``, same shape; ``None``: of no concern
    log_q: FloatTensor | None = None

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
        if self.log_q is not None and self.log_q.shape != self.ids.shape:
            raise ValueError(f"log_q must have shape {tuple(self.ids.shape)}, got {tuple(self.log_q.shape)}.")

    def __len__(self) -> int:
        return len(self.positives)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape ``(b, k)`` of the scores of these negatives."""
        return len(self.positives), self.ids.shape[1]

    @property
    def dense_ids(self) -> LongTensor:
        """The replacing ids of each positive, shape: ``(b, k)``, shared rows repeated."""
        return self.expand(self.ids)

    @property
    def kept_ids(self) -> LongTensor:
        """The id which each positive has in its corrupted slot, shape: ``(b, 1)`` or ``(b, k)`` as ``column``."""
        return self.positives.gather(dim=1, index=self.column)

    def expand(self, x: torch.Tensor) -> torch.Tensor:
        """Repeat shared rows for each positive.

        :param x: a row for each row of ``ids``

        :returns: a row for each positive
        """
        if self.chunk_size == 1:
            return x
        if len(x) == 1:
            return x.expand(len(self), *x.shape[1:])
        return x.repeat_interleave(self.chunk_size, dim=0)[: len(self)]

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
        if bool((column == column[:, :1]).all()):
            # as PyKEEN's `basic` has it; scores of one side take half the time of those of both
            column = column[:, :1]
        return cls(positives=positives, ids=ids, column=column, mask=mask)

    def narrow(self, start: int, stop: int) -> Negatives:
        """Cut out the negatives of the positives ``start:stop``.

        They share ids as before if whole chunks are cut, or a part of one.

        :param start: the first positive
        :param stop: the one after the last

        :returns: their negatives
        """
        if start == 0 and stop >= len(self):
            return self
        ids, log_q, chunk_size = self.ids, self.log_q, self.chunk_size
        if len(ids) == 1:
            chunk_size = min(stop, len(self)) - start
        elif start % chunk_size == 0 or stop <= (start // chunk_size + 1) * chunk_size:
            rows = slice(start // chunk_size, -(-stop // chunk_size))
            ids, log_q = ids[rows], None if log_q is None else log_q[rows]
        else:
            ids, log_q = self.dense_ids[start:stop], None if log_q is None else self.expand(log_q)[start:stop]
            chunk_size = 1
        return Negatives(
            positives=self.positives[start:stop],
            ids=ids,
            column=self.column[start:stop],
            mask=None if self.mask is None else self.mask[start:stop],
            chunk_size=chunk_size,
            log_q=log_q,
        )

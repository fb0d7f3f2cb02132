"""Pools of candidates which the positives of a batch share: which of them are true answers."""

from __future__ import annotations

import torch
from pykeen.typing import COLUMN_HEAD, COLUMN_TAIL, BoolTensor, LongTensor, MappedTriples
from torch import nn

from ..filtering import TripleIndex
from ..negatives import Negatives

__all__ = ["KnownAnswers"]


class KnownAnswers(nn.Module):
    """Finds the known triples among negatives with shared ids: exact, and in less time than to look up each triple.

    The known answers of each positive are looked up, and found again among the ids which it was offered; they are far
    fewer than its negatives.
    """

    #: whether an entity is in a pool, shape: ``(num_entities,)``; all False between two calls
    is_offered: BoolTensor

    def __init__(self, mapped_triples: MappedTriples, num_entities: int) -> None:
        """Index the triples.

        :param mapped_triples: shape: ``(n, 3)``, the known triples
        :param num_entities: the number of entities
        """
        super().__init__()
        self.num_entities = num_entities
        self.index = TripleIndex(mapped_triples)
        self.register_buffer("is_offered", torch.zeros(num_entities, dtype=torch.bool), persistent=False)

    def forward(self, negatives: Negatives) -> BoolTensor:
        """Find the unknown triples.

        :param negatives: with one corrupted side for each positive

        :returns: True where a negative is no known triple, shape: ``(b, k)``
        """
        rows, known = self._answers(negatives)
        ids = negatives.ids
        self.is_offered[ids] = True
        hit = self.is_offered[known]
        self.is_offered[ids] = False
        rows, known = rows[hit], known[hit]
        # each find lies in the run of equal ids of the sorted row of its chunk
        ids, order = ids.sort(dim=1)
        chunk = rows // negatives.chunk_size
        offset = self.num_entities * torch.arange(len(ids), device=ids.device)
        keys, wanted = (ids + offset.unsqueeze(1)).flatten(), known + offset[chunk]
        first, last = (torch.searchsorted(keys, wanted, right=right) for right in (False, True))
        repeats = last - first
        rows = rows.repeat_interleave(repeats)
        places = torch.arange(len(rows), device=ids.device)
        places = places - (repeats.cumsum(0) - repeats - first).repeat_interleave(repeats)
        mask = torch.ones(negatives.shape, dtype=torch.bool, device=ids.device)
        mask[rows, order.flatten()[places]] = False
        return mask

    def _answers(self, negatives: Negatives) -> tuple[LongTensor, LongTensor]:
        """Look up the known answers of each positive: the row of the positive, and the entity."""
        column = negatives.column.squeeze(-1)
        found = []
        for side in (COLUMN_HEAD, COLUMN_TAIL):
            chosen = (column == side).nonzero().squeeze(-1)
            rows, known = self.index.known(negatives.positives[chosen], side)
            found.append((chosen[rows], known))
        rows, known = (torch.cat(parts) for parts in zip(*found, strict=True))
        return rows, known

"""Exact, vectorised look-ups of known triples: a filterer, and an index of the known answers of queries."""

from __future__ import annotations

import torch
from pykeen.sampling.filtering import Filterer
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL, BoolTensor, LongTensor, MappedTriples
from torch import nn

__all__ = ["ExactFilterer", "TripleIndex"]

#: slots of the one-probe sieve per stored triple; 16 slots let about 6% of the unknown triples pass to the exact test
_SLOTS_PER_TRIPLE = 16
#: the sieve takes at most this many bytes
_MAX_SLOTS = 2**27
#: odd 63-bit constant of a multiplicative hash (2^63 divided by the golden ratio)
_MULTIPLIER = 5700357409661598721


def _check_triples(mapped_triples: LongTensor) -> LongTensor:
    """Check the shape, the type and the signs of triples."""
    if mapped_triples.ndim != 2 or mapped_triples.shape[-1] != 3:  # noqa: PLR2004
        raise ValueError(f"mapped_triples must have shape (n, 3), got {tuple(mapped_triples.shape)}.")
    if mapped_triples.is_floating_point() or mapped_triples.is_complex():
        raise ValueError(f"mapped_triples must have an integer type, got {mapped_triples.dtype}; pass ids.")
    if mapped_triples.numel() and int(mapped_triples.min()) < 0:
        raise ValueError(f"mapped_triples must not contain negative ids, got {int(mapped_triples.min())}.")
    return mapped_triples.long()


def _ranges(mapped_triples: LongTensor) -> tuple[int, int]:
    """Give the smallest ranges of entity and relation ids, and check that a triple fits into one 64-bit key."""
    if not len(mapped_triples):
        return 1, 1
    head, relation, tail = (int(i) + 1 for i in mapped_triples.max(dim=0).values)
    num_entities = max(head, tail)
    if num_entities * num_entities * relation >= 2**63:
        raise ValueError(
            f"mapped_triples has ids up to {num_entities - 1} for entities and {relation - 1} for relations; "
            f"such triples do not fit into 64-bit keys. Map the ids to consecutive numbers first."
        )
    return num_entities, relation


class ExactFilterer(Filterer):
    r"""A filterer without errors, by a vectorised search.

    A triple $(h, r, t)$ has the 64-bit key $(h |\mathcal{R}| + r) |\mathcal{E}| + t$. One look-up in a table of flags,
    at the hash of the key, sieves out almost all unknown triples; the few which pass are searched for in the sorted
    keys and compared slot by slot, hence there is neither a false hit nor a miss, whatever ids are asked for.

    Memory for $n$ triples: $32 n$ bytes of triples and keys and between $16 n$ and $32 n$ bytes of flags. The buffers
    move with ``.to()``, and are no part of the ``state_dict()``, as they are recomputed from the triples.
    """

    #: the known triples in the order of their keys, shape: ``(n, 3)``
    triples: LongTensor

    #: the sorted keys, shape: ``(n,)``
    keys: LongTensor

    #: one flag per hash value, shape: ``(num_slots,)``, a power of two
    sieve: BoolTensor

    def __init__(self, mapped_triples: MappedTriples) -> None:
        """Index the triples.

        :param mapped_triples: shape: ``(n, 3)``, the known triples

        :raises ValueError: if this is no tensor of triples of ids, or if its triples do not fit into 64-bit keys
        """
        super().__init__()
        mapped_triples = _check_triples(mapped_triples)
        self.num_entities, self.num_relations = _ranges(mapped_triples)
        keys = self._key(mapped_triples).unique()
        tail = keys % self.num_entities
        pair = keys.div(self.num_entities, rounding_mode="floor")
        head = pair.div(self.num_relations, rounding_mode="floor")
        slots = min(_MAX_SLOTS, 1 << max(6, (_SLOTS_PER_TRIPLE * len(keys) - 1).bit_length()))
        self._shift = 63 - (slots.bit_length() - 1)
        sieve = torch.zeros(slots, dtype=torch.bool, device=keys.device)
        sieve[self._slot(keys)] = True
        triples = torch.stack([head, pair % self.num_relations, tail], dim=-1)
        for name, buffer in (("triples", triples), ("keys", keys), ("sieve", sieve)):
            self.register_buffer(name, buffer, persistent=False)

    def _key(self, triples: LongTensor) -> LongTensor:
        """Give the key of each triple, shape: ``(*s, 3)`` to ``(*s,)``; unique within the ranges of the ids."""
        head, relation, tail = triples.unbind(dim=-1)
        return (head * self.num_relations).add_(relation).mul_(self.num_entities).add_(tail)

    def _slot(self, keys: LongTensor) -> LongTensor:
        """Give the place of each key in the sieve: the upper bits of a product modulo 2^63."""
        return (keys * _MULTIPLIER).bitwise_and_(2**63 - 1).bitwise_right_shift_(self._shift)

    # docstr-coverage: inherited
    def contains(self, batch: MappedTriples) -> BoolTensor:  # noqa: D102
        if batch.shape[-1] != 3:  # noqa: PLR2004
            raise ValueError(f"batch must have shape (..., 3), got {tuple(batch.shape)}.")
        shape = batch.shape[:-1]
        batch = batch.reshape(-1, 3)
        result = torch.zeros(len(batch), dtype=torch.bool, device=batch.device)
        if not len(self.keys):
            return result.view(shape)
        keys = self._key(batch)
        candidates = self.sieve[self._slot(keys)].nonzero().squeeze(dim=-1)
        position = torch.searchsorted(self.keys, keys[candidates]).clamp_(max=len(self.keys) - 1)
        result[candidates] = (self.triples[position] == batch[candidates]).all(dim=-1)
        return result.view(shape)

    def extra_repr(self) -> str:
        """Give the size for ``repr()``."""
        return f"num_triples={len(self.keys)}, num_slots={len(self.sieve)}"


class _PairIndex(nn.Module):
    """The third slot of all known triples, grouped by the pair of the two other slots (compressed sparse rows)."""

    pairs: LongTensor
    keys: LongTensor
    offsets: LongTensor
    values: LongTensor

    def __init__(self, pairs: LongTensor, values: LongTensor, factor: int) -> None:
        """Group.

        :param pairs: shape: ``(n, 2)``, sorted lexicographically
        :param values: shape: ``(n,)``
        :param factor: one more than the largest second id of a pair
        """
        super().__init__()
        self.factor = factor
        keys, counts = (pairs[:, 0] * factor + pairs[:, 1]).unique_consecutive(return_counts=True)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(dim=0)])
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("pairs", pairs[offsets[:-1]], persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("values", values, persistent=False)

    def forward(self, pairs: LongTensor) -> tuple[LongTensor, LongTensor]:
        """Look up pairs, shape: ``(b, 2)``: the row and the value of each of the ``m`` finds, shape ``(m,)`` each."""
        if not len(self.keys):
            return pairs.new_empty(0), pairs.new_empty(0)
        position = torch.searchsorted(self.keys, pairs[:, 0] * self.factor + pairs[:, 1])
        position = position.clamp_(max=len(self.keys) - 1)
        known = (self.pairs[position] == pairs).all(dim=-1)
        start = self.offsets[position]
        counts = (self.offsets[position + 1] - start) * known
        rows = torch.arange(len(pairs), device=pairs.device).repeat_interleave(counts)
        # the place of a find is its place among all finds, moved to where the values of its row begin
        shift = start - (counts.cumsum(dim=0) - counts)
        return rows, self.values[torch.arange(len(rows), device=rows.device) + shift[rows]]


class TripleIndex(nn.Module):
    """All known tails of $(h, r)$ and all known heads of $(r, t)$, for whole batches at once.

    Memory for $n$ triples: at most $80 n$ bytes. Each look-up of a batch of ``b`` pairs with ``m`` answers takes
    ``O(b log n + m)``; ids which occur in no triple have no answers.
    """

    def __init__(self, mapped_triples: MappedTriples) -> None:
        """Index the triples; duplicates count once.

        :param mapped_triples: shape: ``(n, 3)``, the known triples

        :raises ValueError: if this is no tensor of triples of ids, or if its triples do not fit into 64-bit keys
        """
        super().__init__()
        mapped_triples = _check_triples(mapped_triples)
        #: one more than the largest entity id and the largest relation id
        self.num_entities, self.num_relations = _ranges(mapped_triples)
        head, relation, tail = mapped_triples.unbind(dim=-1)
        self._tails = self._group(head, relation, tail, self.num_relations)
        self._heads = self._group(relation, tail, head, self.num_entities)

    def _group(self, first: LongTensor, second: LongTensor, value: LongTensor, factor: int) -> _PairIndex:
        keys = ((first * factor + second) * self.num_entities + value).unique()
        pair = keys.div(self.num_entities, rounding_mode="floor")
        pairs = torch.stack([pair.div(factor, rounding_mode="floor"), pair % factor], dim=-1)
        return _PairIndex(pairs=pairs, values=keys % self.num_entities, factor=factor)

    def tails(self, hr_batch: LongTensor) -> tuple[LongTensor, LongTensor]:
        """Give the known tails of (head, relation) pairs.

        :param hr_batch: shape: ``(b, 2)``

        :returns: for each of the ``m`` answers the row of its pair in the batch and its tail, shape: ``(m,)`` each;
            rows ascend, and tails ascend within a row
        """
        return self._look_up(self._tails, hr_batch, name="hr_batch")

    def heads(self, rt_batch: LongTensor) -> tuple[LongTensor, LongTensor]:
        """Give the known heads of (relation, tail) pairs.

        :param rt_batch: shape: ``(b, 2)``

        :returns: for each of the ``m`` answers the row of its pair in the batch and its head, shape: ``(m,)`` each;
            rows ascend, and heads ascend within a row
        """
        return self._look_up(self._heads, rt_batch, name="rt_batch")

    def known(self, hrt_batch: MappedTriples, column: int) -> tuple[LongTensor, LongTensor]:
        """Give the known ids of one slot of triples, given the other two slots.

        :param hrt_batch: shape: ``(b, 3)``
        :param column: the slot: 0 for heads, 2 for tails

        :returns: the row and the id of each of the ``m`` answers, shape: ``(m,)`` each

        :raises ValueError: if the column is neither 0 nor 2
        """
        if column == COLUMN_TAIL:
            return self.tails(hrt_batch[:, :COLUMN_TAIL])
        if column == COLUMN_HEAD:
            return self.heads(hrt_batch[:, COLUMN_RELATION:])
        raise ValueError(f"column must be {COLUMN_HEAD} (heads) or {COLUMN_TAIL} (tails), got {column}.")

    @staticmethod
    def _look_up(index: _PairIndex, pairs: LongTensor, name: str) -> tuple[LongTensor, LongTensor]:
        if pairs.ndim != 2 or pairs.shape[-1] != 2:  # noqa: PLR2004
            raise ValueError(f"{name} must have shape (b, 2), got {tuple(pairs.shape)}.")
        rows, values = index(pairs)
        return rows, values

"""Scores of negatives whose representations are mixed with those of their positives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from pykeen.regularizers import Regularizer
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL, FloatTensor, LongTensor
from torch.utils.checkpoint import checkpoint

from ..negatives import Negatives
from ..queries import Encoded, Grouped, Looked, QueryForm, Slot, each
from ..queries.broadcasting import broadcast
from ..queries.masks import Key, PairMasks, bernoulli
from ..queries.mutated import EncodedMasks, adds_up, mix, plain_and_mixed
from ..scoring import Scorer

__all__ = ["BernoulliWeights", "Mutation", "bernoulli_weights", "beta_weights", "mutated_scores", "unregularized"]

#: how many numbers mixed representations may have at a time, on a CPU and elsewhere
ELEMENTS = {"cpu": 2**19}
MANY_ELEMENTS = 2**26


def bernoulli_weights(slot: Slot, rate: float, tied: bool = False, generator: torch.Generator | None = None) -> Slot:
    """Draw which components of negatives are kept, independently of each other.

    :param slot: the representations of the negatives, of any shape
    :param rate: the probability of 1, else 0
    :param tied: whether the real and the imaginary part of a complex number are kept together
    :param generator: the source of chance

    :returns: the weights, of the same shapes and types, cf. :func:`pykeen_advneg.queries.mutated.mix`
    """

    def draw(x: FloatTensor) -> FloatTensor:
        shape = (*x.shape, 1 if tied else 2) if x.is_complex() else x.shape
        kept = bernoulli(torch.Size(shape), Key.draw(rate, x.device, generator), x.real.dtype, x.device)
        return torch.view_as_complex(kept.expand(*x.shape, 2).contiguous()) if x.is_complex() else kept

    return each(slot, draw)


def beta_weights(slot: Slot, generator: torch.Generator | None = None) -> Slot:
    """Draw the share of each negative from Beta(2, 1), whose mean is 2/3.

    :param slot: the representations of the negatives, prefix of their shapes: ``(g, n)``
    :param generator: the source of chance

    :returns: the weights, one for all components of a negative, shape ``(g, n, *s)``
    """
    if not isinstance(slot, torch.Tensor) and not slot:
        return slot
    first = slot if isinstance(slot, torch.Tensor) else slot[0]
    # the density is 2x on [0, 1], and the distribution x^2
    share = torch.rand(first.shape[:2], device=first.device, generator=generator).sqrt()

    def spread(x: FloatTensor) -> FloatTensor:
        weights = share.to(x.real.dtype).view(*share.shape, *[1] * (x.ndim - 2)).expand(x.shape)
        return torch.complex(weights, weights) if x.is_complex() else weights

    return each(slot, spread)


@dataclass(frozen=True)
class BernoulliWeights:
    """Draws which components are kept, cf. :func:`bernoulli_weights`."""

    rate: float
    tied: bool = False

    def __call__(self, slot: Slot) -> Slot:
        """Draw for the representations of negatives."""
        return bernoulli_weights(slot, self.rate, self.tied)

    def key(self, device: torch.device) -> Key:
        """Draw what the masks of pairs depend on."""
        return Key.draw(self.rate, device, None)

    def of_pairs(self, form: QueryForm, like: Slot) -> EncodedMasks:
        """Draw masks of pairs.

        :param form: the form, which has the components in an order of its own
        :param like: representations as those of the negatives

        :returns: the masks
        """
        width = 0

        def number(x: FloatTensor) -> FloatTensor:
            """Say at which place of its pair each component's number is."""
            nonlocal width
            tied = self.tied or not x.is_complex()
            n = x[0].numel()
            places = width + torch.arange(n * (2 - tied), dtype=torch.float64, device=x.device).view(n, 2 - tied)
            width += places.numel()
            parts = places[:, 0].reshape(1, 1, *x.shape[1:]), places[:, -1].reshape(1, 1, *x.shape[1:])
            return torch.complex(*parts) if x.is_complex() else parts[0]

        encoded = form.encode(each(like, number))
        key = self.key(encoded.vector.device)
        components = (None if x is None else x.flatten().long() for x in (encoded.vector, encoded.bias))
        vector, bias = (None if x is None else PairMasks(key, width, x) for x in components)
        return EncodedMasks(cast(PairMasks, vector), bias)


@dataclass(frozen=True)
class Mutation:
    """How negatives are mixed with their positives."""

    #: gives the shares of negatives, given their representations, whose prefix is ``(g, n)``
    draw: Callable[[Slot], Slot]

    #: whether each share is 0 or 1; else all components of a negative have the same
    is_binary: bool

    #: whether positives which share a negative share its weights, too
    is_shared: bool


def mutated_scores(
    scorer: Scorer, negatives: Negatives, mutation: Mutation
) -> tuple[FloatTensor, FloatTensor, FloatTensor]:
    """Score positives, negatives, and negatives mixed with their positives.

    Where the score adds up over components, this needs no mixed representations: if ids and weights are shared, these
    are products of matrices, or sums over blocks; else sums over blocks. Elsewhere mixed representations are scored by
    the interaction, in pieces if there are many.

    :param scorer: gives the scores
    :param negatives: the negatives of $b$ positives, $k$ each
    :param mutation: how they are mixed

    :returns: the scores of positives, shape ``(b, 1)``, of negatives and of mutated negatives, shapes ``(b, k)``
    """
    columns = negatives.column.unique().tolist()
    forms = [scorer.form_of(column) for column in columns]
    is_paired = not mutation.is_shared or negatives.chunk_size == 1
    is_known = not is_paired or isinstance(mutation.draw, BernoulliWeights)
    is_fast = is_known and all(adds_up(form) for form in forms)
    is_one_sided = negatives.column.shape[1] == 1
    if is_fast and is_one_sided and scorer.lookups.are_joint and set(columns) == {COLUMN_HEAD, COLUMN_TAIL}:
        return _both_sides(scorer, negatives, mutation, cast(QueryForm, forms[0]), is_paired)
    positives, plain = scorer.both(negatives)
    if not negatives.ids.numel() or not len(negatives):
        return positives, plain, plain
    mutated: FloatTensor | None = None
    with unregularized(scorer):
        for column, form in zip(columns, forms, strict=True):
            if is_fast and form is not None:
                part = _one_column(scorer, negatives, mutation, column, form, is_paired)
            else:
                part = _by_interaction(scorer, negatives, mutation, column)
            mutated = part if mutated is None else torch.where(negatives.column == column, part, mutated)
    return positives, plain, cast(FloatTensor, mutated)


def _both_sides(
    scorer: Scorer, negatives: Negatives, mutation: Mutation, form: QueryForm, is_paired: bool
) -> tuple[FloatTensor, FloatTensor, FloatTensor]:
    """Score corrupted heads and tails together, each entity looked up once."""
    lookups = scorer.lookups
    h, r, t = negatives.positives.unbind(dim=-1)
    is_head = negatives.column == COLUMN_HEAD
    kept, own = (torch.where(is_head.squeeze(-1), *sides) for sides in ((t, h), (h, t)))
    ids, layout = lookups.layout(negatives.ids, COLUMN_TAIL, negatives.chunk_size)
    requests = (COLUMN_HEAD, kept), (COLUMN_RELATION, r), (COLUMN_TAIL, own), (COLUMN_TAIL, ids)
    kept, r, own, pool = lookups.look_up(*requests)
    query, candidates = form.sides(is_head, kept, r), form.encode(pool)
    # as for the positives alone, and for the negatives alone
    lookups.regularize(COLUMN_HEAD, kept)
    lookups.regularize(COLUMN_RELATION, r)
    positives = form.score(query, form.encode(each(own, lambda x: x.unsqueeze(1))), Grouped(1))
    weights = _weights(form, mutation, own, pool, is_paired)
    return positives, *plain_and_mixed(form, query, form.encode(own), candidates, weights, layout, mutation.is_binary)


def _one_column(
    scorer: Scorer, negatives: Negatives, mutation: Mutation, column: int, form: QueryForm, is_paired: bool
) -> FloatTensor:
    """Score mixtures in one slot, as if it were the corrupted one of all positives."""
    indices: list[LongTensor | None] = list(negatives.positives.unbind(dim=-1))
    own = scorer.lookups.represent(*indices)[column]
    ids = _possible(scorer, negatives.ids, column)
    indices[column], layout = scorer.lookups.layout(ids, column, negatives.chunk_size)
    slots = scorer.lookups.represent(*indices)
    pool = slots.pop(column)
    query = form.queries[column](*slots)
    weights = _weights(form, mutation, own, pool, is_paired)
    encoded = form.encode(own), form.encode(pool)
    return plain_and_mixed(form, query, *encoded, weights, layout, mutation.is_binary)[1]


def _weights(form: QueryForm, mutation: Mutation, own: Slot, pool: Slot, is_paired: bool) -> Encoded | EncodedMasks:
    """Draw the weights of shared candidates, or of pairs, in the order in which the form has the components.

    :param form: how mixtures are scored
    :param mutation: how they are made
    :param own: the own entities, prefix of their shapes: ``(b,)``
    :param pool: the shared candidates, prefix ``(g, n)``
    :param is_paired: whether weights belong to pairs

    :returns: the weights
    """
    if is_paired:
        return cast(BernoulliWeights, mutation.draw).of_pairs(form, own)
    return form.encode(mutation.draw(pool))


@contextmanager
def unregularized(scorer: Scorer) -> Iterator[None]:
    """Let regularisers not see representations which they have seen with the plain scores."""
    regularizers = [m for m in scorer.model.modules() if isinstance(m, Regularizer) and m.training]
    for regularizer in regularizers:
        regularizer.eval()
    try:
        yield
    finally:
        for regularizer in regularizers:
            regularizer.train()


def _possible(scorer: Scorer, ids: LongTensor, column: int) -> LongTensor:
    """Make ids of relations possible ids of entities and vice versa, for the rows where another slot is corrupted."""
    return ids.clamp(max=scorer.lookups.count(column) - 1)


def _by_interaction(scorer: Scorer, negatives: Negatives, mutation: Mutation, column: int) -> FloatTensor:
    """Score mixed representations by the interaction, where the slot is corrupted; elsewhere any score."""
    rows = (negatives.column == column).any(dim=1).nonzero().squeeze(-1)
    slots = scorer.lookups.represent(*negatives.positives.unbind(dim=-1))
    ids, layout = scorer.lookups.layout(_possible(scorer, negatives.ids, column), column, negatives.chunk_size)
    if scorer.lookups.are_free:
        (pool,) = scorer.lookups.look_up((column, ids))
    else:
        indices: list[LongTensor | None] = list(negatives.positives.unbind(dim=-1))
        indices[column] = ids
        pool = scorer.lookups.represent(*indices)[column]
    weights = mutation.draw(pool) if mutation.is_shared and negatives.chunk_size > 1 else None

    def pick(some: LongTensor, x: FloatTensor) -> FloatTensor:
        """Give the candidates of some rows, shape: ``(n, k, *s)``."""
        if isinstance(layout, Looked):
            ids = layout.ids[some]
            return x.index_select(0, ids.flatten()).view(*ids.shape, *x.shape[1:])
        return x.index_select(0, some // negatives.chunk_size)

    def part(some: LongTensor) -> FloatTensor:
        candidates = each(pool, partial(pick, some))
        shares = mutation.draw(candidates) if weights is None else each(weights, partial(pick, some))
        own = each(slots[column], lambda x: x[some].unsqueeze(1))
        mixtures = _mix(candidates, own, shares)
        parts = [mixtures if i == column else each(slot, lambda x: x[some]) for i, slot in enumerate(slots)]
        return broadcast(scorer.model.interaction, parts, column, (len(some), negatives.shape[1]), 1)

    # all at once, where they depend on each other
    size = len(negatives) if scorer.needs_whole_batch else _rows_at_a_time(slots[column], negatives.shape[1])
    pieces = rows.split(size)
    if len(pieces) > 1 and torch.is_grad_enabled():
        scores = [cast(FloatTensor, checkpoint(part, piece, use_reentrant=False)) for piece in pieces]
    else:
        scores = [part(piece) for piece in pieces]
    found = torch.cat(scores)
    return found.new_zeros(negatives.shape).index_copy(0, rows, found)


def _mix(negatives: Slot, positives: Slot, weights: Slot) -> Slot:
    """Mix each representation of a slot."""
    if isinstance(negatives, torch.Tensor):
        return mix(negatives, positives, weights)
    return [mix(*several) for several in zip(negatives, positives, weights, strict=True)]


def _rows_at_a_time(slot: Slot, k: int) -> int:
    """Return of how many positives the mixtures, or the weights, are made at a time."""
    several = [slot] if isinstance(slot, torch.Tensor) else slot
    numbers = k * sum(x[0].numel() * (1 + x.is_complex()) for x in several)
    limit = ELEMENTS.get(several[0].device.type, MANY_ELEMENTS) if several else MANY_ELEMENTS
    return max(1, limit // max(1, numbers))

"""Scores of interactions which have no query form, by the interaction itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pykeen.nn.modules import Interaction
from pykeen.typing import FloatTensor

from .form import Slot, each

__all__ = ["broadcast"]

#: how many elements a temporary may have where it does not matter that the candidates are scored piece by piece
ELEMENTS = 2**24


def broadcast(
    interaction: Interaction[Any, Any, Any],
    slots: Sequence[Slot],
    column: int,
    size: tuple[int, int],
    chunk_size: int,
) -> FloatTensor:
    """Score by the interaction, each slot broadcast to ``(groups, chunk_size, candidates)``, but none of them repeated.

    :param interaction: the interaction
    :param slots: the representations of each slot, prefix of their shape: ``(g, n)`` for the candidates, else ``(b,)``
    :param column: the slot where the candidates are
    :param size: how many scores there are, ``(b, n)``
    :param chunk_size: how many consecutive triples share a row of candidates

    :returns: shape: ``(b, n)``
    """
    b, n = size
    slots = list(slots)
    if b % chunk_size:
        slots[column] = each(slots[column], lambda x: x.repeat_interleave(chunk_size, dim=0)[:b])
        chunk_size = 1
    for i, slot in enumerate(slots):
        if i == column:
            slots[i] = each(slot, lambda x: x.unsqueeze(1))
        else:
            slots[i] = each(slot, lambda x: x.reshape(-1, chunk_size, 1, *x.shape[1:]))
    h, r, t = slots
    scores = interaction.score(h=h, r=r, t=t, slice_size=_slice_size(interaction, slots, b), slice_dim=2)
    scores = scores.flatten(end_dim=1)
    # an interaction which ignores the slot has given one score for all candidates
    return scores.expand(b, n) if scores.shape[1] == 1 else scores


def _slice_size(interaction: Interaction[Any, Any, Any], slots: Sequence[Slot], b: int) -> int | None:
    """Return how many candidates to score at a time: all, where gradients or batch normalisation need them all."""
    if torch.is_grad_enabled() or interaction.training:
        return None
    representations = [x for slot in slots for x in ([slot] if isinstance(slot, torch.Tensor) else slot)]
    return max(1, ELEMENTS // (b * max(x[0, 0, 0].numel() for x in representations)))

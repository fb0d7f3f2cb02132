"""How hard the negatives are which were drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pykeen.typing import BoolTensor, FloatTensor, LongTensor

from .exploration import effective_size
from .likeness import Likeness

__all__ = ["METRICS", "measure"]

#: what is averaged over the batches of an epoch; the last is the contrastive loss
METRICS = ("effective_share", "masked_share", "answered_share", "similarity", "pool_similarity", "contrast")


def measure(
    branches: Sequence[Likeness],
    log_q: FloatTensor,
    allowed: BoolTensor,
    is_answer: BoolTensor,
    places: LongTensor,
    drawn: BoolTensor,
) -> dict[str, FloatTensor]:
    """Measure how hard a draw is; the similarity of a pair is the mean over the branches which it has.

    :param branches: the similarities, and who has what they look at
    :param log_q: the logarithm of the distribution, shape: ``(b, p)``
    :param allowed: which candidates may be drawn, shape: ``(b, p)``
    :param is_answer: which candidates are known answers other than the true entity, shape: ``(b, p)``
    :param places: the places of the draws in the pool, shape: ``(b, k)``
    :param drawn: which of them are draws, shape: ``(b, k)``

    :returns: the :data:`METRICS` but the last, scalars
    """
    exists = torch.stack([branch.exists for branch in branches])
    values = torch.stack([branch.values for branch in branches])
    # at least one: all have the structure
    similarity = (values * exists).sum(dim=0) / exists.sum(dim=0)
    chosen = similarity.gather(1, places)[drawn]
    return {
        "effective_share": effective_size(log_q, allowed).mean(),
        "masked_share": 1 - allowed.float().mean(),
        "answered_share": is_answer.any(dim=1).float().mean(),
        "similarity": chosen.mean() if len(chosen) else chosen.new_full((), math.nan),
        "pool_similarity": similarity.mean(),
    }

"""The losses of MMRNS: the contrastive one of the attention network, and the one of the model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, TypeAlias

import torch
from pykeen.typing import COLUMN_HEAD, COLUMN_TAIL, BoolTensor, FloatTensor, LongTensor
from torch.nn import functional

from ...filtering import TripleIndex
from .likeness import Likeness

__all__ = ["Variant", "contrastive_loss", "self_adversarial_loss", "self_adversarial_weights", "subsampling_weights"]

Variant: TypeAlias = Literal["paper", "released"]

#: counts start from here, as in word2vec's subsampling for knowledge graphs (Sun et al., 2019)
COUNT_START = 4


def self_adversarial_weights(scores: FloatTensor, temperature: float, mask: BoolTensor | None = None) -> FloatTensor:
    r"""Compute $\mathrm{softmax}(\alpha s)$ over the negatives of a positive (Sun et al., 2019), without gradient.

    :param scores: shape: ``(b, k)``
    :param temperature: $\alpha$
    :param mask: which negatives count, shape: ``(b, k)``; ``None``: all

    :returns: shape: ``(b, k)``; 0 where a negative does not count
    """
    logits = temperature * scores.detach()
    if mask is None:
        return logits.softmax(dim=1)
    return torch.nan_to_num(logits.masked_fill(~mask, -torch.inf).softmax(dim=1), nan=0.0)


def contrastive_loss(
    branches: Iterable[Likeness],
    is_known: BoolTensor,
    places: LongTensor,
    weights: FloatTensor,
    drawn: BoolTensor,
    num_entities: int,
    variant: Variant = "paper",
) -> FloatTensor:
    r"""Compute the contrastive loss, the mean over branches $m$ of

    $$l^m = - \log \frac{\sum_{j \in P} p_j \exp(sim^m_j)}{\sum_{n \in N} p_n \exp(sim^m_n)}$$

    with $P$ the known answers in the pool, $N$ all other candidates, and $p$ the self-adversarial weight of a negative
    which was drawn, $1 / |E|$ of all others.

    ``variant="paper"``: one logarithm for each positive which has an answer in the pool, and the mean over these.
    ``variant="released"``, as the authors' code: $p_j = w_j / P$ of a drawn negative and $1 / P$ of all others, so that
    drawn ones weigh *less*; and one ratio of sums over the whole batch.

    A candidate or an anchor without a modality takes no part in its branch. Where no answer is left, the branch, or
    the positive, adds nothing, instead of infinity.

    :param branches: the similarities
    :param is_known: which candidates are known answers, shape: ``(b, p)``
    :param places: where the negatives were drawn, shape: ``(b, k)``
    :param weights: their self-adversarial weights, shape: ``(b, k)``
    :param drawn: which of them are draws, shape: ``(b, k)``
    :param num_entities: $|E|$
    :param variant: whose weights

    :returns: a scalar with gradient
    """  # noqa: D400
    base = -math.log(num_entities if variant == "paper" else is_known.shape[1])
    special = weights.clamp(min=torch.finfo(weights.dtype).tiny).log()
    if variant == "released":
        special = special + base
    log_p = torch.full_like(is_known, base, dtype=weights.dtype)
    # only draws: a row with too few candidates repeats a place
    rows, columns = drawn.nonzero(as_tuple=True)
    log_p[rows, places[rows, columns]] = special[rows, columns]
    losses = [_branch_loss(branch, is_known, log_p, variant) for branch in branches]
    return torch.stack(losses).mean()


def _branch_loss(branch: Likeness, is_known: BoolTensor, log_p: FloatTensor, variant: Variant) -> FloatTensor:
    usable = branch.exists
    logits = branch.values + log_p
    dim = 1 if variant == "paper" else (0, 1)
    sides = [usable & is_known, usable & ~is_known]
    counted = sides[0].any(dim=1) & sides[1].any(dim=1) if variant == "paper" else sides[0].any() & sides[1].any()
    above, below = (
        torch.logsumexp(torch.where(side | ~counted.view(-1, 1), logits, -torch.inf), dim=dim) for side in sides
    )
    # rows which do not count have a finite value and the gradient zero
    terms = torch.where(counted, below - above, 0.0)
    return terms.sum() / counted.sum().clamp(min=1)


def subsampling_weights(index: TripleIndex, triples: LongTensor) -> FloatTensor:
    r"""Compute $u = 1 / \sqrt{c(h, r) + c(r, t)}$, where counts of known triples start from 4 (Sun et al., 2019).

    :param index: the known triples
    :param triples: shape: ``(b, 3)``

    :returns: shape: ``(b,)``
    """
    total = torch.zeros(len(triples), dtype=torch.long, device=triples.device)
    for column in (COLUMN_HEAD, COLUMN_TAIL):
        rows, _ = index.known(triples, column)
        total += torch.bincount(rows, minlength=len(triples)) + COUNT_START - 1
    return total.float().rsqrt()


def self_adversarial_loss(
    positives: FloatTensor,
    negatives: FloatTensor,
    weights: FloatTensor,
    subsampling: FloatTensor,
    margin: float,
) -> FloatTensor:
    r"""Compute the loss of the model,

    $$L = \frac{1}{2 \sum_i u_i} \sum_i u_i \Big( - \log \sigma(\gamma + s_i)
        - \sum_j w_{ij} \log \sigma(- \gamma - s_{ij}) \Big).$$

    :param positives: $s_i$, shape: ``(b, 1)``
    :param negatives: $s_{ij}$, shape: ``(b, k)``
    :param weights: $w$, shape: ``(b, k)``, cf. :func:`self_adversarial_weights`
    :param subsampling: $u$, shape: ``(b,)``
    :param margin: $\gamma$

    :returns: a scalar
    """  # noqa: D400
    of_positives = -functional.logsigmoid(margin + positives).squeeze(1)
    of_negatives = -(weights * functional.logsigmoid(-margin - negatives)).sum(dim=1)
    return (subsampling * (of_positives + of_negatives)).sum() / (2 * subsampling.sum())

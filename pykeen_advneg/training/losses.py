"""PyKEEN's losses on the scores of a batch of which some negatives do not count, without taking the others out.

PyKEEN takes the masked scores out of the matrix, and losses which need rows put them back. For 1,024 positives with 256
negatives this takes longer than to score them. Here they stay, with a score at which they add nothing to loss and
gradient; a mean is then corrected for their number.
"""

from __future__ import annotations

import torch
from pykeen import losses
from pykeen.losses import Loss
from pykeen.typing import BoolTensor, FloatTensor

from ..errors import ConfigurationError
from ..negatives import Negatives
from ..sampling.base import Scores

__all__ = ["check_correction", "slcwa_loss"]

#: a softmax over the positive and its negatives: a masked negative has the probability 0
SOFTMAX = frozenset({losses.CrossEntropyLoss, losses.InfoNCELoss})

#: weights by a softmax over the negatives of a positive: a masked negative has the weight 0
WEIGHTING = frozenset({losses.NSSALoss, losses.AdversarialBCEWithLogitsLoss})

#: a term for each pair, which vanishes for very small scores of the negative
PAIRWISE = frozenset({losses.MarginRankingLoss, losses.SoftMarginRankingLoss, losses.PairwiseLogisticLoss})

#: a term for each triple, which vanishes for very small scores of a negative
POINTWISE = frozenset(
    {losses.BCEWithLogitsLoss, losses.PointwiseHingeLoss, losses.SoftPointwiseHingeLoss, losses.SoftplusLoss}
)


def check_correction(loss: Loss) -> None:
    """Check that the scores of negatives may be corrected for the frequency by which they are drawn.

    :param loss: the loss

    :raises ConfigurationError: if it is no softmax over the positive and its negatives
    """
    if type(loss) not in SOFTMAX:
        raise ConfigurationError(
            f"log_q_correction=True is a correction of a sampled softmax, and loss={type(loss).__name__} is none; use "
            f"loss='crossentropy' or 'infonce', or leave the correction out."
        )


def slcwa_loss(
    loss: Loss,
    scores: Scores,
    negatives: Negatives,
    *,
    num_entities: int,
    label_smoothing: float = 0.0,
    pos_weights: FloatTensor | None = None,
    neg_weights: FloatTensor | None = None,
) -> FloatTensor:
    r"""Apply a loss of PyKEEN to a batch.

    Where the negatives say how often each id is expected, a softmax gets $s_j - \log E[n_j]$ instead of $s_j$, in units
    of its temperature, so that the sum over negatives estimates that over all entities (Bengio & Senécal, 2008).

    There may be scores of more negatives than those with ids: the last ones are of generated representations, which
    always count, with the weights of their positives.

    :param loss: the loss
    :param scores: shapes: ``(b, 1)`` and ``(b, k)``, or ``(b, k + n)`` with ``n`` generated negatives
    :param negatives: which of them count
    :param num_entities: the number of entities, for label smoothing
    :param label_smoothing: the label smoothing
    :param pos_weights: sample weights, shape: ``(b,)``
    :param neg_weights: sample weights, shape: ``(b, k)``

    :returns: a scalar, that of ``loss.process_slcwa_scores`` on the negatives which count
    """
    values, mask = scores.negatives, negatives.mask
    num_generated = values.shape[1] - negatives.shape[1]
    if num_generated:
        mask = _extended(mask, values.new_ones(len(values), dtype=torch.bool), num_generated)
        neg_weights = _extended(neg_weights, pos_weights, num_generated)
    if negatives.log_q is not None:
        temperature = loss.inverse_softmax_temperature if isinstance(loss, losses.InfoNCELoss) else 1.0
        values = values - temperature * negatives.expand(negatives.log_q)
    factor: float | FloatTensor = 1.0
    keep = mask
    if mask is not None:
        if isinstance(loss, losses.PairwiseLoss | losses.DoubleMarginLoss) and not bool(mask.any()):
            # nothing to compare with: the mean of nothing
            return 0 * scores.positives.sum()
        is_plain = not label_smoothing and pos_weights is None and neg_weights is None
        filled = _fill(loss, values, mask) if is_plain else None
        if filled is None:
            values = values[mask]
            neg_weights = None if neg_weights is None else neg_weights[mask]
        else:
            (values, factor), keep = filled, None
    result: FloatTensor = loss.process_slcwa_scores(
        positive_scores=scores.positives,
        negative_scores=values,
        label_smoothing=label_smoothing,
        batch_filter=keep,
        num_entities=num_entities,
        pos_weights=pos_weights,
        neg_weights=neg_weights,
    )
    return result if isinstance(factor, float) else result * factor


def _extended(x: torch.Tensor | None, of_positives: torch.Tensor | None, number: int) -> torch.Tensor | None:
    """Add so many columns, with a value for each positive, shape: ``(b,)``, to what negatives have, if anything."""
    if x is None or of_positives is None:
        return x
    return torch.cat([x, of_positives.unsqueeze(-1).expand(-1, number)], dim=-1)


def _fill(loss: Loss, values: FloatTensor, mask: BoolTensor) -> tuple[FloatTensor, float | FloatTensor] | None:
    """Give masked negatives the score at which they do not matter.

    :returns: the scores, and by what to multiply the loss; None if there is no such score
    """
    kind = type(loss)
    if kind in SOFTMAX:
        return _where(mask, values, -torch.inf), 1.0
    if kind in WEIGHTING:
        # a row without any negative has equal weights, and terms of the score 0, as in the host
        is_empty = ~mask.any(dim=1, keepdim=True)
        return _where(mask, values, -torch.inf).masked_fill(is_empty, 0.0), 1.0
    if kind not in PAIRWISE | POINTWISE:
        return None
    values = _where(mask, values, torch.finfo(values.dtype).min / 4)
    if loss.reduction != "mean":
        return values, 1.0
    positives = len(mask) if kind in POINTWISE else 0
    return values, (positives + mask.numel()) / (positives + mask.sum()).to(values.dtype)


def _where(mask: BoolTensor, values: FloatTensor, other: float) -> FloatTensor:
    """Replace what does not count; ``masked_fill`` takes twice the time."""
    return torch.where(mask, values, torch.full((), other, dtype=values.dtype, device=values.device))

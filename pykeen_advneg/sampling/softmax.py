"""The cross-entropy of positives among their negatives, with a label for each negative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pykeen.typing import BoolTensor, FloatTensor
from torch.autograd.function import once_differentiable

__all__ = ["soft_cross_entropy"]


def soft_cross_entropy(
    positives: FloatTensor, negatives: FloatTensor, label: float = 0.0, mask: BoolTensor | None = None
) -> FloatTensor:
    r"""Compute the cross-entropy of each positive (index 0) among its $n$ negatives, with soft labels.

    $$- \log \mathrm{softmax}(s)_0 - \beta \sum_{j=1}^n \log \mathrm{softmax}(s)_j
        = (1 + \beta n) \log \sum_{j=0}^n e^{s_j} - s_0 - \beta \sum_{j=1}^n s_j$$

    The labels are not normalised, and scores of half precision are summed up in single precision. The gradient by $s_j$
    is $(1 + \beta n) \, \mathrm{softmax}(s)_j - y_j$, with the labels $y_0 = 1$ and $y_j = \beta$.

    :param positives: $s_0$, shape: ``(b, 1)``
    :param negatives: $s_j$, shape: ``(b, k)``
    :param label: $\beta$
    :param mask: which negatives count, shape: ``(b, k)``; None: all

    :returns: shape: ``(b,)``
    """
    apply: Callable[..., FloatTensor] = _SoftCrossEntropy.apply
    if negatives.dtype in {torch.float16, torch.bfloat16}:
        positives, negatives = positives.float(), negatives.float()
    return apply(positives, negatives, label, mask)


class _SoftCrossEntropy(torch.autograd.Function):
    """Function and gradient of :func:`soft_cross_entropy`, which keeps one matrix and takes few passes over it."""

    @staticmethod
    def forward(
        ctx: Any, positives: FloatTensor, negatives: FloatTensor, label: float, mask: BoolTensor | None
    ) -> FloatTensor:
        """Compute the cross-entropies."""
        if mask is None:
            count: float | FloatTensor = float(negatives.shape[1])
        else:
            count = mask.sum(dim=1).to(negatives.dtype)
            negatives = torch.where(mask, negatives, negatives.new_full((), -torch.inf))
        top = positives if not negatives.shape[1] else positives.maximum(negatives.amax(dim=1, keepdim=True))
        first, others = positives - top, negatives - top
        labelled: float | FloatTensor = 0.0
        if label:
            kept = others if mask is None else torch.where(mask, others, others.new_zeros(()))
            labelled = label * kept.sum(dim=1)
        powers = others.exp_()
        total = powers.sum(dim=1) + first.exp().squeeze(1)
        ctx.label, ctx.labels = label, 1 + label * count
        ctx.save_for_backward(first, powers, total, mask)
        result: FloatTensor = ctx.labels * total.log() - first.squeeze(1) - labelled
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: FloatTensor) -> tuple[FloatTensor | None, ...]:
        """Compute the gradients."""
        first, powers, total, mask = ctx.saved_tensors
        factor = (grad * ctx.labels / total).unsqueeze(1)
        grad = grad.unsqueeze(1)
        gradient = powers * factor
        if ctx.label:
            # mask is True (1) where a label is
            gradient = gradient.sub_(ctx.label * grad) if mask is None else gradient.addcmul_(mask, -ctx.label * grad)
        return first.exp() * factor - grad, gradient, None, None

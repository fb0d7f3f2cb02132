"""From similarities to the distribution of negatives: how bold it is, and how that changes in training."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Literal, TypeAlias

import torch
from pykeen.typing import BoolTensor, FloatTensor

from .likeness import Likeness

__all__ = ["Schedule", "effective_size", "exploration_factor", "log_mixture", "warn_if_short"]

logger = logging.getLogger(__name__)

Schedule: TypeAlias = Literal["logarithmic", "geometric", "constant"]

#: the smallest factor: similarities over it still are numbers
LEAST = 1e-4


def exploration_factor(schedule: Schedule, start: float, end: float, steps: int, step: int) -> float:
    r"""Compute the factor $\epsilon$ by which similarities are divided at a step, counted from 0.

    * ``logarithmic``, the paper's: $\epsilon_0 / (1 + \ln(t + 1))$. As similarities are from -1 to 1, no candidate is
      more than $e^{2 / \epsilon}$ times as probable as another one: 1.22 times at the first step for
      $\epsilon_0 = 10$, and 12 times at the 100,000th.
    * ``geometric``: from $\epsilon_0$ down to $\epsilon_1$ in $T$ steps,
      $\epsilon_0 (\epsilon_1 / \epsilon_0)^{t / T}$, and $\epsilon_1$ from there.
    * ``constant``: $\epsilon_0$.

    :param schedule: which of these
    :param start: $\epsilon_0$
    :param end: $\epsilon_1$
    :param steps: $T$
    :param step: $t$

    :returns: the factor, at least 0.0001
    """
    if schedule == "logarithmic":
        factor = start / (1 + math.log(step + 1))
    elif schedule == "geometric":
        factor = start * (end / start) ** min(1.0, step / steps)
    else:
        factor = start
    return max(LEAST, factor)


def warn_if_short(start: float, factor: float, steps: int, done: int) -> None:
    r"""Warn if training was too short for the schedule ``geometric`` to choose negatives.

    :param start: $\epsilon_0$
    :param factor: $\epsilon$ at the end of training
    :param steps: $T$
    :param done: the steps which were trained
    """
    if done < steps and factor > start / 2:
        logger.warning(
            "Training ended after %d steps with an exploration factor of %.3g, which began with %.3g: exploration "
            "hardly fell. exploration_steps=%d is too many; choose, e.g., half of epochs x batches: %d.",
            done,
            factor,
            start,
            steps,
            max(1, done // 2),
        )


def log_mixture(branches: Iterable[Likeness], factor: float) -> FloatTensor:
    r"""Compute $\log \frac{1}{|m|} \sum_m \mathrm{softmax}(sim^m / \epsilon)$, the distribution over the pool.

    Where a candidate lacks what a branch looks at, its probability in this branch is $1 / P$, and the others share the
    rest: the branch has nothing to say of it. Where the anchor lacks it, the branch is left out of the mean. At least
    one branch is there for all, the structure.

    :param branches: the similarities to a pool of $P$ candidates
    :param factor: $\epsilon$

    :returns: shape: ``(b, p)``, each row sums up to 1 after ``exp``
    """
    logs, present = [], []
    for values, has, anchor_has in branches:
        logs.append(_log_softmax(values / factor, has))
        present.append(
            torch.ones(len(values), dtype=torch.bool, device=values.device) if anchor_has is None else anchor_has
        )
    if len(logs) == 1:
        return logs[0]
    chosen = torch.stack(present)
    stacked = torch.stack(logs).masked_fill(~chosen.unsqueeze(-1), -torch.inf)
    return stacked.logsumexp(dim=0) - chosen.sum(dim=0).log().unsqueeze(-1)


def _log_softmax(logits: FloatTensor, has: BoolTensor | None) -> FloatTensor:
    """Compute the logarithm of a softmax over the candidates which have a modality, others with 1/P each."""
    p = logits.shape[1]
    if has is None:
        return logits.log_softmax(dim=1)
    uniform = logits.new_full((), -math.log(p))
    count = int(has.sum())
    if not count:
        return uniform.expand_as(logits)
    known = logits.masked_fill(~has, -torch.inf).log_softmax(dim=1) + math.log(count / p)
    return torch.where(has, known, uniform)


def effective_size(log_q: FloatTensor, allowed: BoolTensor) -> FloatTensor:
    r"""Compute the effective sample size $1 / \sum_j p_j^2$ of each row, as a share of its allowed candidates.

    :param log_q: logarithms of weights, shape: ``(b, p)``
    :param allowed: which candidates may be drawn, shape: ``(b, p)``

    :returns: shape: ``(b,)``: 1 where all are equally probable; 0 where none is allowed
    """
    logits = log_q.masked_fill(~allowed, -torch.inf)
    size: FloatTensor = (2 * logits.logsumexp(dim=1) - (2 * logits).logsumexp(dim=1)).exp()
    return torch.nan_to_num(size / allowed.sum(dim=1), nan=0.0, posinf=0.0)

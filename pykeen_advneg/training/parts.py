"""A batch processed in parts, with the loss and the gradient of the whole."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pykeen.typing import FloatTensor

from ..checkpoint import get_random_state, set_random_state
from ..negatives import Negatives
from ..sampling.base import HasLoss, Scores
from ..scoring import Scorer

__all__ = ["Parts", "score", "whole_chunks"]


def score(scorer: Scorer, negatives: Negatives, sampler: HasLoss | None = None) -> Scores:
    """Score a batch of negatives and their positives.

    :param scorer: gives the scores
    :param negatives: ``k`` negatives of each of ``b`` positives
    :param sampler: the sampler which proposed them, if it has a loss of its own

    :returns: the scores, with gradient
    """
    return Scores(*scorer.both(negatives)) if sampler is None else sampler.score(scorer, negatives)


#: how many times as many parts are accepted, for the sake of chunks
MOST_TIMES = 4


def whole_chunks(size: int, chunk_size: int | None) -> int:
    """Choose the largest part which has whole chunks only, or is one of equal parts of a chunk.

    Parts which are cut across chunks share no candidates, and need several times as long. Where a chunk has no equal
    parts but much smaller ones, as if its size is a prime number, they are the lesser evil.

    :param size: the number of positives in a part, at most
    :param chunk_size: how many positives share their candidates; ``None``: all of a batch

    :returns: the number of positives in a part
    """
    if chunk_size is None or size >= chunk_size:
        return size - size % (chunk_size or 1)
    part = next(part for part in range(size, 0, -1) if chunk_size % part == 0)
    return part if part * MOST_TIMES >= size else size


class Parts:
    r"""The scores of a batch, computed part by part, and the gradient of its loss with respect to them.

    With $L(s)$ the loss of all scores $s$ of a batch, cut into parts $s_p(\theta)$, the chain rule gives

    $$\nabla_\theta L = \sum_p \left(\frac{\partial L}{\partial s_p}\right)^T \nabla_\theta s_p$$

    so all scores are computed once without a graph, $\partial L / \partial s$ once for the whole batch, and each
    part is scored again to carry its share through (Gao et al., 2021,
    https://aclanthology.org/2021.repl4nlp-1.31/). The random state is rewound for the second scoring, so that dropout
    falls the same way.
    """

    def __init__(
        self,
        scorer: Scorer,
        negatives: Negatives,
        sampler: HasLoss | None,
        size: int,
        loss: Callable[[Scores], FloatTensor],
    ) -> None:
        """Score a batch in parts, and differentiate its loss.

        :param scorer: gives the scores
        :param negatives: the batch
        :param sampler: the sampler which proposed it, if it has a loss of its own
        :param size: the number of positives in a part
        :param loss: the loss of a whole batch
        """
        self.scorer = scorer
        self.negatives = negatives
        self.sampler = sampler
        self.random_states = {}
        parts = []
        with torch.no_grad():
            for start in range(0, len(negatives), size):
                self.random_states[start] = get_random_state()
                # an encoder which kept its result would have used chance before the first part only
                scorer.lookups.forget()
                parts.append(score(scorer, negatives.narrow(start, start + size), sampler).tensors)
        self.scores = Scores.of(torch.cat(tensors) for tensors in zip(*parts, strict=True))
        leaves = self.scores.map(lambda x: x.detach().requires_grad_())
        value = loss(leaves)
        self.loss = value.detach()
        self.gradients = torch.autograd.grad(value, leaves.tensors, allow_unused=True, materialize_grads=True)

    def surrogate(self, start: int, stop: int) -> FloatTensor:
        r"""Compute $\sum_i s_i \, \partial L / \partial s_i$ over a part, whose gradient is the part's share.

        :param start: the first positive
        :param stop: the one after the last

        :returns: a scalar with gradient
        """
        set_random_state(self.random_states[start])
        self.scorer.lookups.forget()
        scores = score(self.scorer, self.negatives.narrow(start, stop), self.sampler)
        pairs = zip(scores.tensors, self.gradients, strict=True)
        return torch.stack([(x * gradient[start:stop]).sum() for x, gradient in pairs]).sum()

"""LibKGE's losses on positives and negatives of which some do not count."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pykeen.typing import FloatTensor

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.base import Scores

__all__ = ["HostLoss", "host_of"]

#: a score at which a negative adds nothing to these losses, and nothing to their gradients
EXCLUDED = {
    "kl": -torch.inf,
    "bce": -1e30,
    "bce_self_adversarial": -1e30,
    "margin_ranking": -1e30,
    "soft_margin": -1e30,
    "se": 0.0,
}

#: the softmax over a positive and its negatives
SOFTMAX = "kl"


class HostLoss:
    """A loss of LibKGE, as a sampler of this project is given the loss of its host."""

    def __init__(self, loss: Callable[..., FloatTensor], name: str) -> None:
        """Initialize the loss.

        :param loss: the loss, an instance of ``kge.util.KgeLoss``
        :param name: its name (``train.loss``)
        """
        self.loss = loss
        self.name = name

    def __call__(self, scores: Scores, negatives: Negatives) -> FloatTensor:
        """Compute the loss of a batch, divided by the number of its positives, as LibKGE does.

        :param scores: shapes: ``(b, 1)`` and ``(b, k)``, or ``(b, k + n)`` with ``n`` generated negatives
        :param negatives: which of them count

        :returns: a scalar

        :raises ConfigurationError: if some do not count, and the loss cannot leave them out; or if scores are to be
            corrected for the frequency of negatives, and the loss is no softmax
        """
        b, num_scores = scores.negatives.shape
        values, mask = scores.negatives, negatives.mask
        if negatives.log_q is not None:
            _check_loss(self.name, "log_q_correction=True is a correction of a sampled softmax", {SOFTMAX})
            values = values - negatives.expand(negatives.log_q)
        if mask is not None:
            _check_loss(self.name, "some negatives do not count (they are known triples)", set(EXCLUDED))
            # generated negatives stand behind those with ids, and always count
            mask = torch.nn.functional.pad(mask, (0, num_scores - mask.shape[1]), value=True)
            values = torch.where(
                mask, values, torch.full((), EXCLUDED[self.name], dtype=values.dtype, device=values.device)
            )
        every = torch.cat([scores.positives, values], dim=1)
        if self.name == SOFTMAX:
            # the positions of the positives: LibKGE then takes the cross-entropy, which is the same, and knows -inf
            labels = torch.zeros(b, dtype=torch.long, device=every.device)
        else:
            labels = torch.zeros_like(every, requires_grad=False)
            labels[:, 0] = 1
        return self.loss(every, labels, num_negatives=num_scores) / b


def _check_loss(name: str, reason: str, possible: set[str]) -> None:
    """Check that a loss is one of those which will do."""
    if name not in possible:
        raise ConfigurationError(f"train.loss={name!r}: {reason}; choose one of {sorted(possible)}.")


def host_of(loss: HostLoss, negatives: Negatives) -> Callable[[Scores], FloatTensor]:
    """Bind the negatives of a batch.

    :param loss: the loss
    :param negatives: the batch

    :returns: the loss of any scores of the batch
    """

    def host(scores: Scores) -> FloatTensor:
        return loss(scores, negatives)

    return host

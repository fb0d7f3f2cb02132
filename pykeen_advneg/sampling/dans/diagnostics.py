"""What DANS says of itself: losses, and whether the generators have collapsed."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from pykeen.typing import FloatTensor

__all__ = ["DIVERSITY", "Diagnostics", "mean_distance", "nearest_distance"]

logger = logging.getLogger(__name__)

#: before the name of a generator, the metric of how far its fakes are from each other
DIVERSITY = "diversity_"

#: fakes which differ by less than this share of what real entities do are all the same
COLLAPSED = 0.01

#: a larger share of fakes above their positive means that the model does not tell them from true answers
OUTSCORING = 0.9

#: after how many such epochs in a row there is a warning: new generators are alike, and new to the model
PATIENCE = 3

#: how many fakes are compared with all entities
NUM_FAKES = 64

#: with how many entities at a time
CHUNK = 2**14


def mean_distance(x: FloatTensor) -> FloatTensor:
    r"""Compute the mean Euclidean distance of pairs of rows, exactly up to 512 rows, else of as many, evenly chosen.

    :param x: shape: ``(n, dim)``

    :returns: a scalar; 0 for less than two rows
    """
    if len(x) < 2:  # noqa: PLR2004
        return x.new_zeros(())
    return torch.pdist(x[:: -(-len(x) // 512)].contiguous()).mean()


def nearest_distance(x: FloatTensor, entities: FloatTensor) -> FloatTensor:
    """Compute the mean Euclidean distance to the nearest entity.

    :param x: shape: ``(n, dim)``; of more than 64, as many are evenly chosen
    :param entities: shape: ``(num_entities, dim)``

    :returns: a scalar
    """
    some = x[:: -(-len(x) // NUM_FAKES)]
    nearest = [torch.cdist(some, chunk).amin(dim=1) for chunk in entities.split(CHUNK)]
    return torch.stack(nearest).amin(dim=0).mean()


class Diagnostics:
    """Means over the batches of an epoch, and one warning if they look bad for some epochs."""

    def __init__(self) -> None:
        self._totals: dict[str, tuple[FloatTensor, int]] = {}
        self._has_warned = False
        self._bad_epochs = 0

    def add(self, name: str, value: FloatTensor) -> None:
        """Add the value of a batch.

        :param name: the name of the metric
        :param value: a scalar
        """
        total, number = self._totals.get(name, (torch.zeros_like(value, dtype=torch.double), 0))
        self._totals[name] = total + value.detach(), number + 1

    def has(self, name: str) -> bool:
        """Return whether a metric has a value in this epoch.

        :param name: its name
        """
        return name in self._totals

    def clear(self) -> None:
        """Forget the epoch."""
        self._totals.clear()

    def means(self) -> dict[str, float]:
        """Return the means, warn if need be, and forget the epoch."""
        means = {name: (total / number).item() for name, (total, number) in self._totals.items()}
        self.clear()
        self._warn(means)
        return means

    def _warn(self, means: Mapping[str, float]) -> None:
        problem, advice = None, "raise generator_optimizer_kwargs['lr'], or lower discriminator_steps"
        # of each generator for itself: two which give one vector each are far from each other
        diversities = {name: value for name, value in means.items() if name.startswith(DIVERSITY)}
        least = min(diversities, key=lambda name: diversities[name], default=None)
        if least is not None and means[least] < COLLAPSED * means.get("real_diversity", 0.0):
            pathway = least.removeprefix(DIVERSITY)
            problem = f"those of the generator '{pathway}' are all alike (mean distance {means[least]:.2g}, real "
            problem += f"{means['real_diversity']:.2g})"
        elif means.get("outscoring", 0.0) > OUTSCORING:
            problem = f"{means['outscoring']:.0%} of them score higher than their positive"
            advice = "generate fewer, draw more negatives of ids, or train the model before"
        self._bad_epochs = 0 if problem is None else self._bad_epochs + 1
        if self._bad_epochs == PATIENCE and not self._has_warned:
            logger.warning("The generated negatives of DANS degenerate: %s; %s.", problem, advice)
            self._has_warned = True

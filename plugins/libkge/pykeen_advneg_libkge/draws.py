"""A batch on its way from the sampler to the lesson which it learns from it."""

from __future__ import annotations

from dataclasses import dataclass

from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.base import HasLoss, Scores
from pykeen_advneg.training.parts import Parts

__all__ = ["Draw"]


@dataclass
class Draw:
    """A batch with its negatives."""

    #: as the sampler proposed them
    negatives: Negatives

    #: as the model scores them: with reciprocal relations, turned
    scored: Negatives

    #: the sampler, if it has a loss of its own
    sampler: HasLoss | None

    #: the scores of the whole batch, once they are known
    scores: Scores | None = None

    #: where the batch is processed in parts
    parts: Parts | None = None

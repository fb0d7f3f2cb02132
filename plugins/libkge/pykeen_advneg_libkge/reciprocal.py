"""Reciprocal relations: a corrupted head is the tail of the inverse relation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from pykeen.models import ERModel
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL, FloatTensor, LongTensor

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.queries import Slot
from pykeen_advneg.sampling.dans.proposals import GeneratedNegatives
from pykeen_advneg.scoring import Scorer

__all__ = ["RECIPROCAL", "ReciprocalScorer", "directed", "turned"]

RECIPROCAL = "kge.model.reciprocal_relations_model.ReciprocalRelationsModel"

REPRESENTATIONS = (
    "The sampler scores representations of its own, which does not go with a reciprocal_relations_model; use its "
    "base_model as the model, or another sampler: shared, kbgan, emu."
)


def turned(triples: LongTensor, num_relations: int) -> LongTensor:
    r"""Turn $(h, r, t)$ to $(t, r^{-1}, h)$.

    :param triples: shape: ``(n, 3)``
    :param num_relations: the number of relations of the data set; the inverse of $r$ has the number $r$ plus this

    :returns: shape: ``(n, 3)``
    """
    h, r, t = triples.unbind(dim=-1)
    return torch.stack([t, r + num_relations, h], dim=-1)


def directed(negatives: Negatives, num_relations: int) -> Negatives:
    r"""Turn positives whose head is corrupted: $(h, r, t)$ to $(t, r^{-1}, h)$, with the tail corrupted.

    It is what LibKGE's reciprocal model does when it is asked for a score with the direction "s".

    :param negatives: with one corrupted side for each positive
    :param num_relations: the number of relations of the data set; the inverse of $r$ has the number $r$ plus this

    :returns: the same negatives of turned positives

    :raises ConfigurationError: if a positive has negatives of both sides, or without ids, or of relations
    """
    if type(negatives) is not Negatives:
        reason = (
            "generates representations"
            if isinstance(negatives, GeneratedNegatives)
            else f"gives {type(negatives).__name__}, which hold more of a positive than its ids"
        )
        raise ConfigurationError(
            f"The sampler {reason}; this does not go with a reciprocal_relations_model. Use its base_model as the "
            f"model, or another sampler: shared, kbgan, emu."
        )
    column = negatives.column
    if column.shape[1] > 1 and bool((column != column[:, :1]).any()):
        raise ConfigurationError(
            "The sampler corrupts both sides of a positive, whose scores in a reciprocal_relations_model belong to "
            "different relations; choose one which corrupts one side of each positive: shared, kbgan, emu."
        )
    column = column[:, :1]
    if bool((column == COLUMN_RELATION).any()):
        raise ConfigurationError("The sampler corrupts relations, which a reciprocal_relations_model cannot score.")
    inverse = turned(negatives.positives, num_relations)
    positives = torch.where(column == COLUMN_HEAD, inverse, negatives.positives)
    return replace(negatives, positives=positives, column=torch.full_like(column, COLUMN_TAIL))


class ReciprocalScorer(Scorer):
    """The scores of a reciprocal model, for samplers which ask for them; positives alone in the direction of tails."""

    def __init__(self, model: ERModel[Any, Any, Any], num_relations: int) -> None:
        """Initialize the scorer.

        :param model: the model, with representations of inverse relations
        :param num_relations: the number of relations of the data set
        """
        super().__init__(model)
        self.num_relations = num_relations

    def negatives(self, negatives: Negatives) -> FloatTensor:
        """Score negatives.

        :param negatives: with one corrupted side for each positive

        :returns: shape: ``(b, k)``
        """
        return super().negatives(directed(negatives, self.num_relations))

    def both(self, negatives: Negatives) -> tuple[FloatTensor, FloatTensor]:
        """Score negatives and their positives, each in the direction of its corrupted side.

        :param negatives: with one corrupted side for each positive

        :returns: the scores of the positives, shape: ``(b, 1)``, and of the negatives, shape: ``(b, k)``
        """
        return Scorer(self.model).both(directed(negatives, self.num_relations))

    def candidates(self, hrt: LongTensor, column: int, ids: LongTensor | None = None) -> FloatTensor:
        """Score triples with one side replaced by each of some candidates.

        :param hrt: shape: ``(b, 3)``
        :param column: the slot to replace (0: head, 2: tail)
        :param ids: the candidates, shape: ``(n,)`` for all triples, or ``(b, n)``; ``None``: all entities

        :returns: shape: ``(b, n)``
        """
        if column == COLUMN_HEAD:
            hrt, column = turned(hrt, self.num_relations), COLUMN_TAIL
        return super().candidates(hrt, column, ids)

    def with_slots(self, negatives: Negatives) -> tuple[FloatTensor, FloatTensor, list[Slot]]:
        """Refuse: what represents a positive depends on the side which is corrupted.

        :param negatives: any

        :raises ConfigurationError: always
        """
        raise ConfigurationError(REPRESENTATIONS)

    def replaced(self, slots: Sequence[Slot], column: int, candidates: Slot) -> FloatTensor:
        """Refuse: a head which is replaced needs the inverse relation, which the slots do not have.

        :param slots: any
        :param column: any
        :param candidates: any

        :raises ConfigurationError: always
        """
        raise ConfigurationError(REPRESENTATIONS)

"""Entities and relations of any model as vectors of real numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from pykeen.nn.representation import Representation
from pykeen.typing import COLUMN_HEAD, COLUMN_TAIL, FloatTensor, LongTensor

from ...errors import ConfigurationError
from ...queries.form import Slot
from ...queries.lookups import ask
from ...scoring import Scorer
from ..mutation import unregularized

__all__ = ["ModelView", "RealView"]


@dataclass(frozen=True)
class RealView:
    """The representations of an entity, or of a relation, one after the other as one vector of real numbers.

    A complex number is its real part, followed by its imaginary part.
    """

    #: the shape of each representation
    shapes: tuple[torch.Size, ...]

    #: which of them are complex
    are_complex: tuple[bool, ...]

    @classmethod
    def of(cls, parts: Sequence[FloatTensor]) -> RealView:
        """Read the view off representations.

        :param parts: shape: ``(b, *s)`` each
        """
        return cls(tuple(x.shape[1:] for x in parts), tuple(x.is_complex() for x in parts))

    @property
    def sizes(self) -> list[int]:
        """How many real numbers each representation has."""
        return [s.numel() * (1 + is_complex) for s, is_complex in zip(self.shapes, self.are_complex, strict=True)]

    @property
    def dim(self) -> int:
        """How many real numbers there are."""
        return sum(self.sizes)

    @staticmethod
    def flatten(parts: Sequence[FloatTensor]) -> FloatTensor:
        """Make vectors.

        :param parts: shape: ``(b, *s)`` each

        :returns: shape: ``(b, dim)``
        """
        real = [(torch.view_as_real(x) if x.is_complex() else x).reshape(len(x), -1) for x in parts]
        return real[0] if len(real) == 1 else torch.cat(real, dim=-1)

    def split(self, x: FloatTensor) -> list[FloatTensor]:
        """Make representations of vectors.

        :param x: shape: ``(*prefix, dim)``

        :returns: shape: ``(*prefix, *s)`` each
        """
        parts = x.split(self.sizes, dim=-1) if len(self.shapes) > 1 else [x]
        return [
            torch.view_as_complex(part.reshape((*x.shape[:-1], *shape, 2)).contiguous())
            if is_complex
            else part.reshape((*x.shape[:-1], *shape))
            for part, shape, is_complex in zip(parts, self.shapes, self.are_complex, strict=True)
        ]


class ModelView:
    """The entities and relations of a model as vectors."""

    def __init__(self, scorer: Scorer) -> None:
        """Look at a model.

        :param scorer: gives the scores of the model

        :raises ConfigurationError: if entities have other representations as heads than as tails, and the model does
            not say which, or if relations have none
        """
        self.scorer = scorer
        interaction = scorer.model.interaction
        if not scorer.lookups.are_free and not scorer.lookups.are_same:
            raise ConfigurationError(
                f"model {type(scorer.model).__name__} computes representations of heads and tails in its own way, and "
                f"different ones, of which negative_sampler='dans' cannot generate both; choose another model."
            )
        self._indices: dict[int, list[int]] = {
            COLUMN_HEAD: list(interaction.head_indices),
            COLUMN_TAIL: list(interaction.tail_indices),
        }
        with torch.no_grad():
            first = torch.zeros(1, dtype=torch.long, device=scorer.model.device)
            entities, relations = self._look_up([first], first)
        # what was kept without a graph must not be taken for the representations of a training batch
        scorer.lookups.forget()
        if not relations:
            raise ConfigurationError(
                f"model {type(scorer.model).__name__} has no representations of relations, from which "
                f"negative_sampler='dans' generates; choose another model."
            )
        self.entity, self.relation = RealView.of(entities[0]), RealView.of(relations)
        #: the type of the real numbers of entities
        self.dtype = RealView.flatten(entities[0]).dtype

    def look_up(self, positives: LongTensor) -> tuple[FloatTensor, FloatTensor, FloatTensor]:
        """Return heads, relations and tails, with gradient where gradients are enabled; no regulariser notices.

        :param positives: shape: ``(b, 3)``

        :returns: shapes: ``(b, entity.dim)``, ``(b, relation.dim)``, ``(b, entity.dim)``
        """
        h, r, t = positives.unbind(dim=-1)
        (heads, tails), relations = self._look_up([h, t], r)
        return RealView.flatten(heads), RealView.flatten(relations).to(self.dtype), RealView.flatten(tails)

    def all_entities(self) -> FloatTensor:
        """Return all entities without gradient, shape: ``(num_entities, entity.dim)``."""
        ids = torch.arange(self.scorer.lookups.count(COLUMN_HEAD), device=self.scorer.model.device)
        with torch.no_grad():
            (entities,), _ = self._look_up([ids], ids[:1])
        return RealView.flatten(entities)

    def slot(self, x: FloatTensor, column: int) -> Slot:
        """Make what the interaction expects in a slot.

        :param x: entities, shape: ``(*prefix, entity.dim)``
        :param column: the slot (0: head, 2: tail)

        :returns: their representations
        """
        parts = self.entity.split(x)
        if self.scorer.lookups.are_free:
            parts = [parts[i] for i in self._indices[column]]
        return parts[0] if len(parts) == 1 else parts

    def _look_up(
        self, entities: Sequence[LongTensor], relations: LongTensor
    ) -> tuple[list[list[FloatTensor]], list[FloatTensor]]:
        """Return all representations of each list of entities, and of relations."""
        scorer = self.scorer
        with unregularized(scorer):
            if scorer.lookups.are_free:
                found = [ask(x, entities) for x in scorer.lookups.entities]
                of_relations = [x(relations) for x in _several(scorer.model.relation_representations)]
                return [[x[i] for x in found] for i in range(len(entities))], of_relations
            represent = scorer.lookups.represent
            pairs = [represent(ids, relations[:1].expand(len(ids)), ids) for ids in entities]
            any_entity = entities[0][:1].expand(len(relations))
            _, of_relations, _ = represent(any_entity, relations, any_entity)
            return [_listed(h) for h, _, _ in pairs], _listed(of_relations)


def _several(representations: object) -> Sequence[Representation]:
    return cast("Sequence[Representation]", representations)


def _listed(slot: Slot) -> list[FloatTensor]:
    return [slot] if isinstance(slot, torch.Tensor) else list(slot)

"""Looking up representations: of which ids, how often, and what it does besides giving them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from pykeen.models import ERModel
from pykeen.nn.representation import Embedding, Representation
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, FloatTensor, InductiveMode, LongTensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from .form import Slot, each
from .grouped import Grouped
from .layouts import Layout
from .looked import Looked

__all__ = ["Lookups", "depends_on_batch", "is_embedding", "is_table"]

#: Whole tables are compared, not copies of some of their rows, unless they have so many times more rows than are needed
MANY_TIMES = 8


class Lookups:
    """The representations of a model."""

    def __init__(self, model: ERModel[Any, Any, Any], mode: InductiveMode | None) -> None:
        """Initialize the look-ups.

        :param model: the model
        :param mode: the inductive mode; ``None``: transductive
        """
        self.model = model
        self.mode = mode

    @property
    def are_same(self) -> bool:
        """Whether heads and tails have the same representations."""
        interaction = self.model.interaction
        return list(interaction.head_indices) == list(interaction.tail_indices)

    @property
    def are_joint(self) -> bool:
        """Whether heads and tails may be looked up together, so that there is one dense gradient instead of two."""
        # the host looks relations up once for positives and once for negatives, and regularises both
        is_free = all(relation.regularizer is None for relation in self._representations(COLUMN_RELATION))
        return is_free and self.are_same and all(map(is_embedding, self._representations(COLUMN_HEAD)))

    def count(self, column: int) -> int:
        """Return how many entities or relations there are.

        :param column: the slot (0: head, 1: relation, 2: tail)

        :returns: their number
        """
        return self.model.num_relations if column == COLUMN_RELATION else self.model._get_entity_len(mode=self.mode)

    def layout(self, ids: LongTensor | None, column: int, chunk_size: int) -> tuple[LongTensor | None, Layout]:
        """Choose of which ids to get the representations, and which of these each query meets.

        :param ids: the candidates, shape: ``(g, n)``, each row shared by a chunk of queries; ``None``: all
        :param column: the slot where they are
        :param chunk_size: how many consecutive queries share a row

        :returns: the ids to look up, of any shape (``None``: all), and the layout of queries and these
        """
        representations = self._representations(column)
        if ids is None or chunk_size > 1 or any(map(depends_on_batch, representations)):
            return ids, Grouped(chunk_size)
        if all(map(is_table, representations)) and representations[0].max_id <= MANY_TIMES * ids.numel():
            return None, Looked(ids)
        distinct, rows = ids.unique(return_inverse=True)
        return distinct, Looked(rows)

    def represent(self, *indices: LongTensor | None) -> list[Slot]:
        """Return the representations of heads, relations and tails.

        The model is asked for a flat list of ids, since some normalisers take the second dimension for the features.

        :param indices: the ids for each slot, of any shape; ``None``: all

        :returns: the representations of each slot, prefix of their shapes: that of the ids, or ``(n,)``
        """
        h, r, t = (None if ids is None else ids.flatten() for ids in indices)
        slots: Sequence[Slot]
        if h is not None and t is not None and self.are_joint:
            heads, tails = itemgetter(slice(len(h))), itemgetter(slice(len(h), None))
            entities, relations, _ = self._look_up(torch.cat([h, t]), r, t.new_empty(0))
            slots = (each(entities, heads), relations, each(entities, tails))
        else:
            slots = self._look_up(h, r, t)
        return [
            slot if ids is None else each(slot, partial(_reshape, shape=ids.shape))
            for slot, ids in zip(slots, indices, strict=True)
        ]

    def _look_up(self, h: LongTensor | None, r: LongTensor | None, t: LongTensor | None) -> tuple[Slot, Slot, Slot]:
        return self.model._get_representations(h=h, r=r, t=t, mode=self.mode)

    def _representations(self, column: int) -> Sequence[Representation]:
        """Return what represents a slot."""
        if column == COLUMN_RELATION:
            return self.model.relation_representations
        representations = self.model._get_entity_representations_from_inductive_mode(mode=self.mode)
        interaction = self.model.interaction
        indices = interaction.head_indices if column == COLUMN_HEAD else interaction.tail_indices
        return [representations[i] for i in indices]


def _reshape(x: FloatTensor, shape: torch.Size) -> FloatTensor:
    """Give the first dimension a shape."""
    return x.reshape(*shape, *x.shape[1:])


def depends_on_batch(representation: Representation) -> bool:
    """Return whether the representation of an id depends on chance or on the other ids, now.

    :param representation: the representation, in training or evaluation mode

    :returns: whether there is dropout or batch normalisation, and it is in training mode
    """
    return any(
        module.training and (isinstance(module, _BatchNorm) or (isinstance(module, _DropoutNd) and module.p > 0))
        for module in representation.modules()
    )


def is_embedding(representation: Representation) -> bool:
    """Return whether looking up some ids gives their embeddings and does nothing else, now.

    :param representation: the representation, in training or evaluation mode

    :returns: whether it is an embedding whose regulariser, if any, does nothing
    """
    regularizer = representation.regularizer
    return type(representation) is Embedding and (
        regularizer is None or not regularizer.training or not torch.is_grad_enabled()
    )


def is_table(representation: Representation) -> bool:
    """Return whether all representations are at hand, so that it costs nothing and does nothing to ask for all.

    :param representation: the representation

    :returns: whether it is an embedding, cf. :func:`is_embedding`, without normaliser and with a dense gradient
    """
    return (
        isinstance(representation, Embedding)
        and is_embedding(representation)
        and representation.normalizer is None
        and not representation._embeddings.sparse
    )

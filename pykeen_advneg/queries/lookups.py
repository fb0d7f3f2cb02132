"""Looking up representations: of which ids, how often, and what it does besides giving them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from pykeen.models import ERModel
from pykeen.nn.representation import Embedding, Representation
from pykeen.regularizers import LpRegularizer
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL, FloatTensor, InductiveMode, LongTensor
from pykeen.utils import get_expected_norm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from .form import Slot, each
from .grouped import Grouped
from .kernels import mean_norm
from .layouts import Layout
from .looked import Looked

__all__ = ["Lookups", "depends_on_batch", "forget_encodings", "is_embedding", "is_table"]

#: Whole tables are compared, not copies of some of their rows, unless they have so many times more rows than are needed
MANY_TIMES = 8

#: Where graph encoders of PyKEEN keep the representations of all entities: R-GCN and CompGCN
KEPT_BY_ENCODERS = ("enriched_embeddings", "enriched_representations")


def forget_encodings(model: nn.Module) -> None:
    """Forget what graph encoders keep of all entities until the next step of the optimizer.

    PyKEEN's R-GCN keeps it whatever it is asked for next, and whatever becomes of its weights: those of the best epoch,
    once loaded, would be evaluated with the encodings of the last one; what was computed without gradients, as in
    evaluation, would be taken for the representations of the next training batch; and what was differentiated once
    cannot be differentiated again.

    :param model: the model
    """
    for module in model.modules():
        for name in KEPT_BY_ENCODERS:
            if getattr(module, name, None) is not None:
                setattr(module, name, None)


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
        """Whether all entities which a batch needs can be looked up at once, so that there is one gradient."""
        return self.are_same and self.are_free and all(map(is_plain, self._representations(COLUMN_HEAD)))

    @property
    def are_free(self) -> bool:
        """Whether the model takes the representation of a slot from its representations, and no other way."""
        return type(self.model)._get_representations is ERModel._get_representations

    @property
    def entities(self) -> Sequence[Representation]:
        """What represents entities, in any slot."""
        return self.model._get_entity_representations_from_inductive_mode(mode=self.mode)

    def forget(self) -> None:
        """Forget what graph encoders keep, see :func:`forget_encodings`."""
        forget_encodings(self.model)

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

        :param indices: the ids for each slot, of any shape; ``None``: all

        :returns: the representations of each slot, prefix of their shapes: that of the ids, or ``(n,)``
        """
        if self.are_free:
            return self.look_up(*zip((COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL), indices, strict=True))
        h, r, t = (None if ids is None else ids.flatten() for ids in indices)
        slots = self.model._get_representations(h=h, r=r, t=t, mode=self.mode)
        return [
            slot if ids is None else each(slot, partial(_reshape, shape=ids.shape))
            for slot, ids in zip(slots, indices, strict=True)
        ]

    def look_up(self, *requests: tuple[int, LongTensor | None]) -> list[Slot]:
        """Return the representations of several lists of ids; each embedding table is asked once for all of them.

        A table is asked for a flat list of ids, since some normalisers take the second dimension for the features.

        :param requests: the slot in which the ids stand (0: head, 1: relation, 2: tail) and the ids, of any shape;
            ``None``: all

        :returns: for each request the representations, prefix of their shapes: that of the ids, or ``(n,)``
        """
        results: list[dict[int, FloatTensor]] = [{} for _ in requests]
        wanted: dict[Representation, list[tuple[dict[int, FloatTensor], int, LongTensor | None]]] = {}
        for result, (column, ids) in zip(results, requests, strict=True):
            for i, representation in enumerate(self._representations(column)):
                wanted.setdefault(representation, []).append((result, i, ids))
        for representation, places in wanted.items():
            for (result, i, ids), x in zip(places, ask(representation, [ids for *_, ids in places]), strict=True):
                result[i] = x if ids is None else _reshape(x, ids.shape)
        return [result[0] if len(result) == 1 else [result[i] for i in range(len(result))] for result in results]

    def are_regularized(self, column: int) -> bool:
        """Return whether some representation of a slot has a regulariser which is at work."""
        return torch.is_grad_enabled() and any(
            representation.regularizer is not None and representation.regularizer.training
            for representation in self._representations(column)
        )

    def regularize(self, column: int, slot: Slot) -> None:
        """Let the regularisers see representations once more.

        :param column: the slot where the representations stand
        :param slot: the representations
        """
        several = [slot] if isinstance(slot, torch.Tensor) else slot
        for representation, x in zip(self._representations(column), several, strict=True):
            regularize(representation, x)

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


def ask(representation: Representation, requests: Sequence[LongTensor | None]) -> Sequence[FloatTensor]:
    """Ask for the representations of several lists of ids.

    :param representation: what is asked; an embedding which does nothing else is asked once
    :param requests: the ids, of any shape; ``None``: all

    :returns: for each request, shape: ``(n, *s)``
    """
    flat = [None if ids is None else ids.flatten() for ids in requests]
    some = [ids for ids in flat if ids is not None]
    if len(some) < len(flat) or not is_plain(representation):
        return [representation(ids) for ids in flat]
    joint = torch.cat(some) if len(some) > 1 else some[0]
    parts: Sequence[FloatTensor] = representation._plain_forward(joint).split([len(ids) for ids in some])
    for part in parts:
        regularize(representation, part)
    return parts


def regularize(representation: Representation, x: FloatTensor) -> None:
    """Let the regulariser of a representation, if any, see what was looked up, shape: ``(n, *s)``.

    PyTorch takes five times as long for the Euclidean norm of complex numbers as for that of the real numbers they are
    made of, which is the same; and three times as long as is needed for its gradient.

    :param representation: has the regulariser
    :param x: of the representation
    """
    regularizer = representation.regularizer
    if regularizer is None:
        return
    is_euclidean = type(regularizer) is LpRegularizer and regularizer.p == 2 and regularizer.dim == -1  # noqa: PLR2004
    is_awake = regularizer.training and torch.is_grad_enabled()
    if not is_euclidean or not is_awake or regularizer.apply_only_once:
        regularizer.update(x)
        return
    norm = mean_norm(torch.view_as_real(x).flatten(-2) if x.is_complex() else x)
    if regularizer.normalize:
        norm = norm / get_expected_norm(p=2, d=x.shape[-1])
    regularizer.regularization_term = regularizer.regularization_term + norm
    regularizer.updated = True


def is_plain(representation: Representation) -> bool:
    """Return whether looking up some ids gives their embeddings, which only a regulariser notices.

    :param representation: the representation

    :returns: whether it is an embedding without normaliser and dropout, or says by ``encodes_jointly`` that all ids of
        a batch may, and should, be asked for at once
    """
    if getattr(representation, "encodes_jointly", False):
        return True
    return (
        type(representation) is Embedding
        and representation.normalizer is None
        and representation.dropout is None
        and not representation.unique
    )


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

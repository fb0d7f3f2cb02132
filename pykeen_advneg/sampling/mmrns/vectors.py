"""Entities and relations of a model as plain vectors, whatever the model makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from pykeen.nn.representation import Representation
from pykeen.typing import FloatTensor, LongTensor
from torch import nn

from ...negatives import Negatives
from ...queries import Slot, each
from ...queries.broadcasting import broadcast
from ...queries.lookups import forget_encodings
from ...scoring import Scorer

__all__ = ["Directions", "Vectors", "as_vectors", "score_directions", "undisturbed"]


def as_vectors(slot: Slot) -> FloatTensor:
    """Write representations as real vectors: all of them side by side, complex numbers as two real ones.

    :param slot: shape: ``(n, *s)`` each

    :returns: shape: ``(n, d)``
    """
    several = [slot] if isinstance(slot, torch.Tensor) else list(slot)
    real = [torch.view_as_real(x.resolve_conj()) if x.is_complex() else x for x in several]
    return torch.cat([x.reshape(len(x), -1) for x in real], dim=1)


class Vectors:
    """The vectors of a model's entities and relations."""

    def __init__(self, scorer: Scorer) -> None:
        """Initialize the vectors.

        :param scorer: of the model
        """
        self.scorer = scorer
        model = scorer.model
        self._entities: Sequence[Representation] = model._get_entity_representations_from_inductive_mode(
            mode=scorer.mode
        )
        self._relations: Sequence[Representation] = model.relation_representations

    def _numbers(self, representations: Sequence[Representation]) -> int:
        """Count the real numbers of all representations of an id."""
        with torch.no_grad(), undisturbed(self.scorer.model):
            device = self.scorer.model.device
            return sum(as_vectors(x(torch.zeros(1, dtype=torch.long, device=device))).shape[1] for x in representations)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many real numbers an entity and a relation have; a relation at least one."""
        return self._numbers(self._entities), max(1, self._numbers(self._relations))

    def entities(self, ids: LongTensor) -> FloatTensor:
        """Look up entities.

        :param ids: shape: ``(n,)``

        :returns: shape: ``(n, d)``
        """
        return as_vectors([x(ids) for x in self._entities])

    def relations(self, ids: LongTensor) -> FloatTensor:
        """Look up relations; where the model has no representations of them, each is zero.

        :param ids: shape: ``(n,)``

        :returns: shape: ``(n, d)``
        """
        if not self._relations:
            return torch.zeros(len(ids), 1, device=ids.device)
        return as_vectors([x(ids) for x in self._relations])


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Look at a model in evaluation mode: no dropout, no regulariser which notices, no statistics of batches.

    What graph encoders keep is computed anew inside, and is forgotten at the end, so that the scores of the model have
    encodings of their own, with dropout and gradient.

    :param model: the model, whose modules get back the modes which they had
    """
    training = [module for module in model.modules() if module.training]
    forget_encodings(model)
    for module in training:
        module.training = False
    try:
        yield
    finally:
        forget_encodings(model)
        for module in training:
            module.training = True


class Directions(NamedTuple):
    """How the scores of drawn negatives depend on the representations in the corrupted slot."""

    #: which positives these are, shape: ``(n,)``; ``None``: all
    rows: LongTensor | None

    #: the gradients of the scores, shape: ``(n, k, d)``
    gradients: FloatTensor

    #: the representations of the pool, shape: ``(p, d)``
    candidates: FloatTensor


def score_directions(scorer: Scorer, negatives: Negatives, pool: LongTensor) -> list[Directions]:
    """Differentiate the scores of drawn negatives by what they are drawn from, in evaluation mode.

    :param scorer: of the model
    :param negatives: the negatives which were drawn, with one side for each positive
    :param pool: the candidates, shape: ``(p,)``

    :returns: one for all positives, or one for each side, where the model has other representations there
    """
    columns = negatives.column.squeeze(-1)
    with torch.no_grad(), undisturbed(scorer.model):
        found = []
        for column in columns.unique().tolist():
            rows = (columns == column).nonzero().squeeze(-1)
            gradients = _score_gradients(scorer, negatives.positives[rows], negatives.ids[rows], column)
            found.append(Directions(rows, gradients, _candidates(scorer, negatives.positives[:1], pool, column)))
    if not scorer.lookups.are_same:
        return found
    gradients = torch.cat([each_side.gradients for each_side in found])
    order = torch.cat([each_side.rows for each_side in found if each_side.rows is not None])
    return [Directions(None, torch.empty_like(gradients).index_copy_(0, order, gradients), found[0].candidates)]


def _candidates(scorer: Scorer, positive: LongTensor, pool: LongTensor, column: int) -> FloatTensor:
    """Look up the pool in a slot, shape: ``(p, d)``."""
    indices = list(positive.unbind(dim=-1))
    indices[column] = pool
    return as_vectors(scorer.lookups.represent(*indices)[column])


def _score_gradients(scorer: Scorer, positives: LongTensor, ids: LongTensor, column: int) -> FloatTensor:
    """Differentiate the scores of negatives by the representations in their corrupted slot, shape: ``(n, k, d)``."""
    n, k = ids.shape
    slots = [each(slot, torch.Tensor.detach) for slot in scorer.lookups.represent(*positives.unbind(dim=-1))]
    indices = list(positives[:1].unbind(dim=-1))
    indices[column] = ids
    own = scorer.lookups.represent(*indices)[column]
    with torch.enable_grad():
        leaves = each(own, lambda x: x.detach().requires_grad_())
        slots[column] = leaves
        scores = broadcast(scorer.model.interaction, slots, column, (n, k), 1)
        several = [leaves] if isinstance(leaves, torch.Tensor) else leaves
        gradients = torch.autograd.grad(scores.sum(), several, allow_unused=True, materialize_grads=True)
    # the gradient of a real number by a complex one has the derivatives by its two parts
    # and there is none at some points, e.g., where a distance is 0
    return torch.nan_to_num_(as_vectors([x.flatten(0, 1) for x in gradients]).view(n, k, -1), 0.0, 0.0, 0.0)

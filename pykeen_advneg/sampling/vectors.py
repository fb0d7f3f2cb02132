"""Entities and relations of a model as plain vectors, whatever the model makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from pykeen.nn.representation import Representation
from pykeen.typing import COLUMN_HEAD, COLUMN_TAIL, FloatTensor, LongTensor
from torch import nn

from ..negatives import Negatives
from ..queries import Slot, each
from ..queries.broadcasting import broadcast
from ..scoring import Scorer

__all__ = ["Vectors", "as_vectors", "score_slopes", "undisturbed"]


def as_vectors(slot: Slot) -> FloatTensor:
    """Write representations as real vectors: all of them side by side, complex numbers as two real ones.

    :param slot: shape: ``(n, *s)`` each

    :returns: shape: ``(n, d)``
    """
    several = [slot] if isinstance(slot, torch.Tensor) else list(slot)
    return torch.cat(
        [(torch.view_as_real(x.resolve_conj()) if x.is_complex() else x).flatten(1) for x in several], dim=1
    )


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

    :param model: the model, whose modules get back the modes which they had
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def score_slopes(scorer: Scorer, negatives: Negatives, pool: LongTensor, soft: FloatTensor) -> FloatTensor:
    r"""Compute how the scores of drawn negatives change with the logarithm of the probability of each candidate.

    $$\frac{\partial s_n}{\partial \log q_j} = y_{nj} \Big( a_j - \sum_i y_{ni} a_i \Big), \qquad
      a_j = \frac{\partial s_n}{\partial e} \cdot e_j,$$

    cf. :func:`pykeen_advneg.sampling.gumbel.straight_through`; representations are those of evaluation mode.

    :param scorer: of the model
    :param negatives: the negatives which were drawn, with one side for each positive
    :param pool: the candidates, shape: ``(p,)``
    :param soft: the soft draws $y$, shape: ``(b, k, p)``

    :returns: shape: ``(b, k, p)``
    """
    slopes = torch.empty_like(soft)
    with torch.no_grad(), undisturbed(scorer.model):
        for column in (COLUMN_HEAD, COLUMN_TAIL):
            rows = (negatives.column.squeeze(-1) == column).nonzero().squeeze(-1)
            if not len(rows):
                continue
            gradients = _score_gradients(scorer, negatives.positives[rows], negatives.ids[rows], column)
            indices = [x[:1] for x in negatives.positives[rows].unbind(dim=-1)]
            indices[column] = pool
            candidates = as_vectors(scorer.lookups.represent(*indices)[column])
            y = soft[rows]
            products = (gradients.flatten(0, 1) @ candidates.T).view_as(y)
            products -= torch.einsum("bkp,bkp->bk", products, y).unsqueeze(-1)
            slopes[rows] = products.mul_(y)
    return torch.nan_to_num_(slopes, nan=0.0, posinf=0.0, neginf=0.0)


def _score_gradients(scorer: Scorer, positives: LongTensor, ids: LongTensor, column: int) -> FloatTensor:
    """Differentiate the scores of negatives by the representations in their corrupted slot, shape: ``(n, k, d)``."""
    n, k = ids.shape
    slots = [each(slot, torch.Tensor.detach) for slot in scorer.lookups.represent(*positives.unbind(dim=-1))]
    indices = [x[:1] for x in positives.unbind(dim=-1)]
    indices[column] = ids
    own = scorer.lookups.represent(*indices)[column]
    with torch.enable_grad():
        leaves = each(own, lambda x: x.detach().requires_grad_())
        slots[column] = leaves
        scores = broadcast(scorer.model.interaction, slots, column, (n, k), 1)
        several = [leaves] if isinstance(leaves, torch.Tensor) else leaves
        gradients = torch.autograd.grad(scores.sum(), several, allow_unused=True, materialize_grads=True)
    # the gradient of a real number by a complex one has the derivatives by its two parts
    return as_vectors([x.flatten(0, 1) for x in gradients]).view(n, k, -1)

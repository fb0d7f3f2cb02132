"""Models which published methods train and PyKEEN does not have in that form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from class_resolver import OptionalKwargs
from docdata import parse_docdata
from pykeen.constants import DEFAULT_EMBEDDING_HPO_EMBEDDING_DIM_RANGE
from pykeen.losses import Loss, MarginRankingLoss
from pykeen.models import ERModel
from pykeen.nn.modules import NormBasedInteraction
from pykeen.typing import Constrainer, FloatTensor, Hint, Initializer
from pykeen.utils import negative_norm_of_sum

from .initializers import ball_normal_, unit_ball

__all__ = ["KBGANTransD", "UnclampedTransDInteraction"]

#: A vector and the vector by which it is projected
Pair = tuple[FloatTensor, FloatTensor]


@parse_docdata
class UnclampedTransDInteraction(NormBasedInteraction[Pair, Pair, Pair]):
    r"""TransD without a clamp of the projected vectors.

    $$f(h, r, t) = -\|h_\bot + r - t_\bot\|_p, \quad e_\bot = e + (e_p^T e)\, r_p$$

    where entities are pairs $(e, e_p)$ and relations are pairs $(r, r_p)$ of $d$-dimensional vectors.

    :class:`pykeen.nn.modules.TransDInteraction` clamps $h_\bot$ and $t_\bot$ to the unit ball, and squares an L2 norm
    by default. The code of KBGAN does neither, and uses L1, which is the default here. (It also adds 1e-30 to each
    coordinate of the difference, which 32-bit floats do not notice unless the coordinate is zero.)

    ---
    name: TransD (unclamped)
    citation:
        author: Ji
        year: 2015
        link: http://www.aclweb.org/anthology/P15-1067
    """

    entity_shape = ("d", "d")
    relation_shape = ("d", "d")

    def __init__(self, p: int = 1, power_norm: bool = False) -> None:
        """Initialize the interaction.

        :param p: the order of the norm
        :param power_norm: whether to use the p-th power of the norm
        """
        super().__init__(p=p, power_norm=power_norm)

    def forward(self, h: Pair, r: Pair, t: Pair) -> FloatTensor:
        """Compute the scores.

        :param h: shape: ``(*batch_dims, d)`` each, the heads and their projections
        :param r: shape: ``(*batch_dims, d)`` each, the relations and their projections
        :param t: shape: ``(*batch_dims, d)`` each, the tails and their projections

        :returns: shape: ``batch_dims``
        """
        relation, r_p = r
        h_bot, t_bot = _project(h, r_p), _project(t, r_p)
        scores: FloatTensor = negative_norm_of_sum(h_bot, relation, -t_bot, p=self.p, power_norm=self.power_norm)
        return scores


def _project(entity: Pair, r_p: FloatTensor) -> FloatTensor:
    r"""Compute $e_\bot = e + (e_p^T e)\, r_p$."""
    e, e_p = entity
    return e + (e * e_p).sum(dim=-1, keepdim=True) * r_p


class KBGANTransD(ERModel[Pair, Pair, Pair]):
    r"""TransD as KBGAN trains it.

    The score is that of :class:`UnclampedTransDInteraction`. All four tables (entities, relations, and the projections
    of both) are drawn by :func:`~pykeen_advneg.initializers.ball_normal_`, and each of their rows is clamped to the
    unit ball after each step. :class:`pykeen.models.TransD` differs in all of this: it clamps the projected vectors,
    squares the L2 norm, and leaves the tables of projections unconstrained.

    The default loss is the paper's as well: margin ranking with a margin of 3, summed over the batch.

    ---
    name: TransD (KBGAN)
    citation:
        author: Cai
        year: 2018
        link: https://aclanthology.org/N18-1133/
        arxiv: 1711.04071
        github: cai-lw/KBGAN
    """

    hpo_default: ClassVar[Mapping[str, Any]] = dict(
        embedding_dim=DEFAULT_EMBEDDING_HPO_EMBEDDING_DIM_RANGE,
    )
    loss_default: ClassVar[type[Loss]] = MarginRankingLoss
    loss_default_kwargs: ClassVar[Mapping[str, Any]] = dict(margin=3.0, reduction="sum")

    def __init__(
        self,
        *,
        embedding_dim: int = 50,
        interaction_kwargs: OptionalKwargs = None,
        entity_initializer: Hint[Initializer] = ball_normal_,
        entity_constrainer: Hint[Constrainer] = unit_ball,
        relation_initializer: Hint[Initializer] = ball_normal_,
        relation_constrainer: Hint[Constrainer] = unit_ball,
        **kwargs: Any,
    ) -> None:
        """Initialize the model.

        :param embedding_dim: the dimension of all vectors
        :param interaction_kwargs: keyword-based parameters of :class:`UnclampedTransDInteraction`
        :param entity_initializer: draws both tables of entities
        :param entity_constrainer: constrains both tables of entities after each step
        :param relation_initializer: draws both tables of relations
        :param relation_constrainer: constrains both tables of relations after each step
        :param kwargs: keyword-based parameters of :class:`pykeen.models.ERModel`
        """
        entity = dict(shape=embedding_dim, initializer=entity_initializer, constrainer=entity_constrainer)
        relation = dict(shape=embedding_dim, initializer=relation_initializer, constrainer=relation_constrainer)
        super().__init__(
            interaction=UnclampedTransDInteraction,
            interaction_kwargs=interaction_kwargs,
            entity_representations_kwargs=[entity, entity],
            relation_representations_kwargs=[relation, relation],
            **kwargs,
        )

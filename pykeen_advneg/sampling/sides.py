"""Which side of a positive is corrupted."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL, FloatTensor, LongTensor, MappedTriples

from ..errors import ConfigurationError

__all__ = ["Side", "draw_columns", "head_probability"]

Side = Literal["bernoulli", "uniform", "head", "tail"]


def head_probability(side: Side, mapped_triples: MappedTriples, num_relations: int) -> FloatTensor:
    r"""Probability of corrupting the head, for each relation.

    ``bernoulli`` (Wang et al., 2014): $p_r = \frac{tph}{tph + hpt}$, where $tph$ is the mean number of tails of a pair
    $(h, r)$ which has any, and $hpt$ the mean number of heads of a pair $(r, t)$. Since both means are the number of
    the relation's triples over the number of its distinct pairs, $p_r = \frac{n_{rt}}{n_{hr} + n_{rt}}$ with the
    numbers of distinct pairs. A relation without triples gets 1/2.

    :param side: ``bernoulli``, ``uniform`` (1/2), ``head`` (1) or ``tail`` (0)
    :param mapped_triples: shape: ``(n, 3)``, the training triples
    :param num_relations: the number of relations

    :returns: shape: ``(num_relations,)``

    :raises ConfigurationError: if there is no such policy
    """
    if side not in get_args(Side):
        raise ConfigurationError(f"side={side!r} is none of {get_args(Side)}.")
    if side != "bernoulli":
        return torch.full((num_relations,), {"uniform": 0.5, "head": 1.0, "tail": 0.0}[side])
    relations = mapped_triples[:, COLUMN_RELATION]
    num_hr, num_rt = (
        torch.bincount(
            (mapped_triples[:, column] * num_relations + relations).unique() % num_relations, minlength=num_relations
        )
        for column in (COLUMN_HEAD, COLUMN_TAIL)
    )
    return torch.nan_to_num(num_rt / (num_hr + num_rt), nan=0.5)


def draw_columns(probability: FloatTensor, relations: LongTensor) -> LongTensor:
    """Draw the corrupted side of each positive.

    :param probability: shape: ``(num_relations,)``, the probability of corrupting the head
    :param relations: shape: ``(b,)``

    :returns: shape: ``(b, 1)``, the corrupted column
    """
    is_head = torch.rand(len(relations), device=relations.device) < probability[relations]
    return torch.where(is_head, COLUMN_HEAD, COLUMN_TAIL).unsqueeze(-1)

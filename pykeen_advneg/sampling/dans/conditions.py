"""From what the second generator of DANS starts: an entity and a relation, put together as the interaction does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from pykeen.nn.modules import (
    ComplExInteraction,
    DistMultInteraction,
    Interaction,
    RotatEInteraction,
    TransEInteraction,
)
from pykeen.typing import FloatTensor

from ...errors import ConfigurationError
from ..checks import check_choice
from .views import RealView

__all__ = ["CONDITIONS", "FAMILIES", "Condition", "Inverse", "choose_condition", "relation_condition"]

Condition = Literal["auto", "product", "rotation", "translation", "concatenation"]

Inverse = Literal["product", "reciprocal"]

#: the smallest absolute value by which a component is divided
SMALLEST = 1e-3

#: from a vector of entities and one of relations to the condition of tails, and to that of heads
Pair = tuple[Callable[[FloatTensor, FloatTensor], FloatTensor], Callable[[FloatTensor, FloatTensor], FloatTensor]]


def _complex(x: FloatTensor) -> FloatTensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def _rotate(entity: FloatTensor, relation: FloatTensor) -> FloatTensor:
    return torch.view_as_real(_complex(entity) * _complex(relation)).flatten(start_dim=-2)


def _rotate_back(entity: FloatTensor, relation: FloatTensor) -> FloatTensor:
    return torch.view_as_real(_complex(entity) * _complex(relation).conj()).flatten(start_dim=-2)


def _divide(entity: FloatTensor, relation: FloatTensor) -> FloatTensor:
    away_from_zero = torch.where(relation < 0, relation.clamp(max=-SMALLEST), relation.clamp(min=SMALLEST))
    return entity / away_from_zero


#: by the name of the family
CONDITIONS: Mapping[str, Pair] = {
    "product": (torch.mul, torch.mul),
    "rotation": (_rotate, _rotate_back),
    "translation": (torch.add, torch.sub),
    "concatenation": (lambda e, r: torch.cat([e, r], dim=-1), lambda e, r: torch.cat([e, -r], dim=-1)),
}

#: the family of an interaction, by its exact class
FAMILIES: Mapping[type[Interaction[Any, Any, Any]], str] = {
    ComplExInteraction: "rotation",
    DistMultInteraction: "product",
    RotatEInteraction: "rotation",
    TransEInteraction: "translation",
}


def choose_condition(
    interaction: Interaction[Any, Any, Any], entity: RealView, relation: RealView, condition: Condition
) -> str:
    """Choose the family of a model.

    :param interaction: the interaction of the model
    :param entity: how its entities are vectors
    :param relation: how its relations are vectors
    :param condition: what the user asks for. ``auto``: that of the interaction if it is known; else the product, or
        the concatenation where the vectors of entities and relations differ in length.

    :returns: the name of the family

    :raises ConfigurationError: if there is no such family, or if the vectors do not fit it
    """
    check_choice("condition", condition, Condition)
    chosen = FAMILIES.get(type(interaction), "product") if condition == "auto" else condition
    fits = chosen == "concatenation" or entity.dim == relation.dim
    if chosen == "rotation":
        fits = fits and all(entity.are_complex) and all(relation.are_complex)
    if fits:
        return chosen
    if condition == "auto":
        return "product" if entity.dim == relation.dim else "concatenation"
    raise ConfigurationError(
        f"condition={condition!r} does not fit {type(interaction).__name__}, whose entities have {entity.dim} and "
        f"whose relations have {relation.dim} real numbers; choose 'auto' or 'concatenation'."
    )


def relation_condition(family: str, inverse: Inverse) -> Pair:
    r"""Give the conditions of the generator from an entity and a relation.

    ======================= ===================== ============================
    family                  for tails, of $h, r$  for heads, of $t, r$
    ======================= ===================== ============================
    ``product``             $h \odot r$           $t \odot r$, or $t \oslash r$
    ``rotation``            $h \circ r$           $t \circ \bar r$
    ``translation``         $h + r$               $t - r$
    ``concatenation``       $[h; r]$              $[t; -r]$
    ======================= ===================== ============================

    :param family: the name of the family
    :param inverse: for heads, whether a ``product`` multiplies as for tails, or divides (``reciprocal``), where
        components below 0.001 count as 0.001 with their sign

    :returns: the function for tails and that for heads, on vectors of real numbers
    """
    tails, heads = CONDITIONS[family]
    return (tails, _divide) if family == "product" and inverse == "reciprocal" else (tails, heads)

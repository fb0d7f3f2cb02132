"""Scores as comparisons of a query with candidates, for the interactions which allow it."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from typing import Any, NamedTuple, cast

from pykeen.nn.modules import (
    AutoSFInteraction,
    ClampedInteraction,
    DirectionAverageInteraction,
    Interaction,
    MonotonicAffineTransformationInteraction,
    NormBasedInteraction,
    interaction_resolver,
)

from .comparisons import Distance, Product, TorusDistance
from .distances import DISTANCES
from .form import Comparison, Encoded, Query, QueryForm, Slot, choose, combine, each
from .grouped import Grouped
from .layouts import Layout
from .looked import Looked
from .products import PRODUCTS
from .wrappers import WRAPPERS

__all__ = [
    "Comparison",
    "Distance",
    "Encoded",
    "FormRow",
    "Grouped",
    "Layout",
    "Looked",
    "Product",
    "Query",
    "QueryForm",
    "Slot",
    "TorusDistance",
    "choose",
    "combine",
    "each",
    "forms_table",
    "query_form",
]


def query_form(interaction: Interaction[Any, Any, Any]) -> QueryForm | None:
    """Write an interaction as a query form.

    A subclass of an interaction is not served by the form of its base class: it may compute something else.

    :param interaction: the interaction, in its present mode (training or evaluation)

    :returns: the form, or ``None`` if there is none
    """
    cls = type(interaction)
    if cls in WRAPPERS:
        base = query_form(cast("Interaction[Any, Any, Any]", interaction.base))
        return None if base is None else WRAPPERS[cls](interaction, base)
    if cls in PRODUCTS:
        return PRODUCTS[cls](interaction)
    if cls not in DISTANCES or (isinstance(interaction, NormBasedInteraction) and interaction.p not in {1, 2}):
        return None
    return DISTANCES[cls](interaction)


class FormRow(NamedTuple):
    """How an interaction is scored when a slot is replaced by many candidates."""

    #: the class of the interaction
    interaction: str

    #: ``"product"``, ``"distance"``, or ``"broadcast"``: by the interaction itself
    head: str

    #: as for the head
    relation: str

    #: as for the head
    tail: str


def forms_table() -> Iterator[FormRow]:
    """List PyKEEN's interactions with their default settings, in evaluation mode, with $p = 2$ for distances.

    Wrappers of an interaction do as it does, and are left out.

    :yields: one row for each interaction, in the order of their names
    """
    wrappers = (ClampedInteraction, DirectionAverageInteraction, MonotonicAffineTransformationInteraction)
    for cls in sorted(interaction_resolver, key=lambda cls: cls.__name__):
        if cls in wrappers or not cls.__module__.startswith("pykeen."):
            continue
        form = query_form(_example(cls).eval())
        names = ("broadcast" if form is None or i not in form.queries else form.compare.name for i in range(3))
        yield FormRow(cls.__name__.removesuffix("Interaction"), *names)


def _example(cls: type[Interaction[Any, Any, Any]]) -> Interaction[Any, Any, Any]:
    """Make an interaction, with p = 2 where there is a norm, and the least where there is no default."""
    kwargs: dict[str, Any] = {}
    if issubclass(cls, NormBasedInteraction):
        kwargs["p"] = 2
    elif issubclass(cls, AutoSFInteraction):
        kwargs["coefficients"] = [(0, 0, 0, 1)]
    elif "embedding_dim" in signature(cls).parameters:
        kwargs["embedding_dim"] = 16
    return cls(**kwargs)

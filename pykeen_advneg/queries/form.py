"""What a query form is: a score as a comparison of a query, made from two slots, with the encoded third slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from pykeen.typing import COLUMN_HEAD, COLUMN_TAIL, BoolTensor, FloatTensor

from .layouts import Layout

__all__ = ["Comparison", "Encoded", "Query", "QueryForm", "Slot", "choose", "each"]

#: The representations of one slot, as PyKEEN hands them to an interaction: a tensor of shape ``(*prefix, *shape)``, or
#: a list of such tensors if there are none or several. Which of both depends on the interaction.
Slot = Any


class Encoded(NamedTuple):
    """A query or a candidate, ready to be compared."""

    #: shape: ``(*prefix, d)``, real
    vector: FloatTensor

    #: what is added to each of its scores, shape: ``(*prefix,)``
    bias: FloatTensor | None = None

    #: only for queries: the candidate is multiplied by it before the comparison, shape: ``(*prefix, d)``
    scale: FloatTensor | None = None

    #: for queries, the direction in which each candidate is moved before the comparison, shape: ``(*prefix, d)``; for
    #: candidates, how far, shape: ``(*prefix,)``. A candidate which does not say how far is moved by its negative
    #: product with the direction, i.e., projected along it if its length is 1.
    shift: FloatTensor | None = None


#: Makes the query from two slots
Query = Callable[[Slot, Slot], Encoded]


def choose(condition: BoolTensor, x: Encoded, y: Encoded) -> Encoded:
    """Choose between queries of the same form.

    :param condition: shape: ``(b, 1)``
    :param x: the queries taken where the condition holds
    :param y: the queries taken elsewhere

    :returns: the chosen queries
    """

    def either(x: FloatTensor | None, y: FloatTensor | None) -> FloatTensor | None:
        if x is None or y is None:
            return None
        return torch.where(condition.view(-1, *(1 for _ in x.shape[1:])), x, y)

    return Encoded._make(map(either, x, y))


def each(slot: Slot, function: Callable[[FloatTensor], FloatTensor]) -> Slot:
    """Apply a function to each representation of a slot."""
    return function(slot) if isinstance(slot, torch.Tensor) else [function(x) for x in slot]


def combine(function: Callable[[FloatTensor, FloatTensor], FloatTensor], x: Slot, y: Slot) -> Slot:
    """Apply a function to each representation of two slots, which have equally many."""
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
        return function(x, y)
    return [function(i, j) for i, j in zip(x, y, strict=True)]


class Comparison(Protocol):
    """Compares each query with its candidates."""

    @property
    def name(self) -> str:
        """The name shown to users."""
        ...

    def __call__(self, query: Encoded, candidates: Encoded, layout: Layout) -> FloatTensor:
        """Compare.

        :param query: the queries, whose bias is not looked at
        :param candidates: the candidates, whose bias is not looked at
        :param layout: which query meets which candidate; it also says what the shapes are

        :returns: the score of each pair
        """
        ...


@dataclass(frozen=True)
class QueryForm:
    r"""An interaction written as $f(h, r, t) = \mathrm{compare}(q, c)$.

    The query $q$ is computed from the representations of two slots, and $c$ from those of the third, which is the slot
    where many candidates stand: for $b$ queries and $n$ candidates nothing larger than $(b, n)$ is computed.
    """

    #: how a query is compared with a candidate
    compare: Comparison

    #: for each column served (0: head, 1: relation, 2: tail), the query from the other two slots, in order h, r, t
    queries: Mapping[int, Query]

    #: the candidate from the representation of a slot
    encode: Callable[[Slot], Encoded]

    #: the queries of both sides in one go, from a condition of shape ``(b, 1)`` which says where the head is replaced,
    #: the entity which is kept, and the relation; ``None``: there is no faster way than to choose between the two
    either: Callable[[BoolTensor, Slot, Slot], Encoded] | None = None

    #: applied to the scores, shape-preserving; ``None``: nothing
    finish: Callable[[FloatTensor], FloatTensor] | None = None

    #: whether queries move candidates, so that a score is no sum over their components, cf. :attr:`Encoded.shift`
    moves: bool = False

    def sides(self, is_head: BoolTensor, kept: Slot, r: Slot) -> Encoded:
        """Make the queries of positives of which one side is replaced.

        :param is_head: where it is the head, shape: ``(b, 1)``
        :param kept: the entities of the other side
        :param r: the relations

        :returns: the queries, prefix of their shape: ``(b,)``
        """
        if self.either is not None:
            return self.either(is_head, kept, r)
        return choose(is_head, self.queries[COLUMN_HEAD](r, kept), self.queries[COLUMN_TAIL](kept, r))

    def score(self, query: Encoded, candidates: Encoded, layout: Layout) -> FloatTensor:
        """Compare queries with their candidates.

        :param query: the queries, prefix of their shape: ``(b,)``
        :param candidates: the candidates, as the layout needs them
        :param layout: which query meets which candidate

        :returns: shape: ``(b, n)``
        """
        b = len(query.vector)
        query = Encoded._make(None if x is None else layout.arrange(x) for x in query)
        scores = self.compare(query, candidates, layout)
        if query.bias is not None:
            scores = scores + query.bias.unsqueeze(-1)
        if candidates.bias is not None:
            scores = scores + layout.of_candidates(candidates.bias)
        if self.finish is not None:
            scores = self.finish(scores)
        return layout.flatten(scores, b)

    def then(self, finish: Callable[[FloatTensor], FloatTensor]) -> QueryForm:
        """Return this form with a function applied to its scores after all else."""
        first = self.finish
        return replace(self, finish=finish if first is None else lambda scores: finish(first(scores)))

"""How a query is compared with a candidate: by an inner product or by a distance."""

from __future__ import annotations

from dataclasses import dataclass

from pykeen.typing import FloatTensor

from .form import Encoded
from .kernels import ABSOLUTE, SQUARE, Terms, blockwise_sum, products, safe_root, squared_euclidean
from .layouts import Layout

__all__ = ["Distance", "Product", "TorusDistance"]


@dataclass(frozen=True)
class Product:
    r"""The inner product $q \cdot s c$."""

    name = "product"

    def __call__(self, query: Encoded, candidates: Encoded, layout: Layout) -> FloatTensor:
        """Compare, cf. :class:`pykeen_advneg.queries.Comparison`."""
        q = query.vector if query.scale is None else query.vector * query.scale
        return products(q, candidates.vector, layout)


@dataclass(frozen=True)
class Distance:
    r"""The negative distance $-\|x\|_p$ or $-\|x\|_p^p$, for $p \in \{1, 2\}$.

    Here $x = q - s c - a u$ with the query q, the candidate c, the scale s of the query, the direction u of the query
    and the amount a by which the candidate is moved, cf. :attr:`pykeen_advneg.queries.Encoded.shift`.
    """

    name = "distance"

    #: the order of the norm, 1 or 2
    p: float

    #: whether the p-th power of the norm is taken
    power_norm: bool = False

    def __call__(self, query: Encoded, candidates: Encoded, layout: Layout) -> FloatTensor:
        """Compare, cf. :class:`pykeen_advneg.queries.Comparison`."""
        if self.p == 1:
            return -_sum(query, candidates, layout, ABSOLUTE)
        if query.shift is None:
            square = squared_euclidean(query.vector, candidates.vector, query.scale, layout)
        else:
            square = _sum(query, candidates, layout, SQUARE)
        return -(square if self.power_norm else safe_root(square))


@dataclass(frozen=True)
class TorusDistance:
    r"""The negative distance on the torus: as :class:`Distance`, with $\min_{z \in \mathbb{Z}} |x - z|$ for $|x|$."""

    name = "distance"

    #: the order of the norm, 1 or 2
    p: float

    #: whether the p-th power of the norm is taken
    power_norm: bool = False

    def __call__(self, query: Encoded, candidates: Encoded, layout: Layout) -> FloatTensor:
        """Compare, cf. :class:`pykeen_advneg.queries.Comparison`."""
        result = _sum(query, candidates, layout, _TORUS[int(self.p)])
        return -(result if self.p == 1 or self.power_norm else safe_root(result))


def _sum(query: Encoded, candidates: Encoded, layout: Layout, terms: Terms) -> FloatTensor:
    """Sum a function of the components of the difference of a query and a candidate, as scaled and shifted."""
    q, c, u = query.vector, candidates.vector, query.shift
    amount = None
    if u is not None:
        amount = -products(u, c, layout) if candidates.shift is None else layout.of_candidates(candidates.shift)
        amount = amount.expand(q.shape[:-1] + amount.shape[-1:])
    return blockwise_sum(q, c, query.scale, u, amount, layout, terms)


def _around(x: FloatTensor) -> FloatTensor:
    """Map to the signed difference from the nearest integer, in place."""
    return x.sub_(x.round())


#: for each p, the p-th power of the distance from the nearest integer, and its derivative
_TORUS = {
    1: Terms(lambda x: _around(x).abs_(), lambda x: _around(x).sign_()),
    2: Terms(lambda x: _around(x).square_(), lambda x: _around(x).mul_(2)),
}

"""How a query is compared with a candidate: by an inner product or by a distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pykeen.typing import FloatTensor

from .kernels import Elementwise, blockwise_sum, products, safe_root, squared_euclidean
from .layouts import Layout

__all__ = ["Distance", "Product", "TorusDistance"]


@dataclass(frozen=True)
class Product:
    r"""The inner product $q \cdot s c$."""

    name = "product"

    def __call__(self, q: FloatTensor, c: FloatTensor, s: FloatTensor | None, layout: Layout) -> FloatTensor:
        """Compare, cf. :class:`pykeen_advneg.queries.Comparison`."""
        return products(q if s is None else q * s, c, layout)


@dataclass(frozen=True)
class Distance:
    r"""The negative distance $-\|q - s c\|_p$, or $-\|q - s c\|_p^p$, for $p \in \{1, 2\}$."""

    name = "distance"

    #: the order of the norm, 1 or 2
    p: float

    #: whether the p-th power of the norm is taken
    power_norm: bool = False

    def __call__(self, q: FloatTensor, c: FloatTensor, s: FloatTensor | None, layout: Layout) -> FloatTensor:
        """Compare, cf. :class:`pykeen_advneg.queries.Comparison`."""
        if self.p == 1:
            return -blockwise_sum(q, c, s, layout, torch.Tensor.abs_, torch.Tensor.sign_)
        square = squared_euclidean(q, c, s, layout)
        return -(square if self.power_norm else safe_root(square))


@dataclass(frozen=True)
class TorusDistance:
    r"""The negative distance on the torus: as :class:`Distance`, with $\min_{z \in \mathbb{Z}} |x - z|$ for $|x|$."""

    name = "distance"

    #: the order of the norm, 1 or 2
    p: float

    #: whether the p-th power of the norm is taken
    power_norm: bool = False

    def __call__(self, q: FloatTensor, c: FloatTensor, s: FloatTensor | None, layout: Layout) -> FloatTensor:
        """Compare, cf. :class:`pykeen_advneg.queries.Comparison`."""
        result = blockwise_sum(q, c, s, layout, *_TORUS[int(self.p)])
        return -(result if self.p == 1 or self.power_norm else safe_root(result))


def _around(x: FloatTensor) -> FloatTensor:
    """Map to the signed difference from the nearest integer, in place."""
    return x.sub_(x.round())


#: for each p, the p-th power of the distance from the nearest integer, and its derivative
_TORUS: dict[int, tuple[Elementwise, Elementwise]] = {
    1: (lambda x: _around(x).abs_(), lambda x: _around(x).sign_()),
    2: (lambda x: _around(x).square_(), lambda x: _around(x).mul_(2)),
}

"""Reductions of pairs of queries and candidates to scores, with gradients, without a tensor of shape (pairs, dim).

Each takes queries $q_i$, candidates $c_j$, scales $s_i$ of the shape of the queries or ``None``, and the layout, i.e.,
which query meets which candidate; shapes: cf. :mod:`pykeen_advneg.queries.layouts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch.autograd.function import once_differentiable

from .layouts import Block, Index, Layout, elements

__all__ = ["ABSOLUTE", "SQUARE", "Terms", "blockwise_sum", "mean_norm", "products", "safe_root", "squared_euclidean"]

#: If the squared distance is less than this part of the sum of the squared norms, then the expanded square has lost two
#: digits or more by cancellation, and the distance is computed from the difference.
CLOSE = 0.03

#: The values or the derivatives of a function of one variable, computed in place
Elementwise = Callable[[FloatTensor], FloatTensor]


class Terms(NamedTuple):
    """What is summed up over components: a function of one variable."""

    #: in place
    value: Elementwise

    #: its derivative, in place
    derivative: Elementwise

    #: its name in the compiled loops of mixtures; None: they have none
    name: str | None = None


ABSOLUTE = Terms(torch.Tensor.abs_, torch.Tensor.sign_, "absolute")
SQUARE = Terms(torch.Tensor.square_, lambda x: x.mul_(2), "square")

Gradients = tuple[FloatTensor | None, ...]


def safe_root(x: FloatTensor) -> FloatTensor:
    """Return the square root, with the gradient 0 at 0, as :func:`torch.linalg.vector_norm` has it."""
    positive = x > 0
    return torch.where(positive, x, 1.0).sqrt() * positive


def products(q: FloatTensor, c: FloatTensor, layout: Layout) -> FloatTensor:
    """Compute the products $q_i c_j$."""
    return _apply(_Products, q, c, layout)


def blockwise_sum(
    q: FloatTensor,
    c: FloatTensor,
    s: FloatTensor | None,
    u: FloatTensor | None,
    a: FloatTensor | None,
    layout: Layout,
    terms: Terms,
) -> FloatTensor:
    r"""Sum a function of the components of $x_{ij} = q_i - s_i c_j - a_{ij} u_i$, i.e., $\sum_l \psi(x_{ijl})$.

    The differences are computed a block at a time, and once more for gradients.

    :param q: the queries
    :param c: the candidates
    :param s: the scales, or ``None``
    :param u: the directions, of the shape of the queries, or ``None``
    :param a: how far each pair is moved along the direction; ``None`` if there is none
    :param layout: which query meets which candidate
    :param terms: $\psi$ and its derivative

    :returns: the sum for each pair
    """
    return _apply(_BlockwiseSum, q, c, s, u, a, layout, terms)


def squared_euclidean(q: FloatTensor, c: FloatTensor, s: FloatTensor | None, layout: Layout) -> FloatTensor:
    r"""Compute $|q_i - s_i c_j|^2$ as $|q_i|^2 - 2 (q_i s_i) c_j + s_i^2 c_j^2$, i.e., by products.

    Where a query and a candidate are so close that this cancels, value and gradient come from the difference instead.
    """
    return _apply(_SquaredEuclidean, q, c, s, layout)


def mean_norm(x: FloatTensor) -> FloatTensor:
    """Compute the mean Euclidean norm of vectors, whose gradient is zero where they are.

    :param x: shape: ``(*prefix, d)``, real

    :returns: a scalar
    """
    return _apply(_MeanNorm, x)


def _apply(function: type[torch.autograd.Function], *args: Any) -> FloatTensor:
    result: FloatTensor = function.apply(*args)
    return result


class _Products(torch.autograd.Function):
    """Function and gradients of :func:`products`."""

    @staticmethod
    def forward(ctx: Any, q: FloatTensor, c: FloatTensor, layout: Layout) -> FloatTensor:
        """Compute the products."""
        ctx.save_for_backward(q, c)
        ctx.layout = layout
        return layout.products(q, c)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: FloatTensor) -> Gradients:
        """Compute the gradients of those inputs which need one."""
        q, c = ctx.saved_tensors
        layout: Layout = ctx.layout
        grad_q = layout.to_queries(grad, c) if ctx.needs_input_grad[0] else None
        grad_c = layout.to_candidates(grad, q, c) if ctx.needs_input_grad[1] else None
        return grad_q, grad_c, None


class _MeanNorm(torch.autograd.Function):
    """Function and gradient of :func:`mean_norm`."""

    @staticmethod
    def forward(ctx: Any, x: FloatTensor) -> FloatTensor:
        """Compute the mean."""
        norms = torch.linalg.vector_norm(x, dim=-1)
        ctx.save_for_backward(x, norms)
        mean: FloatTensor = norms.mean()
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: FloatTensor) -> FloatTensor:
        """Compute the gradient."""
        x, norms = ctx.saved_tensors
        factors = torch.where(norms == 0, 0, grad / (norms * norms.numel()))
        return cast(FloatTensor, x * factors.unsqueeze(-1))


class _BlockwiseSum(torch.autograd.Function):
    """Function and gradients of :func:`blockwise_sum`."""

    @staticmethod
    def forward(
        ctx: Any,
        q: FloatTensor,
        c: FloatTensor,
        s: FloatTensor | None,
        u: FloatTensor | None,
        a: FloatTensor | None,
        layout: Layout,
        terms: Terms,
    ) -> FloatTensor:
        """Compute the sums."""
        ctx.save_for_backward(q, c, s, u, a)
        ctx.layout, ctx.terms = layout, terms
        result = layout.empty(q, c)
        for block, x in _shifted(layout.differences(q, c, s), u, a):
            torch.sum(terms.value(x), dim=-1, out=result[block])
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: FloatTensor) -> Gradients:
        """Compute the gradients."""
        q, c, s, u, a = ctx.saved_tensors
        layout: Layout = ctx.layout
        terms: Terms = ctx.terms
        gradients: list[Any] = [None if x is None else torch.zeros_like(x) for x in (q, c, s, u, a)]
        grad_q, grad_c, grad_s, grad_u, grad_a = gradients
        for block, difference in _shifted(layout.differences(q, c, s), u, a):
            rows = block[:-1]
            x = terms.derivative(difference).mul_(grad[block].unsqueeze(-1))
            grad_q[rows] += x.sum(dim=-2)
            if u is not None:
                grad_u[rows] -= torch.matmul(a[block].unsqueeze(-2), x).squeeze(-2)
                grad_a[block] = -torch.matmul(x, u[rows].unsqueeze(-1)).squeeze(-1)
            if s is not None:
                grad_s[rows] -= (x * layout.candidates(c, block)).sum(dim=-2)
                x *= s[rows].unsqueeze(-2)
            layout.subtract_from_candidates(grad_c, block, x)
        return *gradients, None, None


def _shifted(
    differences: Iterator[tuple[Block, FloatTensor]], u: FloatTensor | None, a: FloatTensor | None
) -> Iterator[tuple[Block, FloatTensor]]:
    """Subtract $a_{ij} u_i$ from each difference, in place."""
    for block, x in differences:
        if u is not None and a is not None:
            x.addcmul_(a[block].unsqueeze(-1), u[block[:-1]].unsqueeze(-2), value=-1)
        yield block, x


class _SquaredEuclidean(torch.autograd.Function):
    """Function and gradients of :func:`squared_euclidean`."""

    @staticmethod
    def forward(ctx: Any, q: FloatTensor, c: FloatTensor, s: FloatTensor | None, layout: Layout) -> FloatTensor:
        """Compute the squared distances."""
        cc = c.square()
        norms = layout.of_candidates(cc.sum(dim=-1)) if s is None else layout.products(s.square(), cc)
        norms = norms + q.square().sum(dim=-1, keepdim=True)
        result = layout.products(q if s is None else q * s, c).mul_(-2).add_(norms)
        close = (result < norms.mul_(CLOSE)).nonzero()
        for at, *_, x in _close_pairs(q, c, s, layout, close):
            result[at] = x.square().sum(dim=-1)
        ctx.save_for_backward(q, c, s, close)
        ctx.layout = layout
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: FloatTensor) -> Gradients:
        """Compute the gradients."""
        q, c, s, close = ctx.saved_tensors
        layout: Layout = ctx.layout
        w = 2 * grad
        w[close.unbind(dim=-1)] = 0
        wc = layout.to_queries(w, c)
        grad_q = q * w.sum(dim=-1, keepdim=True)
        grad_s = None
        if s is None:
            grad_q -= wc
            grad_c = layout.to_candidates(w, q, c).neg_().addcmul_(c, layout.total(w, c))
        else:
            grad_q -= s * wc
            grad_c = layout.to_candidates(w, s.square(), c).mul_(c).sub_(layout.to_candidates(w, q * s, c))
            grad_s = s * layout.to_queries(w, c.square()) - q * wc
        for at, query, candidate, difference in _close_pairs(q, c, s, layout, close):
            x = difference * (2 * grad[at]).unsqueeze(-1)
            grad_q.index_put_(query, x, accumulate=True)
            if s is not None and grad_s is not None:
                grad_s.index_put_(query, -x * c[candidate], accumulate=True)
            grad_c.index_put_(candidate, -x if s is None else -x * s[query], accumulate=True)
        return grad_q, grad_c, grad_s, None


def _close_pairs(
    q: FloatTensor, c: FloatTensor, s: FloatTensor | None, layout: Layout, close: LongTensor
) -> Iterator[tuple[Index, Index, Index, FloatTensor]]:
    """Yield, for a block of pairs at a time, where they, their queries and candidates are, and their differences."""
    for pairs in close.split(max(1, elements(q) // q.shape[-1])) if len(close) else ():
        query, candidate = layout.locate(pairs)
        x = q[query] - (c[candidate] if s is None else s[query] * c[candidate])
        yield pairs.unbind(dim=-1), query, candidate, x

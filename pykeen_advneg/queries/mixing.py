"""Sums over the components of pairs of queries and candidates, as they are and mixed, a block of pairs at a time.

No tensor of shape (pairs, dim) arises, except for weights of pairs. What belongs to a block is computed in memory which
is allocated once. With masks of pairs on a CPU, compiled loops need no weights and a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
from pykeen.typing import FloatTensor
from torch.autograd.function import once_differentiable

from .compiling import kernels
from .kernels import Terms
from .layouts import Block, Buffer, Layout
from .masks import PairMasks

__all__ = ["Mixing", "mixed_products", "mixed_sums"]

Sums = tuple[FloatTensor, FloatTensor]

Gradients = tuple[FloatTensor | None, ...]


class Mixing(NamedTuple):
    """With which weights candidates are mixed."""

    #: those of the candidates, or those of pairs
    weights: FloatTensor | PairMasks

    #: which query meets which candidate
    layout: Layout

    def loops(self, q: FloatTensor) -> ModuleType | None:
        """Give the compiled loops, where they can be used: masks of pairs, on a CPU."""
        masks = self.weights
        if not isinstance(masks, PairMasks) or masks.key.constant is not None:
            return None
        return kernels(q)

    def dense(self, like: FloatTensor) -> FloatTensor:
        """Give the weights; those of pairs as bytes, of the shape of the pairs."""
        return self.weights.dense(like.shape) if isinstance(self.weights, PairMasks) else self.weights

    def of(self, weights: FloatTensor, block: Block, buffer: Buffer) -> FloatTensor:
        """Give the weights of a block of pairs, in a shape which broadcasts to ``(*block, d)``."""
        if not isinstance(self.weights, PairMasks):
            return self.layout.candidates(weights, block)
        weights = weights[block]
        return buffer(*weights.shape).copy_(weights)

    def factors(self, weights: FloatTensor, block: Block, gradients: Sums, buffer: Buffer) -> FloatTensor:
        """Give the gradient by each term of the candidates of a block, shape: ``(*block, d)``."""
        plain, mixed = (gradient[block].unsqueeze(-1) for gradient in gradients)
        weights = self.of(weights, block, buffer)
        shape = torch.broadcast_shapes(weights.shape, plain.shape)
        return torch.mul(weights, mixed, out=buffer(*shape)).add_(plain)


def mixed_sums(
    q: FloatTensor,
    c: FloatTensor,
    s: FloatTensor | None,
    own: FloatTensor,
    rule: Mixing,
    terms: Terms,
) -> Sums:
    r"""Compute $\sum_l \psi(x_{ijl})$ and $\sum_l w_{ijl} \psi(x_{ijl}) + (1 - w_{ijl}) z_{il}$.

    Here $x_{ij} = q_i - s_i c_j$, and $z$ are the terms of the queries' own entities. The same differences serve both.

    :param q: the queries
    :param c: the candidates
    :param s: the scales, or ``None``
    :param own: $z$, of the shape of the queries
    :param rule: gives the weights
    :param terms: $\psi$ and its derivative

    :returns: the sums for each pair
    """
    apply: Callable[..., Sums] = _Sums.apply
    return apply(q, c, s, own, rule, terms)


def mixed_products(q: FloatTensor, c: FloatTensor, own: FloatTensor, rule: Mixing) -> Sums:
    r"""Compute $\sum_l q_{il} c_{jl}$ and $\sum_l w_{ijl} q_{il} c_{jl} + (1 - w_{ijl}) z_{il}$.

    :param q: the queries
    :param c: the candidates
    :param own: $z$, the terms of the queries' own entities, of the shape of the queries
    :param rule: gives the weights

    :returns: the sums for each pair
    """
    apply: Callable[..., Sums] = _Products.apply
    return apply(q, c, own, rule)


def _gradient_of_own(gradients: Sums, like: FloatTensor) -> FloatTensor:
    """Give what would be the gradient of the own terms if all factors were 0."""
    plain, mixed = (gradient.sum(dim=-1, keepdim=True) for gradient in gradients)
    return (plain + mixed).expand(like.shape).clone()


class _Sums(torch.autograd.Function):
    """Function and gradients of :func:`mixed_sums`; there is none for the weights."""

    @staticmethod
    def forward(
        ctx: Any,
        q: FloatTensor,
        c: FloatTensor,
        s: FloatTensor | None,
        own: FloatTensor,
        rule: Mixing,
        terms: Terms,
    ) -> Sums:
        """Compute the sums."""
        ctx.save_for_backward(q, c, s)
        ctx.rule, ctx.terms = rule, terms
        loops = rule.loops(q)
        if loops is not None:
            return cast(Sums, loops.sums(terms.name, q, c, s, own, *rule))
        layout, buffer = rule.layout, Buffer(q)
        plain, mixed = layout.empty(q, c), layout.empty(q, c)
        ctx.weights = weights = rule.dense(plain)
        for block, difference in layout.differences(q, c, s):
            x = terms.value(difference)
            torch.sum(x, dim=-1, out=plain[block])
            torch.lerp(own[block[:-1]].unsqueeze(-2), x, rule.of(weights, block, buffer), out=x)
            torch.sum(x, dim=-1, out=mixed[block])
        return plain, mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: FloatTensor) -> Gradients:
        """Compute the gradients."""
        q, c, s = ctx.saved_tensors
        rule: Mixing = ctx.rule
        terms: Terms = ctx.terms
        loops = rule.loops(q)
        if loops is not None:
            return *loops.gradients(terms.name, q, c, s, *rule, *gradients), None, None
        layout, buffer, weights = rule.layout, Buffer(q), ctx.weights
        grad_q, grad_c = torch.zeros_like(q), torch.zeros_like(c)
        grad_s = None if s is None else torch.zeros_like(s)
        grad_own = _gradient_of_own((gradients[0], gradients[1]), q)
        for block, difference in layout.differences(q, c, s):
            rows = block[:-1]
            factors = rule.factors(weights, block, (gradients[0], gradients[1]), buffer)
            grad_own[rows] -= factors.sum(dim=-2)
            x = terms.derivative(difference).mul_(factors)
            grad_q[rows] += x.sum(dim=-2)
            if s is not None and grad_s is not None:
                grad_s[rows] -= torch.mul(x, layout.candidates(c, block), out=factors).sum(dim=-2)
                x *= s[rows].unsqueeze(-2)
            layout.subtract_from_candidates(grad_c, block, x)
        return grad_q, grad_c, grad_s, grad_own, None, None


class _Products(torch.autograd.Function):
    """Function and gradients of :func:`mixed_products`; there is none for the weights."""

    @staticmethod
    def forward(ctx: Any, q: FloatTensor, c: FloatTensor, own: FloatTensor, rule: Mixing) -> Sums:
        """Compute the sums."""
        ctx.save_for_backward(q, c)
        ctx.rule = rule
        loops = rule.loops(q)
        if loops is not None:
            return cast(Sums, loops.sums("product", q, c, None, own, *rule))
        layout, buffer = rule.layout, Buffer(q)
        plain, mixed = layout.empty(q, c), layout.empty(q, c)
        ctx.weights = weights = rule.dense(plain)
        zeros = q.new_zeros(()).expand(q.shape)
        for block, x in layout.differences(zeros, c, None):
            # x is -c
            rows = block[:-1]
            x.mul_(q[rows].unsqueeze(-2))
            torch.sum(x, dim=-1, out=plain[block])
            torch.lerp(-own[rows].unsqueeze(-2), x, rule.of(weights, block, buffer), out=x)
            torch.sum(x, dim=-1, out=mixed[block])
        return plain.neg_(), mixed.neg_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: FloatTensor) -> Gradients:
        """Compute the gradients."""
        q, c = ctx.saved_tensors
        rule: Mixing = ctx.rule
        loops = rule.loops(q)
        if loops is not None:
            grad_q, grad_c, _, grad_own = loops.gradients("product", q, c, None, *rule, *gradients)
            return grad_q, grad_c, grad_own, None
        layout, buffer, weights = rule.layout, Buffer(q), ctx.weights
        grad_q, grad_c = torch.zeros_like(q), torch.zeros_like(c)
        grad_own = _gradient_of_own((gradients[0], gradients[1]), q)
        for block, x in layout.differences(q.new_zeros(()).expand(q.shape), c, None):
            # x is -c
            rows = block[:-1]
            factors = rule.factors(weights, block, (gradients[0], gradients[1]), buffer)
            grad_own[rows] -= factors.sum(dim=-2)
            grad_q[rows] -= x.mul_(factors).sum(dim=-2)
            layout.subtract_from_candidates(grad_c, block, factors.mul_(q[rows].unsqueeze(-2)))
        return grad_q, grad_c.neg_(), grad_own, None

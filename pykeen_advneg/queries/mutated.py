r"""Scores of candidates which are mixed with each query's own entity, without the mixed candidates.

The candidate $c_j$ of a query $q_i$ whose own entity is $t_i$ becomes $w_{ij} \odot c_j + (1 - w_{ij}) \odot t_i$.
Where a score adds up over components, $\sum_l g(q_{il}, c_{jl})$, and each weight is 0 or 1 (or $g$ is linear in $c$),
it is

$$\sum_l w_{ijl} \, g(q_{il}, c_{jl}) + \sum_l (1 - w_{ijl}) \, g(q_{il}, t_{il})$$

If the weights belong to candidates, $w_{ij} = w_j$, both sums are products of matrices, unless $g$ is an absolute
value. Else the terms of a block of pairs are computed at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pykeen.typing import FloatTensor
from torch.autograd.function import once_differentiable

from .comparisons import Distance, Product
from .form import Encoded, QueryForm
from .kernels import Elementwise, products, safe_root, squared_euclidean
from .layouts import Block, Buffer, Layout

__all__ = ["adds_up", "mix", "plain_and_mixed"]


def mix(negatives: FloatTensor, positives: FloatTensor, weights: FloatTensor) -> FloatTensor:
    r"""Compute $w \odot n + (1 - w) \odot p$; exactly n where the weight is 1, and exactly p where it is 0.

    :param negatives: real or complex
    :param positives: of a shape which broadcasts with that of the negatives
    :param weights: the shares of the negatives, of such a shape; complex if the others are, with the share of the real
        part as real part and that of the imaginary part as imaginary part

    :returns: the mixture
    """
    if negatives.is_complex():
        parts = (torch.view_as_real(x) for x in (positives, negatives, weights))
        return torch.view_as_complex(torch.lerp(*parts))
    return torch.lerp(positives, negatives, weights)


def adds_up(form: QueryForm | None, is_binary: bool) -> bool:
    """Return whether mixed scores are sums over the components of the candidates.

    :param form: how an interaction is scored
    :param is_binary: whether each weight is 0 or 1

    :returns: whether :func:`plain_and_mixed` can be used
    """
    if form is None or form.moves:
        return False
    return isinstance(form.compare, Product) or (is_binary and isinstance(form.compare, Distance))


def plain_and_mixed(
    form: QueryForm,
    query: Encoded,
    own: Encoded,
    candidates: Encoded,
    weights: Encoded,
    layout: Layout,
    paired: bool = False,
) -> tuple[FloatTensor, FloatTensor]:
    """Score candidates as they are, and mixed with each query's own entity.

    :param form: how they are scored, one that adds up
    :param query: the queries, prefix of their shape: ``(b,)``; without a shift
    :param own: their own entities, prefix ``(b,)``
    :param candidates: the candidates, as the layout needs them
    :param weights: the shares of the candidates in the mixtures, of the shapes of the candidates; those of pairs have
        the prefix ``(b, n)``
    :param layout: which query meets which candidate
    :param paired: whether the weights are those of pairs

    :returns: the scores of the candidates and those of the mixtures, shape: ``(b, n)`` each
    """
    b = len(query.vector)
    query, own, weights = (
        Encoded._make(None if x is None else layout.arrange(x) for x in each) if is_arranged else each
        for each, is_arranged in ((query, True), (own, True), (weights, paired))
    )
    rule = Mixing(own.vector, weights.vector, layout, paired)
    if isinstance(form.compare, Product):
        plain, mixed = _products(query, candidates.vector, rule)
    else:
        assert isinstance(form.compare, Distance)
        plain, mixed = _distances(form.compare, query, candidates.vector, rule)
    if query.bias is not None:
        plain, mixed = plain + query.bias.unsqueeze(-1), mixed + query.bias.unsqueeze(-1)
    if candidates.bias is not None and own.bias is not None and weights.bias is not None:
        bias = layout.of_candidates(candidates.bias)
        share = weights.bias.to(bias.dtype) if paired else layout.of_candidates(weights.bias)
        plain, mixed = plain + bias, mixed + torch.lerp(own.bias.unsqueeze(-1), bias, share)
    if form.finish is not None:
        plain, mixed = form.finish(plain), form.finish(mixed)
    return layout.flatten(plain, b), layout.flatten(mixed, b)


class Mixing(NamedTuple):
    """With what candidates are mixed, and how."""

    #: the own entities of the queries, as the layout arranges them
    own: FloatTensor

    #: the weights of the candidates, or of pairs
    weights: torch.Tensor

    #: which query meets which candidate
    layout: Layout

    #: whether the weights are those of pairs
    paired: bool

    def of(self, block: Block, like: FloatTensor) -> FloatTensor:
        """Give the weights of a block of pairs, in a shape which broadcasts to ``(*block, d)``."""
        return self.weights[block].to(like.dtype) if self.paired else self.layout.candidates(self.weights, block)


def _products(query: Encoded, c: FloatTensor, rule: Mixing) -> tuple[FloatTensor, FloatTensor]:
    """Sum up products, shape: that of the pairs."""
    own, w, layout, paired = rule
    q = query.vector if query.scale is None else query.vector * query.scale
    if not paired:
        return products(q, c, layout), products(q, w * c, layout) + products(q * own, 1 - w, layout)
    # the negative difference of 0 and the candidate scaled by q
    return _sums(torch.zeros_like(q), c, q, q * own, rule, torch.Tensor.neg_, lambda x: x.fill_(-1))


def _distances(distance: Distance, query: Encoded, c: FloatTensor, rule: Mixing) -> tuple[FloatTensor, FloatTensor]:
    """Sum up distances, and give them the sign of scores, shape: that of the pairs."""
    own, w, layout, paired = rule
    q, s = query.vector, query.scale
    rest = q - (own if s is None else s * own)
    if distance.p == 1:
        plain, mixed = _sums(q, c, s, rest.abs(), rule, torch.Tensor.abs_, torch.Tensor.sign_)
        return -plain, -mixed
    if s is None and not paired:
        plain = squared_euclidean(q, c, None, layout)
        # as the weights are 0 or 1: the distance of wc from the query scaled by w, where both have changed roles
        mixed = squared_euclidean(w * c, q, w, layout).transpose(1, 2) + products(rest.square(), 1 - w, layout)
    else:
        plain, mixed = _sums(q, c, s, rest.square(), rule, torch.Tensor.square_, lambda x: x.mul_(2))
    return (-plain, -mixed) if distance.power_norm else (-safe_root(plain), -safe_root(mixed))


def _sums(
    q: FloatTensor,
    c: FloatTensor,
    s: FloatTensor | None,
    own: FloatTensor,
    rule: Mixing,
    value: Elementwise,
    derivative: Elementwise,
) -> tuple[FloatTensor, FloatTensor]:
    r"""Compute $\sum_l \psi(x_{ijl})$ and $\sum_l w_{ijl} \psi(x_{ijl}) + (1 - w_{ijl}) z_{il}$.

    Here $x_{ij} = q_i - s_i c_j$, and $z$ are the terms of the own entities. Differences are computed a block at a
    time, cf. :func:`pykeen_advneg.queries.kernels.blockwise_sum`, and serve both sums.

    :param q: the queries
    :param c: the candidates
    :param s: the scales, or ``None``
    :param own: $z$, of the shape of the queries
    :param rule: gives the weights
    :param value: $\psi$, in place
    :param derivative: $\psi'$, in place

    :returns: the sums for each pair
    """
    apply: Callable[..., tuple[FloatTensor, FloatTensor]] = _Sums.apply
    return apply(q, c, s, own, rule, value, derivative)


class _Sums(torch.autograd.Function):
    """Function and gradients of :func:`_sums`; there is none for the weights."""

    @staticmethod
    def forward(
        ctx: Any,
        q: FloatTensor,
        c: FloatTensor,
        s: FloatTensor | None,
        own: FloatTensor,
        rule: Mixing,
        value: Elementwise,
        derivative: Elementwise,
    ) -> tuple[FloatTensor, FloatTensor]:
        """Compute the sums."""
        ctx.save_for_backward(q, c, s)
        ctx.rule, ctx.derivative = rule._replace(own=q.new_empty(0)), derivative
        plain, mixed = rule.layout.empty(q, c), rule.layout.empty(q, c)
        for block, difference in rule.layout.differences(q, c, s):
            x = value(difference)
            torch.sum(x, dim=-1, out=plain[block])
            torch.lerp(own[block[:-1]].unsqueeze(-2), x, rule.of(block, x), out=x)
            torch.sum(x, dim=-1, out=mixed[block])
        return plain, mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_plain: FloatTensor, grad_mixed: FloatTensor) -> tuple[FloatTensor | None, ...]:
        """Compute the gradients."""
        q, c, s = ctx.saved_tensors
        rule: Mixing = ctx.rule
        layout, buffer = rule.layout, Buffer(q)
        grad_q, grad_c = torch.zeros_like(q), torch.zeros_like(c)
        grad_s = None if s is None else torch.zeros_like(s)
        # what weights leave to the own entities
        grad_own = (grad_plain + grad_mixed).sum(dim=-1, keepdim=True).expand(q.shape).clone()
        for block, difference in layout.differences(q, c, s):
            rows = block[:-1]
            factors = buffer(*difference.shape)
            torch.mul(rule.of(block, q), grad_mixed[block].unsqueeze(-1), out=factors)
            factors.add_(grad_plain[block].unsqueeze(-1))
            grad_own[rows] -= factors.sum(dim=-2)
            x = ctx.derivative(difference).mul_(factors)
            grad_q[rows] += x.sum(dim=-2)
            if s is not None and grad_s is not None:
                torch.mul(x, layout.candidates(c, block), out=factors)
                grad_s[rows] -= factors.sum(dim=-2)
                x *= s[rows].unsqueeze(-2)
            layout.subtract_from_candidates(grad_c, block, x)
        return grad_q, grad_c, grad_s, grad_own, None, None, None

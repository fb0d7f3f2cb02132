r"""Scores of candidates which are mixed with each query's own entity, without the mixed candidates.

The candidate $c_j$ of a query $q_i$ whose own entity is $t_i$ becomes $w_{ij} \odot c_j + (1 - w_{ij}) \odot t_i$.
Where a score adds up over components, $\sum_l g(q_{il}, c_{jl})$, and each weight is 0 or 1 (or $g$ is linear in $c$),
it is

$$\sum_l w_{ijl} \, g(q_{il}, c_{jl}) + \sum_l (1 - w_{ijl}) \, g(q_{il}, t_{il})$$

If the weights belong to candidates, $w_{ij} = w_j$, both sums are products of matrices, unless $g$ is an absolute
value. Else the terms of each pair are summed up. Distances of candidates with one share $w_j$ for all components are
those of $(1 - w_j) (q_i - t_i) + w_j (q_i - c_j)$ from 0.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from pykeen.typing import FloatTensor

from .comparisons import Distance, Product
from .form import Encoded, QueryForm
from .kernels import ABSOLUTE, SQUARE, blockwise_sum, products, safe_root, squared_euclidean
from .layouts import Layout
from .masks import PairMasks
from .mixing import Mixing, mixed_products, mixed_sums

__all__ = ["EncodedMasks", "adds_up", "mix", "plain_and_mixed"]


class EncodedMasks(NamedTuple):
    """The weights of pairs, as :class:`Encoded` has those of candidates."""

    vector: PairMasks
    bias: PairMasks | None


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


def adds_up(form: QueryForm | None) -> bool:
    """Return whether mixed scores are sums over the components of the candidates.

    :param form: how an interaction is scored

    :returns: whether :func:`plain_and_mixed` can be used
    """
    return form is not None and not form.moves and isinstance(form.compare, Product | Distance)


def plain_and_mixed(
    form: QueryForm,
    query: Encoded,
    own: Encoded,
    candidates: Encoded,
    weights: Encoded | EncodedMasks,
    layout: Layout,
    is_binary: bool = True,
) -> tuple[FloatTensor, FloatTensor]:
    """Score candidates as they are, and mixed with each query's own entity.

    :param form: how they are scored, one that adds up
    :param query: the queries, prefix of their shape: ``(b,)``; without a shift
    :param own: their own entities, prefix ``(b,)``
    :param candidates: the candidates, as the layout needs them
    :param weights: the shares of the candidates in the mixtures, of the shapes of the candidates; or those of pairs
    :param layout: which query meets which candidate
    :param is_binary: whether each weight is 0 or 1; else each candidate has one weight for all components

    :returns: the scores of the candidates and those of the mixtures, shape: ``(b, n)`` each
    """
    b = len(query.vector)
    query, own = (Encoded._make(None if x is None else layout.arrange(x) for x in each) for each in (query, own))
    rule = Mixing(weights.vector, layout)
    if isinstance(form.compare, Product):
        plain, mixed = _products(query, own.vector, candidates.vector, rule)
    else:
        assert isinstance(form.compare, Distance)
        compute = _distances if is_binary else _distances_of_shares
        plain, mixed = compute(form.compare, query, own.vector, candidates.vector, rule)
    if query.bias is not None:
        plain, mixed = plain + query.bias.unsqueeze(-1), mixed + query.bias.unsqueeze(-1)
    if candidates.bias is not None and own.bias is not None and weights.bias is not None:
        bias = layout.of_candidates(candidates.bias)
        share = _of_biases(weights.bias, plain, layout)
        plain, mixed = plain + bias, mixed + torch.lerp(own.bias.unsqueeze(-1), bias, share)
    if form.finish is not None:
        plain, mixed = form.finish(plain), form.finish(mixed)
    return layout.flatten(plain, b), layout.flatten(mixed, b)


def _of_biases(weights: FloatTensor | PairMasks, plain: FloatTensor, layout: Layout) -> FloatTensor:
    """Give the weight of the bias of each pair's candidate."""
    if isinstance(weights, PairMasks):
        return weights.dense(plain.shape, plain.dtype).squeeze(-1)
    return layout.of_candidates(weights)


def _products(query: Encoded, own: FloatTensor, c: FloatTensor, rule: Mixing) -> tuple[FloatTensor, FloatTensor]:
    """Sum up products, shape: that of the pairs."""
    w, layout = rule
    q = query.vector if query.scale is None else query.vector * query.scale
    if isinstance(w, PairMasks):
        return mixed_products(q, c, q * own, rule)
    return products(q, c, layout), products(q, w * c, layout) + products(q * own, 1 - w, layout)


def _distances(
    distance: Distance, query: Encoded, own: FloatTensor, c: FloatTensor, rule: Mixing
) -> tuple[FloatTensor, FloatTensor]:
    """Sum up distances, and give them the sign of scores, shape: that of the pairs."""
    w, layout = rule
    q, s = query.vector, query.scale
    rest = q - (own if s is None else s * own)
    if distance.p == 1:
        plain, mixed = mixed_sums(q, c, s, rest.abs(), rule, ABSOLUTE)
        return -plain, -mixed
    if s is None and not isinstance(w, PairMasks):
        plain = squared_euclidean(q, c, None, layout)
        # as the weights are 0 or 1: the distance of wc from the query scaled by w, where both have changed roles
        mixed = squared_euclidean(w * c, q, w, layout).transpose(1, 2) + products(rest.square(), 1 - w, layout)
    else:
        plain, mixed = mixed_sums(q, c, s, rest.square(), rule, SQUARE)
    return (-plain, -mixed) if distance.power_norm else (-safe_root(plain), -safe_root(mixed))


def _distances_of_shares(
    distance: Distance, query: Encoded, own: FloatTensor, c: FloatTensor, rule: Mixing
) -> tuple[FloatTensor, FloatTensor]:
    """Compute distances of mixtures with one share for all components, with the sign of scores."""
    w, layout = rule
    assert not isinstance(w, PairMasks)
    q, s = query.vector, query.scale
    own = own if s is None else s * own
    rest, share = q - own, layout.of_candidates(w[..., 0])
    if distance.p == 1:
        sums = partial(blockwise_sum, layout=layout, terms=ABSOLUTE)
        plain = sums(q, c, s, None, None)
        return -plain, -sums(rest, w * c, s, own, -share.expand(plain.shape).contiguous())
    plain = squared_euclidean(q, c, s, layout)
    across = (rest * q).sum(dim=-1, keepdim=True) - products(rest if s is None else rest * s, c, layout)
    alone = (1 - share).square() * rest.square().sum(dim=-1, keepdim=True)
    mixed = (alone + share.square() * plain + 2 * share * (1 - share) * across).clamp(min=0)
    return (-plain, -mixed) if distance.power_norm else (-safe_root(plain), -safe_root(mixed))

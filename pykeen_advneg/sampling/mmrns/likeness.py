"""How much the candidates of a pool are like the anchor of each positive, for its relation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from pykeen.typing import BoolTensor, FloatTensor, LongTensor
from torch.utils.checkpoint import checkpoint

from .attention import NEGATIVE_SLOPE, Contents, CrossModalAttention
from .gated import gated_similarities

__all__ = ["Groups", "Likeness", "likeness"]

#: how many numbers the weights of a block of candidates have: what fits into the cache of a CPU core
BLOCK_ELEMENTS = 2**19

#: how many numbers are kept for the gradient of a branch; if there would be more, it is computed again
KEPT_ELEMENTS = 2**27

#: how many tensors of a size a branch keeps
COPIES = 4

TINY = 1e-10


class Groups(NamedTuple):
    """The positives of a batch, by relation."""

    #: the distinct relations, shape: ``(m,)``
    relations: LongTensor

    #: which of these each positive has, shape: ``(b,)``
    which: LongTensor

    #: the positives in the order of their relations, shape: ``(b,)``
    order: LongTensor

    #: how many positives each relation has
    counts: tuple[int, ...]

    @classmethod
    def of(cls, relations: LongTensor) -> Groups:
        """Group.

        :param relations: shape: ``(b,)``

        :returns: the groups
        """
        distinct, index, counts = relations.unique(return_inverse=True, return_counts=True)
        return cls(distinct, index, index.argsort(stable=True), tuple(counts.tolist()))


class Likeness(NamedTuple):
    """Similarities of one branch."""

    #: from -1 to 1, shape: ``(b, p)``
    values: FloatTensor

    #: which candidates have what the branch looks at, shape: ``(p,)``; ``None``: all
    has: BoolTensor | None = None

    #: which anchors have it, shape: ``(b,)``; ``None``: all
    anchor_has: BoolTensor | None = None

    @property
    def exists(self) -> BoolTensor:
        """Which pairs of an anchor and a candidate both have it, shape: ``(b, p)``."""
        exists = torch.ones_like(self.values, dtype=torch.bool)
        if self.has is not None:
            exists = exists & self.has
        return exists if self.anchor_has is None else exists & self.anchor_has.unsqueeze(1)


class _GroupedProducts(torch.autograd.Function):
    """Products of each anchor with the candidates as its own relation sees them."""

    @staticmethod
    def forward(ctx: Any, anchors: FloatTensor, candidates: FloatTensor, counts: tuple[int, ...]) -> FloatTensor:
        """Multiply.

        :param ctx: keeps what the gradients need
        :param anchors: in the order of their relations, shape: ``(b, d)``
        :param candidates: shape: ``(p, m, d)``
        :param counts: how many anchors each of the $m$ relations has

        :returns: shape: ``(b, p)``
        """
        ctx.save_for_backward(anchors, candidates)
        ctx.counts = counts
        groups = anchors.split(counts)
        return torch.cat([group @ z.T for group, z in zip(groups, candidates.unbind(1), strict=True)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: FloatTensor) -> tuple[FloatTensor, FloatTensor, None]:
        """Compute the gradients."""
        anchors, candidates = ctx.saved_tensors
        of_anchors, of_candidates = torch.empty_like(anchors), torch.empty_like(candidates)
        start = 0
        for m, count in enumerate(ctx.counts):
            rows = slice(start, start := start + count)
            of_anchors[rows] = grad[rows] @ candidates[:, m]
            of_candidates[:, m] = grad[rows].T @ anchors[rows]
        return of_anchors, of_candidates, None


def grouped_products(anchors: FloatTensor, candidates: FloatTensor, counts: tuple[int, ...]) -> FloatTensor:
    """Multiply each anchor by all candidates, as the relation of the anchor sees them.

    :param anchors: in the order of their relations, shape: ``(b, d)``
    :param candidates: shape: ``(p, m, d)``
    :param counts: how many anchors each of the $m$ relations has

    :returns: shape: ``(b, p)``
    """
    return cast(FloatTensor, _GroupedProducts.apply(anchors, candidates, counts))  # type: ignore[no-untyped-call]


def likeness(
    network: CrossModalAttention, pool: Contents, anchors: Contents, relations: FloatTensor, groups: Groups
) -> dict[str, FloatTensor]:
    r"""Compare candidates with anchors (Xu et al., 2022), for each branch $m$ of the network:

    $$sim^m(z, z_j) = \frac{z \cdot z_j}{\lVert z \rVert \lVert z_j \rVert}$$

    of which the denominator is a constant for the gradient. Candidates are encoded once for each distinct relation
    of the batch, not for each positive: the structure relation by relation, the other branches, whose vectors are
    short, block by block of candidates. If what the gradient needs would take too much memory, it is computed a second
    time.

    :param network: the attention network
    :param pool: $p$ candidates
    :param anchors: the entities of $b$ positives
    :param relations: the distinct relations in the model, shape: ``(m, relation_dim)``
    :param groups: which positive has which relation

    :returns: the similarities by branch, the structure first, shapes: ``(b, p)``
    """  # noqa: D400
    order = groups.order
    ordered = Contents(
        anchors.embedding[order],
        {name: x[order] for name, x in anchors.parts.items()},
        {name: x[order] for name, x in anchors.masks.items()},
    )
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    found = {}
    for name in network.branches:
        own = network.branch(name, ordered, relations[groups.which[order]], paired=True).squeeze(1)
        compare = _compare_structure if name == "structure" else _compare_guided
        similarities = compare(network, name, pool, own, relations, groups.counts)
        found[name] = similarities.index_select(0, back)
    return found


def _compare_structure(
    network: CrossModalAttention,
    name: str,
    pool: Contents,
    own: FloatTensor,
    relations: FloatTensor,
    counts: tuple[int, ...],
) -> FloatTensor:
    """Compare relation by relation: vectors are as long as those of the model."""
    branch = network.structure
    keep = torch.is_grad_enabled() and len(relations) * pool.embedding.numel() <= KEPT_ELEMENTS
    layers = *branch.first_layer(pool.embedding, relations), branch.gate.weight, branch.gate.bias
    return gated_similarities(own, pool.embedding, *layers, counts, NEGATIVE_SLOPE, TINY, keep)


def _compare_guided(
    network: CrossModalAttention,
    name: str,
    pool: Contents,
    own: FloatTensor,
    relations: FloatTensor,
    counts: tuple[int, ...],
) -> FloatTensor:
    """Compare vectors which are made block by block: there are many numbers for each, and few are left."""
    p, m = len(pool.embedding), len(relations)
    pairs = pool.parts[name].shape[1] * pool.parts[network.guide_of(name)].shape[1]
    size = max(1, BLOCK_ELEMENTS // (m * pairs))
    again = _is_too_much(p * m * pairs)

    def encode(start: int) -> FloatTensor:
        return network.branch(name, pool.narrow(start, start + size), relations, paired=False)

    z = torch.cat([_call(encode, again, start) for start in range(0, p, size)])
    index = torch.repeat_interleave(torch.arange(m, device=z.device), torch.tensor(counts, device=z.device))
    with torch.no_grad():
        norms = _norms(z.norm(dim=-1).T[index], own)
    similarities: FloatTensor = grouped_products(own, z, counts) / norms
    return similarities


def _norms(of_candidates: FloatTensor, anchors: FloatTensor) -> FloatTensor:
    """Multiply norms, without gradient."""
    norms: FloatTensor = of_candidates.detach() * anchors.detach().norm(dim=-1, keepdim=True) + TINY
    return norms


def _is_too_much(elements: int) -> bool:
    """Decide whether to compute again instead of keeping several tensors of so many numbers."""
    return torch.is_grad_enabled() and COPIES * elements > KEPT_ELEMENTS


def _call(function: Callable[..., FloatTensor], again: bool, *arguments: Any) -> FloatTensor:
    """Call a function, whose intermediate results are dropped and computed again for the gradient, if wanted."""
    if not again:
        result: FloatTensor = function(*arguments)
        return result
    return cast(FloatTensor, checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False))

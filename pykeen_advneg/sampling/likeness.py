"""How much the candidates of a pool are like the anchor of each positive, for its relation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from pykeen.typing import BoolTensor, FloatTensor, LongTensor
from torch.utils.checkpoint import checkpoint

from .attention import Contents, CrossModalAttention

__all__ = ["Groups", "Likeness", "likeness"]

#: how many numbers the branches of a block of candidates may have
BLOCK_ELEMENTS = 2**22

#: how many numbers are kept for the gradient; if there would be more, blocks are computed again for it
KEPT_ELEMENTS = 2**27

#: how many numbers of a kind a branch has at a time
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
    of the batch, not for each positive, block by block; if what the gradient needs would take too much memory, blocks
    are computed a second time for it.

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
    index = groups.which[order]
    own = {name: network.branch(name, ordered, relations[index], paired=True).squeeze(1) for name in network.branches}
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))

    def compare(name: str, start: int, stop: int) -> FloatTensor:
        z = network.branch(name, pool.narrow(start, stop), relations, paired=False)
        products = grouped_products(own[name], z, groups.counts)
        with torch.no_grad():
            norms = z.norm(dim=-1).T[index] * own[name].norm(dim=-1, keepdim=True) + TINY
        similarities: FloatTensor = products / norms
        return similarities

    sizes = {name: _elements(name, pool, network, len(relations)) for name in network.branches}
    return {name: _in_blocks(compare, name, len(pool.embedding), size)[back] for name, size in sizes.items()}


def _in_blocks(compare: Callable[[str, int, int], FloatTensor], name: str, p: int, elements: int) -> FloatTensor:
    """Compare block by block; ``elements`` is how many numbers a candidate takes."""
    size = max(1, BLOCK_ELEMENTS // elements)
    starts = range(0, p, size)
    again = torch.is_grad_enabled() and p * elements > KEPT_ELEMENTS
    blocks = [
        checkpoint(compare, name, start, min(p, start + size), use_reentrant=False, preserve_rng_state=False)
        if again
        else compare(name, start, min(p, start + size))
        for start in starts
    ]
    return torch.cat(cast("list[FloatTensor]", blocks), dim=1)


def _elements(name: str, pool: Contents, network: CrossModalAttention, m: int) -> int:
    """Return how many numbers a branch holds for a candidate and $m$ relations."""
    if name == "structure":
        return COPIES * m * pool.embedding.shape[1]
    return COPIES * m * pool.parts[name].shape[1] * pool.parts[network.guide_of(name)].shape[1]

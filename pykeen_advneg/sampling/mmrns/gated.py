r"""Similarities of gated embeddings, relation by relation, with a gradient which keeps one tensor for each relation.

A candidate $e_j$ is seen by a relation through a gate, $z_j = e_j \odot g_j$ and
$g_j = \sigma(W \phi(u_j + v) + c)$, where $u_j$ is what the first layer makes of the candidate, and $v$ of the relation
($\phi$: leaky ReLU). Its similarity to an anchor $a$ is $a \cdot z_j / (\lVert a \rVert \lVert z_j \rVert)$ with a
constant denominator. With the gradient $\delta$ by the similarities over this denominator, and
$\delta^z_j = \sum \delta_j a$ over the anchors of the relation,

$$\delta^a = \sum_j \delta_j z_j, \quad \delta^e_j = \delta^z_j \odot g_j, \quad
  \delta^l_j = \delta^z_j \odot e_j \odot g_j \odot (1 - g_j), \quad
  \delta^W = \sum_j \delta^l_j \phi_j^T, \quad \delta^u_j = \phi'_j \odot W^T \delta^l_j.$$

Only the gates are kept, if there is room; the rest is cheaper to compute again than to write and to read.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from pykeen.typing import FloatTensor
from torch.nn import functional

__all__ = ["gated_similarities"]


class _GatedSimilarities(torch.autograd.Function):
    """Similarities of each anchor to all candidates as its own relation sees them."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: FloatTensor,
        entities: FloatTensor,
        own: FloatTensor,
        others: FloatTensor,
        weight: FloatTensor,
        counts: tuple[int, ...],
        slope: float,
        tiny: float,
        keep: bool,
    ) -> FloatTensor:
        """Compare, cf. :func:`gated_similarities`."""
        gates = entities.new_empty(len(counts) if keep else 1, *entities.shape)
        norms = entities.new_empty(len(counts), len(entities))
        result = anchors.new_empty(len(anchors), len(entities))
        lengths = anchors.norm(dim=-1, keepdim=True)
        z, start = torch.empty_like(entities), 0
        for i, count in enumerate(counts):
            rows = slice(start, start := start + count)
            gate = gates[i if keep else 0]
            _gate(functional.leaky_relu_(own + others[i], slope), weight, gate)
            torch.mul(entities, gate, out=z)
            norms[i] = torch.linalg.vector_norm(z, dim=-1)
            torch.mm(anchors[rows], z.T, out=result[rows])
            result[rows] /= norms[i] * lengths[rows] + tiny
        ctx.save_for_backward(anchors, entities, own, others, weight, norms, lengths, gates if keep else None)
        ctx.counts, ctx.slope, ctx.tiny = counts, slope, tiny
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: FloatTensor) -> tuple[FloatTensor | None, ...]:
        """Compute the gradients by anchors, candidates, both layers."""
        anchors, entities, own, others, weight, norms, lengths, gates = ctx.saved_tensors
        of_anchors, of_others = torch.empty_like(anchors), torch.empty_like(others)
        of_entities, of_own, of_weight = map(torch.zeros_like, (entities, own, weight))
        work, of_z, of_hidden = torch.empty_like(entities), torch.empty_like(entities), torch.empty_like(own)
        start = 0
        for i, count in enumerate(ctx.counts):
            rows = slice(start, start := start + count)
            hidden = functional.leaky_relu_(own + others[i], ctx.slope)
            gate = gates[i] if gates is not None else _gate(hidden, weight, torch.empty_like(entities))
            scaled = grad[rows] / (norms[i] * lengths[rows] + ctx.tiny)
            torch.mul(entities, gate, out=work)
            torch.mm(scaled, work, out=of_anchors[rows])
            torch.mm(scaled.T, anchors[rows], out=of_z)
            of_entities.addcmul_(of_z, gate)
            torch.ops.aten.sigmoid_backward.grad_input(of_z.mul_(entities), gate, grad_input=work)
            of_weight.addmm_(work.T, hidden)
            torch.mm(work, weight, out=of_hidden)
            # of the result, which has the sign of the argument
            torch.ops.aten.leaky_relu_backward.grad_input(of_hidden, hidden, ctx.slope, True, grad_input=hidden)
            of_own += hidden
            torch.sum(hidden, dim=0, out=of_others[i])
        return of_anchors, of_entities, of_own, of_others, of_weight, None, None, None, None


def _gate(hidden: FloatTensor, weight: FloatTensor, out: FloatTensor) -> FloatTensor:
    """Compute a gate into a tensor."""
    return torch.mm(hidden, weight.T, out=out).sigmoid_()


def gated_similarities(
    anchors: FloatTensor,
    entities: FloatTensor,
    own: FloatTensor,
    others: FloatTensor,
    weight: FloatTensor,
    bias: FloatTensor,
    counts: tuple[int, ...],
    slope: float,
    tiny: float,
    keep: bool,
) -> FloatTensor:
    """Compare each anchor with all candidates behind the gate of its own relation.

    :param anchors: behind their gates, in the order of their relations, shape: ``(b, d)``
    :param entities: the candidates, shape: ``(p, d)``
    :param own: $u$, what the first layer makes of the candidates, shape: ``(p, h)``
    :param others: $v$, what it makes of the relations, shape: ``(m, h)``
    :param weight: $W$, shape: ``(d, h)``
    :param bias: $c$, shape: ``(d,)``
    :param counts: how many anchors each of the $m$ relations has
    :param slope: of the leaky ReLU, for negative numbers; more than 0
    :param tiny: is added to the denominator
    :param keep: whether gates are kept for the gradient, ``m p d`` numbers, or computed again

    :returns: shape: ``(b, p)``
    """
    # a first layer whose last number is 1 makes the bias a column of the matrix: no passes of its own
    one, zero = own.new_ones(len(own), 1), others.new_zeros(len(others), 1)
    layers = torch.cat([own, one], dim=1), torch.cat([others, zero], dim=1), torch.cat([weight, bias[:, None]], dim=1)
    result = _GatedSimilarities.apply(anchors, entities, *layers, counts, slope, tiny, keep)  # type: ignore[no-untyped-call]
    return cast(FloatTensor, result)

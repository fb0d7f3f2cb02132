"""Draws without replacement by Gumbel noise, with a gradient which pretends that they were soft."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from pykeen.typing import BoolTensor, FloatTensor, LongTensor

__all__ = ["Draws", "draw", "draw_hard", "straight_through"]


#: how many numbers a block of draws has: what fits into the cache of a CPU core
BLOCK_ELEMENTS = 2**16

#: what is less, relative to the most probable candidate, is as probable as this
LEAST = 1e-20


class Draws(NamedTuple):
    """What was drawn of a pool."""

    #: the places in the pool, shape: ``(b, k)``
    places: LongTensor

    #: which of them are draws: a row has no more than it has allowed candidates, shape: ``(b, k)``
    valid: BoolTensor

    #: of each draw, the softmax whose largest entry it is, shape: ``(b, k, p)``; 0 where it is no draw
    soft: FloatTensor | None = None


def draw(log_q: FloatTensor, allowed: BoolTensor, k: int, temperature: float = 1.0) -> Draws:
    r"""Draw $k$ times without replacement, each time with fresh Gumbel noise $G$:

    $$y_n = \mathrm{softmax}\Big(\frac{\log q + G_n}{\tau}\Big), \qquad j_n = \arg\max y_n,$$

    over the candidates which are allowed and have not been drawn. With $E = e^{-G}$, which is exponential, it is
    $y_n \propto (q / E_n)^{1 / \tau}$.

    :param log_q: logarithms of probabilities, shape: ``(b, p)``, without gradient
    :param allowed: which candidates may be drawn, shape: ``(b, p)``
    :param k: the number of draws
    :param temperature: $\tau$, of the softmax; it changes no draw

    :returns: the draws, with ``soft``
    """  # noqa: D400
    weights = _weights(log_q, allowed)
    b, p = log_q.shape
    soft = log_q.new_empty(b, k, p)
    places, valid = torch.empty(b, k, dtype=torch.long, device=log_q.device), allowed.new_empty(b, k)
    size = max(1, BLOCK_ELEMENTS // p)
    for start in range(0, b, size):
        block = slice(start, start + size)
        _draw_block(weights[block], soft[block], places[block], valid[block], temperature)
    return Draws(places, valid, soft)


def _draw_block(
    weights: FloatTensor, soft: FloatTensor, places: LongTensor, valid: BoolTensor, temperature: float
) -> None:
    """Draw for some rows, into tensors; weights are 0 thereafter where a candidate was drawn."""
    tiny = torch.finfo(weights.dtype).tiny
    noise, quotients = torch.empty_like(weights), torch.empty_like(weights)
    for n in range(soft.shape[1]):
        # -E, so that the largest y is the smallest quotient; the sign falls out with the sum
        y = torch.div(weights, noise.uniform_().log_(), out=quotients)
        smallest, place = y.min(dim=1, keepdim=True)
        places[:, n : n + 1], valid[:, n : n + 1] = place, smallest < 0
        if temperature != 1:
            y.div_(smallest.clamp_(max=-tiny)).pow_(1 / temperature)
        total = y.sum(dim=1, keepdim=True)
        torch.div(y, total.clamp_(max=-tiny) if temperature == 1 else total.clamp_(min=tiny), out=soft[:, n])
        weights.scatter_(1, place, 0.0)


def draw_hard(log_q: FloatTensor, allowed: BoolTensor, k: int) -> Draws:
    """Draw as :func:`draw` does, in distribution, without soft draws: the k largest of one Gumbel noise.

    Largest sums of logarithms and Gumbel noise are draws without replacement (Vieira, 2014; Kool et al., 2019,
    https://arxiv.org/abs/1903.06059).

    :param log_q: logarithms of probabilities, shape: ``(b, p)``
    :param allowed: which candidates may be drawn, shape: ``(b, p)``
    :param k: the number of draws

    :returns: the draws
    """
    perturbed = (log_q - _exponential(log_q).log_()).masked_fill_(~allowed, -torch.inf)
    largest, places = perturbed.topk(min(k, log_q.shape[1]), dim=1)
    missing = k - places.shape[1]
    if missing:
        places = torch.cat([places, places[:, :1].expand(-1, missing)], dim=1)
        largest = torch.cat([largest, largest.new_full((len(largest), missing), -torch.inf)], dim=1)
    return Draws(places, largest > -torch.inf)


def _exponential(like: FloatTensor) -> FloatTensor:
    """Draw exponential noise, from 6e-8 to 88; less time than with PyTorch's ``exponential_`` on a CPU."""
    return torch.rand_like(like).clamp_(min=torch.finfo(like.dtype).tiny).log_().neg_()


def _weights(log_q: FloatTensor, allowed: BoolTensor) -> FloatTensor:
    """Return the probabilities relative to the largest, 0 only where a candidate is not allowed."""
    logits = log_q.masked_fill(~allowed, -torch.inf)
    largest = logits.amax(dim=1, keepdim=True).nan_to_num(neginf=0.0)
    # far from the ends of the range, as it is divided by noise which may be small or large
    return (logits - largest).exp().clamp_(min=LEAST).mul_(allowed)


class _StraightThrough(torch.autograd.Function):
    """Zeros, whose gradient is that of the scores of soft draws."""

    @staticmethod
    def forward(
        ctx: Any, log_q: FloatTensor, soft: FloatTensor, gradients: FloatTensor, candidates: FloatTensor
    ) -> FloatTensor:
        """Give a zero for each draw."""
        ctx.save_for_backward(soft, gradients, candidates)
        return soft.new_zeros(soft.shape[:2])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: FloatTensor) -> tuple[FloatTensor, None, None, None]:
        """Sum up the slopes of all draws, some rows at a time."""
        soft, gradients, candidates = ctx.saved_tensors
        b, k, p = soft.shape
        result = soft.new_empty(b, p)
        size = max(1, BLOCK_ELEMENTS // (k * p))
        for start in range(0, b, size):
            block = slice(start, start + size)
            weighted = gradients[block] * grad[block].unsqueeze(-1)
            slopes = (weighted.flatten(0, 1) @ candidates.T).view(-1, k, p)
            slopes -= torch.linalg.vecdot(slopes, soft[block]).unsqueeze(-1)
            torch.sum(slopes.mul_(soft[block]), dim=1, out=result[block])
        return result, None, None, None


def straight_through(
    log_q: FloatTensor,
    soft: FloatTensor,
    gradients: FloatTensor,
    candidates: FloatTensor,
    temperature: float = 1.0,
) -> FloatTensor:
    r"""Give zeros which, added to the scores of drawn negatives, carry their gradient to the distribution.

    The representation of draw $n$ is $\sum_j Y_{nj} e_j$ with the one-hot $Y_n = \mathrm{onehot}(j_n) - sg(y_n) + y_n$
    ($sg$: no gradient). With $a_{nj} = \partial s_n / \partial e \cdot e_j$,

    $$\frac{\partial s_n}{\partial \log q_j} = \frac{y_{nj}}{\tau} \Big( a_{nj} - \sum_i y_{ni} a_{ni} \Big).$$

    :param log_q: with gradient, shape: ``(b, p)``
    :param soft: the soft draws $y$, shape: ``(b, k, p)``
    :param gradients: of the scores by the representations of the draws, shape: ``(b, k, d)``
    :param candidates: the representations $e$ of the pool, shape: ``(p, d)``
    :param temperature: $\tau$

    :returns: zeros, shape: ``(b, k)``
    """
    return cast(FloatTensor, _StraightThrough.apply(log_q / temperature, soft, gradients, candidates))  # type: ignore[no-untyped-call]

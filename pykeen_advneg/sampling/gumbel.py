"""Draws without replacement by Gumbel noise, with a gradient which pretends that they were soft."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from pykeen.typing import BoolTensor, FloatTensor, LongTensor

__all__ = ["Draws", "draw", "draw_hard", "straight_through"]


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
    tiny = torch.finfo(log_q.dtype).tiny
    soft = log_q.new_empty(b, k, p)
    places, valid = torch.empty(b, k, dtype=torch.long, device=log_q.device), allowed.new_empty(b, k)
    for n in range(k):
        y = weights / _exponential(weights)
        largest, place = y.max(dim=1, keepdim=True)
        places[:, n : n + 1], valid[:, n : n + 1] = place, largest > 0
        if temperature != 1:
            y.div_(largest.clamp_(min=tiny)).pow_(1 / temperature)
        torch.div(y, y.sum(dim=1, keepdim=True).clamp_(min=tiny), out=soft[:, n])
        weights.scatter_(1, place, 0.0)
    return Draws(places, valid, soft)


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
    def forward(ctx: Any, log_q: FloatTensor, slopes: FloatTensor) -> FloatTensor:
        """Give a zero for each draw."""
        ctx.save_for_backward(slopes)
        return slopes.new_zeros(slopes.shape[:2])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: FloatTensor) -> tuple[FloatTensor, None]:
        """Sum up the slopes of all draws."""
        (slopes,) = ctx.saved_tensors
        return torch.bmm(grad.unsqueeze(1), slopes).squeeze(1), None


def straight_through(log_q: FloatTensor, slopes: FloatTensor, temperature: float = 1.0) -> FloatTensor:
    r"""Give zeros which, added to the scores of drawn negatives, carry their gradient to the distribution.

    The representation of draw $n$ is $\sum_j Y_{nj} e_j$ with the one-hot $Y_n = \mathrm{onehot}(j_n) - sg(y_n) + y_n$
    ($sg$: no gradient). With $a_j = \partial s_n / \partial e \cdot e_j$,

    $$\frac{\partial s_n}{\partial \log q_j} = \frac{y_{nj}}{\tau} \Big( a_j - \sum_i y_{ni} a_i \Big),$$

    which is the slope over $\tau$.

    :param log_q: with gradient, shape: ``(b, p)``
    :param slopes: shape: ``(b, k, p)``
    :param temperature: $\tau$

    :returns: zeros, shape: ``(b, k)``
    """
    return cast(FloatTensor, _StraightThrough.apply(log_q / temperature, slopes))  # type: ignore[no-untyped-call]

"""Initialisers and constraints of embedding tables which published methods use and PyKEEN does not have."""

from __future__ import annotations

import math

from pykeen.typing import FloatTensor
from pykeen.utils import clamp_norm

__all__ = ["ball_normal_", "factor_normal_", "range_uniform_", "unit_ball"]


def unit_ball(x: FloatTensor) -> FloatTensor:
    r"""Clamp each row to the unit ball: $x / \max(1, \|x\|_2)$. Shorter rows stay as they are.

    :param x: shape: ``(n, d)``

    :returns: shape: ``(n, d)``
    """
    clamped: FloatTensor = clamp_norm(x, maxnorm=1.0, p=2, dim=-1)
    return clamped


def ball_normal_(x: FloatTensor) -> FloatTensor:
    r"""Draw from $N(1/\sqrt{d}, 1)$ and clamp each row to the unit ball, which puts nearly all rows on the sphere.

    This is how KBGAN starts its translational models. (The authors wrote ``normal_(1 / sqrt(d))``, whose argument is
    the mean; the standard deviation stays 1.)

    :param x: shape: ``(n, d)``, filled in place

    :returns: the same tensor
    """
    x.normal_(mean=1 / math.sqrt(x.shape[-1]), std=1.0)
    x.copy_(unit_ball(x))
    return x


def factor_normal_(x: FloatTensor, sigma: float = 0.2) -> FloatTensor:
    r"""Draw from $N(0, s^2)$ with $s = (\sigma^2 / d)^{1/6}$, so that a product of three factors has scale $\sigma$.

    For independent factors the sum $\sum_{i=1}^d h_i r_i t_i$ has variance $d s^6 = \sigma^2$. This is how KBGAN
    starts DistMult and ComplEx.

    :param x: shape: ``(n, d)``, or ``(n, d, 2)`` for the two parts of complex values; filled in place
    :param sigma: the scale of the score

    :returns: the same tensor
    """
    return x.normal_(mean=0.0, std=(sigma**2 / x.shape[1]) ** (1 / 6))


def range_uniform_(x: FloatTensor, scale: float = 26.0) -> FloatTensor:
    r"""Draw uniformly from $[-s / d, s / d]$, which is how the authors of RotatE and of EMU start embeddings.

    Theirs is $s = \gamma + 2$ with the margin $\gamma = 24$ of distances.

    :param x: shape: ``(n, d)``, or ``(n, d, 2)`` for the two parts of complex values; filled in place
    :param scale: $s$

    :returns: the same tensor
    """
    return x.uniform_(-scale / x.shape[1], scale / x.shape[1])

r"""The networks of DANS: two generators with FiLM layers, a discriminator with two heads, and their losses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from pykeen.typing import FloatTensor
from torch import nn
from torch.nn.functional import batch_norm, binary_cross_entropy_with_logits, leaky_relu

__all__ = [
    "Discriminator",
    "Generator",
    "Modulation",
    "Networks",
    "Output",
    "Sizes",
    "Statistics",
    "discriminator_loss",
    "generator_loss",
]

Output = Literal["tanh", "linear"]

#: Which mean and variance batch normalisation takes: those of its batch, and remembers them (``learn``); those of its
#: batch (``batch``); those which it remembers (``remembered``)
Statistics = Literal["learn", "batch", "remembered"]

SLOPE = 0.2
FILM_HIDDEN = 100
#: that of the authors' code, where it is a slip: the second parameter of the layer is not the momentum
BATCH_NORM_EPS = 0.8
MOMENTUM = 0.1
TRUNK = (50, 32)
HEAD = (32, 16, 8, 1)


class Modulation(NamedTuple):
    r"""What FiLM layers do with the two hidden layers of a generator: $u \mapsto \alpha \odot u + \beta$."""

    #: shape: ``(*batch, dim)`` each
    alphas: tuple[FloatTensor, FloatTensor]
    betas: tuple[FloatTensor, FloatTensor]

    def rows(self, index: torch.Tensor) -> Modulation:
        """Take some rows.

        :param index: of the first dimension
        """
        first, second = (tuple(x.index_select(0, index) for x in pair) for pair in self)
        return Modulation((first[0], first[1]), (second[0], second[1]))

    def distance(self) -> FloatTensor:
        r"""Compute how far this is from doing nothing (the regulariser $\Omega$).

        $$\Omega = \frac{1}{4} \sum_{l=1}^2 (\|\alpha_l - 1\|_F + \|\beta_l\|_F)$$

        The norms are those of whole matrices, over all rows, as in the authors' code.
        """
        norms = [torch.linalg.vector_norm(x - 1) for x in self.alphas]
        norms += [torch.linalg.vector_norm(x) for x in self.betas]
        return torch.stack(norms).mean()


class FiLM(nn.Module):
    r"""Feature-wise linear modulation: four networks $c \mapsto \phi(B \phi(A c))$ without bias, of slope 0.2."""

    def __init__(self, condition_dim: int, dim: int, residual: bool) -> None:
        """Initialize the networks.

        :param condition_dim: the dimension of conditions
        :param dim: that of what is modulated
        :param residual: whether 1 is added to what scales
        """
        super().__init__()
        # the first layers of all four at once: each row is initialised by its inputs, thus as in four layers
        self.first = nn.Linear(condition_dim, 4 * FILM_HIDDEN, bias=False)
        self.second = nn.ModuleList(nn.Linear(FILM_HIDDEN, dim, bias=False) for _ in range(4))
        self.residual = residual

    def forward(self, condition: FloatTensor) -> Modulation:
        """Compute the modulation.

        :param condition: shape: ``(n, condition_dim)``

        :returns: shapes: ``(n, dim)``
        """
        hidden = leaky_relu(self.first(condition), SLOPE).chunk(4, dim=-1)
        a1, b1, a2, b2 = (leaky_relu(layer(x), SLOPE) for layer, x in zip(self.second, hidden, strict=True))
        if self.residual:
            a1, a2 = a1 + 1, a2 + 1
        return Modulation((a1, a2), (b1, b2))


class Generator(nn.Module):
    r"""A generator of DANS: from a condition with noise to an entity, adapted to the condition by FiLM.

    $$x_0 = c + z, \quad x_l = \phi(\mathrm{BN}(\alpha_l(c) \odot \phi(W_l x_{l-1} + b_l) + \beta_l(c))), \quad
    e = \tanh(W_3 x_2 + b_3)$$

    for $l = 1, 2$ with $\phi$ a LeakyReLU of slope 0.2; FiLM sees the condition without noise.
    """

    def __init__(
        self, condition_dim: int, dim: int, film: bool = True, residual: bool = False, output: Output = "tanh"
    ) -> None:
        """Initialize the generator.

        :param condition_dim: the dimension of conditions
        :param dim: that of entities
        :param film: whether there are FiLM layers
        :param residual: whether 1 is added to what scales
        :param output: the last function
        """
        super().__init__()
        self.linears = nn.ModuleList([nn.Linear(condition_dim, dim), nn.Linear(dim, dim)])
        self.norms = nn.ModuleList(nn.BatchNorm1d(dim, eps=BATCH_NORM_EPS) for _ in range(2))
        self.last = nn.Linear(dim, dim)
        self.film = FiLM(condition_dim, dim, residual) if film else None
        self.output = output

    def modulation(self, condition: FloatTensor) -> Modulation | None:
        """Compute what FiLM does for each condition.

        :param condition: shape: ``(n, condition_dim)``

        :returns: None if there is no FiLM
        """
        return None if self.film is None else self.film(condition)

    def forward(self, x: FloatTensor, modulation: Modulation | None, statistics: Statistics) -> FloatTensor:
        """Generate entities.

        :param x: conditions with noise, shape: ``(n, condition_dim)``
        :param modulation: of the conditions without, shapes: ``(n, dim)``
        :param statistics: which mean and variance batch normalisation takes

        :returns: shape: ``(n, dim)``
        """
        for i, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            x = leaky_relu(linear(x), SLOPE)
            if modulation is not None:
                x = torch.addcmul(modulation.betas[i], x, modulation.alphas[i])
            x = leaky_relu(_normalize(norm, x, statistics), SLOPE)
        x = self.last(x)
        return x.tanh() if self.output == "tanh" else x


def _normalize(norm: nn.Module, x: FloatTensor, statistics: Statistics) -> FloatTensor:
    assert isinstance(norm, nn.BatchNorm1d)
    kept = (None, None) if statistics == "batch" else (norm.running_mean, norm.running_var)
    is_of_batch = statistics != "remembered"
    return batch_norm(x, *kept, norm.weight, norm.bias, training=is_of_batch, momentum=MOMENTUM, eps=norm.eps)


def _stack(*sizes: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(n, m) for n, m in itertools.pairwise(sizes)))


def _product(stack: nn.Sequential) -> tuple[FloatTensor, FloatTensor]:
    """Multiply linear maps out, which is little work, as inputs are many; shapes: ``(1, dim)``, ``(1,)``."""
    weight: FloatTensor | None = None
    bias: FloatTensor | None = None
    for layer in stack:
        assert isinstance(layer, nn.Linear)
        weight = layer.weight if weight is None else layer.weight @ weight
        bias = layer.bias if bias is None else layer.weight @ bias + layer.bias
    assert weight is not None
    assert bias is not None
    return weight, bias


class Discriminator(nn.Module):
    """Tells real entities from generated ones, and the two generators from each other; it sees an entity alone.

    The heads are linear maps in three factors, as in the authors' code, which trains otherwise than one; entities are
    multiplied by their product.
    """

    def __init__(self, dim: int, auxiliary: bool) -> None:
        """Initialize the discriminator.

        :param dim: the dimension of entities
        :param auxiliary: whether it tells the generators from each other
        """
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(dim, TRUNK[0]), nn.LeakyReLU(SLOPE), nn.Linear(*TRUNK))
        self.adversarial = _stack(*HEAD)
        self.auxiliary = _stack(*HEAD) if auxiliary else None

    def forward(self, x: FloatTensor) -> tuple[FloatTensor, FloatTensor | None]:
        """Judge entities.

        :param x: shape: ``(n, dim)``

        :returns: the logits of being real, and of being from the generator which starts from an entity alone, shapes:
            ``(n,)``
        """
        heads = [self.adversarial] if self.auxiliary is None else [self.adversarial, self.auxiliary]
        weights, biases = zip(*(_product(head) for head in heads), strict=True)
        adversarial, *auxiliary = torch.addmm(torch.cat(biases), self.trunk(x), torch.cat(weights).T).unbind(-1)
        return adversarial, auxiliary[0] if auxiliary else None


def generator_loss(logits: FloatTensor, distances: Sequence[FloatTensor], weight: float) -> FloatTensor:
    r"""Compute the loss of a generator.

    $$L_G = \frac{1}{2} \sum_{s \in \{head, tail\}} \left( \mathrm{BCE}(D(G(c_s)), 1) + \lambda \Omega_s \right)$$

    :param logits: of being real, of its fakes, as many heads as tails
    :param distances: $\Omega$ of each side; none without FiLM
    :param weight: $\lambda$

    :returns: a scalar
    """
    loss = binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    return loss + weight * torch.stack(list(distances)).mean() if distances else loss


def discriminator_loss(
    real: FloatTensor, fake: FloatTensor, auxiliary: FloatTensor | None = None, labels: FloatTensor | None = None
) -> tuple[FloatTensor, FloatTensor]:
    r"""Compute the loss of the discriminator.

    $$L_D = \frac{1}{2} \mathrm{BCE}(D(e), 1) + \frac{1}{4} \mathrm{BCE}(D(\tilde e), 0)
        + \frac{1}{4} \mathrm{BCE}(D_{aux}(\tilde e), y)$$

    with means over all real entities $e$ and all fakes $\tilde e$, of both sides. It is the authors' sum over the sides
    with its factors, if there are as many heads as tails.

    :param real: logits of being real, of real entities
    :param fake: the same of fakes
    :param auxiliary: logits of being from the generator which starts from an entity alone
    :param labels: $y$, 1 where this is so, and 0 else

    :returns: $L_D$, and its auxiliary term before the factor (0 if there is none)
    """
    adversarial = binary_cross_entropy_with_logits(real, torch.ones_like(real)) / 2
    adversarial = adversarial + binary_cross_entropy_with_logits(fake, torch.zeros_like(fake)) / 4
    if auxiliary is None or labels is None:
        return adversarial, adversarial.new_zeros(())
    of_pathways = binary_cross_entropy_with_logits(auxiliary, labels)
    return adversarial + of_pathways / 4, of_pathways


@dataclass(frozen=True)
class Sizes:
    """What the networks are made for."""

    #: the dimension of entities
    dim: int

    #: the dimension of the conditions, by the name of the generator
    conditions: dict[str, int]

    #: the type of real numbers, by its name in PyTorch
    dtype: str = "float32"


class Networks(nn.Module):
    """All networks of DANS."""

    def __init__(self, sizes: Sizes, *, film: bool, residual: bool, auxiliary: bool, output: Output) -> None:
        """Initialize the networks.

        :param sizes: the dimensions
        :param film: whether the generators have FiLM layers
        :param residual: whether 1 is added to what scales
        :param auxiliary: whether the discriminator tells the generators from each other
        :param output: the last function of the generators
        """
        super().__init__()
        self.generators = nn.ModuleDict(
            {
                name: Generator(condition_dim, sizes.dim, film, residual, output)
                for name, condition_dim in sizes.conditions.items()
            }
        )
        self.discriminator = Discriminator(sizes.dim, auxiliary)
        self.to(getattr(torch, sizes.dtype))

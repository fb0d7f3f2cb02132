"""Pictures from embeddings: a conditional boundary equilibrium generative adversarial network (BEGAN)."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import torch
from pykeen.typing import FloatTensor
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm
from typing_extensions import override

from ...errors import ConfigurationError
from .base import EntityDecoder, batches, check_finite, check_rows, check_schedule, seeded

__all__ = ["ImageDecoder"]

#: the height and width at which pictures are smallest
_SMALLEST = 8
_CHANNELS = 3
#: how many steps an interval of the schedules has
_INTERVAL = 600
_MAP_DIMENSIONS = 4


class _Residual(nn.Module):
    """Two convolutions with ELU, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: FloatTensor) -> FloatTensor:
        """Compute, shape-preserving."""
        return functional.elu(x + self.second(functional.elu(self.first(x))))


def _reader(width: int, stages: int, code_dim: int) -> nn.Sequential:
    """Make the network from pictures to codes: each stage halves height and width, and adds ``width`` channels."""
    layers: list[nn.Module] = [nn.Conv2d(_CHANNELS, width, 3, padding=1), nn.ELU()]
    for before, after in pairwise(width * (i + 1) for i in range(stages + 1)):
        layers += [_Residual(before), nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ELU()]
    layers += [_Residual(width * (stages + 1)), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(width * (stages + 1) * _SMALLEST**2, code_dim))


def _painter(width: int, stages: int, width_in: int) -> nn.Sequential:
    """Make the network from codes to pictures: stages of two residual blocks, doubled in height and width between."""
    layers: list[nn.Module] = [
        nn.Linear(width_in, width * _SMALLEST**2),
        nn.Unflatten(1, (width, _SMALLEST, _SMALLEST)),
    ]
    for stage in range(stages + 1):
        layers += [_Residual(width), _Residual(width)]
        if stage < stages:
            layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
    return nn.Sequential(*layers, nn.Conv2d(width, _CHANNELS, 3, padding=1))


class ImageDecoder(EntityDecoder):
    r"""A conditional BEGAN (Berthelot et al., 2017), as MKBE's authors have it for pictures of 64 x 64.

    The condition of an entity is $c = \mathrm{ELU}(W e + b)$. The *generator* paints $G(z, c)$ with $z \sim N(0, I)$.
    The *discriminator* is an autoencoder which sees the condition between reading and painting; with its error
    $E(x, c) = \mathrm{mean} |x - D(x, c)|$, it minimises

    $$E(x, c) - k\, E(G(z, c), c),$$

    and so does $W$; the generator minimises

    $$(1 - l)\, E(G(z, c), c) + l\, \mathrm{mean} |x - G(z, c)|, \qquad
    l = \max(0.1 \cdot 0.993^{t / 600}, 3 \cdot 10^{-5}),$$

    where $k$, from 0 to 1, keeps the balance: $k \leftarrow k + 0.001\, (\gamma E(x, c) - E(G(z, c), c))$, with
    $\gamma = 0.5$.

    All sizes and rates are those of the authors' code, whose ``width`` of 96 is meant for a GPU. Kept is the state of
    the epoch with the lowest $E(x, c) + |\gamma E(x, c) - E(G, c)|$, the measure of convergence of BEGAN.
    """

    name = "images"

    def __init__(
        self,
        *,
        embedding_dim: int,
        image_size: int = 64,
        width: int = 96,
        code_dim: int = 64,
        condition_dim: int = 200,
    ) -> None:
        """Initialize the decoder.

        :param embedding_dim: the width of the embeddings
        :param image_size: the height and width of pictures: 8, 16, 32, 64, ...
        :param width: the number of channels, at first
        :param code_dim: the width of the codes of the discriminator, and of the noise
        :param condition_dim: the width of the condition

        :raises ConfigurationError: if there are no such pictures
        """
        stages = round(math.log2(max(1, image_size) / _SMALLEST))
        if stages < 0 or image_size != _SMALLEST * 2**stages:
            raise ConfigurationError(f"image_size={image_size} must be 8, 16, 32, 64 or twice as much and so on.")
        super().__init__(
            embedding_dim=embedding_dim,
            image_size=image_size,
            width=width,
            code_dim=code_dim,
            condition_dim=condition_dim,
        )
        self.code_dim = code_dim
        self.conditioner = nn.Linear(embedding_dim, condition_dim)
        self.reader = _reader(width, stages, code_dim)
        self.painter = _painter(width, stages, code_dim + condition_dim)
        self.generator = _painter(width, stages, code_dim + condition_dim)
        self.register_buffer("balance", torch.zeros(()))

    balance: FloatTensor

    def conditions(self, embeddings: FloatTensor) -> FloatTensor:
        """Make conditions, shape: ``(n, condition_dim)``."""
        return functional.elu(self.conditioner(self.condition(embeddings)))

    def paint(self, conditions: FloatTensor) -> FloatTensor:
        """Paint with fresh noise, shape: ``(n, 3, size, size)``."""
        noise = torch.randn(len(conditions), self.code_dim, device=conditions.device)
        pictures: FloatTensor = self.generator(torch.cat([noise, conditions], dim=-1))
        return pictures

    def errors(self, pictures: FloatTensor, conditions: FloatTensor) -> FloatTensor:
        """Compute the mean error of the discriminator."""
        again = self.painter(torch.cat([self.reader(pictures), conditions], dim=-1))
        error: FloatTensor = (pictures - again).abs().mean()
        return error

    @override
    def fit(
        self,
        embeddings: FloatTensor,
        targets: torch.Tensor,
        *,
        seed: int = 0,
        use_tqdm: bool = True,
        device: torch.device | str | None = None,
        epochs: int = 75,
        batch_size: int = 16,
        lr: float = 1e-4,
        gamma: float = 0.5,
    ) -> list[float]:
        """Train.

        :param embeddings: shape: ``(n, d)``
        :param targets: their pictures of bytes, or from -1 to 1, shape: ``(n, 3, size, size)``
        :param seed: the seed of all that is random
        :param use_tqdm: whether progress is shown
        :param device: where to train, and to stay; None: where it is
        :param epochs: how many
        :param batch_size: how many pictures are in a batch
        :param lr: the learning rate, at first
        :param gamma: the error of made pictures over that of true ones, at the equilibrium

        :returns: the measure of convergence of each epoch

        :raises ConfigurationError: if pictures have another shape or range, or if nothing would be trained
        :raises DivergenceError: if a loss is not finite
        """
        check_rows(self.name, embeddings, targets, 2)
        check_schedule(self.name, epochs, batch_size)
        size = self.settings["image_size"]
        if targets.ndim != _MAP_DIMENSIONS or tuple(targets.shape[1:]) != (_CHANNELS, size, size):
            raise ConfigurationError(
                f"decoder 'images' of image_size={size} got pictures of shape {tuple(targets.shape[1:])}; bring them "
                f"to (3, {size}, {size})."
            )
        if targets.is_floating_point() and bool((targets.abs() > 1).any()):
            raise ConfigurationError("decoder 'images' got numbers beyond -1 and 1; give bytes, or scale them.")
        embeddings = embeddings.detach().to(self.to(device).device)
        with seeded(seed) as generator:
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    module.reset_parameters()
            self.balance.zero_()
            self.standardize(embeddings)
            measures = self._play(embeddings, targets, generator, use_tqdm, epochs, batch_size, lr, gamma)
        self.eval()
        return measures

    def _play(
        self,
        embeddings: FloatTensor,
        targets: torch.Tensor,
        generator: torch.Generator,
        use_tqdm: bool,
        epochs: int,
        batch_size: int,
        lr: float,
        gamma: float,
    ) -> list[float]:
        networks = (self.conditioner, self.reader, self.painter)
        discriminator = torch.optim.Adam((p for n in networks for p in n.parameters()), lr=lr, betas=(0.5, 0.999))
        painter = torch.optim.Adam(self.generator.parameters(), lr=lr, betas=(0.5, 0.999))
        best, state, measures, step = math.inf, copy.deepcopy(self.state_dict()), [], 0
        for _ in tqdm(range(epochs), desc="decoder images", unit="epoch", disable=not use_tqdm):
            total = count = 0.0
            for rows in batches(len(embeddings), batch_size, generator):
                for optimizer in (discriminator, painter):
                    optimizer.param_groups[0]["lr"] = max(lr * 0.99 ** (step // _INTERVAL), min(lr, 2e-5))
                pixels = targets[rows].to(self.device)
                true = pixels if pixels.is_floating_point() else pixels.float() / 127.5 - 1
                likeness = max(0.1 * 0.993 ** (step / _INTERVAL), 3e-5)
                of_true, of_made = self._step(true, embeddings[rows], discriminator, painter, likeness)
                check_finite(self.name, error_of_true=of_true, error_of_made=of_made)
                self.balance.add_(0.001 * (gamma * of_true - of_made)).clamp_(0, 1)
                total += len(rows) * (of_true + abs(gamma * of_true - of_made))
                count, step = count + len(rows), step + 1
            measures.append(total / count)
            if measures[-1] < best:
                best, state = measures[-1], copy.deepcopy(self.state_dict())
        self.load_state_dict(state)
        return measures

    def _step(
        self,
        true: FloatTensor,
        embeddings: FloatTensor,
        discriminator: torch.optim.Optimizer,
        painter: torch.optim.Optimizer,
        likeness: float,
    ) -> tuple[float, float]:
        """Step the discriminator, then the generator; give the errors of true and of made pictures."""
        conditions = self.conditions(embeddings)
        made = self.paint(conditions.detach())
        of_true = self.errors(true, conditions)
        loss = of_true - self.balance * self.errors(made.detach(), conditions)
        discriminator.zero_grad()
        loss.backward()
        discriminator.step()
        of_made = self.errors(made, self.conditions(embeddings).detach())
        loss = (1 - likeness) * of_made + likeness * (true - made).abs().mean()
        painter.zero_grad()
        loss.backward()
        painter.step()
        return of_true.item(), of_made.item()

    @torch.no_grad()
    def sample(self, embeddings: FloatTensor, seed: int = 0, batch_size: int = 64) -> torch.Tensor:
        """Paint pictures for entities.

        :param embeddings: shape: ``(n, d)``
        :param seed: the seed of the noise
        :param batch_size: how many are painted at once

        :returns: bytes, shape: ``(n, 3, size, size)``
        """
        self.eval()
        with seeded(seed):
            parts = [_bytes(self.paint(self.conditions(x.to(self.device)))) for x in embeddings.split(batch_size)]
        return torch.cat(parts)


def _bytes(pictures: FloatTensor) -> torch.Tensor:
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()

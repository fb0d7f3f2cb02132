"""What a decoder is: a network which makes values of an attribute from the embeddings of entities."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import nn

from ...errors import ConfigurationError, DivergenceError
from ..attribute_file import save_tensors

__all__ = ["EntityDecoder", "batches", "check_finite", "check_rows", "check_schedule", "seeded"]


class EntityDecoder(nn.Module, ABC):
    """Makes values from the embeddings of entities, which it does not change."""

    #: the name in files
    name: ClassVar[str]

    #: the mean and the standard deviation of each component of the embeddings it was trained on, shape: ``(d,)``
    center: FloatTensor
    scale: FloatTensor

    def __init__(self, **settings: Any) -> None:
        """Initialize the decoder.

        :param settings: what JSON can hold, and what :func:`load_decoder` hands back to the class
        """
        super().__init__()
        self.settings: Mapping[str, Any] = settings
        #: what it was trained for, see :func:`pykeen_advneg.multimodal.decoders.origin.describe_origin`
        self.origin: Mapping[str, str] = {}
        self.register_buffer("center", torch.zeros(settings["embedding_dim"]))
        self.register_buffer("scale", torch.ones(settings["embedding_dim"]))

    @property
    def device(self) -> torch.device:
        """Where the decoder is."""
        return self.center.device

    def standardize(self, embeddings: FloatTensor) -> None:
        """Remember mean and standard deviation of the embeddings, shape: ``(n, d)``."""
        deviation = embeddings.std(dim=0, unbiased=False)
        self.center.copy_(embeddings.mean(dim=0))
        self.scale.copy_(deviation.where(deviation > 0, torch.ones_like(deviation)))

    def condition(self, embeddings: FloatTensor) -> FloatTensor:
        """Standardise embeddings, shape: ``(n, d)``."""
        return (embeddings - self.center) / self.scale

    @abstractmethod
    def fit(
        self,
        embeddings: FloatTensor,
        targets: Any,
        *,
        seed: int = 0,
        use_tqdm: bool = True,
        device: torch.device | str | None = None,
    ) -> list[float]:
        """Train.

        :param embeddings: shape: ``(n, d)``
        :param targets: their values
        :param seed: the seed of all that is random
        :param use_tqdm: whether progress is shown
        :param device: where to train, and to stay; None: where it is

        :returns: the loss of each epoch
        """

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, as a whole or not at all.

        :param path: the file
        """
        description = {"decoder": self.name, "settings": dict(self.settings), "origin": dict(self.origin)}
        save_tensors(path, self.state_dict(), description)


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Draw all that is random from a seed, and leave the generator of PyTorch as it was.

    :param seed: the seed

    :yields: a generator of its own, for what is drawn beside the networks
    """
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def check_finite(decoder: str, **losses: float) -> None:
    """Stop a training which has diverged.

    :param decoder: the name of the decoder
    :param losses: its losses by name

    :raises DivergenceError: if one is not finite
    """
    for name, value in losses.items():
        if not math.isfinite(value):
            raise DivergenceError(f"The decoder {decoder!r} has diverged: {name} is {value}. Lower its learning rate.")


def check_rows(decoder: str, embeddings: FloatTensor, targets: Any, least: int) -> None:
    """Check what a decoder is trained on.

    :param decoder: the name of the decoder
    :param embeddings: the embeddings
    :param targets: as many values
    :param least: how many there must be

    :raises ConfigurationError: if there are fewer, not equally many, or if an embedding is not finite
    """
    if len(embeddings) != len(targets) or len(embeddings) < least:
        raise ConfigurationError(
            f"decoder {decoder!r} got {len(embeddings)} embeddings and {len(targets)} values; it needs a value for "
            f"each, and at least {least}."
        )
    if not bool(torch.isfinite(embeddings).all()):
        raise ConfigurationError(f"decoder {decoder!r} got embeddings which are not finite; train the model again.")


def check_schedule(decoder: str, epochs: int, batch_size: int) -> None:
    """Check how long and by how many rows a decoder is trained.

    :param decoder: the name of the decoder
    :param epochs: how many epochs
    :param batch_size: how many rows are in a batch

    :raises ConfigurationError: if nothing would be trained; batch normalisation refuses a batch of one row
    """
    if epochs < 1:
        raise ConfigurationError(f"epochs={epochs} of decoder {decoder!r} trains nothing; choose at least 1.")
    if batch_size <= 1:
        raise ConfigurationError(f"batch_size={batch_size} of decoder {decoder!r} is too small; choose at least 2.")


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[LongTensor]:
    """Draw the batches of an epoch.

    :param n: how many rows there are
    :param size: how many are in a batch, at least 2; a last one of a single row is left out
    :param generator: draws the order

    :yields: the rows of a batch
    """
    for rows in torch.randperm(n, generator=generator).split(size):
        if len(rows) > 1 or n == 1:
            yield rows

"""What an encoder of attribute values is: a representation of PyKEEN, computed from what the values are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from class_resolver import HintOrType, OptionalKwargs
from class_resolver.contrib.torch import activation_resolver
from pykeen.nn.representation import Representation
from pykeen.typing import FloatTensor, LongTensor
from torch import nn

from ...errors import ConfigurationError
from ..attributes import Attribute

__all__ = ["ValueEncoder", "check_kind", "mlp"]

#: how many values are encoded at once: what is in between takes more memory than the vectors
_AT_ONCE = 1024


class ValueEncoder(Representation, ABC):
    """Represents the values of one attribute; value $i$ is that at position $i$ of the attribute.

    What the values are is in buffers, which are no part of ``state_dict()``: they come with the graph. Only what
    another method has made of them is (:class:`~pykeen_advneg.multimodal.encoders.SentenceEncoder`).
    """

    def __init__(self, *, attribute: Attribute, shape: int, **kwargs: Any) -> None:
        """Initialize the encoder.

        :param attribute: the attribute
        :param shape: the width of the representations
        :param kwargs: keyword-based parameters of :class:`pykeen.nn.representation.Representation`
        """
        super().__init__(max_id=len(attribute), shape=shape, **{"unique": True, **kwargs})

    @abstractmethod
    def encode(self, positions: LongTensor) -> FloatTensor:
        """Encode values, each as often as it is given.

        :param positions: the positions of at least one value, shape: ``(n,)``

        :returns: shape: ``(n, d)``, real
        """

    # docstr-coverage: inherited
    def _plain_forward(self, indices: LongTensor | None = None) -> FloatTensor:
        if indices is None:
            indices = torch.arange(self.max_id, device=self.device)
        if not indices.numel():
            return torch.zeros(*indices.shape, *self.shape, device=self.device)
        encoded = [self.encode(part) for part in indices.flatten().split(_AT_ONCE)]
        return torch.cat(encoded).view(*indices.shape, *self.shape)

    # docstr-coverage: inherited
    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if module is not self and reset is not None:
                reset()


def mlp(
    width_in: int,
    width: int,
    num_layers: int,
    activation: HintOrType[nn.Module] = "relu",
    activation_kwargs: OptionalKwargs = None,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Make linear layers with activations between them, and none after the last.

    :param width_in: the width of the input
    :param width: the width of all else
    :param num_layers: the number of layers
    :param activation: the activation
    :param activation_kwargs: its keyword-based parameters
    :param dropout: the probability with which an output of an inner layer is dropped

    :returns: the layers

    :raises ConfigurationError: if there is no layer
    """
    if num_layers < 1:
        raise ConfigurationError(f"num_layers={num_layers} is too small; choose at least 1.")
    layers: list[nn.Module] = [nn.Linear(width_in, width)]
    for _ in range(num_layers - 1):
        layers.append(activation_resolver.make(activation, activation_kwargs))
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(width, width))
    return nn.Sequential(*layers)


def check_kind(encoder: str, attribute: Attribute, *kinds: str) -> None:
    """Check that an encoder can read the values of an attribute.

    :param encoder: the name of the encoder
    :param attribute: the attribute
    :param kinds: what it reads

    :raises ConfigurationError: if it cannot
    """
    if attribute.kind not in kinds:
        raise ConfigurationError(
            f"encoder {encoder!r} reads {' or '.join(kinds)}, but attribute {attribute.name!r} is {attribute.kind}; "
            f"choose another in encoders={{{attribute.name!r}: ...}}."
        )

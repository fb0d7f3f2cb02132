"""Encoders of pictures: of their pixels, or of maps of features."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from pykeen.typing import FloatTensor, LongTensor
from torch import Tensor, nn
from typing_extensions import override

from ...errors import ConfigurationError
from ..attributes import Attribute
from .base import ValueEncoder, check_kind

__all__ = ["FeatureMapEncoder", "PictureEncoder"]

_MAP_DIMENSIONS = 4


class _MapEncoder(ValueEncoder):
    """Convolutions over maps, their mean over the places, and a linear layer."""

    maps: Tensor

    def __init__(self, attribute: Attribute, shape: int, name: str, **kwargs: Any) -> None:
        check_kind(name, attribute, "images")
        assert attribute.values is not None
        if attribute.values.ndim != _MAP_DIMENSIONS:
            raise ConfigurationError(
                f"encoder {name!r} needs values of shape (channels, height, width), but those of {attribute.name!r} "
                f"have {tuple(attribute.values.shape[1:])}; choose 'feature' for vectors."
            )
        super().__init__(attribute=attribute, shape=shape, **kwargs)
        self.register_buffer("maps", attribute.values, persistent=False)

    def look_up(self, positions: LongTensor) -> FloatTensor:
        """Look up maps, shape: ``(n, c, h, w)``; bytes become numbers from -1 to 1."""
        maps = self.maps.index_select(0, positions)
        return maps if maps.is_floating_point() else maps.float() / 127.5 - 1


class PictureEncoder(_MapEncoder):
    """A small convolutional network on the pixels, trained with the rest.

    Convolutions of width 3 and stride 2, each doubling the channels, ReLU; the mean over the places; a linear layer.
    The paper takes the features of a VGG network, which was trained elsewhere: ``feature`` or ``featuremap``.
    """

    def __init__(
        self, *, attribute: Attribute, shape: int, num_layers: int = 4, channels: int = 16, **kwargs: Any
    ) -> None:
        """Initialize the encoder.

        :param attribute: an attribute of images
        :param shape: the width of the representations
        :param num_layers: the number of convolutions
        :param channels: the number of channels after the first of them
        :param kwargs: keyword-based parameters of :class:`pykeen.nn.representation.Representation`
        """
        super().__init__(attribute, shape, "picture", **kwargs)
        widths = [self.maps.shape[1], *(channels * 2**i for i in range(num_layers))]
        self.layers = nn.Sequential(
            *(
                layer
                for before, after in pairwise(widths)
                for layer in (nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU())
            )
        )
        self.output = nn.Linear(widths[-1], shape)

    @override
    def encode(self, positions: LongTensor) -> FloatTensor:
        encoded: FloatTensor = self.output(self.layers(self.look_up(positions)).mean(dim=(-2, -1)))
        return encoded


class FeatureMapEncoder(_MapEncoder):
    """The authors' network for posters, on maps of features, e.g., 512 channels of 16 x 16 of a VGG network.

    A convolution of width 5 with dilation 2 without padding to 136 channels, ReLU, the mean over the places, a linear
    layer. Maps smaller than 9 x 9 are padded.
    """

    def __init__(self, *, attribute: Attribute, shape: int, channels: int = 136, **kwargs: Any) -> None:
        """Initialize the encoder.

        :param attribute: an attribute of images
        :param shape: the width of the representations
        :param channels: the number of channels after the convolution
        :param kwargs: keyword-based parameters of :class:`pykeen.nn.representation.Representation`
        """
        super().__init__(attribute, shape, "featuremap", **kwargs)
        reach = 9
        padding = max(0, -(-(reach - min(self.maps.shape[2:])) // 2))
        self.convolution = nn.Conv2d(self.maps.shape[1], channels, 5, dilation=2, padding=padding)
        self.output = nn.Linear(channels, shape)

    @override
    def encode(self, positions: LongTensor) -> FloatTensor:
        encoded: FloatTensor = self.output(self.convolution(self.look_up(positions)).relu().mean(dim=(-2, -1)))
        return encoded

"""Features of pictures: a vector for each region."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from pykeen.typing import FloatTensor
from torch import nn
from torch.nn import functional

from ..checkpoint import load_weights
from ..errors import ConfigurationError
from .features import MultimodalFeatures
from .regions import GRID, REGION_SIZE, region_descriptor

__all__ = ["VisionEncoder", "image_features", "vision_encoder"]

#: from pictures, values 0 to 1, shape ``(n, 3, height, width)``, to ``(n, d)``, ``(n, tokens, d)`` or ``(n, d, h, w)``
VisionEncoder: TypeAlias = Callable[[FloatTensor], FloatTensor]

#: the mean and the standard deviation of ImageNet's colours, which encoders expect to be taken out
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)

_MAP_DIMENSIONS = 4

logger = logging.getLogger(__name__)


def vision_encoder(
    name: str,
    weights: str | Path,
    library: Literal["timm", "torchvision"] = "timm",
    node: str | None = None,
    **kwargs: Any,
) -> VisionEncoder:
    """Build an image model of a library, with weights from a file of yours; nothing is downloaded.

    :param name: the model, e.g., ``beit_base_patch16_224`` of timm or ``resnet18`` of torchvision
    :param weights: its state dictionary, ``.safetensors`` or written by :func:`torch.save`
    :param library: ``timm`` or ``torchvision``
    :param node: torchvision only: the node whose output is taken, e.g., ``layer4`` of a ResNet
    :param kwargs: keyword-based parameters of the model

    :returns: the encoder, which takes ImageNet's mean colours out and is in evaluation mode

    :raises ConfigurationError: if the library is not installed, has no such model, or if the weights do not fit
    """
    try:
        model = _timm(name, kwargs) if library == "timm" else _torchvision(name, kwargs)
    except (ImportError, RuntimeError) as error:
        # a torchvision which was built for another torch fails with the latter
        raise ConfigurationError(
            f"vision_encoder needs {library} ({error}): pip install 'pykeen-advneg[image]'."
        ) from error
    model.load_state_dict(load_weights(weights, model))
    model.eval()
    forward: Callable[[FloatTensor], Any] = model
    if library == "timm":
        forward = cast("Callable[[FloatTensor], Any]", model.forward_features)
    elif node is not None:
        from torchvision.models.feature_extraction import create_feature_extractor

        extractor = create_feature_extractor(model, {node: "out"})
        forward = lambda x: extractor(x)["out"]  # noqa: E731
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (_MEAN, _STD))

    def encode(pictures: FloatTensor) -> FloatTensor:
        with torch.inference_mode():
            encoded: FloatTensor = forward((pictures - mean) / std)
        return encoded.clone()

    return encode


def _timm(name: str, kwargs: Mapping[str, Any]) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise ConfigurationError(f"name={name!r} is no model of timm; timm.list_models() lists them.")
    return cast(nn.Module, timm.create_model(name, pretrained=False, **kwargs))


def _torchvision(name: str, kwargs: Mapping[str, Any]) -> nn.Module:
    from torchvision import models

    if name not in models.list_models():
        raise ConfigurationError(
            f"name={name!r} is no model of torchvision; torchvision.models.list_models() has them."
        )
    return cast(nn.Module, models.get_model(name, weights=None, **kwargs))


def image_features(
    paths: Mapping[str, str | Path],
    encoder: VisionEncoder | None = None,
    size: tuple[int, int] | None = None,
    unreadable: Literal["raise", "missing"] = "raise",
    batch_size: int = 32,
) -> MultimodalFeatures:
    """Encode the regions of the picture of each entity: a grid of 4 x 6.

    An encoder's maps and its tokens are averaged to 24 regions; one vector for a picture is taken for one region.

    :param paths: the file of each entity's picture, by label; anything that Pillow reads
    :param encoder: from pictures to vectors, e.g., :func:`vision_encoder`; if None, colours and edges, which need no
        weights: :func:`pykeen_advneg.multimodal.regions.region_descriptor`
    :param size: height and width which pictures are resized to for an encoder; 224 x 224 if None
    :param unreadable: whether a file which is no picture is an error, or a picture which is missing
    :param batch_size: how many pictures are in memory at a time

    :returns: features with the labels of the paths

    :raises ConfigurationError: if a picture cannot be read, with its entity, if the encoder's shape is not possible,
        or if there is a size without an encoder
    """
    if not paths:
        raise ConfigurationError("paths is empty; give the picture of at least one entity.")
    if encoder is None:
        if size is not None:
            raise ConfigurationError(
                f"size={size!r} is for an encoder: colours and edges are those of regions of {REGION_SIZE} x "
                f"{REGION_SIZE} pixels. Leave it out, or give encoder=..."
            )
        size = GRID[0] * REGION_SIZE, GRID[1] * REGION_SIZE
    height, width = size or (224, 224)
    features: FloatTensor | None = None
    was_read = torch.zeros(len(paths), dtype=torch.bool)
    rows = enumerate(paths.items())
    while chunk := list(islice(rows, batch_size)):
        read = [(row, x) for row, (label, path) in chunk for x in _read(label, Path(path), height, width, unreadable)]
        if not read:
            continue
        pictures = torch.stack([x for _, x in read])
        encoded = region_descriptor(pictures) if encoder is None else _to_regions(encoder(pictures), len(pictures))
        if features is None:
            features = encoded.new_zeros(len(paths), *encoded.shape[1:])
        features[[row for row, _ in read]] = encoded
        was_read[[row for row, _ in read]] = True
    if features is None:
        raise ConfigurationError(f"paths: none of the {len(paths)} pictures can be read.")
    # a black region may be all zeros, and is there
    mask = was_read.unsqueeze(1).repeat(1, features.shape[1])
    return MultimodalFeatures(image=features, image_mask=mask, labels=list(paths))


def _read(label: str, path: Path, height: int, width: int, unreadable: str) -> Iterator[FloatTensor]:
    """Yield the picture, values from 0 to 1, shape: ``(3, height, width)``; nothing where it may be missing."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            resized = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if unreadable == "raise":
            raise ConfigurationError(
                f"The picture '{path}' of {label!r} cannot be read: {error}. Replace it, leave it out, or use "
                f"unreadable='missing'."
            ) from error
        logger.warning("The picture '%s' of %r cannot be read: %s", path, label, error)
        return
    yield torch.from_numpy(np.array(resized)).permute(2, 0, 1).float().div_(255)


def _to_regions(x: FloatTensor, n: int) -> FloatTensor:
    """Average maps and tokens to regions, shape: ``(n, regions, d)``."""
    if len(x) != n or x.ndim not in {2, 3, 4}:
        raise ConfigurationError(f"encoder gave the shape {tuple(x.shape)} for {n} pictures; see image_features().")
    if x.ndim == _MAP_DIMENSIONS:
        return functional.adaptive_avg_pool2d(x, GRID).flatten(2).transpose(1, 2)
    if x.ndim == _MAP_DIMENSIONS - 1:
        regions = GRID[0] * GRID[1]
        return (
            x if x.shape[1] <= regions else functional.adaptive_avg_pool1d(x.transpose(1, 2), regions).transpose(1, 2)
        )
    return x.unsqueeze(1)

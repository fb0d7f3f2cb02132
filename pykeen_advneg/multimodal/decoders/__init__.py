"""Decoders: values of an attribute from the embeddings of entities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ...errors import ConfigurationError
from ..attribute_file import load_tensors
from ..attributes import Attribute
from .base import EntityDecoder
from .image import ImageDecoder
from .numeric import NumericDecoder, Prediction
from .origin import check_origin, describe_origin
from .scores import bleu, rouge_l
from .text import TextDecoder
from .vectors import CategoricalDecoder, MultiHotDecoder

__all__ = [
    "CategoricalDecoder",
    "EntityDecoder",
    "ImageDecoder",
    "MultiHotDecoder",
    "NumericDecoder",
    "Prediction",
    "TextDecoder",
    "bleu",
    "check_origin",
    "describe_origin",
    "load_decoder",
    "make_decoder",
    "rouge_l",
]

#: the only classes which a file can name
_DECODERS: dict[str, type[EntityDecoder]] = {
    cls.name: cls for cls in (CategoricalDecoder, ImageDecoder, MultiHotDecoder, NumericDecoder, TextDecoder)
}


def make_decoder(attribute: Attribute, embedding_dim: int, **kwargs: Any) -> EntityDecoder:
    """Make the decoder for the values of an attribute.

    :param attribute: the attribute
    :param embedding_dim: the width of the embeddings
    :param kwargs: further keyword-based parameters of its class

    :returns: the decoder, not trained

    :raises ConfigurationError: if there is none for these values
    """
    options: dict[str, Any] = {"embedding_dim": embedding_dim}
    if attribute.kind == "numeric":
        options |= {"mean": attribute.mean, "std": attribute.std}
    elif attribute.kind == "categorical":
        options["num_categories"] = len(attribute)
    elif attribute.kind == "multi_hot":
        options["num_labels"] = len(attribute.labels)
    elif attribute.kind == "images":
        shape = tuple(() if attribute.values is None else attribute.values.shape[1:])
        if len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:  # noqa: PLR2004
            raise ConfigurationError(
                f"attribute {attribute.name!r} has values of shape {shape}; pictures to decode must be (3, size, size)."
            )
        options["image_size"] = shape[1]
    return _DECODERS[attribute.kind](**options, **kwargs)


def load_decoder(path: str | Path) -> EntityDecoder:
    """Read a decoder which was saved.

    :param path: the file

    :returns: the decoder

    :raises ConfigurationError: if there is no such file, or something else in it
    """
    tensors, description = load_tensors(path)
    cls = _DECODERS.get(str(description.get("decoder")))
    if cls is None:
        raise ConfigurationError(f"'{path}' holds no decoder; save one by its method save.")
    try:
        with torch.random.fork_rng(devices=[]):
            decoder = cls(**description["settings"])
        decoder.load_state_dict(tensors)
        decoder.origin = dict(description["origin"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigurationError(f"'{path}' holds no whole decoder: {error}.") from error
    return decoder.eval()

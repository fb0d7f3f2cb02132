"""What a decoder was trained for, so that it is not used for anything else."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import nn

from ...errors import ConfigurationError
from ..attributes import Attribute
from .base import EntityDecoder

__all__ = ["check_origin", "describe_origin"]

#: kinds of attributes whose decoder gives a place among the labels
_BY_PLACE = frozenset({"categorical", "multi_hot"})


def describe_origin(model: nn.Module, attribute: Attribute) -> dict[str, str]:
    """Describe what a decoder is trained for.

    :param model: the model whose embeddings it reads
    :param attribute: the attribute whose values it makes

    :returns: the name of the attribute, a digest of its labels if the decoder gives their places, and a digest of the
        weights of the model
    """
    labels = json.dumps(attribute.labels if attribute.kind in _BY_PLACE else [])
    return {
        "attribute": attribute.name,
        "labels": hashlib.sha256(labels.encode()).hexdigest(),
        "model": _digest(model),
    }


def check_origin(decoder: EntityDecoder, model: nn.Module, attribute: Attribute, embedding_dim: int) -> None:
    """Check that a decoder was trained for this attribute of this model.

    Of a decoder which was trained by its method ``fit`` alone, nothing but the width is known.

    :param decoder: the decoder
    :param model: the model
    :param attribute: the attribute
    :param embedding_dim: the width of the embeddings

    :raises ConfigurationError: if it was not
    """
    origin, wanted = decoder.origin, describe_origin(model, attribute)
    train = "train one by fit_decoder, or call advneg impute without --decoder"
    if origin and origin.get("attribute") != attribute.name:
        name = origin.get("attribute")
        raise ConfigurationError(f"The decoder is for attribute {name!r}, not for {attribute.name!r}; {train}.")
    if origin and origin.get("labels") != wanted["labels"]:
        raise ConfigurationError(f"The decoder is for other labels of {attribute.name!r} than the graph has; {train}.")
    width = decoder.settings["embedding_dim"]
    if width != embedding_dim:
        raise ConfigurationError(f"The decoder reads {width} numbers, but embeddings have {embedding_dim}; {train}.")
    if origin and origin.get("model") != wanted["model"]:
        raise ConfigurationError(f"The decoder was trained on a model with other weights; {train}.")


def _digest(model: nn.Module) -> str:
    """Digest all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

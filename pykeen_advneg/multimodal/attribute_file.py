"""Attributes in a file of tensors: nothing in it can run code, and it is written as a whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigurationError
from .attributes import Attribute

__all__ = ["load_attributes", "load_tensors", "save_attributes", "save_tensors"]


def save_tensors(path: str | Path, tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> None:
    """Write tensors and a description, atomically, as a safetensors file.

    :param path: the file
    :param tensors: the tensors by name
    :param description: what JSON can hold
    """
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(contiguous, temporary, {"description": json.dumps(description)})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    :param path: the file

    :returns: the tensors by name, and the description

    :raises ConfigurationError: if there is no such file, or something else in it
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})["description"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ConfigurationError(f"'{path}' cannot be read: {error!r}; give a file which was saved before.") from error
    return tensors, description


def save_attributes(path: str | Path, attributes: Sequence[Attribute], labels: Mapping[str, Sequence[str]]) -> None:
    """Write attributes.

    :param path: the file
    :param attributes: the attributes
    :param labels: other lists of labels
    """
    tensors = {
        f"{name}.{i}": tensor
        for i, attribute in enumerate(attributes)
        for name in ("values", "is_training")
        if (tensor := getattr(attribute, name)) is not None
    }
    names = ("name", "kind", "start", "labels", "mean", "std")
    description = {
        "attributes": [{name: getattr(attribute, name) for name in names} for attribute in attributes],
        "labels": {name: list(values) for name, values in labels.items()},
    }
    save_tensors(path, tensors, description)


def load_attributes(path: str | Path) -> tuple[list[Attribute], dict[str, list[str]]]:
    """Read what :func:`save_attributes` wrote.

    :param path: the file

    :returns: the attributes, and the other lists of labels

    :raises ConfigurationError: if the file holds anything else
    """
    tensors, description = load_tensors(path)
    try:
        attributes = [
            Attribute(
                **{**fields, "labels": tuple(fields["labels"])},
                values=tensors.get(f"values.{i}"),
                is_training=tensors.get(f"is_training.{i}"),
            )
            for i, fields in enumerate(description["attributes"])
        ]
        return attributes, description["labels"]
    except (KeyError, TypeError) as error:
        raise ConfigurationError(f"'{path}' holds no attributes: {error!r}.") from error

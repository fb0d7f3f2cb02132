"""Features in files which hold tensors and a list of labels, and cannot run code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import ConfigurationError

__all__ = ["read_tensors", "write_tensors"]


def write_tensors(path: str | Path, tensors: Mapping[str, torch.Tensor], labels: Sequence[str] | None) -> None:
    """Write a safetensors file.

    :param path: the file; its folder is made
    :param tensors: by name
    :param labels: kept in the header of the file
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {} if labels is None else {"labels": json.dumps(list(labels), ensure_ascii=False)}
    save_file({name: x.contiguous() for name, x in tensors.items()}, path, metadata)


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], list[str] | None]:
    """Read a safetensors file.

    :param path: the file

    :returns: the tensors by name, and the labels if there are any

    :raises ConfigurationError: if there is no such file, or if it is damaged or something else
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigurationError(f"features={str(path)!r}: there is no such file; write one by features.save(path).")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            labels = (file.metadata() or {}).get("labels")
        return tensors, None if labels is None else list(map(str, json.loads(labels)))
    except (SafetensorError, ValueError, TypeError) as error:
        raise ConfigurationError(f"features={str(path)!r} is no file of features: {error}.") from error

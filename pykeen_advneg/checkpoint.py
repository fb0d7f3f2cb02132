"""Checkpoint files which survive a crash: written atomically, verified on reading, free of code.

A checkpoint is the archive that :func:`torch.save` writes, so that PyKEEN's own readers understand it. Three things are
added:

- it is written to a temporary file in the same folder, synced, and renamed; the checkpoint which stood there before is
  kept beside it as ``NAME.previous``;
- it holds tensors and plain Python values only, and is read with ``weights_only=True``: a file cannot run code;
- reading checks the CRC-32 of every member of the archive first. A truncated or altered file is refused.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch import nn

from .errors import CheckpointError, ConfigurationError, DamagedCheckpointError

__all__ = [
    "get_random_state",
    "load_checkpoint",
    "load_weights",
    "own_name",
    "preserved_random_state",
    "recover",
    "save_checkpoint",
    "set_random_state",
]

logger = logging.getLogger(__name__)


def own_name(name: str) -> str:
    """Give the name of the file for a ``checkpoint_name``: ``run.pt`` is written to ``run.advneg.pt``.

    PyKEEN's pipeline unpickles whatever stands under the name itself, to find a random seed, before any loop is asked:
    it would run the code of a foreign file, and fail on a damaged one. Under another name, it finds nothing.

    :param name: as given by the user

    :returns: the name of the file
    """
    path = Path(name)
    return str(path.with_name(f"{path.stem}.advneg{path.suffix}"))


def previous_path(path: Path) -> Path:
    """Where the last checkpoint but one stands."""
    return path.with_name(f"{path.name}.previous")


def save_checkpoint(payload: Mapping[str, Any], path: IO[bytes] | str | Path) -> None:
    """Write a checkpoint atomically; the file which stood at ``path`` is kept as ``NAME.previous``.

    :param payload: tensors and plain values
    :param path: the file, or an open binary stream
    """
    if not isinstance(path, str | Path):
        torch.save(dict(payload), path)
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(payload), file)
            file.flush()
            os.fsync(file.fileno())
        if path.is_file():
            # by a second name, so that there is a whole checkpoint at `path` at any time
            _keep(path, previous_path(path))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name, which another file may have had."""
    link = previous.with_name(f"{previous.name}.tmp-{os.getpid()}")
    try:
        link.hardlink_to(path)
    except OSError:
        # some file systems have no second names
        shutil.copyfile(path, link)
    link.replace(previous)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Verify and read a checkpoint.

    :param path: the file

    :returns: what was saved, with all tensors on the CPU

    :raises CheckpointError: if the file is damaged, or holds anything but tensors and plain values
    """
    path = Path(path)
    try:
        # one read: what was verified is what is loaded
        data = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise DamagedCheckpointError(f"The checkpoint '{path}' is damaged: member '{damaged}' fails its CRC-32.")
        checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"The checkpoint '{path}' holds more than tensors and plain values, and is not loaded since it could run "
            f"code. Was it written by another training loop?"
        ) from error
    except Exception as error:
        # the damage decides what the readers of the archive raise: BadZipFile, EOFError, NotImplementedError, ...
        raise DamagedCheckpointError(f"The checkpoint '{path}' is damaged: {type(error).__name__}: {error}") from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"The checkpoint '{path}' holds a {type(checkpoint).__name__} instead of a dictionary.")
    return checkpoint


def recover(path: Path) -> None:
    """Make sure that what stands at ``path``, if anything, is a whole checkpoint.

    A damaged file is replaced by the checkpoint before it, and kept under the name ``NAME.damaged``. Where there is no
    file, a checkpoint which is left from before is dropped: whoever deletes a checkpoint wants to start anew.

    :param path: the file

    :raises CheckpointError: if the file is damaged and no whole checkpoint stands before it, or if it is no checkpoint
    """
    previous = previous_path(path)
    if not path.is_file():
        previous.unlink(missing_ok=True)
        return
    try:
        load_checkpoint(path)
    except DamagedCheckpointError as error:
        if not previous.is_file():
            raise CheckpointError(f"{error} There is no earlier one; delete the file to start anew.") from error
        load_checkpoint(previous)
        logger.warning("%s Going on from the checkpoint before it.", error)
        path.replace(path.with_name(f"{path.name}.damaged"))
        previous.replace(path)


def load_weights(path: str | Path, module: nn.Module) -> dict[str, torch.Tensor]:
    """Read a state dictionary of tensors from a ``.safetensors`` or a :func:`torch.save` file; no code is run.

    :param path: the file
    :param module: the module which the weights are for

    :returns: the state dictionary, which fits the module

    :raises ConfigurationError: if there is no such file, if it holds anything else, or if the weights do not fit
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigurationError(
            f"There is no file '{path}' to start from; save one by torch.save(model.state_dict(), …)."
        )
    state: dict[str, Any]
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError as error:
            raise ConfigurationError(
                f"Reading '{path}' needs the package safetensors: pip install safetensors."
            ) from error
        state = dict(load_file(path))
    else:
        state = load_checkpoint(path)
        state = state.get("model_state_dict", state)
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigurationError(f"'{path}' holds no state dictionary of tensors.")
    _check_fit(state, module, path)
    return state


def _check_fit(state: Mapping[str, torch.Tensor], module: nn.Module, path: Path) -> None:
    found = {name: tuple(value.shape) for name, value in state.items()}
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            raise ConfigurationError(
                f"The weights in '{path}' are not those of this {type(module).__name__}: '{name}' has the shape "
                f"{found.get(name, 'of nothing')} there, and {wanted.get(name, 'of nothing')} here. Give the model the "
                f"parameters it was saved with, or choose another file."
            )


def get_random_state() -> dict[str, Any]:
    """Get the states of the random number generators of Python, NumPy and torch, as tensors and plain values."""
    name, keys, position, has_gauss, gauss = cast("tuple[str, Any, int, int, float]", np.random.get_state(legacy=True))
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": random.getstate(),
        "numpy": (str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Set what :func:`get_random_state` got; the states of devices which are not here any more are left out."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for device, device_state in enumerate(state["cuda"][:available]):
        torch.cuda.set_rng_state(device_state, device)


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Leave the random number generators as they were found."""
    state = get_random_state()
    try:
        yield
    finally:
        set_random_state(state)

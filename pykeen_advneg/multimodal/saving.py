"""A trained MKBE in a folder: weights, settings and graph, none of which can run code when they are read."""

from __future__ import annotations

import json
import os
import pathlib
import shutil

from ..checkpoint import load_weights
from ..errors import ConfigurationError
from .attribute_file import save_tensors
from .factory import MultimodalTriplesFactory
from .mkbe import MKBE

__all__ = ["load_calibration", "load_run", "save_run"]

_WEIGHTS, _SETTINGS, _GRAPH = "model.safetensors", "model.json", "training"
_CALIBRATION = "calibration"


def save_run(
    model: MKBE,
    training: MultimodalTriplesFactory,
    folder: str | pathlib.Path,
    calibration: MultimodalTriplesFactory | None = None,
) -> pathlib.Path:
    """Save a model and its graph.

    (PyKEEN's ``save_to_directory`` pickles the model; to read it is to run what is in the file.) A folder in which
    saving did not come to its end is no run, and is not loaded.

    :param model: the model
    :param training: the training triples
    :param folder: where
    :param calibration: triples with numbers which the model was not trained with, e.g., those of validation, for the
        intervals of ``advneg impute``

    :returns: the folder

    :raises ConfigurationError: if a setting of the model cannot be written, e.g., an encoder given as an instance
    """
    folder = pathlib.Path(folder)
    try:
        text = json.dumps(model.settings, indent=2)
    except TypeError as error:
        raise ConfigurationError(
            f"The settings of the model cannot be written ({error}); give interactions and encoders by name."
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    # without settings, there is no run: an old one does not get half of a new one
    (folder / _SETTINGS).unlink(missing_ok=True)
    shutil.rmtree(folder / _CALIBRATION, ignore_errors=True)
    training.to_path_binary(folder / _GRAPH)
    if calibration is not None:
        calibration.to_path_binary(folder / _CALIBRATION)
    save_tensors(folder / _WEIGHTS, model.state_dict(), {"model": "mkbe"})
    temporary = folder / f"{_SETTINGS}.tmp-{os.getpid()}"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / _SETTINGS)
    return folder


def load_calibration(folder: str | pathlib.Path) -> MultimodalTriplesFactory | None:
    """Read the triples for calibration which :func:`save_run` wrote.

    :param folder: where

    :returns: the triples, if there are any
    """
    path = pathlib.Path(folder) / _CALIBRATION
    return MultimodalTriplesFactory.from_path_binary(path) if path.exists() else None


def load_run(folder: str | pathlib.Path) -> tuple[MKBE, MultimodalTriplesFactory]:
    """Read what :func:`save_run` wrote.

    :param folder: where

    :returns: the model, in evaluation mode, and the training triples

    :raises ConfigurationError: if there is no such folder, or if something is missing or damaged
    """
    folder = pathlib.Path(folder)
    missing = [name for name in (_WEIGHTS, _SETTINGS, _GRAPH) if not (folder / name).exists()]
    if missing:
        raise ConfigurationError(
            f"The folder '{folder}' has no {missing[0]!r}; write it by pykeen_advneg.multimodal.saving.save_run."
        )
    training = MultimodalTriplesFactory.from_path_binary(folder / _GRAPH)
    try:
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        model = MKBE(triples_factory=training, **settings)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"'{folder / _SETTINGS}' holds no settings of a model: {error}.") from error
    model.load_state_dict(load_weights(folder / _WEIGHTS, model))
    return model.eval(), training

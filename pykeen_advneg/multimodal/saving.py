"""A trained MKBE in a folder: weights, settings and graph, none of which can run code when they are read."""

from __future__ import annotations

import json
import pathlib

from ..checkpoint import load_weights
from ..errors import ConfigurationError
from .attribute_file import save_tensors
from .factory import MultimodalTriplesFactory
from .mkbe import MKBE

__all__ = ["load_run", "save_run"]

_WEIGHTS, _SETTINGS, _GRAPH = "model.safetensors", "model.json", "training"


def save_run(model: MKBE, training: MultimodalTriplesFactory, folder: str | pathlib.Path) -> pathlib.Path:
    """Save a model and its graph.

    (PyKEEN's ``save_to_directory`` pickles the model; to read it is to run what is in the file.)

    :param model: the model
    :param training: the training triples
    :param folder: where

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
    training.to_path_binary(folder / _GRAPH)
    save_tensors(folder / _WEIGHTS, model.state_dict(), {"model": "mkbe"})
    (folder / _SETTINGS).write_text(text, encoding="utf-8")
    return folder


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

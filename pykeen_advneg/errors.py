"""The errors of the package; each message names the argument, its value and what to do."""

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigurationError",
    "DamagedCheckpointError",
    "DivergenceError",
    "ModelRequiredError",
    "NonFiniteSamplerError",
    "meant",
]


def meant(given: Iterable[str], known: Iterable[str]) -> str:
    """Ask for a message whether names which are not known were misspelt.

    :param given: the names
    :param known: the names which are known

    :returns: a question with a space before it, or nothing if no known name is spelt like them
    """
    known = sorted(known)
    close = [name for each in given for name in difflib.get_close_matches(str(each).lower(), known, n=1)]
    return f" Did you mean {' and '.join(close)}?" if close else ""


class ConfigurationError(ValueError):
    """An argument which cannot work, found before any training starts."""


class ModelRequiredError(TypeError):
    """A sampler which works with the model being trained was used by a loop which does not hand the model to it."""


class NonFiniteSamplerError(RuntimeError):
    """A sampler met NaN or infinity in its own networks or in its reward.

    It derives from :class:`RuntimeError` as PyKEEN's ``NonFiniteLossError`` does, so that the training loop saves its
    failure checkpoint and a study counts the trial as failed and goes on.
    """


class CheckpointError(RuntimeError):
    """A checkpoint file which is damaged, or which holds something else than tensors and plain values."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint file which is not what was written."""


class DivergenceError(RuntimeError):
    """A network, e.g., one which is trained beside a model, left the finite numbers."""

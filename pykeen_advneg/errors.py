"""The errors of the package; each message names the argument, its value and what to do."""

__all__ = [
    "CheckpointError",
    "ConfigurationError",
    "DamagedCheckpointError",
    "DivergenceError",
    "ModelRequiredError",
    "NonFiniteSamplerError",
]


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

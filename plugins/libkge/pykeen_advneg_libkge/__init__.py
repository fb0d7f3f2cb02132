"""The samplers of pykeen-advneg as a training job of LibKGE, selectable by name in its YAML.

LibKGE searches this module for the class of the job and for its options::

    modules: [kge.job, kge.model, kge.model.embedder, pykeen_advneg_libkge]
    import: [advneg_negative_sampling]
    train.type: advneg_negative_sampling

The job is loaded on first use; to import this package takes neither LibKGE nor PyKEEN.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .job import TrainingJobAdvnegNegativeSampling

__all__ = ["TrainingJobAdvnegNegativeSampling", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name != "TrainingJobAdvnegNegativeSampling":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(".job", __name__).TrainingJobAdvnegNegativeSampling

"""Studies of hyper-parameters which really tune the sampler."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipeline import hpo_pipeline
    from .result import StudyResult

__all__ = ["StudyResult", "hpo_pipeline"]

_MODULES = {"StudyResult": ".result", "hpo_pipeline": ".pipeline"}


def __getattr__(name: str) -> object:
    # the command line reads settings without loading PyKEEN
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value

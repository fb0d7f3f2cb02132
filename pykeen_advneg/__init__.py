"""Adversarial and other trained negative samplers for PyKEEN, selectable by name in :func:`pykeen.pipeline.pipeline`.

Importing this package registers its classes with PyKEEN's resolvers, see :mod:`pykeen_advneg.registry`. The import is
cheap: it loads neither PyKEEN nor torch, and the public names are looked up on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .registry import register

if TYPE_CHECKING:
    from .evaluation import FastRankBasedEvaluator
    from .filtering import ExactFilterer
    from .models import KBGANTransD
    from .negatives import Negatives
    from .sampling.kbgan import KBGANNegativeSampler
    from .scoring import Scorer
    from .training import AdversarialTrainingLoop

__all__ = [
    "AdversarialTrainingLoop",
    "ExactFilterer",
    "FastRankBasedEvaluator",
    "KBGANNegativeSampler",
    "KBGANTransD",
    "Negatives",
    "Scorer",
    "__version__",
    "register",
]

__version__ = "0.1.0"

#: where the public names live
_MODULES = {
    "AdversarialTrainingLoop": ".training",
    "ExactFilterer": ".filtering",
    "FastRankBasedEvaluator": ".evaluation",
    "KBGANNegativeSampler": ".sampling.kbgan",
    "KBGANTransD": ".models",
    "Negatives": ".negatives",
    "Scorer": ".scoring",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register()

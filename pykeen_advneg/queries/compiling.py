"""Whether compiled loops can be used: they are faster than PyTorch's operations one by one, and give the same."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType

__all__ = ["kernels"]

logger = logging.getLogger(__name__)


@cache
def kernels() -> ModuleType | None:
    """Give :mod:`pykeen_advneg.compiled`; None without Numba, which is an extra."""
    try:
        from . import compiled
    except ImportError as error:
        logger.info("Masks for each pair take longer without Numba: pip install 'pykeen-advneg[compiled]' (%s)", error)
        return None
    return compiled

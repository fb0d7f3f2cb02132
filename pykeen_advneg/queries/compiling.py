"""Whether compiled loops can be used: they are faster than PyTorch's operations one by one, and give the same."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType

import torch

__all__ = ["kernels"]

logger = logging.getLogger(__name__)


def kernels(like: torch.Tensor) -> ModuleType | None:
    """Give :mod:`pykeen_advneg.queries.compiled`, where it can be used.

    :param like: with the type and on the device of what is computed

    :returns: the module; None without Numba, which is an extra, on another device or for another type
    """
    compiled = _compiled() if like.device.type == "cpu" else None
    return compiled if compiled is not None and like.dtype in compiled.TYPES else None


@cache
def _compiled() -> ModuleType | None:
    try:
        from . import compiled
    except ImportError as error:
        logger.info("Sums over pairs take longer without Numba: pip install 'pykeen-advneg[compiled]' (%s)", error)
        return None
    return compiled

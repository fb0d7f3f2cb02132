"""Whether compiled loops can be used, which give what PyTorch's operations give one by one, but for rounding."""

from __future__ import annotations

import logging
import os
from functools import cache
from types import ModuleType

import torch

__all__ = ["kernels"]

logger = logging.getLogger(__name__)


def kernels(like: torch.Tensor) -> ModuleType | None:
    """Give :mod:`pykeen_advneg.queries.compiled`, where it can be used.

    :param like: with the type and on the device of what is computed

    :returns: the module; None without Numba, which is an extra, on another device or for another type, and if the
        environment variable ``PYKEEN_ADVNEG_COMPILED`` is 0
    """
    compiled = _compiled() if like.device.type == "cpu" else None
    return compiled if compiled is not None and like.dtype in compiled.TYPES else None


@cache
def _compiled() -> ModuleType | None:
    if os.environ.get("PYKEEN_ADVNEG_COMPILED") == "0":
        return None
    try:
        from . import compiled
    except ImportError as error:
        logger.info("Masks for each pair take longer without Numba: pip install 'pykeen-advneg[compiled]' (%s)", error)
    except RuntimeError as error:
        # no folder can be written which Numba would keep its machine code in
        logger.warning("Numba cannot be used: %s. Set NUMBA_CACHE_DIR to a folder which can be written.", error)
    else:
        return compiled
    return None

"""Registers :mod:`pykeen_advneg` while PyKEEN is being imported; the target of an entry point of ``pykeen.datasets``.

That group is the only one which every way into PyKEEN's models, training and evaluation loads. What it gets here is a
data set which PyKEEN has already registered, so that its list of data sets does not change.

The module stands outside the package so that ``PYKEEN_ADVNEG_AUTOLOAD=0`` leaves the package unimported, and a later
``import pykeen_advneg`` still registers. Whatever goes wrong here is a warning: ``import pykeen`` must not fail.
"""

import os
import warnings

from pykeen.datasets.nations import Nations

__all__ = ["Nations"]

if os.environ.get("PYKEEN_ADVNEG_AUTOLOAD", "1") != "0":
    try:
        import pykeen_advneg  # noqa: F401
    except Exception as error:
        warnings.warn(
            f"pykeen-advneg could not be loaded, its classes are missing from PyKEEN: {type(error).__name__}: {error} "
            "(PYKEEN_ADVNEG_AUTOLOAD=0 switches the attempt off)",
            RuntimeWarning,
            stacklevel=1,
        )

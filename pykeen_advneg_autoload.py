"""Registers :mod:`pykeen_advneg` while PyKEEN is being imported; the target of entry points of ``pykeen.datasets``.

That group is the only one which every way into PyKEEN's models, training and evaluation loads. The entry point
``advneg`` gives it a data set which PyKEEN has already registered, so that it adds nothing; the others are data sets of
this package.

The module stands outside the package so that ``PYKEEN_ADVNEG_AUTOLOAD=0`` leaves the package unimported, and a later
``import pykeen_advneg`` still registers. Whatever goes wrong here is a warning: ``import pykeen`` must not fail.
"""

import os
import warnings

from pykeen.datasets.base import Dataset
from pykeen.datasets.nations import Nations

__all__ = ["DB15K", "MKGW", "FB15k237Numeric", "LabeledSplitsDataset", "MovieLens100K", "Nations"]

# where they cannot be had, their names stand for what adds nothing
DB15K: type[Dataset] = Nations
FB15k237Numeric: type[Dataset] = Nations
LabeledSplitsDataset: type[Dataset] = Nations
MKGW: type[Dataset] = Nations
MovieLens100K: type[Dataset] = Nations

if os.environ.get("PYKEEN_ADVNEG_AUTOLOAD", "1") != "0":
    try:
        import pykeen_advneg  # noqa: F401
        from pykeen_advneg.multimodal import datasets, published
        from pykeen_advneg.splits import labeled

        DB15K = published.DB15K
        FB15k237Numeric = datasets.FB15k237Numeric
        LabeledSplitsDataset = labeled.LabeledSplitsDataset
        MKGW = published.MKGW
        MovieLens100K = datasets.MovieLens100K
    except Exception as error:
        warnings.warn(
            f"pykeen-advneg could not be loaded, its classes are missing from PyKEEN: {type(error).__name__}: {error} "
            "(PYKEEN_ADVNEG_AUTOLOAD=0 switches the attempt off)",
            RuntimeWarning,
            stacklevel=1,
        )

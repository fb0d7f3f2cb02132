"""The data set ``labeledsplits``: what :func:`pykeen_advneg.datasets.load_dataset` loads, by a name of PyKEEN's."""

# first, since PyKEEN's list of data sets asks for the one here as soon as it is imported
import pykeen.datasets  # noqa: F401

from .labeled import LabeledSplitsDataset, fingerprint

__all__ = ["LabeledSplitsDataset", "fingerprint"]

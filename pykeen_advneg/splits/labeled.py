"""Folders of splits, and data sets with ids from all splits, as a data set of PyKEEN; fingerprints of triples."""

from __future__ import annotations

import hashlib
import pathlib
from typing import TYPE_CHECKING, cast

from pykeen.datasets.base import Dataset, LazyDataset

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from pykeen.triples import TriplesFactory

    from ..datasets import Vocabulary

__all__ = ["LabeledSplitsDataset", "fingerprint"]


class LabeledSplitsDataset(LazyDataset):
    """A folder of train/valid/test files, or a data set of PyKEEN with ids from all splits.

    So that an experiment file can name it: ``"dataset": "labeledsplits", "dataset_kwargs": {"source": "graph", ...}``.
    """

    def __init__(
        self,
        source: str | pathlib.Path,
        vocabulary: str = "training",
        create_inverse_triples: bool = False,
        fingerprint: str | None = None,
    ) -> None:
        """Initialize the data set.

        :param source: the folder, or the name of a data set of PyKEEN
        :param vocabulary: which splits the ids are built from, ``"training"`` or ``"all"``
        :param create_inverse_triples: whether training has an inverse triple for each triple
        :param fingerprint: the digits of :func:`fingerprint` which the triples must have; None: any
        """
        self.source = source
        self.vocabulary = vocabulary
        self._create_inverse_triples = create_inverse_triples
        self.fingerprint = fingerprint

    # docstr-coverage: inherited
    def _load(self) -> None:
        # it imports the list of PyKEEN's data sets, to which this one belongs
        from ..datasets import load_dataset

        loaded = load_dataset(self.source, cast("Vocabulary", self.vocabulary), self._create_inverse_triples)
        found = fingerprint(loaded)
        if self.fingerprint not in {None, found}:
            raise ConfigurationError(
                f"dataset {str(self.source)!r} with vocabulary={self.vocabulary!r} has other triples than meant: "
                f"fingerprint is {found}, and should be {self.fingerprint}."
            )
        self._training, self._testing, self._validation = (
            cast("TriplesFactory", loaded.factory_dict[split]) for split in ("training", "testing", "validation")
        )


def fingerprint(dataset: Dataset) -> str:
    """Get 16 hexadecimal digits of the SHA-256 of all triples of a data set.

    :param dataset: the data set

    :returns: the digits
    """
    digest = hashlib.sha256(f"{dataset.num_entities} {dataset.num_relations}".encode())
    for split in ("training", "validation", "testing"):
        if split in dataset.factory_dict:
            digest.update(dataset.factory_dict[split].mapped_triples.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]

"""Data sets: PyKEEN's by name or a folder of train/valid/test files, with ids from training or from all splits."""

from __future__ import annotations

import bz2
import difflib
import gzip
import lzma
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Literal, TypeAlias, cast, get_args

import numpy as np
import pandas as pd
from pykeen.constants import PYKEEN_DATASETS
from pykeen.datasets import Dataset, dataset_resolver, get_dataset
from pykeen.datasets.base import (
    CompressedSingleDataset,
    EagerDataset,
    PackedZipRemoteDataset,
    PathDataset,
    TabbedDataset,
)
from pykeen.triples import TriplesFactory
from pykeen.triples.triples_factory import create_entity_mapping, create_relation_mapping
from pykeen.triples.utils import load_triples
from pykeen.typing import LabeledTriples

from .errors import ConfigurationError

__all__ = ["LabeledSplits", "facts", "load_dataset", "read_folder", "read_splits"]

#: which splits the ids are built from
Vocabulary: TypeAlias = Literal["training", "all"]

#: how a file of each compression is opened
_OPENERS: Mapping[str, Callable[..., IO[Any]]] = {"": open, ".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
_SUFFIXES = ("", ".txt", ".tsv", ".csv")
_COLUMNS = 3


@dataclass(frozen=True)
class LabeledSplits:
    """The triples of a data set before they get ids, each of shape ``(n, 3)`` and type string."""

    training: LabeledTriples
    validation: LabeledTriples
    testing: LabeledTriples

    def unseen(self) -> dict[str, int]:
        """Count the evaluation triples with an entity or a relation that no training triple has.

        PyKEEN drops these without a word where the ids come from the training triples alone.

        :returns: the number of such triples, by the name of the split
        """
        entities = np.unique(self.training[:, [0, 2]])
        relations = np.unique(self.training[:, 1])
        return {
            name: int((~(np.isin(split[:, [0, 2]], entities).all(axis=1) & np.isin(split[:, 1], relations))).sum())
            for name, split in (("validation", self.validation), ("testing", self.testing))
        }

    def to_dataset(self, vocabulary: Vocabulary = "training", create_inverse_triples: bool = False) -> Dataset:
        """Give the labels ids.

        :param vocabulary: ``"training"``: ids for what occurs in training, as PyKEEN does; evaluation triples with
            anything else are dropped. ``"all"``: ids for what occurs in any split; nothing is dropped.
        :param create_inverse_triples: whether training has an inverse triple for each triple

        :returns: the data set
        """
        source = self.training if vocabulary == "training" else np.concatenate(list(vars(self).values()))
        ids: dict[str, Any] = {
            "entity_to_id": create_entity_mapping(triples=source),
            "relation_to_id": create_relation_mapping(source[:, 1]),
        }
        make = TriplesFactory.from_labeled_triples
        return EagerDataset(
            training=make(self.training, create_inverse_triples=create_inverse_triples, **ids),
            testing=make(self.testing, **ids),
            validation=make(self.validation, **ids),
        )


def load_dataset(
    dataset: str | pathlib.Path, vocabulary: Vocabulary = "training", create_inverse_triples: bool = False
) -> Dataset:
    """Load a data set by its PyKEEN name or from a folder.

    :param dataset: a name, e.g. ``"nations"``, or a folder with the files ``train``, ``valid`` and ``test``
        (see :func:`read_folder`). A name of PyKEEN's wins over a folder of the same name; write ``./name`` for that.
    :param vocabulary: which splits the ids are built from, see :meth:`LabeledSplits.to_dataset`
    :param create_inverse_triples: whether training has an inverse triple for each triple

    :returns: the data set

    :raises ConfigurationError: if the name is not known, the folder incomplete or a file malformed
    """
    if vocabulary not in get_args(Vocabulary):
        raise ConfigurationError(f"vocabulary must be one of {get_args(Vocabulary)}, got {vocabulary!r}.")
    if _is_name(dataset) and (vocabulary == "training" or _is_split_by_pykeen(str(dataset))):
        kwargs = {"create_inverse_triples": create_inverse_triples}
        with _fetching(dataset):
            return get_dataset(dataset=str(dataset), dataset_kwargs=kwargs)
    return read_splits(dataset).to_dataset(vocabulary, create_inverse_triples)


def read_splits(dataset: str | pathlib.Path) -> LabeledSplits:
    """Read the labelled triples of a data set which comes with its splits.

    :param dataset: a name of PyKEEN's or a folder, see :func:`load_dataset`

    :returns: all triples of each split, also those that PyKEEN would drop

    :raises ConfigurationError: if the name is not known, the folder incomplete, a file malformed, or if PyKEEN's data
        set does not keep its splits in files of labels
    """
    if not _is_name(dataset):
        return read_folder(dataset)
    with _fetching(dataset):
        instance = dataset_resolver.make(str(dataset))
        instance.training  # noqa: B018  # fetches and unpacks the files where need be
    if isinstance(instance, PathDataset) and instance.validation_path is not None:
        paths = instance.training_path, instance.validation_path, instance.testing_path
        kwargs = instance.load_triples_kwargs or {}
        return LabeledSplits(*(load_triples(path, **kwargs).astype(str) for path in paths))
    if isinstance(instance, PackedZipRemoteDataset):
        return _read_zip(instance)
    if isinstance(instance, (TabbedDataset, CompressedSingleDataset)) or getattr(instance, "has_all_ids", False):
        factories = instance.training, instance.validation, instance.testing
        return LabeledSplits(*(cast(TriplesFactory, factory).triples for factory in factories))
    raise ConfigurationError(
        f"dataset {dataset!r} ({type(instance).__name__}) does not keep its splits in files of labels; "
        "use vocabulary='training', or write the splits to a folder and pass that."
    )


def facts(name: str | pathlib.Path, dataset: Dataset, vocabulary: Vocabulary) -> dict[str, int]:
    """Count what a data set has.

    :param name: its name or folder
    :param dataset: the data set
    :param vocabulary: how it was loaded

    :returns: the numbers of ``entities``, ``relations`` and of ``training``, ``validation`` and ``testing`` triples as
        they are used, of the evaluation triples with ids ``unseen`` in training, and of those which are ``dropped``
    """
    counts = {"entities": dataset.num_entities, "relations": dataset.num_relations}
    counts |= {split: factory.num_triples for split, factory in dataset.factory_dict.items()}
    try:
        unseen = sum(read_splits(name).unseen().values())
    except ConfigurationError:  # no labels to compare
        unseen = 0
    return {**counts, "unseen": unseen, "dropped": unseen if vocabulary == "training" else 0}


def read_folder(folder: str | pathlib.Path) -> LabeledSplits:
    """Read the labelled triples of a folder.

    The files are called ``train``, ``valid`` and ``test``, with an extension ``.txt``, ``.tsv``, ``.csv`` or none,
    compressed (``.xz``, ``.gz``, ``.bz2``) or not. A line has the labels of head, relation and tail, separated by
    tabs, in UTF-8; empty lines are skipped.

    :param folder: the folder

    :returns: the triples of each split

    :raises ConfigurationError: if a file is missing, there twice, empty or malformed (with its line)
    """
    folder = pathlib.Path(folder)
    return LabeledSplits(*(_read_file(_find_file(folder, split)) for split in ("train", "valid", "test")))


def _is_name(dataset: str | pathlib.Path) -> bool:
    """Whether this is a name of PyKEEN's (True) or a folder (False); anything else is an error."""
    known = dataset_resolver.options
    if isinstance(dataset, str) and dataset_resolver.normalize(dataset) in known:
        return True
    path = pathlib.Path(dataset)
    if path.is_dir():
        return False
    if isinstance(dataset, pathlib.Path) or path.name != dataset:
        raise ConfigurationError(f"dataset: the folder {str(dataset)!r} does not exist.")
    close = difflib.get_close_matches(dataset.lower(), known, n=3) or sorted(known)
    raise ConfigurationError(
        f"dataset {dataset!r} is neither a data set of PyKEEN nor a folder; did you mean {' or '.join(close)}?"
        if len(close) < len(known)
        else f"dataset {dataset!r} is neither a data set of PyKEEN nor a folder; choose from {', '.join(close)}."
    )


@contextmanager
def _fetching(dataset: str | pathlib.Path) -> Iterator[None]:
    """Turn a failed download into an error that says what was fetched and where it belongs."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"dataset {str(dataset)!r} could not be fetched or read: {error}. PyKEEN keeps its data sets in "
            f"{PYKEEN_DATASETS}; put the files there, or pass a folder with train.txt, valid.txt and test.txt."
        ) from error


def _is_split_by_pykeen(name: str) -> bool:
    """Whether PyKEEN splits this data set itself; it then sees to it that training has every id."""
    return issubclass(dataset_resolver.lookup(name), (TabbedDataset, CompressedSingleDataset))


def _read_zip(dataset: PackedZipRemoteDataset) -> LabeledSplits:
    """Read the labelled triples of a data set whose splits lie in one zip file."""
    columns = [dataset.head_column, dataset.relation_column, dataset.tail_column]

    def read(path: pathlib.PurePath) -> LabeledTriples:
        with zipfile.ZipFile(dataset.path) as archive, archive.open(path.as_posix()) as file:
            frame = pd.read_csv(file, sep=dataset.sep, header=dataset.header, dtype=str, keep_default_na=False)
        return frame.iloc[:, columns].to_numpy().astype(str)

    paths = dataset.relative_training_path, dataset.relative_validation_path, dataset.relative_testing_path
    return LabeledSplits(*map(read, paths))


def _find_file(folder: pathlib.Path, split: str) -> pathlib.Path:
    """Find the one file of a split."""
    names = [f"{split}{suffix}{compression}" for suffix in _SUFFIXES for compression in _OPENERS]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise ConfigurationError(
            f"dataset folder {str(folder)!r} has no file {split}.txt (or .tsv, .csv, also with .xz, .gz, .bz2)."
        )
    if len(found) > 1:
        raise ConfigurationError(
            f"dataset folder {str(folder)!r} has several files for {split!r}: "
            f"{', '.join(path.name for path in found)}; keep one."
        )
    return found[0]


def _read_file(path: pathlib.Path) -> LabeledTriples:
    """Read the labelled triples of a file."""
    opener = _OPENERS[path.suffix if path.suffix in _OPENERS else ""]
    try:
        with opener(path, mode="rt", encoding="utf-8") as file:
            lines = file.read().split("\n")
    except (UnicodeDecodeError, OSError, EOFError, lzma.LZMAError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}.") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        row = line.rstrip("\r").split("\t")
        if row == [""]:
            continue
        if len(row) != _COLUMNS or not all(row):
            raise ConfigurationError(
                f"{path}, line {number}: expected head, relation and tail separated by tabs, got {line[:80]!r}."
            )
        rows.append(row)
    if not rows:
        raise ConfigurationError(f"{path}: has no triples.")
    return np.asarray(rows, dtype=str)

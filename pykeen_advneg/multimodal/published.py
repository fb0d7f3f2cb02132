"""Graphs of multimodal completion, by name in PyKEEN: ``db15k`` and ``mkgw``; downloaded from their publishers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np
import torch
from docdata import parse_docdata
from numpy.typing import NDArray
from pykeen.datasets.base import LazyDataset
from pykeen.triples import TriplesFactory

from ..errors import ConfigurationError
from .fetching import fetch

__all__ = ["DB15K", "MKGW", "IndexedDataset", "carve"]

#: a state of the repository of NativE (Zhang et al., 2024), which has the files of MMRNS's split
_URL = "https://raw.githubusercontent.com/zjukg/NATIVE/c72291c3d571b36c754897935d21718aa4568fe7/benchmarks"

_SPLITS = {"training": "train2id.txt", "validation": "valid2id.txt", "testing": "test2id.txt"}

Rows: TypeAlias = NDArray[np.int64]

Validation: TypeAlias = Literal["carved", "published"]


class IndexedDataset(LazyDataset):
    """A graph in files of ids: ``entity2id.txt``, ``relation2id.txt``, and a file of head, tail, relation a split.

    All entities have ids, also those which no training triple has, so that PyKEEN drops no evaluation triple.
    """

    #: asked by :func:`pykeen_advneg.datasets.read_splits`
    has_all_ids: ClassVar[bool] = True

    #: the folder with the files
    url: ClassVar[str]

    def __init__(self, *, cache_root: str | Path | None = None, create_inverse_triples: bool = False) -> None:
        """Initialize the data set.

        :param cache_root: where the files are kept, in a folder with the name of the data set; in PyKEEN's home by
            default. Files which are there are taken.
        :param create_inverse_triples: whether training has an inverse for each triple
        """
        self.cache_root = self._help_cache(cache_root)
        self._inverse = create_inverse_triples

    def _path(self, name: str) -> Path:
        return fetch(f"{self.url}/{name}", self.cache_root / name)

    def labels(self, name: str) -> dict[str, int]:
        """Read labels.

        :param name: ``entity2id.txt`` or ``relation2id.txt``

        :returns: the id of each label
        """
        rows = _lines(self._path(name))
        pairs = [line.rsplit(None, 1) for line in rows]
        ids = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}  # noqa: PLR2004
        if sorted(ids.values()) != list(range(len(rows))):
            raise ConfigurationError(
                f"'{self._path(name)}' must have a label and its id in each line, ids from 0 to {len(rows) - 1}; "
                f"delete it, so that it is downloaded anew."
            )
        return ids

    def rows(self, split: str) -> Rows:
        """Read a split.

        :param split: ``training``, ``validation`` or ``testing``

        :returns: distinct triples of ids, sorted, shape: ``(n, 3)``
        """
        path = self._path(_SPLITS[split])
        try:
            found = np.array([line.split() for line in _lines(path)], dtype=np.int64).reshape(-1, 3)
        except ValueError as error:
            raise ConfigurationError(
                f"'{path}' must have head, tail and relation in each line ({error}); delete it, so that it is "
                f"downloaded anew."
            ) from error
        unique: Rows = np.unique(found[:, [0, 2, 1]], axis=0)
        return unique

    def splits(self) -> Mapping[str, Rows]:
        """Give the triples of all splits."""
        return {split: self.rows(split) for split in _SPLITS}

    # docstr-coverage: inherited
    def _load(self) -> None:
        entities, relations = self.labels("entity2id.txt"), self.labels("relation2id.txt")
        sizes = np.array([len(entities), len(relations), len(entities)])
        for split, rows in self.splits().items():
            if (rows >= sizes).any():
                raise ConfigurationError(
                    f"'{self._path(_SPLITS[split])}' has an id without a label; delete the files in "
                    f"'{self.cache_root}', so that they are downloaded anew."
                )
            factory = TriplesFactory(
                mapped_triples=torch.as_tensor(rows),
                entity_to_id=entities,
                relation_to_id=relations,
                create_inverse_triples=self._inverse and split == "training",
            )
            setattr(self, f"_{split}", factory)

    # docstr-coverage: inherited
    def _load_validation(self) -> None:
        """Nothing is left to do."""


def _lines(path: Path) -> list[str]:
    """Read the lines after the first one, which counts them."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines[1:] if line.strip()]


def carve(training: Rows, testing: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """Take validation triples from the training triples; what is a test triple as well stays out of both.

    :param training: shape: ``(n, 3)``
    :param testing: shape: ``(m, 3)``
    :param share: of the training triples
    :param seed: of the choice

    :returns: the training triples which are left, and the validation triples
    """
    test = set(map(tuple, testing.tolist()))
    kept = np.array([row for row in training.tolist() if tuple(row) not in test], dtype=training.dtype).reshape(-1, 3)
    chosen = np.random.default_rng(seed).permutation(len(kept)) < round(share * len(kept))
    return kept[~chosen], kept[chosen]


@parse_docdata
class DB15K(IndexedDataset):
    """DB15K (Liu et al., 2019) in MMRNS's split, with validation triples of its own.

    **The published validation triples leak.** Of their 9,904 rows 7,481 are distinct; 6,584 of these are training
    triples, 824 are test triples, and 73 are neither. Whoever stops early, or chooses parameters, by them does so on
    training and test triples. By default, 5 % of the training triples are taken for validation instead, and are no
    training triples any more; ``validation="published"`` has the published ones.

    Labels are addresses of DBpedia.
    ---
    name: DB15K
    citation:
        author: Liu
        year: 2019
        link: https://arxiv.org/abs/1903.05485
        github: mniepert/mmkb
    statistics:
        entities: 12842
        relations: 279
        training: 75261
        testing: 9902
        validation: 3961
        triples: 89124
    """

    url = f"{_URL}/DB15K"

    def __init__(
        self,
        *,
        validation: Validation = "carved",
        validation_share: float = 0.05,
        seed: int = 0,
        cache_root: str | Path | None = None,
        create_inverse_triples: bool = False,
    ) -> None:
        """Initialize the data set.

        :param validation: ``carved`` from the training triples, or ``published``, which leaks
        :param validation_share: the share which is carved
        :param seed: of the choice
        :param cache_root: where the files are kept, in a folder with the name of the data set
        :param create_inverse_triples: whether training has an inverse for each triple

        :raises ConfigurationError: if a value is impossible
        """
        if validation not in get_args(Validation):
            raise ConfigurationError(f"validation={validation!r} is none of {get_args(Validation)}.")
        if not 0 < validation_share < 1:
            raise ConfigurationError(f"validation_share={validation_share!r} must be between 0 and 1.")
        super().__init__(cache_root=cache_root, create_inverse_triples=create_inverse_triples)
        self.carves = validation == "carved"
        self.validation_share, self.seed = validation_share, seed

    # docstr-coverage: inherited
    def splits(self) -> Mapping[str, Rows]:
        """Give the triples of all splits."""
        if not self.carves:
            return super().splits()
        testing = self.rows("testing")
        training, validation = carve(self.rows("training"), testing, self.validation_share, self.seed)
        return {"training": training, "validation": validation, "testing": testing}


@parse_docdata
class MKGW(IndexedDataset):
    """MKG-W (Xu et al., 2022), from Wikidata.

    306 of the 4,274 test triples have an entity which no training triple has; all have ids here. Labels are addresses
    of Wikidata.
    ---
    name: MKG-W
    citation:
        author: Xu
        year: 2022
        link: https://doi.org/10.1145/3503161.3548388
        github: quqxui/MMRNS
    statistics:
        entities: 15000
        relations: 169
        training: 34196
        testing: 4274
        validation: 4276
        triples: 42746
    """

    url = f"{_URL}/MKG-W"

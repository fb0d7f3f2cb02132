"""Data sets with attributes, by name in PyKEEN: ``movielens100k`` and ``fb15k237numeric``."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
from docdata import parse_docdata
from pykeen.datasets.base import LazyDataset
from pykeen.triples import TriplesFactory

from ..errors import ConfigurationError
from .factory import MultimodalTriplesFactory, multimodal_dataset
from .movielens import ATTRIBUTES, FOLDS, MovieLensFiles
from .tables import LINK_COLUMNS, VALUE_COLUMNS, Tables

__all__ = ["FB15k237Numeric", "MovieLens100K", "MultimodalTriplesFactory", "multimodal_dataset", "rating_relations"]

#: the endings of pictures, in small letters
_PICTURES = frozenset({".jpg", ".jpeg", ".png"})


def rating_relations(factory: TriplesFactory) -> dict[int, float]:
    """Give the relations of :class:`MovieLens100K` which are ratings, for ``evaluator="relationranking"``.

    :param factory: one of the factories of the data set

    :returns: the rating by the id of its relation
    """
    labels = factory.relation_to_id.items()
    return {i: float(label.removeprefix("rate_")) for label, i in labels if label.startswith("rate_")}


class _TabularDataset(LazyDataset):
    """A data set made of tables, on first use."""

    triples_factory_cls: ClassVar[type[MultimodalTriplesFactory]] = MultimodalTriplesFactory

    def _tables(self) -> tuple[Tables, Tables, Tables | None, dict[str, Any]]:
        """Give the tables of training, testing and validation, and arguments of the factory."""
        raise NotImplementedError

    # docstr-coverage: inherited
    def _load(self) -> None:
        training, testing, validation, kwargs = self._tables()
        data = multimodal_dataset(training, testing, validation, **kwargs)
        factories = cast("Sequence[Any]", (data.training, data.testing, data.validation))
        self._training, self._testing, self._validation = factories

    # docstr-coverage: inherited
    def _load_validation(self) -> None:
        """Nothing is left to do."""

    @property
    def _loaded_validation(self) -> bool:
        return True


def _fetch(url: str, path: pathlib.Path, what: str) -> pathlib.Path:
    """Download a file, unless it is there."""
    if path.is_file():
        return path
    from pystow.utils import download

    temporary = path.with_name(f"{path.name}.part")
    try:
        download(url, temporary)
        temporary.replace(path)
    except Exception as error:
        # what a download raises depends on what went wrong, and on how it was done
        raise ConfigurationError(
            f"{what} could not be fetched from {url} ({type(error).__name__}: {error}); download it yourself, and put "
            f"it at '{path}'."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


@parse_docdata
class MovieLens100K(_TabularDataset):
    """100,000 ratings of 1,682 films by 943 users, in one of the five official folds, with attributes of both.

    Ratings are five relations, ``rate_1`` to ``rate_5``, from ``user/1`` to ``movie/1``. Users have ``age`` (a number),
    ``gender``, ``occupation`` and ``zip`` (categories; its first two characters); films have ``title`` (a text, without
    the year), ``release_date`` (a number of days; missing once) and ``genre`` (any of 19 labels). These are the
    attributes of MKBE's authors but for the posters, which are no part of the data.

    The data may not be passed on, and is downloaded from its publisher to the cache of PyKEEN. Files in the folder
    ``ml-100k`` there are taken instead.

    The statistics below are those of the links: with attributes, there are entities for values, and triples of them.
    ---
    name: MovieLens-100K
    citation:
        author: Harper
        year: 2015
        link: https://doi.org/10.1145/2827872
    statistics:
        entities: 2625
        relations: 5
        training: 80000
        testing: 20000
        validation: 0
        triples: 100000
    """

    url: ClassVar[str] = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"

    def __init__(
        self,
        *,
        fold: int = 1,
        attributes: Sequence[str] = ATTRIBUTES,
        validation_share: float = 0.0,
        posters: str | pathlib.Path | None = None,
        image_size: int = 64,
        seed: int = 0,
        cache_root: str | pathlib.Path | None = None,
        create_inverse_triples: bool = False,
    ) -> None:
        """Initialize the data set.

        :param fold: the official fold, 1 to 5
        :param attributes: which attributes; ``()``: ratings only
        :param validation_share: the share of the ratings of training which is split off for validation
        :param posters: a folder of yours with pictures of films, ``1.jpg``, ``1.jpeg`` or ``1.png`` for ``movie/1``
        :param image_size: the height and width which posters are brought to
        :param seed: for the split
        :param cache_root: where the data is kept
        :param create_inverse_triples: whether training has an inverse for each link

        :raises ConfigurationError: if there is no such fold or attribute, or if the share is impossible
        """
        unknown = sorted(set(attributes) - set(ATTRIBUTES))
        if fold not in FOLDS or unknown:
            raise ConfigurationError(
                f"fold={fold!r}, attributes={tuple(attributes)!r}: choose of {FOLDS}, {ATTRIBUTES}."
            )
        if not 0 <= validation_share < 1:
            raise ConfigurationError(f"validation_share={validation_share!r} must be from 0 to less than 1.")
        self.cache_root = self._help_cache(cache_root)
        self.fold, self.attributes, self.validation_share = fold, tuple(attributes), validation_share
        self.posters = None if posters is None else pathlib.Path(posters)
        self.seed = seed
        self._kwargs = {"image_size": image_size, "create_inverse_triples": create_inverse_triples}

    def files(self) -> MovieLensFiles:
        """Find or download the files."""
        folder = self.cache_root / "ml-100k"
        if folder.is_dir():
            return MovieLensFiles(folder)
        return MovieLensFiles(_fetch(self.url, self.cache_root / "ml-100k.zip", "MovieLens-100K"))

    # docstr-coverage: inherited
    def _tables(self) -> tuple[Tables, Tables, Tables | None, dict[str, Any]]:
        files = self.files()
        training, testing = (files.ratings(f"u{self.fold}.{part}") for part in ("base", "test"))
        validation = None
        if self.validation_share:
            chosen = training.sample(frac=self.validation_share, random_state=self.seed).index
            validation, training = Tables(links=training.loc[chosen]), training.drop(index=chosen)
        tables = replace(files.attributes(self.attributes), links=training, images=self._poster_table())
        return tables, Tables(links=testing), validation, {**self._kwargs, "entities": files.entities()}

    def _poster_table(self) -> pd.DataFrame | None:
        if self.posters is None:
            return None
        paths = sorted(path for path in self.posters.glob("*.*") if path.suffix.lower() in _PICTURES)
        films = set(self.files().entities())
        rows = [(f"movie/{path.stem}", "poster", path) for path in paths if f"movie/{path.stem}" in films]
        if not rows:
            raise ConfigurationError(
                f"posters='{self.posters}' has no picture of a film, 1.jpg, 2.png or the like; check the folder."
            )
        return pd.DataFrame(rows, columns=list(VALUE_COLUMNS))


@parse_docdata
class FB15k237Numeric(_TabularDataset):
    """FB15k-237 with the 29,247 numbers of its entities in Freebase, under 116 attributes (García-Durán & Niepert).

    A share of the numbers is held out for validation and testing, in the same factories as the links: attributes of
    training are completed, and ``evaluator="entityranking"`` looks at links only. All 14,541 entities have ids, also
    the 36 which no training link has.

    The statistics below are those of the links: numbers add entities for values, and triples of them.
    ---
    name: FB15k-237 with numbers
    citation:
        author: García-Durán
        year: 2018
        link: https://arxiv.org/abs/1709.04676
        github: mniepert/mmkb
    statistics:
        entities: 14541
        relations: 237
        training: 272115
        testing: 20466
        validation: 17535
        triples: 310116
    """

    url: ClassVar[str] = "https://raw.githubusercontent.com/mniepert/mmkb/master/FB15K/FB15K_NumericalTriples.txt"

    def __init__(
        self,
        *,
        attributes: Sequence[str] | None = None,
        min_count: int = 1,
        held_out: float = 0.2,
        seed: int = 0,
        cache_root: str | pathlib.Path | None = None,
        create_inverse_triples: bool = False,
    ) -> None:
        """Initialize the data set.

        :param attributes: which attributes, e.g., ``("people.person.height_meters",)``; None: all, ``()``: none
        :param min_count: attributes with fewer numbers are left out
        :param held_out: the share of the numbers of each attribute which is held out, half of it for validation
        :param seed: for the split of the numbers
        :param cache_root: where the numbers are kept; FB15k-237 itself is where PyKEEN keeps it
        :param create_inverse_triples: whether training has an inverse for each link

        :raises ConfigurationError: if the share is impossible
        """
        if not 0 <= held_out < 1:
            raise ConfigurationError(f"held_out={held_out!r} must be from 0 to less than 1.")
        self.cache_root = self._help_cache(cache_root)
        self.attributes, self.min_count = attributes, min_count
        self.held_out, self.seed = held_out, seed
        self._kwargs = {"create_inverse_triples": create_inverse_triples}

    def numbers(self) -> pd.DataFrame:
        """Read the numbers.

        :returns: columns ``entity``, ``attribute``, ``value``, attributes by their short names

        :raises ConfigurationError: if there is no such attribute
        """
        path = _fetch(self.url, self.cache_root / "FB15K_NumericalTriples.txt", "The numbers of FB15k-237")
        frame = pd.read_csv(path, sep="\t", header=None, names=list(VALUE_COLUMNS), dtype=str, keep_default_na=False)
        frame["attribute"] = frame["attribute"].str.replace(r"^<.*/ns/(.*)>$", r"\1", regex=True)
        frame["value"] = frame["value"].astype(float)
        if self.attributes is not None:
            unknown = sorted(set(self.attributes) - set(frame["attribute"]))
            if unknown:
                raise ConfigurationError(f"attribute {unknown[0]!r} is none of {sorted(set(frame['attribute']))}.")
            frame = frame[frame["attribute"].isin(self.attributes)]
        return frame.reset_index(drop=True)

    # docstr-coverage: inherited
    def _tables(self) -> tuple[Tables, Tables, Tables | None, dict[str, Any]]:
        from ..datasets import read_splits

        splits = read_splits("fb15k237")
        links = [
            pd.DataFrame(triples, columns=list(LINK_COLUMNS))
            for triples in (splits.training, splits.testing, splits.validation)
        ]
        known = np.unique(np.concatenate([frame[["head", "tail"]].to_numpy().ravel() for frame in links]))
        numbers = self.numbers()
        numbers = numbers[numbers["entity"].isin(known)]
        counts = numbers.groupby("attribute")["value"].transform("size")
        numbers = numbers[counts >= max(1, self.min_count)].reset_index(drop=True)
        parts = self._split(numbers)
        training, testing, validation = (
            Tables(links=frame, numeric=part if len(part) else None) for frame, part in zip(links, parts, strict=True)
        )
        return training, testing, validation, self._kwargs

    def _split(self, numbers: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Split the numbers of each attribute into training, testing and validation."""
        shuffled = numbers.sample(frac=1.0, random_state=self.seed)
        place = shuffled.groupby("attribute").cumcount()
        size = shuffled.groupby("attribute")["value"].transform("size")
        held_out = (size * self.held_out / 2).astype(int)
        is_testing, is_validation = place < held_out, (place >= held_out) & (place < 2 * held_out)
        rest = ~(is_testing | is_validation)
        return shuffled[rest].sort_index(), shuffled[is_testing].sort_index(), shuffled[is_validation].sort_index()

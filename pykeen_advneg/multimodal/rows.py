"""From the rows of tables to attributes and to triples."""

from __future__ import annotations

import pathlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..errors import ConfigurationError
from .attributes import Attribute, distinct, picture_key
from .tables import KINDS, Kind, Rows, Tables, Unknown, read_rows

__all__ = ["Part", "build_attributes", "read_parts"]

#: a row of a table ``multi_hot`` is one of several
_KEYS: Mapping[str, Sequence[str]] = {"multi_hot": ("entity", "attribute", "value")}
_ENTITY_AND_ATTRIBUTE = ("entity", "attribute")

_MAP_DIMENSIONS = 3
#: how many channels pictures have: grey, colours, colours and transparency
_CHANNELS = (1, 3, 4)


class Part:
    """The rows of one attribute in one table: its entities and their values, one each."""

    def __init__(self, name: str, kind: Kind, rows: Rows, values: Sequence[Any] | np.ndarray) -> None:
        """Initialize the part.

        :param name: the name of the attribute
        :param kind: what its values are
        :param rows: where the entities and values come from, one row each
        :param values: numbers, labels, arrays, or tuples of labels
        """
        self.name, self.kind, self.rows, self.values = name, kind, rows, values

    @property
    def entities(self) -> pd.Series:
        """The entity of each value."""
        return self.rows.frame["entity"]

    def keys(self, attribute: Attribute) -> Sequence[Hashable] | np.ndarray:
        """Give what tells the values apart, see :meth:`Attribute.keys`."""
        if self.kind == "images":
            return [picture_key(value) for value in self.values]
        if self.kind == "multi_hot":
            return [picture_key(row) for row in _multi_hot(self.values, attribute.labels)]
        return self.values


def read_parts(tables: Tables, known: pd.Index, unknown: Unknown = "raise", image_size: int = 64) -> dict[str, Part]:
    """Read all tables but the links.

    :param tables: the tables
    :param known: the entities of the graph
    :param unknown: what to do with rows of others
    :param image_size: the height and width which pictures from files are brought to

    :returns: the parts by the name of their attribute, in the order of :data:`KINDS` and of the names

    :raises ConfigurationError: if a row is bad, or an attribute in two tables
    """
    parts: dict[str, Part] = {}
    for kind in KINDS:
        source = getattr(tables, kind)
        if source is None:
            continue
        rows = read_rows(kind, source, are_labels=kind in {"categorical", "multi_hot", "text"})
        rows.check_keys(_KEYS.get(kind, _ENTITY_AND_ATTRIBUTE))
        rows = rows.check_known("entity", known, unknown)
        if kind == "numeric":
            rows = Rows(kind, rows.frame.assign(value=rows.numbers()), rows.places, rows.folder)
        for name, group in rows.frame.groupby("attribute", sort=True):
            if name in parts:
                raise ConfigurationError(
                    f"attribute {name!r} is in the tables {parts[str(name)].kind} and {kind}; rename one of them."
                )
            keep = np.zeros(len(rows.frame), dtype=bool)
            keep[group.index] = True
            parts[str(name)] = _part(str(name), kind, rows.take(keep), image_size)
    return parts


def _part(name: str, kind: Kind, rows: Rows, image_size: int) -> Part:
    if kind == "numeric":
        return Part(name, kind, rows, rows.frame["value"].to_numpy(dtype=np.float64))
    if kind == "images":
        pictures = [_picture(rows, row, image_size) for row in range(len(rows.frame))]
        return Part(name, kind, rows, pictures)
    if kind == "multi_hot":
        first = ~rows.frame.duplicated("entity").to_numpy()
        labels = rows.frame.groupby("entity", sort=False)["value"].agg(tuple)
        return Part(name, kind, rows.take(first), labels.tolist())
    return Part(name, kind, rows, rows.frame["value"].tolist())


def _picture(rows: Rows, row: int, image_size: int) -> np.ndarray:
    """Read a picture file into ``(3, size, size)`` of bytes, or take an array as it is."""
    value = rows.frame["value"].iloc[row]
    if isinstance(value, str | pathlib.Path):
        path = pathlib.Path(value)
        if rows.folder is not None and not path.is_absolute():
            path = rows.folder / path
        from PIL import Image

        try:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB").resize((image_size, image_size)))
        except (OSError, ValueError) as error:
            raise rows.fail(row, "value", f"cannot be read as a picture ({error})", "correct the path") from error
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    array = np.asarray(value)
    is_real = np.issubdtype(array.dtype, np.floating) or array.dtype == np.uint8
    if not is_real or not array.ndim or not np.isfinite(array).all():
        raise rows.fail(row, "value", "is no path and no array of bytes or finite real numbers", "give one of these")
    if _has_channels_last(array):
        shape = "has the shape (height, width, channels)"
        raise rows.fail(row, "value", shape, "give (channels, height, width), e.g., by array.transpose(2, 0, 1)")
    return array if array.dtype == np.uint8 else array.astype(np.float32)


def _has_channels_last(array: np.ndarray) -> bool:
    """Tell whether an array is a picture whose colours come last, which would be read as maps of three columns."""
    return (
        array.ndim == _MAP_DIMENSIONS
        and array.shape[0] not in _CHANNELS
        and array.shape[2] in _CHANNELS
        and (array.dtype == np.uint8 or array.shape[1] > max(_CHANNELS))
    )


def _multi_hot(values: Sequence[Any] | np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """Mark the labels of each value; unknown ones make a row which no attribute has."""
    index = pd.Index(columns)
    matrix = np.zeros((len(values), len(columns)), dtype=np.float32)
    for row, labels in zip(matrix, values, strict=True):
        places = index.get_indexer(pd.Index(labels))
        row[places] = 1.0
        if (places < 0).any():
            row[:] = np.nan
    return matrix


def build_attributes(training: Mapping[str, Part], others: Sequence[Mapping[str, Part]], start: int) -> list[Attribute]:
    """Give the distinct values of all attributes ids.

    :param training: the parts of the training tables
    :param others: those of other tables, whose values get ids, too
    :param start: the first id

    :returns: the attributes

    :raises ConfigurationError: if an attribute has no training rows, or is of different kinds
    """
    attributes = []
    for name in dict.fromkeys([*training, *(name for parts in others for name in parts)]):
        same = [parts[name] for parts in others if name in parts]
        kinds = {part.kind for part in [*same, *([training[name]] if name in training else [])]}
        if len(kinds) > 1:
            raise ConfigurationError(f"attribute {name!r} is {' and '.join(sorted(kinds))}; rename one of them.")
        kind = next(iter(kinds))
        own = list(training[name].values) if name in training else []
        rest = [value for part in same for value in part.values]
        build = _build_multi_hot if kind == "multi_hot" else distinct
        attribute = build(name, kind, start, own, rest)
        start += len(attribute)
        attributes.append(attribute)
    return attributes


def _build_multi_hot(name: str, kind: Kind, start: int, training: Sequence[Any], others: Sequence[Any]) -> Attribute:
    if not len(training):
        return distinct(name, kind, start, training, others)
    values = [*training, *others]
    columns = tuple(sorted({label for labels in values for label in labels}))
    rows, places = np.unique(_multi_hot(values, columns), axis=0, return_inverse=True)
    seen = torch.zeros(len(rows), dtype=torch.bool)
    seen[torch.from_numpy(places.reshape(-1)[: len(training)])] = True
    return Attribute(name, kind, start, torch.from_numpy(rows), columns, seen)

"""Tables of links and of attribute values, from files or frames; bad ones are refused with row and column."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from ..errors import ConfigurationError

__all__ = ["KINDS", "LINK_COLUMNS", "VALUE_COLUMNS", "Kind", "Rows", "Table", "Tables", "Unknown", "read_rows"]

#: a frame, or a file of tab-separated values in UTF-8, compressed or not
Table: TypeAlias = "str | pathlib.Path | pd.DataFrame"

#: what a value of an attribute is
Kind: TypeAlias = Literal["numeric", "categorical", "multi_hot", "text", "images"]

#: what to do with rows of entities which the graph does not have
Unknown: TypeAlias = Literal["raise", "drop"]

KINDS: tuple[Kind, ...] = ("numeric", "categorical", "multi_hot", "text", "images")
LINK_COLUMNS = ("head", "relation", "tail")
VALUE_COLUMNS = ("entity", "attribute", "value")

#: dates become days since 1970
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Tables:
    """The tables of a graph, or of some of its rows; all of them are optional.

    A table has three columns, found by their names, or, if none of the names is there, by their order.
    """

    #: columns ``head``, ``relation``, ``tail``
    links: Table | None = None

    #: columns ``entity``, ``attribute``, ``value``: a number or a date
    numeric: Table | None = None

    #: columns ``entity``, ``attribute``, ``value``: the name of a category
    categorical: Table | None = None

    #: columns ``entity``, ``attribute``, ``value``: one of several labels; a row for each
    multi_hot: Table | None = None

    #: columns ``entity``, ``attribute``, ``value``: a text
    text: Table | None = None

    #: columns ``entity``, ``attribute``, ``value``: the path of a picture, or an array
    images: Table | None = None

    def given(self) -> list[str]:
        """Name the tables which are there."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]


@dataclass(frozen=True)
class Rows:
    """The rows of a table, and where each stands."""

    #: ``links`` or the kind of the values
    table: str

    #: the three columns, by their names
    frame: pd.DataFrame

    #: where a row stands, in words
    places: Sequence[str]

    #: relative paths in the table start here
    folder: pathlib.Path | None = None

    def fail(self, row: int, column: str, problem: str, advice: str) -> ConfigurationError:
        """Make the error of a row.

        :param row: its number, from 0
        :param column: the name of the column
        :param problem: what is wrong with it
        :param advice: what to do

        :returns: the error
        """
        value = self.frame[column].iloc[row]
        shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:80]}..."  # noqa: PLR2004
        return ConfigurationError(f"{self.table}, {self.places[row]}, column {column!r}: {shown} {problem}; {advice}.")

    def take(self, keep: np.ndarray) -> Rows:
        """Keep some rows.

        :param keep: which, shape: ``(n,)``

        :returns: the rest
        """
        places = [place for place, kept in zip(self.places, keep, strict=True) if kept]
        return Rows(self.table, self.frame[keep].reset_index(drop=True), places, self.folder)

    def check_keys(self, columns: Sequence[str]) -> None:
        """Check that no row repeats another one in some columns.

        :param columns: the names of the columns

        :raises ConfigurationError: if a row does
        """
        again = self.frame.duplicated(list(columns)).to_numpy()
        if again.any():
            row = int(again.argmax())
            key = ", ".join(f"{column} {self.frame[column].iloc[row]!r}" for column in columns)
            same = (self.frame[list(columns)] == self.frame[list(columns)].iloc[row]).all(axis=1).to_numpy()
            raise self.fail(
                row,
                columns[-1],
                f"stands there a second time ({key}; first in {self.places[int(same.argmax())]})",
                "keep one row, or put several values of an entity into a table multi_hot",
            )

    def check_known(self, column: str, known: pd.Index, unknown: Unknown) -> Rows:
        """Check that the entities of a column are those of a graph.

        :param column: the name of the column
        :param known: the entities
        :param unknown: ``raise`` an error, or ``drop`` the row

        :returns: the rows of known entities

        :raises ConfigurationError: if one is not known
        """
        strange = ~self.frame[column].isin(known).to_numpy()
        if not strange.any():
            return self
        if unknown == "drop":
            return self.take(~strange)
        raise self.fail(
            int(strange.argmax()),
            column,
            "is no entity of the links",
            "add it by entities=[...], or leave out rows of unknown entities by unknown='drop'",
        )

    def numbers(self) -> np.ndarray:
        """Give the values as numbers; dates as days since 1970.

        :returns: shape: ``(n,)``, of 64 bits

        :raises ConfigurationError: if a value is no finite number
        """
        values = self.frame["value"]
        if pd.api.types.is_datetime64_any_dtype(values):
            naive = values.dt.tz_convert(None) if getattr(values.dt, "tz", None) is not None else values
            return ((naive - pd.Timestamp(0)) / _DAY).to_numpy(dtype=np.float64)
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
        bad = ~np.isfinite(numbers)
        if bad.any():
            raise self.fail(int(bad.argmax()), "value", "is no finite number", "correct it, or leave the row out")
        return numbers


def read_rows(table: str, source: Table, are_labels: bool = True) -> Rows:
    """Read a table, and check that it has its columns and no gaps.

    A file has no header, or one with exactly the names of the columns.

    :param table: ``links`` or the kind of the values
    :param source: a frame or a file
    :param are_labels: whether the last column holds labels, too, which become strings

    :returns: its rows

    :raises ConfigurationError: if it cannot be read, lacks a column, or if something is missing in a row
    """
    columns = LINK_COLUMNS if table == "links" else VALUE_COLUMNS
    folder = None
    if isinstance(source, pd.DataFrame):
        frame = _choose(table, source, columns)
        places = [f"row {index!r}" for index in frame.index.tolist()]
    else:
        folder = pathlib.Path(source).parent
        frame = _read_file(table, pathlib.Path(source), columns)
        places = [f"line {line}" for line in frame.index.tolist()]
    rows = Rows(table, frame.reset_index(drop=True), places, folder)
    for column in columns:
        empty = (rows.frame[column].isna() | rows.frame[column].map(_is_blank)).to_numpy(dtype=bool)
        if empty.any():
            raise rows.fail(
                int(empty.argmax()), column, "is missing", "an entity without a value has no row: leave it out"
            )
    labels = columns if are_labels else columns[:-1]
    return Rows(table, rows.frame.assign(**{name: rows.frame[name].astype(str) for name in labels}), places, folder)


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def _choose(table: str, frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Choose the three columns."""
    names = list(frame.columns)
    if set(columns) <= set(names):
        return frame[list(columns)]
    if not set(columns) & set(names) and len(names) == len(columns):
        return frame.set_axis(list(columns), axis=1)
    missing = [column for column in columns if column not in names]
    raise ConfigurationError(f"{table}: lacks the column {missing[0]!r}; it has {names}. Name them {list(columns)}.")


def _read_file(table: str, path: pathlib.Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a file; the index of the frame has the numbers of the lines."""
    try:
        frame = pd.read_csv(
            path,
            sep="\t",
            header=None,
            dtype=str,
            keep_default_na=False,
            quoting=csv.QUOTE_NONE,
            skip_blank_lines=False,
        )
    except (OSError, ValueError, EOFError) as error:
        raise ConfigurationError(f"{table}: the file '{path}' cannot be read: {error}.") from error
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    if len(frame.columns) != len(columns):
        raise ConfigurationError(
            f"{table}: the file '{path}' has {len(frame.columns)} columns; it must have {len(columns)}, separated by "
            f"tabs: {list(columns)}."
        )
    frame = frame.set_axis(list(columns), axis=1)
    is_header = bool(len(frame)) and frame.iloc[0].tolist() == list(columns)
    return frame.iloc[1:] if is_header else frame

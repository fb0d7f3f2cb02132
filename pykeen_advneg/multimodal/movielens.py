"""The files of MovieLens-100K as tables."""

from __future__ import annotations

import io
import pathlib
import re
import zipfile

import pandas as pd

from ..errors import ConfigurationError
from .tables import LINK_COLUMNS, VALUE_COLUMNS, Tables

__all__ = ["ATTRIBUTES", "FOLDS", "MovieLensFiles"]

FOLDS = (1, 2, 3, 4, 5)

#: the attributes of users and of films
ATTRIBUTES = ("age", "gender", "occupation", "zip", "title", "release_date", "genre")

_YEAR = re.compile(r"\s*\(\d{4}\)\s*$")
_FIRST_GENRE = 5


class MovieLensFiles:
    """Reads ``ml-100k.zip``, or the files of it in a folder.

    The licence of the data forbids to pass it on: neither files nor tables belong into a repository.
    """

    def __init__(self, source: pathlib.Path) -> None:
        """Initialize the reader.

        :param source: the archive, or a folder with ``u.item``, ``u.user``, ``u.genre``, ``u1.base``, ...
        """
        self.source = source

    def _read(self, name: str, separator: str, columns: int) -> pd.DataFrame:
        try:
            if self.source.is_dir():
                data = (self.source / name).read_bytes()
            else:
                with zipfile.ZipFile(self.source) as archive:
                    data = archive.read(f"ml-100k/{name}")
            text = data.decode("latin-1")
            frame = pd.read_csv(io.StringIO(text), sep=separator, header=None, dtype=str, keep_default_na=False)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ConfigurationError(
                f"MovieLens-100K: {name!r} cannot be read from '{self.source}' ({error}); delete it, so that it is "
                f"downloaded anew, or put the files of ml-100k.zip there."
            ) from error
        if len(frame.columns) < columns:
            raise ConfigurationError(f"MovieLens-100K: {name!r} has {len(frame.columns)} columns instead of {columns}.")
        return frame

    def ratings(self, name: str) -> pd.DataFrame:
        """Read ratings as links from users to films, of one relation for each rating.

        :param name: the name of the file

        :returns: columns ``head``, ``relation``, ``tail``
        """
        frame = self._read(name, "\t", 3)
        return pd.DataFrame(
            dict(zip(LINK_COLUMNS, ("user/" + frame[0], "rate_" + frame[2], "movie/" + frame[1]), strict=True))
        )

    def entities(self) -> list[str]:
        """Name all users and films, also those which a fold does not train on."""
        users, films = self._read("u.user", "|", 5)[0], self._read("u.item", "|", 24)[0]
        return [*("user/" + users), *("movie/" + films)]

    def attributes(self, names: tuple[str, ...] = ATTRIBUTES) -> Tables:
        """Read attributes.

        A release date which is missing has no row; of a zip code, the first two characters count; the year at the end
        of a title is left out.

        :param names: which of :data:`ATTRIBUTES`

        :returns: the tables, without links
        """
        users, films = self._read("u.user", "|", 5), self._read("u.item", "|", 24)
        user, film = "user/" + users[0], "movie/" + films[0]
        dated = films[2].str.strip() != ""
        tables = {
            "age": _rows(user, "age", users[1].astype(float)),
            "gender": _rows(user, "gender", users[2]),
            "occupation": _rows(user, "occupation", users[3]),
            "zip": _rows(user, "zip", users[4].str[:2]),
            "title": _rows(film, "title", films[1].map(lambda title: _YEAR.sub("", title) or title)),
            "release_date": _rows(film[dated], "release_date", _days(films[2][dated])),
            "genre": self._genres(films, film),
        }

        def choose(*group: str) -> pd.DataFrame | None:
            chosen = [tables[name] for name in group if name in names]
            return pd.concat(chosen, ignore_index=True) if chosen else None

        return Tables(
            numeric=choose("age", "release_date"),
            categorical=choose("gender", "occupation", "zip"),
            multi_hot=choose("genre"),
            text=choose("title"),
        )

    def _genres(self, films: pd.DataFrame, film: pd.Series) -> pd.DataFrame:
        genres = self._read("u.genre", "|", 2)[0].tolist()
        flags = films.iloc[:, _FIRST_GENRE : _FIRST_GENRE + len(genres)].set_axis(genres, axis=1)
        long = flags.assign(film=film).melt(id_vars="film", var_name="genre", value_name="flag")
        long = long[long["flag"] == "1"]
        return _rows(long["film"], "genre", long["genre"])


def _rows(entities: pd.Series, attribute: str, values: pd.Series) -> pd.DataFrame:
    columns = (entities.to_numpy(), attribute, values.to_numpy())
    return pd.DataFrame(dict(zip(VALUE_COLUMNS, columns, strict=True)))


def _days(dates: pd.Series) -> pd.Series:
    return (pd.to_datetime(dates, format="%d-%b-%Y") - pd.Timestamp(0)).dt.days.astype(float)

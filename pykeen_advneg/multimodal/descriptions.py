"""Texts of the entities of a graph: from a table of yours, or for two data sets of PyKEEN's from their publisher."""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from pathlib import Path

from pykeen.constants import PYKEEN_DATASETS

from ..errors import ConfigurationError
from .fetching import fetch

__all__ = ["TEXTS", "entity_texts", "read_texts"]

_FOLDER = "https://raw.githubusercontent.com/yao8839836/kg-bert/0b8f625108efcb9b43603b6840f2548ff3d3c973/data"

#: data set -> where its texts are: descriptions from Freebase (Xie et al., 2016), definitions of WordNet 3.0
TEXTS: Mapping[str, str] = {
    "fb15k237": f"{_FOLDER}/FB15k-237/entity2textlong.txt",
    "wn18rr": f"{_FOLDER}/WN18RR/entity2text.txt",
}

#: entity, name, text, and perhaps where the text comes from
_WITH_NAME = 3


def entity_texts(dataset: str, cache_root: str | Path | None = None) -> dict[str, str]:
    """Give the texts of the entities of a data set of PyKEEN's, for ``text_features``.

    They are downloaded once, from the repository of KG-BERT (Yao et al., 2019).

    :param dataset: ``fb15k237`` or ``wn18rr``
    :param cache_root: where they are kept; in PyKEEN's home by default

    :returns: text by label

    :raises ConfigurationError: if there are none for this data set, or if they cannot be downloaded
    """
    if dataset not in TEXTS:
        raise ConfigurationError(
            f"dataset={dataset!r}: there are texts of {sorted(TEXTS)}; read others by read_texts(path)."
        )
    root = Path(PYKEEN_DATASETS) / dataset if cache_root is None else Path(cache_root)
    return read_texts(fetch(TEXTS[dataset], root / "entity2text.txt"))


def read_texts(path: str | Path) -> dict[str, str]:
    """Read a table with a line for each entity, columns separated by tabs: label, text; or label, name, text, others.

    :param path: the file, in UTF-8, with or without a byte order mark; or that compressed with xz

    :returns: text by label

    :raises ConfigurationError: if there is no such file, or if a line has one column only, or a label which was there
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigurationError(f"texts: there is no file '{path}'.")
    texts: dict[str, str] = {}
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            label, *columns = line.rstrip("\r\n").split("\t")
            if not label and not columns:
                continue
            if not columns or label in texts:
                what = f"{label!r} a second time" if columns else f"no tab in {line[:60]!r}"
                raise ConfigurationError(f"texts: '{path}', line {number}: {what}; expected a label and its text.")
            texts[label] = columns[min(len(columns), _WITH_NAME - 1) - 1]
    return texts

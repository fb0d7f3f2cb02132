"""Write a data set of PyKEEN, or a folder of files, in LibKGE's format."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from pykeen.triples import CoreTriplesFactory, TriplesFactory

from pykeen_advneg.datasets import Vocabulary, load_dataset
from pykeen_advneg.errors import ConfigurationError

__all__ = ["convert"]

#: LibKGE's names of the splits
SPLITS = {"training": "train", "validation": "valid", "testing": "test"}


def convert(dataset: str | Path, folder: Path, vocabulary: Vocabulary = "all") -> Path:
    """Write a data set for LibKGE.

    With the vocabulary ``training``, entities and relations keep the numbers which they have in PyKEEN. The folder
    appears when all of it is written.

    :param dataset: a name of PyKEEN's, or a folder with the files ``train``, ``valid`` and ``test``
    :param folder: the new folder; LibKGE finds it by its name in the folder ``data`` beside its package ``kge``
    :param vocabulary: whether numbers are given to what occurs in ``all`` splits, as LibKGE does, or in ``training``,
        as PyKEEN does, which drops evaluation triples with anything else

    :returns: the folder

    :raises ConfigurationError: if there is no such data set, or if the folder exists
    """
    if folder.exists():
        raise ConfigurationError(f"{folder} exists; remove it, or choose another name.")
    loaded = load_dataset(dataset, vocabulary)
    factories = {SPLITS[name]: factory for name, factory in loaded.factory_dict.items()}
    missing = set(SPLITS.values()) - set(factories)
    if missing:
        raise ConfigurationError(f"dataset {str(dataset)!r} has no split {sorted(missing)}, which LibKGE needs.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(partial, folder.name, factories)
        partial.chmod(0o755)
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder


def _write(folder: Path, name: str, factories: Mapping[str, CoreTriplesFactory]) -> None:
    """Write all files."""
    training = factories["train"]
    sizes = {"entity": training.num_entities, "relation": training.num_relations}
    description: dict[str, object] = {"name": name}
    for kind, size in sizes.items():
        lines = (f"{number}\t{label}\n" for number, label in enumerate(_labels(training, kind, size)))
        (folder / f"{kind}_ids.del").write_text("".join(lines), encoding="utf-8")
        description[f"num_{'entities' if kind == 'entity' else 'relations'}"] = size
        description[f"files.{kind}_ids.filename"] = f"{kind}_ids.del"
        description[f"files.{kind}_ids.type"] = "map"
    for split, factory in factories.items():
        np.savetxt(folder / f"{split}.del", factory.mapped_triples.numpy(), fmt="%d", delimiter="\t")
        description[f"files.{split}.filename"] = f"{split}.del"
        description[f"files.{split}.type"] = "triples"
        description[f"files.{split}.size"] = factory.num_triples
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"dataset": description}), encoding="utf-8")


def _labels(factory: CoreTriplesFactory, kind: str, size: int) -> list[str]:
    """Return the labels in the order of the numbers; the numbers themselves where there are no labels."""
    if not isinstance(factory, TriplesFactory):
        return [str(number) for number in range(size)]
    names = factory.entity_id_to_label if kind == "entity" else factory.relation_id_to_label
    # tabs and ends of lines would be taken for separators
    return [" ".join(str(names[number]).split()) for number in range(size)]

"""Data sets from their publishers, and texts: from files which lie there already."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
from pykeen.datasets import dataset_resolver

from pykeen_advneg.datasets import load_dataset, read_splits
from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.multimodal import descriptions, entity_texts, fetching, read_texts
from pykeen_advneg.multimodal.published import DB15K, MKGW, carve

ENTITIES = ["a", "b c", "<http://d>", "e", "nowhere else"]


def write(folder: Path, **files: str) -> Path:
    """A graph in the format of OpenKE: head, tail, relation; the validation triples leak."""
    training = [(h, t, r) for h in range(4) for t in range(4) for r in range(2) if h != t]
    texts = {
        "entity2id.txt": "5\n" + "".join(f"{label}\t{i}\n" for i, label in enumerate(ENTITIES)),
        "relation2id.txt": "2\nr 0\ns 1\n",
        "train2id.txt": f"{len(training)}\n" + "".join(f"{h} {t} {r}\n" for h, t, r in training),
        "valid2id.txt": "2\n0 1 0\n0 1 0\n",
        "test2id.txt": "2\n4 0 1\n0 1 1\n",
    }
    # a data set has its own folder below the cache
    for name in ("mkgw", "db15k"):
        (folder / name).mkdir(exist_ok=True)
    for name, text in (texts | {f"{key}2id.txt": text for key, text in files.items()}).items():
        for graph in ("mkgw", "db15k"):
            (folder / graph / name).write_text(text, encoding="utf-8")
    return folder


def test_by_name(tmp_path: Path) -> None:
    dataset = dataset_resolver.make("mkgw", cache_root=write(tmp_path))
    assert isinstance(dataset, MKGW)
    assert dataset.training.entity_to_id == {label: i for i, label in enumerate(ENTITIES)}
    assert dataset.training.num_triples == 24
    # head, relation, tail; distinct; the entity which training lacks has its id
    assert dataset.validation.mapped_triples.tolist() == [[0, 0, 1]]
    assert dataset.testing.mapped_triples.tolist() == [[0, 1, 1], [4, 1, 0]]
    assert dataset.num_entities == 5
    assert dataset_resolver.lookup("db15k") is DB15K


def test_inverse_triples(tmp_path: Path) -> None:
    dataset = MKGW(cache_root=write(tmp_path), create_inverse_triples=True)
    assert dataset.training.num_relations == 4
    assert dataset.testing.num_relations == 2


def test_db15k_is_clean(tmp_path: Path) -> None:
    """No triple is in two splits; the published validation triples are there for who wants them."""
    write(tmp_path)
    dataset = DB15K(cache_root=tmp_path, validation_share=0.25)
    splits = [set(map(tuple, factory.mapped_triples.tolist())) for factory in dataset.factory_dict.values()]
    assert [len(split) for split in splits] == [17, 2, 6]
    assert len(set.union(*splits)) == 25
    again = DB15K(cache_root=tmp_path, validation_share=0.25)
    assert again == dataset
    assert DB15K(cache_root=tmp_path, validation_share=0.25, seed=1) != dataset
    leaking = DB15K(cache_root=tmp_path, validation="published")
    assert leaking.validation.mapped_triples.tolist() == [[0, 0, 1]]
    assert leaking.training.num_triples == 24


def test_carve() -> None:
    rows = np.arange(60).reshape(-1, 3)
    training, validation = carve(rows, rows[:5], 0.2, seed=0)
    assert (len(training), len(validation)) == (12, 3)
    assert sorted(np.concatenate([training, validation]).tolist()) == rows[5:].tolist()


def test_labels_of_all_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads data sets by name takes these, too."""
    write(tmp_path)
    monkeypatch.setattr(MKGW, "_help_cache", lambda *_: tmp_path / "mkgw")
    splits = read_splits("mkgw")
    assert splits.testing.tolist() == [["a", "s", "b c"], ["nowhere else", "s", "a"]]
    assert load_dataset("mkgw", "all").num_entities == 5


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": "1\n0 1\n"}, "must have head, tail and relation"),
        ({"train": "1\n0 x 1\n"}, "must have head, tail and relation"),
        ({"train": "1\n0 7 1\n"}, "has an id without a label"),
        ({"entity": "2\na 0\nb\n"}, "must have a label and its id"),
        ({"relation": "2\na 0\nb 0\n"}, "must have a label and its id"),
    ],
)
def test_damaged_files(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MKGW(cache_root=write(tmp_path, **files)).training  # noqa: B018


@pytest.mark.parametrize("kwargs", [{"validation": "leaky"}, {"validation_share": 0.0}, {"validation_share": 1}])
def test_errors(tmp_path: Path, kwargs: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(kwargs))):
        DB15K(cache_root=tmp_path, **kwargs)  # type: ignore[arg-type]


def test_fetch(tmp_path: Path) -> None:
    """Once; a failure leaves nothing behind, and says what to do."""
    source = tmp_path / "source.txt"
    source.write_text("x")
    target = tmp_path / "folder" / "target.txt"
    assert fetching.fetch(source.as_uri(), target).read_text() == "x"
    source.unlink()
    assert fetching.fetch(source.as_uri(), target).read_text() == "x"
    with pytest.raises(ConfigurationError, match=r"could not be downloaded .*put it at '.*other.txt'"):
        fetching.fetch(source.as_uri(), tmp_path / "other.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two, four = tmp_path / "two.txt", tmp_path / "four.tsv.xz"
    two.write_text('m\ta "town", in Ünland\n\nn\t\n', encoding="utf-8")
    assert read_texts(two) == {"m": 'a "town", in Ünland', "n": ""}
    two.write_text("m\tx\n", encoding="utf-8-sig")
    assert read_texts(two) == {"m": "x"}, "without the byte order mark"
    two.write_text('m\ta "town", in Ünland\n\nn\t\n', encoding="utf-8")
    four.write_bytes(lzma.compress(b"m\tname\ttext\tsource\n"))
    assert read_texts(four) == {"m": "text"}
    monkeypatch.setattr(descriptions, "TEXTS", {"wn18rr": two.as_uri()})
    assert entity_texts("wn18rr", tmp_path / "cache")["m"].startswith("a ")
    for text, message in (("m\tx\nm\ty\n", "line 2: 'm' a second time"), ("nothing\n", "line 1: no tab")):
        two.write_text(text)
        with pytest.raises(ConfigurationError, match=message):
            read_texts(two)
    with pytest.raises(ConfigurationError, match="there is no file"):
        read_texts(tmp_path / "gone")
    with pytest.raises(ConfigurationError, match="dataset='nations'"):
        entity_texts("nations")

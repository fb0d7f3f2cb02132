"""Data sets from names and folders."""

import bz2
import gzip
import lzma
import pathlib
import zipfile

import numpy as np
import pytest
from pykeen.datasets import get_dataset
from pykeen.datasets.base import PackedZipRemoteDataset, PathDataset

from pykeen_advneg.datasets import LabeledSplits, _read_zip, facts, load_dataset, read_folder, read_splits
from pykeen_advneg.errors import ConfigurationError

TRAIN = "a\tr\tb\nb\tr\tc\nc\ts\ta\n"
#: the second triple has an entity, the third a relation which training does not have
VALID = "a\tr\tc\na\tr\tz\na\tq\tb\n"
TEST = "b\ts\ta\nz\tr\ta\n"


def write_folder(folder: pathlib.Path, suffix: str = ".txt", **splits: str) -> pathlib.Path:
    opener = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}.get(pathlib.PurePath(f"x{suffix}").suffix, open)
    for split, text in {"train": TRAIN, "valid": VALID, "test": TEST, **splits}.items():
        with opener(folder / f"{split}{suffix}", "wb") as file:
            file.write(text.encode())
    return folder


@pytest.mark.parametrize("suffix", ["", ".txt", ".tsv", ".txt.xz", ".tsv.gz", ".txt.bz2", ".gz"])
def test_folder_is_read_in_every_form(tmp_path, suffix):
    splits = read_folder(write_folder(tmp_path, suffix))
    assert splits.training.tolist() == [["a", "r", "b"], ["b", "r", "c"], ["c", "s", "a"]]
    assert splits.testing.tolist() == [["b", "s", "a"], ["z", "r", "a"]]


def test_windows_line_ends_and_empty_lines(tmp_path):
    splits = read_folder(write_folder(tmp_path, train="a\tr\tb\r\n\r\nb\tr\tNA\r\n"))
    assert splits.training.tolist() == [["a", "r", "b"], ["b", "r", "NA"]]


def test_unseen_counts_entities_and_relations(tmp_path):
    assert read_folder(write_folder(tmp_path)).unseen() == {"validation": 2, "testing": 1}


def test_vocabulary_training_drops_and_all_keeps(tmp_path):
    write_folder(tmp_path)
    training, everything = load_dataset(tmp_path, "training"), load_dataset(tmp_path, "all")
    assert (training.num_entities, training.num_relations) == (3, 2)
    assert (training.validation.num_triples, training.testing.num_triples) == (1, 1)
    assert (everything.num_entities, everything.num_relations) == (4, 3)
    assert (everything.validation.num_triples, everything.testing.num_triples) == (3, 2)
    assert everything.testing.num_entities == everything.training.num_entities == 4
    assert facts(tmp_path, training, "training")["dropped"] == 3
    assert facts(tmp_path, everything, "all") == {
        "entities": 4, "relations": 3, "training": 3, "validation": 3, "testing": 2, "unseen": 3, "dropped": 0,
    }  # fmt: skip


def test_training_vocabulary_is_pykeens(tmp_path):
    write_folder(tmp_path)
    own = load_dataset(tmp_path)
    theirs = PathDataset(tmp_path / "train.txt", tmp_path / "test.txt", tmp_path / "valid.txt")
    for split in ("training", "validation", "testing"):
        assert own.factory_dict[split].mapped_triples.equal(theirs.factory_dict[split].mapped_triples)
    assert own.entity_to_id == theirs.entity_to_id


def test_labels_survive_the_ids(tmp_path):
    dataset = load_dataset(write_folder(tmp_path), "all")
    # PyKEEN sorts the triples
    assert sorted(dataset.validation.triples.tolist()) == [["a", "q", "b"], ["a", "r", "c"], ["a", "r", "z"]]


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("vocabulary", ["training", "all"])
def test_inverse_triples(tmp_path, vocabulary, inverse):
    dataset = load_dataset(write_folder(tmp_path), vocabulary, create_inverse_triples=inverse)
    assert dataset.training.create_inverse_triples is inverse
    assert not dataset.testing.create_inverse_triples
    assert dataset.training.num_relations == (2 if vocabulary == "training" else 3) * (2 if inverse else 1)


@pytest.mark.parametrize("name", ["nations", "UMLS", "kinships"])
def test_both_vocabularies_agree_where_nothing_is_unseen(name):
    theirs, own = get_dataset(dataset=name), load_dataset(name, "all")
    assert read_splits(name).unseen() == {"validation": 0, "testing": 0}
    for split in ("training", "validation", "testing"):
        assert own.factory_dict[split].mapped_triples.equal(theirs.factory_dict[split].mapped_triples)


def test_name_is_pykeens_own_data_set():
    assert load_dataset("nations").training.mapped_triples.equal(get_dataset(dataset="nations").training.mapped_triples)


def test_name_wins_over_folder(tmp_path, monkeypatch):
    (tmp_path / "nations").mkdir()
    write_folder(tmp_path / "nations")
    monkeypatch.chdir(tmp_path)
    assert load_dataset("nations").num_entities == 14
    assert load_dataset("./nations").num_entities == 3


def test_zip(tmp_path):
    # PyKEEN's cache is a sub-folder named after the class
    cache = tmp_path / "packedzipremotedataset"
    cache.mkdir()
    with zipfile.ZipFile(cache / "data.zip", "w") as archive:
        for split, text in {"train": TRAIN, "valid": VALID, "test": TEST.replace("z", "NA")}.items():
            archive.writestr(f"inner/{split}.txt", text)
    paths = [pathlib.PurePath("inner", f"{split}.txt") for split in ("train", "test", "valid")]
    splits = _read_zip(PackedZipRemoteDataset(*paths, name="data.zip", cache_root=str(tmp_path)))
    assert splits.testing.tolist() == [["b", "s", "a"], ["NA", "r", "a"]]
    assert len(splits.training) == len(splits.validation) == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\tr\tb\na r b\n", 2), ("a\tr\n", 1), ("a\tr\tb\tc\n", 1), ("\n\na\t\tb\n", 3), ("a\tr\tb\n\tr\tb", 2)],
)
def test_malformed_row_is_named_with_its_line(tmp_path, text, line):
    write_folder(tmp_path, valid=text)
    with pytest.raises(ConfigurationError, match=rf"valid\.txt, line {line}: expected head, relation and tail"):
        load_dataset(tmp_path)


def test_missing_split(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "test.txt").unlink()
    with pytest.raises(ConfigurationError, match=r"has no file test\.txt"):
        load_dataset(tmp_path)


def test_split_twice(tmp_path):
    write_folder(tmp_path)
    write_folder(tmp_path, ".tsv.gz")
    with pytest.raises(ConfigurationError, match=r"several files for 'train': train\.txt, train\.tsv\.gz"):
        load_dataset(tmp_path)


def test_empty_split(tmp_path):
    with pytest.raises(ConfigurationError, match="has no triples"):
        load_dataset(write_folder(tmp_path, test="\n"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00a", b"not compressed"])
def test_unreadable_file(tmp_path, content):
    write_folder(tmp_path, ".txt.xz" if content.startswith(b"not") else ".txt")
    next(tmp_path.glob("train*")).write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("natoins", "did you mean nations"),
        ("qqqq", "choose from aristov4, biokg"),
        ("./nowhere", "the folder './nowhere' does not exist"),
        (pathlib.Path("nations_folder"), "does not exist"),
    ],
)
def test_unknown_dataset(dataset, message):
    with pytest.raises(ConfigurationError, match=message):
        load_dataset(dataset)


def test_unknown_vocabulary():
    with pytest.raises(ConfigurationError, match="vocabulary must be one of"):
        load_dataset("nations", "some")  # type: ignore[arg-type]


def test_failed_download_says_where_the_files_belong(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("pykeen_advneg.datasets.get_dataset", refuse)
    with pytest.raises(ConfigurationError, match=r"'nations' could not be fetched or read: no network.*PyKEEN keeps"):
        load_dataset("nations")


def test_unseen_agrees_with_a_loop_over_triples():
    rng = np.random.default_rng(0)
    training, validation, testing = (rng.integers(0, high, (40, 3)).astype(str) for high in (12, 16, 20))
    entities = {e for h, _, t in training for e in (h, t)}
    relations = {r for _, r, _ in training}
    expected = [
        sum(not ({h, t} <= entities and r in relations) for h, r, t in split) for split in (validation, testing)
    ]
    assert list(LabeledSplits(training, validation, testing).unseen().values()) == expected


@pytest.mark.data("wn18rr")
def test_wn18rr_keeps_its_210_test_triples():
    assert load_dataset("wn18rr").testing.num_triples == 2924
    everything = load_dataset("wn18rr", "all")
    assert everything.testing.num_triples == 3134
    assert everything.num_entities == 40943

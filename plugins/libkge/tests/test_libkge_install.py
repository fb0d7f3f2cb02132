"""Which package is LibKGE, and data sets in its format; without LibKGE."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pykeen.datasets import get_dataset
from typer.testing import CliRunner

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg_libkge.__main__ import app
from pykeen_advneg_libkge.convert import convert
from pykeen_advneg_libkge.installed import TESTED, check_libkge, commit_of

# which kge


def test_wrong_kge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kge"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "kge").mkdir()
    (tmp_path / "kge" / "__init__.py").write_text("ENGINE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"is not LibKGE.*uma-pi1/kge"):
        check_libkge()
    result = CliRunner().invoke(app, ["check"])
    assert isinstance(result.exception, ConfigurationError)


def test_a_checkout_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of a checkout, Python finds the checkout instead of the package in it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "kge"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "kge" / "kge").mkdir(parents=True)
    (tmp_path / "kge" / "kge" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ConfigurationError, match="run the command in another folder"):
        check_libkge()


def test_what_libkge_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kge"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "kge" / "job").mkdir(parents=True)
    (tmp_path / "kge" / "__init__.py").write_text("class Config: pass\nclass Dataset: pass\n")
    (tmp_path / "kge" / "job" / "__init__.py").write_text("from collections import Models\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"ax-platform==0\.4\.3.*sqlalchemy<2"):
        check_libkge()
    monkeypatch.setitem(sys.modules, "kge", None)
    with pytest.raises(ConfigurationError):
        check_libkge()


# data


def test_convert(tmp_path: Path) -> None:
    """What is written is what PyKEEN has, with the same numbers."""
    result = CliRunner().invoke(app, ["convert", "nations", "--into", str(tmp_path), "--vocabulary", "training"])
    assert result.exit_code == 0, result.output
    folder = tmp_path / "nations"
    assert "dataset.name: nations" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["nations"]
    described = yaml.safe_load((folder / "dataset.yaml").read_text())["dataset"]
    dataset = get_dataset(dataset="nations")
    for name, split in {"training": "train", "validation": "valid", "testing": "test"}.items():
        lines = (folder / described[f"files.{split}.filename"]).read_text().splitlines()
        assert [list(map(int, line.split("\t"))) for line in lines] == dataset.factory_dict[
            name
        ].mapped_triples.tolist()
        assert described[f"files.{split}.size"] == len(lines)
    labels = dict(line.split("\t") for line in (folder / "entity_ids.del").read_text().splitlines())
    assert {label: int(number) for number, label in labels.items()} == dataset.entity_to_id
    assert (described["num_entities"], described["num_relations"]) == (dataset.num_entities, dataset.num_relations)
    with pytest.raises(ConfigurationError, match="exists"):
        convert("nations", folder)


def test_convert_a_folder(tmp_path: Path) -> None:
    """Entities which occur in evaluation only are kept; quotes and numbers are labels like others."""
    source = tmp_path / "mine"
    source.mkdir()
    (source / "train.txt").write_text('"a"\tr 1\tb\nb\tr 1\t007\n')
    (source / "valid.txt").write_text('new\tr 1\t"a"\n')
    (source / "test.txt").write_text("b\tr 1\tb\n")
    folder = convert(source, tmp_path / "data" / "mine")
    ids = dict(reversed(line.split("\t")) for line in (folder / "entity_ids.del").read_text().splitlines())
    assert set(ids) == {'"a"', "b", "007", "new"}
    assert (folder / "valid.del").read_text() == f"{ids['new']}\t0\t{ids[chr(34) + 'a' + chr(34)]}\n"
    with pytest.raises(ConfigurationError):
        convert(tmp_path / "nothing", tmp_path / "data" / "nothing")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine"]


def test_the_commit_is_that_of_the_readme(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"git -C ../kge checkout {TESTED}" in readme
    assert commit_of(tmp_path) == "unknown"


def test_the_commit_of_another_checkout(tmp_path: Path) -> None:
    """A folder in a checkout of something else has no commit of its own."""
    inside = tmp_path / "site-packages"
    inside.mkdir()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    assert len(commit_of(tmp_path)) == 40
    assert commit_of(inside) == "unknown"

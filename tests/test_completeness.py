"""Every registered sampler has what it takes: a contract, a page, a citation, ranges for studies, an announcement."""

from __future__ import annotations

from importlib.metadata import EntryPoint, distribution
from pathlib import Path

import pytest
import test_contract
from docdata import get_docdata
from pykeen.sampling import NegativeSampler, negative_sampler_resolver

from pykeen_advneg.sampling.making import GIVEN_BY_THE_LOOP, keywords

ROOT = Path(__file__).parents[1]

#: the samplers of this distribution, not those of others which are installed
SAMPLERS = [entry for entry in distribution("pykeen-advneg").entry_points if entry.group == "pykeen_advneg.samplers"]

every_sampler = pytest.mark.parametrize("entry", SAMPLERS, ids=[entry.name for entry in SAMPLERS])


def test_there_are_samplers() -> None:
    assert "kbgan" in [entry.name for entry in SAMPLERS]


@every_sampler
def test_names(entry: EntryPoint) -> None:
    """The name of the entry point is the one by which PyKEEN knows the class."""
    cls = entry.load()
    assert issubclass(cls, NegativeSampler)
    assert negative_sampler_resolver.lookup(entry.name) is cls
    assert negative_sampler_resolver.normalize_cls(cls) == entry.name.replace("-", "")


@every_sampler
def test_row_of_the_contract(entry: EntryPoint) -> None:
    assert entry.name in test_contract.CONTRACTS, f"add a row for {entry.name!r} to tests/test_contract.py"


@every_sampler
def test_page(entry: EntryPoint) -> None:
    """The page names the sampler and each of its parameters."""
    page = ROOT / "docs" / "samplers" / f"{entry.name}.md"
    assert page.is_file(), f"write {page.relative_to(ROOT)}"
    text = page.read_text(encoding="utf-8")
    assert entry.name in text
    inherited = keywords(NegativeSampler) | GIVEN_BY_THE_LOOP
    missing = [name for name in sorted(keywords(entry.load()) - inherited) if name not in text]
    assert not missing, f"{page.relative_to(ROOT)} does not mention {missing}"


@every_sampler
def test_citation(entry: EntryPoint) -> None:
    docdata = get_docdata(entry.load())
    assert docdata is not None
    assert {"author", "year", "link"} <= set(docdata["citation"])


@every_sampler
def test_ranges(entry: EntryPoint) -> None:
    """A sampler has ranges of its own, not only that of PyKEEN's base class."""
    cls = entry.load()
    assert "hpo_default" in vars(cls)
    assert set(cls.hpo_default) <= keywords(cls)


@every_sampler
def test_documented_parameters(entry: EntryPoint) -> None:
    """The constructor's docstring has a line for each parameter."""
    cls = entry.load()
    text = cls.__init__.__doc__ or ""
    assert [name for name in sorted(keywords(cls)) if f":param {name}:" not in text] == []


@every_sampler
def test_announcement(entry: EntryPoint) -> None:
    assert f"`{entry.name}`" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@every_sampler
def test_declared_for_pykeen(entry: EntryPoint) -> None:
    """The group which a later PyKEEN may read has the same members."""
    theirs = {
        other.name: other.value for other in distribution("pykeen-advneg").entry_points.select(group="pykeen.sampling")
    }
    assert theirs[entry.name] == entry.value

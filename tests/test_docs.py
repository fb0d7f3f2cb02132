"""Everything in the documentation works: Python is executed, commands are parsed, links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import typer
from pykeen.cli import main as pykeen_command

import pykeen_advneg  # noqa: F401  # registers
from pykeen_advneg import experiments
from pykeen_advneg.cli import app
from pykeen_advneg.comparison.configuration import Comparison
from pykeen_advneg.experiments.kbgan import recipes
from pykeen_advneg.queries.__main__ import page
from pykeen_advneg.sampling.base import AdversarialNegativeSampler
from pykeen_advneg.sampling.dans import DANSNegativeSampler
from pykeen_advneg.sampling.emu import EMUNegativeSampler
from pykeen_advneg.sampling.kbgan import KBGANNegativeSampler
from pykeen_advneg_libkge.__main__ import app as libkge_app

ROOT = Path(__file__).parents[1]

PAGES = [ROOT / "README.md", ROOT / "plugins" / "libkge" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]

#: what is neither run nor parsed
OTHER_COMMANDS = {"pip", "cd", "source", "export", "git"}

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:advneg|pykeen|make|python) [^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A block of code, and the number of its first line."""

    language: str
    code: str
    line: int


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [Block(m[1], m[2], text[: m.start(2)].count("\n") + 1) for m in BLOCK.finditer(text)]
    return [block for block in found if block.language in languages]


def commands(page: Path) -> Iterator[tuple[list[str], bool]]:
    """All commands of a page, and whether they are whole: in lines of text, arguments may be left out."""
    code = "".join(block.code for block in blocks(page, "bash")).replace("\\\n", " ")
    prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for lines, whole in ((code.splitlines(), True), (INLINE.findall(prose), False)):
        for line in lines:
            words = shlex.split(line, comments=True)
            if words and words[0] not in OTHER_COMMANDS:
                yield words, whole


def parse(command: Any, words: list[str]) -> None:
    """Parse the words as the command would, subcommands included, without running anything.

    :param command: of click, or of typer, which comes with a click of its own
    :param words: the name of the command and its arguments
    """
    try:
        context = command.make_context(words[0], words[1:])
        while hasattr(command, "resolve_command") and (rest := [*context._protected_args, *context.args]):
            name, command, arguments = command.resolve_command(context, rest)
            context = command.make_context(name, arguments, parent=context)
    except (click.exceptions.Exit, typer.Exit) as end:
        if end.exit_code:  # it is 0 for --help
            raise
    except Exception as error:
        # a group by its name alone shows its help; click and typer have a class of their own each for it
        if type(error).__name__ != "NoArgsIsHelpError":
            raise


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # a script finds its neighbours
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def typer_command(function: Any) -> Any:
    application = typer.Typer()
    application.command()(function)
    return typer.main.get_command(application)


def check(words: list[str]) -> None:
    """Parse a command; what is unknown is an error."""
    program, *arguments = words
    if program == "advneg":
        parse(typer.main.get_command(app), words)
    elif program == "pykeen":
        parse(pykeen_command, words)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {argument for argument in arguments if "=" not in argument} <= set(targets)
    elif program == "advneg-libkge":
        parse(typer.main.get_command(libkge_app), words)
    elif program == "kge":
        # the command of LibKGE, which is not installed here
        assert arguments[0] in {"start", "resume", "valid", "test"}
        assert all((ROOT / argument).is_file() for argument in arguments if argument.endswith(".yaml"))
    elif program == "python" and arguments[:2] == ["-m", "pykeen_advneg.experiments"]:
        assert set(arguments[2:]) <= set(experiments.names())
    elif words == ["python", "-m", "pykeen_advneg.queries", ">", "docs/forms.md"]:
        pass  # a test below compares the page
    elif program == "python" and arguments[0] == "plugins/libkge/benchmarks/measure.py":
        parse(typer.main.get_command(load(ROOT / arguments[0]).app), arguments)
    elif program == "python" and arguments[0].startswith("benchmarks/"):
        parse(typer_command(load(ROOT / arguments[0]).main), arguments)
    else:
        pytest.fail(f"an unknown command: {words}")


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page are one program."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "docs"}
    for block in blocks(page, "python"):
        # errors then point into the page
        code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
        exec(code, namespace)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile("\n" * (block.line - 1) + block.code, str(page), "exec")


@pytest.mark.slow
def test_readme_imports_nothing_of_ours(tmp_path: Path) -> None:
    """Its first example works in a fresh process."""
    first, *_ = blocks(ROOT / "README.md", "python")
    assert "import pykeen_advneg" not in first.code
    assert "from pykeen_advneg" not in first.code
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("PYKEEN_ADVNEG_AUTOLOAD", None)
    done = subprocess.run(
        [sys.executable, "-c", first.code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"0\.\d+", done.stdout)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words, whole in commands(page):
        # the output of a command stands for a word
        substitution = re.search(r"\$\((.*)\)", " ".join(words))
        if substitution:
            check(shlex.split(substitution[1]))
        try:
            check(words)
        except Exception as error:
            if whole or type(error).__name__ != "MissingParameter":
                raise


def test_unknown_commands_are_found() -> None:
    """The checks above can fail."""
    for words in (
        ["advneg", "compare", "--no-such-option", "1", "--out", "x"],
        ["advneg", "no-such-command"],
        ["pykeen", "experiments", "no-such-command"],
    ):
        with pytest.raises(Exception, match=r"No such (option|command)"):
            check(words)
    with pytest.raises(AssertionError):
        check(["make", "coffee"])


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_data(page: Path) -> None:
    """JSON is JSON; a configuration file is one of `advneg compare`."""
    for block in blocks(page, "json"):
        Comparison.from_mapping(json.loads(block.code))
    for block in blocks(page, "toml"):
        tomllib = pytest.importorskip("tomllib")
        tomllib.loads(block.code)


def anchors(page: Path) -> set[str]:
    """The anchors of headings, as forges make them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links(page: Path) -> None:
    for target in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {target}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    linked = {(ROOT / "docs" / target.partition("#")[0]).resolve() for target in LINK.findall(index)}
    pages = {page for page in PAGES if page.name != "README.md" and not page.stem.endswith("_reading")}
    assert pages <= linked


def test_every_sampler_has_a_page() -> None:
    for entry in entry_points(group="pykeen_advneg.samplers"):
        assert (ROOT / "docs" / "samplers" / f"{entry.name}.md").is_file()


@pytest.mark.parametrize(("name", "cls"), [("emu", EMUNegativeSampler), ("kbgan", KBGANNegativeSampler)])
def test_defaults(name: str, cls: type[AdversarialNegativeSampler]) -> None:
    """The table of defaults has all arguments and their values."""
    text = (ROOT / "docs" / "samplers" / f"{name}.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE))
    parameters = inspect.signature(cls.__init__).parameters.values()
    given_by_pykeen = {"self", "mapped_triples", "num_entities", "num_relations", "filterer", "filterer_kwargs"}
    expected = {p.name: repr(p.default).replace("'", '"') for p in parameters if p.name not in given_by_pykeen}
    assert rows == expected


def test_defaults_of_dans() -> None:
    """The table of defaults has all arguments and their values; pairs of arguments share a row."""
    text = (ROOT / "docs" / "samplers" / "dans.md").read_text()
    rows: dict[str, str] = {}
    for names, values in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (`[^|]+`) \|", text, re.MULTILINE):
        rows |= dict(zip(re.findall(r"`(\w+)`", names), re.findall(r"`([^`]+)`", values), strict=False))
    parameters = inspect.signature(DANSNegativeSampler.__init__).parameters.values()
    given_by_pykeen = {"self", "mapped_triples", "num_entities", "num_relations", "filterer", "filterer_kwargs"}
    expected = {p.name: p.default for p in parameters if p.name not in given_by_pykeen}
    assert {name: ast.literal_eval(rows[name]) for name in expected} == expected


def test_batch_sizes_of_the_recipes() -> None:
    text = (ROOT / "docs" / "samplers" / "kbgan.md").read_text()
    (row,) = re.findall(r"^\| batch size [^|]*\|(.*)\|$", text, re.MULTILINE)
    sizes = [int(cell.replace(",", "")) for cell in row.split("|")]
    names = [f"kbgan_transe_distmult_{dataset}" for dataset in ("fb15k237", "wn18rr", "wn18")]
    assert sizes == [recipes()[name]["pipeline"]["training_kwargs"]["batch_size"] for name in names]


def test_the_page_of_forms_is_made_from_the_code() -> None:
    assert (ROOT / "docs" / "forms.md").read_text() == page()

"""Imports inside of the package run one way; read off the source, those inside of functions included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pykeen_advneg

PACKAGE = "pykeen_advneg"
ROOT = Path(pykeen_advneg.__file__).parent

#: A module imports modules of layers above its own line only. An entry stands for all modules of a package, too, which
#: may import each other.
LAYERS = [
    ["errors", "filtering", "initializers", "metrics", "negatives", "registry"],
    ["optim", "checkpoint", "datasets", "models", "plotting", "ranking", "__init__"],
    ["multimodal", "queries", "splits"],
    ["scoring"],
    ["evaluation", "sampling.base", "sampling.sides", "multimodal.relation_ranking"],
    ["sampling", "multimodal.evaluation"],
    ["training"],
    ["comparison", "experiments", "testing"],
    ["benchmark", "hpo"],
    ["hpo_command"],
    ["cli"],
    ["__main__"],
]

#: names which say nothing of what a module does
MEANINGLESS = {"base_utils", "common", "config", "core", "helper", "helpers", "misc", "util", "utils"}


def modules() -> dict[str, Path]:
    """The modules of the package by their name in it; that of the package itself is ``__init__``."""
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__" and len(parts) > 1
        names[".".join(parts[:-1] if is_package else parts)] = path
    return names


MODULES = modules()


class Imports(ast.NodeVisitor):
    """Collects what a module imports when it runs."""

    def __init__(self, name: str, path: Path) -> None:
        package = [PACKAGE, *name.split(".")]
        # the package which dots are counted from
        self.package = package if path.name == "__init__.py" and name != "__init__" else package[:-1]
        self.found: set[str] = set()
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        anchor = self.package[: len(self.package) - node.level + 1] if node.level else []
        base = ".".join([*anchor, *([node.module] if node.module else [])])
        # `from . import x` imports the module x if there is one, else an attribute of the package
        self.found.update(f"{base}.{alias.name}" for alias in node.names)


def internal(imported: str) -> str | None:
    """The module of the package which an import means, if any."""
    if imported.partition(".")[0] != PACKAGE:
        return None
    name = imported.removeprefix(PACKAGE).strip(".")
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


ALL_IMPORTS = {name: Imports(name, path).found for name, path in MODULES.items()}
GRAPH = {name: {internal(i) for i in found} - {None, name} for name, found in ALL_IMPORTS.items()}


def entry_of(name: str) -> str | None:
    """The entry of the table which a module belongs to: its own name, or that of the package around it."""
    entries = {entry for layer in LAYERS for entry in layer}
    while name and name not in entries:
        name = name.rpartition(".")[0]
    return name or None


def layer_of(name: str) -> int:
    entry = entry_of(name)
    return next(number for number, layer in enumerate(LAYERS) if entry in layer)


def test_the_graph_is_seen() -> None:
    """The reading itself: imports at the top, from the parent package, from a package, inside of a function."""
    assert {"negatives", "queries"} <= GRAPH["scoring"]
    assert {"errors", "negatives", "scoring"} <= GRAPH["sampling.base"]
    assert "queries.layouts" in GRAPH["queries.form"]
    assert "errors" in GRAPH["checkpoint"]
    assert GRAPH["__main__"] == {"cli"}
    assert "registry" in GRAPH["__init__"]
    assert "training" not in GRAPH["__init__"], "the package itself is cheap to import"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_layers(name: str) -> None:
    entry = entry_of(name)
    assert entry is not None, f"give {PACKAGE}.{name} a place in the table of layers"
    wrong = [
        other
        for other in sorted(filter(None, GRAPH[name]))
        if layer_of(other) >= layer_of(name) and entry_of(other) != entry
    ]
    assert not wrong, f"{PACKAGE}.{name} imports {wrong}, which stand no lower than itself"


def test_the_table_is_current() -> None:
    gone = [entry for layer in LAYERS for entry in layer if entry not in MODULES]
    assert not gone, f"take {gone} out of the table of layers"


def test_no_cycles() -> None:
    # a package whose module imports one of its own submodules is no cycle in itself
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' <- '.join(map(str, error.args[1]))}")


def test_nobody_imports_the_command_line() -> None:
    assert [name for name, others in GRAPH.items() if "cli" in others and name != "__main__"] == []


def test_samplers_know_nothing_of_loops() -> None:
    guilty = [
        name
        for name, others in GRAPH.items()
        if name.startswith("sampling") and "training" in {entry_of(other) for other in others if other}
    ]
    assert guilty == []


def test_test_tools_stay_in_the_contract() -> None:
    """Only who imports the contract needs pytest and hypothesis."""

    def tools(found: set[str]) -> Iterator[str]:
        return (name for name in found if name.partition(".")[0] in {"pytest", "hypothesis", "_pytest"})

    users = {name for name, found in ALL_IMPORTS.items() if any(tools(found))}
    assert {entry_of(name) for name in users} == {"testing"}
    assert [name for name, others in GRAPH.items() if "testing" in others and entry_of(name) != "testing"] == []


def test_names_of_modules_say_something() -> None:
    assert [name for name in MODULES if MEANINGLESS.intersection(name.split("."))] == []

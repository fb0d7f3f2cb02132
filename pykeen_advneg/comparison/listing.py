"""What is registered with PyKEEN, read off the classes themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import docdata
from class_resolver import ClassResolver
from class_resolver.contrib.torch import optimizer_resolver
from pykeen.evaluation import evaluator_resolver
from pykeen.sampling import negative_sampler_resolver
from pykeen.sampling.filtering import filterer_resolver
from pykeen.training import training_loop_resolver

from ..sampling.base import BindsModel, Learns

__all__ = ["Entry", "registered"]

#: how a class of each kind is selected, and where it is registered
KINDS: Mapping[str, tuple[str, ClassResolver[Any]]] = {
    "negative samplers": ('negative_sampler="NAME"', negative_sampler_resolver),
    "training loops": ('training_loop="NAME"', training_loop_resolver),
    "filterers": ('negative_sampler_kwargs=dict(filtered=True, filterer="NAME")', filterer_resolver),
    "evaluators": ('evaluator="NAME"', evaluator_resolver),
    "optimizers": ('optimizer="NAME"', optimizer_resolver),
}

#: what brings the classes which are there without a plugin
HOSTS = {"pykeen", "torch"}


@dataclass(frozen=True)
class Entry:
    """A registered class."""

    kind: str
    name: str
    package: str
    summary: str
    paper: str
    needs: str


def registered() -> Iterator[Entry]:
    """List the samplers, training loops, filterers, evaluators and optimizers; those of plugins come first."""
    for kind, (_, resolver) in KINDS.items():
        for name, cls in sorted(resolver.lookup_dict.items(), key=lambda pair: (_package(pair[1]) in HOSTS, pair[0])):
            yield Entry(
                kind=kind, name=name, package=_package(cls), summary=_summary(cls), paper=_paper(cls), needs=_needs(cls)
            )


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _summary(cls: type) -> str:
    """Get the first sentence of the docstring, as plain text."""
    paragraph = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=\.)\s", paragraph)[0].rstrip(".")
    sentence = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", sentence)
    return re.sub(r"``?|\[(\w+?)(\d{4})\w*\]_", lambda match: _reference(match) if match[1] else "", sentence)


def _paper(cls: type) -> str:
    """Get the paper from the citation of the class, or from the reference in its docstring."""
    citation = (docdata.get_docdata(cls) or {}).get("citation")
    if citation:
        return f"{citation['author']} {citation['year']}, {citation['link']}"
    match = re.search(r"\[(\w+?)(\d{4})\w*\]_", inspect.getdoc(cls) or "")
    return _reference(match) if match else ""


def _reference(match: re.Match[str]) -> str:
    return f"{match[1].capitalize()} {match[2]}"


def _needs(cls: type) -> str:
    """Say what the class does not work without."""
    return 'training_loop="adversarial"' if issubclass(cls, (BindsModel, Learns)) else ""

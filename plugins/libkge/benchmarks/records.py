"""Results in a file, one line of JSON each, and what they were measured on."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import typer

from pykeen_advneg_libkge.installed import check_libkge, commit_of

__all__ = ["Records", "machine"]


def machine() -> dict[str, str]:
    """Say what it runs on."""
    checkout = Path(str(check_libkge().__file__)).parents[1]
    packages = {name: version(name) for name in ("torch", "pykeen", "pykeen-advneg", "numpy")}
    return {
        "libkge": commit_of(checkout),
        "python": platform.python_version(),
        "threads": str(torch.get_num_threads()),
        **packages,
    }


class Records:
    """Results in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.known = [json.loads(line) for line in lines]

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether there is a result with these values."""
        return any(all(record.get(name) == value for name, value in key.items()) for record in self.known)

    def add(self, **record: Any) -> None:
        """Add a result."""
        record["machine"] = machine()
        self.known.append(record)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        typer.echo(json.dumps(record))

"""Result files of benchmarks: one JSON line a run, appended when it has finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["append", "read"]


def read(file: Path) -> list[dict[str, Any]]:
    """Read the finished runs; a line which is being written is left out, and there are none without a file."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def append(file: Path, *lines: Mapping[str, Any]) -> None:
    """Add finished runs, all in one go; the folder of the file is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write("".join(json.dumps(line) + "\n" for line in lines))

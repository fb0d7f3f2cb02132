"""Result files of benchmarks: one JSON line a run, appended when it has finished."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["append", "read", "run_tuned"]


def read(file: Path) -> list[dict[str, Any]]:
    """Read the finished runs; a line which is being written is left out, and there are none without a file."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def append(file: Path, *lines: Mapping[str, Any]) -> None:
    """Add finished runs, all in one go; the folder of the file is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write("".join(json.dumps(line) + "\n" for line in lines))


def run_tuned(
    file: Path,
    arms: Sequence[Mapping[str, Any]],
    rates: Sequence[float],
    seeds: int,
    run: Callable[..., Mapping[str, Any]],
) -> None:
    """Run each arm with all learning rates and seed 0, then with the best by ``validation_mrr`` and the other seeds.

    What stands in the file is not run again.

    :param file: the result file
    :param arms: the parameters of each arm
    :param rates: the learning rates
    :param seeds: how many seeds, from 0 on
    :param run: gets the parameters of an arm, ``seed`` and ``lr``, and gives the results
    """
    done = read(file)

    def found(**key: Any) -> float:
        line = next((line for line in done if key.items() <= line.items()), None)
        if line is None:
            line = {**key, **run(**key)}
            done.append(line)
            append(file, line)
        return float(line["validation_mrr"])

    for arm in arms:
        values = {lr: found(**arm, seed=0, lr=lr) for lr in rates}
        best = max(rates, key=values.__getitem__)
        for seed in range(1, seeds):
            found(**arm, seed=seed, lr=best)

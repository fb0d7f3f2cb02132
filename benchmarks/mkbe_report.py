"""Write ``docs/results/mkbe.md`` from the result files of ``benchmarks/mkbe_*.py``.

It works on what is finished so far, and says what is missing. A file ``docs/results/mkbe_reading.md`` is included if it
is there: our reading of the numbers, written by hand.

usage: python benchmarks/mkbe_report.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from scipy.stats import ttest_1samp

ROOT = Path(__file__).parents[1]

#: metrics of ratings, and what they are called
RATINGS = {
    "mrr": "MRR",
    "hits_at_1": "H@1",
    "hits_at_2": "H@2",
    "best.rmse": "RMSE, best",
    "expected.rmse": "RMSE, expected",
}
ARMS = {
    "r": "MKBE: ratings",
    "rum": "MKBE: ratings, users, films",
    "rumt": "MKBE: ratings, users, films, titles",
    "links": "links",
    "numbers": "links and numbers",
}
LINKS = {"mrr": "MRR", "hits_at_1": "H@1", "hits_at_3": "H@3", "hits_at_10": "H@10"}
#: the baseline to beat
BASE = "naive Bayes"
METHODS = ("mean", "median", "neighbours", "ridge", "literals", "decoder")

HEAD = """# Results: MKBE

Made by `python benchmarks/mkbe_report.py` from the result files in [mkbe/](mkbe/).
"""


def read(path: Path) -> pd.DataFrame:
    """Read a result file, which may not be there yet."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return pd.DataFrame(lines)


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Format a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def spread(values: pd.Series, digits: int = 4) -> str:
    """Give mean and standard deviation."""
    if not len(values) or values.isna().all():
        return ""
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std():.{digits}f}" if len(values) > 1 else mean


def describe(settings: Mapping[str, Any]) -> str:
    """Say by what a run was trained."""
    loss = "softmax over the five ratings" if settings["loss"] == "softmax" else "margin of 1.5, summed"
    return (
        f"{settings['interaction']}, {loss}, {settings['dim']:g} dimensions, learning rate {settings['lr']:g}, "
        f"decay {settings['decay']:g}, batches of {settings['batch_size']:g}"
    )


def movielens(runs: pd.DataFrame) -> str:
    """Report ratings, fold by fold."""
    text = "\n## MovieLens-100K: the rating of a user and a film, among five\n\n"
    if runs.empty:
        return text + "No run is finished.\n"
    settings = ["interaction", "loss", "dim", "lr", "decay", "batch_size"]
    for fold, of_fold in runs.groupby("fold"):
        text += f"Fold {fold}, mean ± standard deviation of seeds:\n\n"
        rows = []
        is_trained = of_fold["arm"].isin(list(ARMS))
        for _, line in of_fold[~is_trained].iterrows():
            rows.append([line["arm"], "", *(f"{line[key]:.4f}" for key in RATINGS), ""])
        trained = of_fold[is_trained]
        if len(trained):
            for (arm, *values), group in trained.groupby(["arm", *settings], sort=False):
                label = f"{ARMS[arm]} ({describe(dict(zip(settings, values, strict=True)))})"
                cells = [spread(group[key]) for key in RATINGS]
                rows.append([label, str(len(group)), *cells, f"{group['seconds_of_training'].mean():.0f}"])
        text += table(rows, ["", "seeds", *RATINGS.values(), "seconds"]) + "\n"
    return text


def over_folds(runs: pd.DataFrame) -> str:
    """Compare what was run on all folds with the baseline, fold by fold; seeds of a fold are averaged first."""
    if runs.empty or BASE not in set(runs["arm"]):
        return ""
    labels = [_label(line) for line in runs.to_dict("records")]
    means = runs.groupby([labels, "fold"], sort=False)[list(RATINGS)].mean()
    seeds = runs.groupby([labels, "fold"]).size()
    folds = runs["fold"].nunique()
    rows = []
    for label in dict.fromkeys(labels):
        own = means.loc[label]
        if not len(own) == folds > 1:
            continue
        differences = (own["mrr"] - means.loc[BASE]["mrr"]).dropna()
        counted = "" if label in set(runs["arm"]) else str(seeds.loc[label].min())
        cells = [f"{own[key].mean():.4f}" for key in RATINGS]
        rows.append([label, counted, *cells, "" if label == BASE else _interval(differences)])
    if not rows:
        return ""
    text = f"\nMean over the {folds} folds; the difference from {BASE} is paired by fold, with its 95 % interval:\n\n"
    return text + table(rows, ["", "seeds", *RATINGS.values(), f"MRR less {BASE}"])


def _label(line: Mapping[str, Any]) -> str:
    """Name an arm, with its settings if it is trained."""
    if line["arm"] not in ARMS:
        return str(line["arm"])
    return f"{ARMS[line['arm']]} ({line['dim']:g} dimensions, learning rate {line['lr']:g}, decay {line['decay']:g})"


def _interval(differences: pd.Series) -> str:
    low, high = ttest_1samp(differences, 0.0).confidence_interval(0.95)
    return f"{differences.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def tuning(runs: pd.DataFrame) -> str:
    """List the settings which were tried, on the ratings which training leaves out of the first fold."""
    if runs.empty:
        return ""
    settings = ["dim", "lr", "decay"]
    chosen = runs.drop_duplicates(["arm", *settings], keep="last").pivot(
        index=settings, columns="arm", values="validation_mrr"
    )
    arms = [arm for arm in ARMS if arm in chosen]
    best = {arm: chosen[arm].max() for arm in arms}

    def cell(arm: str, value: float) -> str:
        text = "" if pd.isna(value) else f"{value:.4f}"
        return f"**{text}**" if value == best[arm] else text

    rows = [
        [*(f"{value:g}" for value in key), *(cell(arm, line[arm]) for arm in arms)] for key, line in chosen.iterrows()
    ]
    text = "\nTuning: MRR on 5 % of the training ratings of fold 1, seed 0, which are not trained on:\n\n"
    return text + table(rows, ["dimensions", "learning rate", "decay", *(ARMS[arm] for arm in arms)])


def numeric(runs: pd.DataFrame) -> str:
    """Report links and numbers of FB15k-237."""
    text = "## FB15k-237 with numbers\n\n"
    if runs.empty:
        return text + "No run is finished.\n"
    rows = []
    groups = runs.groupby(["interaction", "arm", "dim", "epochs", "lr"], sort=False)
    for (interaction, arm, dim, epochs, lr), group in groups:
        label = f"{interaction}, {dim} dimensions, {epochs} epochs, learning rate {lr:g}: {ARMS[arm]}"
        seconds = f"{group['seconds_of_training'].mean():.0f}"
        validated = spread(group["validation_mrr"])
        rows.append([label, str(len(group)), validated, *(spread(group[key]) for key in LINKS), seconds])
    text += "Links of testing, among all entities, filtered, both sides; each arm's learning rate was chosen by the\n"
    text += "validation MRR of seed 0:\n\n"
    text += table(rows, ["", "seeds", "validation MRR", *LINKS.values(), "seconds"])
    most = groups.size().max()
    for (interaction, arm, dim, _, lr), group in groups:
        if len(group) < most:  # a learning rate which was not chosen
            continue
        text += f"\nHeld-out numbers, {interaction} with {dim} dimensions and learning rate {lr:g}, trained on "
        text += f"{ARMS[arm]}: root mean squared error in standard deviations of the training numbers; share of true "
        text += "numbers in intervals of 90 %:\n\n"
        names = sorted({name for imputed in group["imputed"] for name in imputed})
        filled = {name: pd.DataFrame([i[name] for i in group["imputed"] if name in i]) for name in names}
        names.sort(key=lambda name: -filled[name]["count"].iloc[0])
        rows = [
            [
                f"`{name}`",
                str(filled[name]["count"].iloc[0]),
                *(f"{filled[name][method].mean():.3f}" for method in METHODS),
                f"{filled[name]['covered'].mean():.2f}",
            ]
            for name in names
        ]
        wins = [sum(filled[name][m].mean() < filled[name]["mean"].mean() for name in names) for m in METHODS]
        rows.append(["better than the mean on", "", *(f"{win} of {len(names)}" for win in wins), ""])
        text += table(rows, ["attribute", "held out", *METHODS, "inside"])
    return text


def samplers(runs: pd.DataFrame) -> str:
    """Report the samplers on the graph with numbers, each at the learning rate which is best on validation."""
    if runs.empty:
        return ""
    text = "\n## Samplers on FB15k-237 with numbers\n\n"
    # runs with other settings of an arm are other arms
    runs = runs.assign(settings=runs["settings"].map(json.dumps))
    keys = ["arm", "settings"]
    for (epochs, dim), group in runs.groupby(["epochs", "dim"]):
        tuned = group[group["seed"] == 0].sort_values("validation_mrr", ascending=False).drop_duplicates(keys)
        best = group.merge(tuned[[*keys, "lr"]], on=[*keys, "lr"])
        text += (
            f"DistMult, {dim} dimensions, {epochs} epochs; the best of the learning rates by validation, seed 0:\n\n"
        )
        rows = []
        for (arm, settings), own in best.groupby(keys, sort=False):
            alike = (group["arm"] == arm) & (group["settings"] == settings)
            rates = sorted(group.loc[alike & (group["seed"] == 0), "lr"])
            k = json.loads(settings)["negative_sampler_kwargs"]["num_negs_per_pos"]
            cells = [spread(own[key]) for key in ("mrr", "hits_at_10", "value_mrr")]
            rate = f"{own['lr'].iloc[0]:g} of {', '.join(f'{rate:g}' for rate in rates)}"
            rows.append([f"`{arm}`", str(k), rate, str(len(own)), *cells])
        header = ["sampler", "negatives", "learning rate", "seeds", "MRR of links", "H@10 of links", "MRR of numbers"]
        text += table(rows, header) + "\n"
    return text


def texts(runs: pd.DataFrame) -> str:
    """Report how near written texts are to those which were held out."""
    if runs.empty:
        return ""
    text = "\n## Descriptions of FB15k-237, written from embeddings\n\n"
    for (epochs, size, words), group in runs.groupby(["decoder_epochs", "size", "words"]):
        text += f"{epochs} epochs of the decoder, {size} wide, the first {words} words, "
        text += f"{group['count'].iloc[0]} held-out entities:\n\n"
        rows = [
            [arm, str(len(own)), *(spread(own[key]) for key in ("bleu", "rouge_l", "different"))]
            for arm, own in group.groupby("arm", sort=False)
        ]
        text += table(rows, ["", "seeds", "BLEU", "ROUGE-L", "share of different texts"]) + "\n"
    return text


def cost(runs: pd.DataFrame) -> str:
    """Report what attributes cost."""
    text = "\n## What attributes cost\n\n"
    if runs.empty:
        return text + "Not measured.\n"
    text += "Processor time of a training step on MovieLens-100K, median of an epoch, one thread:\n\n"
    rows = [
        [line["arm"], str(line["batch_size"]), f"{line['milliseconds']:.1f}", f"{line['times']:.1f}"]
        for _, line in runs.iterrows()
    ]
    return text + table(rows, ["", "positives in a batch", "milliseconds", "times the first"])


def main(
    folder: Annotated[Path, typer.Option(help="The folder of the result files.")] = ROOT / "docs/results/mkbe",
    out: Annotated[Path, typer.Option(help="The page.")] = ROOT / "docs/results/mkbe.md",
) -> None:
    """Write the page."""
    reading = out.with_name("mkbe_reading.md")
    text = HEAD + ("\n" + reading.read_text() if reading.is_file() else "")
    ratings = read(folder / "movielens.jsonl")
    text += movielens(ratings) + over_folds(ratings) + tuning(read(folder / "tuning.jsonl")) + "\n"
    text += numeric(read(folder / "numeric.jsonl")) + samplers(read(folder / "samplers.jsonl"))
    text += texts(read(folder / "texts.jsonl"))
    text += cost(read(folder / "cost.jsonl"))
    out.write_text(text)


if __name__ == "__main__":
    typer.run(main)

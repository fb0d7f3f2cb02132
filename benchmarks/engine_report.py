"""Write ``docs/results/engine.md`` and ``docs/results/baselines.md`` from the result files beside them.

* ``engine/bench.jsonl`` is made by ``advneg bench all --out docs/results/engine``;
* ``engine/DATASET.jsonl`` by ``benchmarks/engine_quality.py``;
* ``baselines/RECIPE.jsonl`` by ``benchmarks/baselines.py``.

Files ``engine_reading.md`` and ``baselines_reading.md``, our reading of the numbers, are included if they are there.

usage: python benchmarks/engine_report.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from pykeen_advneg.benchmark.records import measurements
from pykeen_advneg.benchmark.report import markdown
from result_lines import read

DATASETS = {"wn18rr": "WN18RR", "fb15k237": "FB15k-237"}

ENGINE = """\
# The engine, measured

Made by `python benchmarks/engine_report.py` from the result files in `engine/`.
"""

QUALITY = """\
## Does it train as well?

The same model, cross-entropy, no regularizer, batches of 1,024, the same number of negatives and of epochs; each arm
with the best of the learning rates .03, .1, .3 on the validation triples; three seeds; test MRR (filtered, realistic
rank, all entities, both sides) after the last epoch, mean ± standard deviation. `stock` is PyKEEN's loop with `basic`
and `adagrad`; `engine` the loop `adversarial` with `shared` (chunks of 128) and `sparseadagrad`; `engine-16`
the same with chunks of 16, `engine-row-wise` as `engine` with `rowadagrad`. Seconds are those of the whole run on
one thread of a machine which did other work, and only give an idea.

usage: `python benchmarks/engine_quality.py --dataset wn18rr --epochs 10`,
`python benchmarks/engine_quality.py --dataset fb15k237 --epochs 5`
"""

BASELINES = """\
# Plain baselines

Made by `python benchmarks/engine_report.py` from the result files in `baselines/`, which
`benchmarks/baselines.py` writes.

Uniform negatives, shared by the whole batch; what a trained sampler has to beat. Best epoch on the validation
triples; filtered, realistic rank, all entities, both sides. Data sets are PyKEEN's, in which evaluation triples with
entities unseen in training are left out (WN18RR: 2,924 of 3,134 test triples).
"""


def decimals(x: float, digits: int = 4) -> str:
    """Write a number between 0 and 1 without its zero."""
    return f"{x:.{digits}f}".removeprefix("0")


def spread(values: pd.Series) -> str:
    """Write mean and standard deviation."""
    if len(values) == 1:
        return f"{decimals(values.iloc[0])} (one seed)"
    return f"{decimals(values.mean())} ± {decimals(values.std())}"


def quality(folder: Path) -> str:
    """Lay out the runs of ``engine_quality.py``."""
    text = QUALITY
    for name, title in DATASETS.items():
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            continue
        runs = pd.DataFrame(read(path))
        settings = runs[["dim", "negatives"]].drop_duplicates().to_dict("records")
        text += f"\n**{title}**, " + "; ".join(", ".join(f"{k} {v}" for k, v in s.items()) for s in settings) + ":\n\n"
        text += "| epochs | model | arm | learning rate | seeds | test MRR | seconds a run |\n" + "|---" * 7 + "|\n"
        for (epochs, model, arm), group in runs.groupby(["epochs", "model", "arm"]):
            tuned = group[group.seed == 0].sort_values("validation_mrr").lr.iloc[-1]
            chosen = group[group.lr == tuned]
            seconds = f"{chosen.seconds.median():.0f}"
            text += (
                f"| {epochs} | {model} | {arm} | {tuned} | {len(chosen)} | {spread(chosen.test_mrr)} | {seconds} |\n"
            )
    return text


def baselines(folder: Path) -> str:
    """Lay out the runs of ``baselines.py``."""
    text = "\n| recipe | seeds | test MRR | hits@1 | hits@10 | validation MRR | best epoch | minutes of training |\n"
    text += "|---|---|---|---|---|---|---|---|\n"
    tuning = (
        "\n## What was tried\n\nValidation MRR of the best epoch, seed 0.\n\n| recipe | changes | validation MRR |\n"
    )
    tuning += "|---|---|---|\n"
    for path in sorted(folder.glob("*.jsonl")):
        runs = pd.DataFrame(read(path))
        final = runs[runs.changes.map(len) == 0]
        if len(final):
            test = pd.DataFrame(list(final.test))
            cells = [spread(test[key]) for key in ("mrr", "hits_at_1", "hits_at_10")]
            epochs = ", ".join(map(str, final.best_epoch))
            minutes = f"{final.seconds_of_training.median() / 60:.0f}"
            cells += [spread(final.best_validation_mrr), epochs, minutes]
            text += f"| `baseline_{path.stem}` | {len(final)} | {' | '.join(cells)} |\n"
        for run in runs[runs.seed == 0].sort_values("best_validation_mrr", ascending=False).itertuples():
            changes = ", ".join(f"`{change}`" for change in run.changes) or "the recipe"
            tuning += f"| `{path.stem}` | {changes} | {decimals(run.best_validation_mrr)} |\n"
    return text + tuning


def reading(path: Path) -> str:
    """Give what is written by hand, if anything."""
    return "\n" + path.read_text() if path.is_file() else ""


def main(results: Annotated[Path, typer.Option(help="the folder")] = Path("docs/results")) -> None:
    """Write the pages."""
    engine = results / "engine"
    text = ENGINE + reading(results / "engine_reading.md")
    if (engine / "bench.jsonl").is_file():
        text += "\n" + markdown(measurements(engine))
    (results / "engine.md").write_text(text + "\n" + quality(engine))
    page = BASELINES + reading(results / "baselines_reading.md") + baselines(results / "baselines")
    (results / "baselines.md").write_text(page)


if __name__ == "__main__":
    typer.run(main)

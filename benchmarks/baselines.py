"""The plain baselines, tuned and measured: the recipes ``baseline_*``, as they are or with other settings.

A run trains a recipe through PyKEEN's pipeline; every five epochs it is validated (filtered MRR, realistic rank, all
entities, both sides), and the best epoch is restored. One JSON line a run is appended to ``OUT/RECIPE.jsonl``, tuning
included; what stands there is not run again. Tuning looks at validation results only; test results are recorded for
runs without ``--set`` alone.

usage: python benchmarks/baselines.py complex_wn18rr --seeds 3
       python benchmarks/baselines.py complex_wn18rr --set optimizer_kwargs.lr=0.3 --set training_kwargs.batch_size=256
"""

from __future__ import annotations

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pykeen.pipeline import pipeline

from pykeen_advneg.datasets import load_dataset
from pykeen_advneg.experiments.baselines import recipe
from result_lines import append, read


def change(settings: dict[str, Any], assignments: list[str]) -> None:
    """Set entries of nested dictionaries; each assignment is ``KEY.KEY=JSON``."""
    for assignment in assignments:
        path, _, value = assignment.partition("=")
        *parents, key = path.split(".")
        target = settings
        for parent in parents:
            target = target[parent]
        target[key] = json.loads(value)


def run(name: str, changes: list[str], seed: int) -> dict[str, Any]:
    """Train, and collect what the result file keeps."""
    settings = json.loads(json.dumps(recipe(name)["pipeline"]))
    change(settings, changes)
    settings["training_kwargs"]["use_tqdm"] = False
    settings["training_loop_kwargs"] = dict(automatic_memory_optimization=False)
    dataset = load_dataset(settings.pop("dataset"))
    start = time.perf_counter()
    result = pipeline(dataset=dataset, random_seed=seed, evaluation_kwargs=dict(use_tqdm=False), **settings)
    stopper: Any = result.stopper
    line = dict(
        recipe=name,
        changes=sorted(changes),
        seed=seed,
        validation=list(map(float, stopper.results)),
        best_validation_mrr=max(stopper.results),
        best_epoch=stopper.best_epoch,
        epochs=len(result.losses),
        seconds_of_training=result.train_seconds,
        seconds=time.perf_counter() - start,
        threads=torch.get_num_threads(),
        versions={package: version(package) for package in ("torch", "pykeen", "pykeen-advneg")},
    )
    if not changes:
        keys = dict(mrr="inverse_harmonic_mean_rank", hits_at_1="hits_at_1", hits_at_10="hits_at_10")
        line["test"] = {k: float(result.metric_results.get_metric(f"both.realistic.{v}")) for k, v in keys.items()}
    return line


def main(
    name: Annotated[str, typer.Argument(help="MODEL_DATASET, e.g. complex_wn18rr")],
    changes: Annotated[list[str] | None, typer.Option("--set", help="KEY.KEY=JSON, a setting to try")] = None,
    seeds: Annotated[int, typer.Option(help="number of seeds")] = 1,
    threads: Annotated[int, typer.Option(help="threads of torch")] = 1,
    out: Annotated[Path, typer.Option(help="folder of the result files")] = Path("docs/results/baselines"),
) -> None:
    """Run what is missing in the result file."""
    torch.set_num_threads(threads)
    file = out / f"{name}.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    lines = read(file)
    done = {(tuple(line["changes"]), line["seed"]) for line in lines}
    for seed in range(seeds):
        if (tuple(sorted(changes or [])), seed) in done:
            continue
        line = run(name, changes or [], seed)
        append(file, line)
        print({key: line.get(key) for key in ("changes", "seed", "validation", "test", "seconds")}, flush=True)


if __name__ == "__main__":
    typer.run(main)

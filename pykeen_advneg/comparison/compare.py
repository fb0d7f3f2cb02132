"""Train each data set with each sampler and each seed by PyKEEN's pipeline, so that a killed comparison goes on."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pykeen.datasets import Dataset
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.training.callbacks import EvaluationTrainingCallback, TrainingCallback
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..splits import fingerprint
from ..training import cheap_collection
from .configuration import Comparison, SamplerChoice
from .runs import RunStore, config_hash
from .tracking import RANKING_METRICS, BestWeights, CurveTracker, EpochClock

__all__ = ["Run", "compare", "plan", "record_of", "train_run"]

#: the packages whose versions are recorded
_PACKAGES = ("torch", "pykeen", "pykeen-advneg")
#: the evaluator of validation and test: filtered, realistic rank, all entities, both sides
_EVALUATOR = "fastrankbased"


@dataclass(frozen=True)
class Run:
    """One training: a data set, a sampler and a seed."""

    dataset: str
    sampler: SamplerChoice
    seed: int
    #: everything that determines the result
    config: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """The name of the run in files."""
        return config_hash(self.config)

    @property
    def name(self) -> str:
        """The name of the run for people."""
        return f"{self.dataset} / {self.sampler.label} / seed {self.seed}"


def plan(comparison: Comparison, datasets: Mapping[str, Dataset]) -> list[Run]:
    """List the runs of a comparison, so that the samplers take turns: a drift of the machine's speed meets them all.

    :param comparison: the comparison
    :param datasets: its data sets by label

    :returns: the runs in the order in which they are trained
    """
    runs = []
    for label, dataset in datasets.items():
        digits = fingerprint(dataset)
        for seed in range(comparison.seeds):
            for sampler in comparison.samplers:
                config = {"dataset": label, "fingerprint": digits, **_run_config(comparison, sampler, seed)}
                runs.append(Run(label, sampler, seed, config))
    return runs


def compare(
    comparison: Comparison,
    datasets: Mapping[str, Dataset],
    store: RunStore,
    console: Console | None = None,
    notes: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[str]:
    """Train the runs which are not finished yet.

    :param comparison: the comparison
    :param datasets: its data sets by label
    :param store: where the runs are kept; it has to be claimed
    :param console: shows the progress; nothing is shown if ``None``
    :param notes: what else to write down with the runs of a data set, by its label

    :returns: a line for each run that failed; such a run is tried again by the next call
    """
    runs = plan(comparison, datasets)
    finished, failures = store.finished(), []
    todo = [run for run in runs if run.hash not in finished]
    columns = (TextColumn("{task.description}"), BarColumn(16), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=console, disable=console is None) as progress:
        overall = progress.add_task("all runs", total=len(runs), completed=len(runs) - len(todo), note="")
        for run in todo:
            task = progress.add_task(run.name, total=comparison.epochs, note="")
            try:
                record = train_run(run, datasets[run.dataset], store, _show(progress, task))
                store.finish({**record, **(notes or {}).get(run.dataset, {})})
            except Exception as error:  # one run that diverges must not cost the others
                failures.append(f"{run.name}: {type(error).__name__}: {error}")
                progress.console.print(f"[red]failed:[/] {failures[-1]}")
            progress.remove_task(task)
            progress.advance(overall)
    for run in runs:
        if run.hash in finished:
            store.clean(run.hash)
    return failures


def train_run(
    run: Run, dataset: Dataset, store: RunStore, on_epoch: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """Train and evaluate one run, from its checkpoint if there is one.

    :param run: the run
    :param dataset: its data set
    :param store: where its checkpoint and its curve are kept
    :param on_epoch: is called with what is known of each epoch

    :returns: the record of the run
    """
    resume = store.can_resume(run.hash, stock=run.sampler.training_loop == "slcwa")
    tracker = CurveTracker(store.curve(run.hash), resume, on_epoch)
    with cheap_collection():
        result = pipeline(**_pipeline_arguments(run, dataset, store), result_tracker=tracker)
    return record_of(run, result, tracker)


def _run_config(comparison: Comparison, sampler: SamplerChoice, seed: int) -> dict[str, Any]:
    """Collect everything that determines a run but its data."""
    shared = comparison.to_mapping()
    config = {key: value for key, value in shared.items() if key not in {"datasets", "samplers", "seeds"}}
    own = sampler.to_mapping()
    for key in ("negative_sampler_kwargs", "training_loop_kwargs"):
        own[key] = {**config.get(key, {}), **own[key]}
    return {**config, **own, "sampler": sampler.label, "random_seed": seed}


def _pipeline_arguments(run: Run, dataset: Dataset, store: RunStore) -> dict[str, Any]:
    """Say the run in the pipeline's words."""
    own = ("dataset", "fingerprint", "sampler", "vocabulary", "create_inverse_triples", "eval_every")
    arguments = {key: value for key, value in run.config.items() if key not in {*own, "early_stopping", "patience"}}
    stopper, callbacks = _validation(run, dataset, store)
    arguments["training_kwargs"] = {
        "checkpoint_frequency": 0,
        "pin_memory": torch.cuda.is_available(),
        **arguments.get("training_kwargs", {}),
        "checkpoint_directory": store.unfinished,
        "checkpoint_name": store.checkpoint(run.hash).name,
        "callbacks": [EpochClock(), *callbacks],
    }
    return {**arguments, **stopper, "dataset": dataset, "evaluator": _EVALUATOR, "use_tqdm": False}


def _validation(run: Run, dataset: Dataset, store: RunStore) -> tuple[dict[str, Any], Sequence[TrainingCallback]]:
    """Evaluate the validation triples, filtered by those and the training triples, by a stopper or by callbacks."""
    frequency, epochs = run.config["eval_every"], run.config["epochs"]
    if run.config["early_stopping"]:
        path = store.best_weights(run.hash)
        kwargs = {
            "metric": RANKING_METRICS["mrr"],
            "relative_delta": 0.0,
            **run.config.get("stopper_kwargs", {}),
            "frequency": frequency,
            "patience": run.config["patience"],
            "best_model_path": path,
        }
        return {"stopper": "early", "stopper_kwargs": kwargs}, [BestWeights(path)]
    # the last epoch is evaluated, too
    frequencies = {frequency, epochs} if epochs % frequency else {frequency}
    callbacks = [
        EvaluationTrainingCallback(
            evaluation_triples=_triples(dataset, "validation"),
            frequency=each,
            evaluator=_EVALUATOR,
            evaluator_kwargs=run.config.get("evaluator_kwargs"),
            prefix="validation",
            additional_filter_triples=_triples(dataset, "training"),
            use_tqdm=False,
        )
        for each in sorted(frequencies)
    ]
    return {}, callbacks


def record_of(run: Run, result: PipelineResult, tracker: CurveTracker) -> dict[str, Any]:
    """Write down a finished run.

    :param run: the run
    :param result: what the pipeline gave
    :param tracker: has its curve

    :returns: the record
    """
    epochs = len(result.losses)
    curve = tracker.curve(last_epoch=epochs)
    best = getattr(result.stopper, "best_epoch", None)
    return {
        "run": run.hash,
        "dataset": run.dataset,
        "sampler": run.sampler.label,
        "seed": run.seed,
        "test": {short: float(result.metric_results.get_metric(name)) for short, name in RANKING_METRICS.items()},
        "epochs": epochs,
        "selected_epoch": epochs if best is None else best,
        "training_seconds": curve[-1]["seconds"],
        "wall_seconds": tracker.wall_seconds(),
        "sessions": tracker.sessions(),
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "device": str(result.model.device),
        "threads": torch.get_num_threads(),
        "config": dict(run.config),
        "curve": curve,
    }


def versions() -> dict[str, str]:
    """Get the versions that a result depends on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def _triples(dataset: Dataset, split: str) -> torch.Tensor:
    triples: torch.Tensor = dataset.factory_dict[split].mapped_triples
    return triples


def _show(progress: Progress, task: TaskID) -> Callable[[Mapping[str, Any]], None]:
    """Show the epochs of a run in a progress bar, with the last MRR on validation."""

    def show(row: Mapping[str, Any]) -> None:
        note = {"note": f"MRR {row['mrr']:.3f}"} if "mrr" in row else {}
        progress.update(task, completed=row["epoch"], **note)  # type: ignore[arg-type]

    return show

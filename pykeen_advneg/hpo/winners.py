"""Train the best trial of each sampler again, with seeds on which nothing was selected, and evaluate on test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from optuna.trial import FixedTrial, TrialState
from pykeen.datasets import Dataset
from pykeen.pipeline import pipeline
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..comparison.compare import Run, record_of
from ..comparison.configuration import SamplerChoice, dataset_label
from ..comparison.runs import RunStore
from ..comparison.tracking import BestWeights, CurveTracker, EpochClock
from ..splits import fingerprint
from .queueing import Job
from .result import experiment
from .settings import Tuning
from .watching import add_callbacks

__all__ = ["FIRST_SEED", "plan_winners", "retrain"]

#: the seeds of the winners are so far from those of the trials, among which the luckiest ones were selected
FIRST_SEED = 10_000


def plan_winners(jobs: Sequence[Job], tuning: Tuning, data: Dataset) -> list[tuple[Job, Run]]:
    """List the runs of the winners, the samplers in turns.

    :param jobs: the studies
    :param tuning: the settings
    :param data: the data set

    :returns: each study which has a complete trial, with a run of its best one
    """
    have = [job for job in jobs if job.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
    digits = fingerprint(data)
    return [
        (job, _run(job, tuning, tuning.random_seed + FIRST_SEED + number, digits))
        for number in range(tuning.seeds)
        for job in have
    ]


def retrain(
    runs: Sequence[tuple[Job, Run]], data: Dataset, store: RunStore, console: Console | None = None
) -> list[str]:
    """Train the runs which are not finished yet.

    :param runs: the runs
    :param data: the data set
    :param store: where they are kept
    :param console: shows the progress

    :returns: a line for each run that failed
    """
    finished, failures = store.finished(), []
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=console is None) as bars:
        task = bars.add_task("winners", total=len(runs))
        for job, run in runs:
            bars.update(task, description=f"winner {run.sampler.label}, seed {run.seed}")
            if run.hash not in finished:
                try:
                    store.finish(_train(job, run, data, store, lambda _row: None))
                except Exception as error:  # one run that diverges must not cost the others
                    failures.append(f"{run.name}: {type(error).__name__}: {error}")
            bars.advance(task)
    return failures


def _run(job: Job, tuning: Tuning, seed: int, digits: str) -> Run:
    best = job.study.best_trial
    config = experiment(job.objective, best, replay=False)["pipeline"] | {"random_seed": seed}
    sampler = SamplerChoice(label=job.label, negative_sampler=str(config["negative_sampler"]))
    config |= {"fingerprint": digits, "trial": best.number}
    return Run(dataset_label(tuning.dataset), sampler, seed, config)


def _train(
    job: Job, run: Run, data: Dataset, store: RunStore, on_epoch: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    best = job.study.best_trial
    arguments = job.objective.arguments(FixedTrial(best.params, number=best.number))
    is_stock = not job.objective.keeps_the_best
    tracker = CurveTracker(store.curve(run.hash), store.can_resume(run.hash, stock=is_stock), on_epoch)
    arguments["training_kwargs"] |= {
        "checkpoint_frequency": 1,
        "checkpoint_directory": store.unfinished,
        "checkpoint_name": store.checkpoint(run.hash).name,
        "pin_memory": torch.cuda.is_available(),
    }
    add_callbacks(arguments["training_kwargs"], EpochClock(), first=True)
    if job.objective.prunes:
        path = store.best_weights(run.hash)
        arguments["stopper_kwargs"] |= {"best_model_path": path}
        if is_stock:
            add_callbacks(arguments["training_kwargs"], BestWeights(path))
    result = pipeline(
        **arguments, dataset=data, random_seed=run.seed, use_testing_data=True, result_tracker=tracker, use_tqdm=False
    )
    return {**record_of(run, result, tracker), "trial": best.number, "validation": best.value}

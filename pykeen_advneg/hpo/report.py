"""The report of `advneg hpo`: winners with their spread, tests, curves over trials, importances, and what was spent."""

from __future__ import annotations

import json
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from ..comparison.report import METRICS, Results, environment, environments, summarize
from ..plotting import plot_curves, plot_results, plot_trials, save_png, styles
from .fairness import differing_ranges
from .objective import ERROR, SEED
from .queueing import Job, progress_of
from .result import write_json
from .settings import Tuning
from .statistics import LEVEL, POWER, paired_difference
from .watching import EFFORT

__all__ = ["trial_records", "write_report"]

_MANY = 4


def trial_records(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Write down all trials, in the order in which they ended; one which was tried several times is one.

    :param jobs: the studies

    :returns: a record for each
    """
    records = []
    for job in jobs:
        trials = progress_of(job.study)["trials"]
        records += [_record(job.label, trial) for trial in trials]
    return sorted(records, key=lambda record: (record["sampler"], record["ended"] or "", record["number"]))


def write_report(
    jobs: Sequence[Job], tuning: Tuning, records: Sequence[Mapping[str, Any]], folder: pathlib.Path, command: str | None
) -> dict[str, Any]:
    """Write ``report.html``, its figures, ``trials.jsonl``, ``report.json`` and the experiment files of the winners.

    :param jobs: the studies
    :param tuning: the settings
    :param records: the runs of the winners
    :param folder: where to
    :param command: what was typed

    :returns: what the report says, as in ``report.json``
    """
    trials = trial_records(jobs)
    lines = "".join(json.dumps(record, sort_keys=True) + "\n" for record in trials)
    (folder / "trials.jsonl").write_text(lines, encoding="utf-8")
    for job in jobs:
        if job.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            write_json(job.result.best_experiment(), folder / "best" / f"{job.label}.json")
    labels = [job.label for job in jobs]
    content: dict[str, Any] = {
        "dataset": tuning.dataset,
        "metric": tuning.metric,
        "larger_is_better": jobs[0].objective.larger_is_better,
        "samplers": [_sampler(job, trials) for job in jobs],
        "spaces": differing_ranges(jobs),
        "winners": _winners(records, labels),
    }
    write_json(content, folder / "report.json")
    _write_page(content, tuning, trials, records, labels, folder, command)
    return content


def _record(label: str, trial: FrozenTrial) -> dict[str, Any]:
    return {
        "sampler": label,
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value if trial.state == TrialState.COMPLETE else None,
        "values": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
        "params": trial.params,
        "seed": trial.user_attrs.get(SEED),
        "attempts": 1 + len(trial.system_attrs.get("retry_history", ())),
        "best_epoch": trial.user_attrs.get("best_epoch"),
        **trial.user_attrs.get(EFFORT, {}),
        "error": trial.user_attrs.get(ERROR),
        "ended": None if trial.datetime_complete is None else trial.datetime_complete.isoformat(timespec="seconds"),
    }


def _sampler(job: Job, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up the study of one sampler."""
    own = [record for record in trials if record["sampler"] == job.label]
    complete = [record for record in own if record["state"] == "complete"]
    best = job.study.best_trial if complete else None
    return {
        "sampler": job.label,
        **{state: sum(r["state"] == state for r in own) for state in ("complete", "pruned", "fail")},
        "retried": sum(record["attempts"] > 1 for record in own),
        "best": None if best is None else best.value,
        "trial": None if best is None else best.number,
        "params": {} if best is None else best.params,
        "importances": _importances(job.study, len(complete)),
        "seconds": sum(record.get("seconds", 0.0) for record in own),
        "scores": sum(record.get("scores", 0) for record in own),
    }


def _importances(study: optuna.Study, complete: int) -> dict[str, float]:
    """Estimate which parameters matter, by Optuna's default evaluator; empty where there are too few trials."""
    if complete < _MANY:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(study)
    except (ImportError, RuntimeError, ValueError):
        # no variance, or trials with different parameters
        return {}
    return {name: float(value) for name, value in found.items()}


def _winners(records: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Compare the winners with the first one, on test, seed by seed."""
    values = {
        label: {record["seed"]: record["test"]["mrr"] for record in records if record["sampler"] == label}
        for label in labels
    }
    values = {label: own for label, own in values.items() if own}
    rows = []
    for label, own in values.items():
        numbers = list(own.values())
        row: dict[str, Any] = {
            "sampler": label,
            "seeds": len(numbers),
            "mean": float(np.mean(numbers)),
            "deviation": float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None,
        }
        first = values[next(iter(values))]
        shared = [seed for seed in first if seed in own]
        found = paired_difference([first[seed] for seed in shared], [own[seed] for seed in shared])
        row["difference"] = {name: None if np.isnan(value) else value for name, value in vars(found).items()}
        rows.append(row)
    return rows


def _write_page(
    content: Mapping[str, Any],
    tuning: Tuning,
    trials: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    folder: pathlib.Path,
    command: str | None,
) -> None:
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    label = None if tuning.metric == "mrr" else f"{tuning.metric} on validation"
    drawn = {"trials": plot_trials(pd.DataFrame(trials), labels, label, content["larger_is_better"])}
    results = None
    if records:
        results = Results(records=records, config={"samplers": {label: {} for label in labels}})
        drawn["results"] = plot_results(results.runs, samplers=results.samplers)
        drawn["epochs"] = plot_curves(results.curves, samplers=results.samplers)
    paths = {name: figures / f"{name}.png" for name in drawn}
    for name, figure in drawn.items():
        for axes in figure.axes:
            if name == "trials":
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        save_png(figure, paths[name])
    page = environment().get_template("tuning.html.j2")
    text = page.render(
        content=content,
        figures=paths,
        colors={label: style["color"] for label, style in styles(labels).items()},
        summary=[] if results is None else summarize(results.runs, results.samplers).to_dict("records"),
        metrics=METRICS,
        settings={
            k: v if isinstance(v, str) else json.dumps(v) for k, v in tuning.to_mapping().items() if k != "samplers"
        },
        samplers={label: json.dumps(value) for label, value in tuning.samplers.items()},
        environments=environments(records),
        command=command,
        level=LEVEL,
        power=POWER,
        config=json.dumps(tuning.to_mapping(), indent=2),
    )
    (folder / "report.html").write_text(text, encoding="utf-8")

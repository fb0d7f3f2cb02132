"""A study as a queue: its trials are all there from the start, and each worker takes one after the other.

So many trials as were asked for are run, however many processes take part, join late or die: who takes a trial changes
its state from waiting to running, which only one process can. A trial whose process died is put in the queue again.
"""

from __future__ import annotations

import json
import logging
import os
import pathlib
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from class_resolver.contrib.optuna import pruner_resolver
from optuna import Study, Trial
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from pykeen.datasets import Dataset

from ..datasets import load_dataset
from ..errors import ConfigurationError
from .making import make_objective
from .objective import CHECKPOINT, SEED, SamplerObjective
from .pipeline import give_up, make_search, open_study
from .result import StudyResult
from .settings import Tuning
from .storage import GRACE, Requeue, claim, exclusively, is_lost

__all__ = ["Queue", "join", "prepare", "progress_of", "work"]

logger = logging.getLogger(__name__)

#: the attributes of a study: the name it was asked for by, its sampler's label, the settings, the trials queued
GROUP, LABEL, SETTINGS, QUEUED = "advneg_group", "advneg_label", "advneg_settings", "advneg_queued"
WORKER = "worker"
#: the seeds of trial ``n`` of a search are so far from those of trial ``n + 1``
SEEDS_APART = 1009
#: seconds between two looks at trials of others
POLL = 1.0


class QueueIsEmptyError(Exception):
    """No trial is waiting."""


class Queue(Study):
    """A study which runs no trials but those which are waiting."""

    #: makes Optuna's sampler for the trial of a number
    search: Callable[[int], BaseSampler]

    def ask(self, fixed_distributions: Any = None) -> Trial:
        """Take a waiting trial.

        :param fixed_distributions: not used

        :returns: a trial which is this process's own

        :raises QueueIsEmptyError: if there is none
        """
        storage = self._storage
        with claim(storage):
            for trial in storage.get_all_trials(self._study_id, deepcopy=False, states=(TrialState.WAITING,)):
                try:
                    if not storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING):
                        continue
                except UpdateFinishedTrialError:
                    continue
                # each trial has a search of its own seed: no two processes draw the same values, and none draws those
                # of a process before it again
                self.sampler = self.search(trial.number)
                taken = Trial(self, trial._trial_id)
                taken.set_user_attr(WORKER, f"{platform.node()}:{os.getpid()}")
                return taken
        raise QueueIsEmptyError(self.study_name)


@dataclass(frozen=True)
class Job:
    """The study of one sampler."""

    label: str
    study: Queue
    objective: SamplerObjective

    @property
    def result(self) -> StudyResult:
        """The result so far."""
        return StudyResult(study=self.study, objective=self.objective)


def prepare(
    tuning: Tuning,
    name: str,
    storage: BaseStorage,
    checkpoints: pathlib.Path | None,
    data: Dataset,
    top_up: bool = True,
    check: Callable[[Job], None] = lambda _job: None,
) -> list[Job]:
    """Make the studies of a tuning with all their trials, or join them.

    :param tuning: what is asked for
    :param name: the name which all studies have in common
    :param storage: where they are kept
    :param checkpoints: where trials under way keep their checkpoints
    :param data: the data set
    :param top_up: whether to add what trials are missing in studies which exist
    :param check: is called with each job before any trial is queued

    :returns: a job for each sampler

    :raises ConfigurationError: if something cannot work, or if a study is of another configuration
    """
    jobs = [_job(tuning, name, label, storage, checkpoints, data) for label in tuning.samplers]
    for job in jobs:
        check(job)
    for job in jobs:
        attributes = job.study.user_attrs
        is_new = QUEUED not in attributes
        if is_new or top_up:
            _fill(job.study, tuning, name, job.label)
    return jobs


def join(
    name: str, storage: BaseStorage, checkpoints: pathlib.Path | None, patience: float = 30.0
) -> tuple[Tuning, list[Job]]:
    """Join the studies of a tuning, by what is written down with them.

    :param name: the name which they have in common
    :param storage: where they are kept
    :param checkpoints: where trials under way keep their checkpoints
    :param patience: how many seconds to wait for them to be made

    :returns: the settings, and a job for each sampler

    :raises ConfigurationError: if there are none
    """
    end = time.monotonic() + patience
    while True:
        found = [study for study in storage.get_all_studies() if study.user_attrs.get(GROUP) == name]
        queued = [study for study in found if QUEUED in study.user_attrs]
        settings = next((json.loads(study.user_attrs[SETTINGS]) for study in queued), None)
        if settings is not None and len(queued) == len(settings["samplers"]):
            break
        if time.monotonic() > end:
            known = sorted({str(s.user_attrs[GROUP]) for s in storage.get_all_studies() if GROUP in s.user_attrs})
            raise ConfigurationError(
                f"study {name!r} is not in this storage, which has {known or 'none'}; make it by `advneg hpo`, or give "
                f"--config to make it here."
            )
        time.sleep(POLL)
    tuning = Tuning.from_mapping(settings)
    data = load_data(tuning)
    return tuning, [_job(tuning, name, label, storage, checkpoints, data) for label in tuning.samplers]


def load_data(tuning: Tuning) -> Dataset:
    """Load the data set of a tuning."""
    return load_dataset(tuning.dataset, tuning.vocabulary, tuning.create_inverse_triples)


def work(jobs: list[Job], requeue: Requeue, grace: float = GRACE, poll: float = POLL) -> int:
    """Run trials until none is left in any study; the studies take turns.

    :param jobs: the studies
    :param requeue: puts trials whose process died in the queue again
    :param grace: seconds to leave to other processes to do so
    :param poll: seconds between two looks at trials of others

    :returns: how many trials this process has run

    :raises ConfigurationError: if all trials of a study fail
    """
    count = 0
    while any(not progress_of(job.study)["done"] for job in jobs):
        for job in sorted(jobs, key=lambda each: progress_of(each.study)["started"]):
            if _run_one(job, requeue, grace):
                count += 1
                break
        else:
            time.sleep(poll)
    return count


def _run_one(job: Job, requeue: Requeue, grace: float) -> bool:
    """Run a waiting trial, if there is one."""
    mend(job.study, requeue, grace)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            job.study.optimize(
                cast("Callable[[Trial], float]", job.objective), n_trials=1, catch=(Exception,), callbacks=[give_up]
            )
    except QueueIsEmptyError:
        return False
    except UpdateFinishedTrialError:
        logger.warning("A trial of this process was taken for dead, and is run by another one.")
    except KeyboardInterrupt:
        mine = f"{platform.node()}:{os.getpid()}"
        for trial in job.study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            if trial.user_attrs.get(WORKER) == mine and is_lost(trial):
                requeue(job.study, trial)
        raise
    return True


def mend(study: Study, requeue: Requeue, after: float = GRACE) -> None:
    """Put trials in the queue again which a process has marked as dead, and died itself before it did so.

    :param study: the study
    :param requeue: puts a trial in the queue again
    :param after: seconds to leave to the process which marked it
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        ended = trial.datetime_complete
        if is_lost(trial) and ended is not None and time.time() - ended.timestamp() > after:
            requeue(study, trial)


def progress_of(study: Study) -> dict[str, Any]:
    """Count the trials of a study; one which was tried several times is one.

    :param study: the study

    :returns: ``complete``, ``pruned``, ``failed`` (for good), ``running``, ``waiting``, ``started``, whether all are
        ``done``, and the ``trials``
    """
    trials = study.get_trials(deepcopy=False)
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    last = [trial for trial in trials if trial.number not in again]
    counts: dict[str, Any] = {
        name: sum(trial.state == state for trial in last)
        for name, state in (
            ("complete", TrialState.COMPLETE),
            ("pruned", TrialState.PRUNED),
            ("failed", TrialState.FAIL),
            ("running", TrialState.RUNNING),
            ("waiting", TrialState.WAITING),
        )
    }
    # one which is about to be tried again is not done, unless it has been tried too often
    pending = [t for t in last if is_lost(t) and len(t.system_attrs.get("retry_history", ())) < _retries_of(study)]
    return {
        **counts,
        "started": len(last) - counts["waiting"],
        "done": not counts["running"] and not counts["waiting"] and not pending,
        "trials": last,
    }


def _retries_of(study: Study) -> int:
    """How many times trials of a study are tried again."""
    storage = study._storage
    # the second is its name before Optuna 4.9
    names = ("get_heartbeat_stale_trial_callback", "get_failed_trial_callback")
    getter = next((getattr(storage, name) for name in names if hasattr(storage, name)), None)
    callback = None if getter is None else getter()
    return callback.retries if isinstance(callback, Requeue) else 0


def _job(
    tuning: Tuning, name: str, label: str, storage: BaseStorage, checkpoints: pathlib.Path | None, data: Dataset
) -> Job:
    kwargs: dict[str, Any] = {"dataset": tuning.dataset}
    if tuning.create_inverse_triples:
        kwargs["dataset_kwargs"] = {"create_inverse_triples": True}
    objective, direction = make_objective(**tuning.arguments(label), **kwargs, checkpoint_directory=checkpoints)
    objective._data = data
    study_name = f"{name}.{label}"
    open_study(objective, direction, storage=storage, load_if_exists=True, study_name=study_name)
    search = tuning.search
    pruner = pruner_resolver.make(search.get("pruner"), search.get("pruner_kwargs"))
    study = Queue(study_name, storage, pruner=pruner)
    kwargs_of_search = search.get("sampler_kwargs") or {}
    study.search = lambda number: make_search(
        search.get("sampler"), kwargs_of_search, tuning.random_seed + SEEDS_APART * number
    )
    return Job(label, study, objective)


def _fill(study: Queue, tuning: Tuning, name: str, label: str) -> None:
    """Queue the trials which are missing; who comes second finds nothing to do."""
    with exclusively(study._storage, study.study_name):
        study.set_user_attr(GROUP, name)
        study.set_user_attr(LABEL, label)
        study.set_user_attr(SETTINGS, json.dumps(tuning.to_mapping()))
        present = {trial.user_attrs.get(CHECKPOINT) for trial in study.get_trials(deepcopy=False)}
        for number in range(tuning.trials):
            key = f"{study.study_name}-{number:04d}"
            if key not in present:
                study.enqueue_trial({}, user_attrs={SEED: tuning.random_seed + number, CHECKPOINT: key})
        study.set_user_attr(QUEUED, tuning.trials)


def show(trial: FrozenTrial) -> str:
    """Describe a trial under way."""
    last = trial.last_step
    value = "" if last is None else f" epoch {last} {trial.intermediate_values[last]:.4f}"
    return f"#{trial.number}{value}"

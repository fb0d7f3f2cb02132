"""A study as a queue: its trials are all there from the start, and each worker takes one after the other.

So many trials as were asked for are run, however many processes take part, join late or die: who takes a trial changes
its state from waiting to running, which only one process can. A trial whose process died is put in the queue again.
"""

from __future__ import annotations

import logging
import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from optuna import Study, Trial
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import BaseHeartbeat, is_heartbeat_enabled
from optuna.trial import FrozenTrial, TrialState

from .exclusion import claim
from .objective import SamplerObjective
from .result import StudyResult
from .storage import GRACE, Requeue, is_lost
from .studies import give_up
from .watching import ENDING

__all__ = ["Job", "Queue", "progress_of", "show", "work"]

logger = logging.getLogger(__name__)

#: the attribute of a trial with the process which runs it
WORKER = "worker"
#: seconds between two looks at trials of others
POLL = 1.0


class QueueIsEmptyError(Exception):
    """No trial is waiting."""


class Queue(Study):
    """A study which runs no trials but those which are waiting."""

    def ask(self, fixed_distributions: Any = None) -> Trial:
        """Take a waiting trial.

        :param fixed_distributions: not used

        :returns: a trial which is this process's own

        :raises QueueIsEmptyError: if there is none
        """
        storage = self._storage
        with claim(storage):
            for trial in storage.get_all_trials(self._study_id, deepcopy=False, states=(TrialState.WAITING,)):
                if not _claimed(storage, trial._trial_id):
                    continue
                taken = Trial(self, trial._trial_id)
                taken.set_user_attr(WORKER, f"{platform.node()}:{os.getpid()}")
                return taken
        raise QueueIsEmptyError(self.study_name)


def _claimed(storage: BaseStorage, number: int) -> bool:
    """Take a trial, unless another process has."""
    try:
        if isinstance(storage, BaseHeartbeat) and is_heartbeat_enabled(storage):
            # Optuna takes a running trial without a sign of life for alive: there must be one, whenever this process
            # may die
            storage.record_heartbeat(number)
        return storage.set_trial_state_values(number, state=TrialState.RUNNING)
    except UpdateFinishedTrialError:
        return False


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
        if ENDING.is_set():
            raise KeyboardInterrupt
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
    except (UpdateFinishedTrialError, ValueError) as error:
        # the second is how Optuna tells so, after the objective has ended by whatever error
        if isinstance(error, ValueError) and not str(error).startswith("Cannot tell a "):
            raise
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
    :param after: seconds to leave to the process which marked it, from when this process first saw it
    """
    for trial in _pending(study, study.get_trials(deepcopy=False)):
        # the times of trials are those of other machines' clocks, without a zone
        first = requeue.seen.setdefault((study.study_name, trial.number), time.monotonic())
        if time.monotonic() - first >= after:
            requeue(study, trial)


def _pending(study: Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """List the trials which were lost, and neither are in the queue again nor have been tried too often."""
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    retries = _retries_of(study)
    return [
        trial
        for trial in trials
        if is_lost(trial) and trial.number not in again and len(trial.system_attrs.get("retry_history", ())) < retries
    ]


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
    return {
        **counts,
        "started": len(last) - counts["waiting"],
        "done": not counts["running"] and not counts["waiting"] and not _pending(study, trials),
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


def show(trial: FrozenTrial) -> str:
    """Describe a trial under way."""
    last = trial.last_step
    value = "" if last is None else f" epoch {last} {trial.intermediate_values[last]:.4f}"
    return f"#{trial.number}{value}"

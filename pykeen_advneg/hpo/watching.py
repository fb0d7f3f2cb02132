"""What looks on while a trial trains: its costs, its values on the way, and whether it goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from optuna import Trial, TrialPruned
from pykeen.stoppers import EarlyStopper
from pykeen.trackers import ResultTracker
from pykeen.training.callbacks import TrainingCallback

__all__ = ["EFFORT", "ENDING", "Effort", "Reporter", "add_callbacks"]

logger = logging.getLogger(__name__)

#: the attribute of a trial with its costs
EFFORT = "effort"
#: set when this process is asked to end, which it does between two batches: an exception out of a signal handler may
#: hit a storage while it writes, which turns it into an error of its own, and then into one of the trial
ENDING = threading.Event()


class Effort(TrainingCallback):
    """Counts what a trial has spent, in all processes which worked on it."""

    def __init__(self, before: Mapping[str, float]) -> None:
        """Initialize the callback.

        :param before: what processes before this one have spent
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.before = before
        self.start = time.perf_counter()

    # docstr-coverage: inherited
    def pre_batch(self, **kwargs: Any) -> None:  # noqa: D102
        if ENDING.is_set():
            raise KeyboardInterrupt

    @property
    def spent(self) -> dict[str, float]:
        """The seconds, epochs and scores so far."""
        loop = self._training_loop
        scores = getattr(loop, "num_scores", 0)
        return {
            "seconds": self.before.get("seconds", 0.0) + time.perf_counter() - self.start,
            "scores": self.before.get("scores", 0) + scores,
            "epochs": 0 if loop is None else loop._epoch,
        }


class Reporter:
    """Reports the values of a stopper to a trial, and ends it if they are too low."""

    def __init__(self, trial: Trial, tracker: ResultTracker, effort: Effort) -> None:
        self.trial, self.tracker, self.effort = trial, tracker, effort
        # those which a process that died has reported
        self.reported = {int(step) for step in _intermediate(trial)}

    # docstr-coverage: inherited
    def __call__(self, _stopper: EarlyStopper, result: float, epoch: int) -> None:  # noqa: D102
        if epoch not in self.reported:
            self.trial.report(result, step=epoch)
        self.trial.set_user_attr(EFFORT, self.effort.spent)
        if not self.trial.should_prune():
            return
        self.tracker.log_metrics(metrics=dict(pruned=1), step=epoch)
        # it has been successful, and is not worth to go on
        self.tracker.end_run(success=True)
        logger.info("Pruned trial %d at epoch %d.", self.trial.number, epoch)
        raise TrialPruned(f"epoch {epoch}")


def add_callbacks(training: dict[str, Any], *callbacks: TrainingCallback, first: bool = False) -> None:
    """Add callbacks to those of a user.

    :param training: the ``training_kwargs`` of the pipeline, which are changed
    :param callbacks: what to add
    :param first: whether they come before those of the user
    """
    present, given = (_listed(training.get(name)) for name in ("callbacks", "callbacks_kwargs"))
    training["callbacks"] = [*callbacks, *present] if first else [*present, *callbacks]
    if given:
        nothing = [None] * len(callbacks)
        training["callbacks_kwargs"] = [*nothing, *given] if first else [*given, *nothing]


def _listed(value: Any) -> list[Any]:
    """Make a list of one, of several or of none."""
    return [*value] if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _intermediate(trial: Trial) -> Mapping[int, float]:
    """Give what has been reported of a trial."""
    values: Mapping[int, float] = trial.study._storage.get_trial(trial._trial_id).intermediate_values
    return values

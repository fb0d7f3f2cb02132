"""One trial: PyKEEN's objective, which tunes the sampler of any loop, prunes on the study's metric, and resumes."""

from __future__ import annotations

import logging
import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from optuna import Trial, TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import BaseTrial
from pykeen.hpo.hpo import STOPPED_EPOCH_KEY
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.trackers import ResultTracker, tracker_resolver
from pykeen.version import get_version

from .. import __version__
from ..checkpoint import own_name, recover
from ..comparison.tracking import RANKING_METRICS, BestWeights
from ..errors import CheckpointError
from .suggesting import SuggestingObjective, plain_copy
from .watching import EFFORT, Effort, Reporter, add_callbacks

__all__ = ["SEED", "SamplerObjective"]

logger = logging.getLogger(__name__)

#: the attributes of a trial
SEED, ERROR, CHECKPOINT, ENVIRONMENT = "random_seed", "error", "checkpoint", "environment"


@dataclass
class SamplerObjective(SuggestingObjective):
    """PyKEEN's objective with what it lacks.

    What is searched is said by :class:`SuggestingObjective`. Each trial has a random seed which is known, and is judged
    by its best epoch; one whose process died goes on from its checkpoint.
    """

    #: where trials which are under way keep their checkpoints; None: they keep none
    checkpoint_directory: Path | None = None
    #: minutes between checkpoints; 0: after each epoch
    checkpoint_frequency: int = 1

    # docstr-coverage: inherited
    def __call__(self, trial: Trial) -> float | None:  # noqa: D102
        attributes = trial.user_attrs
        # one which is tried again has the attributes of the first attempt
        own = {SEED: self.random_seed + trial.number, CHECKPOINT: self.checkpoint_key(trial)}
        for name, value in own.items():
            if name not in attributes:
                trial.set_user_attr(name, value)
        seed, key = (attributes.get(name, value) for name, value in own.items())
        is_over = False
        try:
            value = self._train(trial, seed, key)
        except TrialPruned:
            is_over = True
            raise
        except UpdateFinishedTrialError:
            # it was taken for dead: its files are those of the process which has it now
            raise
        except Exception as error:
            trial.set_user_attr(ERROR, " ".join(f"{type(error).__name__}: {error}".split())[:1000])
            is_over = True
            raise
        else:
            is_over = True
            return value
        finally:
            # if not over, the process is asked to end: whoever takes over goes on from the files
            if is_over:
                self._clean(key)

    def checkpoint_key(self, trial: BaseTrial) -> str:
        """Name the files of a trial under way, which no trial of another study or seed has.

        :param trial: the trial

        :returns: the beginning of the names
        """
        study = getattr(trial, "study", None)
        name = re.sub(r"[^\w.+-]", "_", "trial" if study is None else study.study_name)
        return f"{name}-seed{self.random_seed}-{trial.number}"

    def _train(self, trial: Trial, seed: int, key: str) -> float:
        """Train and evaluate a trial."""
        trial.set_user_attr(ENVIRONMENT, _environment())
        arguments = self.arguments(trial)
        tracker = tracker_resolver.make(query=self.result_tracker, pos_kwargs=plain_copy(self.result_tracker_kwargs))
        effort = Effort(trial.user_attrs.get(EFFORT, {}))
        # a pruned trial would leave its best weights in PyKEEN's home
        with tempfile.TemporaryDirectory() as folder:
            self._add_callbacks(arguments, trial, tracker, effort, self.checkpoint_directory or Path(folder), key)
            try:
                result = pipeline(
                    **arguments,
                    dataset=self.data(),
                    result_tracker=tracker,
                    random_seed=seed,
                    use_testing_data=False,
                )
            except TrialPruned:
                raise
            except Exception:
                tracker.end_run(success=False)
                raise
        trial.set_user_attr(EFFORT, effort.spent)
        return self._finish(trial, result)

    def _add_callbacks(
        self,
        arguments: dict[str, Any],
        trial: Trial,
        tracker: ResultTracker,
        effort: Effort,
        folder: Path,
        key: str,
    ) -> None:
        """Add to the arguments what a trial needs besides, and what its result does not depend on."""
        training = arguments["training_kwargs"]
        add_callbacks(training, effort)
        folder.mkdir(parents=True, exist_ok=True)
        if self.checkpoint_directory is not None and self.keeps_the_best:
            training |= {
                "checkpoint_name": f"{key}.pt",
                "checkpoint_directory": folder,
                "checkpoint_frequency": self.checkpoint_frequency,
            }
            _drop_damaged(folder / f"{key}.pt")
        if not self.prunes:
            return
        stopper = arguments["stopper_kwargs"]
        best = Path(stopper.get("best_model_path", folder / f"{key}.best.pt"))
        if not self.keeps_the_best:
            # that of a process which died is of another run
            best.unlink(missing_ok=True)
            add_callbacks(training, BestWeights(best))
        stopper["best_model_path"] = best
        stopper["result_callbacks"] = [*stopper.get("result_callbacks", []), Reporter(trial, tracker, effort)]
        stopper["stopped_callbacks"] = [
            *stopper.get("stopped_callbacks", []),
            lambda _stopper, _result, epoch: trial.set_user_attr(STOPPED_EPOCH_KEY, epoch),
        ]

    def _finish(self, trial: Trial, result: PipelineResult) -> float:
        if self.save_model_directory:
            result.save_to_directory(Path(self.save_model_directory) / str(trial.number))
        best = getattr(result.stopper, "best_epoch", None)
        trial.set_user_attr("best_epoch", len(result.losses) if best is None else best)
        flat = result.metric_results.to_flat_dict()
        for name in RANKING_METRICS.values():
            if name in flat:
                trial.set_user_attr(name, float(flat[name]))
        value = float(result.metric_results.get_metric(self.metric))
        if math.isnan(value):
            # without an error of its own, Optuna would take it for one whose process died
            raise ValueError(f"{self.metric} is not a number")
        return value

    def _clean(self, key: str) -> None:
        """Drop what a trial under way needed."""
        if self.checkpoint_directory is not None:
            for path in self.checkpoint_directory.glob(f"{key}.*"):
                path.unlink(missing_ok=True)


def _environment() -> dict[str, Any]:
    """Say what the last bits of a result depend on, in the process which computes it."""
    return {
        "pykeen_version": get_version(),
        "pykeen_advneg_version": __version__,
        "torch_version": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def _drop_damaged(path: Path) -> None:
    """Let a trial start anew whose checkpoint cannot be read."""
    own = path.with_name(own_name(path.name))
    try:
        recover(own)
    except CheckpointError as error:
        logger.warning("%s The trial starts anew.", error)
        own.unlink(missing_ok=True)

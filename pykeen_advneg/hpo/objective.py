"""One trial: PyKEEN's objective, which tunes the sampler of any loop, prunes on the study's metric, and resumes."""

from __future__ import annotations

import dataclasses
import logging
import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna import Trial, TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import BaseTrial
from pykeen.datasets import Dataset, get_dataset
from pykeen.hpo.hpo import STOPPED_EPOCH_KEY, Objective
from pykeen.lr_schedulers import lr_schedulers_hpo_defaults
from pykeen.optimizers import optimizers_hpo_defaults
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.stoppers import EarlyStopper
from pykeen.trackers import ResultTracker, tracker_resolver
from pykeen.training import SLCWATrainingLoop

from ..checkpoint import own_name, recover
from ..comparison.tracking import RANKING_METRICS, BestWeights
from ..errors import CheckpointError
from ..training import AdversarialTrainingLoop
from .spaces import merged, sampler_ranges, suggest, without
from .watching import EFFORT, Effort, Reporter, add_callbacks

__all__ = ["SEED", "SamplerObjective", "plain_copy"]

logger = logging.getLogger(__name__)

#: the attributes of a trial
SEED, ERROR, CHECKPOINT = "random_seed", "error", "checkpoint"
#: the keyword-based parameters of the pipeline which have ranges
# what samplers share comes first: where values are drawn independently, all get the same ones from the same seed
COMPONENTS = (
    "model",
    "loss",
    "regularizer",
    "optimizer",
    "lr_scheduler",
    "training",
    "training_loop",
    "negative_sampler",
)


def plain_copy(value: Any) -> Any:
    """Copy mappings and sequences all the way down, and nothing else: what is changed is never the caller's."""
    if isinstance(value, Mapping):
        return {key: plain_copy(item) for key, item in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(plain_copy(item) for item in value)
    return value


@dataclass
class SamplerObjective(Objective):
    """PyKEEN's objective with what it lacks.

    The sampler is tuned for every loop which draws negatives; ranges may be nested, and there are some for the loop's
    own arguments; the stopper looks at the study's metric; each trial has a random seed which is known; no dictionary
    of the caller is changed; a trial whose process died goes on from its checkpoint.
    """

    training_loop_kwargs_ranges: Mapping[str, Any] | None = None
    #: the seed of the first trial; the next ones have the next numbers
    random_seed: int = 0
    #: whether a larger value of the metric is better
    larger_is_better: bool = True
    #: where trials which are under way keep their checkpoints; None: they keep none
    checkpoint_directory: Path | None = None
    #: minutes between checkpoints; 0: after each epoch
    checkpoint_frequency: int = 1

    _data: Dataset | None = dataclasses.field(default=None, init=False, repr=False)

    @property
    def draws_negatives(self) -> bool:
        """Whether the loop has a sampler."""
        return issubclass(self.training_loop, SLCWATrainingLoop)

    @property
    def prunes(self) -> bool:
        """Whether there are values on the way which a pruner can look at."""
        return self.stopper is not None and issubclass(self.stopper, EarlyStopper)

    @property
    def keeps_the_best(self) -> bool:
        """Whether the loop goes back to the best epoch by itself, and can go on from a checkpoint in all exactness."""
        return issubclass(self.training_loop, AdversarialTrainingLoop)

    def data(self) -> Dataset:
        """Load the data set, once."""
        if self._data is None:
            self._data = get_dataset(
                dataset=self.dataset,
                dataset_kwargs=plain_copy(self.dataset_kwargs),
                training=self.training,
                testing=self.testing,
                validation=self.validation,
            )
        return self._data

    def ranges(self, component: str) -> dict[str, Any]:
        """Collect what is searched of a component, without what is fixed.

        :param component: one of :data:`COMPONENTS`

        :returns: the ranges, the user's over the defaults
        """
        if getattr(self, component, True) is None or (component == "negative_sampler" and not self.draws_negatives):
            return {}
        given = getattr(self, f"{component}_kwargs_ranges")
        return without(merged(self._default_ranges(component), given), getattr(self, f"{component}_kwargs") or {})

    def _default_ranges(self, component: str) -> Mapping[str, Any]:
        match component:
            case "optimizer":
                return optimizers_hpo_defaults.get(self.optimizer, {})
            case "lr_scheduler":
                assert self.lr_scheduler is not None
                return lr_schedulers_hpo_defaults.get(self.lr_scheduler, {})
            case "negative_sampler":
                assert self.negative_sampler is not None
                return sampler_ranges(self.negative_sampler, self.negative_sampler_kwargs)
            case "training_loop":
                return {}
            case "training":
                return self.training_loop.hpo_default
        return getattr(getattr(self, component), "hpo_default", {})

    def arguments(self, trial: BaseTrial) -> dict[str, Any]:
        """Suggest the arguments of the pipeline for a trial.

        :param trial: the trial, or a fixed one

        :returns: all that determines its result but the data and the seed
        """
        arguments: dict[str, Any] = {
            f"{component}_kwargs": suggest(
                trial, component, self.ranges(component), plain_copy(getattr(self, f"{component}_kwargs"))
            )
            for component in COMPONENTS
        }
        for component in COMPONENTS:
            if component != "training":
                arguments[component] = getattr(self, component)
        if not self.draws_negatives:
            del arguments["negative_sampler"], arguments["negative_sampler_kwargs"]
        stopper_kwargs = plain_copy(self.stopper_kwargs or {})
        if self.prunes:
            stopper_kwargs = {
                **stopper_kwargs,
                "metric": self.metric,
                "larger_is_better": self.larger_is_better,
            }
        return {
            **arguments,
            "stopper": self.stopper,
            "stopper_kwargs": stopper_kwargs,
            "evaluator": self.evaluator,
            "evaluator_kwargs": plain_copy(self.evaluator_kwargs),
            "evaluation_kwargs": plain_copy(self.evaluation_kwargs),
            "evaluation_entity_whitelist": self.evaluation_entity_whitelist,
            "evaluation_relation_whitelist": self.evaluation_relation_whitelist,
            "filter_validation_when_testing": self.filter_validation_when_testing,
            "device": self.device,
        }

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


def _drop_damaged(path: Path) -> None:
    """Let a trial start anew whose checkpoint cannot be read."""
    own = path.with_name(own_name(path.name))
    try:
        recover(own)
    except CheckpointError as error:
        logger.warning("%s The trial starts anew.", error)
        own.unlink(missing_ok=True)

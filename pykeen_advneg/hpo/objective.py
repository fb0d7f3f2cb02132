"""One trial: PyKEEN's objective, which tunes the sampler of any loop, prunes on the study's metric, and resumes."""

from __future__ import annotations

import copy
import dataclasses
import logging
import pathlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna import Trial, TrialPruned
from optuna.trial import BaseTrial
from pykeen.datasets import Dataset, get_dataset
from pykeen.hpo.hpo import STOPPED_EPOCH_KEY, Objective
from pykeen.lr_schedulers import lr_schedulers_hpo_defaults
from pykeen.optimizers import optimizers_hpo_defaults
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.stoppers import EarlyStopper
from pykeen.trackers import ResultTracker, tracker_resolver
from pykeen.training import SLCWATrainingLoop
from pykeen.training.callbacks import TrainingCallback

from ..checkpoint import own_name, recover
from ..comparison.tracking import RANKING_METRICS
from ..errors import CheckpointError, ConfigurationError
from ..training import AdversarialTrainingLoop
from .spaces import merged, sampler_ranges, suggest

__all__ = ["SEED", "SamplerObjective", "plain_copy"]

logger = logging.getLogger(__name__)

#: the attributes of a trial
SEED, ERROR, EFFORT, CHECKPOINT = "random_seed", "error", "effort", "checkpoint"
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


class Effort(TrainingCallback):
    """Counts what a trial has spent, in all processes which worked on it."""

    def __init__(self, before: Mapping[str, float]) -> None:
        """Initialize the callback.

        :param before: what processes before this one have spent
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.before = before
        self.start = time.perf_counter()

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
    checkpoint_directory: pathlib.Path | None = None
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
        return _without(merged(self._default_ranges(component), given), getattr(self, f"{component}_kwargs") or {})

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
        own = {SEED: self.random_seed + trial.number, CHECKPOINT: f"trial-{trial.number}"}
        for name, value in own.items():
            if name not in attributes:
                trial.set_user_attr(name, value)
        seed, key = (attributes.get(name, value) for name, value in own.items())
        arguments = self.arguments(trial)
        tracker = tracker_resolver.make(query=self.result_tracker, pos_kwargs=plain_copy(self.result_tracker_kwargs))
        effort = Effort(attributes.get(EFFORT, {}))
        self._add_callbacks(arguments, trial, tracker, effort, key)
        finished = True
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
        except Exception as error:
            tracker.end_run(success=False)
            trial.set_user_attr(ERROR, " ".join(f"{type(error).__name__}: {error}".split())[:1000])
            raise
        except BaseException:
            # the process is asked to end: whoever takes over goes on from here
            finished = False
            raise
        finally:
            if finished:
                self._clean(key)
        trial.set_user_attr(EFFORT, effort.spent)
        return self._finish(trial, result)

    def _add_callbacks(
        self, arguments: dict[str, Any], trial: Trial, tracker: ResultTracker, effort: Effort, key: str
    ) -> None:
        """Add to the arguments what a trial needs besides, and what its result does not depend on."""
        training = arguments["training_kwargs"]
        if training.get("checkpoint_name"):
            raise ConfigurationError(
                f"training_kwargs.checkpoint_name={training['checkpoint_name']!r} would be shared by all trials; leave "
                f"it out, each trial has a checkpoint of its own."
            )
        callbacks = training.get("callbacks")
        callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [] if callbacks is None else [callbacks]
        training["callbacks"] = [*callbacks, effort]
        if training.get("callbacks_kwargs"):
            given = training["callbacks_kwargs"]
            training["callbacks_kwargs"] = [*(given if isinstance(given, (list, tuple)) else [given]), None]
        folder = self.checkpoint_directory
        if folder is not None and issubclass(self.training_loop, AdversarialTrainingLoop):
            folder.mkdir(parents=True, exist_ok=True)
            training |= {
                "checkpoint_name": f"{key}.pt",
                "checkpoint_directory": folder,
                "checkpoint_frequency": self.checkpoint_frequency,
            }
            _drop_damaged(folder / f"{key}.pt")
        if self.prunes:
            stopper = arguments["stopper_kwargs"]
            if folder is not None:
                # else a pruned trial leaves it in PyKEEN's home
                stopper.setdefault("best_model_path", folder / f"{key}.best.pt")
            stopper["result_callbacks"] = [
                *stopper.get("result_callbacks", []),
                _Reporter(trial, tracker, effort),
            ]
            stopper["stopped_callbacks"] = [
                *stopper.get("stopped_callbacks", []),
                lambda _stopper, _result, epoch: trial.set_user_attr(STOPPED_EPOCH_KEY, epoch),
            ]

    def _finish(self, trial: Trial, result: PipelineResult) -> float:
        if self.save_model_directory:
            result.save_to_directory(pathlib.Path(self.save_model_directory) / str(trial.number))
        best = getattr(result.stopper, "best_epoch", None)
        trial.set_user_attr("best_epoch", len(result.losses) if best is None else best)
        flat = result.metric_results.to_flat_dict()
        for name in RANKING_METRICS.values():
            if name in flat:
                trial.set_user_attr(name, float(flat[name]))
        return float(result.metric_results.get_metric(self.metric))

    def _clean(self, key: str) -> None:
        """Drop what a trial under way needed."""
        if self.checkpoint_directory is not None:
            for path in self.checkpoint_directory.glob(f"{key}.*"):
                path.unlink(missing_ok=True)


class _Reporter:
    """Reports the values of a stopper to a trial, and ends it if they are too low."""

    def __init__(self, trial: Trial, tracker: ResultTracker, effort: Effort) -> None:
        self.trial, self.tracker, self.effort = trial, tracker, effort
        # those which a process that died has reported
        self.reported = {int(step) for step in _intermediate(trial)}

    def __call__(self, _stopper: EarlyStopper, result: float, epoch: int) -> None:
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


def _intermediate(trial: Trial) -> Mapping[int, float]:
    """Give what has been reported of a trial."""
    values: Mapping[int, float] = trial.study._storage.get_trial(trial._trial_id).intermediate_values
    return values


def _without(ranges: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is fixed, at all levels."""
    result: dict[str, Any] = {}
    for name, info in ranges.items():
        value = fixed.get(name)
        if isinstance(info, Mapping) and "type" not in info and (value is None or isinstance(value, Mapping)):
            inner = _without(info, value or {})
            result |= {name: inner} if inner else {}
        elif name not in fixed:
            result[name] = copy.copy(info)
    return result


def _drop_damaged(path: pathlib.Path) -> None:
    """Let a trial start anew whose checkpoint cannot be read."""
    own = path.with_name(own_name(path.name))
    try:
        recover(own)
    except CheckpointError as error:
        logger.warning("%s The trial starts anew.", error)
        own.unlink(missing_ok=True)

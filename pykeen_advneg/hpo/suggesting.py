"""The arguments of a trial: what is fixed, and what is suggested of the ranges, the sampler's among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import BaseTrial
from pykeen.datasets import Dataset, get_dataset
from pykeen.hpo.hpo import Objective
from pykeen.lr_schedulers import lr_schedulers_hpo_defaults
from pykeen.optimizers import optimizers_hpo_defaults
from pykeen.stoppers import EarlyStopper
from pykeen.training import SLCWATrainingLoop

from ..training import AdversarialTrainingLoop
from .spaces import merged, sampler_ranges, suggest, without

__all__ = ["COMPONENTS", "SuggestingObjective", "plain_copy"]

#: the keyword-based parameters of the pipeline which have ranges; what samplers share comes first: where values are
#: drawn independently, all get the same ones from the same seed
COMPONENTS = (
    "model",
    "optimizer",
    "lr_scheduler",
    "training",
    "regularizer",
    "loss",
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
class SuggestingObjective(Objective):
    """PyKEEN's objective, as far as arguments go.

    The sampler is tuned for every loop which draws negatives; ranges may be nested, and there are some for the loop's
    own arguments; the stopper looks at the study's metric; no dictionary of the caller is changed.
    """

    training_loop_kwargs_ranges: Mapping[str, Any] | None = None
    #: the seed of the first trial; the next ones have the next numbers
    random_seed: int = 0
    #: whether a larger value of the metric is better
    larger_is_better: bool = True
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

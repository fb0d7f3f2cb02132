"""Optuna's sampler and pruner by name, with one clear error where that cannot work."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from class_resolver import BaseResolver, HintOrType
from class_resolver.contrib.optuna import pruner_resolver, sampler_resolver
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, GridSampler, QMCSampler
from optuna.trial import FrozenTrial, TrialState

from ..comparison.configuration import did_you_mean
from ..errors import ConfigurationError

__all__ = ["SearchOfEachTrial", "make_pruner", "make_search"]

#: the seeds of trial ``n`` of a search are so far from those of trial ``n + 1``
SEEDS_APART = 1009
#: those whose trials share one sequence, which their seed stands for
SEQUENCES = (GridSampler, QMCSampler)


class SearchOfEachTrial(BaseSampler):
    """Optuna's sampler with a seed of its own for each trial.

    So no two processes draw the same values, and none draws those of a process before it again.
    """

    def __init__(self, query: HintOrType[BaseSampler], kwargs: Mapping[str, Any] | None, seed: int) -> None:
        """Initialize the sampler.

        :param query: the name or class of Optuna's sampler
        :param kwargs: its keyword-based parameters
        :param seed: the seed of the first trial

        :raises ConfigurationError: if there is no such sampler, or if it does not take the parameters
        """
        self.query, self.kwargs, self.seed = query, kwargs, seed
        # at once, to find out whether it can be made
        self.made = {0: make_search(query, kwargs, seed)}

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if isinstance(self.made[0], SEQUENCES) or isinstance(self.query, BaseSampler):
            return self.made[0]
        if trial.number not in self.made:
            self.made[trial.number] = make_search(self.query, self.kwargs, self.seed + SEEDS_APART * trial.number)
        return self.made[trial.number]

    # docstr-coverage: inherited
    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: D102
        return self._of(trial).infer_relative_search_space(study, trial)

    # docstr-coverage: inherited
    def sample_relative(  # noqa: D102
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    # docstr-coverage: inherited
    def sample_independent(  # noqa: D102
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    # docstr-coverage: inherited
    def before_trial(self, study: Study, trial: FrozenTrial) -> None:  # noqa: D102
        self._of(trial).before_trial(study, trial)

    # docstr-coverage: inherited
    def after_trial(  # noqa: D102
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._of(trial).after_trial(study, trial, state, values)
        if trial.number:
            self.made.pop(trial.number, None)


def make_search(query: HintOrType[BaseSampler], kwargs: Mapping[str, Any] | None, seed: int) -> BaseSampler:
    """Make Optuna's sampler, with a seed where it takes one.

    :param query: its name or class
    :param kwargs: its keyword-based parameters
    :param seed: the seed, unless there is one among them

    :returns: the sampler

    :raises ConfigurationError: if there is no such sampler, or if it does not take the parameters
    """
    made: BaseSampler = _make("sampler", sampler_resolver, query, kwargs, seed)
    return made


def make_pruner(query: HintOrType[BasePruner], kwargs: Mapping[str, Any] | None) -> BasePruner:
    """Make Optuna's pruner.

    :param query: its name or class
    :param kwargs: its keyword-based parameters

    :returns: the pruner

    :raises ConfigurationError: if there is no such pruner, or if it does not take the parameters
    """
    made: BasePruner = _make("pruner", pruner_resolver, query, kwargs)
    return made


def _make(
    argument: str, resolver: BaseResolver[Any, Any], query: Any, kwargs: Mapping[str, Any] | None, seed: int = 0
) -> Any:
    """Look a class up, and make it."""
    if isinstance(query, (BaseSampler, BasePruner)):
        return query
    try:
        cls = resolver.lookup(query)
    except (KeyError, TypeError) as error:
        raise did_you_mean(argument, str(query), resolver.lookup_dict) from error
    seeded = {"seed": seed} if "seed" in inspect.signature(cls).parameters else {}
    try:
        return cls(**{**seeded, **(kwargs or {})})
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{argument}_kwargs={dict(kwargs or {})!r} of {cls.__name__}: {error}") from error

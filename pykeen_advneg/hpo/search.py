"""Optuna's sampler and pruner by name, with one clear error where that cannot work."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from class_resolver import BaseResolver, HintOrType
from class_resolver.contrib.optuna import pruner_resolver, sampler_resolver
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from ..comparison.configuration import did_you_mean
from ..errors import ConfigurationError

__all__ = ["make_pruner", "make_search"]


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

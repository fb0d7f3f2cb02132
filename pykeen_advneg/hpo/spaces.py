"""What is searched: ranges in PyKEEN's words, nested ones too, checked before anything runs."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from class_resolver import BaseResolver
from optuna.trial import BaseTrial
from pykeen.hpo.hpo import suggest_kwargs
from pykeen.models import model_resolver
from pykeen.optimizers import optimizer_resolver, optimizers_hpo_defaults
from pykeen.sampling import NegativeSampler, negative_sampler_resolver

from ..comparison.configuration import did_you_mean
from ..errors import ConfigurationError
from ..sampling.making import GIVEN_BY_THE_LOOP, keywords
from ..sampling.wrapping import GIVEN_FROM_ABOVE

__all__ = ["Ranges", "check_ranges", "merged", "names", "sampler_ranges", "suggest", "without"]

#: by the name of a parameter its range, or by that of a component's keywords their ranges
Ranges = Mapping[str, Any]

_TYPES: Mapping[Any, str] = {int: "int", float: "float", bool: "bool"}
#: what a range says by its type
_KEYS = {
    "int": {"low", "high", "q", "step", "scale", "log", "base"},
    "float": {"low", "high", "q", "step", "log", "scale"},
    "bool": set(),
    "categorical": {"choices"},
}
#: the resolver of a component by the end of the parameter's name
_COMPONENTS: Mapping[str, BaseResolver[Any, Any]] = {
    "base": negative_sampler_resolver,
    "generator": model_resolver,
    "optimizer": optimizer_resolver,
}


def is_nested(info: Any) -> bool:
    """Whether this is a mapping of ranges, and not a range."""
    return isinstance(info, Mapping) and (not info or isinstance(info.get("type"), Mapping) or "type" not in info)


def merged(defaults: Ranges, given: Ranges | None) -> dict[str, Any]:
    """Lay the ranges of a user over the defaults; ``None`` takes a parameter out of the search.

    :param defaults: the default ranges
    :param given: those of the user

    :returns: new ranges; neither argument is changed
    """
    result = {name: merged(info, {}) if is_nested(info) else info for name, info in defaults.items()}
    for name, info in (given or {}).items():
        old = result.get(name)
        result[name] = merged(old if is_nested(old) else {}, info) if is_nested(info) else info  # type: ignore[arg-type]
    return {name: info for name, info in result.items() if info is not None}


def sampler_ranges(cls: type[NegativeSampler], kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Collect the default ranges of a sampler and of its components.

    What is called ``x`` and has keywords ``x_kwargs`` is a component: the sampler below another one (``base``), a
    generator model, an optimizer. Its own ``hpo_default`` is searched as ``x_kwargs``.

    :param cls: the class of the sampler
    :param kwargs: its keyword-based parameters, which say what the components are

    :returns: the ranges, nested where components have some
    """
    ranges = dict(cls.hpo_default)
    for name, ending in _components(cls):
        component = _lookup(cls, name, ending, kwargs)
        if component is None:
            continue
        defaults = _defaults(component, (kwargs or {}).get(f"{name}_kwargs"))
        if ending == "base":
            defaults = {key: info for key, info in defaults.items() if key not in GIVEN_FROM_ABOVE}
        if ending == "generator":
            defaults = {key: info for key, info in defaults.items() if key in keywords(component)}
        if defaults:
            ranges[f"{name}_kwargs"] = merged(defaults, ranges.get(f"{name}_kwargs"))
    return ranges


def without(ranges: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is fixed, at all levels.

    :param ranges: the ranges
    :param fixed: the keyword-based parameters which are fixed

    :returns: new ranges
    """
    result: dict[str, Any] = {}
    for name, info in ranges.items():
        value = fixed.get(name)
        if isinstance(info, Mapping) and "type" not in info and (value is None or isinstance(value, Mapping)):
            inner = without(info, value or {})
            result |= {name: inner} if inner else {}
        elif name not in fixed:
            result[name] = copy.copy(info)
    return result


def check_ranges(
    argument: str, ranges: Ranges | None, cls: type[Any], kwargs: Mapping[str, Any] | None, allowed: Collection[str]
) -> None:
    """Check the ranges of a user.

    :param argument: the name of the argument, for the message
    :param ranges: the ranges
    :param cls: the class whose keywords they are for
    :param kwargs: its keyword-based parameters which are fixed
    :param allowed: its keywords

    :raises ConfigurationError: if a key is unknown, fixed at the same time, or if a range is malformed
    """
    for name, info in (ranges or {}).items():
        if name not in allowed:
            raise did_you_mean(f"{argument}: key", str(name), sorted(allowed))
        fixed = (kwargs or {}).get(name)
        if is_nested(info):
            ending = dict(_components(cls)).get(name.removesuffix("_kwargs"))
            if ending is None:
                raise ConfigurationError(
                    f"{argument}.{name} has no type: {info!r}; a range is, e.g., dict(type=float, low=0.1, high=1.0)."
                )
            component = _lookup(cls, name.removesuffix("_kwargs"), ending, kwargs)
            if component is not None:
                check_ranges(f"{argument}.{name}", info, component, fixed, names(component))
            continue
        if name in (kwargs or {}):
            raise ConfigurationError(
                f"{argument}.{name} is a range, and {name} is fixed to {fixed!r} at the same time; give one of them."
            )
        if info is None:
            continue
        if name.removesuffix("_kwargs") in dict(_components(cls)) and name.endswith("_kwargs"):
            raise ConfigurationError(
                f"{argument}.{name}={info!r} is a range, and {name} has keywords of its own; give a range for each of "
                f"them, e.g., {name}=dict(NAME={dict(info)!r})."
            )
        check_range(f"{argument}.{name}", info)


def check_range(name: str, info: Any) -> None:
    """Check one range.

    :param name: its name, for the message
    :param info: the range

    :raises ConfigurationError: if it is malformed or empty
    """
    kind = _TYPES.get(info.get("type"), info.get("type")) if isinstance(info, Mapping) else None
    if kind not in _KEYS:
        raise ConfigurationError(
            f"{name}={info!r} has no type of {sorted(_KEYS)}; e.g., dict(type=int, low=1, high=9)."
        )
    for key in set(info) - {"type"}:
        if key not in _KEYS[kind]:
            raise did_you_mean(f"{name}: key", str(key), sorted(_KEYS[kind]))
    if kind == "categorical" and not info.get("choices"):
        raise ConfigurationError(f"{name}={info!r} has no choices; name at least one.")
    if kind not in {"int", "float"}:
        return
    low, high = info.get("low"), info.get("high")
    if not all(isinstance(value, (int, float)) for value in (low, high)) or not low <= high:
        raise ConfigurationError(f"{name}={info!r} is empty or malformed; low must be a number not above high.")
    if info.get("log") and low <= 0:
        raise ConfigurationError(f"{name}={info!r} is logarithmic from low={low!r} on; choose a positive number.")


def suggest(trial: BaseTrial, prefix: str, ranges: Ranges, kwargs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Suggest values as PyKEEN does, for nested ranges too, under names with a dot for each level.

    :param trial: the trial
    :param prefix: the name of the component
    :param ranges: what is searched
    :param kwargs: what is fixed, which wins

    :returns: what is fixed and what was suggested
    """
    flat = {name: info for name, info in ranges.items() if not is_nested(info)}
    result = dict(suggest_kwargs(trial=trial, prefix=prefix, kwargs_ranges=flat, kwargs=kwargs))  # type: ignore[arg-type]
    for name, info in ranges.items():
        if is_nested(info) and info:
            result[name] = suggest(trial, f"{prefix}.{name}", info, result.get(name))
    return result


def names(cls: type[Any]) -> set[str]:
    """Collect the keywords of a component which may be searched."""
    return keywords(cls) - GIVEN_BY_THE_LOOP - {"params", "triples_factory", "optimizer", "model"}


def _components(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """List the components of a sampler by name, with the ending which tells their kind."""
    known = keywords(cls)
    for name in sorted(known):
        for ending in _COMPONENTS:
            if f"{name}_kwargs" in known and (name == ending or name.endswith(f"_{ending}")):
                yield name, ending


def _lookup(cls: type[Any], name: str, ending: str, kwargs: Mapping[str, Any] | None) -> type[Any] | None:
    """Find the class of a component; None if it is an instance, or there is none."""
    query = (kwargs or {}).get(name, inspect.signature(cls).parameters[name].default)
    if query is None or query is inspect.Parameter.empty or not isinstance(query, (str, type)):
        return None
    try:
        found: type[Any] = _COMPONENTS[ending].lookup(query)
    except KeyError as error:
        raise did_you_mean(f"negative_sampler_kwargs.{name}", str(query), _COMPONENTS[ending].lookup_dict) from error
    return found


def _defaults(component: type[Any], kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    if isinstance(component, type) and issubclass(component, NegativeSampler):
        return sampler_ranges(component, kwargs)
    if component in optimizers_hpo_defaults:
        return dict(optimizers_hpo_defaults[component])
    return dict(getattr(component, "hpo_default", {}))

"""The options of the command line, laid over a configuration file and the defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError
from .configuration import LABELS_HINT, SamplerChoice, did_you_mean, expect, refuse_twice

__all__ = ["choose_samplers", "override", "parse_keyed_json"]

#: what holds where neither a file nor an option says otherwise
DEFAULTS: Mapping[str, Any] = {
    "optimizer": "adam",
    "optimizer_kwargs.lr": 1e-3,
    "training_kwargs.batch_size": 256,
    "negative_sampler_kwargs.num_negs_per_pos": 1,
}


def override(
    settings: Mapping[str, Any], options: Mapping[str, Any], defaults: Mapping[str, Any] = DEFAULTS
) -> dict[str, Any]:
    """Lay options over settings, and those over the defaults.

    :param settings: the settings of a file
    :param options: values by key, or by ``KEY.NAME`` for one of the arguments in a mapping; ``None`` says nothing
    :param defaults: what holds where neither says anything

    :returns: the settings which result
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in settings.items()}
    for key, value in (*defaults.items(), *options.items()):
        outer, _, inner = key.partition(".")
        place = expect(outer, result.setdefault(outer, {}), dict) if inner else result
        name = inner or outer
        if value is not None and (key in options or place.get(name) is None):
            place[name] = value
    return {key: value for key, value in result.items() if value != {}}


def choose_samplers(
    settings: Mapping[str, Any], samplers: Sequence[str], kwargs: Sequence[str], loop_kwargs: Sequence[str]
) -> dict[str, Any]:
    """Lay the options about samplers over settings.

    :param settings: the settings so far
    :param samplers: ``[LABEL=]NAME`` each; none keeps those of the settings. Those that the settings know by label keep
        what is said there.
    :param kwargs: arguments of samplers, ``LABEL:{...}`` each
    :param loop_kwargs: arguments of their training loops, ``LABEL:{...}`` each

    :returns: the settings which result
    """
    known = settings.get("samplers") or {}
    known = dict(known) if isinstance(known, Mapping) else dict.fromkeys(expect("samplers", known, list))
    if samplers:
        parsed = [SamplerChoice.parse(text) for text in samplers]
        refuse_twice("sampler", [each.label for each in parsed], LABELS_HINT)
        known = {each.label: known.get(each.label) or each.to_mapping() for each in parsed}
    chosen = {label: SamplerChoice.from_mapping(str(label), value).to_mapping() for label, value in known.items()}
    options = {"negative_sampler_kwargs": ("--sampler-kwargs", kwargs)}
    options["training_loop_kwargs"] = ("--loop-kwargs", loop_kwargs)
    for key, (option, texts) in options.items():
        for label, values in parse_keyed_json(option, texts, list(chosen)).items():
            chosen[label][key] = {**chosen[label][key], **values}
    return {**settings, "samplers": chosen}


def parse_keyed_json(option: str, texts: Sequence[str], labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read the options of the form ``LABEL:{...}``, for instance ``kbgan:{"generator": "complex"}``.

    :param option: the name of the option
    :param texts: what was given
    :param labels: the labels which are allowed

    :returns: the parsed objects by label

    :raises ConfigurationError: if a label is not known or the rest is no JSON object
    """
    result: dict[str, dict[str, Any]] = {}
    for text in texts:
        label, brace, rest = text.partition(":{")
        if not brace:
            raise ConfigurationError(f'{option} {text!r} is malformed; write LABEL:{{"name": value}}.')
        if label not in labels:
            raise did_you_mean(f"{option}: sampler", label, labels)
        try:
            result.setdefault(label, {}).update(json.loads("{" + rest))
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"{option} for {label!r} is not valid JSON: {error}; got {'{' + rest}") from error
    return result

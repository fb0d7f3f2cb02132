"""The options of ``advneg hpo`` as settings."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..comparison.configuration import SamplerChoice, read_config
from ..comparison.options import override, parse_keyed_json
from ..errors import ConfigurationError
from .settings import Tuning

__all__ = ["read_tuning"]


def read_tuning(
    config: pathlib.Path | None, samplers: Sequence[str], per_sampler: Sequence[str], options: Mapping[str, Any]
) -> Tuning:
    """Lay options over a configuration file.

    :param config: the file
    :param samplers: ``[LABEL=]NAME`` each; if any, these and no others
    :param per_sampler: ``LABEL:{...}`` each: arguments of the pipeline for one sampler
    :param options: what else was given, by the path of its key

    :returns: the settings

    :raises ConfigurationError: if something is malformed
    """
    settings = override(read_config(config) if config else {}, options, defaults={})
    known = settings.get("samplers") or {}
    if not isinstance(known, Mapping):
        known = dict.fromkeys(known)
    if samplers:
        chosen = {}
        for text in samplers:
            parsed = SamplerChoice.parse(text)
            if parsed.label in chosen:
                raise ConfigurationError(f"sampler {parsed.label!r} is given twice; tell them apart, LABEL=NAME.")
            own = {"negative_sampler": parsed.negative_sampler, "training_loop": parsed.training_loop}
            stored = dict(known.get(parsed.label) or {})
            # a label alone means what the file has by this name
            chosen[parsed.label] = {**stored, **own} if "=" in text or not stored else stored
    else:
        chosen = {str(label): dict(value or {}) for label, value in known.items()}
    for label, values in parse_keyed_json("--set", per_sampler, list(chosen)).items():
        chosen[label] = {**chosen[label], **values}
    return Tuning.from_mapping({**settings, "samplers": chosen})

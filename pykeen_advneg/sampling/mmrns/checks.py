"""What cannot work in the settings of MMRNS."""

from __future__ import annotations

import logging
import math
from typing import Any, get_args

from ...errors import ConfigurationError
from ..base import at_least, whole_at_least
from .contrast import Variant
from .exploration import LEAST, Schedule

__all__ = ["check_settings"]

logger = logging.getLogger(__name__)

CHOICES = {
    "exploration_schedule": get_args(Schedule),
    "variant": get_args(Variant),
    "gradient": ("straight-through", "detached"),
    "objective": ("host", "mmrns"),
}


def check_settings(sampler: Any, is_given: bool) -> None:
    """Check the settings of a sampler, and make a pool which is larger than the graph as large as that.

    :param sampler: has them as attributes
    :param is_given: whether the user has chosen ``pool_size``

    :raises ConfigurationError: if a value is impossible
    """
    for name, choices in CHOICES.items():
        if getattr(sampler, name) not in choices:
            raise ConfigurationError(f"{name}={getattr(sampler, name)!r} is none of {choices}.")
    for name in ("pool_size", "exploration_steps", "attention_dim", "hidden_dim"):
        whole_at_least(name, getattr(sampler, name), 1)
    for name, low in {
        "exploration": LEAST,
        "exploration_end": LEAST,
        "gumbel_temperature": 0.01,
        "contrast_weight": 0,
        "adversarial_temperature": 0,
        "margin": -math.inf,
    }.items():
        value = getattr(sampler, name)
        at_least(name, value, low)
        if not math.isfinite(value):
            raise ConfigurationError(f"{name}={value!r} must be finite.")
    if is_given and sampler.pool_size < sampler.num_negs_per_pos:
        raise ConfigurationError(
            f"pool_size={sampler.pool_size} is less than num_negs_per_pos={sampler.num_negs_per_pos}, and negatives "
            f"are drawn without replacement; raise it."
        )
    if sampler.pool_size > sampler.num_entities:
        logger.warning(
            "pool_size=%d exceeds the %d entities: all of them are the pool.", sampler.pool_size, sampler.num_entities
        )
        sampler.pool_size = sampler.num_entities

"""Checks of what a user gave to a sampler."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import get_args

from pykeen.typing import FloatTensor

from ..errors import ConfigurationError
from .base import Scores

__all__ = ["check_choice", "check_host", "check_share"]


def check_share(name: str, value: float) -> None:
    """Check that a number is from 0 to 1.

    :param name: the name of the argument
    :param value: its value

    :raises ConfigurationError: if it is not
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ConfigurationError(f"{name}={value!r} must be a number from 0 to 1.")


def check_choice(name: str, value: str, choices: object) -> None:
    """Check that a name is one of those of a ``Literal``.

    :param name: the name of the argument
    :param value: its value
    :param choices: the type

    :raises ConfigurationError: if it is not
    """
    if value not in get_args(choices):
        raise ConfigurationError(f"{name}={value!r} is none of {get_args(choices)}.")


def check_host(sampler: str, host: Callable[[Scores], FloatTensor], instead: str) -> None:
    """Check that nothing is asked of the host's loss, of whose settings the loop makes keywords.

    :param sampler: the name of the sampler, whose loss takes the place of the host's
    :param host: the host's loss, as :meth:`pykeen_advneg.sampling.base.HasLoss.loss` is given it
    :param instead: by which argument the host's loss is used

    :raises ConfigurationError: if there is label smoothing, or if there are sample weights
    """
    asked = getattr(host, "keywords", {})
    if asked.get("label_smoothing"):
        raise ConfigurationError(
            f"label_smoothing={asked['label_smoothing']} is not possible with the loss of {sampler!r}; leave it out, "
            f"or use {instead}."
        )
    if asked.get("pos_weights") is not None or asked.get("neg_weights") is not None:
        raise ConfigurationError(
            f"loss_weighter gives sample weights, which the loss of {sampler!r} does not know; leave it out, or use "
            f"{instead}."
        )

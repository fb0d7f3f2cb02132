"""The sampler which gives DANS its negatives of ids."""

from __future__ import annotations

from typing import Any

from class_resolver import HintOrType, OptionalKwargs
from pykeen.sampling import NegativeSampler, negative_sampler_resolver
from pykeen.typing import LongTensor

from ...errors import ConfigurationError
from ...negatives import Negatives
from ..base import AdversarialNegativeSampler, HasLoss
from ..making import check_sampler

__all__ = ["draw_from", "make_base"]

#: what the base gets from the sampler around it, and not from its own keywords
GIVEN = frozenset({"num_negs_per_pos", "filtered", "filterer", "filterer_kwargs"})


def make_base(base: HintOrType[NegativeSampler], base_kwargs: OptionalKwargs, **given: Any) -> NegativeSampler:
    """Make the base.

    :param base: its name or class
    :param base_kwargs: the user's keyword-based parameters
    :param given: the other ones

    :returns: the base

    :raises ConfigurationError: if it cannot be one
    """
    kwargs = dict(base_kwargs or {})
    cls = check_sampler("base", base, kwargs)
    if isinstance(base, NegativeSampler):
        raise ConfigurationError(
            f"base is an instance of {cls.__name__}; give its name or class and its parameters as base_kwargs."
        )
    if issubclass(cls, HasLoss):
        raise ConfigurationError(
            f"base={base!r} has a loss of its own, which would stand against that of 'dans'; choose one without, e.g., "
            f"'basic', 'shared' or 'kbgan'."
        )
    if GIVEN & kwargs.keys():
        raise ConfigurationError(
            f"base_kwargs={kwargs!r} has {sorted(GIVEN & kwargs.keys())}, which the base gets from the sampler 'dans': "
            f"move it to negative_sampler_kwargs."
        )
    if kwargs.get("log_q_correction"):
        raise ConfigurationError(
            "base_kwargs has log_q_correction=True, a correction for the frequencies of entities, which generated ones "
            "do not have; leave it out."
        )
    return negative_sampler_resolver.make(cls, pos_kwargs=kwargs, **given)


def draw_from(base: NegativeSampler, positives: LongTensor) -> Negatives:
    """Let the base draw, and mask known triples if it is filtered.

    :param base: the base; those of PyKEEN work on the CPU
    :param positives: shape: ``(b, 3)``

    :returns: the negatives, on the device of the positives
    """
    if isinstance(base, AdversarialNegativeSampler):
        return base.draw(positives)
    triples, mask = base.sample(positives.cpu())
    device = positives.device
    return Negatives.from_triples(positives, triples.to(device), None if mask is None else mask.to(device))

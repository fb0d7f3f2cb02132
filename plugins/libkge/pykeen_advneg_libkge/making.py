"""Samplers for the triples of LibKGE."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pykeen.sampling import NegativeSampler
from pykeen.triples import CoreTriplesFactory

from pykeen_advneg.sampling.base import AdversarialNegativeSampler, ReadsLabels

from .settings import SamplerSettings

__all__ = ["make"]


def make(
    settings: SamplerSettings,
    triples: CoreTriplesFactory,
    device: torch.device,
    entity_ids: Callable[[], Sequence[str]],
) -> NegativeSampler:
    """Make a sampler, and tell it which entity is which, if it has to know.

    :param settings: the choice of the sampler
    :param triples: the training triples
    :param device: the device of the model
    :param entity_ids: gives the labels of the entities, by number

    :returns: a new sampler; PyKEEN's own stay on the CPU, where they have tables which are no buffers
    """
    sampler = settings.make(triples)
    if isinstance(sampler, ReadsLabels):
        sampler.read_labels({label: number for number, label in enumerate(entity_ids())})
    return sampler.to(device) if isinstance(sampler, AdversarialNegativeSampler) else sampler

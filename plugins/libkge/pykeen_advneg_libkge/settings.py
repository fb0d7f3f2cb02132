"""What a user gave under ``advneg_negative_sampling``, checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pykeen.sampling import NegativeSampler
from pykeen.triples import CoreTriplesFactory

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.registry import register
from pykeen_advneg.sampling.base import NEEDS_MODEL, check_flag, whole_at_least
from pykeen_advneg.sampling.making import check_sampler, make_sampler

__all__ = ["KEY", "SamplerSettings", "Settings"]

#: the key of the options; the job's ``train.type``, which LibKGE's margin ranking wants to hold "negative_sampling"
KEY = "advneg_negative_sampling"

#: what has options of its own, or comes from LibKGE
OWN_OPTIONS = {
    "num_negs_per_pos": f"{KEY}.num_samples",
    "filtered": f"{KEY}.filtered",
    "mapped_triples": "train.split",
    "num_entities": "dataset.num_entities",
    "num_relations": "dataset.num_relations",
}


@dataclass(frozen=True)
class SamplerSettings:
    """The choice of a sampler."""

    #: the key of its name, for messages
    key: str

    #: its name
    name: str

    #: its keyword-based parameters, all of them
    kwargs: Mapping[str, Any]

    def check(self, given: Mapping[str, Any]) -> type[NegativeSampler]:
        """Check name and parameters.

        :param given: the parameters which the user gave under ``sampler_args``

        :returns: the class of the sampler

        :raises ConfigurationError: if there is no such sampler, or if it has no such parameter
        """
        for argument, option in OWN_OPTIONS.items():
            if argument in given:
                raise ConfigurationError(f"{self.key}_args has {argument!r}; use the option {option} instead.")
        return check_sampler(self.key.rpartition(".")[2], self.name, self.kwargs)

    def make(self, triples: CoreTriplesFactory) -> NegativeSampler:
        """Make the sampler.

        :param triples: the training triples

        :returns: a new sampler
        """
        return make_sampler(self.name, self.kwargs, triples)


@dataclass(frozen=True)
class Settings:
    """All options."""

    sampler: SamplerSettings
    pretraining_sampler: SamplerSettings
    pretraining_epochs: int

    @classmethod
    def of(cls, get: Callable[[str], Any]) -> Settings:
        """Read and check the options.

        :param get: gives the value of an option, as ``kge.Config.get`` does

        :returns: the settings

        :raises ConfigurationError: if an option cannot work
        """
        register()
        num_samples, filtered = get(f"{KEY}.num_samples"), get(f"{KEY}.filtered")
        whole_at_least(f"{KEY}.num_samples", num_samples, 1)
        check_flag(f"{KEY}.filtered", filtered)
        epochs = get(f"{KEY}.pretraining.epochs")
        whole_at_least(f"{KEY}.pretraining.epochs", epochs, 0)
        common = {"num_negs_per_pos": num_samples, "filtered": filtered}
        found, classes = [], []
        for key in (f"{KEY}.sampler", f"{KEY}.pretraining.sampler"):
            args = get(f"{key}_args") or {}
            found.append(SamplerSettings(key, get(key), {**args, **common}))
            classes.append(found[-1].check(args))
        sampler, pretraining_sampler = found
        if epochs and issubclass(classes[-1], NEEDS_MODEL):
            raise ConfigurationError(
                f"{KEY}.pretraining.sampler={pretraining_sampler.name!r} needs the model; choose 'bernoulli'."
            )
        return cls(sampler, pretraining_sampler, epochs)

"""What a user gave under ``advneg_negative_sampling``, checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pykeen.sampling import NegativeSampler
from pykeen.triples import CoreTriplesFactory

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.registry import register
from pykeen_advneg.sampling.base import NEEDS_MODEL, check_flag, whole_at_least
from pykeen_advneg.sampling.making import check_sampler, make_sampler

__all__ = ["KEY", "SamplerSettings", "Settings", "instead", "without_effect"]

#: the key of the options; the job's ``train.type``, which LibKGE's margin ranking wants to hold "negative_sampling"
KEY = "advneg_negative_sampling"

#: what has options of its own, or comes from LibKGE
OWN_OPTIONS = {
    "num_negs_per_pos": "num_samples beside it",
    "filtered": "filtered beside it",
    "mapped_triples": "train.split",
    "num_entities": "dataset.num_entities",
    "num_relations": "dataset.num_relations",
}

#: what LibKGE has for its own loader of negatives, and this job has not
WITHOUT_EFFECT = ("train.num_workers", "train.pin_memory", "negative_sampling")

#: what to use instead, by the beginning of names
INSTEAD = {
    "negative_sampling.num_samples": f"{KEY}.num_samples (s + o + 1 for as many scores, half of it for emu)",
    "negative_sampling.filtering": f"{KEY}.filtered",
    "negative_sampling.shared": f"{KEY}.sampler_args.chunk_size of the sampler 'shared'",
    "negative_sampling.sampling_type": f"{KEY}.sampler",
}

#: the number of negatives which stands for the one which a sampler has if none is given
ITS_OWN = -1


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
        try:
            return check_sampler(self.key, self.name, self.kwargs)
        except ConfigurationError as error:
            # what PyKEEN's users give as keywords are options here
            raise ConfigurationError(str(error).replace(f"{self.key}_kwargs", f"{self.key}_args")) from error

    @property
    def description(self) -> dict[str, Any]:
        """What a checkpoint says of the choice, in plain values."""
        return {"name": self.name, "kwargs": _plain(self.kwargs)}

    def in_words(self, sampler: NegativeSampler | None) -> str:
        """Say for the log what is sampled.

        :param sampler: the sampler, which knows how many negatives it has

        :returns: its name, the number of negatives with ids, and whether known triples are left out
        """
        number = getattr(sampler, "num_negs_per_pos", "?")
        known = "are left out" if self.kwargs.get("filtered") else "may be among them"
        return f"the negative sampler {self.name!r}, {number} entities drawn for each positive; known triples {known}"

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
        epochs = get(f"{KEY}.pretraining.epochs")
        whole_at_least(f"{KEY}.pretraining.epochs", epochs, 0)
        sampler, _ = _read(get, KEY)
        pretraining_sampler, kind = _read(get, f"{KEY}.pretraining")
        if epochs and issubclass(kind, NEEDS_MODEL):
            raise ConfigurationError(
                f"{KEY}.pretraining.sampler={pretraining_sampler.name!r} needs the model; choose 'bernoulli'."
            )
        return cls(sampler, pretraining_sampler, epochs)


def _read(get: Callable[[str], Any], key: str) -> tuple[SamplerSettings, type[NegativeSampler]]:
    """Read and check the options of a sampler.

    :param get: gives the value of an option
    :param key: under which they stand

    :returns: the settings, and the class of the sampler
    """
    num_samples, filtered = get(f"{key}.num_samples"), get(f"{key}.filtered")
    check_flag(f"{key}.filtered", filtered)
    args = _with_flags(get(f"{key}.sampler_args") or {})
    common: dict[str, Any] = {"filtered": filtered}
    if num_samples != ITS_OWN:
        whole_at_least(f"{key}.num_samples", num_samples, 1)
        common["num_negs_per_pos"] = num_samples
    settings = SamplerSettings(f"{key}.sampler", get(f"{key}.sampler"), {**args, **common})
    return settings, settings.check(args)


def _with_flags(value: Any) -> Any:
    """Read "True" and "False", which is what LibKGE makes of the flags among new options on its command line."""
    if isinstance(value, Mapping):
        return {key: _with_flags(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_flags(each) for each in value]
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


def without_effect(get: Callable[[str], Any], default: Callable[[str], Any]) -> list[str]:
    """Find the options of LibKGE which were given, and which this job does not look at.

    :param get: gives the value of an option, or of all under a key
    :param default: gives its default

    :returns: the names of options
    """
    return [name for key in WITHOUT_EFFECT for name in _changed(key, get(key), default(key))]


def instead(ignored: Iterable[str]) -> str:
    """Say which options to use instead of those of LibKGE which have no effect.

    :param ignored: the names of LibKGE's options

    :returns: a sentence
    """
    found = [advice for prefix, advice in INSTEAD.items() if any(name.startswith(prefix) for name in ignored)]
    return f"Use instead: {'; '.join(found)}." if found else "Nothing takes their place."


def _changed(key: str, value: Any, default: Any) -> list[str]:
    """Compare the options under a key with their defaults."""
    if isinstance(value, Mapping) and isinstance(default, Mapping):
        return [name for part in value for name in _changed(f"{key}.{part}", value[part], default.get(part))]
    return [] if value == default else [key]


def _plain(value: Any) -> Any:
    """Copy nested mappings and lists, so that they compare by value."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in sorted(value.items())}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

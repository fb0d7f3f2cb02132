"""Make a sampler from what a user gave, with one clear error where that cannot work."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from class_resolver import HintOrType, OptionalKwargs
from pykeen.sampling import NegativeSampler, negative_sampler_resolver
from pykeen.triples import CoreTriplesFactory, TriplesFactory

from ..errors import ConfigurationError, meant
from .base import ReadsLabels

__all__ = ["check_sampler", "check_size", "in_stock_study", "keywords", "make_sampler"]

#: what every loop hands to a sampler itself
GIVEN_BY_THE_LOOP = frozenset({"mapped_triples", "num_entities", "num_relations"})


def keywords(cls: type[Any]) -> set[str]:
    """Collect the keywords of a class, through ``**kwargs`` up to its bases.

    :param cls: the class

    :returns: the names of its keyword-based parameters
    """
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names.update(p.name for p in parameters if p.kind in {p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD})
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {"self"}


def instance_in_pipeline(argument: str) -> NegativeSampler | None:
    """Find the sampler instance which PyKEEN's pipeline is about to drop, in the frames of the calls under way.

    ``pipeline(negative_sampler=instance)`` looks up the class of the instance, and makes a new one with default
    parameters. The loop, which is handed the class, has no other way to know.

    :param argument: the name of the argument

    :returns: the instance, if the loop is being made by the pipeline, and the pipeline got one
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "pykeen.pipeline.api" and argument in frame.f_locals:
            value = frame.f_locals[argument]
            return value if isinstance(value, NegativeSampler) else None
        frame = frame.f_back
    return None


def in_stock_study() -> bool:
    """Whether PyKEEN's own study is among the calls under way, which drops the sampler of any loop but its own."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "pykeen.hpo.hpo":
            return True
        frame = frame.f_back
    return False


def check_size(sampler: NegativeSampler, triples_factory: CoreTriplesFactory) -> None:
    """Check that an instance was made for a graph of this size.

    :param sampler: the instance
    :param triples_factory: the training triples

    :raises ConfigurationError: if it was not
    """
    size = triples_factory.num_entities, triples_factory.num_relations
    if (sampler.num_entities, sampler.num_relations) != size:
        raise ConfigurationError(
            f"negative_sampler is an instance for {sampler.num_entities} entities and {sampler.num_relations} "
            f"relations, and the training triples have {size[0]} and {size[1]}; make it with their num_entities and "
            f"num_relations."
        )


def check_sampler(argument: str, query: HintOrType[NegativeSampler], kwargs: OptionalKwargs) -> type[NegativeSampler]:
    """Check the choice of a sampler, before anything is built.

    :param argument: the name of the argument, for the message
    :param query: a name, a class or an instance
    :param kwargs: its keyword-based parameters

    :returns: the class of the sampler

    :raises ConfigurationError: if there is no such sampler, if it has no such keyword, or if an instance would be
        replaced by a new one with default parameters
    """
    instance = instance_in_pipeline(argument)
    if instance is not None and not isinstance(query, NegativeSampler):
        raise ConfigurationError(
            f"{argument} was given to pipeline() as an instance of {type(instance).__name__}, of which PyKEEN passes "
            f"on the class only: it would train with default parameters. Give the class and {argument}_kwargs, or pass "
            f"the instance by training_loop_kwargs=dict({argument}=...)."
        )
    try:
        cls = negative_sampler_resolver.lookup(query)
    except (KeyError, TypeError) as error:
        known = sorted(negative_sampler_resolver.options)
        hint = meant([query], known) if isinstance(query, str) else ""
        raise ConfigurationError(f"{argument}={query!r} is no sampler; choose one of {known}.{hint}") from error
    if isinstance(query, NegativeSampler):
        if kwargs:
            raise ConfigurationError(
                f"{argument} is an instance, to which {argument}_kwargs={dict(kwargs)!r} cannot be applied any more; "
                f"give the class, or leave the keywords out."
            )
        return cls
    unknown = sorted(set(kwargs or {}) - keywords(cls))
    if unknown:
        known = sorted(keywords(cls) - GIVEN_BY_THE_LOOP)
        raise ConfigurationError(
            f"{argument}_kwargs has the unknown keywords {unknown}; {cls.__name__} has {known}.{meant(unknown, known)}"
        )
    return cls


def make_sampler(
    query: HintOrType[NegativeSampler], kwargs: Mapping[str, Any] | None, triples_factory: CoreTriplesFactory
) -> NegativeSampler:
    """Make the sampler of a loop.

    :param query: a name or a class
    :param kwargs: its keyword-based parameters
    :param triples_factory: the training triples

    :returns: a new sampler
    """
    sampler = negative_sampler_resolver.make(
        query,
        pos_kwargs=kwargs,
        mapped_triples=triples_factory._add_inverse_triples_if_necessary(mapped_triples=triples_factory.mapped_triples),
        num_entities=triples_factory.num_entities,
        num_relations=triples_factory.num_relations,
    )
    if isinstance(sampler, ReadsLabels) and isinstance(triples_factory, TriplesFactory):
        sampler.read_labels(triples_factory.entity_to_id)
    return sampler

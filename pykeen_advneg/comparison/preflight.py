"""Find out what cannot work in a comparison before anything is trained: build every part of it once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from class_resolver import BaseResolver
from pykeen.datasets import Dataset
from pykeen.losses import loss_resolver
from pykeen.lr_schedulers import lr_scheduler_resolver
from pykeen.models import Model, model_resolver
from pykeen.optimizers import optimizer_resolver
from pykeen.regularizers import regularizer_resolver
from pykeen.sampling import negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop, training_loop_resolver

from ..errors import ConfigurationError
from ..sampling.base import NEEDS_MODEL
from ..sampling.making import check_sampler
from ..training import AdversarialTrainingLoop
from .configuration import Comparison, SamplerChoice, did_you_mean

__all__ = ["check_names", "check_parts"]

_RESOLVERS: Mapping[str, BaseResolver[Any, Any]] = {
    "model": model_resolver,
    "loss": loss_resolver,
    "regularizer": regularizer_resolver,
    "optimizer": optimizer_resolver,
    "lr_scheduler": lr_scheduler_resolver,
}

#: the arguments of training which `advneg compare` gives itself
_OWN_TRAINING = {
    "num_epochs": "--epochs",
    "use_tqdm": "--quiet",
    "checkpoint_name": "nothing, it is the run's",
    "checkpoint_directory": "--out",
    "callbacks": "nothing, they draw the curve",
    "callbacks_kwargs": "nothing, they draw the curve",
    "continue_training": "nothing, unfinished runs go on by themselves",
    "clear_optimizer": "nothing",
}


def check_names(comparison: Comparison) -> None:
    """Look up every name.

    :param comparison: the comparison

    :raises ConfigurationError: if a name is not known; it names those that are spelt like it
    """
    for argument, resolver in _RESOLVERS.items():
        if argument in comparison.pipeline:
            _lookup(argument, resolver, comparison.pipeline[argument])
    for sampler in comparison.samplers:
        _lookup("sampler", negative_sampler_resolver, sampler.negative_sampler)
        loop = _lookup("training_loop", training_loop_resolver, sampler.training_loop)
        if not issubclass(loop, SLCWATrainingLoop):
            raise ConfigurationError(
                f"training_loop {sampler.training_loop!r} of sampler {sampler.label!r} draws no negatives; "
                "use 'adversarial' or 'slcwa'."
            )
        _check_training(loop, comparison)
        _check_loop(loop, sampler, comparison)
    _check_numbers(comparison)


def check_parts(comparison: Comparison, dataset: Dataset) -> None:
    """Build the model, the optimiser, and each loop with its sampler, as the pipeline will.

    :param comparison: the comparison
    :param dataset: one of its data sets

    :raises ConfigurationError: if a part refuses its arguments
    """
    pipeline = comparison.pipeline
    if dataset.validation is None:
        raise ConfigurationError(f"dataset {dataset.get_normalized_name()!r} has no validation triples for the curves.")
    try:
        model = _build_model(pipeline, dataset)
        optimizer = optimizer_resolver.make(
            pipeline.get("optimizer"), dict(pipeline.get("optimizer_kwargs", {})), params=model.get_grad_params()
        )
    except Exception as error:
        raise ConfigurationError(f"model {pipeline.get('model')!r} cannot be built: {_line(error)}") from error
    _check_optimizer(optimizer)
    for sampler in comparison.samplers:
        try:
            _build_sampler(sampler, pipeline, dataset, model)
        except Exception as error:
            raise ConfigurationError(f"sampler {sampler.label!r} cannot be built: {_line(error)}") from error


def _lookup(argument: str, resolver: BaseResolver[Any, Any], name: Any) -> Any:
    try:
        return resolver.lookup(name)
    except (KeyError, TypeError) as error:
        raise did_you_mean(argument, str(name), resolver.lookup_dict) from error


def _check_training(loop: type[SLCWATrainingLoop], comparison: Comparison) -> None:
    """Check the arguments of training."""
    # a subclass may hand on what it does not name
    names = {name for each in (SLCWATrainingLoop, loop) for name in inspect.signature(each.train).parameters}
    known = names - {"self", "args", "kwargs", "triples_factory", *_OWN_TRAINING}
    for key in comparison.pipeline.get("training_kwargs", {}):
        if key in _OWN_TRAINING:
            raise ConfigurationError(f"training_kwargs.{key} cannot be set here; use {_OWN_TRAINING[key]}.")
        if key not in known:
            raise did_you_mean("training_kwargs: key", key, known)


def _check_loop(loop: type[SLCWATrainingLoop], sampler: SamplerChoice, comparison: Comparison) -> None:
    """Check that a sampler will be used, and gets what it needs."""
    cls = negative_sampler_resolver.lookup(sampler.negative_sampler)
    if issubclass(cls, NEEDS_MODEL) and not issubclass(loop, AdversarialTrainingLoop):
        raise ConfigurationError(
            f"sampler {sampler.label!r} works with the model being trained, which the loop {sampler.training_loop!r} "
            f"does not hand to it; leave 'stock:' out."
        )
    kwargs = {**comparison.pipeline.get("training_loop_kwargs", {}), **sampler.training_loop_kwargs}
    pretraining = kwargs.get("pretraining_epochs", 0)
    if pretraining and pretraining >= comparison.epochs:
        raise ConfigurationError(
            f"pretraining_epochs {pretraining} of sampler {sampler.label!r} leave none of the {comparison.epochs} "
            f"epochs to it; raise --epochs, or lower them."
        )


def _check_numbers(comparison: Comparison) -> None:
    """Check the numbers which have an option."""
    for option, (group, key), low in (
        ("--batch-size", ("training_kwargs", "batch_size"), 1),
        ("--negatives", ("negative_sampler_kwargs", "num_negs_per_pos"), 1),
        ("--dim", ("model_kwargs", "embedding_dim"), 1),
    ):
        value = comparison.pipeline.get(group, {}).get(key, low)
        if not isinstance(value, int) or value < low:
            raise ConfigurationError(f"{option} {value!r} must be a whole number, at least {low}.")
    rate = comparison.pipeline.get("optimizer_kwargs", {}).get("lr", 1.0)
    if not rate > 0:
        raise ConfigurationError(f"--lr {rate!r} must be positive.")


def _build_model(pipeline: Mapping[str, Any], dataset: Dataset) -> Model:
    kwargs = dict(pipeline.get("model_kwargs", {}))
    kwargs["loss"] = loss_resolver.make(pipeline.get("loss"), pipeline.get("loss_kwargs"))
    if "regularizer" in pipeline:
        kwargs["regularizer"] = regularizer_resolver.make(pipeline["regularizer"], pipeline.get("regularizer_kwargs"))
    return model_resolver.make(pipeline["model"], kwargs, triples_factory=dataset.training, random_seed=0)


def _check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Check that PyKEEN can build the optimiser anew from the settings of the first one, as training begins with."""
    known = inspect.signature(type(optimizer)).parameters
    refused = [key for key in optimizer.param_groups[0] if key not in known]
    if refused:
        raise ConfigurationError(
            f"optimizer {type(optimizer).__name__!r} does not work in PyKEEN with this version of torch, since it does "
            f"not accept its own setting {', '.join(refused)}; use another, e.g. 'adam'."
        )


def _build_sampler(sampler: SamplerChoice, pipeline: Mapping[str, Any], dataset: Dataset, model: Model) -> None:
    """Build a sampler, and a loop which would build it."""
    kwargs = {**pipeline.get("negative_sampler_kwargs", {}), **sampler.negative_sampler_kwargs}
    check_sampler("negative_sampler", sampler.negative_sampler, kwargs)
    factory = dataset.training
    negative_sampler_resolver.make(
        sampler.negative_sampler,
        kwargs,
        mapped_triples=factory.mapped_triples,
        num_entities=factory.num_entities,
        num_relations=factory.num_relations,
    )
    training_loop_resolver.make(
        sampler.training_loop,
        {**pipeline.get("training_loop_kwargs", {}), **sampler.training_loop_kwargs},
        model=model,
        triples_factory=factory,
        negative_sampler=negative_sampler_resolver.lookup(sampler.negative_sampler),
        negative_sampler_kwargs=kwargs,
    )


def _line(error: Exception) -> str:
    """Put an error on one line."""
    if isinstance(error, ConfigurationError):
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())

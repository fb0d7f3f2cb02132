"""Make KBGAN's generator and its optimizer from what a user gave, with one clear error where that cannot work."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from class_resolver import HintOrType, OptionalKwargs
from class_resolver.contrib.torch import optimizer_resolver
from pykeen.models import ERModel, Model, model_resolver
from pykeen.triples import KGInfo
from pykeen.utils import NoRandomSeedNecessary
from torch.optim import Adam, AdamW, Optimizer

from ..checkpoint import load_weights
from ..errors import ConfigurationError
from ..initializers import factor_normal_

#: whose steps over whole tables PyTorch has in one kernel, unless another implementation is asked for
_FUSED = {Adam, AdamW}
_IMPLEMENTATIONS = {"fused", "foreach", "capturable", "differentiable"}

__all__ = ["PAPER_GENERATORS", "make_generator", "make_optimizer"]

#: The generators of the paper: 50 real numbers for each entity, neither constrained nor regularised by PyKEEN.
PAPER_GENERATORS: Mapping[str, Mapping[str, Any]] = {
    "distmult": dict(
        embedding_dim=50,
        entity_initializer=factor_normal_,
        relation_initializer=factor_normal_,
        entity_constrainer=None,
        regularizer=None,
    ),
    "complex": dict(
        embedding_dim=25,
        entity_initializer=factor_normal_,
        relation_initializer=factor_normal_,
        regularizer=None,
    ),
}


def make_generator(
    generator: HintOrType[Model], kwargs: OptionalKwargs, warm_start: str | Path | None, info: KGInfo
) -> ERModel[Any, Any, Any]:
    """Make the generator.

    :param generator: the name, the class or an instance of a model
    :param kwargs: its keyword-based parameters, laid over the paper's if it has any
    :param warm_start: a file with its weights
    :param info: the numbers of entities and relations

    :returns: a new model; of an instance, a copy, so that the next training starts from the same weights

    :raises ConfigurationError: if there is no such model, or if it cannot be built for this graph
    """
    try:
        cls = model_resolver.lookup(generator)
    except (KeyError, TypeError) as error:
        raise ConfigurationError(
            f"generator={generator!r} is no model of PyKEEN; `pykeen ls models` lists them."
        ) from error
    if not issubclass(cls, ERModel):
        raise ConfigurationError(f"generator={generator!r} has no interaction to score by; choose an ERModel.")
    if isinstance(generator, ERModel):
        model = _copy(generator, kwargs, info)
    else:
        paper = PAPER_GENERATORS.get(model_resolver.normalize_cls(cls), {})
        arguments = {"random_seed": NoRandomSeedNecessary, **paper, **(kwargs or {})}
        try:
            model = cls(triples_factory=info, **arguments)
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"generator={generator!r} cannot be built with generator_kwargs={dict(kwargs or {})!r}: {error}"
            ) from error
    if warm_start is not None:
        model.load_state_dict(load_weights(warm_start, model))
    return model


def _copy(generator: ERModel[Any, Any, Any], kwargs: OptionalKwargs, info: KGInfo) -> ERModel[Any, Any, Any]:
    if kwargs:
        raise ConfigurationError(
            f"generator is an instance, to which generator_kwargs={dict(kwargs)!r} cannot be applied any more; "
            f"give the class, or leave the keywords out."
        )
    size = generator.num_entities, generator.num_relations
    if size != (info.num_entities, info.num_relations):
        raise ConfigurationError(
            f"generator has {size[0]} entities and {size[1]} relations, and the training triples have "
            f"{info.num_entities} and {info.num_relations} (inverse relations included); build it for these."
        )
    return copy.deepcopy(generator)


def make_optimizer(optimizer: HintOrType[Optimizer], kwargs: OptionalKwargs, generator: Model) -> Optimizer:
    """Make the generator's optimizer.

    :param optimizer: the name or the class of an optimizer
    :param kwargs: its keyword-based parameters, laid over ``lr=1e-3, weight_decay=1e-3``
    :param generator: the generator

    :returns: a new optimizer

    :raises ConfigurationError: if there is no such optimizer, or if it refuses its parameters
    """
    arguments = {"lr": 1e-3, "weight_decay": 1e-3, **(kwargs or {})}
    try:
        if optimizer_resolver.lookup(optimizer) in _FUSED and not _IMPLEMENTATIONS & arguments.keys():
            arguments["fused"] = True
        return optimizer_resolver.make(optimizer, arguments, params=generator.get_grad_params())
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"generator_optimizer={optimizer!r} cannot be built with generator_optimizer_kwargs={arguments!r}: {error}"
        ) from error

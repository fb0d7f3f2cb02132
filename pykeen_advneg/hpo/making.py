"""Make an objective from what a user gave, with one clear error where that cannot work."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from class_resolver import BaseResolver
from pykeen.evaluation import Evaluator, evaluator_resolver
from pykeen.losses import loss_resolver
from pykeen.lr_schedulers import lr_scheduler_resolver
from pykeen.metrics.ranking import rank_based_metric_resolver
from pykeen.models import model_resolver
from pykeen.optimizers import optimizer_resolver
from pykeen.regularizers import regularizer_resolver
from pykeen.sampling import NegativeSampler
from pykeen.stoppers import EarlyStopper, stopper_resolver
from pykeen.trackers import ResultTracker, tracker_resolver
from pykeen.training import SLCWATrainingLoop, training_loop_resolver

from ..comparison.configuration import did_you_mean
from ..errors import ConfigurationError
from ..sampling.making import check_sampler
from .objective import SamplerObjective
from .spaces import check_ranges, names
from .suggesting import COMPONENTS, plain_copy

__all__ = ["make_objective"]

#: what a loop is given by the pipeline
_GIVEN = {"negative_sampler", "negative_sampler_kwargs", "result_tracker", "automatic_memory_optimization"}
_OWN_TRAINING = {"checkpoint_name", "checkpoint_directory", "checkpoint_frequency"}


def make_objective(
    *,
    model: Any,
    loss: Any = None,
    regularizer: Any = None,
    optimizer: Any = None,
    lr_scheduler: Any = None,
    training_loop: Any = None,
    negative_sampler: Any = None,
    epochs: int | None = None,
    training_kwargs: Mapping[str, Any] | None = None,
    stopper: Any = None,
    evaluator: Any = None,
    metric: str | None = None,
    direction: str | None = None,
    result_tracker: Any = None,
    **kwargs: Any,
) -> tuple[SamplerObjective, str]:
    """Look everything up, and check it.

    :param model: and all further parameters: as for :func:`pykeen_advneg.hpo.hpo_pipeline`
    :param kwargs: what the objective takes as it is

    :returns: the objective, and the direction of the study

    :raises ConfigurationError: if something is unknown or cannot work
    """
    model_cls = _lookup("model", model_resolver, model)
    loop_cls = _lookup("training_loop", training_loop_resolver, training_loop)
    evaluator_cls = _lookup("evaluator", evaluator_resolver, "fastrankbased" if evaluator is None else evaluator)
    stopper_cls = _lookup("stopper", stopper_resolver, stopper)
    training = dict(training_kwargs or {}) | ({} if epochs is None else {"num_epochs": epochs})
    try:
        key = evaluator_cls.metric_result_cls.key_to_string(metric)
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"metric={metric!r} is none of {evaluator_cls.__name__}: {error}") from error
    direction = direction or ("maximize" if _increasing(evaluator_cls, key) else "minimize")
    if direction not in {"maximize", "minimize"}:
        raise ConfigurationError(f"direction={direction!r} is none of 'maximize', 'minimize'.")
    objective = SamplerObjective(
        model=model_cls,
        loss=model_cls.loss_default if loss is None else _lookup("loss", loss_resolver, loss),
        regularizer=_regularizer(model_cls, regularizer),
        optimizer=_lookup("optimizer", optimizer_resolver, optimizer),
        lr_scheduler=None if lr_scheduler is None else _lookup("lr_scheduler", lr_scheduler_resolver, lr_scheduler),
        training_loop=loop_cls,
        negative_sampler=_sampler(loop_cls, negative_sampler, kwargs),
        training_kwargs=training,
        stopper=stopper_cls,
        evaluator=evaluator_cls,
        result_tracker=(
            result_tracker if isinstance(result_tracker, ResultTracker) else tracker_resolver.lookup(result_tracker)
        ),
        metric=key,
        larger_is_better=direction == "maximize",
        **{name: plain_copy(value) for name, value in kwargs.items()},
    )
    _check_training(objective)
    _check_stopper(objective)
    _check_spaces(objective)
    return objective, direction


def _lookup(argument: str, resolver: BaseResolver[Any, Any], query: Any) -> Any:
    try:
        return resolver.lookup(query)
    except (KeyError, TypeError) as error:
        raise did_you_mean(argument, str(query), resolver.lookup_dict) from error


def _regularizer(model: Any, regularizer: Any) -> Any:
    if regularizer is not None:
        return _lookup("regularizer", regularizer_resolver, regularizer)
    return getattr(model, "regularizer_default", None)


def _increasing(evaluator: type[Evaluator[Any]], metric: str) -> bool:
    # results with metrics of their own know which way they go
    own = getattr(evaluator.metric_result_cls, "is_increasing", None)
    if own is not None:
        return bool(own(metric))
    name = re.sub(r"_at_\d+$", "_at_k", metric.rpartition(".")[2])
    try:
        return bool(rank_based_metric_resolver.lookup(name).increasing)
    except (KeyError, TypeError):
        # those of classifiers
        return True


def _sampler(loop: Any, query: Any, kwargs: Mapping[str, Any]) -> type[NegativeSampler] | None:
    if not issubclass(loop, SLCWATrainingLoop):
        if query is not None:
            raise ConfigurationError(f"training_loop {loop.__name__} draws no negatives; leave negative_sampler out.")
        return None
    if isinstance(query, NegativeSampler):
        raise ConfigurationError(
            "negative_sampler is an instance, whose parameters cannot be tuned; give its name or class."
        )
    if "negative_sampler" in (kwargs.get("training_loop_kwargs") or {}):
        raise ConfigurationError("training_loop_kwargs has a negative_sampler; give it as negative_sampler instead.")
    return check_sampler("negative_sampler", query, kwargs.get("negative_sampler_kwargs"))


def _check_training(objective: SamplerObjective) -> None:
    name = (objective.training_kwargs or {}).get("checkpoint_name")
    if name:
        raise ConfigurationError(
            f"training_kwargs.checkpoint_name={name!r} would be shared by all trials; leave it out, each trial has a "
            f"checkpoint of its own."
        )


def _check_stopper(objective: SamplerObjective) -> None:
    if not issubclass(objective.stopper, EarlyStopper):
        return
    given = (objective.stopper_kwargs or {}).get("metric")
    if given is not None and objective.evaluator.metric_result_cls.key_to_string(given) != objective.metric:
        raise ConfigurationError(
            f"stopper_kwargs has metric={given!r}, and the study optimises {objective.metric!r}: trials would be "
            f"pruned by another metric than they are judged by. Leave it out, or set the study's metric."
        )
    for name in ("num_epochs", "epochs"):
        if name in (objective.training_kwargs_ranges or {}):
            raise ConfigurationError(f"training_kwargs_ranges has {name}, which early stopping finds; leave it out.")


def _check_spaces(objective: SamplerObjective) -> None:
    found = 0
    for component in COMPONENTS:
        given = getattr(objective, f"{component}_kwargs_ranges")
        cls = objective.training_loop if component == "training" else getattr(objective, component)
        argument = f"{component}_kwargs_ranges"
        if cls is None:
            if given:
                raise ConfigurationError(
                    f"{argument} is given, and there is no {component}; leave it out, or name one."
                )
            continue
        check_ranges(argument, given, cls, getattr(objective, f"{component}_kwargs"), _allowed(component, cls))
        found += _count(objective.ranges(component))
    if not found:
        raise ConfigurationError(
            "There is nothing to search: all parameters with a default range are fixed. Leave one of the keywords "
            "out, or give a range, e.g., negative_sampler_kwargs_ranges=dict(num_negs_per_pos=dict(type=int, low=1, "
            "high=64))."
        )


def _allowed(component: str, cls: Any) -> set[str]:
    if component == "training":
        methods = (base.train for base in cls.__mro__ if "train" in vars(base))
        found = {name for method in methods for name in inspect.signature(method).parameters}
        return found - {"self", "args", "kwargs", "triples_factory"} - _OWN_TRAINING
    return names(cls) - (_GIVEN if component == "training_loop" else set())


def _count(ranges: Mapping[str, Any]) -> int:
    """Count the parameters with a range."""
    return sum(1 if "type" in info else _count(info) for info in ranges.values())

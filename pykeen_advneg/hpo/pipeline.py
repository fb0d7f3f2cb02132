"""PyKEEN's ``hpo_pipeline``, with its signature, for trained samplers."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import torch
from class_resolver import HintOrType
from optuna import Trial
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from pykeen.datasets import Dataset
from pykeen.evaluation import Evaluator
from pykeen.losses import Loss
from pykeen.lr_schedulers import LRScheduler
from pykeen.models import Model
from pykeen.regularizers import Regularizer
from pykeen.sampling import NegativeSampler
from pykeen.stoppers import Stopper
from pykeen.trackers import ResultTracker
from pykeen.training import TrainingLoop
from pykeen.triples import CoreTriplesFactory
from torch.optim import Optimizer

from .making import make_objective
from .rehearsal import dry_run
from .result import StudyResult
from .search import SearchOfEachTrial, make_pruner
from .storage import open_storage
from .studies import configuration, give_up, open_study

__all__ = ["hpo_pipeline"]

logger = logging.getLogger(__name__)


def hpo_pipeline(
    *,
    dataset: str | Dataset | type[Dataset] | None = None,
    dataset_kwargs: Mapping[str, Any] | None = None,
    training: str | CoreTriplesFactory | None = None,
    testing: str | CoreTriplesFactory | None = None,
    validation: str | CoreTriplesFactory | None = None,
    evaluation_entity_whitelist: Collection[str] | None = None,
    evaluation_relation_whitelist: Collection[str] | None = None,
    model: str | type[Model],
    model_kwargs: Mapping[str, Any] | None = None,
    model_kwargs_ranges: Mapping[str, Any] | None = None,
    loss: HintOrType[Loss] = None,
    loss_kwargs: Mapping[str, Any] | None = None,
    loss_kwargs_ranges: Mapping[str, Any] | None = None,
    regularizer: HintOrType[Regularizer] = None,
    regularizer_kwargs: Mapping[str, Any] | None = None,
    regularizer_kwargs_ranges: Mapping[str, Any] | None = None,
    optimizer: HintOrType[Optimizer] = None,
    optimizer_kwargs: Mapping[str, Any] | None = None,
    optimizer_kwargs_ranges: Mapping[str, Any] | None = None,
    lr_scheduler: HintOrType[LRScheduler] = None,
    lr_scheduler_kwargs: Mapping[str, Any] | None = None,
    lr_scheduler_kwargs_ranges: Mapping[str, Any] | None = None,
    training_loop: HintOrType[TrainingLoop[Any]] = "adversarial",
    training_loop_kwargs: Mapping[str, Any] | None = None,
    training_loop_kwargs_ranges: Mapping[str, Any] | None = None,
    negative_sampler: HintOrType[NegativeSampler] = None,
    negative_sampler_kwargs: Mapping[str, Any] | None = None,
    negative_sampler_kwargs_ranges: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    training_kwargs: Mapping[str, Any] | None = None,
    training_kwargs_ranges: Mapping[str, Any] | None = None,
    stopper: HintOrType[Stopper] = None,
    stopper_kwargs: Mapping[str, Any] | None = None,
    evaluator: HintOrType[Evaluator[Any]] = None,
    evaluator_kwargs: Mapping[str, Any] | None = None,
    evaluation_kwargs: Mapping[str, Any] | None = None,
    metric: str | None = None,
    filter_validation_when_testing: bool = True,
    result_tracker: HintOrType[ResultTracker] = None,
    result_tracker_kwargs: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    storage: str | BaseStorage | None = None,
    sampler: HintOrType[BaseSampler] = None,
    sampler_kwargs: Mapping[str, Any] | None = None,
    pruner: HintOrType[BasePruner] = None,
    pruner_kwargs: Mapping[str, Any] | None = None,
    study_name: str | None = None,
    direction: str | None = None,
    load_if_exists: bool = False,
    n_trials: int | None = None,
    timeout: int | None = None,
    gc_after_trial: bool | None = None,
    n_jobs: int | None = None,
    save_model_directory: str | None = None,
    random_seed: int = 0,
    checkpoint_directory: str | pathlib.Path | None = None,
    checkpoint_frequency: int = 1,
) -> StudyResult:
    """Search hyper-parameters, those of a trained sampler included.

    Parameters and result are those of :func:`pykeen.hpo.hpo_pipeline`, whose documentation describes what is not
    described here. What differs:

    - the sampler's ``hpo_default`` and ``negative_sampler_kwargs_ranges`` are searched for each loop which draws
      negatives. Ranges may be nested: ``dict(generator_kwargs=dict(embedding_dim=dict(type=int, low=16, high=64)))``.
      A generator, a base sampler and their optimizers bring their own default ranges. A range of ``None`` takes a
      parameter out of the search;
    - early stopping and pruning look at the study's ``metric``; pruning needs ``stopper="early"``, as in PyKEEN;
    - trial ``n`` has the random seed ``random_seed + n``, and a seed of its own for Optuna's sampler, so that processes
      which share a study draw different values;
    - the default evaluator is ``fastrankbased``, which gives the values of PyKEEN's ``rankbased``;
    - the stopper is part of the exported experiment, since the result is that of the best epoch;
    - no argument is changed; each trial trains with copies of all dictionaries and lists;
    - what cannot work is found before the first trial.

    :param training_loop: as in PyKEEN, with the default ``adversarial``
    :param training_loop_kwargs_ranges: ranges for the constructor of the loop, e.g., its ``pretraining_epochs``
    :param storage: also ``journal:PATH`` and ``grpc://HOST:PORT``, see :func:`pykeen_advneg.hpo.storage.open_storage`
    :param direction: by default that in which the metric gets better
    :param load_if_exists: whether to go on with a study of this name, which must be of the same configuration
    :param random_seed: the seed of the first trial and of the search
    :param checkpoint_directory: where trials under way keep their checkpoints, so that a killed one goes on; by
        default, they keep none
    :param checkpoint_frequency: minutes between two checkpoints; 0: after each epoch

    :returns: the result; its ``export`` writes the best trial as an experiment file

    :raises ConfigurationError: if something cannot work: an unknown name or key, an empty space, a sampler which fails
        in each trial, a storage which cannot be reached, a study of another configuration
    """
    given = dict(locals())
    of_study = ("storage", "sampler", "sampler_kwargs", "pruner", "pruner_kwargs", "study_name", "load_if_exists")
    of_search = ("n_trials", "timeout", "gc_after_trial", "n_jobs")
    folder = given.pop("checkpoint_directory")
    objective, direction = make_objective(
        **{name: value for name, value in given.items() if name not in {*of_study, *of_search}},
        checkpoint_directory=None if folder is None else pathlib.Path(folder),
    )
    pruner = make_pruner(pruner, pruner_kwargs)
    search = SearchOfEachTrial(sampler, sampler_kwargs, random_seed)
    opened = None if storage is None else open_storage(storage)
    dry_run(objective)
    study = open_study(
        configuration(objective, direction),
        storage=opened,
        pruner=pruner,
        study_name=study_name,
        load_if_exists=load_if_exists,
    )
    study.sampler = search
    if n_jobs not in {None, 1}:
        logger.warning("n_jobs=%s: threads share the random numbers, so that no trial can be reproduced.", n_jobs)
    study.optimize(
        cast("Callable[[Trial], float]", objective),
        n_trials=n_trials,
        timeout=timeout,
        gc_after_trial=bool(gc_after_trial),
        n_jobs=n_jobs or 1,
        catch=(Exception,),
        callbacks=[give_up],
    )
    return StudyResult(study=study, objective=objective)

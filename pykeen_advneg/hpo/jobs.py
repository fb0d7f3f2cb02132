"""Make the studies of a tuning, or join them: all checks first, so that what is refused leaves nothing behind."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.storages import BaseStorage
from pykeen.datasets import Dataset, dataset_resolver

from ..datasets import load_dataset
from ..errors import ConfigurationError
from ..splits import fingerprint
from .exclusion import exclusively
from .making import make_objective
from .objective import CHECKPOINT, SEED, SamplerObjective
from .queueing import POLL, Job, Queue
from .search import SearchOfEachTrial, make_pruner
from .settings import Tuning
from .studies import check_study, configuration, open_study

__all__ = ["join", "load_data", "prepare"]

#: the attributes of a study: the name it was asked for by, its sampler's label, the settings, the trials queued, when
GROUP, LABEL, SETTINGS, QUEUED = "advneg_group", "advneg_label", "advneg_settings", "advneg_queued"
SINCE = "advneg_since"


@dataclass(frozen=True)
class _Plan:
    """The study of one sampler, before there is any."""

    label: str
    name: str
    objective: SamplerObjective
    configuration: Mapping[str, Any]


def prepare(
    tuning: Tuning,
    name: str,
    storage: BaseStorage,
    checkpoints: pathlib.Path | None,
    data: Dataset,
    top_up: bool = True,
    check: Callable[[SamplerObjective], None] = lambda _objective: None,
) -> list[Job]:
    """Make the studies of a tuning with all their trials, or join them.

    :param tuning: what is asked for
    :param name: the name which all studies have in common
    :param storage: where they are kept
    :param checkpoints: where trials under way keep their checkpoints
    :param data: the data set
    :param top_up: whether to add what trials are missing in studies which exist
    :param check: is called with each objective before any study is made

    :returns: a job for each sampler

    :raises ConfigurationError: if something cannot work, or if a study is of another configuration
    """
    jobs = _open(tuning, name, storage, checkpoints, data, check)
    for job in jobs:
        attributes = job.study.user_attrs
        is_new = QUEUED not in attributes
        if is_new or top_up:
            _fill(job.study, tuning, name, job.label)
    return jobs


def join(
    name: str, storage: BaseStorage, checkpoints: pathlib.Path | None, patience: float = 30.0
) -> tuple[Tuning, list[Job]]:
    """Join the studies of a tuning, by what is written down with them.

    :param name: the name which they have in common
    :param storage: where they are kept
    :param checkpoints: where trials under way keep their checkpoints
    :param patience: how many seconds to wait for them to be made

    :returns: the settings, and a job for each sampler

    :raises ConfigurationError: if there are none
    """
    end = time.monotonic() + patience
    while True:
        found = [study.user_attrs for study in storage.get_all_studies() if study.user_attrs.get(GROUP) == name]
        queued = [attributes for attributes in found if QUEUED in attributes]
        # the latest ones: there may be studies of samplers which are not asked for any more
        latest = max(queued, key=lambda attributes: float(attributes[SINCE]), default=None)
        settings = None if latest is None else json.loads(latest[SETTINGS])
        if settings is not None and {attributes[LABEL] for attributes in queued} >= set(settings["samplers"]):
            break
        if time.monotonic() > end:
            known = sorted({str(s.user_attrs[GROUP]) for s in storage.get_all_studies() if GROUP in s.user_attrs})
            raise ConfigurationError(
                f"study {name!r} is not in this storage, which has {known or 'none'}; make it by `advneg hpo`, or give "
                f"--config to make it here."
            )
        time.sleep(POLL)
    tuning = Tuning.from_mapping(settings)
    return tuning, _open(tuning, name, storage, checkpoints, load_data(tuning))


def load_data(tuning: Tuning) -> Dataset:
    """Load the data set of a tuning."""
    return load_dataset(tuning.dataset, tuning.vocabulary, tuning.create_inverse_triples)


def _open(
    tuning: Tuning,
    name: str,
    storage: BaseStorage,
    checkpoints: pathlib.Path | None,
    data: Dataset,
    check: Callable[[SamplerObjective], None] = lambda _objective: None,
) -> list[Job]:
    """Make or join the study of each sampler, if nothing is wrong with any of them."""
    search = tuning.search
    # samplers of Optuna remember the study they are of: each has its own
    samplers = {
        label: SearchOfEachTrial(search.get("sampler"), search.get("sampler_kwargs"), tuning.random_seed)
        for label in tuning.samplers
    }
    pruner = make_pruner(search.get("pruner"), search.get("pruner_kwargs"))
    plans = [_plan(tuning, name, label, checkpoints, data) for label in tuning.samplers]
    for plan in plans:
        check_study(storage, plan.name, plan.configuration)
        check(plan.objective)
    for plan in plans:
        open_study(plan.configuration, storage=storage, load_if_exists=True, study_name=plan.name)
    return [Job(plan.label, Queue(plan.name, storage, samplers[plan.label], pruner), plan.objective) for plan in plans]


def _plan(tuning: Tuning, name: str, label: str, checkpoints: pathlib.Path | None, data: Dataset) -> _Plan:
    objective, direction = make_objective(
        **tuning.arguments(label), **_data_arguments(tuning, data), checkpoint_directory=checkpoints
    )
    objective._data = data
    return _Plan(label, f"{name}.{label}", objective, configuration(objective, direction, tuning.search))


def _data_arguments(tuning: Tuning, data: Dataset) -> dict[str, Any]:
    """Say the data so that PyKEEN's pipeline loads the same."""
    kwargs: dict[str, Any] = {"create_inverse_triples": True} if tuning.create_inverse_triples else {}
    if tuning.vocabulary == "training" and dataset_resolver.normalize(tuning.dataset) in dataset_resolver.options:
        return {"dataset": tuning.dataset, "dataset_kwargs": kwargs}
    kwargs |= {"source": tuning.dataset, "vocabulary": tuning.vocabulary, "fingerprint": fingerprint(data)}
    return {"dataset": "labeledsplits", "dataset_kwargs": kwargs}


def _fill(study: Queue, tuning: Tuning, name: str, label: str) -> None:
    """Queue the trials which are missing; who comes second finds nothing to do."""
    with exclusively(study._storage, study.study_name):
        study.set_user_attr(GROUP, name)
        study.set_user_attr(LABEL, label)
        study.set_user_attr(SETTINGS, json.dumps(tuning.to_mapping()))
        present = {trial.user_attrs.get(CHECKPOINT) for trial in study.get_trials(deepcopy=False)}
        for number in range(tuning.trials):
            key = f"{study.study_name}-{number:04d}"
            if key not in present:
                study.enqueue_trial({}, user_attrs={SEED: tuning.random_seed + number, CHECKPOINT: key})
        study.set_user_attr(SINCE, time.time())
        study.set_user_attr(QUEUED, tuning.trials)

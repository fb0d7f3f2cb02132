"""What a study is: its configuration, by which others join it or are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from optuna import Study, create_study
from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from pykeen.version import get_git_hash, get_version

from ..errors import ConfigurationError
from ..splits import fingerprint
from .objective import ERROR, SamplerObjective
from .result import describe_data, jsonable
from .suggesting import COMPONENTS

__all__ = ["check_study", "configuration", "give_up", "open_study"]

_CONFIGURATION = "advneg_configuration"
#: a study is given up after so many failures without a success
FAILURES = 5


def configuration(
    objective: SamplerObjective, direction: str, search: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write down all that a study is about, with the ranges as they are searched.

    :param objective: the objective
    :param direction: the direction of the study
    :param search: Optuna's sampler and pruner by name, if they are part of it

    :returns: plain values
    """
    written: dict[str, Any] = describe_data(objective, [])
    written["fingerprint"] = fingerprint(objective.data())
    for component in COMPONENTS:
        if component != "training":
            written[component] = jsonable(getattr(objective, component), [])
        written[f"{component}_kwargs"] = jsonable(getattr(objective, f"{component}_kwargs") or {}, [])
        written[f"{component}_kwargs_ranges"] = jsonable(objective.ranges(component), [])
    for name in ("stopper", "stopper_kwargs", "evaluator", "evaluator_kwargs", "evaluation_kwargs", "metric"):
        written[name] = jsonable(getattr(objective, name) or {}, [])
    written |= {"direction": direction, "random_seed": objective.random_seed, "search": jsonable(search or {}, [])}
    # as it is read again
    plain: dict[str, Any] = json.loads(json.dumps(written))
    return plain


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Name the values which differ.

    :param stored: a configuration
    :param wanted: another one
    :param path: comes before the names

    :returns: a phrase for each
    """
    for key in sorted({*stored, *wanted}):
        old, new = stored.get(key), wanted.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{path}{key}.")
        elif old != new:
            yield f"{path}{key} is {old!r} there and {new!r} here"


def check_study(storage: BaseStorage, name: str, wanted: Mapping[str, Any]) -> None:
    """Refuse a study which exists and is of another configuration; one which does not exist is not made.

    :param storage: where it is kept
    :param name: its name
    :param wanted: the configuration

    :raises ConfigurationError: if it is of another configuration, or was not made by this package
    """
    try:
        number = storage.get_study_id_from_name(name)
    except KeyError:
        return
    attributes = storage.get_study_user_attrs(number)
    stored = attributes.get(_CONFIGURATION)
    if stored is None:
        if storage.get_all_trials(number, deepcopy=False):
            raise ConfigurationError(f"study_name={name!r} was not made by this package; choose another name.")
        return
    found = list(differences(json.loads(stored), wanted))
    if found:
        raise ConfigurationError(
            f"study_name={name!r} is of another configuration: {'; '.join(found[:5])}. Choose another name, or repeat "
            f"its configuration."
        )


def open_study(
    wanted: Mapping[str, Any],
    *,
    storage: BaseStorage | None,
    load_if_exists: bool,
    study_name: str | None,
    pruner: BasePruner | None = None,
) -> Study:
    """Make a study, or join one of the same configuration.

    :param wanted: the configuration, see :func:`configuration`
    :param storage: where it is kept; None: in memory
    :param load_if_exists: whether to join
    :param study_name: its name
    :param pruner: Optuna's pruner

    :returns: the study

    :raises ConfigurationError: if the study is of another configuration
    """
    if storage is not None and study_name is not None and load_if_exists:
        check_study(storage, study_name, wanted)
    try:
        study = create_study(
            storage=storage,
            pruner=pruner,
            study_name=study_name,
            direction=wanted["direction"],
            load_if_exists=load_if_exists,
        )
    except DuplicatedStudyError as error:
        raise ConfigurationError(
            f"study_name={study_name!r} exists in this storage; choose another name, or go on with load_if_exists=True."
        ) from error
    if _CONFIGURATION not in study.user_attrs:
        # first of all, so that who joins meanwhile finds all of it or nothing
        study.set_user_attr(_CONFIGURATION, json.dumps(wanted))
        # PyKEEN's own attributes, which its readers of studies know
        notes = {"pykeen_version": get_version(), "pykeen_git_hash": get_git_hash()}
        names = ("dataset", "model", "loss", "optimizer", "training_loop", "negative_sampler", "evaluator", "metric")
        for name, value in (notes | {name: wanted[name] for name in names if wanted.get(name)}).items():
            study.set_user_attr(name, value)
    return study


def give_up(study: Study, trial: FrozenTrial) -> None:
    """End a study in which everything fails.

    :param study: the study
    :param trial: the trial which has ended

    :raises ConfigurationError: after so many failures without a success
    """
    if trial.state != TrialState.FAIL:
        return
    trials = study.get_trials(deepcopy=False)
    if any(other.state in {TrialState.COMPLETE, TrialState.PRUNED} for other in trials):
        return
    failed = [other for other in trials if other.state == TrialState.FAIL and ERROR in other.user_attrs]
    if len(failed) >= FAILURES:
        raise ConfigurationError(
            f"The first {len(failed)} trials of the study {study.study_name!r} have all failed, the first one by: "
            f"{failed[0].user_attrs[ERROR]}"
        )

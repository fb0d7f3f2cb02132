"""What comes out of a study: PyKEEN's result, with experiment files which reproduce a trial to the last bit."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from class_resolver import ClassResolver
from optuna.trial import FixedTrial, FrozenTrial
from pykeen.constants import USER_DEFINED_CODE
from pykeen.datasets import Dataset, dataset_resolver, has_dataset
from pykeen.evaluation import evaluator_resolver
from pykeen.hpo.hpo import HpoPipelineResult
from pykeen.losses import loss_resolver
from pykeen.lr_schedulers import lr_scheduler_resolver
from pykeen.models import model_resolver
from pykeen.optimizers import optimizer_resolver
from pykeen.regularizers import regularizer_resolver
from pykeen.sampling import negative_sampler_resolver
from pykeen.stoppers import stopper_resolver
from pykeen.training import training_loop_resolver

from ..errors import ConfigurationError
from .objective import ENVIRONMENT, SEED, SamplerObjective

__all__ = ["StudyResult", "describe_data", "experiment", "jsonable", "write_json"]

_RESOLVERS: Mapping[str, ClassResolver[Any]] = {
    "model": model_resolver,
    "loss": loss_resolver,
    "regularizer": regularizer_resolver,
    "optimizer": optimizer_resolver,
    "lr_scheduler": lr_scheduler_resolver,
    "training_loop": training_loop_resolver,
    "negative_sampler": negative_sampler_resolver,
    "stopper": stopper_resolver,
    "evaluator": evaluator_resolver,
}


def jsonable(value: Any, lost: list[str], name: str = "") -> Any:  # noqa: PLR0911
    """Write a value as JSON has it; what JSON has not becomes PyKEEN's mark for code of the user.

    :param value: the value
    :param lost: gets the names of what cannot be written
    :param name: the name of the value

    :returns: plain values
    """
    if isinstance(value, Mapping):
        return {str(key): jsonable(item, lost, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item, lost, name) for item in value]
    if isinstance(value, type) and value in {int, float, bool, str}:
        return value.__name__
    if isinstance(value, (pathlib.PurePath, torch.device)):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    for resolver in _RESOLVERS.values():
        if isinstance(value, type) and value in resolver.lookup_dict.values():
            return resolver.normalize_cls(value)
    lost.append(name)
    return USER_DEFINED_CODE


def describe_data(objective: SamplerObjective, lost: list[str]) -> dict[str, Any]:
    """Say the data of an objective in the pipeline's words."""
    dataset = objective.dataset
    if dataset is None:
        return {
            split: jsonable(getattr(objective, split), lost, split)
            for split in ("training", "testing", "validation")
            if getattr(objective, split) is not None
        }
    if (
        isinstance(dataset, type)
        and issubclass(dataset, Dataset)
        and has_dataset(dataset_resolver.normalize_cls(dataset))
    ):
        dataset = dataset_resolver.normalize_cls(dataset)
    data = {"dataset": jsonable(dataset, lost, "dataset")}
    if objective.dataset_kwargs:
        data["dataset_kwargs"] = jsonable(objective.dataset_kwargs, lost, "dataset_kwargs")
    return data


def experiment(objective: SamplerObjective, trial: FrozenTrial, replay: bool = True) -> dict[str, Any]:
    """Write a trial as one of PyKEEN's experiment files.

    :param objective: the objective of its study
    :param trial: the trial
    :param replay: whether PyKEEN's own loops train up to the best epoch without a stopper, since they would not go
        back to it; otherwise, the settings are written as they are

    :returns: the content of the file: ``metadata`` and ``pipeline``, whose ``random_seed`` is the trial's
    """
    lost: list[str] = []
    arguments = objective.arguments(FixedTrial(trial.params, number=trial.number))
    if replay and objective.prunes and not objective.keeps_the_best and "best_epoch" in trial.user_attrs:
        arguments["training_kwargs"]["num_epochs"] = trial.user_attrs["best_epoch"]
        arguments |= {"stopper": None, "stopper_kwargs": None}
    written: dict[str, Any] = describe_data(objective, lost)
    for name, value in arguments.items():
        if value is None or (name.endswith("_kwargs") and not value):
            continue
        if name in _RESOLVERS and isinstance(value, type):
            resolver = _RESOLVERS[name]
            if value in resolver.lookup_dict.values():
                written[name] = resolver.normalize_cls(value)
                continue
        written[name] = jsonable(value, lost, name)
    written["random_seed"] = trial.user_attrs[SEED]
    metadata = {
        "trial": trial.number,
        "metric": objective.metric,
        "value": trial.value,
        "best_epoch": trial.user_attrs.get("best_epoch"),
        **trial.user_attrs.get(ENVIRONMENT, {}),
    }
    if lost:
        metadata["_not_reproducible"] = f"objects which no file can hold: {', '.join(sorted(set(lost)))}"
    return {"metadata": metadata, "pipeline": written}


def write_json(content: Any, path: pathlib.Path) -> None:
    """Write a JSON file at once.

    :param content: plain values
    :param path: the file
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(path)


@dataclass
class StudyResult(HpoPipelineResult):
    """The result of :func:`pykeen_advneg.hpo.hpo_pipeline`."""

    objective: SamplerObjective

    # docstr-coverage: inherited
    def _get_best_study_config(self) -> dict[str, Any]:
        trial = self.study.best_trial
        config = experiment(self.objective, trial)
        config["metadata"] |= {"best_trial_number": trial.number, "best_trial_evaluation": trial.value}
        return config

    def best_experiment(self) -> dict[str, Any]:
        """Get the best trial as an experiment of PyKEEN.

        With ``use_testing_data=False``, which ``pykeen experiments run`` does not let a file say, it has the value of
        the trial.

        :returns: the content of the file
        """
        return self._get_best_study_config()

    def export(self, path: str | pathlib.Path) -> None:
        """Write the best trial as an experiment file, for ``pykeen experiments run`` or ``pipeline_from_path``.

        ``pykeen experiments run`` evaluates on the test triples. ``pipeline_from_path(path, use_testing_data=False)``,
        with as many threads, on the same versions and the same kind of machine, gives the value of the trial to the
        last bit.

        :param path: the file

        :raises ConfigurationError: if the trial depends on an object which no file can hold
        """
        config = self.best_experiment()
        if "_not_reproducible" in config["metadata"]:
            raise ConfigurationError(
                f"The best trial cannot be exported, since it depends on {config['metadata']['_not_reproducible']}; "
                f"give names, classes of PyKEEN and plain values instead."
            )
        write_json(config, pathlib.Path(path))

    # docstr-coverage: inherited
    def save_to_directory(self, directory: str | pathlib.Path, **kwargs: Any) -> None:  # noqa: D102
        super().save_to_directory(directory, **kwargs)
        write_json(self.best_experiment(), pathlib.Path(directory) / "best_trial.json")

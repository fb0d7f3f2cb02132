"""Studies of Optuna over the options of a training job of LibKGE, pruned after its validations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.pruners import BasePruner, MedianPruner
from optuna.trial import FrozenTrial, Trial, TrialState

from pykeen_advneg.errors import ConfigurationError, NonFiniteSamplerError
from pykeen_advneg.hpo.search import make_search
from pykeen_advneg.hpo.spaces import check_range, is_nested, sampler_ranges, suggest
from pykeen_advneg.hpo.storage import open_storage
from pykeen_advneg.sampling.base import whole_at_least

from .installed import check_libkge
from .settings import KEY, SamplerSettings, Settings

__all__ = ["default_ranges", "tune"]

#: the attribute of a study which says what is tuned
CONFIGURATION = "libkge"

#: what LibKGE and samplers raise where a choice of options leaves the finite numbers: a trial which has failed
DIVERGED = (FloatingPointError, NonFiniteSamplerError)


def default_ranges(settings: SamplerSettings, get: Callable[[str], Any]) -> dict[str, Any]:
    """Collect the ranges which a sampler and its components suggest, but for what the user has given.

    :param settings: the choice of the sampler
    :param get: gives the value of an option

    :returns: the range of each option of LibKGE
    """
    ranges = dict(_flat(sampler_ranges(settings.check(get(f"{KEY}.sampler_args") or {}), settings.kwargs)))
    given = {name for name, _ in _leaves(settings.kwargs)}
    options = {"num_negs_per_pos": f"{KEY}.num_samples"}
    return {options.get(name, f"{KEY}.sampler_args.{name}"): info for name, info in ranges.items() if name not in given}


def _flat(ranges: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Write nested ranges with a dot for each level."""
    for name, info in ranges.items():
        if is_nested(info):
            yield from _flat(info, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Write nested values with a dot for each level."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


class Objective:
    """A training job with suggested options; its value is the best validation."""

    def __init__(self, config: Any, dataset: Any, ranges: Mapping[str, Any]) -> None:
        """Initialize the objective.

        :param config: the configuration of LibKGE, with the folder in which trials get theirs
        :param dataset: the data set
        :param ranges: by the names of options
        """
        self.config = config
        self.dataset = dataset
        self.ranges = ranges
        self.metric: str = config.get("valid.metric")

    def options(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        """Suggest options."""
        return suggest(trial, CONFIGURATION, self.ranges)

    def __call__(self, trial: Trial) -> float:
        """Train."""
        from kge.job import Job
        from kge.util.metric import Metric
        from kge.util.seed import seed_from_config

        config = self.config.clone(f"{trial.number:05}")
        for name, value in self.options(trial).items():
            config.set(name, value)
        if not config.init_folder():
            raise ConfigurationError(f"{config.folder} exists, and is not of this study; choose another folder.")
        seed_from_config(config)
        job = Job.create(config, self.dataset)
        epochs = config.get(f"{KEY}.pretraining.epochs")

        def report(job: Any) -> None:
            if job.epoch > epochs:
                trial.report(job.valid_trace[-1][self.metric], job.epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned

        job.post_valid_hooks.append(report)
        job.run()
        best: float = Metric(job).best([entry[self.metric] for entry in job.valid_trace])
        return best


def tune(
    path: Path,
    folder: Path,
    trials: int,
    *,
    ranges: Mapping[str, Any] | None = None,
    storage: str | None = None,
    name: str = "study",
    seed: int = 0,
    pruner: BasePruner | None = None,
) -> optuna.Study:
    """Run a study of Optuna, or go on with one; the best configuration is written to ``best.yaml`` in the folder.

    :param path: a configuration of LibKGE with ``train.type: advneg_negative_sampling`` and validation
    :param folder: the folder of the study, in which each trial has a folder of LibKGE
    :param trials: how many trials there shall be, those included which the study has already
    :param ranges: by the names of options, as in :mod:`pykeen_advneg.hpo`; None: those which the sampler suggests
    :param storage: where the study is kept, see :func:`pykeen_advneg.hpo.storage.open_storage`; None: a journal in the
        folder
    :param name: the name of the study
    :param seed: the seed of Optuna's sampler; that of training is LibKGE's
    :param pruner: Optuna's pruner; None: the median pruner

    :returns: the study

    :raises ConfigurationError: if the configuration cannot be tuned, or if the study is of another one
    """
    whole_at_least("trials", trials, 1)
    check_libkge()
    from kge import Config, Dataset

    config = Config()
    config.load(str(path))
    config.folder = str(folder)
    chosen = _ranges(config, ranges)
    folder.mkdir(parents=True, exist_ok=True)
    metric_max = config.get("valid.metric_max")
    study = optuna.create_study(
        storage=open_storage(storage or f"journal:{folder / 'study.journal'}"),
        sampler=make_search("tpe", {}, seed),
        pruner=pruner or MedianPruner(),
        study_name=name,
        direction="maximize" if metric_max else "minimize",
        load_if_exists=True,
    )
    _claim(study, {"options": config.options, "ranges": chosen})
    objective = Objective(config, Dataset.create(config), chosen)
    ended = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
    study.optimize(objective, n_trials=max(0, trials - len(ended)), catch=DIVERGED)
    if study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        _write_best(objective, study.best_trial, folder / "best.yaml")
    return study


def _ranges(config: Any, ranges: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check that the configuration can be tuned, and choose what is searched."""
    if config.get("train.type") != KEY:
        raise ConfigurationError(f"train.type={config.get('train.type')!r} must be {KEY!r} to be tuned.")
    settings = Settings.of(config.get)
    every, last = config.get("valid.every"), config.get("train.max_epochs")
    if every < 1 or last // every * every <= settings.pretraining_epochs:
        raise ConfigurationError(
            f"valid.every={every}, with train.max_epochs={last} and {settings.pretraining_epochs} epochs of "
            f"pre-training, leaves no validation to tune by; validate more often, or train longer."
        )
    chosen = dict(default_ranges(settings.sampler, config.get) if ranges is None else _flat(ranges))
    if not chosen:
        raise ConfigurationError(
            f"sampler={settings.sampler.name!r} suggests no range which is not given; give ranges."
        )
    for option, info in chosen.items():
        check_range(option, info)
    return chosen


def _claim(study: optuna.Study, configuration: Mapping[str, Any]) -> None:
    """Note what a new study is of, and check that an old one is of the same."""
    wanted = json.dumps(configuration, sort_keys=True, default=lambda value: getattr(value, "__name__", str(value)))
    stored = study.user_attrs.get(CONFIGURATION)
    if stored not in {None, wanted}:
        raise ConfigurationError(
            f"name={study.study_name!r} is a study of another configuration or of other ranges; choose another name or "
            f"folder, or repeat its configuration."
        )
    study.set_user_attr(CONFIGURATION, wanted)


def _write_best(objective: Objective, trial: FrozenTrial, path: Path) -> None:
    """Write the configuration of the best trial, so that a kill leaves a whole file or none."""
    config = objective.config.clone()
    for name, value in objective.options(trial).items():
        config.set(name, value)
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(yaml.safe_dump(config.options), encoding="utf-8")
    partial.replace(path)

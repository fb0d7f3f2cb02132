"""What `advneg hpo` is asked to do: one data set, samplers side by side, and the same budget for each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..comparison.configuration import PIPELINE_KEYS, SamplerChoice, did_you_mean, expect
from ..errors import ConfigurationError

__all__ = ["Tuning"]

_COMPONENTS = (
    "model",
    "loss",
    "regularizer",
    "optimizer",
    "lr_scheduler",
    "negative_sampler",
    "training_loop",
    "training",
)
#: the arguments of :func:`pykeen_advneg.hpo.hpo_pipeline` which all samplers share, or one has for itself
_SHARED = frozenset({*PIPELINE_KEYS, *(f"{component}_kwargs_ranges" for component in _COMPONENTS)})
_OWN = frozenset({"negative_sampler", "training_loop"})


@dataclass(frozen=True)
class Tuning:
    """A study for each of some samplers."""

    #: the name of a data set of PyKEEN, or a folder
    dataset: str
    #: by the label of a sampler its arguments of the pipeline, ``negative_sampler`` among them
    samplers: Mapping[str, Mapping[str, Any]]
    #: how many trials each sampler has
    trials: int = 30
    epochs: int = 100
    #: every how many epochs trials are evaluated, and may be pruned; by default 20 times
    eval_every: int | None = None
    #: how many evaluations without improvement a trial goes on
    patience: int = 5
    #: with how many seeds the winners are trained again
    seeds: int = 5
    #: the seed of the first trial of each sampler, and of the search
    random_seed: int = 0
    metric: str = "mrr"
    #: minutes between checkpoints of a trial; 0: after each epoch
    checkpoint_frequency: int = 1
    vocabulary: Any = "training"
    create_inverse_triples: bool = False
    #: Optuna's ``sampler`` and ``pruner`` with their ``_kwargs``
    search: Mapping[str, Any] = field(default_factory=dict)
    #: the arguments of the pipeline which all samplers share, and their ranges
    pipeline: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, low in (
            ("trials", 1),
            ("epochs", 1),
            ("patience", 1),
            ("seeds", 0),
            ("checkpoint_frequency", 0),
            ("eval_every", 1),
        ):
            value = getattr(self, name)
            if name == "eval_every" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ConfigurationError(f"{name} must be a whole number of at least {low}, got {value!r}.")
        if not self.dataset:
            raise ConfigurationError("dataset: none is given; name one, e.g. --dataset umls.")
        if not self.samplers:
            raise ConfigurationError("samplers: none is given; name at least one, e.g. --sampler kbgan.")
        if not self.pipeline.get("model"):
            raise ConfigurationError("model: none is given; name one, e.g. --model transe.")
        for label in self.samplers:
            if not re.fullmatch(r"[\w.+-]+", label):
                raise ConfigurationError(
                    f"sampler label {label!r} is part of file names; use letters, digits, -, + and _."
                )

    @property
    def frequency(self) -> int:
        """Every how many epochs trials are evaluated."""
        return self.eval_every or max(1, self.epochs // 20)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Tuning:
        """Read a configuration file, or what :meth:`to_mapping` wrote.

        :param mapping: the names of the fields of this class, with the arguments of the pipeline beside them

        :returns: the tuning

        :raises ConfigurationError: if a key or a value cannot be
        """
        own = {each.name for each in fields(cls)} - {"pipeline"}
        for key in mapping:
            if key not in own and key not in _SHARED:
                raise did_you_mean("configuration: key", str(key), [*own, *_SHARED])
        values = {key: mapping[key] for key in own if mapping.get(key) is not None}
        values["samplers"] = {
            str(label): _sampler(str(label), value)
            for label, value in expect("samplers", values.get("samplers", {}), Mapping).items()
        }
        shared = {key: mapping[key] for key in _SHARED if mapping.get(key) is not None}
        for key, value in shared.items():
            if "_kwargs" in key:
                expect(key, value, Mapping)
        return cls(**{"dataset": "", **values}, pipeline=shared)

    def to_mapping(self) -> dict[str, Any]:
        """Write the tuning as a configuration file has it."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "pipeline"}
        return {**own, "eval_every": self.frequency, **self.pipeline}

    def arguments(self, label: str) -> dict[str, Any]:
        """Give the arguments of a sampler's study: what all share, with its own over them.

        :param label: the label of the sampler

        :returns: keyword-based parameters of :func:`pykeen_advneg.hpo.making.make_objective`, without data
        """
        arguments: dict[str, Any] = {
            "training_loop": "adversarial",
            "evaluator": "fastrankbased",
            "stopper": "early",
            "epochs": self.epochs,
            "metric": self.metric,
            "random_seed": self.random_seed,
            "checkpoint_frequency": self.checkpoint_frequency,
            **self.pipeline,
        }
        for key, value in self.samplers[label].items():
            is_kwargs = isinstance(value, Mapping) and isinstance(arguments.get(key), Mapping)
            arguments[key] = {**arguments[key], **value} if is_kwargs else value
        arguments["stopper_kwargs"] = {
            "relative_delta": 0.0,
            **(arguments.get("stopper_kwargs") or {}),
            "frequency": self.frequency,
            "patience": self.patience,
        }
        arguments["training_kwargs"] = {"use_tqdm": False, **(arguments.get("training_kwargs") or {})}
        arguments["evaluation_kwargs"] = {"use_tqdm": False, **(arguments.get("evaluation_kwargs") or {})}
        return arguments


def _sampler(label: str, value: Any) -> dict[str, Any]:
    """Read the arguments of a sampler; its label is its name where there is none."""
    value = expect(f"samplers.{label}", value or {}, Mapping)
    for key in value:
        if key not in _SHARED | _OWN:
            raise did_you_mean(f"samplers.{label}: key", str(key), sorted(_SHARED | _OWN))
    parsed = SamplerChoice.parse(label)
    return {"negative_sampler": parsed.negative_sampler, "training_loop": parsed.training_loop, **value}

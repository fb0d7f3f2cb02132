"""What `advneg compare` is asked to do: data sets, samplers and seeds, and the pipeline's arguments shared by all."""

from __future__ import annotations

import difflib
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import yaml

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..datasets import Vocabulary

__all__ = ["Comparison", "SamplerChoice", "dataset_label", "did_you_mean", "read_config"]


#: the arguments of :func:`pykeen.pipeline.pipeline` that all runs share
PIPELINE_KEYS = (
    *("model", "model_kwargs", "loss", "loss_kwargs"),
    *("regularizer", "regularizer_kwargs", "optimizer", "optimizer_kwargs", "lr_scheduler", "lr_scheduler_kwargs"),
    *("training_loop_kwargs", "negative_sampler_kwargs", "training_kwargs", "stopper_kwargs"),
    *("evaluator_kwargs", "evaluation_kwargs", "device"),
)
#: what to do about samplers of one name
LABELS_HINT = "tell them apart by labels, --sampler LABEL=NAME."


def did_you_mean(argument: str, value: str, known: Iterable[str]) -> ConfigurationError:
    """Make the error for a name that is not known.

    :param argument: what the name was given for
    :param value: the name
    :param known: the names that are known

    :returns: the error, with the names that are spelt like it, or with all of them if none is
    """
    known = sorted(known)
    close = difflib.get_close_matches(value.lower(), known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(known)}."
    return ConfigurationError(f"{argument} {value!r} is not known; {hint}")


@dataclass(frozen=True)
class SamplerChoice:
    """One of the samplers to compare, in PyKEEN's words."""

    #: how it is called in tables and figures
    label: str
    negative_sampler: str
    negative_sampler_kwargs: Mapping[str, Any] = field(default_factory=dict)
    training_loop: str = "adversarial"
    training_loop_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> SamplerChoice:
        """Read a sampler of the command line: ``[LABEL=][stock:]NAME``.

        With ``stock:``, the sampler is trained by PyKEEN's own loop ``slcwa``.

        :param text: for instance ``kbgan``, ``stock:bernoulli`` or ``distmult=kbgan``

        :returns: the sampler

        :raises ConfigurationError: if a part is empty
        """
        match = re.fullmatch(r"(?:(?P<label>.+)=)?(?P<name>(?P<stock>stock:)?(?P<sampler>[^=:]+))", text)
        if match is None:
            raise ConfigurationError(f"sampler {text!r} is malformed; write NAME, LABEL=NAME or stock:NAME.")
        loop = "slcwa" if match["stock"] else "adversarial"
        return cls(label=match["label"] or match["name"], negative_sampler=match["sampler"], training_loop=loop)

    @classmethod
    def from_mapping(cls, label: str, mapping: Mapping[str, Any] | None) -> SamplerChoice:
        """Read a sampler of a configuration file; its label is its name where the file gives none.

        :param label: its key
        :param mapping: its values: the names of the fields of this class

        :returns: the sampler

        :raises ConfigurationError: if there are other keys
        """
        known = [each.name for each in fields(cls) if each.name != "label"]
        mapping = expect(f"samplers.{label}", mapping or {}, Mapping)
        for key in mapping:
            if key not in known:
                raise did_you_mean(f"samplers.{label}: key", str(key), known)
        return cls(**{**vars(cls.parse(label)), "label": label, **mapping})

    def to_mapping(self) -> dict[str, Any]:
        """Write the sampler as in a configuration file."""
        return {key: _plain(value) for key, value in vars(self).items() if key != "label"}


@dataclass(frozen=True)
class Comparison:
    """A whole comparison: each data set with each sampler and each seed."""

    #: names of PyKEEN's data sets or folders
    datasets: tuple[str, ...]
    samplers: tuple[SamplerChoice, ...]
    #: the seeds are 0, 1, ..., ``seeds - 1``
    seeds: int = 3
    epochs: int = 100
    #: every how many epochs the validation triples are evaluated; by default 20 times in a run
    eval_every: int | None = None
    #: the ids come from the training triples ("training", PyKEEN's way) or from all splits ("all")
    vocabulary: Vocabulary = "training"
    create_inverse_triples: bool = False
    #: whether to stop early, and to select the best epoch on validation
    early_stopping: bool = False
    #: how many evaluations without improvement early stopping waits for
    patience: int = 5
    #: the arguments of the pipeline that all runs share
    pipeline: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "patience", *(["eval_every"] if self.eval_every is not None else [])):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if not self.datasets:
            raise ConfigurationError("datasets: none is given; name at least one, e.g. --dataset umls.")
        if not self.samplers:
            raise ConfigurationError("samplers: none is given; name at least one, e.g. --sampler bernoulli.")
        if self.vocabulary not in {"training", "all"}:
            raise ConfigurationError(f"vocabulary must be 'training' or 'all', got {self.vocabulary!r}.")
        if not self.pipeline.get("model"):
            raise ConfigurationError("model: none is given; name one, e.g. --model transe.")
        refuse_twice("sampler", [sampler.label for sampler in self.samplers], LABELS_HINT)
        refuse_twice("dataset", [dataset_label(dataset) for dataset in self.datasets], "give each once.")

    @property
    def frequency(self) -> int:
        """Every how many epochs the validation triples are evaluated."""
        return self.eval_every or max(1, self.epochs // 20)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Comparison:
        """Read a configuration file, or what :meth:`to_mapping` wrote.

        :param mapping: the names of the fields of this class, with the arguments of the pipeline beside them

        :returns: the comparison

        :raises ConfigurationError: if a key or a value cannot be
        """
        own = [each.name for each in fields(cls) if each.name != "pipeline"]
        for key in mapping:
            if key not in own and key not in PIPELINE_KEYS:
                raise did_you_mean("configuration: key", str(key), [*own, *PIPELINE_KEYS])
        values = {key: mapping[key] for key in own if mapping.get(key) is not None}
        samplers = expect("samplers", values.pop("samplers", {}), (Mapping, list))
        pairs = samplers.items() if isinstance(samplers, Mapping) else ((name, None) for name in samplers)
        datasets = values.pop("datasets", [])
        pipeline = {key: mapping[key] for key in PIPELINE_KEYS if mapping.get(key) is not None}
        for key in [key for key in pipeline if key.endswith("_kwargs")]:
            expect(key, pipeline[key], Mapping)
        return cls(
            datasets=tuple([datasets] if isinstance(datasets, str) else expect("datasets", datasets, (list, tuple))),
            samplers=tuple(SamplerChoice.from_mapping(str(label), value) for label, value in pairs),
            pipeline=pipeline,
            **values,
        )

    def to_mapping(self) -> dict[str, Any]:
        """Write the comparison as a configuration file has it."""
        own = {key: value for key, value in vars(self).items() if key != "pipeline"}
        own["datasets"] = list(self.datasets)
        own["samplers"] = {sampler.label: sampler.to_mapping() for sampler in self.samplers}
        own["eval_every"] = self.frequency
        return {**own, **{key: _plain(value) for key, value in self.pipeline.items()}}


def dataset_label(dataset: str) -> str:
    """How a data set is called in tables: its name, or that of its folder."""
    return pathlib.PurePath(dataset).name or dataset


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """Read a configuration file, JSON or YAML.

    :param path: the file

    :returns: its mapping

    :raises ConfigurationError: if there is no such file or if it is malformed
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"config {str(path)!r} cannot be read: {reason}") from error
    return dict(expect(f"config {str(path)!r}", content or {}, Mapping))


def expect(name: str, value: Any, kind: Any) -> Any:
    """Refuse a value of another type."""
    if not isinstance(value, kind):
        raise ConfigurationError(f"{name} has a value of the wrong type: {value!r} ({type(value).__name__}).")
    return value


def refuse_twice(what: str, names: Sequence[str], hint: str) -> None:
    """Refuse a name which is given more than once."""
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"{what} {name!r} is given twice; {hint}")


def _plain(value: Any) -> Any:
    """Copy nested mappings and sequences to what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value

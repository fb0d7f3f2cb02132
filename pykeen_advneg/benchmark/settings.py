"""What ``advneg bench`` is asked to measure, and what is wrong with it; loads neither torch nor PyKEEN."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..comparison.configuration import dataset_label, did_you_mean
from ..errors import ConfigurationError

__all__ = ["DEFAULTS", "KINDS", "QUICK", "SWEEPS", "Settings", "available_cores", "numbers", "sweeps"]

#: what can be measured, in the order of ``all``
KINDS: Mapping[str, str] = {
    "training": "Positives and scores a second, for each model and number of negatives.",
    "kbgan": "Positives a second with KBGAN's 20 candidates and with 20 uniform negatives, TransE by margin loss.",
    "emu": "Positives a second with EMU and with its bases, for each model and the largest number of negatives.",
    "mmrns": "The time of a step with MMRNS and with uniform negatives, by what it looks at.",
    "scaling": "The time of a step against entities, negatives, dimension, batch size and threads.",
    "roofline": "DistMult's step and its scorer as shares of what the machine does.",
    "evaluation": "Filtered evaluation of the validation triples.",
    "filter": "The filterer 'exact' beside PyKEEN's 'bloom', on the same negatives.",
    "memory": "The peak memory of training on a large graph, each time in a process of its own.",
    "ranks": "Positives a second of one and of two processes which share each batch and the threads.",
    "time-to-mrr": "Seconds of training until a validation MRR is reached.",
}

#: what is swept in ``scaling``
SWEEPS = ("entities", "negatives", "dim", "batch_size", "threads")

DEFAULTS: Mapping[str, Any] = {
    "dataset": "fb15k237",
    "models": ("distmult", "complex", "transe-l1", "transe-l2", "rotate"),
    "negatives": (32, 256),
    "dim": 200,
    "batch_size": 1024,
    "chunk_size": 128,
    "loss": "crossentropy",
    "regularizer": None,
    "repeats": 5,
    "seconds": 2.0,
    "seed": 0,
    "stock_optimizer": "adam",
    "stock_lr": None,
    "engine_optimizer": "sparseadagrad",
    "engine_lr": None,
    "kbgan_dims": (50, 200),
    "sweeps": {
        "entities": (14_541, 100_000, 1_000_000),
        "negatives": (8, 32, 128, 512),
        "dim": (50, 100, 200, 400),
        "batch_size": (256, 1024, 4096),
    },
    "eval_triples": 1024,
    "train_epochs": 2,
    "target_mrr": 0.2,
    "budget": 300.0,
    "copy_megabytes": 256,
}

#: what ``--quick`` sets instead: a look at the machinery on a data set which comes with PyKEEN
QUICK: Mapping[str, Any] = {
    "dataset": "kinships",
    "models": ("distmult", "transe-l1"),
    "negatives": (32,),
    "dim": 32,
    "batch_size": 256,
    "repeats": 3,
    "seconds": 0.1,
    "kbgan_dims": (50,),
    "sweeps": {
        "entities": (1_000, 100_000),
        "negatives": (8, 32),
        "dim": (16, 64),
        "batch_size": (64, 256),
    },
    "eval_triples": 100,
    "target_mrr": 0.2,
    "budget": 1.0,
    "copy_megabytes": 32,
}


@dataclass(frozen=True)
class Settings:
    """Everything that a benchmark depends on, except for the machine and the versions."""

    dataset: str
    #: names of PyKEEN's models; a suffix ``-l1`` or ``-l2`` sets the norm of a distance
    models: tuple[str, ...]
    #: numbers of negatives of each positive; the largest is that of the roofline and of EMU,
    #: the first that of all else but training
    negatives: tuple[int, ...]
    dim: int
    batch_size: int
    #: how many positives share their negatives in the engine
    chunk_size: int
    loss: str
    #: of both arms; ``None``: that which PyKEEN gives the model, ``no``: none
    regularizer: str | None
    threads: int
    repeats: int
    #: how long one repeat should take
    seconds: float
    seed: int
    stock_optimizer: str
    stock_lr: float | None
    engine_optimizer: str
    engine_lr: float | None
    kbgan_dims: tuple[int, ...]
    #: the values of each of :data:`SWEEPS`, the first of which is what the others are compared with
    sweeps: Mapping[str, tuple[int, ...]]
    #: how many validation triples the stock evaluator gets
    eval_triples: int
    #: for how many epochs the model of the evaluation is trained
    train_epochs: int
    target_mrr: float
    #: the longest training of an arm until the MRR is reached, in seconds
    budget: float
    #: the size of the copied array
    copy_megabytes: int

    @classmethod
    def from_options(cls, options: Mapping[str, Any], quick: bool = False) -> Settings:
        """Lay options over the preset, and check them.

        :param options: values by field; ``None`` says nothing
        :param quick: whether the preset is :data:`QUICK`

        :returns: the settings

        :raises ConfigurationError: if a value cannot work
        """
        preset = {**DEFAULTS, **(QUICK if quick else {}), "threads": available_cores()}
        given = {name: value for name, value in options.items() if value is not None}
        values = {**preset, **given}
        values["sweeps"] = {"threads": _powers_of_two(values["threads"]), **preset["sweeps"], **given.get("sweeps", {})}
        settings = cls(**values)
        settings._check()
        return settings

    def to_mapping(self) -> dict[str, Any]:
        """Write the settings as JSON has them."""
        # of a folder only its name: what is published says nothing of the machine's disks
        return {**asdict(self), "dataset": self.dataset_name}

    @property
    def dataset_name(self) -> str:
        """The name of the data set, or of its folder."""
        return dataset_label(self.dataset)

    def _check(self) -> None:
        whole = {"dim": 1, "batch_size": 2, "chunk_size": 1, "threads": 1, "repeats": 1, "eval_triples": 1}
        for name, low in (whole | {"train_epochs": 1, "copy_megabytes": 1, "seed": 0}).items():
            _at_least(_option(name), getattr(self, name), low)
        for name in ("negatives", "kbgan_dims"):
            _each_at_least(_option(name), getattr(self, name), 1)
        for name in ("seconds", "budget", "stock_lr", "engine_lr"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigurationError(f"{_option(name)} {value!r} must be a positive number.")
        if not 0 < self.target_mrr < 1:
            raise ConfigurationError(f"--target-mrr {self.target_mrr!r} must be between 0 and 1, e.g. 0.2.")
        if not self.models:
            raise ConfigurationError("--models is empty; name at least one, e.g. distmult.")
        for name, values in self.sweeps.items():
            low = 2 if name in {"entities", "batch_size"} else 1
            _each_at_least(f"--sweep {name}", values, low)
        cores = available_cores()
        threads = max(self.threads, *self.sweeps["threads"])
        if threads > cores:
            raise ConfigurationError(
                f"--threads {threads}: this process may use {cores} cores; choose at most {cores}."
            )


def available_cores() -> int:
    """Count the cores which this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Read whole numbers which are separated by commas.

    :param option: the name of the option, for the error
    :param text: for instance ``32,256`` or ``1_000``

    :returns: the numbers; ``None`` if nothing was given

    :raises ConfigurationError: if a part is no whole number
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not re.fullmatch(r"\d+(_\d+)*", part):
            raise ConfigurationError(f"{option} {text!r}: {part!r} is no whole number; write e.g. {option} 32,256.")
    return tuple(int(part) for part in parts)


def sweeps(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """Read the options ``--sweep NAME=V1,V2``.

    :param texts: what was given

    :returns: the values by name

    :raises ConfigurationError: if a name is not known or a value no whole number
    """
    result: dict[str, tuple[int, ...]] = {}
    for text in texts or []:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise ConfigurationError(f"--sweep {text!r} is malformed; write e.g. --sweep dim=50,100.")
        if name not in SWEEPS:
            raise did_you_mean("--sweep", name, SWEEPS)
        result[name] = numbers(f"--sweep {name}", values) or ()
    return result


def _powers_of_two(largest: int) -> tuple[int, ...]:
    return tuple(sorted({*(2**i for i in range(max(1, largest).bit_length())), largest}))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _at_least(option: str, value: int, low: int) -> None:
    if value < low:
        raise ConfigurationError(f"{option} {value} is too small; choose at least {low}.")


def _each_at_least(option: str, values: Sequence[int], low: int) -> None:
    if not values:
        raise ConfigurationError(f"{option} is empty; give at least one number.")
    for value in values:
        _at_least(option, value, low)
    if len(set(values)) < len(values):
        raise ConfigurationError(f"{option} has a number twice: {','.join(map(str, values))}; give each once.")

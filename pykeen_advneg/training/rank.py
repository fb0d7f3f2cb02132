"""One of the ranks which torchrun starts: ``torchrun -m pykeen_advneg.training.rank EXPERIMENT OUT``."""

from __future__ import annotations

import datetime
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import torch
import yaml
from pykeen.datasets import Dataset, get_dataset
from pykeen.evaluation import RankBasedEvaluator, RankBasedMetricResults
from pykeen.pipeline import pipeline
from pykeen.sampling import negative_sampler_resolver
from pykeen.utils import load_configuration
from torch import distributed

from ..errors import ConfigurationError
from ..sampling.base import Learns
from ..sampling.making import check_sampler

__all__ = ["check_experiment", "main"]

#: the loops which train as the loop ``distributed`` does, on one rank
LOOPS = ("adversarial", "distributed", "slcwa")
#: torchrun ends all ranks when one has died; until then, they wait for each other, as long as an evaluation takes
PATIENCE = datetime.timedelta(days=1)
_DATA = ("dataset", "dataset_kwargs", "training", "testing", "validation")


class _Idle(RankBasedEvaluator):
    """Evaluates nothing: rank 0 does."""

    # docstr-coverage: inherited
    def evaluate(self, *_args: Any, **_kwargs: Any) -> RankBasedMetricResults:
        return RankBasedMetricResults({})


def read_experiment(path: str | pathlib.Path) -> dict[str, Any]:
    """Read the arguments of the pipeline from an experiment file of PyKEEN.

    :param path: the file, JSON or YAML

    :returns: the arguments

    :raises ConfigurationError: if it is malformed
    """
    try:
        content = load_configuration(path)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"config {str(path)!r} cannot be read: {error}") from error
    arguments = content.get("pipeline") if isinstance(content, Mapping) else None
    if not isinstance(arguments, Mapping):
        raise ConfigurationError(f"config {str(path)!r} has no 'pipeline' with the arguments of PyKEEN's pipeline.")
    return dict(arguments)


def check_experiment(path: str | pathlib.Path, ranks: int) -> None:
    """Find out before any rank is started what each of them would refuse.

    :param path: the experiment file
    :param ranks: how many ranks there are to be on this machine

    :raises ConfigurationError: if it cannot work
    """
    arguments = read_experiment(path)
    loop = str(arguments.get("training_loop", "slcwa")).lower()
    if loop not in LOOPS:
        raise ConfigurationError(
            f"training_loop={loop!r} cannot be trained on several ranks; choose one of {', '.join(LOOPS)}."
        )
    if ranks < 1:
        raise ConfigurationError(f"--nproc {ranks} must be at least 1.")
    if _on_gpu(arguments) and ranks > torch.cuda.device_count():
        raise ConfigurationError(
            f"--nproc {ranks} is more than the {torch.cuda.device_count()} GPUs of this machine; choose fewer, or "
            f'"device": "cpu" in the file.'
        )
    query, kwargs = arguments.get("negative_sampler"), arguments.get("negative_sampler_kwargs")
    check_sampler("negative_sampler", query, kwargs)
    cls = negative_sampler_resolver.lookup(query)
    if ranks > 1 and issubclass(cls, Learns) and cls.reduction_with(kwargs or {}) is None:
        raise ConfigurationError(
            f"negative_sampler={query!r} does not say how its gradients add up over ranks (Learns.reduction); train it "
            f"on one rank."
        )


def main(config: str, out: str) -> None:
    """Train what an experiment file of PyKEEN says, as one of the ranks which torchrun has started.

    Rank 0 loads the data before the others, which then find them in PyKEEN's cache, evaluates, tracks and writes.

    :param config: the file
    :param out: the folder, which rank 0 writes
    """
    check_experiment(config, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    arguments = read_experiment(config)
    on_gpu = _on_gpu(arguments)
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # numbers which are on the CPU anyway are exchanged there
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        arguments |= {"training_loop": "distributed", "device": "cuda" if on_gpu else "cpu"}
        is_first = distributed.get_rank() == 0
        data = _load(arguments) if is_first else None
        distributed.barrier()
        if data is None:
            data = _load(arguments)
            arguments = _without_output(arguments)
        result = pipeline(**{name: value for name, value in arguments.items() if name not in _DATA}, dataset=data)
        if is_first:
            result.save_to_directory(out)
        # a rank which leaves while others still talk to it can bring them down
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def _load(arguments: Mapping[str, Any]) -> Dataset:
    return get_dataset(**{name: arguments[name] for name in _DATA if name in arguments})


def _without_output(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what only rank 0 does: to evaluate, to track, to show progress."""
    kept = {name: value for name, value in arguments.items() if not name.startswith(("result_tracker", "evaluator"))}
    training = {**(kept.get("training_kwargs") or {}), "use_tqdm": False}
    return {**kept, "evaluator": _Idle(), "training_kwargs": training}


def _on_gpu(arguments: Mapping[str, Any]) -> bool:
    """Whether ranks train on GPUs, each on its own: where there are some, unless the file says otherwise."""
    device = str(arguments.get("device") or "gpu")
    return torch.cuda.is_available() and device.startswith(("gpu", "cuda"))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ConfigurationError as error:
        # once, and not by each rank
        sys.exit(str(error) if os.environ.get("RANK", "0") == "0" else 2)

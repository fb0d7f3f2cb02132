"""The peak memory of training, each time in a process of its own, which this module is as a script."""

from __future__ import annotations

import json
import pathlib
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from .arms import Arm, Work, engine, stock
from .graphs import random_graph
from .probes import Probe, Sample
from .settings import Settings
from .steps import SKIPPED, run_epoch

__all__ = ["MemoryProbe", "memory_jobs", "resident_bytes", "table_bytes"]


def resident_bytes(peak: bool = True) -> int:
    """Get the resident memory of this process, in bytes.

    :param peak: whether to get the largest so far instead of that of now; without ``/proc`` it is always the largest

    :returns: the bytes
    """
    # where there is /proc, it tells of this program alone: `getrusage` of a process which was started by another goes
    # on from the peak of that one, whose memory it shared until it ran its own program
    status = pathlib.Path("/proc/self/status")
    match = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s*(\d+) kB", status.read_text()) if status.is_file() else None
    if match:
        return int(match[1]) * 1024
    # in kB, but on macOS in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def table_bytes(parameters: Sequence[torch.Tensor]) -> int:
    """Count the bytes of a model's parameters.

    :param parameters: the parameters

    :returns: the bytes
    """
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


class MemoryProbe(Probe):
    """Trains for a few steps in a new process, and compares its growth with the size of the parameters."""

    #: the peak after training less what there was before the model was made, over the bytes of the parameters
    unit = "x parameters"

    def __init__(self, case: dict[str, Any], arm: Arm, work: Work, entities: int, seed: int) -> None:
        """Initialize the probe.

        :param case: the case of the record
        :param arm: how to train
        :param work: what to train
        :param entities: the number of entities of the random graph
        :param seed: the seed
        """
        self.kind, self.case, self.arm, self.setup = "memory", case, arm.name, arm.setup
        self.task = {"arm": asdict(arm), "work": asdict(work), "entities": entities, "seed": seed}

    def measure(self, repeat: int) -> Sample:
        """Start the process, and read what it says."""
        command = [sys.executable, "-m", __name__]
        done = subprocess.run(command, input=json.dumps(self.task), capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
            raise RuntimeError(f"the process which trains failed: {last}")
        peaks = json.loads(done.stdout.splitlines()[-1])
        growth = {name: (peaks[name] - peaks["before"]) / 1e6 for name in ("made", "trained")}
        details = {"MB of parameters": peaks["parameters"] / 1e6, "MB when made": growth["made"]}
        details["MB at the peak"] = growth["trained"]
        return Sample(growth["trained"] * 1e6 / peaks["parameters"], details)


def memory_jobs(settings: Settings) -> Iterator[Sequence[Probe]]:
    """Compare peaks on the largest graph of the sweep of entities.

    :param settings: the settings

    :returns: the jobs
    """
    work, entities = Work.of(settings), max(settings.sweeps["entities"])
    case = {"dataset": "random", "entities": entities, **work.case}
    arms = (stock(settings, work.negatives), engine(settings, work.negatives))
    yield [MemoryProbe(case, arm, work, entities, settings.seed) for arm in arms]


def train(task: Mapping[str, Any]) -> dict[str, int]:
    """Train a few steps, and take the peaks.

    :param task: the fields of arm and work, and the number of entities

    :returns: bytes ``before`` the model, at the peak when it was ``made`` and ``trained``, and those of ``parameters``
    """
    work, arm, seed = Work(**task["work"]), Arm(**task["arm"]), task["seed"]
    torch.set_num_threads(work.threads)
    # the first training of a process imports what optimizers need
    small = random_graph(100, seed).factory(8)
    run_epoch(replace(work, dim=4).make_loop(arm, small, seed), small, batch_size=8)
    factory = random_graph(task["entities"], seed).factory((SKIPPED + 1) * work.batch_size, seed)
    before = resident_bytes(peak=False)
    loop = work.make_loop(arm, factory, seed)
    made = resident_bytes()
    run_epoch(loop, factory, work.batch_size)
    parameters = table_bytes(list(loop.model.parameters()))
    return {"before": before, "made": made, "trained": resident_bytes(), "parameters": parameters}


if __name__ == "__main__":
    print(json.dumps(train(json.load(sys.stdin))))

"""Throughput of data-parallel training by one and by two ranks, which torchrun starts with this module as a script."""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import distributed

from .arms import Arm, Work, engine
from .graphs import NUM_TRIPLES, random_graph
from .probes import Probe, Sample
from .settings import Settings
from .steps import SKIPPED, StepClock, run_epoch, steps_within

__all__ = ["RanksProbe", "rank_jobs", "train"]

#: how many ranks share each batch
RANKS = (1, 2)


class RanksProbe(Probe):
    """Trains for some steps in new processes, which share the threads and the positives of each batch."""

    unit = "positives/s"

    def __init__(self, case: Mapping[str, Any], arm: Arm, work: Work, ranks: int, settings: Settings) -> None:
        """Initialize the probe.

        :param case: the case of the record
        :param arm: how to train
        :param work: what to train; its batch is that of all ranks, and so are its threads
        :param ranks: the number of ranks
        :param settings: the settings
        """
        self.kind, self.case, self.arm = "ranks", case, f"{ranks} rank{'s' * (ranks > 1)}"
        self.threads = max(1, work.threads // ranks)
        self.setup = {**arm.setup, "ranks": ranks, "threads_per_rank": self.threads}
        self.task = {"arm": asdict(arm), "work": asdict(replace(work, threads=self.threads))}
        self.task["entities"] = case["entities"]
        self.ranks, self.batch_size, self.settings = ranks, work.batch_size, settings
        self.num_steps = SKIPPED + 1

    def prepare(self) -> None:
        """Train for a few steps in this process, as a rank alone, to learn how many a repeat may have."""
        step = statistics.median(train(self._task(self.settings.seed)))
        torch.set_num_threads(self.settings.threads)
        self.num_steps = steps_within(self.settings.seconds, step, NUM_TRIPLES // self.batch_size)

    def measure(self, repeat: int) -> Sample:
        """Train, and take the median of the times of rank 0's steps, each of which waits for the other ranks."""
        step = statistics.median(self.steps(self.settings.seed + repeat))
        return Sample(self.batch_size / step, {"ms a step": 1e3 * step, "steps": self.num_steps - SKIPPED})

    def _task(self, seed: int) -> dict[str, Any]:
        return {**self.task, "num_steps": self.num_steps, "seed": seed}

    def steps(self, seed: int) -> list[float]:
        """Start the ranks.

        :param seed: the seed of graph, model and negatives

        :returns: the seconds of the steps which count
        """
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={self.ranks}"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        with tempfile.TemporaryDirectory() as folder:
            task, result = (pathlib.Path(folder) / name for name in ("task.json", "steps.json"))
            task.write_text(json.dumps(self._task(seed)), encoding="utf-8")
            command += ["-m", __name__, str(task), str(result)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if done.returncode or not result.is_file():
                lines = [
                    line for line in done.stderr.splitlines() if "Error: " in line and "torch.distributed" not in line
                ]
                raise RuntimeError(f"a rank failed: {(lines or [f'code {done.returncode}'])[0].strip()}")
            steps: list[float] = json.loads(result.read_text(encoding="utf-8"))
        return steps


def rank_jobs(settings: Settings, num_entities: int) -> Iterator[Sequence[Probe]]:
    """Compare one rank with two, which have half of the threads and half of each batch each.

    :param settings: the settings
    :param num_entities: the number of entities of the random graph

    :returns: the jobs
    """
    negatives = max(settings.negatives)
    arm = replace(engine(settings, negatives), training_loop="distributed")
    for model in settings.models:
        work = Work.of(settings, model=model, negatives=negatives)
        case = {"dataset": "random", "entities": num_entities, **work.case}
        yield [RanksProbe(case, arm, work, ranks, settings) for ranks in RANKS]


def train(task: Mapping[str, Any]) -> list[float]:
    """Train some steps as one of the ranks.

    :param task: the fields of arm and work, the numbers of entities and steps, and the seed

    :returns: the seconds of the steps which count
    """
    work, arm, seed = Work(**task["work"]), Arm(**task["arm"]), task["seed"]
    torch.set_num_threads(work.threads)
    factory = random_graph(task["entities"], seed).factory(task["num_steps"] * work.batch_size, seed)
    loop = work.make_loop(arm, factory, seed)
    clock = StepClock()
    torch.manual_seed(seed)
    run_epoch(loop, factory, work.batch_size, clock)
    return clock.steps


def main(task: str, out: str) -> None:
    """Train as one of the ranks which torchrun has started; rank 0 writes its times.

    :param task: the file which says what to train
    :param out: the file of the times
    """
    distributed.init_process_group("gloo")
    try:
        steps = train(json.loads(pathlib.Path(task).read_text(encoding="utf-8")))
        if distributed.get_rank() == 0:
            pathlib.Path(out).write_text(json.dumps(steps), encoding="utf-8")
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])

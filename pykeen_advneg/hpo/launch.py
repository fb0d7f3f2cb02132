"""Start worker processes on this machine, watch all workers wherever they are, and start those again which died."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from optuna.trial import TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ..errors import ConfigurationError
from .queueing import Job, progress_of, show

__all__ = ["Workers", "watch"]

#: the environment variable which the option --storage is read from
STORAGE_VARIABLE = "ADVNEG_STORAGE"
#: how many times a worker which died is started again
RESTARTS = 5
#: what a worker ends with when the configuration cannot work
CANNOT_WORK = 2


@dataclass
class Workers:
    """The worker processes of this machine."""

    name: str
    storage: str
    checkpoints: pathlib.Path
    number: int
    heartbeat: int
    grace: int
    log: pathlib.Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    restarts: int = 0

    def start(self) -> None:
        """Start all workers."""
        self.processes = [self._start() for _ in range(self.number)]

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pykeen_advneg", "hpo-worker", self.name]
        command += ["--checkpoints", str(self.checkpoints), "--quiet"]
        command += ["--heartbeat", str(self.heartbeat), "--grace", str(self.grace)]
        # several processes with a thread for each core would stand in each other's way
        threads = str(max(1, (os.cpu_count() or 1) // self.number))
        with self.log.open("ab") as log:
            # everybody on the machine can read a command, and with it the password of a database
            own = {"OMP_NUM_THREADS": threads, **os.environ, STORAGE_VARIABLE: self.storage}
            return subprocess.Popen(command, stdout=log, stderr=log, env=own)

    def revive(self, is_done: bool) -> None:
        """Start workers again which died.

        :param is_done: whether there is nothing left to do

        :raises ConfigurationError: if a worker says that nothing can work, or if workers keep dying
        """
        for i, process in enumerate(self.processes):
            code = process.poll()
            if code is None or code == 0 or is_done:
                continue
            if code == CANNOT_WORK or self.restarts >= RESTARTS:
                lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
                tail = "\n".join(line for line in lines if line.strip())[-1500:]
                raise ConfigurationError(f"worker {i} ended with code {code}; the end of {self.log}: {tail}")
            self.restarts += 1
            self.processes[i] = self._start()

    def stop(self) -> None:
        """Ask the workers to end, so that others go on with their trials at once."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def watch(jobs: Sequence[Job], workers: Workers | None, console: Console | None, poll: float = 1.0) -> None:
    """Show the trials of all workers until all are done.

    :param jobs: the studies
    :param workers: those of this machine, which are kept alive
    :param console: where to show them; nothing is shown if None
    :param poll: seconds between two looks
    """
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console, disable=console is None) as bars:
        tasks = {job.label: bars.add_task(job.label, total=None, note="") for job in jobs}
        while True:
            done = [_show(job, bars, tasks[job.label]) for job in jobs]
            if workers is not None:
                workers.revive(all(done))
            if all(done):
                return
            time.sleep(poll)


def _show(job: Job, bars: Progress, task: TaskID) -> bool:
    state = progress_of(job.study)
    ended = state["complete"] + state["pruned"] + state["failed"]
    values = [t.value for t in state["trials"] if t.state == TrialState.COMPLETE and t.value is not None]
    better = max if job.objective.larger_is_better else min
    parts = [f"best {better(values):.4f}"] if values else []
    parts += [f"{state['pruned']} pruned"] if state["pruned"] else []
    parts += [f"[red]{state['failed']} failed[/]"] if state["failed"] else []
    parts += [show(trial) for trial in state["trials"] if trial.state == TrialState.RUNNING]
    bars.update(task, completed=ended, total=len(state["trials"]), note=", ".join(parts))
    return bool(state["done"])

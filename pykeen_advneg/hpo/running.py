"""What the commands ``advneg hpo`` and ``advneg hpo-worker`` do."""

from __future__ import annotations

import logging
import pathlib
import re
import signal
import warnings
from typing import Any

import optuna
import typer
from optuna.exceptions import ExperimentalWarning
from rich.console import Console

from ..comparison.runs import RunStore
from ..errors import ConfigurationError
from .jobs import join, load_data, prepare
from .launch import Workers, watch
from .queueing import work
from .rehearsal import dry_run
from .report import write_report
from .result import write_json
from .settings import Tuning
from .storage import Requeue, masked, open_storage
from .watching import ENDING
from .winners import plan_winners, retrain

__all__ = ["run", "run_worker"]


def run(
    tuning: Tuning,
    out: pathlib.Path,
    *,
    name: str,
    storage: str | None,
    workers: int,
    heartbeat: int,
    grace: int,
    quiet: bool,
    command: str | None,
) -> None:
    """Tune each sampler, train the winners again, and report.

    :param tuning: the settings
    :param out: the folder of the results
    :param name: the name of the studies
    :param storage: where they are kept; None: an SQLite file in the folder
    :param workers: how many processes to start here; 0: others do the work
    :param heartbeat: seconds between the signs of life of a trial
    :param grace: seconds without one after which another process gets it
    :param quiet: whether to print errors only
    :param command: what was typed, for the report

    :raises ConfigurationError: before any trial, if something cannot work
    :raises Exit: if the user interrupts, or if winners fail
    """
    _check_name(name)
    _hush()
    console = Console(quiet=quiet)
    store = RunStore(out)
    config = {**tuning.to_mapping(), "datasets": [tuning.dataset], "name": name}
    with store.claimed({**config, "trials": 0}), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        data = load_data(tuning)
        write_json(tuning.to_mapping(), out / "tuning.json")
        url = storage or f"sqlite:///{out / 'study.db'}"
        checkpoints = out / "checkpoints"
        jobs = prepare(
            tuning,
            name,
            open_storage(url, heartbeat, grace),
            checkpoints,
            data,
            check=dry_run,
        )
        console.print(
            f"Studies {name}.*: {', '.join(tuning.samplers)}, {tuning.trials} trials each, in {masked(url)}",
            soft_wrap=True,
            highlight=False,
        )
        processes = Workers(name, url, checkpoints.resolve(), workers, heartbeat, grace, out / "workers.log")
        try:
            processes.start()
            watch(jobs, processes if workers else None, None if quiet else console)
            runs = plan_winners(jobs, tuning, data)
            failures = retrain(runs, data, store, None if quiet else console)
        except KeyboardInterrupt:
            console.print(f"Interrupted; the same command goes on where it was ({out}).", highlight=False)
            raise typer.Exit(130) from None
        finally:
            processes.stop()
        finished = store.finished()
        records = [finished[each.hash] for _, each in runs if each.hash in finished]
        typed = command if command is None else command.replace(url, masked(url))
        write_report(jobs, tuning, records, out, typed)
        console.print(f"Report: {out / 'report.html'}", highlight=False, soft_wrap=True)
    for failure in failures:
        Console(stderr=True, style="red").print(f"failed: {failure}", markup=False)
    if failures:
        raise typer.Exit(1)


def run_worker(
    name: str,
    *,
    storage: str,
    tuning: Tuning | None,
    checkpoints: pathlib.Path | None,
    heartbeat: int,
    grace: int,
    quiet: bool,
) -> None:
    """Join the studies of a name, or make them, and run trials until none is left.

    :param name: the name of the studies
    :param storage: where they are kept
    :param tuning: the settings to make them with; None: they have to exist
    :param checkpoints: where trials under way keep their checkpoints
    :param heartbeat: seconds between the signs of life of a trial
    :param grace: seconds without one after which another process gets it
    :param quiet: whether to print errors only

    :raises ConfigurationError: if something cannot work
    :raises Exit: if the process is asked to end
    """
    _check_name(name)
    _hush()

    def end(*_: Any) -> None:
        if ENDING.is_set():
            # somebody is in a hurry
            raise KeyboardInterrupt
        ENDING.set()

    # so that the trial is in the queue again at once, and not after the grace period
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        opened = open_storage(storage, heartbeat, grace)
        if tuning is None:
            tuning, jobs = join(name, opened, checkpoints)
        else:
            jobs = prepare(tuning, name, opened, checkpoints, load_data(tuning), top_up=False, check=dry_run)
        try:
            count = work(jobs, Requeue(), grace=grace)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
    Console(quiet=quiet).print(f"Ran {count} trials; none is left.", highlight=False)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[\w.+-]+", name):
        raise ConfigurationError(f"name {name!r} is part of file names; use letters, digits, -, +, . and _.")


def _hush() -> None:
    """Silence what would run through the progress bars."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("pykeen").setLevel(logging.ERROR)

"""Run a benchmark: check everything, measure, and write lines, tables and a picture."""

from __future__ import annotations

import datetime
import logging
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import typer
from pykeen.datasets import Dataset
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..comparison.tracking import append_line
from ..datasets import load_dataset
from ..errors import ConfigurationError
from ..plotting import save_png
from .arms import CANDIDATES, check_work
from .evaluating import evaluation_jobs, filter_jobs
from .graphs import Graph
from .machine import facts, peaks
from .memory import memory_jobs
from .probes import Probe, interleave
from .ranks import rank_jobs
from .reaching import reach_jobs
from .records import FILE, Measurement, measurements
from .report import markdown, sections, table
from .roofline import roofline_jobs
from .settings import Settings
from .steps import SKIPPED, emu_jobs, kbgan_jobs, mmrns_jobs, scaling_jobs, training_jobs

__all__ = ["jobs", "run", "write_report"]


def run(kinds: Sequence[str], settings: Settings, out: pathlib.Path, quiet: bool) -> None:
    """Measure, and report what is in the folder.

    :param kinds: what to measure
    :param settings: the settings
    :param out: the folder; lines are appended to what is there
    :param quiet: whether to print errors only

    :raises ConfigurationError: before anything is measured, if something cannot work
    :raises Exit: if the user interrupts, or if a job failed
    """
    console = Console(quiet=quiet)
    # what PyKEEN logs would run through the progress bar
    for name in ("pykeen", "torch_max_mem"):
        logging.getLogger(name).setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_work(settings)
        dataset = load_dataset(settings.dataset)
        graph = Graph.of(settings.dataset_name, dataset.training)
        check_sizes(kinds, settings, dataset)
        _check_folder(out)
        torch.set_num_threads(settings.threads)
        try:
            failures = _measure(kinds, settings, dataset, graph, out / FILE, console)
        except KeyboardInterrupt:
            console.print(f"Interrupted; what was measured is in {out / FILE}.", highlight=False)
            raise typer.Exit(130) from None
        finally:
            torch.set_num_threads(threads)
    errors = Console(stderr=True, soft_wrap=True, highlight=False, style="red")
    for failure in failures:
        errors.print(f"failed: {failure}", markup=False)
    write_report(out)
    for section in sections(measurements(out)):
        console.print(table(section))
    console.print(f"Lines: {out / FILE}; tables: bench.md; picture: bench.png", highlight=False, soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def write_report(folder: pathlib.Path) -> None:
    """Write ``bench.md`` and ``bench.png`` from the measurements of a folder.

    :param folder: the folder

    :raises ConfigurationError: if there are none
    """
    from .picture import draw

    found = measurements(folder)
    (folder / "bench.md").write_text(markdown(found), encoding="utf-8")
    figure = draw(found)
    if figure is not None:
        save_png(figure, folder / "bench.png")


def jobs(kind: str, settings: Settings, dataset: Dataset, graph: Graph) -> Iterator[Sequence[Probe]]:
    """Make the jobs of a kind.

    :param kind: one of :data:`pykeen_advneg.benchmark.settings.KINDS`, or ``"machine"``
    :param settings: the settings
    :param dataset: the data set
    :param graph: its training triples

    :returns: the jobs, the probes of each of which are asked in turns
    """
    makers: Mapping[str, Callable[[], Iterator[Sequence[Probe]]]] = {
        "machine": lambda: iter([peaks("machine", {"threads": settings.threads}, settings)]),
        "training": lambda: training_jobs(settings, graph),
        "kbgan": lambda: kbgan_jobs(settings, graph),
        "emu": lambda: emu_jobs(settings, graph),
        "mmrns": lambda: mmrns_jobs(settings, graph),
        "scaling": lambda: scaling_jobs(settings, graph),
        "roofline": lambda: roofline_jobs(settings, graph),
        "evaluation": lambda: evaluation_jobs(settings, dataset, graph),
        "filter": lambda: filter_jobs(settings, graph),
        "memory": lambda: memory_jobs(settings),
        "ranks": lambda: rank_jobs(settings, graph.num_entities),
        "time-to-mrr": lambda: reach_jobs(settings, dataset, graph),
    }
    return makers[kind]()


def _measure(
    kinds: Sequence[str], settings: Settings, dataset: Dataset, graph: Graph, path: pathlib.Path, console: Console
) -> list[str]:
    """Do one job after the other, and write what came out; a job which fails does not end the others."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    context: dict[str, Any] = {"run": now, "machine": facts(), "settings": settings.to_mapping()}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    failures = []
    with Progress(*columns, console=console, disable=console.quiet) as progress:
        for kind in ("machine", *kinds):
            all_jobs = list(jobs(kind, settings, dataset, graph))
            task = progress.add_task(kind, total=settings.repeats * sum(map(len, all_jobs)))
            for probes in all_jobs:
                try:
                    samples = interleave(probes, settings.repeats, lambda task=task: progress.advance(task))  # type: ignore[misc]
                except Exception as error:
                    reason = " ".join(f"{type(error).__name__}: {error}".split())
                    failures.append(f"{kind}, {dict(probes[0].case)}: {reason}")
                    continue
                for probe, own in zip(probes, samples, strict=True):
                    append_line(path, Measurement.of(probe, own, **context).to_mapping())
    return failures


def check_sizes(kinds: Sequence[str], settings: Settings, dataset: Dataset) -> None:
    """Check that the data set is large enough.

    :param kinds: what to measure
    :param settings: the settings
    :param dataset: the data set

    :raises ConfigurationError: if it is not
    """
    count = dataset.training.num_triples
    sizes = {"--batch-size": settings.batch_size}
    if "scaling" in kinds:
        sizes["--sweep batch_size"] = max(settings.sweeps["batch_size"])
    for option, size in sizes.items():
        if count // size <= SKIPPED:
            raise ConfigurationError(
                f"{option} {size}: dataset {settings.dataset!r} has {count} training triples, but {SKIPPED + 1} whole "
                f"batches are needed; choose at most {count // (SKIPPED + 1)}."
            )
    if "kbgan" in kinds and dataset.num_entities < CANDIDATES:
        raise ConfigurationError(
            f"dataset {settings.dataset!r} has {dataset.num_entities} entities, but KBGAN has {CANDIDATES} candidates; "
            f"choose another, or leave 'kbgan' out."
        )
    if {"evaluation", "time-to-mrr"} & set(kinds) and (
        dataset.validation is None or not dataset.validation.num_triples
    ):
        raise ConfigurationError(f"dataset {settings.dataset!r} has no validation triples; choose another.")


def _check_folder(out: pathlib.Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / FILE).open("ab").close()
    except OSError as error:
        raise ConfigurationError(f"out {str(out)!r} cannot be written: {error}.") from error

"""What the commands print: data sets, progress, results, and the list of what is registered."""

from __future__ import annotations

import logging
import math
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..datasets import facts, load_dataset
from .compare import compare as train
from .configuration import Comparison, dataset_label
from .listing import KINDS, registered
from .preflight import check_names, check_parts
from .report import Results, summarize, write_report
from .runs import RunStore

__all__ = ["run", "show_registered", "show_results", "write_report"]


def show_registered(console: Console) -> None:
    """List the classes that PyKEEN knows by name, a line for each.

    :param console: where to show them
    """
    entries = list(registered())
    for kind, (usage, _) in KINDS.items():
        console.print(f"\n[bold]{kind}[/]  [dim]{usage}[/]", highlight=False, soft_wrap=True)
        own = [entry for entry in entries if entry.kind == kind]
        width = max(len(entry.name) for entry in own)
        for entry in own:
            paper = f" ({entry.paper})" if entry.paper else ""
            needs = f"; needs {entry.needs}" if entry.needs else ""
            line = f"  {entry.name:<{width}}  {entry.summary}{paper}{needs} - {entry.package}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def run(comparison: Comparison, out: pathlib.Path, force: bool, quiet: bool, command: str | None) -> None:
    """Check everything, train what is missing, and report.

    :param comparison: the comparison
    :param out: the folder of its results
    :param force: whether to set aside results of another configuration
    :param quiet: whether to print errors only
    :param command: the command that was given, for the report

    :raises ConfigurationError: before any training, if something cannot work
    :raises Exit: if the user interrupts, or if runs fail
    """
    console = Console(quiet=quiet)
    # what PyKEEN logs would run through the progress bars
    logging.getLogger("pykeen").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        check_names(comparison)
        datasets, notes = {}, {}
        for name in comparison.datasets:
            dataset = load_dataset(name, comparison.vocabulary, comparison.create_inverse_triples)
            label = dataset_label(name)
            datasets[label], data = dataset, facts(name, dataset, comparison.vocabulary)
            notes[label] = {"data": data, "command": command}
            console.print(_describe(label, data, comparison.vocabulary), highlight=False)
            check_parts(comparison, dataset)
        store = RunStore(out)
        with store.claimed(comparison.to_mapping(), force):
            try:
                failures = train(comparison, datasets, store, None if quiet else console, notes)
            except KeyboardInterrupt:
                console.print(f"Interrupted; the same command goes on where it was ({out}).", highlight=False)
                raise typer.Exit(130) from None
            if store.finished():
                show_results(write_report(out), out, console)
    errors = Console(stderr=True, soft_wrap=True, highlight=False, style="red")
    for failure in failures if quiet else []:
        errors.print(f"failed: {failure}", markup=False)
    if failures and not quiet:
        errors.print(f"{len(failures)} runs failed; the same command tries them again.")
    if failures:
        raise typer.Exit(1)


def _describe(label: str, data: Mapping[str, Any], vocabulary: str) -> str:
    """Say what a data set has, and what PyKEEN leaves out of it."""
    text = (
        f"[bold]{label}[/]: {data['entities']:,} entities, {data['relations']:,} relations; "
        f"{data['training']:,} training, {data['validation']:,} validation and {data['testing']:,} test triples"
    )
    if not data["unseen"]:
        return text
    if vocabulary == "training":
        dropped = f"[yellow]{data['unseen']} evaluation triples with unseen ids are dropped[/]"
        return f"{text}; {dropped}; --vocabulary all keeps them"
    return f"{text}; {data['unseen']} evaluation triples would be dropped with --vocabulary training"


def show_results(results: Results, folder: pathlib.Path, console: Console) -> None:
    """Show the tables, and say where the report lies.

    :param results: the results
    :param folder: the folder of the comparison
    :param console: where to show them
    """
    first = results.samplers[0]
    for dataset, runs in results.runs.groupby("dataset", sort=False):
        caption = f"difference: of the MRR from that of {first}; time: as a multiple of that of {first}"
        table = Table(title=str(dataset), caption=caption, box=SIMPLE_HEAD, title_style="bold", title_justify="left")
        for column in ("sampler", "seeds", "test MRR", "hits@10", "difference", "time"):
            table.add_column(column, justify="left" if column == "sampler" else "right", no_wrap=True)
        for row in summarize(runs, results.samplers).to_dict("records"):
            values = [_spread(row[f"{metric}_mean"], row[f"{metric}_std"]) for metric in ("mrr", "hits_at_10")]
            difference = f"{row['difference']:+.4f}" if row["sampler"] != first else ""
            table.add_row(str(row["sampler"]), str(row["seeds"]), *values, difference, f"{row['time']:.2f}")
        console.print(table)
    console.print(f"Report: {folder / 'report.html'} (also report.md and figures/)", highlight=False, soft_wrap=True)


def _spread(mean: float, deviation: float) -> str:
    """Write a mean with its standard deviation, which one seed does not have."""
    return f"{mean:.4f}" if math.isnan(deviation) else f"{mean:.4f} ± {deviation:.4f}"

"""The commands ``advneg bench ...``; what loads PyKEEN or torch is imported where it is used."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated

import typer

from .settings import DEFAULTS, KINDS, Settings, numbers, sweeps

__all__ = ["commands"]

_ALL = "Everything, one kind after the other."


def commands(clear_errors: Callable[[], AbstractContextManager[None]]) -> typer.Typer:
    """Make the commands, one for each kind of measurement, and ``report``.

    :param clear_errors: says what is wrong with the input, and leaves

    :returns: the group of commands
    """
    group = typer.Typer(
        no_args_is_help=True, help="Measure this package beside stock PyKEEN, in turns, and the limits of the machine."
    )
    for kind, text in {**KINDS, "all": _ALL}.items():
        group.command(kind, help=text)(_measuring(kind, clear_errors))

    @group.command()
    def report(file: Annotated[pathlib.Path, typer.Argument(help="bench.jsonl, or its folder.")]) -> None:
        """Print the tables of a benchmark as markdown."""
        with clear_errors():
            from .records import measurements
            from .report import markdown

            typer.echo(markdown(measurements(file)), nl=False)

    return group


def _measuring(kind: str, clear_errors: Callable[[], AbstractContextManager[None]]) -> Callable[..., None]:
    """Make the command of a kind; all have the same options, and each uses those which it needs."""

    def measure(
        context: typer.Context,
        *,
        out: Annotated[pathlib.Path, typer.Option(help="The folder for results; lines are added to those in it.")],
        quick: Annotated[
            bool, typer.Option("--quick", help="Small sizes on 'kinships': a few minutes for all.")
        ] = False,
        dataset: Annotated[
            str | None, typer.Option(help=_default("A data set of PyKEEN, or a folder.", "dataset"))
        ] = None,
        models: Annotated[str | None, typer.Option(help=_default("Models; -l1, -l2: norm.", "models"))] = None,
        negatives: Annotated[
            str | None, typer.Option(help=_default("Negatives for each positive.", "negatives"))
        ] = None,
        dim: Annotated[int | None, typer.Option(help=_default("The embedding dimension.", "dim"))] = None,
        batch_size: Annotated[int | None, typer.Option(help=_default("Positives in a batch.", "batch_size"))] = None,
        chunk_size: Annotated[
            int | None, typer.Option(help=_default("Positives per shared set.", "chunk_size"))
        ] = None,
        loss: Annotated[str | None, typer.Option(help=_default("The loss of both arms.", "loss"))] = None,
        regularizer: Annotated[
            str | None, typer.Option(help="That of both arms; no: none. (default: the model's)")
        ] = None,
        threads: Annotated[int | None, typer.Option(help="Threads. (default: all cores)")] = None,
        repeats: Annotated[int | None, typer.Option(help=_default("Repeats, in turns.", "repeats"))] = None,
        seconds: Annotated[float | None, typer.Option(help=_default("Time of a repeat.", "seconds"))] = None,
        seed: Annotated[int | None, typer.Option(help=_default("The random seed.", "seed"))] = None,
        stock_optimizer: Annotated[str | None, typer.Option(help=_default("PyKEEN's.", "stock_optimizer"))] = None,
        stock_lr: Annotated[float | None, typer.Option(help="Its learning rate. (default: its own)")] = None,
        engine_optimizer: Annotated[
            str | None, typer.Option(help=_default("This package's.", "engine_optimizer"))
        ] = None,
        engine_lr: Annotated[float | None, typer.Option(help="Its learning rate. (default: its own)")] = None,
        kbgan_dims: Annotated[str | None, typer.Option(help=_default("Dimensions in kbgan.", "kbgan_dims"))] = None,
        sweep: Annotated[
            list[str] | None,
            typer.Option(help="NAME=V1,V2: entities, negatives, dim, batch_size, threads; repeatable."),
        ] = None,
        eval_triples: Annotated[
            int | None, typer.Option(help=_default("For PyKEEN's evaluator.", "eval_triples"))
        ] = None,
        train_epochs: Annotated[int | None, typer.Option(help=_default("Before evaluation.", "train_epochs"))] = None,
        target_mrr: Annotated[float | None, typer.Option(help=_default("The MRR to reach.", "target_mrr"))] = None,
        budget: Annotated[float | None, typer.Option(help=_default("Seconds to reach it in.", "budget"))] = None,
        copy_megabytes: Annotated[int | None, typer.Option(help=_default("The large copy.", "copy_megabytes"))] = None,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    ) -> None:
        given = {name: value for name, value in context.params.items() if name in DEFAULTS or name == "threads"}
        with clear_errors():
            given |= {name: numbers(f"--{name.replace('_', '-')}", given[name]) for name in ("negatives", "kbgan_dims")}
            given["models"] = (
                None if models is None else tuple(name.strip() for name in models.split(",") if name.strip())
            )
            settings = Settings.from_options({**given, "sweeps": sweeps(sweep)}, quick)
            from .runner import run

            run(list(KINDS) if kind == "all" else [kind], settings, out, quiet)

    return measure


def _default(text: str, name: str) -> str:
    """Add the default of a setting to the text of its option."""
    value = DEFAULTS[name]
    return f"{text} (default: {','.join(map(str, value)) if isinstance(value, tuple) else value})"

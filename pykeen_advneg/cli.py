"""The command ``advneg``.

What loads PyKEEN or torch is imported where it is used: help, version and bad options answer at once.
"""

from __future__ import annotations

import pathlib
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Annotated, Any

import typer
from rich.console import Console

from . import __version__
from .benchmark.command import commands
from .comparison.configuration import Comparison, read_config
from .comparison.options import choose_samplers, override
from .errors import ConfigurationError, DivergenceError
from .hpo_command import add_commands

__all__ = ["app", "main"]

app = typer.Typer(
    name="advneg",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)

#: the comparison of ``advneg demo``
DEMO: Mapping[str, Any] = {
    "datasets": ["umls", "kinships"],
    # first the one whose sides KBGAN's default has, too: what differs is the generator
    "samplers": ["bernoulli", "basic", "kbgan"],
    "seeds": 2,
    "epochs": 50,
    "model": "transe",
    "model_kwargs": {"embedding_dim": 50},
    "optimizer": "adam",
    "optimizer_kwargs": {"lr": 0.01},
    "training_kwargs": {"batch_size": 512},
    "negative_sampler_kwargs": {"num_negs_per_pos": 1},
}


class VocabularyChoice(str, Enum):
    """Which splits the ids are built from."""

    training = "training"
    all = "all"


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Say what is wrong in one line, and leave with exit code 2 if it is the input, with 1 if a network diverged."""
    try:
        yield
    except (ConfigurationError, DivergenceError) as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(2 if isinstance(error, ConfigurationError) else 1) from error


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"pykeen-advneg {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Trained negative samplers for PyKEEN: list, compare, tune them, and measure their cost."""


@app.command("list")
def list_registered() -> None:
    """List the negative samplers, training loops, filterers, evaluators and optimizers that PyKEEN knows by name.

    Those of this package and of other plugins come first.
    """
    from .comparison.terminal import show_registered

    show_registered(Console())


@app.command()
def compare(
    *,
    out: Annotated[pathlib.Path, typer.Option(help="The folder for results; the same folder again goes on.")],
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="A data set of PyKEEN, or a folder with train, valid and test files; may be repeated."),
    ] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            help="[LABEL=]NAME; stock:NAME trains by PyKEEN's own loop. May be repeated; the first is the base."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="A model of PyKEEN, e.g. transe.")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds, from 0 on. (default: 3)")] = None,
    epochs: Annotated[int | None, typer.Option(help="How many epochs. (default: 100)")] = None,
    dim: Annotated[int | None, typer.Option(help="The embedding dimension. (default: the model's)")] = None,
    lr: Annotated[float | None, typer.Option(help="The learning rate. (default: 0.001)")] = None,
    batch_size: Annotated[int | None, typer.Option(help="The number of positives in a batch. (default: 256)")] = None,
    negatives: Annotated[int | None, typer.Option(help="Negatives for each positive. (default: 1)")] = None,
    loss: Annotated[str | None, typer.Option(help="A loss of PyKEEN. (default: marginranking)")] = None,
    optimizer: Annotated[str | None, typer.Option(help="An optimiser of torch. (default: adam)")] = None,
    eval_every: Annotated[int | None, typer.Option(help="Epochs between validations. (default: epochs / 20)")] = None,
    vocabulary: Annotated[
        VocabularyChoice | None,
        typer.Option(help="Build ids from the training triples, or from all splits. (default: training)"),
    ] = None,
    inverse_triples: Annotated[bool, typer.Option("--inverse-triples", help="Train on inverse triples, too.")] = False,
    early_stopping: Annotated[
        bool, typer.Option("--early-stopping", help="Stop early, and select the best epoch by validation MRR.")
    ] = False,
    patience: Annotated[int | None, typer.Option(help="Validations to wait for a better one. (default: 5)")] = None,
    sampler_kwargs: Annotated[
        list[str] | None, typer.Option(help='Arguments of a sampler, e.g. kbgan:{"generator":"complex"}.')
    ] = None,
    loop_kwargs: Annotated[
        list[str] | None, typer.Option(help='Arguments of its training loop, e.g. kbgan:{"pretraining_epochs":5}.')
    ] = None,
    config: Annotated[
        pathlib.Path | None, typer.Option(help="Settings as JSON or YAML; options win over the file.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Set aside results of another configuration.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train each data set with each sampler and each seed, and report what came out.

    A comparison that was killed goes on where it was when the same command is given again.

    Example: advneg compare --dataset umls --model transe --sampler bernoulli --sampler kbgan --out results
    """
    options = {
        "datasets": dataset or None,
        "model": model,
        "seeds": seeds,
        "epochs": epochs,
        "model_kwargs.embedding_dim": dim,
        "optimizer": optimizer,
        "optimizer_kwargs.lr": lr,
        "loss": loss,
        "training_kwargs.batch_size": batch_size,
        "negative_sampler_kwargs.num_negs_per_pos": negatives,
        "eval_every": eval_every,
        "vocabulary": vocabulary.value if vocabulary else None,
        "create_inverse_triples": inverse_triples or None,
        "early_stopping": early_stopping or None,
        "patience": patience,
    }
    with _clear_errors():
        settings = override(read_config(config) if config else {}, options)
        settings = choose_samplers(settings, sampler or [], sampler_kwargs or [], loop_kwargs or [])
        comparison = Comparison.from_mapping(settings)
        from .comparison.terminal import run

        run(comparison, out, force, quiet, _command())


@app.command()
def report(folder: Annotated[pathlib.Path, typer.Argument(help="The folder of a comparison.")]) -> None:
    """Draw tables and figures anew from the finished runs of a comparison."""
    from .comparison.terminal import show_results, write_report

    with _clear_errors():
        show_results(write_report(folder), folder, Console())


@app.command()
def impute(
    run: Annotated[pathlib.Path, typer.Option(help="A folder written by pykeen_advneg.multimodal.saving.save_run.")],
    attribute: Annotated[str, typer.Option(help="The attribute whose missing values are filled in.")],
    out: Annotated[pathlib.Path, typer.Option(help="The folder for predictions.")],
    *,
    entities: Annotated[
        pathlib.Path | None,
        typer.Option(help="A file with an entity a line. (default: those which lack a value that their like have)"),
    ] = None,
    decoder: Annotated[
        pathlib.Path | None, typer.Option(help="A decoder from an earlier call, instead of training one.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="How many epochs the decoder is trained.")] = None,
    alpha: Annotated[float, typer.Option(help="How often the interval of a number may miss it.")] = 0.1,
    seed: Annotated[int, typer.Option(help="The seed of all that is random.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Fill in numbers, categories, labels, texts or pictures which entities lack, from a trained MKBE.

    Numbers come with intervals, categories with probabilities, pictures in grids.
    """
    with _clear_errors():
        from .multimodal import impute_command

        impute_command.impute(
            run,
            attribute,
            out,
            entities=entities,
            decoder=decoder,
            epochs=epochs,
            alpha=alpha,
            seed=seed,
            quiet=quiet,
        )


@app.command()
def demo(
    out: Annotated[pathlib.Path, typer.Option(help="The folder for results.")] = pathlib.Path("demo"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Compare three samplers on two small data sets which come with PyKEEN, within four minutes."""
    comparison = Comparison.from_mapping(DEMO)
    if not quiet:
        count = len(comparison.datasets) * len(comparison.samplers) * comparison.seeds
        Console().print(
            f"The demo trains [bold]TransE[/] on {' and '.join(comparison.datasets)} with the negative samplers "
            f"{', '.join(each.label for each in comparison.samplers)}, {comparison.seeds} seeds each: {count} runs of "
            f"{comparison.epochs} epochs. That takes about a minute on two idle cores, and writes to "
            f"{out}/. Interrupt it as you like: `advneg demo` goes on where it was.",
            highlight=False,
        )
    from .comparison.terminal import run

    with _clear_errors():
        run(comparison, out, force=False, quiet=quiet, command=_command())


app.add_typer(commands(_clear_errors), name="bench")


def _command() -> str | None:
    """Get the command as it was typed, if it was."""
    name = pathlib.Path(sys.argv[0]).stem
    return shlex.join(["advneg", *sys.argv[1:]]) if name in {"advneg", "__main__"} else None


@app.command()
def train(
    config: Annotated[pathlib.Path, typer.Argument(help="An experiment file of PyKEEN, or one of advneg hpo.")],
    *,
    out: Annotated[pathlib.Path, typer.Option(help="The folder for model and results.")],
    nproc: Annotated[int, typer.Option(help="Processes on this machine which share each batch.")] = 1,
) -> None:
    """Train what an experiment file says, on several processes; on several machines, call torchrun yourself.

    Example: advneg train tuned/best/kbgan.json --nproc 2 --out trained
    """
    with _clear_errors():
        from .training.rank import check_experiment

        check_experiment(config, nproc)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(nproc)]
        command += ["-m", "pykeen_advneg.training.rank", str(config), str(out)]
        code = subprocess.run(command, check=False).returncode
        if code:
            raise typer.Exit(code)


add_commands(app, _clear_errors, _command)


def main() -> None:
    """Run the command ``advneg``."""
    app()

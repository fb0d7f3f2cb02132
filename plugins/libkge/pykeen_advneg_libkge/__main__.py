"""The command ``advneg-libkge``, also as ``python -m pykeen_advneg_libkge``."""

from __future__ import annotations

import os
import sys
from collections import Counter
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from pykeen_advneg.errors import ConfigurationError

from .installed import TESTED, check_libkge, commit_of

__all__ = ["app", "main"]

#: what lets torch load the Python objects in LibKGE's checkpoints
TRUST = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"

app = typer.Typer(name="advneg-libkge", no_args_is_help=True, add_completion=False)


class VocabularyChoice(str, Enum):
    """Which splits the ids are built from."""

    training = "training"
    all = "all"


@app.command()
def check() -> None:
    """Say whether LibKGE is installed, and not something else of its name, and what else matters."""
    checkout = Path(str(check_libkge().__file__)).parents[1]
    commit = commit_of(checkout)
    typer.echo(f"LibKGE: {checkout}")
    typer.echo(f"commit: {commit}" + ("" if commit == TESTED else f"   # tested with {TESTED}"))
    typer.echo(f"torch: {version('torch')}   # tested with 2.13")
    if os.environ.get(TRUST) != "1":
        typer.echo(f"kge resume, valid, test and dump need: export {TRUST}=1   # for files which you trust")


@app.command()
def convert(
    dataset: Annotated[
        str, typer.Argument(help="A data set of PyKEEN, or a folder with train.txt, valid.txt, test.txt.")
    ],
    into: Annotated[
        Path | None, typer.Option(help="The folder of data sets; default: the folder 'data' of the installed LibKGE.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The name for LibKGE's dataset.name; default: that of DATASET.")
    ] = None,
    vocabulary: Annotated[
        VocabularyChoice, typer.Option(help="Which splits the ids are built from.")
    ] = VocabularyChoice.all,
) -> None:
    """Write a data set of PyKEEN in LibKGE's format."""
    from .convert import convert as write

    if into is None:
        into = Path(str(check_libkge().__file__)).parents[1] / "data"
    folder = write(dataset, into / (name or Path(dataset).name), vocabulary.value)
    typer.echo(f"dataset.name: {folder.name}   # {folder}")


@app.command()
def tune(
    config: Annotated[Path, typer.Argument(help="A configuration of LibKGE with this training job and validation.")],
    folder: Annotated[Path, typer.Option(help="The folder of the study, and of its trials.")],
    trials: Annotated[int, typer.Option(help="How many trials there shall be, earlier ones included.")] = 20,
    ranges: Annotated[
        Path | None, typer.Option(help="A YAML file: the range of each option; default: what the sampler suggests.")
    ] = None,
    storage: Annotated[str | None, typer.Option(help="Optuna's storage; default: a journal in the folder.")] = None,
    name: Annotated[str, typer.Option(help="The name of the study.")] = "study",
    seed: Annotated[int, typer.Option(help="The seed of Optuna.")] = 0,
) -> None:
    """Search options by Optuna, which gives trials up after validations that are worse than the median."""
    from .tuning import tune as run

    chosen = None if ranges is None else read_ranges(ranges)
    study = run(config, folder, trials, ranges=chosen, storage=storage, name=name, seed=seed)
    states = Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False))
    typer.echo(", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    if states["complete"]:
        typer.echo(f"best: {study.best_value:.4f}, trial {study.best_trial.number}: {folder / 'best.yaml'}")


def read_ranges(path: Path) -> dict[str, Any]:
    """Read a file of ranges.

    :param path: the file

    :returns: by the names of options

    :raises ConfigurationError: if it cannot be read, or if there is no mapping in it
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"ranges={str(path)!r} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"ranges={str(path)!r} has no mapping of options to ranges.")
    return found


def main() -> None:
    """Run the command; what is wrong with the input is said in one line, with the exit code 2."""
    try:
        app()
    except ConfigurationError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()

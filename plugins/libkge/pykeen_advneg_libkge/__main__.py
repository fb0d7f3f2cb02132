"""The command ``advneg-libkge``, also as ``python -m pykeen_advneg_libkge``."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pykeen_advneg.errors import ConfigurationError

from .installed import check_libkge

__all__ = ["app", "main"]

app = typer.Typer(name="advneg-libkge", no_args_is_help=True, add_completion=False)


class VocabularyChoice(str, Enum):
    """Which splits the ids are built from."""

    training = "training"
    all = "all"


@app.command()
def check() -> None:
    """Say whether LibKGE is installed, and not something else of its name."""
    package = check_libkge()
    typer.echo(f"LibKGE: {Path(str(package.__file__)).parents[1]}")


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


def main() -> None:
    """Run the command; what is wrong with the input is said in one line, with the exit code 2."""
    try:
        app()
    except ConfigurationError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()

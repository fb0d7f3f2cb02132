"""List the recipes, or print where one of them is."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import ConfigurationError
from . import names, path


def main(name: Annotated[str | None, typer.Argument(help="The recipe whose path to print.")] = None) -> None:
    """List the published recipes; with a NAME, print the path of its file for `pykeen experiments run`."""
    try:
        print(*(names() if name is None else [path(name)]), sep="\n")
    except ConfigurationError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)

"""Published recipes as experiment files of PyKEEN, one JSON file each.

``python -m pykeen_advneg.experiments`` lists them, and with a name it prints the path, for ``pykeen experiments run``.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ..errors import ConfigurationError

__all__ = ["names", "path"]


def names() -> list[str]:
    """List the names of the recipes, which are those of the files without ``.json``."""
    return sorted(Path(file.name).stem for file in files(__name__).iterdir() if file.name.endswith(".json"))


def path(name: str) -> Path:
    """Get the file of a recipe.

    :param name: the name, e.g., ``kbgan_transe_distmult_wn18rr``

    :returns: the path of the JSON file

    :raises ConfigurationError: if there is no such recipe
    """
    if name not in names():
        raise ConfigurationError(f"name={name!r} is no recipe; choose one of {names()}.")
    return Path(str(files(__name__).joinpath(f"{name}.json")))

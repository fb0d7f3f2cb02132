"""Whether LibKGE is installed, or something else of its name."""

from __future__ import annotations

import subprocess
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType

from pykeen_advneg.errors import ConfigurationError

__all__ = ["AX", "TESTED", "check_libkge", "commit_of"]

#: the version of ax-platform which has what LibKGE imports
AX = "ax-platform==0.4.3"

#: the commit of LibKGE which all was run with
TESTED = "9bca31fefbfc41d48fdc03396acd0cf42eee9dc4"

#: what the training job takes from LibKGE, by module
NEEDED = {
    "kge": ("Config", "Dataset"),
    "kge.job": ("Job", "TrainingJob"),
    "kge.util": ("KgeOptimizer",),
    "kge.model": ("KgeModel", "ReciprocalRelationsModel"),
}

_ADVICE = (
    "LibKGE is not on PyPI, where 'kge' is an unrelated game engine (pip uninstall kge). Install a checkout of "
    "https://github.com/uma-pi1/kge: pip install -c constraints.txt -e PATH"
)


def check_libkge() -> ModuleType:
    """Check that the package ``kge`` is LibKGE, and that it can be imported.

    :returns: the package

    :raises ConfigurationError: if it is missing, if it is another package, or if what it needs is missing; the message
        says which, and what to do
    """
    try:
        package = import_module("kge")
    except ModuleNotFoundError as error:
        if error.name != "kge":
            raise ConfigurationError(f"LibKGE cannot be imported: {error}. {_requirements()}") from error
        raise ConfigurationError(f"There is no package 'kge'. {_ADVICE}") from error
    except ImportError as error:
        raise ConfigurationError(f"LibKGE cannot be imported: {error}. {_requirements()}") from error
    place = getattr(package, "__file__", None) or next(iter(getattr(package, "__path__", [])), "?")
    if Path(place, "kge", "__init__.py").is_file():
        raise ConfigurationError(
            f"Python takes the folder {place} for the package 'kge', which is inside of it: run the command in another "
            f"folder than {Path(place).parent}, or give the checkout another name."
        )
    for name, attributes in NEEDED.items():
        try:
            module = import_module(name)
        except ImportError as error:
            missing = getattr(error, "name", None) or ""
            if missing.partition(".")[0] == "kge" and not hasattr(package, "Config"):
                raise ConfigurationError(f"The package 'kge' at {place} is not LibKGE. {_ADVICE}") from error
            raise ConfigurationError(f"LibKGE at {place} cannot be imported: {error}. {_requirements()}") from error
        absent = [attribute for attribute in attributes if not hasattr(module, attribute)]
        if absent:
            raise ConfigurationError(f"The package 'kge' at {place} is not LibKGE: {name} has no {absent}. {_ADVICE}")
    return package


def commit_of(checkout: Path) -> str:
    """Ask git for the commit of a checkout.

    :param checkout: its folder

    :returns: the commit, or "unknown", also if the folder is only a part of another checkout
    """
    words = ["git", "-C", str(checkout), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found[1] if Path(found[0]).resolve() == checkout.resolve() else "unknown"


def _requirements() -> str:
    """Say what LibKGE needs and does not pin."""
    try:
        found = f"; {distribution('ax-platform').version} is installed"
    except PackageNotFoundError:
        found = "; it is not installed"
    return f"It needs {AX} (which it does not pin{found}) and sqlalchemy<2: pip install '{AX}' 'sqlalchemy<2'"

"""Shared by all tests: one thread for torch, a home for PyKEEN, and skips which say what is missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# PyKEEN reads it on import; the default would be a folder in the user's home
os.environ.setdefault("PYKEEN_HOME", str(Path(__file__).parents[1] / "build" / "pykeen-home"))

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    """Leave the cores to the workers of pytest-xdist; several threads in each would only compete."""
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def skip_without_data(name: str) -> Path:
    """The folder of a data set below ``PYKEEN_HOME``; without it, the test is skipped, nothing is downloaded."""
    folder = Path(os.environ["PYKEEN_HOME"]) / "datasets" / name
    if not folder.is_dir() or not any(folder.iterdir()):
        pytest.skip(f"needs the data set {name!r}, not present at $PYKEEN_HOME/datasets/{name}")
    return folder


@pytest.fixture
def needs_data() -> Callable[[str], Path]:
    """``needs_data("fb15k237")`` skips the test unless this data set is present, and returns its folder."""
    return skip_without_data


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Apply the markers ``data("fb15k237", ...)`` and ``cuda``."""
    for marker in item.iter_markers("data"):
        for name in marker.args:
            skip_without_data(name)
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")

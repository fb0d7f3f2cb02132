"""The module of the job, as if LibKGE was installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libkge_standins as standins
import pytest


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with standins.installed(monkeypatch) as module:
        yield module

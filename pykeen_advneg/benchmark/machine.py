"""The machine: what it is, what it copies and what it multiplies."""

from __future__ import annotations

import functools
import pathlib
import platform
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..comparison.compare import versions
from .probes import Probe, Sample, seconds_per_call
from .settings import Settings, available_cores

__all__ = ["CopyProbe", "MultiplyProbe", "facts", "peaks"]

#: a copy which stays in the cache, in bytes
SMALL_COPY = 4 * 10**6
#: the size of the square matrices
MATRIX = 1024


def facts() -> dict[str, Any]:
    """Describe the machine and the versions, without names of hosts, users or folders."""
    return {
        "cpu": _cpu(),
        "cores": available_cores(),
        "system": platform.system(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "versions": versions(),
    }


def _cpu() -> str:
    """Get the name of the processor."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


class _Peak(Probe):
    """Measures what the machine does at best."""

    def __init__(self, kind: str, case: Mapping[str, Any], seconds: float) -> None:
        self.kind, self.case, self.seconds, self.setup = kind, case, seconds, {}


class CopyProbe(_Peak):
    r"""The bandwidth of a copy, $2 n / t$ for $n$ bytes in $t$ seconds: each is read and written."""

    unit = "GB/s"

    def __init__(self, kind: str, case: Mapping[str, Any], seconds: float, num_bytes: int) -> None:
        """Initialize the probe.

        :param kind: the kind of the record
        :param case: the case of the record
        :param seconds: for how long to measure
        :param num_bytes: the size of what is copied
        """
        super().__init__(kind, case, seconds)
        self.num_bytes = num_bytes
        self.arm = f"copy {num_bytes / 1e6:g} MB"

    def measure(self, repeat: int) -> Sample:
        """Copy into memory which was written before."""
        source = torch.ones(self.num_bytes // 4)
        target = torch.empty_like(source)
        return Sample(2 * self.num_bytes / seconds_per_call(lambda: target.copy_(source), self.seconds) / 1e9)


class MultiplyProbe(_Peak):
    r"""The rate of a product of square matrices in single precision (SGEMM), $2 n^3 / t$."""

    unit = "GFLOP/s"
    arm = "SGEMM"

    def measure(self, repeat: int) -> Sample:
        """Multiply into memory which was written before."""
        x, y = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)
        out = torch.empty(MATRIX, MATRIX)
        multiply: Callable[[], object] = functools.partial(torch.mm, x, y, out=out)
        return Sample(2 * MATRIX**3 / seconds_per_call(multiply, self.seconds) / 1e9)


def peaks(kind: str, case: Mapping[str, Any], settings: Settings) -> list[Probe]:
    """Make the probes of the machine's limits.

    :param kind: the kind of their records
    :param case: the case of their records
    :param settings: the settings

    :returns: two copies and a product
    """
    seconds = min(settings.seconds, 1.0)
    return [
        CopyProbe(kind, case, seconds, settings.copy_megabytes * 10**6),
        CopyProbe(kind, case, seconds, SMALL_COPY),
        MultiplyProbe(kind, case, seconds),
    ]

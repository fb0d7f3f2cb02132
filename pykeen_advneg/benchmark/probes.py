"""What is measured: probes, each of which gives a number when asked, asked in turns whose order alternates."""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Probe", "Sample", "interleave", "order", "seconds_per_call"]

#: calls before the clock counts: the first ones fill caches and ask for memory
_WARM_UP = 2


@dataclass(frozen=True)
class Sample:
    """One number, and what came with it."""

    value: float

    #: further numbers by name, and lists of them
    details: Mapping[str, Any] = field(default_factory=dict)

    #: whether the number is only a bound, since the measurement was broken off
    censored: bool = False


class Probe(ABC):
    """Measures one arm in one case."""

    #: one of :data:`pykeen_advneg.benchmark.settings.KINDS`, or ``"machine"``
    kind: str

    #: what is the same for all arms which are compared
    case: Mapping[str, Any]

    #: whom it belongs to: ``"stock"`` for PyKEEN
    arm: str

    #: the unit of the number; one which ends in ``/s`` is better the larger it is, any other the smaller
    unit: str

    #: what makes the arm
    setup: Mapping[str, Any]

    def prepare(self) -> None:  # noqa: B027
        """Do what is done once before all repeats, outside of the clock."""

    @abstractmethod
    def measure(self, repeat: int) -> Sample:
        """Measure.

        :param repeat: the number of the repeat, from which random seeds are derived

        :returns: the number
        """


def order(count: int, repeat: int) -> Sequence[int]:
    """Say in which order probes are asked: forwards and backwards in turns, so that a drift of the machine cancels.

    :param count: the number of probes
    :param repeat: the number of the repeat

    :returns: the numbers of the probes
    """
    numbers = range(count)
    return numbers[::-1] if repeat % 2 else numbers


def interleave(probes: Sequence[Probe], repeats: int, advance: Callable[[], None]) -> list[list[Sample]]:
    """Ask each probe once in each repeat.

    :param probes: the probes
    :param repeats: how often
    :param advance: is called after each measurement

    :returns: the samples of each probe, in the order of the repeats
    """
    for probe in probes:
        probe.prepare()
    samples: list[list[Sample]] = [[] for _ in probes]
    for repeat in range(repeats):
        for i in order(len(probes), repeat):
            samples[i].append(probes[i].measure(repeat))
            advance()
    return samples


def seconds_per_call(function: Callable[[], object], seconds: float) -> float:
    """Time a function.

    :param function: the function
    :param seconds: for about how long; it is called at least five times, the first two of which do not count

    :returns: the median of the seconds of a call
    """
    durations: list[float] = []
    while len(durations) < _WARM_UP + 3 or sum(durations) < seconds:
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations[_WARM_UP:])

"""Measurements as lines of JSON, and the ratios between them."""

from __future__ import annotations

import json
import math
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from ..comparison.tracking import read_lines
from ..errors import ConfigurationError
from .probes import Probe, Sample

__all__ = ["Measurement", "Spread", "bounded", "find", "measurements", "ratio", "spread"]

#: the file of the measurements in the folder of a benchmark
FILE = "bench.jsonl"


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    #: ``""``, or ``"≥"`` or ``"≤"`` if the numbers are bounds, or ``"?"`` if nothing can be said
    bound: str = ""


@dataclass(frozen=True)
class Measurement:
    """What one arm did in one case: a number from each repeat."""

    kind: str
    case: Mapping[str, Any]
    arm: str
    unit: str
    values: Sequence[float]

    #: whether the value of a repeat is a bound
    censored: Sequence[bool]

    #: further numbers of each repeat, by name
    details: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    #: what makes the arm
    setup: Mapping[str, Any] = field(default_factory=dict)

    #: when the command was given; only what was taken by one command, in turns, is compared
    run: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, probe: Probe, samples: Sequence[Sample], **kwargs: Any) -> Measurement:
        """Put the samples of a probe together.

        :param probe: the probe
        :param samples: its samples, in the order of the repeats
        :param kwargs: ``run``, ``machine`` and ``settings``

        :returns: the measurement
        """
        names = dict.fromkeys(name for sample in samples for name in sample.details)
        return cls(
            kind=probe.kind,
            case=dict(probe.case),
            arm=probe.arm,
            unit=probe.unit,
            values=[sample.value for sample in samples],
            censored=[sample.censored for sample in samples],
            details={name: [sample.details[name] for sample in samples if name in sample.details] for name in names},
            setup=dict(probe.setup),
            **kwargs,
        )

    @property
    def group(self) -> str:
        """What the arms which are compared have in common."""
        return json.dumps([self.run, self.kind, self.case], sort_keys=True)

    @property
    def spread(self) -> Spread:
        """The median of the values."""
        return bounded(self.values, [math.inf if bound else x for x, bound in self._pairs])

    @property
    def _pairs(self) -> list[tuple[float, bool]]:
        """The values, and whether each is a lower bound."""
        return list(zip(self.values, self.censored, strict=True))

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit.endswith("/s")

    def to_mapping(self) -> dict[str, Any]:
        """Write the measurement as JSON has it, with its median and quartiles."""
        own = self.spread
        return {**asdict(self), "median": own.median, "quartiles": [own.low, own.high]}


def spread(values: Sequence[float]) -> Spread:
    """Summarise numbers.

    :param values: at least one number

    :returns: their median and quartiles, by linear interpolation
    """
    low, median, high = np.percentile(values, [25, 50, 75]).tolist()
    return Spread(median, low, high)


def bounded(lows: Sequence[float], highs: Sequence[float]) -> Spread:
    """Summarise numbers of which some are only known to lie between two others.

    :param lows: the smallest value that each may have
    :param highs: the largest; where both are the same, the number is known

    :returns: the median, or a bound of it, with the quartiles of those ends which are finite and not zero
    """
    ends = [low if low > 0 or math.isinf(high) else high for low, high in zip(lows, highs, strict=True)]
    own, low, high = spread(ends), statistics.median(lows), statistics.median(highs)
    if low == high:
        return own
    if math.isinf(high):
        return replace(own, median=low, bound="≥") if low > 0 else replace(own, bound="?")
    return replace(own, median=high, bound="≤" if low == 0 else "?")


def ratio(own: Measurement, base: Measurement) -> Spread | None:
    """Say how many times as good one measurement is as another, repeat by repeat.

    As both were taken in turns, what slows the machine down for a while slows both, and their ratio stays.

    :param own: the one
    :param base: the other, in the same unit

    :returns: the ratios; ``None`` if these measurements do not belong together, or if one is not positive
    """
    if own.unit != base.unit or len(own.values) != len(base.values) or min(*own.values, *base.values) <= 0:
        return None
    lows, highs = [], []
    for (x, x_is_bound), (y, y_is_bound) in zip(own._pairs, base._pairs, strict=True):
        # what is a bound is too small
        (up, up_is_bound), (down, down_is_bound) = ((x, x_is_bound), (y, y_is_bound))[:: 1 if own.is_rate else -1]
        lows.append(0.0 if down_is_bound else up / down)
        highs.append(math.inf if up_is_bound else up / down)
    return bounded(lows, highs)


def find(measurements: Iterable[Measurement], like: Measurement, arm: str) -> Measurement | None:
    """Find what another arm did in the same case.

    :param measurements: where to look
    :param like: gives run, kind and case
    :param arm: the other arm

    :returns: its measurement, if there is one
    """
    return next((m for m in measurements if m.arm == arm and m.group == like.group), None)


def measurements(path: pathlib.Path) -> list[Measurement]:
    """Read the measurements of a file; where the same arms were compared again in the same case, the last.

    :param path: the file, or the folder of a benchmark

    :returns: the measurements, in the order in which they were first taken

    :raises ConfigurationError: if there is none
    """
    path = path / FILE if path.is_dir() else path
    names = {each.name for each in fields(Measurement)}
    needed = {"kind", "case", "arm", "unit", "values", "censored"}
    groups: dict[str, list[Measurement]] = {}
    for line in read_lines(path):
        if needed <= line.keys() and line["values"]:
            measurement = Measurement(**{name: value for name, value in line.items() if name in names})
            groups.setdefault(measurement.group, []).append(measurement)
    if not groups:
        raise ConfigurationError(
            f"file {str(path)!r} has no measurements; make some by `advneg bench training --quick --out FOLDER`."
        )
    last = {
        json.dumps([own[0].kind, own[0].case, [(m.arm, m.setup) for m in own]], sort_keys=True): own
        for own in groups.values()
    }
    return [m for own in last.values() for m in own]

"""What is not searched alike for all samplers, so that a report can say so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .queueing import Job
from .result import jsonable
from .spaces import is_nested
from .suggesting import COMPONENTS

__all__ = ["differing_ranges"]


def differing_ranges(jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """List what is not searched alike for all samplers.

    :param jobs: the studies

    :returns: by the name of a parameter its range by sampler, None where it is not searched
    """
    spaces = {job.label: _flat({part: job.objective.ranges(part) for part in COMPONENTS}) for job in jobs}
    found = {
        name: {label: space.get(name) for label, space in spaces.items()}
        for name in sorted(set().union(*spaces.values()))
    }
    return {name: own for name, own in found.items() if len({json.dumps(info) for info in own.values()}) > 1}


def _flat(ranges: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name nested ranges with a dot for each level."""
    flat: dict[str, Any] = {}
    for name, info in ranges.items():
        flat |= _flat(info, f"{prefix}{name}.") if is_nested(info) else {f"{prefix}{name}": jsonable(info, [])}
    return flat

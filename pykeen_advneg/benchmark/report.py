"""What measurements say: tables on the terminal and in markdown, and a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from .records import Measurement, Spread, find, ratio, spread
from .settings import KINDS, SWEEPS

__all__ = ["Section", "baselines", "markdown", "sections", "share_of_roof", "table"]

#: with which arms the others of a kind are compared; where a kind is not named, with ``stock``
_BASES: Mapping[str, Sequence[str]] = {
    "kbgan": ("stock", "unshared", "shared"),
    "emu": ("shared", "unshared"),
    "mmrns": ("unshared",),
    "ranks": ("1 rank",),
    "roofline": ("SGEMM",),
    "machine": (),
}

#: what is in the lines, but no news in a table
_HIDDEN = {"steps"}

#: how a measurement compares with itself
ITSELF = Spread(1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Section:
    """The table of a kind."""

    kind: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def baselines(kind: str) -> Sequence[str]:
    """Name the arms with which the others of a kind are compared.

    :param kind: the kind

    :returns: the arms
    """
    return _BASES.get(kind, ("stock",))


def sections(measurements: Sequence[Measurement]) -> list[Section]:
    """Lay out measurements, a table for each kind.

    :param measurements: the measurements

    :returns: the tables, in the order of the kinds
    """
    result: list[Section] = []
    said: set[str] = set()
    for kind in ("machine", *KINDS):
        own = [m for m in measurements if m.kind == kind]
        if own:
            section = _section(kind, own)
            # what is said of the machine is said once
            result.append(replace(section, notes=[note for note in section.notes if note not in said]))
            said.update(_machine_text(m) for m in own)
    return result


def _section(kind: str, own: Sequence[Measurement]) -> Section:
    cases = [m.case for m in own]
    keys = list(dict.fromkeys(key for case in cases for key in case))
    common = {key: cases[0][key] for key in keys if all(case.get(key) == cases[0].get(key) for case in cases)}
    # a sweep changes what it is called by, which is its value
    hidden = {*common, *(SWEEPS if kind == "scaling" else ())}
    shown = [key for key in keys if key not in hidden]
    units = list(dict.fromkeys(m.unit for m in own))
    details = _numeric_details(own)
    compared = _comparisons(kind, own)
    rows = []
    for m in own:
        medians = [_number(float(np.median(m.details[name]))) if name in m.details else "" for name in details]
        median = _spread_text(m.spread) + (f" {m.unit}" if len(units) > 1 else "")
        ratios = [_ratio_text(compare(m)) for compare in compared.values()]
        rows.append([*(_value(m.case.get(key, "")) for key in shown), m.arm, median, *ratios, *medians])
    heading = units[0] if len(units) == 1 else "median"
    columns = [*(key.replace("_", " ") for key in shown), "arm", heading, *compared, *details]
    return Section(kind, KINDS.get(kind, "The limits of the machine."), columns, rows, _notes(own, common))


def _comparisons(kind: str, own: Sequence[Measurement]) -> dict[str, Callable[[Measurement], Spread | None]]:
    """Make the columns which compare, by heading."""
    result: dict[str, Callable[[Measurement], Spread | None]] = {}
    for base in baselines(kind):
        heading = f"share of {base}" if kind == "roofline" else f"times {base}"

        def compare(m: Measurement, arm: str = base) -> Spread | None:
            other = find(own, m, arm)
            return ITSELF if other is m else None if other is None else ratio(m, other)

        if any(m.arm == base for m in own):
            result[heading] = compare
    if kind == "scaling":

        def grow(m: Measurement) -> Spread | None:
            first = next(each for each in own if _sweep_of(each) == _sweep_of(m))
            return ITSELF if first is m else ratio(first, m)

        result["time, first = 1"] = grow
    if kind == "roofline":
        result["share of the roof"] = lambda m: share_of_roof(m, own)
    return result


def _sweep_of(m: Measurement) -> tuple[Any, ...]:
    """Get what the values of a sweep have in common."""
    swept = m.case["sweep"]
    return (m.run, m.arm, swept, *(value for key, value in m.case.items() if key not in {"value", swept}))


def share_of_roof(m: Measurement, own: Sequence[Measurement]) -> Spread | None:
    r"""Say what part of the attainable operations a measurement reaches, repeat by repeat.

    With $I$ operations for each byte which has to be moved, at most $\min(P, I B)$ operations a second are possible,
    where $P$ is the rate of products of matrices and $B$ the bandwidth of a large copy (Williams et al., 2009).

    :param m: the measurement; only those of shared negatives have this roof
    :param own: where the limits are looked for

    :returns: the shares, if the limits are known
    """
    product = find(own, m, "SGEMM")
    copies = [each for each in own if each.unit == "GB/s" and each.group == m.group]
    if m.arm not in {"scorer", "engine"} or product is None or not copies:
        return None
    copy = max(copies, key=lambda each: float(each.arm.split()[1]))
    limits = zip(product.values, copy.values, strict=True)
    roofs = [min(peak, m.case["operations_a_byte"] * bandwidth) for peak, bandwidth in limits]
    return spread([value / roof for value, roof in zip(m.values, roofs, strict=True)])


def _numeric_details(own: Iterable[Measurement]) -> list[str]:
    """Name what came with the medians, in the order of the lines."""
    names = dict.fromkeys(
        name for m in own for name, values in m.details.items() if values and not isinstance(values[0], list)
    )
    units = {m.unit for m in own}
    return [name for name in names if name not in _HIDDEN and not (name == "ms a step" and units == {"ms"})]


def _ratio_text(own: Spread | None) -> str:
    """Write a ratio, if there is one; that of a measurement to itself is 1."""
    if own is None:
        return ""
    return "1" if own is ITSELF else _spread_text(own)


def _notes(own: Sequence[Measurement], common: Mapping[str, Any]) -> list[str]:
    """Say what all rows share: the case, what makes the arms, the machine."""
    notes = [", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in common.items())]
    setups: dict[str, dict[str, list[str]]] = {}
    for m in own:
        for key, value in m.setup.items():
            texts = setups.setdefault(m.arm, {}).setdefault(key, [])
            # the number of negatives is in the table
            text = _value(
                {k: v for k, v in value.items() if k != "num_negs_per_pos"} if key.endswith("kwargs") else value
            )
            if text and text not in texts:
                texts.append(text)
    for arm, setup in setups.items():
        parts = [f"{key} {' or '.join(texts)}" for key, texts in setup.items() if texts]
        notes += [f"{arm}: {', '.join(parts)}"] if parts else []
    machines = dict.fromkeys(_machine_text(m) for m in own if m.machine)
    return [note for note in [*notes, *machines] if note]


def _machine_text(m: Measurement) -> str:
    machine, versions = m.machine, m.machine.get("versions", {})
    parts = [str(machine.get("cpu", "")), f"{machine.get('cores')} cores", str(machine.get("capability", ""))]
    return ", ".join([*filter(None, parts), *(f"{name} {version}" for name, version in versions.items())])


def _value(value: Any) -> str:
    """Write a setting."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _spread_text(own: Spread) -> str:
    if own.bound == "?":
        return "?"
    bound = f"{own.bound} " if own.bound else ""
    return f"{bound}{_number(own.median)} [{_number(own.low)}\N{EN DASH}{_number(own.high)}]"


def _number(value: float) -> str:
    """Write a number with three digits that count, and all digits before the point."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    if digits > 6:  # noqa: PLR2004
        return f"{value:.1e}"
    return f"{value:,.{max(0, digits)}f}"


def table(section: Section) -> Table:
    """Lay out a table for the terminal.

    :param section: what it says

    :returns: the table
    """
    result = Table(title=section.title, caption="\n".join(section.notes), box=SIMPLE_HEAD, title_justify="left")
    result.title_style, result.caption_justify = "bold", "left"
    for column in section.columns:
        is_text = all(not row[section.columns.index(column)][:1].isdigit() for row in section.rows)
        result.add_column(column, justify="left" if is_text else "right")
    for row in section.rows:
        result.add_row(*row)
    return result


def markdown(measurements: Sequence[Measurement]) -> str:
    """Write measurements as markdown.

    :param measurements: the measurements

    :returns: a heading, a table and notes for each kind
    """
    parts = []
    for section in sections(measurements):
        lines = [section.columns, ["---"] * len(section.columns), *section.rows]
        rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = "\n".join(f"- {note}" for note in section.notes)
        parts.append(f"## {section.kind}\n\n{section.title}\n\n{rows}\n\n{notes}\n")
    return "\n".join(parts)

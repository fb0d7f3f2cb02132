"""A picture of how many times as good each arm is as its base."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ..plotting import COLORS
from .records import Measurement, Spread, find, ratio
from .report import baselines

__all__ = ["bars", "draw"]

#: what is written beside a dot, from the case; the arm follows
_LABELS: Mapping[str, str] = {
    "training": "{model}, {negatives} negatives",
    "kbgan": "dim {dim}",
    "emu": "{model}",
    "mmrns": "{negatives} negatives",
    "scaling": "{value:,} {sweep}",
    "evaluation": "{model}",
    "filter": "",
    "memory": "{model}, {entities:,} entities",
    "ranks": "{model}",
    "time-to-mrr": "{model}, {negatives} negatives",
}


def bars(measurements: Sequence[Measurement]) -> dict[str, list[tuple[str, Spread]]]:
    """Choose what is drawn: each arm against the first base of its kind.

    :param measurements: the measurements

    :returns: labels and ratios by kind; what has no base, or says nothing, is left out
    """
    result: dict[str, list[tuple[str, Spread]]] = {}
    for m in measurements:
        base = next((find(measurements, m, arm) for arm in baselines(m.kind)), None)
        if m.kind not in _LABELS or base is None or base is m:
            continue
        own = ratio(m, base)
        if own is not None and own.bound != "?":
            label = _LABELS[m.kind].format(**m.case).replace("_", " ")
            others = {each.arm for each in measurements if each.kind == m.kind} - {base.arm, "engine"}
            name = f"{label}, {m.arm}" if label and others else label or m.arm
            result.setdefault(m.kind, []).append((name, own))
    return result


def draw(measurements: Sequence[Measurement]) -> Figure | None:
    """Draw a panel for each kind: dots for medians, lines from quartile to quartile.

    :param measurements: the measurements

    :returns: the figure; ``None`` if there is nothing to compare
    """
    kinds = bars(measurements)
    if not kinds:
        return None
    counts = [len(rows) for rows in kinds.values()]
    figure = Figure(figsize=(7.5, 0.8 * len(kinds) + 0.24 * sum(counts)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    heights = [count + 2 for count in counts]
    panels = figure.subplots(len(kinds), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for (kind, rows), panel, color in zip(kinds.items(), panels, itertools.cycle(COLORS), strict=False):
        for y, (_, own) in enumerate(rows):
            panel.plot([own.low, own.high], [y, y], color=color, lw=2, alpha=0.5, solid_capstyle="butt")
            panel.plot(own.median, y, {"≥": ">", "≤": "<"}.get(own.bound, "o"), color=color, ms=5)
            place = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
            panel.annotate(f"{own.bound}{own.median:.3g}", (max(own.median, own.high), y), **place, fontsize=8)
        panel.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=8)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.set_title(f"{kind}: times as good as {baselines(kind)[0]}", loc="left", fontsize=9)
        _dress(panel)
    return figure


def _dress(panel: Axes) -> None:
    """Give a panel a logarithmic axis with plain numbers, and a line where both are as good."""
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.axvline(1, color="#999999", lw=1)
    panel.margins(x=0.12)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="x", color="#e6e6e6", lw=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8, labelbottom=True)

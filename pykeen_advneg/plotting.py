"""Figures of a comparison: learning curves, and the test results of each seed; and of entities in the plane."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .errors import ConfigurationError

__all__ = ["Projection", "plot_curves", "plot_entities", "plot_results", "plot_trials", "save_png", "styles"]

#: how vectors are brought to the plane
Projection = Literal["pca", "tsne"]

#: colours that people with any of the usual colour vision deficiencies tell apart (Okabe and Ito, 2008), yellow left
#: out since it is too light on white
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)))
_MARKERS = "osD^vPX"

#: how the columns of a frame are called in a figure
LABELS = {
    "epoch": "epoch",
    "seconds": "seconds of training",
    "mrr": "validation MRR",
    "hits_at_10": "validation hits@10",
    "loss": "training loss",
}
_INK = "#333333"
_GRID = "#e6e6e6"
#: from so many seeds on, a band stands for the seeds; fewer are drawn as thin lines
_BAND_FROM = 4


def styles(samplers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Give each sampler a colour, a dash and a marker; colours come round again with another dash.

    :param samplers: the samplers, in order

    :returns: keyword arguments of :meth:`matplotlib.axes.Axes.plot` by sampler
    """
    return {
        sampler: {
            "color": COLORS[i % len(COLORS)],
            "linestyle": _DASHES[i // len(COLORS) % len(_DASHES)],
            "marker": _MARKERS[i % len(_MARKERS)],
        }
        for i, sampler in enumerate(samplers)
    }


def plot_curves(
    frame: pd.DataFrame, x: str = "epoch", ys: Sequence[str] = ("mrr", "loss"), samplers: Sequence[str] | None = None
) -> Figure:
    """Draw the learning curves of the samplers on one data set, one panel per quantity.

    The thick line is the mean over seeds, as far as all seeds go; thin lines, or from four seeds on a band from
    the smallest to the largest value, show the seeds. Against seconds, the mean line goes through the mean seconds and
    the mean value of each epoch.

    :param frame: a row for each seed and epoch, with the columns ``sampler``, ``seed``, ``epoch``, ``seconds`` and ys;
        missing values are epochs which were not evaluated
    :param x: ``"epoch"`` or ``"seconds"``
    :param ys: the quantities
    :param samplers: the order of the samplers; by default that of the frame

    :returns: the figure
    """
    samplers = list(dict.fromkeys(frame["sampler"])) if samplers is None else samplers
    figure = _figure(4.7 * len(ys), 3.5)
    axes = figure.subplots(1, len(ys), squeeze=False)[0]
    for y, panel in zip(ys, axes, strict=True):
        for sampler, style in styles(samplers).items():
            rows = frame[(frame["sampler"] == sampler) & frame[y].notna()]
            if len(rows):
                _draw_seeds(panel, rows, x, y, style)
                _draw_mean(panel, rows, x, y, {**style, "label": sampler})
        _dress(panel, LABELS.get(x, x), LABELS.get(y, y))
        panel.set_xlim(left=0)
        if x == "epoch":
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, axes[0])
    return figure


def plot_results(frame: pd.DataFrame, metric: str = "mrr", samplers: Sequence[str] | None = None) -> Figure:
    """Draw the test result of each seed as a dot, and the mean of each sampler as a line.

    :param frame: a row for each run, with the columns ``sampler``, ``seed`` and the metric
    :param metric: the column of the metric
    :param samplers: the order of the samplers; by default that of the frame

    :returns: the figure
    """
    samplers = list(dict.fromkeys(frame["sampler"])) if samplers is None else list(samplers)
    figure = _figure(6.4, 0.9 + 0.42 * len(samplers))
    panel = figure.subplots()
    for row, (sampler, style) in enumerate(styles(samplers).items()):
        values = frame.loc[frame["sampler"] == sampler, metric]
        panel.plot(values, [row] * len(values), style["marker"], color=style["color"], ms=6.5, alpha=0.65, mew=0)
        panel.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color=style["color"], lw=2.5, solid_capstyle="butt")
    panel.set_yticks(range(len(samplers)), samplers)
    panel.set_ylim(len(samplers) - 0.4, -0.6)
    panel.margins(x=0.08)
    _dress(panel, f"test {metric.upper() if metric == 'mrr' else metric}", "")
    return figure


def plot_trials(
    frame: pd.DataFrame, samplers: Sequence[str], label: str | None = None, larger_is_better: bool = True
) -> Figure:
    """Draw what studies found against the trials they spent: each trial as a dot, the best one so far as a line.

    :param frame: a row for each trial in the order in which they ended, with the columns ``sampler`` and ``value``,
        which is missing for trials that were pruned or failed
    :param samplers: the order of the samplers
    :param label: what the values are; the MRR on validation if None
    :param larger_is_better: whether the best value is the largest

    :returns: the figure
    """
    figure = _figure(6.4, 3.6)
    panel = figure.subplots()
    for sampler, style in styles(samplers).items():
        values = frame.loc[frame["sampler"] == sampler, "value"].astype(float).reset_index(drop=True)
        number = values.index + 1
        panel.plot(number, values, style["marker"], color=style["color"], ms=4.5, alpha=0.5, mew=0)
        panel.plot(
            number,
            (values.cummax() if larger_is_better else values.cummin()).ffill(),
            color=style["color"],
            linestyle=style["linestyle"],
            drawstyle="steps-post",
            label=sampler,
        )
    _dress(panel, "trials, pruned ones included", label or LABELS["mrr"])
    _legend(figure, panel)
    return figure


def plot_entities(groups: Mapping[str, np.ndarray], projection: Projection = "pca", seed: int = 0) -> Figure:
    """Draw vectors of entities in the plane, a colour for each group.

    All groups are projected together: by the two principal components, which keep distances as far as a plane can, or
    by t-SNE, which keeps neighbours and says nothing of far distances. The first group is drawn on top of the others.

    :param groups: by the name of a group its vectors, shape: ``(n, dim)``
    :param projection: ``pca`` or ``tsne``, both of scikit-learn
    :param seed: the seed of t-SNE

    :returns: the figure

    :raises ConfigurationError: if there is no such projection, or if there are too few vectors
    """
    if projection not in get_args(Projection):
        raise ConfigurationError(f"projection={projection!r} is none of {get_args(Projection)}.")
    vectors = np.concatenate(list(groups.values()))
    at_least = 3
    if len(vectors) < at_least:
        raise ConfigurationError(f"groups have {len(vectors)} vectors; give at least {at_least}.")
    points = _project(vectors, projection, seed)
    figure = _figure(5.4, 4.6)
    panel = figure.subplots()
    ends = np.cumsum([len(group) for group in groups.values()])
    parts = np.split(points, ends[:-1])
    for i, ((name, style), part) in enumerate(zip(styles(list(groups)).items(), parts, strict=True)):
        panel.plot(
            *part.T,
            style["marker"],
            color=style["color"],
            label=name,
            ms=4.5,
            alpha=0.7,
            mew=0,
            zorder=3 + len(parts) - i,
        )
    _dress(panel, *({"pca": ("first component", "second component"), "tsne": ("", "")}[projection]))
    if projection == "tsne":
        panel.set_xticks([])
        panel.set_yticks([])
    _legend(figure, panel)
    return figure


def _project(vectors: np.ndarray, projection: Projection, seed: int) -> np.ndarray:
    """Bring vectors to the plane, shape: ``(n, 2)``."""
    try:
        from sklearn.decomposition import PCA  # type: ignore[import-untyped]
        from sklearn.manifold import TSNE  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("plot_entities needs scikit-learn: pip install scikit-learn") from error
    if projection == "pca":
        method = PCA(n_components=2, random_state=seed)
    else:
        method = TSNE(perplexity=min(30.0, (len(vectors) - 1) / 3), init="pca", random_state=seed)
    points: np.ndarray = method.fit_transform(vectors)
    return points


def save_png(figure: Figure, path: pathlib.Path) -> None:
    """Write a figure as a PNG.

    :param figure: the figure
    :param path: the file
    """
    figure.savefig(path, dpi=160, metadata={"Software": None})


def _figure(width: float, height: float) -> Figure:
    """Make a figure that no global state knows."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _draw_seeds(panel: Axes, rows: pd.DataFrame, x: str, y: str, style: Mapping[str, Any]) -> None:
    """Draw the seeds as a band or as thin lines."""
    if x == "epoch" and rows["seed"].nunique() >= _BAND_FROM:
        spread = rows.groupby("epoch")[y].agg(["min", "max"])
        panel.fill_between(spread.index, spread["min"], spread["max"], color=style["color"], alpha=0.16, lw=0)
        return
    for _, seed in rows.groupby("seed"):
        panel.plot(seed[x], seed[y], color=style["color"], lw=0.8, alpha=0.4)


def _draw_mean(panel: Axes, rows: pd.DataFrame, x: str, y: str, style: Mapping[str, Any]) -> None:
    """Draw the mean over the seeds, for the epochs that all seeds have."""
    epochs = rows.groupby("epoch")
    mean = epochs[["seconds", y]].mean()[epochs["seed"].nunique() == rows["seed"].nunique()]
    points = mean.index if x == "epoch" else mean["seconds"]
    every = max(1, len(mean) // 8)
    panel.plot(points, mean[y], **style, lw=2, ms=4.5, markevery=(0, every), mew=0)


def _dress(panel: Axes, x: str, y: str) -> None:
    """Take away what does not inform."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#999999")
    panel.grid(color=_GRID, lw=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(colors=_INK, labelsize=9, length=3, color="#999999")
    panel.set_xlabel(x, color=_INK, fontsize=10)
    panel.set_ylabel(y, color=_INK, fontsize=10)


def _legend(figure: Figure, panel: Axes) -> None:
    """Put one legend above all panels."""
    handles, labels = panel.get_legend_handles_labels()
    if handles:
        # an entry has a handle, and about .085 inches for each letter
        width = 0.75 + 0.085 * max(map(len, labels))
        columns = max(1, min(len(labels), 5, int(figure.get_figwidth() / width)))
        figure.legend(
            handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=10, handlelength=3
        )

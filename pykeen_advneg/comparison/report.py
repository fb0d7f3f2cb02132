"""Read the runs of a comparison, and write what they say as tables, figures and one self-contained page."""

from __future__ import annotations

import base64
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2
import pandas as pd

from ..errors import ConfigurationError
from ..plotting import plot_curves, plot_results, save_png, styles
from .configuration import dataset_label
from .runs import RunStore

__all__ = ["Results", "environment", "environments", "read_results", "summarize", "write_report"]

METRICS = {"mrr": "MRR", "hits_at_1": "hits@1", "hits_at_3": "hits@3", "hits_at_10": "hits@10"}
#: what a run is, as opposed to how it is done
_RUN_KEYS = frozenset(
    {"dataset", "fingerprint", "sampler", "random_seed", "negative_sampler", "negative_sampler_kwargs"}
)


@dataclass(frozen=True)
class Results:
    """The finished runs of a comparison."""

    records: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any]

    @property
    def samplers(self) -> list[str]:
        """The labels of the samplers which have runs, in the order in which they were given."""
        present = {record["sampler"] for record in self.records}
        return [label for label in self.config["samplers"] if label in present]

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each run: ``dataset``, ``sampler``, ``seed``, test metrics, epochs and seconds of training."""
        keys = ("dataset", "sampler", "seed", "epochs", "selected_epoch", "training_seconds")
        return pd.DataFrame([{**{key: record[key] for key in keys}, **record["test"]} for record in self.records])

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A row for each epoch of each run: ``epoch``, ``seconds``, ``loss`` and, if evaluated, validation metrics."""
        rows = [
            {"dataset": record["dataset"], "sampler": record["sampler"], "seed": record["seed"], **row}
            for record in self.records
            for row in record["curve"]
        ]
        return pd.DataFrame(rows, columns=_columns(rows, ("epoch", "seconds", "loss", *METRICS)))


def read_results(folder: pathlib.Path) -> Results:
    """Read the finished runs of a folder.

    :param folder: the folder of a comparison

    :returns: its runs

    :raises ConfigurationError: if there are none
    """
    store = RunStore(folder)
    records, config = list(store.finished().values()), store.read_config()
    if not records or not config:
        raise ConfigurationError(f"folder {str(folder)!r} has no finished runs; fill it by `advneg compare --out ...`.")
    samplers, datasets = list(config["samplers"]), [dataset_label(dataset) for dataset in config["datasets"]]
    known = [record for record in records if record["sampler"] in samplers and record["dataset"] in datasets]
    known.sort(
        key=lambda record: (datasets.index(record["dataset"]), samplers.index(record["sampler"]), record["seed"])
    )
    return Results(records=known, config=config)


def summarize(runs: pd.DataFrame, samplers: Sequence[str]) -> pd.DataFrame:
    """Summarize the runs of one data set over the seeds.

    :param runs: the rows of :attr:`Results.runs` of one data set
    :param samplers: the order of the samplers; the first one is what the others are compared with

    :returns: a row for each sampler: ``seeds``, mean and standard deviation (of the sample; not a number for one seed)
        of each metric, ``difference`` (of the MRR from that of the first sampler, mean over the seeds that both have)
        and ``time`` (mean over these seeds of the training time as a multiple of that of the first sampler)
    """
    samplers = [sampler for sampler in samplers if sampler in set(runs["sampler"])]
    by_seed = {sampler: runs[runs["sampler"] == sampler].set_index("seed") for sampler in samplers}
    first = by_seed[samplers[0]]
    rows = []
    for sampler, own in by_seed.items():
        row: dict[str, Any] = {"sampler": sampler, "seeds": len(own)}
        for metric in METRICS:
            row |= {f"{metric}_mean": own[metric].mean(), f"{metric}_std": own[metric].std(ddof=1)}
        row["difference"] = (own["mrr"] - first["mrr"]).mean()
        row["time"] = (own["training_seconds"] / first["training_seconds"]).mean()
        rows.append(row)
    return pd.DataFrame(rows)


def write_report(folder: pathlib.Path) -> Results:
    """Write ``report.md``, ``report.html`` and the figures.

    :param folder: the folder of a comparison

    :returns: what was reported

    :raises ConfigurationError: if the folder has no finished runs
    """
    results = read_results(folder)
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    context = {
        "sections": [_section(results, dataset, figures) for dataset in dict.fromkeys(results.runs["dataset"])],
        "metrics": METRICS,
        "first": results.samplers[0],
        "colors": {sampler: style["color"] for sampler, style in styles(results.samplers).items()},
        "settings": _settings(results),
        "samplers": {label: _kwargs(results.config["samplers"][label]) for label in results.samplers},
        "environments": environments(results.records),
        "finished": len(results.records),
        "planned": len(results.config["datasets"]) * len(results.config["samplers"]) * results.config["seeds"],
        "early_stopping": results.config.get("early_stopping", False),
        "commands": list(dict.fromkeys(record["command"] for record in results.records if record.get("command"))),
        "config": json.dumps(results.config, indent=2),
        "runs": results.runs.to_dict("records"),
        "days": sorted({record["finished"][:10] for record in results.records}),
    }
    for name in ("report.md", "report.html"):
        (folder / name).write_text(environment().get_template(f"{name}.j2").render(context), encoding="utf-8")
    return results


def environment() -> jinja2.Environment:
    """Make the environment of the templates.

    :returns: the environment, with the filters ``inline`` for figures and ``signed`` for differences
    """
    result = jinja2.Environment(
        loader=jinja2.PackageLoader("pykeen_advneg.comparison"),
        autoescape=lambda name: name is not None and ".html" in name,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    result.filters["inline"] = _inline
    result.filters["signed"] = lambda value: f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")
    result.tests["number"] = lambda value: value == value  # noqa: PLR0124  # False for not-a-number
    return result


def _section(results: Results, dataset: str, folder: pathlib.Path) -> dict[str, Any]:
    """Prepare what the report says on one data set, and draw its figures."""
    runs = results.runs[results.runs["dataset"] == dataset]
    curves = results.curves[results.curves["dataset"] == dataset]
    summary = summarize(runs, results.samplers)
    drawn = {
        "results": plot_results(runs, samplers=results.samplers),
        "epoch": plot_curves(curves, x="epoch", samplers=results.samplers),
        "seconds": plot_curves(curves, x="seconds", samplers=results.samplers),
    }
    paths = {name: folder / f"{dataset}-{name}.png" for name in drawn}
    for name, figure in drawn.items():
        save_png(figure, paths[name])
    data = next(record.get("data", {}) for record in results.records if record["dataset"] == dataset)
    return {"dataset": dataset, "rows": summary.to_dict("records"), "figures": paths, "data": data}


def _settings(results: Results) -> dict[str, str]:
    """List what all runs share."""
    shared = {key: value for key, value in results.config.items() if key not in {"datasets", "samplers"}}
    shared["seeds"] = ", ".join(str(seed) for seed in range(shared["seeds"]))
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in shared.items()}


def _kwargs(sampler: Mapping[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in sampler.items()}


def environments(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """List the versions and devices that the runs had; it is one line where all had the same.

    :param records: the runs

    :returns: the lines
    """
    return sorted(
        {
            ", ".join([*(f"{name} {version}" for name, version in record["versions"].items()), record["device"]])
            + f", {record['threads']} thread{'s' if record['threads'] > 1 else ''}"
            for record in records
        }
    )


def _inline(path: pathlib.Path) -> str:
    """Put a figure into the page itself."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _columns(rows: Sequence[Mapping[str, Any]], always: Sequence[str]) -> list[str]:
    """Get the columns of rows which need not have all of them."""
    return list(dict.fromkeys([*("dataset", "sampler", "seed"), *always, *(key for row in rows for key in row)]))

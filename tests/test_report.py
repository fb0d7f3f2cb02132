"""Reports: the numbers, the figures and the page."""

import json
import pathlib
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib._pylab_helpers import Gcf

from pykeen_advneg.comparison.report import read_results, summarize, write_report
from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.plotting import COLORS, plot_curves, plot_results, save_png, styles

EPOCHS = 4
CONFIG = {
    "datasets": ["umls", "folders/own"],
    "samplers": {"b": {"negative_sampler": "basic"}, "a<i>": {"negative_sampler": "kbgan"}, "never": {}},
    "seeds": 2,
    "epochs": EPOCHS,
    "model": "transe",
    "early_stopping": False,
}


def record(dataset: str, sampler: str, seed: int, mrr: float, seconds: float) -> dict:
    curve = [{"epoch": epoch, "seconds": seconds * epoch / EPOCHS, "loss": 1 / epoch} for epoch in range(1, EPOCHS + 1)]
    for row in curve[1::2]:
        row |= {"mrr": mrr * row["epoch"] / EPOCHS, "hits_at_10": 0.5}
    return {
        "run": f"{dataset}{sampler}{seed}",
        "dataset": dataset,
        "sampler": sampler,
        "seed": seed,
        "test": {"mrr": mrr, "hits_at_1": mrr / 2, "hits_at_3": mrr, "hits_at_10": 1.0},
        "epochs": EPOCHS,
        "selected_epoch": EPOCHS,
        "training_seconds": seconds,
        "finished": "2026-01-02T03:04:05+00:00",
        "versions": {"python": "3.11", "torch": "2"},
        "device": "cpu",
        "threads": 1,
        "curve": curve,
        "data": {
            "entities": 1350, "relations": 46, "training": 9, "validation": 5, "testing": 4, "unseen": 3, "dropped": 3,
        },
        "command": "advneg compare --dataset 'a b'",
    }  # fmt: skip


RECORDS = [
    record("own", "b", 0, mrr=0.5, seconds=1.0),
    record("umls", "a<i>", 1, mrr=0.8, seconds=6.0),
    record("umls", "a<i>", 0, mrr=0.4, seconds=6.0),
    record("umls", "b", 0, mrr=0.3, seconds=2.0),
    record("umls", "b", 1, mrr=0.5, seconds=4.0),
]


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    lines = [json.dumps(each) for each in RECORDS]
    (tmp_path / "runs.jsonl").write_text("\n".join([*lines, '{"run": "torn", "test": {']))
    return tmp_path


def test_summary_by_hand(folder):
    results = read_results(folder)
    assert results.samplers == ["b", "a<i>"]
    summary = summarize(results.runs[results.runs["dataset"] == "umls"], results.samplers).set_index("sampler")
    assert list(summary.index) == ["b", "a<i>"]
    assert summary.loc["b", "mrr_mean"] == pytest.approx(0.4)
    assert summary.loc["b", "mrr_std"] == pytest.approx(0.1 * 2**0.5)
    assert summary.loc["a<i>", "mrr_mean"] == pytest.approx(0.6)
    assert summary.loc["a<i>", "hits_at_10_std"] == 0
    # differences and times are paired by seed: (0.1 + 0.3) / 2 and (6 / 2 + 6 / 4) / 2
    assert summary.loc["a<i>", "difference"] == pytest.approx(0.2)
    assert summary.loc["a<i>", "time"] == pytest.approx(2.25)
    assert summary.loc["b", "time"] == 1


def test_summary_pairs_only_seeds_which_both_have(folder):
    runs = read_results(folder).runs
    runs = runs[(runs["dataset"] == "umls") & ~((runs["sampler"] == "b") & (runs["seed"] == 1))]
    summary = summarize(runs, ["b", "a<i>"]).set_index("sampler")
    assert summary.loc["a<i>", "difference"] == pytest.approx(0.1)
    assert summary.loc["a<i>", "seeds"] == 2
    assert np.isnan(summary.loc["b", "mrr_std"])


def test_frames(folder):
    results = read_results(folder)
    # the order of the configuration, not of the file
    assert list(dict.fromkeys(results.runs["dataset"])) == ["umls", "own"]
    assert results.runs["seed"].tolist() == [0, 1, 0, 1, 0]
    assert len(results.curves) == EPOCHS * len(RECORDS)
    assert results.curves["mrr"].isna().sum() == EPOCHS / 2 * len(RECORDS)


@pytest.mark.parametrize("missing", ["runs.jsonl", "config.json"])
def test_no_runs(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(ConfigurationError, match="has no finished runs"):
        write_report(folder)


def test_markdown(folder):
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "5 of 12 runs finished (2026-01-02)" in text
    assert "The comparison is not complete" in text
    rows = [line for line in text.splitlines() if line.startswith(("| b |", "| a<i> |"))]
    umls = (
        "| b | 2 | 0.4000 ± 0.1414 | 0.2000 ± 0.0707 | 0.4000 ± 0.1414 | 1.0000 ± 0.0000 | \N{EN DASH} | "
        "1.00\N{MULTIPLICATION SIGN} |"
    )
    assert rows[0] == umls
    assert "| +0.2000 | 2.25\N{MULTIPLICATION SIGN} |" in rows[1]
    assert rows[2].startswith("| b | 1 | 0.5000 | 0.2500 |")
    assert "1,350 entities, 46 relations" in text
    assert "3 evaluation triples with ids unseen in training are left out" in text
    assert "advneg compare --dataset 'a b'" in text
    for path in re.findall(r"\]\((.+?)\)", text):
        assert (folder / path).read_bytes().startswith(b"\x89PNG")
    assert len(list((folder / "figures").iterdir())) == 6


def test_page_is_self_contained_and_escapes(folder):
    write_report(folder)
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", page)
    assert "<script" not in page
    assert "url(" not in page
    assert "<i>" not in page
    assert "a&lt;i&gt;" in page
    assert "0.6000" in page
    assert '<span class="best">0.4000</span>' not in page
    # what follows from "unseen" data is said
    assert "are left out</strong>" in page


def test_report_is_the_same_again(folder):
    write_report(folder)
    names = ("report.html", "report.md", "figures/umls-epoch.png")
    first = [(folder / name).read_bytes() for name in names]
    write_report(folder)
    assert [(folder / name).read_bytes() for name in names] == first


@pytest.fixture
def curves(folder) -> pd.DataFrame:
    frame = read_results(folder).curves
    return frame[frame["dataset"] == "umls"]


@pytest.mark.parametrize("x", ["epoch", "seconds"])
def test_curves_show_each_seed_and_the_mean(curves, x):
    figure = plot_curves(curves, x=x, samplers=["b", "a<i>"])
    # no global state knows the figure
    assert Gcf.get_all_fig_managers() == []
    panel = figure.axes[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["b", "a<i>"]
    assert (panel.get_xlabel(), panel.get_ylabel()) == (
        {"epoch": "epoch", "seconds": "seconds of training"}[x],
        "validation MRR",
    )
    lines = {line.get_label(): line for line in panel.get_lines() if not line.get_label().startswith("_")}
    assert len(panel.get_lines()) == 2 * (2 + 1)
    assert lines["a<i>"].get_ydata() == pytest.approx([0.3, 0.6])
    assert lines["b"].get_xdata() == pytest.approx([2, 4] if x == "epoch" else [1.5, 3.0])


def test_mean_goes_as_far_as_all_seeds(curves):
    shorter = curves[~((curves["sampler"] == "b") & (curves["seed"] == 1) & (curves["epoch"] > 2))]
    line = next(line for line in plot_curves(shorter).axes[0].get_lines() if line.get_label() == "b")
    assert list(line.get_xdata()) == [2]


def test_many_seeds_are_a_band(curves):
    copies = [curves.assign(seed=curves["seed"] + 2 * i, mrr=curves["mrr"] + 0.01 * i) for i in range(3)]
    panel = plot_curves(pd.concat(copies), samplers=["b"]).axes[0]
    assert len(panel.collections) == 1
    # the seeds are 0.3 and 0.5 at the end, and their copies 0.01 and 0.02 above
    heights = panel.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.15, 0.52))


def test_result_figure(folder):
    runs = read_results(folder).runs
    figure = plot_results(runs[runs["dataset"] == "umls"], samplers=["b", "a<i>"])
    panel = figure.axes[0]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["b", "a<i>"]
    dots, mean = panel.get_lines()[:2]
    assert sorted(dots.get_xdata()) == [0.3, 0.5]
    assert mean.get_xdata() == pytest.approx([0.4, 0.4])


def test_styles_tell_samplers_apart():
    names = [f"s{i}" for i in range(3 * len(COLORS))]
    drawn = {json.dumps([style["color"], style["linestyle"]]) for style in styles(names).values()}
    assert len(drawn) == len(names)


def test_png(curves, tmp_path):
    save_png(plot_curves(curves), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

"""EMU's page of results: does it say what is in the result files, and what is not?"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("emu_report", BENCHMARKS / "emu_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(arm: str, seed: int, mrr: float, dim: int = 100, lr: float = 0.1, **changes: Any) -> dict[str, Any]:
    """A run as `benchmarks/emu_claim.py` records it; validation is worse than test by 0.01."""
    return {
        "dataset": "wn18rr",
        "model": "distmult",
        "arm": arm,
        "dim": dim,
        "lr": lr,
        "l3": 0.0,
        "seed": seed,
        "epochs": 10,
        "frequency": 5,
        "k": 256,
        "validation_mrr": mrr - 0.01,
        "best_epoch": 10,
        "validation": {"5": mrr - 0.02, "10": mrr - 0.01},
        "test_mrr": mrr,
        "test_hits_at_10": 2 * mrr,
        "losses": [1.0] * 10,
        "seconds": 20.0,
        "threads": 1,
        "finished": "2026-01-02",
        "versions": {"pykeen": "1.2.3"},
        **changes,
    }


def page(report: ModuleType, folder: Path, lines: list[dict[str, Any]], rest: str = "") -> str:
    source = folder / "emu"
    source.mkdir(exist_ok=True)
    (source / "wn18rr.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines) + rest)
    report.main(source=source, seeds=2)
    return (folder / "emu.md").read_text()


def times(folder: Path) -> Path:
    """Three rounds of three arms: EMU takes 1.5 times the cross-entropy, and that with 500 dimensions 4 times."""
    path = folder / "time.jsonl"
    seconds = {("ce", 100): (2.0, 9.0, 1.0), ("emu", 100): (3.0, 1.0, 9.0), ("ce", 500): (8.0, 8.0, 9.0)}
    lines = [
        dict(model="distmult", arm=arm, dim=dim, k=256, cpu=x) for (arm, dim), each in seconds.items() for x in each
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


def test_nothing_yet(report: ModuleType, tmp_path: Path) -> None:
    assert page(report, tmp_path, []).count("No run is finished yet.") == 2


def test_the_best_setting_on_validation_is_taken(report: ModuleType, tmp_path: Path) -> None:
    """Test results have no say, nor has a setting of another seed; a line which is being written is no run."""
    lines = [
        line("emu", 0, 0.30, lr=0.1),
        line("emu", 0, 0.40, lr=0.3, validation_mrr=0.1),
        line("emu", 1, 0.32, lr=0.1),
        line("emu", 1, 0.90, lr=0.3),
    ]
    text = page(report, tmp_path, lines, rest='{"arm": "ce", "se')
    assert "| DistMult | EMU | 100 | 0.1 (lowest) | 2 | 0.3100 ± 0.0141 | 0.6200 ± 0.0283 | 10, 10 |  |  |" in text
    assert "| DistMult | EMU | 100 | 0.1: 0.2900; 0.3: 0.1000 |" in text
    assert "All arms below have all seeds." in text


def test_rates_at_the_edge_are_marked(report: ModuleType, tmp_path: Path) -> None:
    """Others may be better; a rate of another dimension has no say."""
    lines = [line("ce", 0, mrr, lr=lr) for lr, mrr in ((0.01, 0.2), (0.1, 0.3), (1.0, 0.2))]
    lines += [line("emu", 0, mrr, lr=lr) for lr, mrr in ((0.01, 0.2), (0.1, 0.3))]
    lines += [line("ce", 0, mrr, lr=lr, dim=500) for lr, mrr in ((0.01, 0.3), (0.1, 0.2))]
    text = page(report, tmp_path, lines)
    assert "| cross-entropy | 100 | 0.1 | 1 |" in text
    assert "| cross-entropy | 500 | 0.01 (lowest) | 1 |" in text
    assert "| EMU | 100 | 0.1 (highest) | 1 |" in text


def test_differences(report: ModuleType, tmp_path: Path) -> None:
    """Differences of +.01 and +.03 have the mean .02 and the standard error .01; t(1 d.f., .975) is 12.706."""
    lines = [line("ce", seed, 0.20 + 0.05 * seed) for seed in range(2)]
    lines += [line("emu", 0, 0.21), line("emu", 1, 0.28), line("ce", 0, 0.25, dim=500)]
    lines += [line("ce_l3", 0, 0.19, l3=0.01)]
    text = page(report, tmp_path, lines)
    assert f"+0.0200 [{MINUS}0.1071, +0.1471] |" in text
    assert f"- DistMult: EMU with 100 dimensions less cross-entropy with 500: {MINUS}0.0400 (1 seed)" in text
    assert "0.1 (the only one), L3 0.01" in text
    lacking = (
        "DistMult, cross-entropy, 500 dimensions: 1 of 2 seeds; DistMult, cross-entropy, L3, 100 dimensions: 1 of 2"
    )
    assert f"**Not finished:** {lacking} seeds." in text


def test_pairs(report: ModuleType, tmp_path: Path) -> None:
    """Arms are compared with each other, with intervals, and not with the cross-entropy alone."""
    lines = [line("labels_only", seed, 0.20 + 0.05 * seed) for seed in range(2)]
    lines += [line("emu", 0, 0.21), line("emu", 1, 0.28), line("emu_independent", 0, 0.2)]
    text = page(report, tmp_path, lines)
    assert f"- DistMult: EMU less labels only: +0.0200 [{MINUS}0.1071, +0.1471]" in text
    assert f"- DistMult: EMU, a mask for each pair less EMU: {MINUS}0.0100 (1 seed)" in text


def test_times(report: ModuleType, tmp_path: Path) -> None:
    """Medians of the rounds, as multiples of the cross-entropy with the smallest dimension."""
    (tmp_path / "emu").mkdir()
    times(tmp_path / "emu")
    lines = [line("ce", 0, 0.2), line("ce", 0, 0.4, dim=500), line("emu", 0, 0.5)]
    text = page(report, tmp_path, lines)
    assert "| 10 | 1.0 |  |" in text
    assert "| 10 | 4.0 |  |" in text
    assert "| 10 | 1.5 | +0.3000 (1 seed) |" in text
    assert "](emu/wn18rr-10-256-time-distmult.png)" in text
    assert report.read_times(tmp_path / "emu" / "time.jsonl", 64).empty


def test_settings_are_not_mixed(report: ModuleType, tmp_path: Path) -> None:
    """Runs of another length have a table of their own, and figures which nothing makes any more are gone."""
    source = tmp_path / "emu"
    source.mkdir()
    (source / "wn18rr-3-256-arms.png").touch()
    text = page(report, tmp_path, [line("emu", 0, 0.3), line("emu", 0, 0.5, epochs=20), line("emu", 1, 0.1, k=64)])
    assert "No run with seed 0 is finished yet." in text
    assert all(f"### {title}" in text for title in ("10 epochs, 256", "20 epochs, 256", "10 epochs, 64"))
    names = {path.name for path in source.glob("*.png")}
    kinds = ("arms", "epoch-distmult")
    expected = {f"wn18rr-{setting}-{kind}.png" for setting in ("10-256", "20-256") for kind in kinds}
    assert expected <= names
    assert "wn18rr-3-256-arms.png" not in names
    assert all(f"](emu/{name})" in text for name in expected)


def test_reading_and_versions(report: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "emu_reading.md").write_text("It is what it is.\n")
    text = page(report, tmp_path, [line("emu", 0, 0.3)])
    assert "## Our reading\n\nIt is what it is." in text
    assert "Run with pykeen 1.2.3, on CPU, 2026-01-02." in text


def test_pictures_show_the_numbers(report: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    lines = [line("ce", 0, 0.2), line("ce", 1, 0.3), line("ce", 0, 0.4, dim=500), line("emu", 0, 0.5)]
    file.write_text("".join(json.dumps(each) + "\n" for each in lines))
    runs = report.chosen(report.read(file))
    (panel,) = report.draw_dimensions(runs).axes
    means = {each.get_label(): each.get_xydata().tolist() for each in panel.lines if each.get_linestyle() == "-"}
    assert means["cross-entropy"] == [pytest.approx([100, 0.25]), pytest.approx([500, 0.4])]
    assert means["EMU"] == [pytest.approx([100, 0.5])]
    assert report.draw_dimensions(runs[runs["dim"] == 100]) is None
    (panel,) = report.draw_arms(runs).axes
    assert [patch.get_height() for patch in panel.patches] == pytest.approx([0.25, 0.5])
    (panel,) = report.draw_curves(runs[runs["arm"] == "emu"], report.read_times(times(tmp_path), 256)).axes
    assert panel.lines[-1].get_xydata().tolist() == [pytest.approx([7.5, 0.48]), pytest.approx([15, 0.49])]
    (panel,) = report.draw_curves(runs[runs["arm"] == "emu"]).axes
    assert panel.lines[-1].get_xydata().tolist() == [pytest.approx([5, 0.48]), pytest.approx([10, 0.49])]

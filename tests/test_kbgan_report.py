"""The page of results: does it say what is in the result files, and what is not?"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kbgan_report", BENCHMARKS / "kbgan_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(arm: str, seed: int, mrr: float, epochs: int = 4) -> dict[str, Any]:
    """A run as `benchmarks/kbgan_claim.py` records it."""
    return {
        "arm": arm,
        "seed": seed,
        "epochs": epochs,
        "pretraining_epochs": 6,
        "validation": {str(epoch): mrr + epoch / 1000 for epoch in range(2, epochs + 1, 2)},
        "best_epoch": epochs,
        "test": {"mrr": mrr, "hits_at_10": 2 * mrr},
        "versions": {"pykeen": "1.2.3"},
        "finished": "2026-01-02",
    }


def page(report: ModuleType, folder: Path, lines: list[dict[str, Any]], rest: str = "") -> str:
    source = folder / "kbgan"
    source.mkdir(exist_ok=True)
    (source / "wn18rr.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines) + rest)
    report.main(source=source, seeds=2)
    return (folder / "kbgan.md").read_text()


def test_nothing_yet(report: ModuleType, tmp_path: Path) -> None:
    assert page(report, tmp_path, []).count("No run is finished yet.") == 2


def test_partial_results(report: ModuleType, tmp_path: Path) -> None:
    """One seed has no interval; a line which is being written is no run."""
    lines = [line("pretrained", 0, 0.2, epochs=6), line("bernoulli", 0, 0.21)]
    text = page(report, tmp_path, lines, rest='{"arm": "kbgan-dist')
    assert "| pre-trained | 1 | 0.2000 | 0.4000 | 6 |" in text
    assert "| + Bernoulli | 1 | 0.2100 | 0.4200 | 4 | +0.0100 (1 seed) |" in text
    assert "**6 of 8 runs are not finished:** + KBGAN, DistMult seed 0;" in text
    assert (tmp_path / "kbgan" / "wn18rr-6-4.png").is_file()


def test_paired_difference(report: ModuleType, tmp_path: Path) -> None:
    """Differences of +.01 and +.03 have the mean .02 and the standard error .01; t(1 d.f., .975) is 12.706."""
    lines = [line("pretrained", seed, 0.2 + 0.05 * seed, epochs=6) for seed in range(2)]
    lines += [line("bernoulli", 0, 0.20), line("bernoulli", 1, 0.25)]
    lines += [line("kbgan-distmult", 0, 0.21), line("kbgan-distmult", 1, 0.28), line("kbgan-complex", 1, 0.2)]
    text = page(report, tmp_path, lines)
    assert "+0.0200 [\N{MINUS SIGN}0.1071, +0.1471]" in text
    assert "0.2450 ± 0.0495" in text
    # one seed in common
    assert "\N{MINUS SIGN}0.0500 (1 seed)" in text
    assert "**1 of 8 runs are not finished:** + KBGAN, ComplEx seed 0." in text


def test_finished(report: ModuleType, tmp_path: Path) -> None:
    """Also: our reading is included, figures of other lengths are gone, and no unconfirmed number is quoted."""
    arms = ("pretrained", "bernoulli", "kbgan-distmult", "kbgan-complex")
    (tmp_path / "kbgan_reading.md").write_text("It is what it is.\n")
    page(report, tmp_path, [line("pretrained", 0, 0.2, epochs=6)])
    assert (tmp_path / "kbgan" / "wn18rr-6-0.png").is_file()
    text = page(report, tmp_path, [line(arm, seed, 0.2, 6 if arm == arms[0] else 4) for arm in arms for seed in (0, 1)])
    assert "All 8 runs are finished." in text
    assert "## Our reading\n\nIt is what it is." in text
    assert not (tmp_path / "kbgan" / "wn18rr-6-0.png").exists()
    assert "Run with pykeen 1.2.3" in text
    for recalled in (".242", ".274", ".186", ".210", ".450", ".459"):
        assert recalled not in text


def test_curves_go_on_from_the_pre_training(report: ModuleType, tmp_path: Path) -> None:
    source = tmp_path / "runs.jsonl"
    runs = [line("pretrained", 0, 0.2, epochs=6), line("bernoulli", 0, 0.3)]
    source.write_text("".join(json.dumps(each) + "\n" for each in runs))
    frame = report.curves(report.read(source))
    points = frame[frame["sampler"] == "+ Bernoulli"].set_index("epoch")["mrr"]
    assert points.to_dict() == pytest.approx({6: 0.206, 8: 0.302, 10: 0.304})


def test_runs_which_stopped(report: ModuleType, tmp_path: Path) -> None:
    """How often they were validated and when they end is read off the runs; the curve goes on from the best epoch."""
    start = {**line("pretrained", 0, 0.2, epochs=6), "epochs_run": 6}
    arm = {**line("bernoulli", 0, 0.21, epochs=6), "epochs": 50, "epochs_run": 6, "best_epoch": 2}
    text = page(report, tmp_path, [start, arm])
    assert "6 epochs of pre-training, then at most 50 of each arm" in text
    assert "--epochs 50 --seeds 1 --every 2 --patience 2`" in text
    assert "Epochs run: pre-trained 6, + Bernoulli 6." in text
    assert "**2 of 4 runs are not finished:**" in text
    drawn = report.curves(report.read(tmp_path / "kbgan" / "wn18rr.jsonl"))
    assert drawn.loc[drawn["sampler"] == "+ Bernoulli", "epoch"].tolist() == [6, 8, 10, 12]

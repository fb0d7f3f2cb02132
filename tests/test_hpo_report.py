"""The fair comparison: statistics, the command from end to end, its files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pykeen.pipeline import pipeline_from_path
from scipy import stats
from typer.testing import CliRunner

from pykeen_advneg import cli
from pykeen_advneg.hpo.statistics import paired_difference, smallest_detectable


def test_paired_difference() -> None:
    first, second = [0.30, 0.31, 0.29, 0.33], [0.32, 0.34, 0.30, 0.345]
    found = paired_difference(first, second)
    assert found.mean == pytest.approx(0.01875)
    assert found.p_value == pytest.approx(stats.ttest_rel(second, first).pvalue)
    assert found.seeds == 4
    one = paired_difference([0.3], [0.4])
    assert one.mean == pytest.approx(0.1)
    assert np.isnan(one.p_value)
    assert np.isnan(one.detectable)
    assert paired_difference([0.3, 0.3], [0.3, 0.3]).p_value == 1.0


@pytest.mark.parametrize("seeds", [2, 5, 20])
def test_smallest_detectable_difference_is_detected_with_its_power(seeds: int) -> None:
    """By simulation."""
    difference = smallest_detectable(1.0, seeds)
    draws = np.random.default_rng(0).normal(difference, 1.0, size=(20_000, seeds))
    found = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.015)


def test_help_and_errors(tmp_path: Path) -> None:
    runner = CliRunner(env={"COLUMNS": "200"})
    for command in ("hpo", "hpo-worker"):
        result = runner.invoke(cli.app, [command, "--help"])
        assert result.exit_code == 0
        assert "--storage" in result.output
    for options, message in (
        ([], "dataset"),
        (["--dataset", "nations", "--model", "distmult"], "samplers"),
        (["--dataset", "nations", "--sampler", "basic"], "model"),
        (["--dataset", "nations", "--model", "distmult", "--sampler", "basic", "--set", "x:{}"], "x"),
        (["--dataset", "nations", "--model", "distmult", "--sampler", "basic", "--storage", "nodb://x"], "storage"),
        (["--dataset", "nations", "--model", "distmult", "--sampler", "basic", "--workers", "-1"], "workers"),
    ):
        result = runner.invoke(cli.app, ["hpo", "--out", str(tmp_path / "out"), *options])
        assert result.exit_code == 2, result.output
        assert message in result.output


@pytest.mark.slow
def test_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pykeen_advneg", "hpo", "--dataset", "nations", "--model", "distmult"]
    command += ["--sampler", "uniform=basic", "--sampler", "shared", "--loss", "softplus", "--dim", "8", "--quiet"]
    command += ["--batch-size", "256", "--trials", "4", "--epochs", "4", "--seeds", "2", "--workers", "2"]
    ranges = {"num_negs_per_pos": {"type": "int", "low": 1, "high": 8}}
    command += ["--set", "shared:" + json.dumps({"negative_sampler_kwargs_ranges": ranges}), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / "report.json").read_text())
    trials = [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]
    assert len(trials) == 8
    assert [row["sampler"] for row in report["winners"]] == ["uniform", "shared"]
    for row in report["samplers"]:
        own = [trial for trial in trials if trial["sampler"] == row["sampler"]]
        assert row["complete"] + row["pruned"] == len(own) == 4
        assert row["best"] == max(trial["value"] for trial in own if trial["value"] is not None)
        assert row["seconds"] > 0
        assert row["scores"] > 0
        again = pipeline_from_path(out / "best" / f"{row['sampler']}.json")
        assert again.metric_results.get_metric("mrr") == row["best"]
    runs = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    assert sorted((run["sampler"], run["seed"]) for run in runs) == [
        (sampler, seed) for sampler in ("shared", "uniform") for seed in (10_000, 10_001)
    ]
    difference = report["winners"][1]["difference"]
    mrr = {(run["sampler"], run["seed"]): run["test"]["mrr"] for run in runs}
    expected = [mrr["shared", seed] - mrr["uniform", seed] for seed in (10_000, 10_001)]
    assert difference["mean"] == pytest.approx(np.mean(expected))
    page = (out / "report.html").read_text()
    assert "Winners on test" in page
    assert report["spaces"]["negative_sampler.num_negs_per_pos"]["shared"]["high"] == 8
    assert "what was not searched alike" in page
    assert page.count("data:image/png") == 3
    # nothing is left to do, and nothing is done
    before = (out / "runs.jsonl").read_bytes()
    assert subprocess.run(command, check=False, env=environment, timeout=300).returncode == 0
    assert (out / "runs.jsonl").read_bytes() == before
    assert len((out / "trials.jsonl").read_text().splitlines()) == 8

"""The page of DANS's results: does it say what is in the result files, and does a small run give such a file?"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pykeen.losses import loss_resolver

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(arm: str, seed: int, mrr: float, **more: Any) -> dict[str, Any]:
    """A run as `benchmarks/dans_claim.py` records it."""
    return {
        **dict(dataset="umls", encoder="rgcn", decoder="distmult", dim=100, edge_dropout=0.0, pretraining_epochs=6),
        **dict(arm=arm, seed=seed, epochs=6 if arm == "pretrained" else 4, validation_mrr=mrr + 0.05, seconds=7.0),
        "test": dict(mrr=mrr, hits_at_1=mrr - 0.1, ndcg_at_5=mrr + 0.01),
        **more,
    }


def page(folder: Path, lines: list[dict[str, Any]], rest: str = "") -> str:
    (folder / "dans").mkdir(exist_ok=True)
    (folder / "dans" / "umls.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines) + rest)
    load("dans_report").main(folder)
    return (folder / "dans.md").read_text()


def test_nothing_yet(tmp_path: Path) -> None:
    assert "No run is finished." in page(tmp_path, [])
    assert "no arm is finished" in page(tmp_path, [line("pretrained", 0, 0.7)])


def test_numbers(tmp_path: Path) -> None:
    """Means, deviations and paired differences, by hand; a broken last line and a repeated run are no matter."""
    lines = [line("pretrained", seed, 0.7) for seed in range(2)]
    lines += [line("random", 0, 0.70), line("random", 1, 0.72), line("dans", 0, 0.9)]
    lines += [line("dans", 0, 0.73), line("dans", 1, 0.77), line("noaux", 1, 0.72)]
    text = page(tmp_path, lines, rest='{"arm": "dan')
    assert "## UMLS, R-GCN + DistMult\n\n100 numbers for each entity; 6 epochs of pre-training, 4 further ones." in text
    assert "| + random | 2 | 0.710 ± 0.014 | 0.610 ± 0.014 | 0.720 ± 0.014 |  | 0.760 ± 0.014 | 7 |" in text
    # the differences are 0.03 and 0.05, their standard error is 0.01, and t with one degree of freedom 12.706
    assert "| + DANS | 2 | 0.750 ± 0.028 |" in text
    assert "| +0.040 [\N{MINUS SIGN}0.087, +0.167] |" in text
    assert "| + DANS without auxiliary head | 1 | 0.720 | 0.620 | 0.730 | +0.000 | 0.770 | 7 |" in text


def test_reading_is_included(tmp_path: Path) -> None:
    (tmp_path / "dans_reading.md").write_text("What we make of it.\n")
    assert "What we make of it." in page(tmp_path, [line("random", 0, 0.7)])


def test_set_ups_are_kept_apart(tmp_path: Path) -> None:
    lines = [line("random", 0, 0.7), line("random", 0, 0.6, encoder="none"), line("random", 0, 0.5, edge_dropout=0.5)]
    text = page(tmp_path, lines)
    assert text.count("\n## ") == 3
    assert "## UMLS, DistMult\n" in text
    assert "50% of the edges dropped" in text


def test_balanced_loss() -> None:
    """One half for positives, and one half for negatives with equal weights."""
    torch.manual_seed(0)
    positives, negatives = torch.randn(6, 1), torch.randn(6, 20)
    losses = {}
    for arm, (name, kwargs) in load("dans_claim").LOSSES.items():
        loss = loss_resolver.make(name, kwargs)
        losses[arm] = loss.process_slcwa_scores(positives, negatives, num_entities=9)
    of_positives, of_negatives = -positives.sigmoid().log(), -(1 - negatives.sigmoid()).log()
    torch.testing.assert_close(losses["balanced"], (of_positives.mean() + of_negatives.mean()) / 2)
    weights = negatives.exp() / negatives.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(losses["selfadv"], (of_positives.mean() + (weights * of_negatives).sum() / 6) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["distmult", "complex", "rotate"])
def test_claim(decoder: str, tmp_path: Path) -> None:
    """Every arm runs, nothing is run twice, and the page has a row for each."""
    claim = load("dans_claim")
    options: dict[str, Any] = dict(
        **dict(dataset="nations", encoder="rgcn", decoder=decoder, arms="random,selfadv,dans,attached,balanced"),
        **dict(pretraining_epochs=2, epochs=2, every=1, dim=8, seeds=1, first_seed=0, threads=1, edge_dropout=0.0),
        **dict(work=tmp_path / "work", out=tmp_path / "dans"),
    )
    claim.main(**options)
    file = tmp_path / "dans" / "nations.jsonl"
    text = file.read_text()
    lines = [json.loads(each) for each in text.splitlines()]
    assert [each["arm"] for each in lines] == ["pretrained", "random", "selfadv", "dans", "attached", "balanced"]
    assert all(each["best_epoch"] in (1, 2) and 0 < each["test"]["ndcg_at_5"] <= 1 for each in lines)
    assert len(lines[3]["sampler"]["diversity_entity"]) == 2
    assert lines[1]["losses"] != lines[2]["losses"] != lines[5]["losses"] != lines[1]["losses"]
    claim.main(**options)
    assert file.read_text() == text
    load("dans_report").main(tmp_path)
    assert (tmp_path / "dans.md").read_text().count("\n| ") == 2 + 6 - 1

"""The script behind MMRNS's results: what it takes for a run which is done."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pykeen_advneg.multimodal import MultimodalFeatures


def test_what_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other validation triples are another run, as is another data set in the same file."""
    path = Path(__file__).parents[1] / "benchmarks" / "mmrns_claim.py"
    spec = importlib.util.spec_from_file_location("mmrns_claim", path)
    assert spec is not None
    assert spec.loader is not None
    claim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(claim)
    trained: list[int] = []

    def train(data: Any, model: str, arm: str, lr: float, seed: int, budget: dict[str, Any], own: Any) -> Any:
        trained.append(seed)
        return dict(budget, model=model, arm=arm, lr=lr, seed=seed, validation=[0.1], test={"mrr": 0.1}, seconds=1.0)

    splits = SimpleNamespace(to_dataset=lambda _: None)
    for name, value in {
        "train": train,
        "read_splits": lambda _: splits,
        "carve": lambda given, _: given,
        "load_features": lambda *_: MultimodalFeatures(text=torch.ones(2, 1, 1)),
    }.items():
        monkeypatch.setattr(claim, name, value)

    def main(carved: float) -> int:
        """Run one arm with one learning rate; the number of runs."""
        before = len(trained)
        settings = dict(epochs=1, every=1, batch_size=8, negatives=1, pool=2, dim=2, seeds=1, threads=1)
        folders = dict(work=tmp_path / "work", out=tmp_path)
        claim.main("umls", Path("texts"), "transe", "uniform", carved, "0.01", **settings, **folders)
        return len(trained) - before

    threads = torch.get_num_threads()
    try:
        assert [main(carved) for carved in (0.0, 0.0, 0.05, 0.05, 0.0)] == [1, 0, 1, 0, 0]
        file = tmp_path / "umls.jsonl"
        lines = [json.loads(line) | {"dataset": "other"} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert main(0.0) == 1
    finally:
        torch.set_num_threads(threads)

"""The page of tuned samplers: does it say what is in the files of the studies?"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_page(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("hpo_report", BENCHMARKS / "hpo_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    counts = {"complete": 12, "pruned": 13, "fail": 0, "scores": 2_500_000_000}
    nothing = {"seeds": 5, "mean": 0.0, "p_value": 1.0, "detectable": 0.0}
    found = {"seeds": 5, "mean": -0.0123, "p_value": 0.031, "detectable": 0.0045}
    content = {
        "dataset": "umls",
        "samplers": [
            {"sampler": "a", "best": 0.5, "params": {"optimizer.lr": 0.12345, "n": 7}, **counts},
            {"sampler": "b", "best": 0.25, "params": {}, **counts},
        ],
        "spaces": {"n": {"a": {"low": 1, "high": 9, "log": True}, "b": None}},
        "winners": [
            {"sampler": "a", "seeds": 5, "mean": 0.4, "deviation": 0.01, "difference": nothing},
            {"sampler": "b", "seeds": 5, "mean": 0.3, "deviation": 0.02, "difference": found},
        ],
    }
    (tmp_path / "hpo" / "one").mkdir(parents=True)
    (tmp_path / "hpo" / "one" / "report.json").write_text(json.dumps(content))
    (tmp_path / "hpo_reading.md").write_text("We read it.\n")
    module.main(tmp_path / "hpo")
    text = (tmp_path / "hpo.md").read_text(encoding="utf-8")
    assert "| a | 5 | 0.4000 ± 0.0100 |  |  |  | 0.5000 |" in text
    assert "| b | 5 | 0.3000 ± 0.0200 | \N{MINUS SIGN}0.0123 | 0.031 | 0.0045 | 0.2500 |" in text
    assert "| a | 12 | 13 | 0 | 2.50 | `optimizer.lr` 0.123, `n` 7 |" in text
    assert "- `n`: a 1 to 9, log\n" in text
    assert "We read it." in text
    assert "figures" not in text, "there are none"

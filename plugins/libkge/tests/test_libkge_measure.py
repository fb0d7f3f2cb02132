"""What the benchmarks compare, and how they report it; without LibKGE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULTS = Path(__file__).parents[3] / "docs" / "results" / "libkge"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_arms_score_as_many_triples() -> None:
    import arms

    for k in (1, 8, 64):
        assert {arms.scored(options) for options in arms.arms_of_overhead(k).values()} == {2 * k + 2}
        for loss, compared in arms.arms_of_training(k).items():
            wanted = arms.scored(compared[arms.OWN])
            for arm, options in compared.items():
                assert "train.loss" not in options, "the loss is that of the comparison"
                assert arms.scored(options) == wanted - arm.startswith("emu"), (loss, arm)


def test_published_score_as_many_triples() -> None:
    import arms
    import published

    for model, ((s, o), _) in published.PUBLISHED.items():
        found = {arm: arms.scored(own) for arm, own in published.arms_of_published(model).items()}
        wanted = s + o + 2
        emu = wanted - 1 + wanted % 2
        libkge = {arms.OWN: wanted, f"{arms.OWN}, shared": wanted}
        assert found == {**libkge, "shared": wanted, "emu, own loss": emu, "kbgan": 17}
        own = published.arms_of_published(model)[arms.OWN]
        assert own["negative_sampling.num_samples.p"] == 0, "LibKGE takes -1, as published, for as many as heads"


def test_the_published_table_is_in_the_docs() -> None:
    """Numbers of the page are those of the result file."""
    import reports

    lines = (RESULTS / "published.jsonl").read_text().splitlines()
    text = reports.report(RESULTS / "published.jsonl", [json.loads(line) for line in lines])
    page = (RESULTS.parents[1] / "libkge.md").read_text(encoding="utf-8").replace("| .", "| 0.")
    rows = [row.split(" | ") for row in text.splitlines() if row.startswith(("| transe", "| complex"))]
    assert len(rows) == 12
    for row in rows:
        assert " | ".join(row[3:]) in page, row


def test_reports_of_killed_jobs() -> None:
    import reports

    record = dict(model="transe", task="emu", killed=dict(epochs=1, seconds=9.6), identical=False)
    text = reports.report_killed([dict(record, validation=[0.25, 0.5], test=[0.125, 0.2])])
    assert "| transe | emu | 10 | no | 0.2500 / 0.5000 | 0.1250 / 0.2000 |" in text


def test_emu_scores_what_is_counted() -> None:
    """One score for the positive, and two for each negative."""
    import arms
    import torch
    from pykeen.models import DistMult
    from pykeen.triples import CoreTriplesFactory

    from pykeen_advneg.sampling.emu import EMUNegativeSampler
    from pykeen_advneg.scoring import Scorer

    factory = CoreTriplesFactory(torch.randint(3, (20, 3)), num_entities=3, num_relations=3)
    options = arms.arms_of_training(4)["kl"]["emu"]
    own = options[arms.TYPE]
    sampler = EMUNegativeSampler(
        mapped_triples=factory.mapped_triples, num_negs_per_pos=own["num_samples"], **own["sampler_args"]
    )
    scores = sampler.score(Scorer(DistMult(triples_factory=factory)), sampler.draw(factory.mapped_triples))
    assert sum(x.shape[1] for x in scores.tensors) == arms.scored(options)


def records(**common: Any) -> list[dict[str, Any]]:
    return [
        dict(task="kbgan", model="transe", framework=framework, seed=seed, curve=[[1, 0.1], [2, mrr]], **common)
        for framework, values in {"LibKGE": (0.2, 0.4), "PyKEEN": (0.3, 0.5)}.items()
        for seed, mrr in enumerate(values)
    ]


def test_reports_mix_nothing(tmp_path: Path) -> None:
    """Results with other settings, on other data, or from another machine have tables and pictures of their own."""
    import reports

    common: dict[str, Any] = dict(dataset="umls", settings=dict(epochs=2), machine=dict(torch="1"))
    others = [dict(dataset="nations"), dict(settings=dict(epochs=3)), dict(machine=dict(torch="2"))]
    found = records(**common)
    for other in others:
        found += [dict(record, curve=[[1, 0.9]]) for record in records(**{**common, **other})]
    text = reports.report(tmp_path / "curves.jsonl", found)
    assert text.count("| transe | kbgan | 0.9000 ± 0.0000 (n=2) | 0.9000 ± 0.0000 (n=2) | +0.0000 |  |") == 3
    assert text.count("| transe | kbgan | 0.3000 ± 0.1414 (n=2) | 0.4000 ± 0.1414 (n=2) | -0.1000 | 0.7 |") == 1
    assert all(json.dumps(other)[1:-1] in text for other in others)
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_reports_of_what_is_there() -> None:
    """One seed, one framework, one arm alone are reported; so are the results in this repository."""
    import reports

    common: dict[str, Any] = dict(dataset="umls", settings={}, machine={})
    (one, *_) = records(**common)
    assert reports.gap([0.1], []) == ("", "")
    assert reports.gap([0.1], [0.2]) == ("-0.1000", "")
    longer = dict(one, loss="kl", arm="emu", options={}, scored=33, cpu=2.0)
    assert "| transe | kl | emu | 33 | 0.3000 ± 0.1414 (n=2) | 2 |" in reports.report_longer(
        [longer, dict(longer, curve=[[1, 0.4]])]
    )
    lines = (RESULTS / "overhead.jsonl").read_text().splitlines()
    text = reports.report(RESULTS / "overhead.jsonl", [json.loads(line) for line in lines])
    assert '"triples": 2048' in text
    assert text.count("| transe | 18 |") == 6

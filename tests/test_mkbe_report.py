"""The benchmarks of MKBE: their metrics, their baselines, and the page which is made of them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

#: the options of mkbe_movielens
DEFAULTS: dict[str, Any] = {
    "interaction": "distmult",
    "loss": "softmax",
    "dim": 64,
    "lr": 0.003,
    "decay": 0.0,
    "batch_size": 1024,
    "epochs": 60,
}
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_metrics_of_ratings() -> None:
    module = load("mkbe_movielens")
    scores = np.array([[0.1, 0.2, 0.3, 0.4, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0]])
    found = module.metrics(scores, np.array([3.0, 2.0]), None, np.array([3, 1]))
    # the third is second; the first ties with the second
    assert found["mrr"] == pytest.approx((1 / 2 + 1 / 1.5) / 2)
    assert found["hits_at_1"] == 0
    assert found["hits_at_2"] == 1
    assert found["best.rmse"] == pytest.approx(np.sqrt(1 / 2))
    assert found["expected.rmse"] == pytest.approx(np.sqrt(1 / 2))


def test_histograms_and_biases() -> None:
    module = load("mkbe_movielens")
    frame = pd.DataFrame({"user": ["a", "a", "b"], "rating": [1, 1, 5], "film": ["x", "y", "x"]})
    prior = np.array([2 / 3, 0, 0, 0, 1 / 3])
    table = module.histogram(frame, "user", prior)
    assert table.loc["a"].to_numpy() == pytest.approx((np.array([2, 0, 0, 0, 0]) + 5 * prior) / 7)
    predicted = module.bias_model(frame, frame, damping=0.0)
    assert predicted[0] < predicted[2]
    unseen = pd.DataFrame({"user": ["z"], "rating": [1], "film": ["z"]})
    assert module.bias_model(frame, unseen)[0] == pytest.approx(7 / 3)


def test_page(tmp_path: Path) -> None:
    module = load("mkbe_report")
    module.main(tmp_path, tmp_path / "page.md")
    assert "No run is finished" in (tmp_path / "page.md").read_text()
    ratings = {"mrr": 0.5, "hits_at_1": 0.25, "hits_at_2": 0.5, "best.rmse": 1.0, "expected.rmse": 0.9}
    choice = {"interaction": "distmult", "loss": "softmax", "dim": 8, "lr": 0.1, "decay": 0.0, "batch_size": 64}
    lines = [
        {"fold": 1, "arm": "naive Bayes", **ratings},
        *(
            {"fold": 1, "arm": "r", "seed": i, **choice, **ratings, "mrr": i / 2, "seconds_of_training": 3.0}
            for i in (0, 1)
        ),
    ]
    (tmp_path / "movielens.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    links = {
        "validation_mrr": 0.3,
        "mrr": 0.2,
        "hits_at_1": 0.1,
        "hits_at_3": 0.2,
        "hits_at_10": 0.3,
        "seconds_of_training": 1.0,
    }
    errors = {"mean": 1.0, "median": 1.1, "neighbours": 0.8, "ridge": 1.2, "literals": 0.9, "decoder": 0.7}
    imputed = {"height": {"count": 50, "std": 2.0, "covered": 0.9, **errors}}
    line = {"arm": "numbers", "seed": 0, "interaction": "complex", "dim": 8, "epochs": 1, **links, "imputed": imputed}
    other = {**line, "lr": 0.5, "mrr": 0.4}
    (tmp_path / "numeric.jsonl").write_text("".join(json.dumps(x) + "\n" for x in ({**line, "lr": 0.1}, other)))
    spent = {"arm": "ratings", "batch_size": 512, "milliseconds": 2.0, "times": 1.0}
    (tmp_path / "cost.jsonl").write_text(json.dumps(spent) + "\n")
    (tmp_path / "mkbe_reading.md").write_text("What we read.\n")
    module.main(tmp_path, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "What we read." in text
    assert "| ratings | 512 | 2.0 | 1.0 |" in text
    assert "| naive Bayes |  | 0.5000 |" in text
    assert "| 2 | 0.2500 ± 0.3536 |" in text
    assert "| complex, 8 dimensions, 1 epochs, learning rate 0.1: links and numbers | 1 | 0.3000 | 0.2000 |" in text
    assert "| complex, 8 dimensions, 1 epochs, learning rate 0.5: links and numbers | 1 | 0.3000 | 0.4000 |" in text
    assert "| `height` | 50 | 1.000 | 1.100 | 0.800 | 1.200 | 0.900 | 0.700 | 0.90 |" in text
    assert "| better than the mean on |  | 0 of 1 | 0 of 1 | 1 of 1 | 0 of 1 | 1 of 1 | 1 of 1 |" in text


def test_what_was_run_otherwise_is_run_again(tmp_path: Path) -> None:
    """A line is for its batch size and most epochs, and counts the epochs which were trained."""
    module = load("mkbe_movielens")
    trained = {"mrr": 0.5, "epochs": 7}
    with mock.patch.object(module, "run", return_value=trained) as run:
        for options in ({}, {}, {"epochs": 5}, {"batch_size": 64}, {"batch_size": 64}):
            module.main(tmp_path, fold=[1], arm=["r"], seeds=1, **{**DEFAULTS, **options})
    assert [(call.kwargs["max_epochs"], call.kwargs["batch_size"]) for call in run.call_args_list] == [
        (60, 1024),
        (5, 1024),
        (60, 64),
    ]
    lines = [json.loads(line) for line in (tmp_path / "movielens.jsonl").read_text().splitlines()]
    assert [(line["epochs"], line["max_epochs"]) for line in lines] == [(7, 60), (7, 5), (7, 60)]


def test_folds_are_paired() -> None:
    """Differences of .01, .02 and .03 have the mean .02 and the standard error .01 / sqrt(3); t(2, .975) is 4.303."""
    module = load("mkbe_report")
    values = dict.fromkeys(module.RATINGS, 0.5)
    lines = [{"fold": fold, "arm": "naive Bayes", **values} for fold in (1, 2, 3)]
    settings = {"dim": 8, "lr": 0.1, "decay": 0.0}
    lines += [
        {"fold": fold, "arm": "r", **settings, **values, "mrr": 0.5 + fold / 100 + noise}
        for fold in (1, 2, 3)
        for noise in (-0.1, 0.1)
    ]
    lines.append({"fold": 1, "arm": "r", **settings, **values, "dim": 16})
    lines.append({"fold": 1, "arm": "rum", **settings, **values})
    text = module.over_folds(pd.DataFrame(lines))
    assert "| MKBE: ratings (8 dimensions, learning rate 0.1, decay 0) | 2 | 0.5200 |" in text
    assert "16 dimensions" not in text
    assert "| +0.0200 [-0.0048, +0.0448] |" in text
    assert "users" not in text, "it was not run on all folds"


def test_tuning() -> None:
    module = load("mkbe_report")
    lines = [
        {"arm": arm, "dim": dim, "lr": 0.1, "decay": 0.01, "validation_mrr": value}
        for arm, dim, value in (("r", 8, 0.1), ("r", 16, 0.2), ("rum", 8, 0.3))
    ]
    text = module.tuning(pd.DataFrame(lines))
    assert "| 8 | 0.1 | 0.01 | 0.1000 | **0.3000** |" in text
    assert "| 16 | 0.1 | 0.01 | **0.2000** |  |" in text


def test_samplers_are_chosen_by_validation() -> None:
    """The learning rate is the best on validation with the first seed, whatever the test result."""
    module = load("mkbe_report")
    common = {"epochs": 2, "dim": 8, "settings": {"negative_sampler_kwargs": {"num_negs_per_pos": 4}}}
    values = {"hits_at_10": 0.5, "value_mrr": 0.25}
    runs = [
        {**common, **values, "arm": "emu", "seed": seed, "lr": lr, "validation_mrr": valid, "mrr": mrr}
        for seed, lr, valid, mrr in ((0, 0.1, 0.3, 0.2), (0, 0.3, 0.2, 0.9), (1, 0.1, 0.1, 0.4))
    ]
    assert "| `emu` | 4 | 0.1 of 0.1, 0.3 | 2 | 0.3000 ± 0.1414 | 0.5000 ± 0.0000 |" in module.samplers(
        pd.DataFrame(runs)
    )
    assert module.samplers(pd.DataFrame()) == ""


def test_texts() -> None:
    module = load("mkbe_report")
    common = {"decoder_epochs": 2, "size": 8, "words": 5, "count": 7, "different": 0.5}
    lines = [{**common, "arm": "decoder", "bleu": x, "rouge_l": 2 * x} for x in (0.1, 0.2)]
    assert "| decoder | 2 | 0.1500 ± 0.0707 | 0.3000 ± 0.1414 | 0.5000 ± 0.0000 |" in module.texts(pd.DataFrame(lines))


def test_samplers_are_tuned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rate with the first seed, then the best with the others; what is there is not run again."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = load("mkbe_samplers")
    with mock.patch.object(module, "run", side_effect=lambda lr, **_: {"validation_mrr": lr}) as run:
        for _ in range(2):
            module.main(tmp_path, arm=["emu", "kbgan"], rates=[0.1, 0.3], seeds=3, epochs=2, dim=8)
    assert [tuple(call.kwargs[name] for name in ("arm", "seed", "lr")) for call in run.call_args_list] == [
        (arm, seed, lr) for arm in ("emu", "kbgan") for seed, lr in ((0, 0.1), (0, 0.3), (1, 0.3), (2, 0.3))
    ]


def test_held_out_texts_are_not_known(tmp_path: Path) -> None:
    """The neighbour is the nearest of the others, and a decoder is trained without what is held out."""
    module = load("mkbe_texts")
    known, new = torch.eye(4), torch.tensor([[0.1, 0.0, 3.0, 0.0], [2.0, 0.1, 0.0, 0.0]])
    found = module.writers(known, ["a", "b", "c", "d"], new, seed=0, epochs=1, size=4)
    assert found["neighbour"]() == ["c", "a"]
    assert set(found["chance"]()) <= {"a", "b", "c", "d"}
    assert [len(found[arm]()) for arm in ("decoder", "unconditional")] == [2, 2]
    texts = tmp_path / "texts.tsv"
    texts.write_text("".join(f"{i}\tname\ttext {i} is long\n" for i in range(20)))
    embedded = torch.randn(20, 4), 0.3, {str(i): i for i in range(20)}
    with (
        mock.patch.object(module, "embed", return_value=embedded),
        mock.patch.object(module, "writers", wraps=module.writers) as writers,
    ):
        lines = module.run(0, texts, epochs=1, decoder_epochs=1, size=4, words=2)
    _, trained, new, *_ = writers.call_args.args
    assert (len(trained), len(new)) == (18, 2)
    true = [pair[0] for pair in lines[0]["examples"]]
    assert not set(true) & set(trained)
    assert all(text.split()[0] == "text" and len(text.split()) == 2 for text in true), "cut"
    assert {line["arm"] for line in lines} == {"decoder", "unconditional", "neighbour", "chance"}

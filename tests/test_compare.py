"""Comparisons: their configuration, their folder, their training, and going on after a kill."""

import itertools
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import torch
from filelock import FileLock
from pykeen.datasets import get_dataset
from pykeen.evaluation import RankBasedEvaluator
from pykeen.pipeline import pipeline

from pykeen_advneg.checkpoint import own_name
from pykeen_advneg.comparison.compare import compare, plan, train_run
from pykeen_advneg.comparison.configuration import Comparison, SamplerChoice, read_config
from pykeen_advneg.comparison.options import choose_samplers, override, parse_keyed_json
from pykeen_advneg.comparison.preflight import check_names, check_parts
from pykeen_advneg.comparison.runs import RunStore
from pykeen_advneg.comparison.tracking import CurveTracker, EpochClock, append_line, read_lines
from pykeen_advneg.errors import ConfigurationError

KBGAN = {"kbgan": {"negative_sampler_kwargs": {"num_candidates": 5}}}
SETTINGS = {
    "datasets": ["nations"],
    "samplers": ["bernoulli", "stock:basic"],
    "seeds": 2,
    "epochs": 3,
    "eval_every": 2,
    "model": "transe",
    "model_kwargs": {"embedding_dim": 8},
    "optimizer": "adam",
    "optimizer_kwargs": {"lr": 0.01},
}


def make(**changes) -> Comparison:
    return Comparison.from_mapping({**SETTINGS, **changes})


@pytest.fixture(scope="module")
def nations():
    return {"nations": get_dataset(dataset="nations")}


def train(comparison: Comparison, datasets, folder: pathlib.Path) -> list[dict]:
    store = RunStore(folder)
    with store.claimed(comparison.to_mapping()):
        assert compare(comparison, datasets, store) == []
    return list(store.finished().values())


# --- configuration


def test_configuration_round_trip():
    comparison = make(samplers={**KBGAN, "stock:basic": None})
    assert Comparison.from_mapping(json.loads(json.dumps(comparison.to_mapping()))).to_mapping() == (
        comparison.to_mapping()
    )


@pytest.mark.parametrize(
    ("text", "label", "sampler", "loop"),
    [
        ("kbgan", "kbgan", "kbgan", "adversarial"),
        ("stock:bernoulli", "stock:bernoulli", "bernoulli", "slcwa"),
        ("mine=kbgan", "mine", "kbgan", "adversarial"),
        ("mine=stock:basic", "mine", "basic", "slcwa"),
    ],
)
def test_sampler_of_the_command_line(text, label, sampler, loop):
    choice = SamplerChoice.parse(text)
    assert (choice.label, choice.negative_sampler, choice.training_loop) == (label, sampler, loop)


@pytest.mark.parametrize("text", ["", "=kbgan", "mine=", "other:basic", "stock:", ":basic"])
def test_malformed_sampler(text):
    with pytest.raises(ConfigurationError, match="is malformed"):
        SamplerChoice.parse(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "seeds must be a whole number of at least 1, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"eval_every": -1}, "eval_every must be"),
        ({"patience": True}, "patience must be"),
        ({"datasets": []}, "datasets: none is given"),
        ({"samplers": []}, "samplers: none is given"),
        ({"model": None}, "model: none is given"),
        ({"vocabulary": "some"}, "vocabulary must be 'training' or 'all', got 'some'"),
        ({"datasets": ["a/x", "b/x"]}, "dataset 'x' is given twice"),
        ({"samplers": ["basic", "basic"]}, r"sampler 'basic' is given twice; tell them apart by labels"),
        ({"sampler": ["basic"]}, "configuration: key 'sampler' is not known; did you mean samplers"),
        ({"model_kwargs": 3}, "model_kwargs has a value of the wrong type: 3"),
        ({"samplers": {"basic": {"kwargs": {}}}}, r"samplers.basic: key 'kwargs' is not known"),
        ({"samplers": "basic"}, "samplers has a value of the wrong type"),
    ],
)
def test_configuration_errors(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        make(**changes)


def test_default_frequency_is_twenty_times_a_run():
    assert make(eval_every=None, epochs=100).frequency == 5
    assert make(eval_every=None, epochs=7).frequency == 1


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_config_file(tmp_path, suffix):
    path = tmp_path / f"config{suffix}"
    path.write_text('{"model": "transe", "optimizer_kwargs": {"lr": 0.1}}')
    assert read_config(path) == {"model": "transe", "optimizer_kwargs": {"lr": 0.1}}


@pytest.mark.parametrize(("name", "text"), [("a.json", "{"), ("a.yaml", "a: [1"), ("a.yaml", "- 1"), ("b.json", None)])
def test_bad_config_file(tmp_path, name, text):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=r"^config .*(cannot be read|wrong type)"):
        read_config(tmp_path / name)


def test_config_file_runs_no_code(tmp_path):
    (tmp_path / "evil.yaml").write_text(f"a: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_config(tmp_path / "evil.yaml")
    assert not (tmp_path / "made").exists()


def test_options_win_over_file_and_file_over_defaults():
    settings = {
        "optimizer_kwargs": {"lr": 0.5, "weight_decay": 0.1},
        "training_kwargs": {"batch_size": 7},
        "loss": "nssa",
    }
    result = override(settings, {"optimizer_kwargs.lr": 0.25, "loss": None, "model": "transe"})
    assert result["optimizer_kwargs"] == {"lr": 0.25, "weight_decay": 0.1}
    assert result["training_kwargs"] == {"batch_size": 7}
    assert (result["loss"], result["model"], result["optimizer"]) == ("nssa", "transe", "adam")
    assert settings["optimizer_kwargs"]["lr"] == 0.5


def test_sampler_options_are_laid_over_the_file():
    result = choose_samplers(
        {"samplers": {**KBGAN, "basic": None}},
        ["kbgan", "other=kbgan"],
        ['kbgan:{"generator":"complex"}', 'other:{"temperature": 2.0}'],
        ['other:{"pretraining_epochs": 1}'],
    )["samplers"]
    assert list(result) == ["kbgan", "other"]
    assert result["kbgan"]["negative_sampler_kwargs"] == {"num_candidates": 5, "generator": "complex"}
    assert result["other"]["negative_sampler"] == "kbgan"
    assert result["other"]["negative_sampler_kwargs"] == {"temperature": 2.0}
    assert result["other"]["training_loop_kwargs"] == {"pretraining_epochs": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kbgan", "is malformed"),
        ("kbgan:{", "not valid JSON"),
        ("kbgan:{'a': 1}", "not valid JSON"),
        ("kbgam:{}", "did you mean kbgan"),
    ],
)
def test_keyed_json_errors(text, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_keyed_json("--sampler-kwargs", [text], ["kbgan", "stock:basic"])


def test_keyed_json_of_a_stock_sampler():
    assert parse_keyed_json("--sampler-kwargs", ['stock:basic:{"filtered": true}'], ["stock:basic"]) == {
        "stock:basic": {"filtered": True}
    }


# --- preflight


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "transee"}, "model 'transee' is not known; did you mean transe"),
        ({"samplers": ["bernouli"]}, "sampler 'bernouli' is not known; did you mean bernoulli"),
        ({"loss": "nsa"}, "loss 'nsa' is not known; did you mean nssa"),
        ({"optimizer": "adan"}, "optimizer 'adan' is not known; did you mean adam"),
        ({"samplers": {"basic": {"training_loop": "lcwa"}}}, "draws no negatives"),
        ({"training_kwargs": {"batch": 3}}, "training_kwargs: key 'batch' is not known; did you mean batch_size"),
        ({"training_kwargs": {"num_epochs": 3}}, "training_kwargs.num_epochs cannot be set here; use --epochs"),
        ({"optimizer_kwargs": {"lr": -1.0}}, "--lr -1.0 must be positive"),
        ({"training_kwargs": {"batch_size": 0}}, "--batch-size 0 must be a whole number, at least 1"),
        ({"negative_sampler_kwargs": {"num_negs_per_pos": 0}}, "--negatives 0 must be"),
        ({"model_kwargs": {"embedding_dim": 0}}, "--dim 0 must be"),
        ({"samplers": {"kbgan": {"training_loop": "slcwa"}}}, "'kbgan' works with the model .* leave 'stock:' out"),
        (
            {"epochs": 3, "samplers": {"kbgan": {"training_loop_kwargs": {"pretraining_epochs": 3}}}},
            "pretraining_epochs 3 of sampler 'kbgan' leave none of the 3 epochs",
        ),
    ],
)
def test_names_are_checked(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        check_names(make(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_kwargs": {"embedding_dims": 3}}, "model 'transe' cannot be built: .*embedding_dims"),
        ({"optimizer": "adamw"}, "optimizer 'AdamW' does not work in PyKEEN.*decoupled_weight_decay; use another"),
        ({"loss_kwargs": {"margn": 1.0}}, "model 'transe' cannot be built: .*margn"),
        (
            {"samplers": {"kbgan": {"negative_sampler_kwargs": {"num_candidates": -1}}}},
            "sampler 'kbgan' cannot be built",
        ),
        ({"samplers": {"basic": {"negative_sampler_kwargs": {"x": 1}}}}, "sampler 'basic' cannot be built: .*'x'"),
        ({"samplers": {"basic": {"training_loop_kwargs": {"x": 1}}}}, "sampler 'basic' cannot be built: .*'x'"),
    ],
)
def test_parts_are_checked(nations, changes, message):
    comparison = make(**changes)
    check_names(comparison)
    with pytest.raises(ConfigurationError, match=message):
        check_parts(comparison, nations["nations"])


# --- files


def test_half_written_lines_are_ignored_and_not_continued(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, {"a": 1})
    with path.open("ab") as file:
        file.write(b'{"a": 2, "b')
    append_line(path, {"a": 3}, sync=True)
    assert read_lines(path) == [{"a": 1}, {"a": 3}]
    assert read_lines(tmp_path / "none") == []


def test_another_configuration_is_refused_and_named(tmp_path, nations):
    train(make(seeds=1, epochs=1), nations, tmp_path)
    with (
        pytest.raises(
            ConfigurationError, match=r"epochs is 1 there and 2 here; optimizer_kwargs.lr is 0.01 there and 0.5"
        ),
        RunStore(tmp_path).claimed(make(seeds=1, epochs=2, optimizer_kwargs={"lr": 0.5}).to_mapping()),
    ):
        pass
    changed = make(seeds=1, epochs=1, samplers={"bernoulli": {"negative_sampler_kwargs": {"num_negs_per_pos": 2}}})
    with (
        pytest.raises(ConfigurationError, match=r"samplers.bernoulli.negative_sampler_kwargs.num_negs_per_pos"),
        RunStore(tmp_path).claimed(changed.to_mapping()),
    ):
        pass


def test_a_comparison_grows(tmp_path, nations):
    train(make(seeds=1, epochs=1, samplers=["basic"]), nations, tmp_path)
    records = train(make(seeds=2, epochs=1, samplers=["bernoulli"]), nations, tmp_path)
    assert [(record["sampler"], record["seed"]) for record in records] == [
        ("basic", 0), ("bernoulli", 0), ("bernoulli", 1),
    ]  # fmt: skip
    config = RunStore(tmp_path).read_config()
    assert (list(config["samplers"]), config["seeds"]) == (["basic", "bernoulli"], 2)


def test_force_sets_results_aside(tmp_path, nations):
    train(make(seeds=1, epochs=1, samplers=["basic"]), nations, tmp_path)
    before = (tmp_path / "runs.jsonl").read_bytes()
    store = RunStore(tmp_path)
    with store.claimed(make(seeds=1, epochs=2, samplers=["basic"]).to_mapping(), force=True):
        assert store.finished() == {}
    assert (tmp_path / "runs.1.jsonl").read_bytes() == before
    assert json.loads((tmp_path / "config.1.json").read_text())["epochs"] == 1
    assert json.loads((tmp_path / "config.json").read_text())["epochs"] == 2


def test_a_folder_without_results_is_free(tmp_path):
    for epochs in (1, 2):
        with RunStore(tmp_path).claimed(make(epochs=epochs).to_mapping()):
            pass
    assert RunStore(tmp_path).read_config()["epochs"] == 2


def test_two_processes_in_one_folder(tmp_path):
    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(ConfigurationError, match="another process is at work"),
        RunStore(tmp_path).claimed(make().to_mapping()),
    ):
        pass


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigurationError, match="cannot be written"),
        RunStore(tmp_path / "file" / "out").claimed(make().to_mapping()),
    ):
        pass


@pytest.mark.parametrize("stock", [False, True])
def test_damaged_checkpoint_is_dropped(tmp_path, stock):
    store = RunStore(tmp_path)
    store.unfinished.mkdir()
    path = store.checkpoint("x")
    path = path if stock else path.with_name(own_name(path.name))
    torch.save({"a": torch.zeros(9)}, path)
    assert store.can_resume("x", stock)
    path.write_bytes(path.read_bytes()[:-40])
    store.curve("x").touch()
    assert not store.can_resume("x", stock)
    assert not any(store.unfinished.iterdir())


# --- learning curves


def test_curve_of_a_resumed_run(tmp_path):
    path, seen = tmp_path / "curve.jsonl", []
    tracker = CurveTracker(path, resume=False, on_epoch=seen.append)
    for epoch, loss in ((1, 3.0), (2, 9.0)):
        tracker.log_metrics({"seconds": 2.0}, step=epoch, prefix="training")
        tracker.log_metrics({"both.realistic.inverse_harmonic_mean_rank": 0.5}, step=epoch, prefix="validation")
        tracker.log_metrics({"loss": loss}, step=epoch)
        tracker.log_metrics({"unrelated": 1.0}, step=epoch)
    tracker.log_metrics({"loss": 7.0})  # belongs to no epoch
    # the second epoch is trained again
    tracker = CurveTracker(path, resume=True, on_epoch=seen.append)
    tracker.log_metrics({"seconds": 4.0}, step=2, prefix="training")
    tracker.log_metrics({"loss": 2.0}, step=2)
    tracker.log_metrics({"entropy": 0.25}, step=2, prefix="sampler")
    assert tracker.curve(last_epoch=2) == [
        {"epoch": 1, "mrr": 0.5, "loss": 3.0, "seconds": 2.0},
        {"epoch": 2, "mrr": 0.5, "loss": 2.0, "sampler.entropy": 0.25, "seconds": 6.0},
    ]
    assert tracker.sessions() == 2
    assert tracker.wall_seconds() < 60
    # rows with a loss, each time they grow
    assert [row["epoch"] for row in seen] == [1, 2, 2, 2, 2]
    # a run that starts anew
    assert CurveTracker(path, resume=False, on_epoch=seen.append).curve(1) == [{"epoch": 1, "seconds": 0.0}]


def test_wall_time_leaves_out_the_time_between_processes(tmp_path):
    path = tmp_path / "curve.jsonl"
    start = time.time() - 1000
    for line in ({"session": start}, {"epoch": 1, "time": start + 7}, {"session": start + 900}):
        append_line(path, line)
    append_line(path, {"epoch": 2, "time": start + 910})
    assert CurveTracker(path, resume=True, on_epoch=lambda _: None).wall_seconds() == pytest.approx(17, abs=0.5)


def test_clock_counts_batches_and_not_what_comes_after(monkeypatch):
    now = itertools.count(start=0.0, step=10.0)
    monkeypatch.setattr("pykeen_advneg.comparison.tracking.time.perf_counter", lambda: next(now))

    class Loop:
        logged: list = []  # noqa: RUF012

        class result_tracker:  # noqa: N801
            @staticmethod
            def log_metrics(metrics, step, prefix):
                Loop.logged.append((metrics["seconds"], step, prefix))

    clock = EpochClock()
    clock.register_training_loop(Loop)
    for epoch in (1, 2):
        clock.pre_batch()
        clock.pre_batch()
        clock.post_epoch(epoch=epoch, epoch_loss=0.0)
    assert Loop.logged == [(10.0, 1, "training"), (10.0, 2, "training")]


# --- training


def test_samplers_take_turns(nations):
    runs = plan(make(), nations)
    assert [(run.sampler.label, run.seed) for run in runs] == [
        ("bernoulli", 0), ("stock:basic", 0), ("bernoulli", 1), ("stock:basic", 1),
    ]  # fmt: skip
    assert len({run.hash for run in runs}) == 4
    assert {run.hash for run in runs} == {run.hash for run in plan(make(), nations)}
    assert not {run.hash for run in runs} & {run.hash for run in plan(make(epochs=4), nations)}


def test_other_data_is_another_run(nations):
    umls = get_dataset(dataset="umls")
    comparison = make()
    assert not {run.hash for run in plan(comparison, nations)} & {
        run.hash for run in plan(comparison, {"nations": umls})
    }


def test_record_and_no_second_training(tmp_path, nations, monkeypatch):
    comparison = make(samplers={**KBGAN, "stock:basic": None})
    records = train(comparison, nations, tmp_path)
    assert len(records) == 4
    for record in records:
        assert record["config"]["random_seed"] == record["seed"]
        assert set(record["versions"]) == {"python", "torch", "pykeen", "pykeen-advneg"}
        assert [row["epoch"] for row in record["curve"]] == [1, 2, 3]
        # every second epoch and the last one
        assert ["mrr" in row for row in record["curve"]] == [False, True, True]
        assert (record["epochs"], record["selected_epoch"], record["sessions"]) == (3, 3, 1)
        seconds = [row["seconds"] for row in record["curve"]]
        assert 0 < seconds[0] < seconds[1] < seconds[2] == record["training_seconds"] < record["wall_seconds"]
    assert any(key.startswith("sampler.") for key in records[0]["curve"][0])
    assert not any((tmp_path / "unfinished").iterdir())
    monkeypatch.setattr("pykeen_advneg.comparison.compare.pipeline", lambda **_: pytest.fail("trained again"))
    assert train(comparison, nations, tmp_path) == records


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["bernoulli", "stock:bernoulli"])
def test_metrics_are_those_of_a_plain_pipeline(tmp_path, nations, sampler):
    record = train(make(seeds=1, samplers=[sampler]), nations, tmp_path)[0]
    result = pipeline(
        dataset=nations["nations"],
        model="transe",
        model_kwargs={"embedding_dim": 8},
        optimizer="adam",
        optimizer_kwargs={"lr": 0.01},
        negative_sampler="bernoulli",
        training_loop="slcwa" if sampler.startswith("stock") else "adversarial",
        evaluator=RankBasedEvaluator,
        epochs=3,
        random_seed=0,
        use_tqdm=False,
    )
    for name, metric in {
        "mrr": "both.realistic.inverse_harmonic_mean_rank",
        "hits_at_10": "both.realistic.hits_at_10",
    }.items():
        assert record["test"][name] == pytest.approx(result.metric_results.get_metric(metric), abs=1e-6)
    assert [row["loss"] for row in record["curve"]] == pytest.approx(result.losses)
    validation = RankBasedEvaluator().evaluate(
        model=result.model,
        mapped_triples=nations["nations"].validation.mapped_triples,
        additional_filter_triples=nations["nations"].training.mapped_triples,
        use_tqdm=False,
    )
    expected = validation.get_metric("both.realistic.inverse_harmonic_mean_rank")
    assert record["curve"][-1]["mrr"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_emu_beside_its_base(tmp_path, nations):
    """The negatives are the same in number, the base is trained by the loss of the model, EMU by its own."""
    comparison = make(
        samplers={"shared": None, "emu": {"negative_sampler_kwargs": {"base": "shared"}}},
        negative_sampler_kwargs={"num_negs_per_pos": 8},
        model="distmult",
        loss="crossentropy",
        seeds=1,
    )
    check_names(comparison)
    check_parts(comparison, nations["nations"])
    shared, emu = train(comparison, nations, tmp_path)
    assert [run["sampler"] for run in (shared, emu)] == ["shared", "emu"]
    assert [run["config"]["negative_sampler_kwargs"] for run in (shared, emu)] == [
        {"num_negs_per_pos": 8},
        {"num_negs_per_pos": 8, "base": "shared"},
    ]
    assert all(0 < run["test"]["mrr"] <= 1 for run in (shared, emu))
    # the cross-entropy of 1 among 9, and (1 + 8 * 0.53) / 8 + 0.11 times as much: both at the start of training
    losses = [run["curve"][0]["loss"] for run in (shared, emu)]
    assert losses == [pytest.approx(math.log(9), rel=0.05), pytest.approx((5.24 / 8 + 0.11) * math.log(9), rel=0.05)]


@pytest.mark.parametrize(("patience", "stops"), [(1, True), (50, False)])
@pytest.mark.parametrize("sampler", ["bernoulli", "stock:bernoulli"])
def test_early_stopping_selects_the_best_epoch(tmp_path, nations, sampler, patience, stops):
    changes = {"seeds": 1, "samplers": [sampler], "epochs": 12, "eval_every": 1, "optimizer_kwargs": {"lr": 0.1}}
    record = train(make(**changes, early_stopping=True, patience=patience), nations, tmp_path / "a")[0]
    assert (record["epochs"] < 12) is stops
    mrr = [row["mrr"] for row in record["curve"]]
    assert record["selected_epoch"] == mrr.index(max(mrr)) + 1 < record["epochs"]
    # the same result as stopping there by foresight
    twin = train(make(**{**changes, "epochs": record["selected_epoch"]}), nations, tmp_path / "b")[0]
    assert twin["curve"][-1]["mrr"] == max(mrr)
    assert twin["test"] == record["test"]


def test_a_failing_run_does_not_cost_the_others(tmp_path, nations, monkeypatch):
    def sometimes(run, *args):
        if run.seed == 0:
            raise RuntimeError("diverged")
        return train_run(run, *args)

    store, comparison = RunStore(tmp_path), make(samplers=["basic"], epochs=1)
    with store.claimed(comparison.to_mapping()), monkeypatch.context() as patch:
        patch.setattr("pykeen_advneg.comparison.compare.train_run", sometimes)
        assert compare(comparison, nations, store) == ["nations / basic / seed 0: RuntimeError: diverged"]
    assert [record["seed"] for record in store.finished().values()] == [1]
    assert sorted(record["seed"] for record in train(comparison, nations, tmp_path)) == [0, 1]


# --- kill and resume


def without_time(record: dict) -> dict:
    curve = [{key: value for key, value in row.items() if key != "seconds"} for row in record["curve"]]
    keys = ("run", "test", "epochs", "selected_epoch", "config")
    return {**{key: record[key] for key in keys}, "curve": curve}


def kill_in_the_middle(command: list[str], store: RunStore, epochs: int) -> None:
    """Start a comparison, wait until this process has trained so many epochs, and kill it."""
    before = sum(len(read_lines(path)) for path in store.unfinished.glob("*.jsonl"))
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    finished, deadline = len(store.finished()), time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        lines = sum(len(read_lines(path)) for path in store.unfinished.glob("*.jsonl"))
        if lines > before + 3 * epochs or len(store.finished()) > finished:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the comparison ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_comparison_goes_on_where_it_was(tmp_path):
    options = "--dataset nations --model transe --sampler kbgan --sampler stock:bernoulli --seeds 2 --epochs 25 -q"
    options += " --eval-every 1 --dim 8 --lr 0.01 --config"
    (tmp_path / "config.json").write_text(json.dumps({"samplers": KBGAN}))
    command = [
        sys.executable,
        "-m",
        "pykeen_advneg",
        "compare",
        *options.split(),
        str(tmp_path / "config.json"),
        "--out",
    ]
    unbroken, killed = RunStore(tmp_path / "unbroken"), RunStore(tmp_path / "killed")
    subprocess.run([*command, str(unbroken.folder)], check=True)
    for epochs in (5, 9):
        kill_in_the_middle([*command, str(killed.folder)], killed, epochs)
    subprocess.run([*command, str(killed.folder)], check=True)
    assert {key: without_time(record) for key, record in killed.finished().items()} == {
        key: without_time(record) for key, record in unbroken.finished().items()
    }
    # each run is there once, at least one was resumed, and none was trained from its start again
    assert len(read_lines(killed.runs)) == 4
    assert max(record["sessions"] for record in killed.finished().values()) > 1
    assert not any(killed.unfinished.iterdir())
    for record in killed.finished().values():
        assert all(math.isfinite(row["loss"]) for row in record["curve"])

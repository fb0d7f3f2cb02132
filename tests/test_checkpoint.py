"""Checkpoints: a killed run goes on as if nothing had happened, and a damaged file is never believed."""

from __future__ import annotations

import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import assert_same, differs, make_loop, make_model, make_stopper, state_of, train, umls
from pykeen.pipeline import pipeline
from pykeen.training.training_loop import CheckpointMismatchError

from pykeen_advneg.checkpoint import (
    get_random_state,
    load_checkpoint,
    load_weights,
    preserved_random_state,
    previous_path,
    recover,
    save_checkpoint,
    set_random_state,
)
from pykeen_advneg.errors import CheckpointError, ConfigurationError

PAYLOAD = {"weights": torch.arange(4096, dtype=torch.float32), "epoch": 3, "nested": {"list": [1.5, None, "x"]}}


class Malice:
    """Its unpickling would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


# --- files -----------------------------------------------------------------------------------------------------------


def test_round_trip_keeps_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "checkpoint.pt"
    save_checkpoint({"epoch": 1}, path)
    save_checkpoint(PAYLOAD, path)
    assert_same(load_checkpoint(path), PAYLOAD)
    assert load_checkpoint(previous_path(path)) == {"epoch": 1}
    assert sorted(p.name for p in path.parent.iterdir()) == ["checkpoint.pt", "checkpoint.pt.previous"]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"epoch": 1}, path)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        save_checkpoint({"epoch": lambda: 2}, path)
    assert load_checkpoint(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.9, -1])
def test_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(PAYLOAD, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))] if isinstance(keep, float) else data[:keep])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt' is damaged"):
        load_checkpoint(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bit_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A bit in the padding or in a time stamp carries nothing; no other may pass."""
    path = tmp_path_factory.mktemp("flip") / "checkpoint.pt"
    save_checkpoint(PAYLOAD, path)
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        loaded = load_checkpoint(path)
    except CheckpointError:
        return
    assert_same(loaded, PAYLOAD)


def test_file_with_code_is_refused(tmp_path: Path) -> None:
    path, mark = tmp_path / "checkpoint.pt", tmp_path / "executed"
    torch.save({"model_state_dict": Malice(mark)}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="could run code"):
        load_weights(path, make_model())
    assert not mark.exists()


def test_recover_takes_the_previous_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"epoch": 1}, path)
    save_checkpoint({"epoch": 2}, path)
    path.write_bytes(path.read_bytes()[:-30])
    with caplog.at_level(logging.WARNING):
        recover(path)
    assert "is damaged" in caplog.text
    assert "checkpoint before it" in caplog.text
    assert load_checkpoint(path) == {"epoch": 1}
    assert (tmp_path / "checkpoint.pt.damaged").is_file()


def test_a_checkpoint_stands_there_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between keeping the old one and putting the new one in its place."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"epoch": 1}, path)
    seen = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        seen.append(load_checkpoint(path))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    save_checkpoint({"epoch": 2}, path)
    assert seen == [{"epoch": 1}, {"epoch": 1}]
    assert load_checkpoint(path) == {"epoch": 2}
    assert load_checkpoint(previous_path(path)) == {"epoch": 1}


def test_deleting_the_checkpoint_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"epoch": 1}, path)
    save_checkpoint({"epoch": 2}, path)
    path.unlink()
    recover(path)
    assert list(tmp_path.iterdir()) == []


def test_foreign_file_is_refused_whatever_stands_before_it(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"epoch": 1}, path)
    save_checkpoint({"epoch": 2}, path)
    torch.save({"model": Malice(tmp_path / "executed")}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        recover(path)
    assert load_checkpoint(previous_path(path)) == {"epoch": 1}


def test_recover_with_nothing_left(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    recover(path)
    assert not path.exists()
    path.write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="delete the file to start anew"):
        recover(path)


def test_weights_from_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "weights.safetensors"
    safetensors.save_file({"weight": torch.ones(1, 3)}, path)
    module = torch.nn.Linear(3, 1, bias=False)
    assert_same(load_weights(path, module), {"weight": torch.ones(1, 3)})
    with pytest.raises(ConfigurationError, match=r"'weight' has the shape \(1, 3\) there, and \(1, 4\) here"):
        load_weights(path, torch.nn.Linear(4, 1, bias=False))


def test_weights_must_be_tensors(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    save_checkpoint({"a": 1}, path)
    with pytest.raises(ConfigurationError, match="no state dictionary of tensors"):
        load_weights(path, make_model())


def test_random_state_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint(get_random_state(), path)
    expected = random.random(), np.random.rand(), torch.rand(3)
    set_random_state(load_checkpoint(path))
    assert_same((random.random(), np.random.rand(), torch.rand(3)), expected)
    with preserved_random_state():
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), inside)


# --- runs ------------------------------------------------------------------------------------------------------------

CASES: dict[str, dict[str, Any]] = {
    "kbgan": {},
    "kbgan with a moving baseline": {"sampler_kwargs": {"baseline": "moving", "num_negs_per_pos": 2}},
    "scheduler": {"lr_scheduler": "cosineannealing", "lr_scheduler_kwargs": {"T_max": 6}},
    "pre-training": {"pretraining_epochs": 3},
    "basic": {"sampler": "basic"},
    "warm-up scheduler": {"lr_scheduler": "linear"},
    "plain gradient descent": {"optimizer": "sgd"},
    "filtered": {"sampler_kwargs": {"filtered": True, "filterer": "exact"}},
}


def checkpointed(folder: Path, **kwargs: Any) -> dict[str, Any]:
    return {"checkpoint_directory": folder, "checkpoint_name": "run.pt", "checkpoint_frequency": 0, **kwargs}


@pytest.mark.parametrize(
    ("case", "stop"),
    [
        pytest.param(case, stop, marks=[] if (case, stop) == ("scheduler", 4) else pytest.mark.slow)
        for case in CASES
        for stop in (1, 4)
    ],
)
def test_resumed_run_equals_unbroken_run(tmp_path: Path, case: str, stop: int) -> None:
    unbroken = make_loop(**CASES[case])
    losses = train(unbroken, 6)
    train(make_loop(**CASES[case]), stop, **checkpointed(tmp_path))
    resumed = make_loop(**CASES[case])
    assert train(resumed, 6, seed=99, **checkpointed(tmp_path)) == losses
    assert_same(state_of(resumed), state_of(unbroken))


def test_resuming_with_a_damaged_checkpoint(tmp_path: Path) -> None:
    unbroken = make_loop()
    losses = train(unbroken, 5)
    train(make_loop(), 3, **checkpointed(tmp_path))
    path = tmp_path / "run.advneg.pt"
    path.write_bytes(path.read_bytes()[:-100])
    resumed = make_loop()
    assert train(resumed, 5, seed=99, **checkpointed(tmp_path)) == losses
    assert_same(state_of(resumed), state_of(unbroken))


@pytest.mark.slow
@pytest.mark.parametrize(("patience", "pretraining_epochs"), [(3, 0), (100, 0), (2, 3)])
def test_best_epoch_survives_resuming(tmp_path: Path, patience: int, pretraining_epochs: int) -> None:
    """PyKEEN looks for the best weights in a file of the dead process."""
    kwargs: dict[str, Any] = {"optimizer_kwargs": {"lr": 0.5}, "pretraining_epochs": pretraining_epochs}
    unbroken = make_loop(**kwargs)
    stopper = make_stopper(unbroken, patience=patience, relative_delta=0.0)
    losses = train(unbroken, 8, stopper=stopper)
    assert stopper.best_epoch is not None
    assert stopper.best_epoch > pretraining_epochs
    assert len(losses) > pretraining_epochs + 1
    for stop in (2, len(losses) - 1):
        folder = tmp_path / str(stop)
        first = make_loop(**kwargs)
        train(first, stop, stopper=make_stopper(first, patience=patience, relative_delta=0.0), **checkpointed(folder))
        resumed = make_loop(**kwargs)
        again = make_stopper(resumed, patience=patience, relative_delta=0.0)
        assert train(resumed, 8, seed=99, stopper=again, **checkpointed(folder)) == losses
        assert again.get_summary_dict() == stopper.get_summary_dict()
        assert_same(resumed.model.state_dict(), unbroken.model.state_dict())
        assert resumed._sampler is not None
        assert unbroken._sampler is not None
        assert_same(resumed._sampler.state_dict(), unbroken._sampler.state_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"sampler_kwargs": {"num_candidates": 10}},
        {"sampler": "basic"},
        {"pretraining_epochs": 1},
        {"model_kwargs": {"embedding_dim": 9}},
        {"model_kwargs": {"loss": "marginranking", "loss_kwargs": {"margin": 2.0}}},
        {"optimizer_kwargs": {"lr": 0.02}},
        {"lr_scheduler": "exponential", "lr_scheduler_kwargs": {"gamma": 0.5}},
    ],
)
def test_other_configuration_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    train(make_loop(), 1, **checkpointed(tmp_path))
    change = dict(change)
    model = make_model(**change.pop("model_kwargs", {}))
    with pytest.raises(CheckpointMismatchError, match=r"written with another .* there, .* here. Choose another"):
        train(make_loop(model=model, **change), 2, **checkpointed(tmp_path))


def run_pipeline(folder: Path, num_epochs: int) -> Any:
    return pipeline(
        dataset=umls(),
        model="transe",
        model_kwargs={"embedding_dim": 8},
        training_loop="adversarial",
        negative_sampler="kbgan",
        training_kwargs=dict(num_epochs=num_epochs, batch_size=1024, use_tqdm=False, **checkpointed(folder)),
        evaluation_kwargs=dict(use_tqdm=False),
        random_seed=0,
    )


@pytest.mark.parametrize("damage", ["none", "truncated", "empty", "flipped", "code"])
def test_resuming_through_the_pipeline(tmp_path: Path, damage: str) -> None:
    """PyKEEN's pipeline would unpickle the file before the loop is asked, if it stood under the name it was given."""
    losses = run_pipeline(tmp_path / "unbroken", 3).losses
    run_pipeline(tmp_path, 2)
    path, mark = tmp_path / "run.advneg.pt", tmp_path / "executed"
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flipped":
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
    elif damage == "code":
        torch.save({"random_seed": Malice(mark)}, path)
        with pytest.raises(CheckpointError, match="could run code"):
            run_pipeline(tmp_path, 3)
        assert not mark.exists()
        return
    assert run_pipeline(tmp_path, 3).losses == losses


def test_any_name_will_do(tmp_path: Path) -> None:
    """PyKEEN uses this name for a file of its own, which is not written."""
    train(make_loop(), 1, **checkpointed(tmp_path, checkpoint_name="best_model.pt"))
    assert (tmp_path / "best_model.advneg.pt").is_file()


def test_hosts_checkpoint_is_refused(tmp_path: Path) -> None:
    from pykeen.training import SLCWATrainingLoop

    loop = SLCWATrainingLoop(model=make_model(), triples_factory=umls().training, optimizer="adam")
    loop.train(umls().training, num_epochs=1, use_tqdm=False, batch_size=1024, **checkpointed(tmp_path))
    with pytest.raises(CheckpointError, match="another training loop"):
        train(make_loop(), 2, **checkpointed(tmp_path))


SCRIPT = """
import sys, logging
logging.disable(logging.CRITICAL)
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from loops import make_loop, train, state_of
from pykeen.training import TrainingCallback
class Tick(TrainingCallback):
    def post_batch(self, epoch, batch, **kwargs):
        print("batch", epoch, flush=True)
loop = make_loop(lr_scheduler="exponential", lr_scheduler_kwargs=dict(gamma=0.9))
where = dict(checkpoint_directory={folder!r}, checkpoint_name="run.pt", checkpoint_frequency=0)
losses = train(loop, 6, callbacks=Tick(), **where)
torch.save(dict(losses=losses, **state_of(loop)), {folder!r} + "/result.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_killed_at_any_batch(tmp_path: Path, seed: int) -> None:
    """SIGKILL, twice in one run, at batches drawn at random."""
    unbroken = make_loop(lr_scheduler="exponential", lr_scheduler_kwargs={"gamma": 0.9})
    losses = train(unbroken, 6)
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    generator = random.Random(seed)
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(generator.randint(3, 14)):
                process.stdout.readline()
            time.sleep(generator.random() * 0.02)
            os.kill(process.pid, signal.SIGKILL)
        if (tmp_path / "result.pt").exists():
            break
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    result = torch.load(tmp_path / "result.pt", weights_only=True)
    assert result.pop("losses") == losses
    assert_same(result, state_of(unbroken))
    assert not differs(result, state_of(unbroken))

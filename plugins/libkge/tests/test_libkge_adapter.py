"""The training job, without LibKGE: against stand-ins for what it uses; test_libkge_jobs.py has the real one."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import libkge_standins as standins
import pytest
import torch
from libkge_cases import (
    EMU,
    KBGAN,
    MMRNS,
    make_job,
    options,
    same,
    states,
)

from pykeen_advneg.errors import ConfigurationError


@pytest.mark.parametrize(
    "given",
    [
        dict(sampler="shared", num_samples=4, sampler_args=dict(chunk_size=4)),
        dict(sampler="shared", num_samples=4, filtered=True, train__loss="bce"),
        dict(sampler="basic", num_samples=4),
        dict(sampler="bernoulli", num_samples=1, train__loss="se"),
        KBGAN,
        EMU,
        dict(sampler="emu", sampler_args=dict(base="kbgan", base_kwargs=dict(num_candidates=5))),
        dict(sampler="emu", sampler_args=dict(objective="host"), train__loss="bce"),
        dict(sampler="dans", num_samples=2),
    ],
    ids=lambda given: "-".join(map(str, [given["sampler"], *given.get("sampler_args", {})])),
)
@pytest.mark.parametrize("model", ["transe", "complex"])
def test_training(jobs: Any, given: dict[str, Any], model: str) -> None:
    """Model and networks are trained, and stay finite; what a sampler says is in the trace."""
    job = make_job(jobs, model, **given)
    before = copy.deepcopy(job.model.state_dict())
    networks = copy.deepcopy(list(job.sampler.parameters()))
    entries = job.train(3)
    assert all(not torch.equal(value, before[key]) for key, value in job.model.state_dict().items())
    assert all(torch.isfinite(x).all() for x in states(job))
    assert [entry["batches"] for entry in entries] == [4, 4, 4]
    for one, other in zip(networks, job.sampler.parameters(), strict=True):
        assert not torch.equal(one, other)
    if given is KBGAN:
        assert {"sampler_reward", "sampler_entropy"} <= set(entries[-1])
        assert entries[1]["sampler_baseline"] == pytest.approx(entries[0]["sampler_reward"])


def test_loss_of_a_batch(jobs: Any) -> None:
    """The loss of an epoch and the update, by hand: a softmax over each positive and its negatives."""
    job = make_job(jobs, "distmult", sampler="basic", num_samples=3, train__batch_size=60)
    twin = copy.deepcopy(job.model)
    drawn: list[Any] = []
    draw = job.binding.draw
    job.binding.draw = lambda positives: drawn.append(draw(positives)) or drawn[-1]
    (entry,) = job.train(1)
    every = torch.cat([drawn[0].negatives.positives.unsqueeze(1), drawn[0].negatives.triples], dim=1)
    loss = -twin.score_spo(*every.view(-1, 3).unbind(-1)).view(60, 4).log_softmax(dim=1)[:, 0].mean()
    assert entry["avg_loss"] == pytest.approx(loss.item(), rel=1e-5)
    optimizer = standins.KgeOptimizer.create(job.config, twin)
    loss.backward()
    optimizer.step()
    for one, other in zip(twin.parameters(), job.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


#: without masks, which are drawn for what is scored at once
LABELS = dict(sampler="emu", num_samples=4, sampler_args=dict(variant="labels_only"))


@pytest.mark.parametrize("given", [KBGAN, LABELS, dict(num_samples=4, sampler_args=dict(chunk_size=4))])
def test_sub_batches(jobs: Any, given: dict[str, Any]) -> None:
    entries, trained = [], []
    for size in (-1, 5):
        trained.append(make_job(jobs, train__subbatch_size=size, **given))
        entries.append(trained[-1].train(2)[1])
    assert entries[0]["avg_loss"] == pytest.approx(entries[1]["avg_loss"], rel=1e-4)
    assert same(*trained)


def test_reciprocal_training(jobs: Any) -> None:
    job = make_job(jobs, kind=standins.Reciprocal, **KBGAN)
    before = job.model.get_p_embedder().embed_all().detach().clone()
    job.train(2)
    assert (job.model.get_p_embedder().embed_all() != before).all(), "both directions are trained"
    with pytest.raises(ConfigurationError, match="generates representations"):
        make_job(jobs, kind=standins.Reciprocal, sampler="dans").train(1)


@pytest.mark.parametrize("given", [KBGAN, EMU, dict(sampler="basic", num_samples=2)])
def test_resumed_is_unbroken(jobs: Any, given: dict[str, Any], tmp_path: Path) -> None:
    unbroken = make_job(jobs, **given)
    unbroken.train(4)
    killed = make_job(jobs, **given)
    killed.train(2)
    killed.save(str(tmp_path / "checkpoint_00002.pt"))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_00002.pt"]
    resumed = make_job(jobs, seed=7, **given)
    # a file of our own making, which LibKGE pickles
    resumed._load(torch.load(tmp_path / "checkpoint_00002.pt", weights_only=False))
    resumed.train(4)
    assert all(torch.equal(a, b) for a, b in zip(states(unbroken), states(resumed), strict=True))


def test_resuming_with_another_sampler(jobs: Any) -> None:
    saved = make_job(jobs, **KBGAN).save_to({})
    with pytest.raises(ConfigurationError, match=r"'kbgan'.*'emu'"):
        make_job(jobs, **EMU)._load(saved)
    other = {**KBGAN, "sampler_args": dict(num_candidates=6)}
    with pytest.raises(ConfigurationError, match="num_candidates"):
        make_job(jobs, **other)._load(saved)
    del saved["advneg"]
    job = make_job(jobs, **KBGAN)
    job._load(saved)
    assert "starts anew" in job.config.messages[-1]


@pytest.mark.parametrize("size", [-1, 5])
def test_forward_only(jobs: Any, size: int) -> None:
    """It computes the loss by the sampler in training, and changes nothing."""
    job = make_job(jobs, **KBGAN)
    job.train(1)
    before = copy.deepcopy(states(job))
    config = standins.Config(options(train__subbatch_size=size, **KBGAN))

    class Evaluation:
        parent_job = job

    other = jobs.TrainingJobAdvnegNegativeSampling(config, job.dataset, Evaluation(), job.model, forward_only=True)
    other._prepare()
    assert other.sampler is job.sampler
    with torch.no_grad():
        entry = other.run_epoch()
    assert entry["avg_loss"] > 0
    assert all(torch.equal(a, b) for a, b in zip(before, states(job), strict=True))
    job.epoch += 1
    job.run_epoch()
    alone = jobs.TrainingJobAdvnegNegativeSampling(config, job.dataset, None, job.model, forward_only=True)
    with pytest.raises(ConfigurationError, match=r"training_loss needs the trained sampler 'kbgan'"):
        alone._prepare()
    config = standins.Config(options(sampler="emu", train__loss="bce"))
    alone = jobs.TrainingJobAdvnegNegativeSampling(config, job.dataset, None, job.model, forward_only=True)
    alone._prepare()
    assert alone.run_epoch()["avg_loss"] > 0


def test_forward_only_has_the_mode_of_the_model(jobs: Any) -> None:
    """Validation by the training loss draws in evaluation mode, after which the sampler trains on."""
    job = make_job(jobs, **KBGAN)
    job.train(1)

    class Evaluation:
        parent_job = job

    other = jobs.TrainingJobAdvnegNegativeSampling(job.config, job.dataset, Evaluation(), job.model, forward_only=True)
    other._prepare()
    modes: list[bool] = []
    propose = job.sampler.propose
    job.sampler.propose = lambda positives: modes.append(job.sampler.training) or propose(positives)
    job.model.eval()
    with torch.no_grad():
        other.run_epoch()
    assert modes == [False] * 4
    assert job.sampler.training
    assert job.binding.view.training


def test_pretraining(jobs: Any) -> None:
    """First the generator is warmed up beside other negatives, then both optimizers start anew, as does Adagrad."""
    given = {**KBGAN, "pretraining__epochs": 1, "pretraining__num_samples": 3}
    job = make_job(jobs, **given)
    first, second = job.train(2)
    assert "sampler_reward" not in first
    assert "sampler_reward" in second
    # 4 batches in the second epoch
    assert {int(state["step"]) for state in job.optimizer.state.values()} == {4}
    assert {int(state["step"]) for state in job.sampler.optimizer.state.values()} == {4}


def test_validations_in_pretraining_do_not_count(jobs: Any, tmp_path: Path) -> None:
    """LibKGE looks for the best validation, and for patience, after it has saved the checkpoint of an epoch."""
    job = make_job(jobs, **KBGAN, pretraining__epochs=2)
    job.train(1)
    for epoch in (1, 2, 3):
        job.valid_trace.append({"epoch": epoch, "mean_reciprocal_rank": 1 / epoch})
        job.save(str(tmp_path / "checkpoint.pt"))
    assert [entry["epoch"] for entry in job.valid_trace] == [3]
    job.config.options["train.max_epochs"] = 2
    job._prepare()
    assert any("is not used, and no validation counts" in message for message in job.config.messages)


def test_learning_rates_follow(jobs: Any) -> None:
    job = make_job(jobs, **KBGAN)
    own = job.sampler.optimizer.param_groups[0]["lr"]
    job.optimizer.param_groups[0]["lr"] /= 4
    job.train(1)
    assert job.sampler.optimizer.param_groups[0]["lr"] == pytest.approx(own / 4)


def test_a_batch_is_drawn_once(jobs: Any) -> None:
    """LibKGE tries a batch again with smaller sub-batches where memory is short."""
    job = make_job(jobs, **KBGAN)
    job._prepare()
    job._bound.begin_epoch(1, 1.0)
    batch = next(iter(job.loader))
    for _ in range(2):
        job._prepare_batch(0, batch, standins.TrainingJob._ProcessBatchResult())
        drawn = batch.setdefault("first", batch["draw"])
        assert drawn is batch["draw"]


def test_gradients_of_a_broken_batch_are_forgotten(jobs: Any) -> None:
    """A batch which is tried again, since memory was short, is worth as much as one which is not."""
    trained = []
    for breaks in (False, True):
        job = make_job(jobs, **MMRNS)
        job._prepare()
        job._bound.begin_epoch(1, 1.0)
        torch.manual_seed(0)
        batch = next(iter(job.loader))
        if breaks:
            process = job._process_subbatch
            job._process_subbatch = lambda *args, process=process: process(*args) or 1 / 0
            with pytest.raises(ZeroDivisionError):
                job._process_batch(0, batch)
            job._process_subbatch = process
            assert any(p.grad is not None for p in job.sampler.comparison.network.parameters())
            job.optimizer.zero_grad()
        job._process_batch(0, batch)
        trained.append(job)
    moments = [[s["exp_avg"] for s in job.sampler.optimizers()[0].state.values()] for job in trained]
    for one, other in zip(*moments, strict=True):
        torch.testing.assert_close(one, other)


def test_a_broken_lesson_begins_anew(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(jobs, **KBGAN)
    job._prepare()
    job._bound.begin_epoch(1, 1.0)
    batch = next(iter(job.loader))
    step = job.sampler.step
    monkeypatch.setattr(job.sampler, "step", lambda *_: (_ for _ in ()).throw(RuntimeError("CUDA out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        job._process_batch(0, batch)
    monkeypatch.setattr(job.sampler, "step", step)
    assert job._process_batch(0, batch).size == 16


def test_the_end_of_training(jobs: Any, caplog: pytest.LogCaptureFixture) -> None:
    given = dict(MMRNS, sampler_args=dict(pool_size=10, exploration_schedule="geometric", exploration_steps=10_000))
    make_job(jobs, **given).train(1)
    assert "exploration hardly fell" in caplog.text.replace(" \n", " ")


def test_one_look_at_the_table(jobs: Any) -> None:
    """All entities of a batch are looked up at once, unless there is dropout."""
    calls = []
    for dropout in (0.0, 0.5):
        job = make_job(jobs, "complex", kind=partial(standins.Model, dropout=dropout), num_samples=4)
        before = job.model.get_s_embedder().calls
        job.train(1)
        calls.append((job.model.get_s_embedder().calls - before) / 4)
    assert calls[0] == 1
    assert calls[1] > 1

"""Two ranks with half the batch each do what one rank does with the whole of it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pykeen.evaluation import RankBasedEvaluator
from pykeen.pipeline import pipeline
from pykeen.sampling import NegativeSampler
from torch import multiprocessing, nn
from typer.testing import CliRunner

from pykeen_advneg import cli
from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.training.distributed import DistributedTrainingLoop, ShardedStream, reduce_gradients
from pykeen_advneg.training.rank import check_experiment

SIZE = 2
BATCH = 256


class Fixed(NegativeSampler):
    """Negatives which depend on the positive only: the next entity, as tail."""

    def corrupt_batch(self, positive_batch: torch.Tensor) -> torch.Tensor:
        negatives = positive_batch.unsqueeze(-2).repeat(1, self.num_negs_per_pos, 1)
        negatives[..., 2] += 1 + torch.arange(self.num_negs_per_pos)
        negatives[..., 2] %= self.num_entities
        return negatives


def group(rank: int, path: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}/group", rank=rank, world_size=SIZE)


def leave() -> None:
    """End the process once both ranks are done; gloo's threads now and then abort the teardown of Python."""
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    sys.stderr.flush()
    os._exit(0)


FIXED: dict[str, Any] = dict(negative_sampler=Fixed, negative_sampler_kwargs=dict(num_negs_per_pos=3))
#: by name the optimizer, the loss, its reduction and the arguments of the training
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "dense": ("adam", "softplus", "mean", {}),
    "sparse": ("sparseadagrad", "crossentropy", "mean", {}),
    # a learning rate whose steps show if a gradient is too large
    "sum, clipped": ("sgd", "softplus", "sum", dict(gradient_clipping_max_norm=0.5)),
}


def train(optimizer: str, loss: str, reduction: str, training: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    from pykeen.datasets import Nations
    from pykeen.losses import loss_resolver
    from pykeen.models import ComplEx
    from pykeen.optimizers import optimizer_resolver

    from pykeen_advneg.training import rows

    # so that Nations' 14 entities have sparse gradients, too
    rows.MANY_ROWS = 1
    torch.manual_seed(7)
    factory = Nations().training
    model = ComplEx(
        triples_factory=factory,
        embedding_dim=6,
        random_seed=3,
        regularizer=None,
        loss=loss_resolver.make(loss, {"reduction": reduction}),
    )
    loop = DistributedTrainingLoop(
        model=model,
        triples_factory=factory,
        optimizer=optimizer_resolver.make(optimizer, {"lr": 0.01}, params=model.get_grad_params()),
        **kwargs,
    )
    losses = loop.train(factory, num_epochs=3, batch_size=BATCH, use_tqdm=False, **training)
    return {"losses": losses, "state": model.state_dict(), "sampler": loop.sampler.state_dict()}


def rank_main(rank: int, path: str) -> None:
    group(rank, path)
    torch.save({name: train(*case, **FIXED) for name, case in CASES.items()}, f"{path}/{rank}.pt")
    leave()


def start(target: Any, path: Path, *arguments: Any) -> None:
    multiprocessing.spawn(target, (str(path), *arguments), nprocs=SIZE)


@pytest.fixture
def same_permutation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rank which is alone cuts the batches of two."""
    from pykeen_advneg.training.batches import BatchStream

    def ids(self: BatchStream) -> Any:
        generator = self.__dict__.setdefault("generator", torch.Generator())
        if not hasattr(self, "seeded"):
            generator.manual_seed(self.common_seed)
            self.seeded = True
        yield from torch.randperm(len(self.triples), generator=generator).split(self.batch_size)

    monkeypatch.setattr(BatchStream, "_iter_ids", ids)


@pytest.mark.slow
def test_ranks_take_the_step_of_the_whole_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_permutation: None
) -> None:
    from pykeen_advneg.training.batches import BatchStream

    start(rank_main, tmp_path)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(SIZE)]
    # rank 0 draws the common seed from the state of the random numbers which the one rank has, too
    original = DistributedTrainingLoop._prepare_sampler

    def prepare(self: Any, run: Any, factory: Any) -> Any:
        sampler = original(self, run, factory)
        if not run.probing:
            BatchStream.common_seed = int(torch.randint(2**31, (1,)))
        return sampler

    BatchStream.common_seed = 0
    monkeypatch.setattr(DistributedTrainingLoop, "_prepare_sampler", prepare)
    for name, case in CASES.items():
        first, second = (rank[name] for rank in ranks)
        for key, value in first["state"].items():
            assert torch.equal(value, second["state"][key]), f"{name}: both ranks end with the same parameters"
        assert first["losses"] == second["losses"]
        alone = train(*case, **FIXED)
        for key, value in alone["state"].items():
            torch.testing.assert_close(first["state"][key], value, rtol=1e-4, atol=1e-5, msg=name)
        assert first["losses"] == pytest.approx(alone["losses"], rel=1e-4), name


class Own(RankBasedEvaluator):
    """Must be asked on rank 0 only."""

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        assert torch.distributed.get_rank() == 0
        return super().evaluate(*args, **kwargs)


def stop_early(path: Path) -> dict[str, Any]:
    """Train a model with batch normalisation, whose ranks do not have the same statistics, until it gets worse."""
    from pykeen.datasets import Nations
    from pykeen.models import TuckER
    from pykeen.stoppers import EarlyStopper

    data = Nations()
    torch.manual_seed(0)
    model = TuckER(triples_factory=data.training, embedding_dim=4, relation_dim=4, random_seed=0)
    stopper = EarlyStopper(
        model=model,
        evaluator=Own(),
        training_triples_factory=data.training,
        evaluation_triples_factory=data.validation,
        frequency=1,
        patience=2,
        metric="mrr",
        larger_is_better=True,
        best_model_path=path / "best.pt",
    )
    loop = DistributedTrainingLoop(
        model=model,
        triples_factory=data.training,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.5),
        negative_sampler="basic",
    )
    # no batch_size: no rank may look for one of its own
    loop.train(
        data.training,
        num_epochs=12,
        stopper=stopper,
        use_tqdm=False,
        callbacks="evaluation-loss",
        callbacks_kwargs=dict(triples_factory=data.validation),
    )
    assert type(stopper.evaluator) is Own
    return {"epochs": loop._epoch, "results": stopper.results, "state": model.state_dict()}


def refused(name: str, reduction: str, batch_size: int) -> str:
    """Give what is said of a sampler which cannot learn so on two ranks."""
    from pykeen.datasets import Nations
    from pykeen.losses import SoftplusLoss
    from pykeen.models import DistMult

    factory = Nations().training
    model = DistMult(triples_factory=factory, random_seed=0, loss=SoftplusLoss(reduction=reduction))
    kwargs: dict[str, Any] = dict(pool_size=10) if name == "mmrns" else {}
    loop = DistributedTrainingLoop(
        model=model,
        triples_factory=factory,
        optimizer=torch.optim.Adam(model.parameters()),
        negative_sampler=name,
        negative_sampler_kwargs=kwargs,
    )
    with pytest.raises(ConfigurationError) as caught:
        loop.train(factory, num_epochs=1, batch_size=batch_size, use_tqdm=False)
    return str(caught.value)


def learn_main(rank: int, path: str) -> None:
    group(rank, path)
    found = {}
    learning: dict[str, dict[str, Any]] = dict(
        kbgan=dict(num_candidates=5),
        emu=dict(base="kbgan", base_kwargs=dict(num_candidates=5)),
        dans=dict(discriminator_steps=2, num_negs_per_pos=3),
        mmrns=dict(pool_size=10, num_negs_per_pos=3),
    )
    for name, kwargs in learning.items():
        # the loss of EMU is a mean, whatever PyKEEN's is
        reduction = "mean" if name == "mmrns" else "sum"
        found[name] = train("adam", "softplus", reduction, {}, negative_sampler=name, negative_sampler_kwargs=kwargs)
        found[name]["seed"] = torch.initial_seed()
    found["errors"] = [refused("dans", "mean", 3), refused("mmrns", "sum", BATCH)]
    found["stopped"] = stop_early(Path(path))
    torch.save(found, f"{path}/{rank}.pt")
    leave()


@pytest.mark.slow
def test_samplers_which_learn_and_early_stopping(tmp_path: Path) -> None:
    """All ranks stay the same, baseline of KBGAN included, though each draws negatives of its own."""
    start(learn_main, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(SIZE))
    for name in ("kbgan", "emu", "dans", "mmrns"):
        one, other = first[name], second[name]
        assert other["seed"] == one["seed"] + 1
        tensors = {key: value for key, value in one["sampler"].items() if isinstance(value, torch.Tensor)}
        assert any("network" in key or "generator" in key for key in tensors)
        if name in {"kbgan", "emu"}:
            assert float(next(value for key, value in tensors.items() if key.endswith("baseline_value"))) != 0
        for key, value in tensors.items():
            torch.testing.assert_close(value, other["sampler"][key], rtol=1e-6, atol=1e-7, msg=key)
        for key, value in one["state"].items():
            assert torch.equal(value, other["state"][key])
    few, unlike = first["errors"]
    assert "batch_size=3 leaves fewer than 2 positives to some of 2 ranks" in few
    assert "whose reduction is 'sum': on several ranks, it must be 'mean'" in unlike
    one, other = first["stopped"], second["stopped"]
    assert one["epochs"] == other["epochs"] < 12, "else nothing was stopped"
    assert one["results"] == other["results"]
    for key, value in one["state"].items():
        assert torch.equal(value, other["state"][key]), key


def test_weights_of_losses_of_samplers() -> None:
    from pykeen.datasets import Nations

    from pykeen_advneg.sampling.dans import DANSNegativeSampler
    from pykeen_advneg.sampling.emu import EMUNegativeSampler
    from pykeen_advneg.sampling.mmrns import MMRNSNegativeSampler

    triples = Nations().training.mapped_triples
    emu = EMUNegativeSampler(mapped_triples=triples, base="kbgan")
    assert (emu.reduction, emu.reduction_of_loss) == ("sum", "mean")
    assert "_own_base.reward_sum" in emu.epoch_sums
    assert emu.get_buffer("_own_base.reward_sum") is emu.base.reward_sum
    plain = EMUNegativeSampler(mapped_triples=triples, base="basic", objective="host")
    assert (plain.reduction, plain.reduction_of_loss) == ("sum", None)
    assert DANSNegativeSampler.reduction_with({}) == "mean"
    assert DANSNegativeSampler.reduction_with(dict(base="kbgan")) is None, "one is a mean, the other a sum"
    dans = DANSNegativeSampler(mapped_triples=triples)
    stream = ShardedStream(triples[:9], dans, batch_size=4, drop_last=False)
    stream.fewest = dans.fewest_positives
    assert len(stream) == 2, "one positive would be left, from which nothing can be learnt"
    mmrns = [MMRNSNegativeSampler(mapped_triples=triples, pool_size=10, objective=o) for o in ("host", "mmrns")]
    assert [(sampler.reduction, sampler.reduction_of_loss) for sampler in mmrns] == [("mean", None), ("mean", "mean")]
    assert {float(sampler.get_buffer(name).sum()) for sampler in mmrns for name in sampler.epoch_sums} == {0.0}


def reduce_main(rank: int, path: str) -> None:
    group(rank, path)
    dense, sparse, missing, nothing = (nn.Parameter(torch.zeros(4, 2)) for _ in range(4))
    dense.grad = torch.full((4, 2), float(rank + 1))
    rows = torch.tensor([[0, 2, 2], [1, 2, 3]][rank])
    sparse.grad = torch.sparse_coo_tensor(rows.unsqueeze(0), torch.ones(3, 2), (4, 2))
    if rank:
        missing.grad = torch.ones(4, 2)
    reduce_gradients([dense, sparse, missing, nothing], 0.25 if rank else 0.75)
    assert nothing.grad is None
    assert torch.equal(dense.grad, torch.full((4, 2), 0.75 + 0.5))
    assert sparse.grad.is_sparse
    assert sparse.grad.coalesce()._nnz() == 4
    expected = torch.tensor([0.75, 0.25, 1.5 + 0.25, 0.25]).unsqueeze(-1).expand(4, 2)
    assert torch.equal(sparse.grad.to_dense(), expected)
    assert torch.equal(missing.grad, torch.full((4, 2), 0.25))
    leave()


@pytest.mark.slow
def test_reduction_of_dense_sparse_and_missing_gradients(tmp_path: Path) -> None:
    start(reduce_main, tmp_path)


def test_shares_are_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Together, the shares of all ranks are each triple once; none gets an empty one."""
    import pykeen_advneg.training.distributed as module

    triples = torch.arange(33).view(11, 3)
    seen = []
    for rank in range(3):
        monkeypatch.setattr(module, "world", lambda rank=rank: (rank, 3))
        stream = ShardedStream(triples, None, batch_size=5, drop_last=False)
        stream.generator = torch.Generator().manual_seed(0)
        shares = list(stream._iter_ids())
        assert len(shares) == len(stream) == 2, "one triple is too few for three ranks"
        assert min(map(len, shares)) >= 1
        seen.append(torch.cat(shares))
    assert len(torch.cat(seen).unique()) == len(torch.cat(seen)) == 10


@pytest.mark.slow
def test_command(tmp_path: Path) -> None:
    content = {
        "pipeline": {
            "dataset": "nations",
            "model": "distmult",
            "model_kwargs": {"embedding_dim": 8},
            "negative_sampler": "shared",
            "training_loop": "adversarial",
            "training_kwargs": {"num_epochs": 3, "batch_size": 256, "use_tqdm": False},
            "stopper": "early",
            "stopper_kwargs": {"frequency": 1, "metric": "mrr"},
            "random_seed": 0,
        }
    }
    tracked = content["pipeline"] | {"result_tracker": "csv", "result_tracker_kwargs": {"path": str(tmp_path / "log")}}
    (tmp_path / "x.json").write_text(json.dumps({"pipeline": tracked}))
    command = [sys.executable, "-m", "pykeen_advneg", "train", str(tmp_path / "x.json"), "--nproc", "2"]
    command += ["--out", str(tmp_path / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "trained_model.pkl").is_file()
    losses = json.loads((tmp_path / "out" / "results.json").read_text())["losses"]
    alone = pipeline(**content["pipeline"])
    assert len(losses) == len(alone.losses) == 3
    # each rank draws negatives of its own: with as many as one has, the numbers are others
    assert losses != alone.losses
    assert losses == pytest.approx(alone.losses, rel=0.05)
    rows = list(csv.reader((tmp_path / "log").open()))
    assert [float(row[-1]) for row in rows if row[0] == "metric" and row[-2] == "loss"] == losses, "by one rank"


@pytest.mark.parametrize(
    ("change", "ranks", "message"),
    [
        (dict(training_loop="lcwa"), 2, "training_loop='lcwa'.*adversarial"),
        (dict(negative_sampler="dans", negative_sampler_kwargs=dict(base="kbgan")), 2, "negative_sampler='dans'"),
        (dict(negative_sampler="emu", negative_sampler_kwargs=dict(base="kbgam")), 2, "kbgan"),
        (dict(negative_sampler="kbgam"), 2, "kbgan"),
        (dict(negative_sampler="dans", negative_sampler_kwargs=dict(base="kbgan")), 1, None),
        (dict(negative_sampler="dans"), 2, None),
        (dict(negative_sampler="mmrns"), 2, None),
        (dict(negative_sampler="emu", negative_sampler_kwargs=dict(base="kbgan")), 2, None),
        (dict(), 0, "--nproc 0"),
    ],
)
def test_errors_before_any_rank_is_started(
    change: dict[str, Any], ranks: int, message: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"pipeline": {"dataset": "nations", "model": "distmult", **change}}))
    if message is None:
        check_experiment(path, ranks)
        return
    with pytest.raises(ConfigurationError, match=message):
        check_experiment(path, ranks)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", "cannot be read"),
        ("x.json", "[]", "no 'pipeline'"),
        ("x.json", '{"model": "distmult"}', "no 'pipeline'"),
        ("x.yaml", "a: [", "cannot be read"),
        ("x.txt", "", "cannot be read"),
        ("y.json", None, "cannot be read"),
    ],
)
def test_files_which_are_no_experiments(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        check_experiment(tmp_path / name, 1)


def test_command_says_what_is_wrong(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["train", str(tmp_path / "x.json"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "cannot be read" in result.output

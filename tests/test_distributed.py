"""Two ranks with half the batch each do what one rank does with the whole of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pykeen.sampling import NegativeSampler
from torch import multiprocessing, nn

from pykeen_advneg.training.distributed import DistributedTrainingLoop, ShardedStream, reduce_gradients

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


def train(optimizer: str, loss: str, **kwargs: Any) -> dict[str, Any]:
    from pykeen.datasets import Nations
    from pykeen.losses import loss_resolver
    from pykeen.models import ComplEx
    from pykeen.optimizers import optimizer_resolver

    from pykeen_advneg.training import rows

    # so that Nations' 14 entities have sparse gradients, too
    rows.MANY_ROWS = 1
    torch.manual_seed(7)
    factory = Nations().training
    arguments = {"lr": 0.01}
    model = ComplEx(
        triples_factory=factory,
        embedding_dim=6,
        random_seed=3,
        regularizer=None,
        loss=loss_resolver.make(loss, {"reduction": "mean"}),
    )
    loop = DistributedTrainingLoop(
        model=model,
        triples_factory=factory,
        optimizer=optimizer_resolver.make(optimizer, arguments, params=model.get_grad_params()),
        **kwargs,
    )
    losses = loop.train(factory, num_epochs=3, batch_size=BATCH, use_tqdm=False)
    return {"losses": losses, "state": model.state_dict(), "sampler": loop.sampler.state_dict()}


def rank_main(rank: int, path: str, optimizer: str, sampler: str, loss: str) -> None:
    group(rank, path)
    kwargs = {"fixed": dict(negative_sampler=Fixed, negative_sampler_kwargs=dict(num_negs_per_pos=3))}.get(
        sampler, dict(negative_sampler=sampler, negative_sampler_kwargs=dict(num_candidates=5))
    )
    torch.save(train(optimizer, loss, **kwargs), f"{path}/{rank}.pt")
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
@pytest.mark.parametrize(("optimizer", "loss"), [("adam", "softplus"), ("sparseadagrad", "crossentropy")])
def test_ranks_take_the_step_of_the_whole_batch(
    optimizer: str, loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_permutation: None
) -> None:
    from pykeen_advneg.training.batches import BatchStream

    start(rank_main, tmp_path, optimizer, "fixed", loss)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(SIZE))
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), "both ranks end with the same parameters"
    assert first["losses"] == second["losses"]
    # rank 0 draws the common seed from the state of the random numbers which the one rank has, too
    seeds: list[int] = []
    original = DistributedTrainingLoop._prepare_sampler

    def prepare(self: Any, run: Any, factory: Any) -> Any:
        sampler = original(self, run, factory)
        if not run.probing:
            seeds.append(int(torch.randint(2**31, (1,))))
            BatchStream.common_seed = seeds[-1]
        return sampler

    BatchStream.common_seed = 0
    monkeypatch.setattr(DistributedTrainingLoop, "_prepare_sampler", prepare)
    alone = train(optimizer, loss, negative_sampler=Fixed, negative_sampler_kwargs=dict(num_negs_per_pos=3))
    for name, value in alone["state"].items():
        torch.testing.assert_close(first["state"][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_sampler_which_learns(tmp_path: Path) -> None:
    """Both generators stay the same, baseline included, though each rank draws negatives of its own."""
    start(rank_main, tmp_path, "adam", "kbgan", "softplus")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(SIZE))
    tensors = {name: value for name, value in first["sampler"].items() if isinstance(value, torch.Tensor)}
    assert any("generator" in name for name in tensors)
    assert float(tensors["baseline_value"]) != 0
    for name, value in tensors.items():
        torch.testing.assert_close(value, second["sampler"][name], rtol=1e-6, atol=1e-7, msg=name)
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name])


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
    (tmp_path / "x.json").write_text(json.dumps(content))
    command = [sys.executable, "-m", "pykeen_advneg", "train", str(tmp_path / "x.json"), "--nproc", "2"]
    command += ["--out", str(tmp_path / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "trained_model.pkl").is_file()

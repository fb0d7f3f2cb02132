r"""Data-parallel training by several processes: the loop ``distributed``, started by ``torchrun``.

Each process (rank) has the whole model, and takes its share of the positives of each batch. The gradients are then
reduced, so that all ranks take the same step:

$$g = \sum_r w_r g_r, \qquad w_r = \begin{cases} b_r / \sum_s b_s & \text{where the loss is a mean over the batch} \\
1 & \text{where it is a sum} \end{cases}$$

with $b_r$ the number of positives of rank $r$. This is the gradient of the whole batch where the loss is a mean or a
sum over positives. It is not, quite, where masked negatives are left out of a mean over all negatives (each rank has
its own number of them), and where a regulariser looks at the rows of a batch. Of a sparse gradient, only rows travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from pykeen.sampling import NegativeSampler
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import FloatTensor, LongTensor
from torch import distributed, nn

from ..errors import ConfigurationError
from ..sampling.base import Learns
from .batches import Batch, BatchStream
from .loop import AdversarialTrainingLoop
from .runs import Run

__all__ = ["DistributedTrainingLoop", "ShardedStream", "reduce_gradients"]


def world() -> tuple[int, int]:
    """Get the number of this process and that of all.

    :returns: rank and world size; 0 and 1 without a process group
    """
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


class ShardedStream(BatchStream):
    """The share of one rank in the batches of all, which are cut from the same permutation on each rank."""

    #: the same on all ranks
    generator: torch.Generator

    def __len__(self) -> int:
        _, size = world()
        full, rest = divmod(len(self.triples), self.batch_size)
        # a last batch which does not go round would leave ranks waiting for each other
        return full + bool(rest >= size and not self.drop_last)

    def _iter_ids(self) -> Iterator[LongTensor]:
        rank, size = world()
        permutation = torch.randperm(len(self.triples), generator=self.generator).to(self.triples.device)
        for batch in permutation.split(self.batch_size)[: len(self)]:
            yield batch[rank::size]


def reduce_gradients(parameters: Iterable[nn.Parameter], weight: float) -> None:
    """Replace the gradient of each parameter by the weighted sum over all ranks.

    :param parameters: the same on all ranks, in the same order
    :param weight: the weight of this rank's gradient
    """
    for parameter in parameters:
        kind = 0 if parameter.grad is None else 1 + parameter.grad.is_sparse
        kinds = torch.tensor(kind, device=parameter.device)
        distributed.all_reduce(kinds, distributed.ReduceOp.MAX)
        if not kinds:
            continue
        if int(kinds) > 1:
            parameter.grad = _sum_of_rows(parameter, weight)
            continue
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.mul_(weight)
        distributed.all_reduce(torch.view_as_real(gradient) if gradient.is_complex() else gradient)
        parameter.grad = gradient


def _sum_of_rows(parameter: nn.Parameter, weight: float) -> FloatTensor:
    """Sum a sparse gradient over all ranks, each of which has rows of its own."""
    if parameter.grad is None:
        rows = torch.zeros(0, dtype=torch.long, device=parameter.device)
        values = parameter.new_zeros(0, *parameter.shape[1:])
    else:
        gradient = parameter.grad.coalesce()
        rows, values = gradient._indices()[0], gradient._values() * weight
    _, size = world()
    counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(size)]
    distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    longest = int(max(counts))
    all_rows = [rows.new_zeros(longest) for _ in range(size)]
    all_values = [values.new_zeros(longest, *values.shape[1:]) for _ in range(size)]
    distributed.all_gather(all_rows, torch.cat([rows, rows.new_zeros(longest - len(rows))]))
    distributed.all_gather(all_values, torch.cat([values, values.new_zeros(longest - len(values), *values.shape[1:])]))
    kept = [slice(int(count)) for count in counts]
    indices = torch.cat([own[keep] for own, keep in zip(all_rows, kept, strict=True)])
    summands = torch.cat([own[keep] for own, keep in zip(all_values, kept, strict=True)])
    return torch.sparse_coo_tensor(indices.unsqueeze(0), summands, parameter.shape, check_invariants=False).coalesce()


class DistributedTrainingLoop(AdversarialTrainingLoop):
    """The loop ``adversarial`` on several processes, which share each batch; started by ``torchrun``.

    ``batch_size`` is that of all ranks together. All ranks begin with the parameters of rank 0, cut the same batches,
    and draw negatives of their own. A sampler which learns has to say how its gradients add up (``Learns.reduction``).
    """

    def __init__(self, **kwargs: Any) -> None:
        """Initialize the loop.

        :param kwargs: keyword-based parameters of :class:`AdversarialTrainingLoop`
        """
        super().__init__(**kwargs)
        self._generator = torch.Generator()

    # docstr-coverage: inherited
    def train(  # noqa: D102
        self, triples_factory: CoreTriplesFactory, num_epochs: int = 1, *args: Any, **kwargs: Any
    ) -> list[float] | None:
        _, size = world()
        if size > 1:
            for name in ("checkpoint_name", "sampler", "num_workers"):
                if kwargs.get(name):
                    raise ConfigurationError(
                        f"{name}={kwargs[name]!r} is not possible on several ranks; leave it out, or train on one."
                    )
            batch_size = kwargs.get("batch_size")
            if batch_size is not None and batch_size < size:
                raise ConfigurationError(f"batch_size={batch_size} leaves nothing to some of {size} ranks; raise it.")
        return super().train(triples_factory, num_epochs, *args, **kwargs)

    # docstr-coverage: inherited
    def _make_stream(self, triples: LongTensor, sampler: NegativeSampler, **kwargs: Any) -> BatchStream:
        if world()[1] == 1 or self._runs[-1].probing:
            return super()._make_stream(triples, sampler, **kwargs)
        stream = ShardedStream(triples, sampler, **kwargs)
        stream.generator = self._generator
        return stream

    # docstr-coverage: inherited
    def _prepare_sampler(self, run: Run, triples_factory: CoreTriplesFactory) -> NegativeSampler:
        sampler = super()._prepare_sampler(run, triples_factory)
        rank, size = world()
        if size == 1 or run.probing:
            return sampler
        for module in (self.model, sampler):
            for tensor in (*module.parameters(), *module.buffers()):
                distributed.broadcast(torch.view_as_real(tensor.data) if tensor.is_complex() else tensor.data, src=0)
        seed = torch.randint(2**31, (1,), device=self.model.device)
        distributed.broadcast(seed, src=0)
        self._generator.manual_seed(int(seed))
        torch.manual_seed(int(seed) + 1 + rank)
        if isinstance(sampler, Learns):
            if sampler.reduction is None:
                raise ConfigurationError(
                    f"{type(sampler).__name__} does not say how its gradients add up over ranks (Learns.reduction); "
                    f"train it on one rank."
                )
            clip, weight = sampler.clip_gradients, 1.0 if sampler.reduction == "sum" else 1.0 / size

            def reduce(parameters: Iterable[nn.Parameter]) -> None:
                known = list(parameters)
                reduce_gradients(known, weight)
                if clip is not None:
                    clip(known)

            sampler.clip_gradients = reduce
        return sampler

    # docstr-coverage: inherited
    def _after_scoring(self, batch: Batch) -> None:
        if self._learning and world()[1] > 1:
            weight = 1.0
            if self.loss.reduction == "mean":
                total = torch.tensor(len(batch), device=self.model.device)
                distributed.all_reduce(total)
                weight = len(batch) / int(total)
            reduce_gradients(self.model.get_grad_params(), weight)
        super()._after_scoring(batch)

    # docstr-coverage: inherited
    def _train_epoch(self, *, epoch: int, only_size_probing: bool, **kwargs: Any) -> float:  # type: ignore[override]
        loss = super()._train_epoch(epoch=epoch, only_size_probing=only_size_probing, **kwargs)
        size = world()[1]
        if size > 1 and not only_size_probing and kwargs.get("backward", True):
            mean = torch.tensor(loss, dtype=torch.float64)
            distributed.all_reduce(mean)
            loss = float(mean) / size
        return loss

    # docstr-coverage: inherited
    def _log_sampler(self, epoch: int) -> None:
        sampler = self._runs[-1].sampler
        if world()[1] > 1 and isinstance(sampler, Learns):
            for name in sampler.epoch_sums:
                distributed.all_reduce(getattr(sampler, name))
        super()._log_sampler(epoch)

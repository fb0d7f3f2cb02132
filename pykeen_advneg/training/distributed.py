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

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from pykeen.sampling import NegativeSampler
from pykeen.training import SLCWATrainingLoop
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import FloatTensor, LongTensor
from pykeen.utils import get_batchnorm_modules
from torch import distributed, nn

from ..errors import ConfigurationError
from ..sampling.base import HasLoss, Learns
from .batches import Batch, BatchStream
from .loop import AdversarialTrainingLoop
from .runs import Run
from .validation import validation_by_one

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
    #: how many positives each rank needs
    fewest: int = 1

    def __len__(self) -> int:
        _, size = world()
        full, rest = divmod(len(self.triples), self.batch_size)
        # a last batch which does not go round would leave ranks waiting for each other
        return full + bool(rest >= size * self.fewest and not self.drop_last)

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


def _from_first(tensors: Iterable[torch.Tensor]) -> None:
    """Give all ranks the values of rank 0."""
    for tensor in tensors:
        distributed.broadcast(torch.view_as_real(tensor.data) if tensor.is_complex() else tensor.data, src=0)


class DistributedTrainingLoop(AdversarialTrainingLoop):
    """The loop ``adversarial`` on several processes, which share each batch; started by ``torchrun``.

    ``batch_size`` is that of all ranks together. All ranks begin with the parameters of rank 0, cut the same batches,
    and draw negatives of their own. A sampler which learns has to say how its gradients add up (``Learns.reduction``).
    Rank 0 evaluates for early stopping, and all stop by its results. Each rank normalises batches by its own share.
    There is no automatic memory optimisation: a ``batch_size`` of None is 256.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Initialize the loop.

        :param kwargs: keyword-based parameters of :class:`AdversarialTrainingLoop`
        """
        super().__init__(**kwargs)
        self._generator = torch.Generator()
        #: that of this rank in the positives of a batch
        self._share = 1.0

    # docstr-coverage: inherited
    def train(  # noqa: D102
        self, triples_factory: CoreTriplesFactory, num_epochs: int = 1, *args: Any, **kwargs: Any
    ) -> list[float] | None:
        _, size = world()
        if size == 1:
            return super().train(triples_factory, num_epochs, *args, **kwargs)
        host = inspect.signature(SLCWATrainingLoop.train)
        given = host.bind(self, triples_factory, num_epochs, *args, **kwargs).arguments
        for name in ("checkpoint_name", "sampler", "num_workers"):
            if given.get(name):
                raise ConfigurationError(
                    f"{name}={given[name]!r} is not possible on several ranks; leave it out, or train on one."
                )
        batch_size = given.get("batch_size")
        if batch_size is not None and batch_size < size:
            raise ConfigurationError(f"batch_size={batch_size} leaves nothing to some of {size} ranks; raise it.")
        automatic = self.automatic_memory_optimization
        # each rank would find sizes of its own, and cut other batches than the rest
        self.automatic_memory_optimization = False
        try:
            return super().train(triples_factory, num_epochs, *args, **kwargs)
        finally:
            self.automatic_memory_optimization = automatic

    # docstr-coverage: inherited
    def _train(self, *args: Any, **kwargs: Any) -> list[float] | None:
        if world()[1] == 1:
            return super()._train(*args, **kwargs)
        with validation_by_one(kwargs.get("stopper")):
            return super()._train(*args, **kwargs)

    # docstr-coverage: inherited
    def _make_stream(self, triples: LongTensor, sampler: NegativeSampler, **kwargs: Any) -> BatchStream:
        # a second stream is that of the callback `evaluation-loss`: each rank looks at all of it
        if world()[1] == 1 or self._runs[-1].stream is not None:
            return super()._make_stream(triples, sampler, **kwargs)
        stream = ShardedStream(triples, sampler, **kwargs)
        stream.generator = self._generator
        stream.fewest = sampler.fewest_positives if isinstance(sampler, Learns) else 1
        if stream.batch_size // world()[1] < stream.fewest:
            raise ConfigurationError(
                f"batch_size={stream.batch_size} leaves fewer than {stream.fewest} positives to some of {world()[1]} "
                f"ranks, from which {type(sampler).__name__} cannot learn; raise it."
            )
        return stream

    # docstr-coverage: inherited
    def _prepare_sampler(self, run: Run, triples_factory: CoreTriplesFactory) -> NegativeSampler:
        sampler = super()._prepare_sampler(run, triples_factory)
        rank, size = world()
        if size == 1:
            return sampler
        for module in (self.model, sampler):
            _from_first((*module.parameters(), *module.buffers()))
        seed = torch.randint(2**31, (1,), device=self.model.device)
        distributed.broadcast(seed, src=0)
        self._generator.manual_seed(int(seed))
        torch.manual_seed(int(seed) + 1 + rank)
        if isinstance(sampler, Learns):
            self._reduce_of(sampler)
        return sampler

    def _reduce_of(self, sampler: Learns) -> None:
        """Let the gradients of a sampler be reduced before they are clipped."""
        if sampler.reduction is None:
            raise ConfigurationError(
                f"{type(sampler).__name__} does not say how its gradients add up over ranks (Learns.reduction); "
                f"train it on one rank."
            )
        own = sampler.reduction_of_loss if isinstance(sampler, HasLoss) else None
        of_loss = own or str(self.loss.reduction)
        if sampler.learns_from_loss and of_loss != sampler.reduction:
            raise ConfigurationError(
                f"{type(sampler).__name__} learns from the loss of the model, whose reduction is {of_loss!r}: on "
                f"several ranks, it must be {sampler.reduction!r}. Set it in loss_kwargs."
            )
        clip, is_sum = sampler.clip_gradients, sampler.reduction == "sum"

        def reduce(parameters: Iterable[nn.Parameter]) -> None:
            known = list(parameters)
            reduce_gradients(known, 1.0 if is_sum else self._share)
            if clip is not None:
                clip(known)

        sampler.clip_gradients = reduce

    @property
    def _reduction(self) -> str:
        """How the loss of the model adds up over the positives of a batch."""
        sampler = self._runs[-1].sampler
        own = sampler.reduction_of_loss if isinstance(sampler, HasLoss) and not self._pretraining else None
        return own or str(self.loss.reduction)

    # docstr-coverage: inherited
    def _after_scoring(self, batch: Batch) -> None:
        if self._learning and world()[1] > 1:
            total = torch.tensor(len(batch), device=self.model.device)
            distributed.all_reduce(total)
            self._share = len(batch) / int(total)
            reduce_gradients(self.model.get_grad_params(), 1.0 if self._reduction == "sum" else self._share)
        super()._after_scoring(batch)

    # docstr-coverage: inherited
    def _train_epoch(self, *, epoch: int, only_size_probing: bool, **kwargs: Any) -> float:  # type: ignore[override]
        loss = super()._train_epoch(epoch=epoch, only_size_probing=only_size_probing, **kwargs)
        size = world()[1]
        if size > 1 and kwargs.get("backward", True):
            total = torch.tensor(loss, dtype=torch.float64, device=self.model.device)
            distributed.all_reduce(total)
            loss = float(total) / (1 if self._reduction == "sum" else size)
            # the running statistics are those of rank 0, which is evaluated and written
            for whole in (self.model, self._runs[-1].sampler):
                for module in get_batchnorm_modules(whole) if isinstance(whole, nn.Module) else ():
                    _from_first(module.buffers())
        return loss

    # docstr-coverage: inherited
    def _log_sampler(self, epoch: int) -> None:
        sampler = self._runs[-1].sampler
        if world()[1] > 1 and isinstance(sampler, Learns):
            for name in sampler.epoch_sums:
                distributed.all_reduce(sampler.get_buffer(name))
        super()._log_sampler(epoch)

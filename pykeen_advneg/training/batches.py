"""Batches drawn on the model's device, without a round trip through a data loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from pykeen.sampling import NegativeSampler
from pykeen.triples.instances import SubGraphSLCWAInstances
from pykeen.triples.weights import LossWeighter
from pykeen.typing import FloatTensor, LongTensor, MappedTriples
from torch.utils.data import IterableDataset, get_worker_info

from ..negatives import Negatives
from ..sampling.base import AdversarialNegativeSampler, HasLoss, Scores
from .parts import Parts

__all__ = ["Batch", "BatchStream", "draw_negatives"]


@dataclass
class Batch:
    """A batch of the loop ``adversarial``; callbacks may read it like the dictionary of PyKEEN's own loop."""

    #: the negatives, which know their positives
    negatives: Negatives

    #: sample weights, shapes: ``(b,)`` and ``(b, k)``
    pos_weights: FloatTensor | None = None
    neg_weights: FloatTensor | None = None

    #: the sampler which proposed them, if it has a loss of its own
    sampler: HasLoss | None = None

    #: the scores of the whole batch, once they are known
    scores: Scores | None = None

    #: where a batch is processed in parts
    parts: Parts | None = None

    def __len__(self) -> int:
        return len(self.negatives)

    def __getitem__(self, key: str) -> Any:
        match key:
            case "positives":
                return self.negatives.positives
            case "negatives":
                return self.negatives.triples
            case "masks":
                return self.negatives.mask
            case "pos_weights" | "neg_weights":
                return getattr(self, key)
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Get an entry, or the default where there is none."""
        try:
            value = self[key]
        except KeyError:
            return default
        return default if value is None else value

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Replace each tensor, in place; for batches which come from a worker process."""
        negatives = self.negatives
        mask = None if negatives.mask is None else function(negatives.mask)
        log_q = None if negatives.log_q is None else function(negatives.log_q)
        positives, ids, column = map(function, (negatives.positives, negatives.ids, negatives.column))
        self.negatives = replace(negatives, positives=positives, ids=ids, column=column, mask=mask, log_q=log_q)
        self.pos_weights = None if self.pos_weights is None else function(self.pos_weights)
        self.neg_weights = None if self.neg_weights is None else function(self.neg_weights)

    def pin_memory(self) -> Batch:
        """Do what a data loader asks of a batch of its own kind."""
        self.map(torch.Tensor.pin_memory)
        return self


def draw_negatives(sampler: NegativeSampler, positives: LongTensor) -> Negatives:
    """Let any sampler draw negatives.

    :param sampler: a sampler of this package, or one of PyKEEN's, which keep their tables on the CPU
    :param positives: shape: ``(b, 3)``

    :returns: the negatives, on the device of the positives
    """
    if isinstance(sampler, AdversarialNegativeSampler):
        return sampler.draw(positives)
    triples, mask = sampler.sample(positives.cpu())
    device = positives.device
    return Negatives.from_triples(positives, triples.to(device), None if mask is None else mask.to(device))


class BatchStream(IterableDataset[Batch]):
    """All training triples once an epoch, in random order, with their negatives."""

    def __init__(
        self,
        triples: MappedTriples,
        sampler: NegativeSampler,
        *,
        batch_size: int,
        drop_last: bool,
        subgraphs: bool = False,
        loss_weighter: LossWeighter | None = None,
    ) -> None:
        """Initialize the stream.

        :param triples: shape: ``(n, 3)``, on the device where batches are wanted
        :param sampler: draws the negatives; it may be replaced between epochs
        :param batch_size: the number of positives in a batch
        :param drop_last: whether an incomplete last batch is left out
        :param subgraphs: whether the triples of a batch hang together (PyKEEN's ``sampler="schlichtkrull"``)
        :param loss_weighter: gives the weights of triples
        """
        super().__init__()
        self.triples = triples
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.loss_weighter = loss_weighter
        self.subgraphs = (
            SubGraphSLCWAInstances(mapped_triples=triples.cpu(), batch_size=batch_size, drop_last=drop_last)
            if subgraphs
            else None
        )

    def __len__(self) -> int:
        full, rest = divmod(len(self.triples), self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        for ids in self._iter_ids():
            positives = self.triples[ids]
            negatives = draw_negatives(self.sampler, positives)
            batch = Batch(negatives, sampler=self.sampler if isinstance(self.sampler, HasLoss) else None)
            if self.loss_weighter is not None:
                # the host's weights are on the CPU
                weights = map(self.loss_weighter.weight_triples, (positives.cpu(), negatives.triples.cpu()))
                batch.pos_weights, batch.neg_weights = (weight.to(positives.device) for weight in weights)
            yield batch

    def _iter_ids(self) -> Iterator[LongTensor]:
        """Give the ids of the positives of each batch; workers share the batches of one permutation."""
        worker = get_worker_info()
        step, offset = (1, 0) if worker is None else (worker.num_workers, worker.id)
        if self.subgraphs is not None:
            for _ in range(offset, len(self), step):
                yield torch.as_tensor(self.subgraphs.subgraph_sample(), device=self.triples.device)
            return
        # a worker's seed is that of the loader plus its number: all workers derive the same permutation
        generator = None if worker is None else torch.Generator().manual_seed(worker.seed - worker.id)
        permutation = torch.randperm(len(self.triples), generator=generator)
        batches = permutation.to(self.triples.device).split(self.batch_size)
        yield from batches[: len(self)][offset::step]

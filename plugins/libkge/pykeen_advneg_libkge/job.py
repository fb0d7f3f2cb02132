"""The training job of LibKGE with ``train.type: advneg_negative_sampling``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pykeen.sampling import NegativeSampler
from pykeen.typing import LongTensor

from pykeen_advneg.checkpoint import get_random_state, set_random_state

from .binding import Binding
from .installed import check_libkge
from .losses import HostLoss
from .settings import KEY, Settings

check_libkge()

from kge.job import Job, TrainingJob  # noqa: E402
from kge.util import KgeOptimizer  # noqa: E402

__all__ = ["Batches", "TrainingJobAdvnegNegativeSampling"]

#: where a checkpoint has what this job adds to it
CHECKPOINT_KEY = "advneg"


class Batches:
    """The batches of an epoch: all triples in random order, on the device of the model."""

    def __init__(self, triples: LongTensor, batch_size: int) -> None:
        """Initialize the batches.

        :param triples: shape: ``(n, 3)``
        :param batch_size: the number of triples in a batch; the last one may have fewer
        """
        self.triples = triples
        self.batch_size = batch_size

    def __len__(self) -> int:
        return (len(self.triples) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        order = torch.randperm(len(self.triples)).to(self.triples.device)
        for ids in order.split(self.batch_size):
            yield {"triples": self.triples[ids]}


class TrainingJobAdvnegNegativeSampling(TrainingJob):  # type: ignore[misc]
    """Trains a model of LibKGE on negatives of any sampler of PyKEEN and pykeen-advneg, which may learn beside it.

    For each batch: the sampler proposes negatives; the model scores them, once; LibKGE's loss, or that of the sampler;
    its backward pass; the sampler learns, from the scores before the model's update; then, as in all of LibKGE's jobs,
    penalties and the step of the model.

    All that LibKGE offers for training jobs holds. What differs from its job ``negative_sampling``: there is one loss
    for each positive with its negatives, not one for each slot; sub-batches do not change the result, also for losses
    over a whole batch; the loader draws on the device of the model, so that ``train.num_workers`` and
    ``train.pin_memory`` have no effect; checkpoints have the state of the sampler and of the random number generators,
    and are written beside the file which they then replace.
    """

    def __init__(
        self, config: Any, dataset: Any, parent_job: Any = None, model: Any = None, forward_only: bool = False
    ) -> None:
        """Initialize the job.

        :param config: the configuration
        :param dataset: the data set
        :param parent_job: the job which this one is a part of
        :param model: the model; None: a new one
        :param forward_only: whether only losses are computed, as in evaluation

        :raises ConfigurationError: if an option cannot work
        """
        super().__init__(config, dataset, parent_job, model=model, forward_only=forward_only)
        self.type_str = KEY
        self.settings = Settings.of(config.get)
        self.triples = dataset.split(self.train_split)[:, :3].long().to(self.device)
        self.binding: Binding | None = None if forward_only else self._bind()
        if not forward_only:
            self.post_epoch_hooks.append(TrainingJobAdvnegNegativeSampling._trace_sampler)
        if self.__class__ == TrainingJobAdvnegNegativeSampling:
            for hook in Job.job_created_hooks:
                hook(self)

    def _bind(self, sampler: NegativeSampler | None = None) -> Binding:
        loss = HostLoss(self.loss, self.config.get("train.loss"))
        sizes = self.dataset.num_entities(), self.dataset.num_relations()
        return Binding(self.model, self.triples, *sizes, self.settings, loss, sampler)

    @property
    def sampler(self) -> NegativeSampler | None:
        """The sampler; None in a job which only computes losses, before it is run."""
        return None if self.binding is None else self.binding.sampler

    def _prepare(self) -> None:
        super()._prepare()
        if self.binding is None:
            sampler = self._sampler_in_training()
            if sampler is None:
                self.config.log("No sampler is in training beside this job: the loss is that of a new, untrained one.")
            self.binding = self._bind(sampler)
        if self.config.get("train.num_workers") > 0:
            self.config.log("train.num_workers has no effect: negatives are drawn on the device of the model.")
        self.config.log(f"Preparing training with the negative sampler {self.settings.sampler.name!r}...")
        self.num_examples = len(self.triples)
        self.loader = Batches(self.triples, self.batch_size)

    def _sampler_in_training(self) -> NegativeSampler | None:
        """Find the sampler of the job which trains the model, if this one is a part of it."""
        job = self.parent_job
        while job is not None:
            if isinstance(job, TrainingJobAdvnegNegativeSampling) and job.model is self.model:
                return job.sampler
            job = job.parent_job
        return None

    @property
    def _bound(self) -> Binding:
        assert self.binding is not None, "the job has not been prepared"
        return self.binding

    def run_epoch(self) -> dict[str, Any]:
        """Run an epoch.

        :returns: its entry in the trace, with the metrics of the sampler, prefixed by ``sampler_``
        """
        if self.is_forward_only:
            self._bound.view.train(self.model.training)
        else:
            group = self.optimizer.param_groups[0]
            share = group["lr"] / group["initial_lr"] if group["initial_lr"] else 1.0
            if self._bound.begin_epoch(self.epoch, share):
                # Adagrad cannot go on with an empty state: that of a new optimizer is taken
                self.optimizer.state = KgeOptimizer.create(self.config, self.model).state
        entry: dict[str, Any] = super().run_epoch()
        return entry

    @staticmethod
    def _trace_sampler(job: TrainingJobAdvnegNegativeSampling) -> None:
        metrics = job._bound.end_epoch()
        job.current_trace["epoch"].update({f"sampler_{name}": value for name, value in metrics.items()})

    def _prepare_batch(self, batch_index: int, batch: dict[str, Any], result: Any) -> None:
        result.prepare_time -= time.time()
        if "draw" not in batch:
            # else the batch is tried again with smaller sub-batches
            batch["draw"] = self._bound.draw(batch["triples"])
        result.size = len(batch["triples"])
        result.prepare_time += time.time()

    def _process_batch(self, batch_index: int, batch: dict[str, Any]) -> Any:
        result = TrainingJob._ProcessBatchResult()
        self._prepare_batch(batch_index, batch, result)
        size = self._bound.part_size(self._max_subbatch_size, result.size)
        for start in range(0, result.size, size):
            part = slice(start, min(start + size, result.size))
            self._process_subbatch(batch_index, batch, part, result)
        if not self.is_forward_only:
            result.backward_time -= time.time()
            self._bound.learn(batch["draw"])
            result.backward_time += time.time()
        return result

    def _process_subbatch(self, batch_index: int, batch: dict[str, Any], subbatch_slice: slice, result: Any) -> None:
        result.forward_time -= time.time()
        loss, value = self._bound.loss_of_part(batch["draw"], subbatch_slice.start, subbatch_slice.stop)
        result.avg_loss += value.item()
        result.forward_time += time.time()
        if self.is_forward_only:
            return
        result.backward_time -= time.time()
        loss.backward()
        result.backward_time += time.time()

    def save(self, filename: str) -> None:
        """Save a checkpoint, so that a kill leaves a whole file or none.

        :param filename: where
        """
        path = Path(filename)
        self.config.log(f"Saving checkpoint to {filename}...")
        # a name which LibKGE does not take for a checkpoint
        temporary = path.with_name(f".{path.name}.part")
        torch.save(self.save_to({}), temporary)
        temporary.replace(path)

    def save_to(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Add the state of this job to a checkpoint.

        :param checkpoint: the checkpoint

        :returns: the same
        """
        super().save_to(checkpoint)
        checkpoint[CHECKPOINT_KEY] = {"sampler": self._bound.state_dict(), "random": get_random_state()}
        return checkpoint

    def _load(self, checkpoint: dict[str, Any]) -> None:
        super()._load(checkpoint)
        own = checkpoint.get(CHECKPOINT_KEY)
        if own is None:
            self.config.log("The checkpoint is of another type of training: the sampler starts anew.")
            return
        self._bound.load_state_dict(own["sampler"])
        set_random_state(own["random"])

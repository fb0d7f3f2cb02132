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
from pykeen_advneg.errors import ConfigurationError

from .binding import Binding
from .installed import check_libkge
from .losses import HostLoss
from .modes import in_mode
from .settings import KEY, Settings, instead, without_effect

check_libkge()

from kge import Config  # noqa: E402
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
    ``train.pin_memory`` have no effect; validations in pre-training do not count; checkpoints have the state of the
    sampler and of the random number generators, and are written beside the file which they then replace.
    """

    #: the results of validations which count
    valid_trace: list[dict[str, Any]]

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
            self.post_run_hooks.append(lambda job, result: job._bound.end_training())
        if self.__class__ == TrainingJobAdvnegNegativeSampling:
            for hook in Job.job_created_hooks:
                hook(self)

    def _bind(self, sampler: NegativeSampler | None = None) -> Binding:
        loss = HostLoss(self.loss, self.config.get("train.loss"))
        sizes = self.dataset.num_entities(), self.dataset.num_relations()
        binding = Binding(self.model, self.triples, *sizes, self.settings, loss, self.dataset.entity_ids, sampler)
        binding.check_parts(self._max_subbatch_size, min(self.batch_size, len(self.triples)))
        return binding

    @property
    def sampler(self) -> NegativeSampler | None:
        """The sampler; None in a job which only computes losses, before it is run."""
        return None if self.binding is None else self.binding.sampler

    def _prepare(self) -> None:
        super()._prepare()
        if self.binding is None:
            sampler = self._sampler_in_training()
            self.binding = self._bind(sampler)
            if sampler is None and self.binding.learns:
                raise ConfigurationError(
                    f"eval.type=training_loss needs the trained sampler {self.settings.sampler.name!r}, which LibKGE "
                    f"does not load with the model: evaluate in training, or by eval.type=entity_ranking."
                )
        self._log_settings()
        self.config.log(f"Preparing training with {self.settings.sampler.in_words(self.sampler)}...")
        self.num_examples = len(self.triples)
        self.loader = Batches(self.triples, self.batch_size)

    def _log_settings(self) -> None:
        """Say which options cannot have the effect which their names promise."""
        ignored = without_effect(self.config.get, Config().get)
        if ignored:
            self.config.log(f"Warning: {', '.join(ignored)}: no effect in a job of type {KEY}. {instead(ignored)}")
        epochs = self.config.get("train.max_epochs")
        if not self.is_forward_only and 0 < epochs <= self.settings.pretraining_epochs:
            self.config.log(
                f"Warning: train.max_epochs={epochs} are all epochs of pre-training, of which there are "
                f"{self.settings.pretraining_epochs}: the sampler {self.settings.sampler.name!r} is not used, and no "
                f"validation counts."
            )

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
        entry: dict[str, Any]
        if self.is_forward_only:
            with in_mode(self.model.training, self._bound.view, self._bound.sampler):
                entry = super().run_epoch()
            return entry
        group = self.optimizer.param_groups[0]
        share = group["lr"] / group["initial_lr"] if group["initial_lr"] else 1.0
        if self._bound.begin_epoch(self.epoch, share):
            # Adagrad cannot go on with an empty state: that of a new optimizer is taken
            self.optimizer.state = KgeOptimizer.create(self.config, self.model).state
        entry = super().run_epoch()
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
        if not self.is_forward_only:
            self._bound.forget_gradients()
        self._prepare_batch(batch_index, batch, result)
        size = self._bound.part_size(self._max_subbatch_size, result.size)
        for start in range(0, result.size, size):
            part = slice(start, min(start + size, result.size))
            self._process_subbatch(batch_index, batch, part, result)
        if not self.is_forward_only:
            result.backward_time -= time.time()
            # a batch whose lesson was broken off is drawn anew if it is tried again
            self._bound.learn(batch.pop("draw"))
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

        It is the last that LibKGE does in an epoch, after validation and its hooks, and before it looks for the best
        validation: those of pre-training are left out.

        :param filename: where
        """
        epochs = self.settings.pretraining_epochs
        self.valid_trace = [entry for entry in self.valid_trace if entry["epoch"] > epochs]
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

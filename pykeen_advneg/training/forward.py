"""The part of the loop ``adversarial`` which scores a batch once, and takes the loss of the whole batch."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import Any

import torch
from pykeen.training.training_loop import NonFiniteLossError
from pykeen.typing import FloatTensor

from ..errors import ConfigurationError
from ..sampling.base import Scores
from ..scoring import Scorer
from .batches import Batch
from .losses import slcwa_loss
from .parts import Parts, score
from .resumption import ResumableTrainingLoop

__all__ = ["WholeBatchTrainingLoop"]


class WholeBatchTrainingLoop(ResumableTrainingLoop, ABC):
    """An sLCWA loop whose loss does not depend on how a batch is cut into sub-batches."""

    def __init__(self, **kwargs: Any) -> None:
        """Initialize the loop.

        :param kwargs: keyword-based parameters of :class:`pykeen.training.SLCWATrainingLoop`
        """
        super().__init__(**kwargs)
        self.scorer = Scorer(self.model, self.mode)

    @abstractmethod
    def _after_scoring(self, batch: Batch) -> None:
        """Do what follows once all scores of a batch are known; called before the update of the model."""

    # docstr-coverage: inherited
    @staticmethod
    def _get_batch_size(batch: Batch) -> int:  # type: ignore[override]
        return len(batch)

    # docstr-coverage: inherited
    def _forward_pass(
        self,
        batch: Batch,  # type: ignore[override]
        start: int,
        stop: int,
        current_batch_size: int,
        label_smoothing: float,
        slice_size: int | None,
        backward: bool = True,
    ) -> float:
        if slice_size is not None:
            raise ConfigurationError(f"slice_size={slice_size} is not possible for negative sampling; leave it out.")
        if batch.negatives.positives.device != self.model.device:
            batch.map(lambda tensor: tensor.to(self.model.device, non_blocking=True))
        loss, value = self._loss_of_part(batch, start, stop, label_smoothing, backward)
        if not torch.isfinite(value):
            raise NonFiniteLossError("Loss is non-finite.")
        if backward:
            loss.backward()
        self.model.post_forward_pass()
        if stop >= current_batch_size:
            self._after_scoring(batch)
        return value.item()

    def _loss_of_part(
        self, batch: Batch, start: int, stop: int, label_smoothing: float, backward: bool
    ) -> tuple[FloatTensor, FloatTensor]:
        """Compute what is differentiated, and the share in the loss of the batch, for the positives ``start:stop``."""
        is_whole = start == 0 and stop >= len(batch)
        if is_whole:
            scores = score(self.scorer, batch.negatives, batch.sampler)
            loss = self._loss_of_scores(batch, scores, label_smoothing) + self.model.collect_regularization_term()
            batch.scores = scores.map(torch.Tensor.detach)
            return loss, loss.detach()
        if start == 0:
            loss_of_scores = functools.partial(self._loss_of_scores, batch, label_smoothing=label_smoothing)
            batch.parts = Parts(self.scorer, batch.negatives, batch.sampler, stop, loss_of_scores)
            batch.scores = batch.parts.scores
        assert batch.parts is not None
        surrogate = batch.parts.surrogate(start, stop)
        share = (stop - start) / len(batch)
        regularization = self.model.collect_regularization_term() * share
        return surrogate + regularization, batch.parts.loss * share + torch.as_tensor(regularization).detach()

    def _loss_of_scores(self, batch: Batch, scores: Scores, label_smoothing: float) -> FloatTensor:
        """Apply the sampler's loss to a whole batch, if it has one, else the host's."""
        host = functools.partial(
            slcwa_loss,
            self.loss,
            negatives=batch.negatives,
            num_entities=self.model._get_entity_len(mode=self.mode),
            label_smoothing=label_smoothing,
            pos_weights=batch.pos_weights,
            neg_weights=batch.neg_weights,
        )
        return host(scores) if batch.sampler is None else batch.sampler.loss(batch.negatives, scores, host)

    # docstr-coverage: inherited
    def _process_batch(  # type: ignore[override]
        self, batch: Batch, start: int, stop: int, label_smoothing: float = 0.0, slice_size: int | None = None
    ) -> FloatTensor:
        return self._loss_of_part(batch, start, stop, label_smoothing, backward=True)[0]

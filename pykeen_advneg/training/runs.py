"""What the loop keeps of one training."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from pykeen.evaluation import RankBasedEvaluator
from pykeen.sampling import NegativeSampler
from pykeen.stoppers import Stopper
from pykeen.typing import FloatTensor
from torch import nn
from torch.linalg import vector_norm

from ..evaluation import FastRankBasedEvaluator
from .batches import BatchStream

__all__ = ["AfterPretraining", "Clipping", "Run", "cheap_collection", "fast_validation"]


@contextmanager
def cheap_collection() -> Iterator[None]:
    """Spare the garbage collection which the host asks for after each epoch all objects that are there already.

    On small graphs, to walk through the modules which are loaded takes longer than an epoch.
    """
    if gc.get_freeze_count():
        # somebody else does so, and will unfreeze
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def fast_validation(stopper: Stopper | None) -> Iterator[None]:
    """Let early stopping evaluate by :class:`FastRankBasedEvaluator` where it would by that of PyKEEN; same values.

    :param stopper: the stopper of the training
    """
    evaluator = getattr(stopper, "evaluator", None)
    if type(evaluator) is not RankBasedEvaluator:
        yield
        return
    replaced = cast(Any, stopper)
    replaced.evaluator = FastRankBasedEvaluator.like(evaluator)
    try:
        yield
    finally:
        replaced.evaluator = evaluator


class AfterPretraining(Stopper):
    """A stopper which is not asked in the epochs of pre-training.

    In these, another sampler than that of the user is at work: none of them may be the best epoch, and none may use up
    patience. All else is left to the stopper itself, which only knows of the epochs in which it was asked.
    """

    def __init__(self, stopper: Stopper, pretraining_epochs: int) -> None:
        """Initialize the stopper.

        :param stopper: the stopper of the user
        :param pretraining_epochs: in how many epochs, from the first, it is not asked
        """
        # the host's own initialisation sets the best epoch, which is asked for here
        self.stopper = stopper
        self.pretraining_epochs = pretraining_epochs

    @property
    def best_epoch(self) -> int | None:  # type: ignore[override]
        """The best epoch of the stopper itself."""
        epoch: int | None = getattr(self.stopper, "best_epoch", None)
        return epoch

    # docstr-coverage: inherited
    def should_evaluate(self, epoch: int) -> bool:  # noqa: D102
        return epoch > self.pretraining_epochs and self.stopper.should_evaluate(epoch)

    # docstr-coverage: inherited
    def should_stop(self, epoch: int) -> bool:  # noqa: D102
        return self.stopper.should_stop(epoch)

    # docstr-coverage: inherited
    def get_summary_dict(self) -> Mapping[str, Any]:  # noqa: D102
        return self.stopper.get_summary_dict()


@dataclass
class Run:
    """One call of the host's ``_train``; the memory probe is a call inside a call."""

    probing: bool
    continued: bool
    sampler: NegativeSampler | None = None
    pretraining_sampler: NegativeSampler | None = None
    stream: BatchStream | None = None


@dataclass(frozen=True)
class Clipping:
    """Clips the gradients of the model and of its sampler."""

    max_norm: float | None
    norm_type: float | None
    max_abs_value: float | None

    @property
    def is_needed(self) -> bool:
        """Whether there is any limit."""
        return self.max_norm is not None or self.max_abs_value is not None

    def __call__(self, parameters: Iterable[nn.Parameter]) -> None:
        """Clip the gradients of some parameters.

        :param parameters: those with gradients; others are left out
        """
        gradients = [_values(parameter) for parameter in parameters if parameter.grad is not None]
        if self.max_norm is not None and gradients:
            norm_type = self.norm_type or 2.0
            norms = torch.stack([vector_norm(gradient, norm_type) for gradient in gradients])
            norm = vector_norm(norms, norm_type)
            if not bool(torch.isfinite(norm)):
                raise RuntimeError(f"The norm of the gradients is {norm.item()}, which cannot be clipped.")
            factor = (self.max_norm / (norm + 1e-6)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(factor)
        if self.max_abs_value is not None:
            for gradient in gradients:
                gradient.clamp_(-self.max_abs_value, self.max_abs_value)


def _values(parameter: nn.Parameter) -> FloatTensor:
    """Give the numbers of a gradient, each once, of which a sparse one may have several for an element before."""
    assert parameter.grad is not None
    if not parameter.grad.is_sparse:
        return parameter.grad
    parameter.grad = parameter.grad.coalesce()
    return parameter.grad._values()

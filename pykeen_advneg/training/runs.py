"""What the loop keeps of one training."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pykeen.sampling import NegativeSampler
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from .batches import BatchStream

__all__ = ["Clipping", "Run", "cheap_collection"]


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

    def __call__(self, parameters: Iterable[nn.Parameter]) -> None:
        """Clip the gradients of some parameters.

        :param parameters: those with gradients; others are left out
        """
        parameters = list(parameters)
        if self.max_norm is not None:
            clip_grad_norm_(parameters, self.max_norm, self.norm_type or 2.0, error_if_nonfinite=True)
        if self.max_abs_value is not None:
            clip_grad_value_(parameters, self.max_abs_value)

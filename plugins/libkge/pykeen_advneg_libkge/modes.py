"""Training or evaluation mode, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["in_mode"]


@contextmanager
def in_mode(is_training: bool, *modules: nn.Module) -> Iterator[None]:
    """Put modules into a mode, and each of their parts back into its own.

    :param is_training: whether into training mode
    :param modules: the modules

    :yields: nothing
    """
    before = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.train(is_training)
    try:
        yield
    finally:
        for part, mode in before:
            part.training = mode

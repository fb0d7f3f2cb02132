"""Embedding tables of which a step touches only the rows of its batch: sparse gradients, constraints row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from pykeen.models import Model
from pykeen.nn.representation import Embedding
from pykeen.typing import FloatTensor
from torch import nn
from torch.optim import Optimizer

from ..optim import RowOptimizer

__all__ = ["MANY_ROWS", "row_wise"]

#: a smaller table has a dense gradient: to find its distinct rows in a batch takes more time than to update all
MANY_ROWS = 2048

#: rows of a table which is constrained as a whole: a constrainer makes a copy of what it gets
CONSTRAINED_AT_ONCE = 65536


@dataclass(frozen=True)
class _RowConstrainer:
    """Constrains the rows which the last step has changed; all of them in the first step of a training."""

    #: what constrains a whole table; row by row, as all constrainers of PyKEEN do
    constrainer: Callable[[FloatTensor], FloatTensor]

    embedding: Embedding

    #: gives the optimizer of the training; that which there is at the start is replaced
    optimizer: Callable[[], Optimizer | None]

    def __call__(self, x: FloatTensor) -> FloatTensor:
        x = x.detach()
        weight, optimizer = cast(nn.Parameter, self.embedding._embeddings.weight), self.optimizer()
        rows = optimizer.rows.get(weight) if isinstance(optimizer, RowOptimizer) else None
        if rows is None or cast(RowOptimizer, optimizer).num_steps(weight) == 1:
            for part in x.split(CONSTRAINED_AT_ONCE):
                part.copy_(self.constrainer(part))
            return x
        return x.index_copy_(0, rows, self.constrainer(x.index_select(0, rows)))

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Let a model which is pickled during training, by a callback, have the constrainer that it will have after."""
        return _same, (self.constrainer,)


def _same(x: object) -> object:
    return x


@contextmanager
def row_wise(model: Model, optimizer: Callable[[], Optimizer | None]) -> Iterator[None]:
    """Let the large tables of a model have sparse gradients, if its optimizer takes them.

    PyKEEN constrains whole tables after each step. While the context is open, the ``constrainer`` of a table with
    sparse gradients is one which leaves the other rows alone: they have been constrained when they last changed.

    :param model: the model
    :param optimizer: gives the optimizer of the model
    """
    changed: list[tuple[Any, str, Any]] = []

    def change(target: Any, name: str, value: Any) -> None:
        changed.append((target, name, getattr(target, name)))
        setattr(target, name, value)

    if isinstance(optimizer(), RowOptimizer):
        for module in model.modules():
            if isinstance(module, Embedding) and module.max_id > MANY_ROWS and not module._embeddings.sparse:
                change(module._embeddings, "sparse", True)
                if module.constrainer is not None:
                    change(module, "constrainer", _RowConstrainer(module.constrainer, module, optimizer))
            elif isinstance(module, nn.Embedding) and module.num_embeddings > MANY_ROWS and not module.sparse:
                # e.g., the words of an encoder of texts
                change(module, "sparse", True)
    try:
        yield
    finally:
        for target, name, value in reversed(changed):
            setattr(target, name, value)

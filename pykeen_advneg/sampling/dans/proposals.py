"""Negatives of which some are ids, and some are generated representations."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from pykeen.typing import BoolTensor, FloatTensor
from typing_extensions import override

from ...negatives import Negatives

__all__ = ["GeneratedNegatives", "Lesson"]

#: the sides of a positive, in the order in which conditions have them
TAIL_SIDE, HEAD_SIDE = 0, 1


@dataclass(frozen=True)
class Lesson:
    """What the networks of DANS learn from, detached."""

    #: the entities of the positives, tails first, shape: ``(2 * b, dim)``
    real: FloatTensor

    #: of each generator by name, for tails and heads, shape: ``(b, 2, condition_dim)``
    conditions: dict[str, FloatTensor]


@dataclass(frozen=True)
class GeneratedNegatives(Negatives):
    """Negatives of ids, and ``n`` generated entities for each positive besides.

    ``ids``, ``column`` and ``mask`` are those of the negatives of ids alone.
    """

    #: the generated entities as vectors, shape: ``(b, n, dim)``; ``None``: they are generated when they are scored
    generated: FloatTensor | None = None

    #: whether a generated entity stands for the head, shape: ``(b, n)``
    is_head: BoolTensor | None = None

    #: what the networks learn from; ``None`` in a part of a batch
    lesson: Lesson | None = None

    @classmethod
    def of(cls, negatives: Negatives, **more: Any) -> GeneratedNegatives:
        """Add generated entities to negatives.

        :param negatives: the negatives of ids
        :param more: the further fields
        """
        return cls(**{field.name: getattr(negatives, field.name) for field in fields(Negatives)}, **more)

    @property
    def num_generated(self) -> int:
        """How many entities are generated for each positive."""
        return 0 if self.is_head is None else self.is_head.shape[1]

    @override
    def narrow(self, start: int, stop: int) -> Negatives:
        part = super().narrow(start, stop)
        if part is self:
            return self
        return GeneratedNegatives.of(
            part,
            generated=None if self.generated is None else self.generated[start:stop],
            is_head=None if self.is_head is None else self.is_head[start:stop],
        )

"""What a proposal of MMRNS keeps for the loss and the lesson after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from pykeen.typing import BoolTensor, FloatTensor, LongTensor

from ...negatives import Negatives

__all__ = ["PooledNegatives"]


@dataclass(frozen=True)
class PooledNegatives(Negatives):
    """Negatives which were drawn from a pool that a batch shares."""

    #: the candidates, shape: ``(p,)``
    pool: LongTensor = field(kw_only=True)

    #: where in the pool the negatives are, shape: ``(b, k)``
    places: LongTensor = field(kw_only=True)

    #: which candidates are known answers, shape: ``(b, p)``
    is_known: BoolTensor = field(kw_only=True)

    #: the soft draws, shape: ``(b, k, p)``; ``None``: draws are hard
    soft: FloatTensor | None = field(default=None, kw_only=True)

    #: how hard the draw was, by name: scalars
    statistics: Mapping[str, FloatTensor] = field(default_factory=dict, kw_only=True, compare=False)

    #: the similarities by which they were drawn, with their graph; taken out once, as a graph can be used once
    graph: list[Mapping[str, FloatTensor]] = field(default_factory=list, kw_only=True, compare=False)

    def take_graph(self) -> Mapping[str, FloatTensor] | None:
        """Take the similarities out, if they are still there and may be differentiated now."""
        return self.graph.pop() if self.graph and torch.is_grad_enabled() else None

    @property
    def drawn(self) -> BoolTensor:
        """Which of the negatives count, shape: ``(b, k)``."""
        return torch.ones_like(self.ids, dtype=torch.bool) if self.mask is None else self.mask

    # docstr-coverage: inherited
    def narrow(self, start: int, stop: int) -> Negatives:
        """Cut out the negatives of the positives ``start:stop``; the pool stays.

        :param start: the first positive
        :param stop: the one after the last

        :returns: their negatives
        """
        if start == 0 and stop >= len(self):
            return self
        part = super().narrow(start, stop)
        values: dict[str, Any] = {each.name: getattr(part, each.name) for each in fields(Negatives)}
        return PooledNegatives(
            **values,
            pool=self.pool,
            places=self.places[start:stop],
            is_known=self.is_known[start:stop],
            soft=None if self.soft is None else self.soft[start:stop],
        )

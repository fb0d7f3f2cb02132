"""Random masks which need not be stored: each number is a hash of its place, with keys which a generator gives.

With the same key, they are the same with and without Numba, on any device, for any number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pykeen.typing import LongTensor

from .compiling import kernels
from .hashes import Key, are_ones
from .layouts import elements

__all__ = ["Key", "PairMasks", "bernoulli"]


def bernoulli(shape: torch.Size, key: Key, dtype: torch.dtype, device: torch.device | None = None) -> torch.Tensor:
    """Give the numbers at the first places; with Numba, in a fraction of the time of ``bernoulli_`` or of ``rand``.

    :param shape: how many, less than 2 ** 31
    :param key: what they depend on
    :param dtype: their type
    :param device: where they are made

    :returns: 0 or 1 at each place
    """
    if key.constant is not None:
        return torch.full(shape, key.constant, dtype=dtype, device=device)
    numbers = torch.empty(shape, dtype=dtype, device=device)
    compiled = kernels(numbers)
    if compiled is not None:
        compiled.bernoulli(numbers, *key)
        return numbers
    places = torch.arange(shape.numel(), dtype=torch.int32, device=device)
    return numbers.copy_(are_ones(places, key).view(shape))


class PairMasks(NamedTuple):
    """The masks of pairs of queries and candidates; beyond 2 ** 32 numbers, they repeat."""

    key: Key

    #: how many numbers a pair has
    width: int

    #: which of them the components have, shape: ``(d,)``
    components: LongTensor

    def dense(self, shape: tuple[int, ...], dtype: torch.dtype = torch.int8) -> torch.Tensor:
        """Give the masks.

        :param shape: that of the pairs
        :param dtype: the type of the numbers

        :returns: 0 or 1, shape: ``(*shape, d)``
        """
        components, pairs = self.components, torch.Size(shape).numel()
        if self.key.constant is not None:
            return torch.full((*shape, len(components)), self.key.constant, dtype=dtype, device=components.device)
        numbers = torch.empty(pairs, len(components), dtype=dtype, device=components.device)
        step = max(1, elements(numbers) // max(1, len(components)))
        for start in range(0, pairs, step):
            first = torch.arange(start, min(start + step, pairs), dtype=torch.int32, device=components.device)
            places = first.mul_(self.width).unsqueeze(-1) + components.to(torch.int32)
            numbers[start : start + step] = are_ones(places, self.key)
        return numbers.view(*shape, len(components))

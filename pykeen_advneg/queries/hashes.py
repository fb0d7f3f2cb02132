"""Random numbers, 0 or 1, which are hashes of their places with keys."""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["FACTORS", "SHIFTS", "STRIDE", "Key", "are_ones"]

#: the steps of a hash of 32 bits with hardly any bias ("lowbias32" of hash-prospector), and the golden ratio
SHIFTS, FACTORS, STRIDE = (16, 15, 16), (0x7FEB352D, 0x846CA68B), 0x9E3779B9


class Key(NamedTuple):
    """What the numbers at all places depend on."""

    #: a number is 1 if its hash is below: the probability, times 2 ** 32
    limit: int

    #: 32 random bits
    low: int

    #: 32 others
    high: int

    @classmethod
    def draw(cls, rate: float, device: torch.device | None, generator: torch.Generator | None) -> Key:
        """Draw a key.

        :param rate: the probability of 1, which is rounded to a multiple of 1 / 2 ** 32
        :param device: that of the generator
        :param generator: the source of chance

        :returns: the key
        """
        low, high = torch.randint(2**32, (2,), device=device, generator=generator).tolist()
        return cls(round(rate * 2**32), low, high)

    @property
    def constant(self) -> bool | None:
        """What all numbers are, if there is no chance; None if there is."""
        return self.limit >= 2**32 if self.limit <= 0 or self.limit >= 2**32 else None


def are_ones(places: torch.Tensor, key: Key) -> torch.Tensor:
    """Compare the hashes of places, which are overwritten, with the limit; 32 bits which wrap."""
    x = places.mul_(_signed(STRIDE)).add_(_signed(key.low))
    for i, shift in enumerate(SHIFTS):
        x ^= (x >> shift) & (2 ** (32 - shift) - 1)
        if i < len(FACTORS):
            x.mul_(_signed(FACTORS[i])).add_(_signed(key.high))
    return (x ^ _signed(2**31)) < key.limit - 2**31


def _signed(x: int) -> int:
    """Give the signed number of 32 bits with the same bits."""
    return x - 2**32 if x >= 2**31 else x

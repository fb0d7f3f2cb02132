"""Loops over all components of all pairs on a CPU, compiled by Numba: no temporary has the components of pairs.

They give what :mod:`pykeen_advneg.queries.mixing` computes by PyTorch, a block of pairs at a time, but for rounding.
Each number is computed by one thread in a fixed order, without fast mathematics: it does not depend on the number of
threads, nor on whether the machine code was compiled or came from Numba's cache.

Numba is an extra; cf. :func:`pykeen_advneg.queries.compiling.kernels`.
"""

from .loops import TYPES, Kind
from .masks import bernoulli
from .mixed import gradients, sums

__all__ = ["TYPES", "Kind", "bernoulli", "gradients", "sums"]

"""Loops over all components of all pairs on a CPU, compiled by Numba: one pass, and no temporary.

They give what :mod:`pykeen_advneg.queries.kernels` and :mod:`pykeen_advneg.queries.mixing` compute by PyTorch, a block
of pairs at a time. Each number is computed by one thread in a fixed order: how many threads there are does not change
it.

Numba is an extra; cf. :func:`pykeen_advneg.queries.compiling.kernels`.
"""

from .distances import distance_gradients, distances
from .loops import TYPES, Kind
from .masks import bernoulli
from .mixed import gradients, sums

__all__ = ["TYPES", "Kind", "bernoulli", "distance_gradients", "distances", "gradients", "sums"]

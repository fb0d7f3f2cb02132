"""The contract of negative samplers, as tests which every sampler can inherit.

A distribution which brings a sampler of its own runs them like this, and needs pytest and hypothesis for it::

    import pytest

    pytest.register_assert_rewrite("pykeen_advneg.testing")

    from pykeen_advneg.testing import SamplerContract


    class TestMySampler(SamplerContract):
        cls = MySampler
        kwargs = {"alpha": 0.5}

All runs are on random graphs of a few entities, by a real-valued model (DistMult), a complex-valued one (ComplEx), a
translational one (TransE), and one with two representations for each entity and relation (TransD).
"""

from __future__ import annotations

from .description import DescriptionContract
from .proposals import ProposalContract
from .runs import RunContract

__all__ = ["SamplerContract"]


class SamplerContract(ProposalContract, RunContract, DescriptionContract):
    """What holds for every sampler of this package; inherit it under a name which starts with ``Test``."""

"""What part of the machine's limits training reaches: DistMult's shared negatives beside a copy and a product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..sampling.making import make_sampler
from ..training import AdversarialTrainingLoop
from ..training.batches import draw_negatives
from ..training.rows import row_wise
from .arms import Arm, Work, engine, stock
from .graphs import Graph
from .machine import peaks
from .probes import Probe, Sample, seconds_per_call
from .settings import Settings
from .steps import StepProbe, flops_per_step

__all__ = ["bytes_per_score", "intensity", "roofline_jobs"]


def bytes_per_score(dim: int, negatives: int, chunk_size: int) -> float:
    r"""Estimate the traffic of a score of shared negatives, in bytes, with rows of $d$ numbers of 4 bytes.

    A row is read for the scores and for their gradient, and its own gradient is read and written: $16 d$ bytes. A
    query is shared by $k$ scores and a candidate by a chunk of $c$. Scores and their gradients take 24 bytes more.

    :param dim: $d$
    :param negatives: $k$
    :param chunk_size: $c$

    :returns: $16 d (1 / c + 1 / k) + 24$
    """
    return 16 * dim * (1 / chunk_size + 1 / negatives) + 24


def intensity(dim: int, negatives: int, chunk_size: int) -> float:
    """Say how many operations there are for each byte.

    :param dim: the dimension
    :param negatives: the number of negatives
    :param chunk_size: how many positives share them

    :returns: operations a byte; above SGEMM / copy bandwidth, products are the limit, below it the memory
    """
    return 6 * dim / bytes_per_score(dim, negatives, chunk_size)


class ScorerProbe(Probe):
    """Scores shared negatives and carries a gradient back to the embedding tables; no loss, no optimizer."""

    unit = "GFLOP/s"

    def __init__(self, case: dict[str, Any], arm: Arm, work: Work, graph: Graph, settings: Settings) -> None:
        """Initialize the probe.

        :param case: the case of the record
        :param arm: whose sampler draws the negatives
        :param work: whose model scores
        :param graph: the graph
        :param settings: the settings
        """
        self.kind, self.case, self.arm, self.setup = "roofline", case, "scorer", {"part": "forward and backward"}
        self.how, self.work, self.graph, self.settings = arm, work, graph, settings

    def measure(self, repeat: int) -> Sample:
        """Score one batch again and again."""
        seed, work = self.settings.seed + repeat, self.work
        factory = self.graph.factory(work.batch_size, seed)
        loop = work.make_loop(self.how, factory, seed)
        assert isinstance(loop, AdversarialTrainingLoop)
        sampler = make_sampler(self.how.negative_sampler, self.how.negative_sampler_kwargs, factory)
        torch.manual_seed(seed)
        negatives = draw_negatives(sampler, factory.mapped_triples)
        gradient = torch.ones(negatives.shape)
        # in evaluation mode no regulariser looks on
        loop.model.eval()

        def score() -> None:
            loop.model.zero_grad(set_to_none=True)
            loop.scorer.negatives(negatives).backward(gradient)

        with row_wise(loop.model, lambda: loop.optimizer):
            step = seconds_per_call(score, self.settings.seconds)
        return Sample(flops_per_step(work) / step / 1e9, {"ms a step": 1e3 * step})


def roofline_jobs(settings: Settings, graph: Graph) -> Iterator[Sequence[Probe]]:
    """Measure limits, scorer and step in turns.

    :param settings: the settings; of the numbers of negatives, the largest counts
    :param graph: the graph

    :returns: the jobs
    """
    work = Work.of(settings, model="distmult", negatives=max(settings.negatives))
    own = engine(settings, work.negatives)
    operations = round(intensity(work.dim, work.negatives, settings.chunk_size), 3)
    case = {"dataset": graph.name, **work.case, "chunk_size": settings.chunk_size, "operations_a_byte": operations}
    arms = (own, stock(settings, work.negatives))
    steps = [StepProbe("roofline", case, arm, work, lambda: graph, settings, unit="GFLOP/s") for arm in arms]
    yield [*peaks("roofline", case, settings), ScorerProbe(case, own, work, graph, settings), *steps]

"""The time of a training step, and what is derived from it: throughput, scaling."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from pykeen.training import SLCWATrainingLoop
from pykeen.training.callbacks import TrainingCallback

from .arms import CANDIDATES, MARGIN, Arm, Work, emu_arms, engine, kbgan_arms, mmrns_arms, stock
from .graphs import Graph, random_graph
from .probes import Probe, Sample
from .settings import Settings

__all__ = [
    "SKIPPED",
    "StepClock",
    "StepProbe",
    "emu_jobs",
    "kbgan_jobs",
    "mmrns_jobs",
    "scaling_jobs",
    "steps_within",
    "training_jobs",
]

#: the batch size of MMRNS's paper
MMRNS_BATCH = 400

#: the batches at the start of a training which do not count: the first steps make the optimizer's state
SKIPPED = 2


class StepClock(TrainingCallback):
    """Reads the clock after each batch.

    As callbacks of a user come before PyKEEN's own, this is between the backward pass of a batch and the update by it.
    From one reading to the next, there is all of a step, of two batches: the update; then drawing positives and
    negatives, scores, loss, and gradients.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stamps: list[float] = []

    def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
        """Read the clock."""
        self.stamps.append(time.perf_counter())

    @property
    def steps(self) -> list[float]:
        """The seconds of each step, those of the first batches left out."""
        durations = [stop - start for start, stop in zip(self.stamps, self.stamps[1:], strict=False)]
        return durations[SKIPPED - 1 :]


def steps_within(seconds: float, step: float, available: int) -> int:
    """Choose how many batches a repeat has.

    :param seconds: how long it should take
    :param step: how long a step takes
    :param available: how many whole batches the graph has

    :returns: the number of batches, of which at least one counts
    """
    return min(available, max(SKIPPED + 1, SKIPPED + round(seconds / max(step, 1e-9))))


class StepProbe(Probe):
    """Trains a new model on a random subset of the triples, and takes the median of the times of its steps."""

    def __init__(
        self,
        kind: str,
        case: dict[str, Any],
        arm: Arm,
        work: Work,
        graph: Callable[[], Graph],
        settings: Settings,
        unit: str = "positives/s",
    ) -> None:
        """Initialize the probe.

        :param kind: the kind of the record
        :param case: the case of the record
        :param arm: how to train
        :param work: what to train
        :param graph: gives the graph, which is then held only as long as it is needed
        :param settings: the settings
        :param unit: ``positives/s``, ``ms`` for the time of a step, or ``GFLOP/s``
        """
        self.kind, self.case, self.arm, self.unit, self.setup = kind, case, arm.name, unit, arm.setup
        self.how, self.work, self.graph, self.settings = arm, work, graph, settings
        self.num_steps: int | None = None

    def prepare(self) -> None:
        """Train for a few steps to learn how many a repeat may have."""
        graph = self.graph()
        available = len(graph.triples) // self.work.batch_size
        step = statistics.median(self.train(graph, SKIPPED + 1, self.settings.seed))
        self.num_steps = steps_within(self.settings.seconds, step, available)

    def measure(self, repeat: int) -> Sample:
        """Train, and take the median of the times of the steps."""
        assert self.num_steps is not None
        step = statistics.median(self.train(self.graph(), self.num_steps, self.settings.seed + repeat))
        rate = self.work.batch_size / step
        values = {"positives/s": rate, "ms": 1e3 * step, "GFLOP/s": flops_per_step(self.work) / step / 1e9}
        details = {"ms a step": 1e3 * step, "scores/s": rate * self.how.scores_per_positive}
        return Sample(values[self.unit], {**details, "steps": self.num_steps - SKIPPED})

    def train(self, graph: Graph, num_steps: int, seed: int) -> list[float]:
        """Train for some steps.

        :param graph: the graph
        :param num_steps: the number of batches
        :param seed: the seed of subset, model and negatives

        :returns: the seconds of the steps which count
        """
        # a loop and its callbacks know each other: without this, the memory of the last training would stay
        gc.collect()
        torch.set_num_threads(self.work.threads)
        factory = graph.factory(num_steps * self.work.batch_size, seed)
        loop = self.work.make_loop(self.how, factory, seed)
        clock = StepClock()
        torch.manual_seed(seed)
        run_epoch(loop, factory, self.work.batch_size, clock)
        torch.set_num_threads(self.settings.threads)
        return clock.steps


def run_epoch(loop: SLCWATrainingLoop, factory: Any, batch_size: int, *callbacks: TrainingCallback) -> None:
    """Train one epoch without a word.

    :param loop: the loop
    :param factory: the training triples
    :param batch_size: the batch size
    :param callbacks: what looks on
    """
    loop.train(factory, num_epochs=1, batch_size=batch_size, use_tqdm=False, callbacks=list(callbacks))


def flops_per_step(work: Work) -> int:
    r"""Count the floating point operations of the products which a step of DistMult cannot do without.

    A score is a dot product, $2 d$ operations, and its gradients by query and by candidate are as many each: $6 d$ for
    each of $b k$ scores of negatives. Those of $b$ positives, of loss and optimizer are left out.

    :param work: the work

    :returns: $6 d b k$
    """
    return 6 * work.dim * work.batch_size * work.negatives


def training_jobs(settings: Settings, graph: Graph) -> Iterator[Sequence[Probe]]:
    """Compare throughput for each model and number of negatives.

    :param settings: the settings
    :param graph: the graph

    :returns: the jobs, the probes of each of which are asked in turns
    """
    for negatives in settings.negatives:
        for model in settings.models:
            work = Work.of(settings, model=model, negatives=negatives)
            case = {"dataset": graph.name, **work.case}
            arms = (stock(settings, negatives), engine(settings, negatives))
            yield [StepProbe("training", case, arm, work, lambda: graph, settings) for arm in arms]


def kbgan_jobs(settings: Settings, graph: Graph) -> Iterator[Sequence[Probe]]:
    """Compare KBGAN with uniform negatives, TransE L1 and margin loss as in its paper.

    :param settings: the settings
    :param graph: the graph

    :returns: the jobs
    """
    for dim in settings.kbgan_dims:
        work = Work.of(
            settings, model="transe-l1", dim=dim, loss="marginranking", loss_kwargs={"margin": MARGIN}, negatives=20
        )
        case = {"dataset": graph.name, **work.case}
        yield [StepProbe("kbgan", case, arm, work, lambda: graph, settings) for arm in kbgan_arms(settings)]


def emu_jobs(settings: Settings, graph: Graph) -> Iterator[Sequence[Probe]]:
    """Compare EMU with its bases, for each model.

    :param settings: the settings
    :param graph: the graph

    :returns: the jobs
    """
    negatives = max(settings.negatives)
    for model in settings.models:
        work = Work.of(settings, model=model, negatives=negatives)
        case = {"dataset": graph.name, **work.case}
        yield [StepProbe("emu", case, arm, work, lambda: graph, settings) for arm in emu_arms(settings, negatives)]


def mmrns_jobs(settings: Settings, graph: Graph) -> Iterator[Sequence[Probe]]:
    """Compare MMRNS with uniform negatives at the size of its paper: 20 negatives, batches of 400 at most; TransE (L1).

    :param settings: the settings
    :param graph: the graph

    :returns: the jobs
    """
    batch = min(MMRNS_BATCH, settings.batch_size)
    loss: dict[str, Any] = {"loss": "nssa", "loss_kwargs": {"margin": 6.0, "adversarial_temperature": 0.5}}
    work = Work.of(settings, model="transe-l1", negatives=CANDIDATES, batch_size=batch, **loss)
    case = {"dataset": graph.name, **work.case}
    own = mmrns_arms(settings, CANDIDATES, graph.num_entities)
    yield [StepProbe("mmrns", case, arm, work, lambda: graph, settings, unit="ms") for arm in own]


def scaling_jobs(settings: Settings, graph: Graph) -> Iterator[Sequence[Probe]]:
    """Sweep one size after the other; all values of a sweep are asked in turns.

    :param settings: the settings
    :param graph: the graph of all sweeps but that of entities, which has random ones

    :returns: the jobs
    """
    for sweep, values in settings.sweeps.items():
        probes: list[Probe] = []
        for value in values:
            work = Work.of(settings) if sweep == "entities" else Work.of(settings, **{sweep: value})

            def graph_of(value: int = value, sweep: str = sweep) -> Graph:
                return random_graph(value, settings.seed) if sweep == "entities" else graph

            name = "random" if sweep == "entities" else graph.name
            case = {"sweep": sweep, "value": value, "dataset": name, **work.case}
            for arm in (stock(settings, work.negatives), engine(settings, work.negatives)):
                probes.append(StepProbe("scaling", case, arm, work, graph_of, settings, unit="ms"))
        yield probes

"""How long a model is trained until it reaches a validation MRR."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from pykeen.datasets import Dataset
from pykeen.training.callbacks import TrainingCallback

from ..comparison.tracking import RANKING_METRICS
from ..evaluation import FastRankBasedEvaluator
from .arms import Arm, Work, engine, stock
from .graphs import Graph
from .probes import Probe, Sample
from .settings import Settings

__all__ = ["Race", "ReachProbe", "reach_jobs"]

#: evaluations are this much apart, as a factor of the time of training, which bounds the error of a result
SPACING = 1.2
#: the first evaluation comes after this share of the budget
FIRST = 1 / 1000


class Finished(Exception):  # noqa: N818
    """Ends a training; PyKEEN lets it pass."""


class Race(TrainingCallback):
    """Stops the clock to evaluate, and ends the training when the goal is reached or the budget spent.

    Evaluations come between two steps, at times which grow by the factor :data:`SPACING`, whatever an epoch is.
    """

    def __init__(self, evaluate: Callable[[], float], goal: float, budget: float) -> None:
        """Initialize the callback.

        :param evaluate: gives the validation MRR
        :param goal: the MRR to reach
        :param budget: the longest training, in seconds
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.evaluate, self.goal, self.budget = evaluate, goal, budget
        self.next = budget * FIRST
        self.seconds = 0.0
        self.started: float | None = None
        #: seconds of training, and the MRR then
        self.curve: list[tuple[float, float]] = []

    @property
    def is_reached(self) -> bool:
        """Whether the goal was reached."""
        return bool(self.curve) and self.curve[-1][1] >= self.goal

    def pre_batch(self, **kwargs: Any) -> None:
        """Look at the clock after a step, the next batch being drawn."""
        now = time.perf_counter()
        if self.started is not None:
            self.seconds += now - self.started
        is_spent = self.seconds >= self.budget
        if self.seconds >= self.next or is_spent:
            self.curve.append((self.seconds, self.evaluate()))
            if self.is_reached or is_spent:
                raise Finished
            self.next = self.seconds * SPACING
        self.started = time.perf_counter()


class ReachProbe(Probe):
    """Trains a model until it reaches the goal."""

    unit = "s"

    def __init__(
        self, case: dict[str, Any], arm: Arm, work: Work, dataset: Dataset, graph: Graph, settings: Settings
    ) -> None:
        """Initialize the probe.

        :param case: the case of the record
        :param arm: how to train
        :param work: what to train
        :param dataset: gives the validation triples
        :param graph: its training triples
        :param settings: the settings
        """
        assert dataset.validation is not None
        self.kind, self.case, self.arm, self.setup = "time-to-mrr", case, arm.name, arm.setup
        self.how, self.work, self.graph, self.settings = arm, work, graph, settings
        self.validation = dataset.validation.mapped_triples

    def measure(self, repeat: int) -> Sample:
        """Train, by the seed of the repeat."""
        gc.collect()
        seed, factory = self.settings.seed + repeat, self.graph.factory()
        loop = self.work.make_loop(self.how, factory, seed)
        evaluator = FastRankBasedEvaluator()

        def evaluate() -> float:
            result = evaluator.evaluate(
                loop.model, self.validation, additional_filter_triples=[self.graph.triples], use_tqdm=False
            )
            loop.model.train()
            return float(result.get_metric(RANKING_METRICS["mrr"]))

        race = Race(evaluate, self.settings.target_mrr, self.settings.budget)
        torch.manual_seed(seed)
        epochs = sys.maxsize - 1
        with suppress(Finished):
            loop.train(factory, num_epochs=epochs, batch_size=self.work.batch_size, use_tqdm=False, callbacks=[race])
        best = max(mrr for _, mrr in race.curve)
        previous = race.curve[-2][0] if len(race.curve) > 1 else 0.0
        details = {"best MRR": best, "seconds at the evaluation before": previous, "curve": race.curve}
        return Sample(race.seconds, details, censored=not race.is_reached)


def reach_jobs(settings: Settings, dataset: Dataset, graph: Graph) -> Iterator[Sequence[Probe]]:
    """Compare the time of training for each model, with the first number of negatives.

    :param settings: the settings
    :param dataset: gives the validation triples
    :param graph: its training triples

    :returns: the jobs
    """
    for model in settings.models:
        work = Work.of(settings, model=model)
        case = {"dataset": graph.name, **work.case, "target": settings.target_mrr, "budget": settings.budget}
        arms = (stock(settings, work.negatives), engine(settings, work.negatives))
        yield [ReachProbe(case, arm, work, dataset, graph, settings) for arm in arms]

"""The evaluator ``fastrankbased`` and the filterer ``exact`` beside those of PyKEEN."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pykeen.datasets import Dataset
from pykeen.evaluation import RankBasedEvaluator
from pykeen.models import Model
from pykeen.sampling import BasicNegativeSampler
from pykeen.sampling.filtering import BloomFilterer, Filterer
from pykeen.typing import LongTensor, MappedTriples

from ..comparison.tracking import RANKING_METRICS
from ..evaluation import FastRankBasedEvaluator
from ..filtering import ExactFilterer
from .arms import Work, engine
from .graphs import Graph
from .probes import Probe, Sample
from .settings import Settings

__all__ = ["evaluation_jobs", "filter_jobs"]

#: how many negatives are looked up at most
NUM_NEGATIVES = 2**18


class Trained:
    """A model which was trained a little, by the engine, and the triples to evaluate it on."""

    def __init__(self, work: Work, dataset: Dataset, graph: Graph, settings: Settings) -> None:
        """Take note of what to train.

        :param work: what to train
        :param dataset: gives the validation triples
        :param graph: its training triples
        :param settings: the settings
        """
        assert dataset.validation is not None
        self.work, self.graph, self.settings = work, graph, settings
        self.validation: MappedTriples = dataset.validation.mapped_triples
        chosen = torch.randperm(len(self.validation), generator=torch.Generator().manual_seed(settings.seed))
        self.subset = self.validation[chosen[: settings.eval_triples]]

    @functools.cached_property
    def model(self) -> Model:
        """The model, trained when it is first asked for."""
        arm, factory = engine(self.settings, self.work.negatives), self.graph.factory()
        loop = self.work.make_loop(arm, factory, self.settings.seed)
        loop.train(factory, num_epochs=self.settings.train_epochs, batch_size=self.work.batch_size, use_tqdm=False)
        return loop.model

    @functools.cached_property
    def metrics(self) -> Mapping[str, float]:
        """What PyKEEN's evaluator says of the subset."""
        return self.evaluate(RankBasedEvaluator(), self.subset)

    def evaluate(self, evaluator: RankBasedEvaluator, triples: MappedTriples) -> dict[str, float]:
        """Evaluate the model, filtered by training and validation triples.

        :param evaluator: the evaluator
        :param triples: what to rank, heads and tails

        :returns: MRR and hits@k
        """
        known = [self.graph.triples] if triples is self.validation else [self.graph.triples, self.validation]
        result = evaluator.evaluate(self.model, triples, additional_filter_triples=known, use_tqdm=False)
        return {short: float(result.get_metric(name)) for short, name in RANKING_METRICS.items()}


class EvaluationProbe(Probe):
    """Times an evaluator with nothing in its caches."""

    unit = "triples/s"

    def __init__(self, case: dict[str, Any], arm: str, trained: Trained) -> None:
        """Initialize the probe.

        :param case: the case of the record
        :param arm: ``stock`` evaluates the subset, ``engine`` all validation triples
        :param trained: the model
        """
        self.kind, self.case, self.arm, self.trained = "evaluation", case, arm, trained
        self.cls, self.triples = RankBasedEvaluator, trained.subset
        if arm == "engine":
            self.cls, self.triples = FastRankBasedEvaluator, trained.validation
        name = "fastrankbased" if arm == "engine" else "rankbased"
        self.setup = {"evaluator": name, "triples": len(self.triples)}

    def prepare(self) -> None:
        """Train the model."""
        _ = self.trained.model

    def measure(self, repeat: int) -> Sample:
        """Evaluate, and compare the metrics of the subset with those of PyKEEN."""
        evaluator = self.cls()
        start = time.perf_counter()
        metrics = self.trained.evaluate(evaluator, self.triples)
        seconds = time.perf_counter() - start
        count, total = len(self.triples), len(self.trained.validation)
        details = {"seconds for all": seconds * total / count, "triples": count}
        if self.arm == "engine":
            own = (
                metrics if count == len(self.trained.subset) else self.trained.evaluate(evaluator, self.trained.subset)
            )
            expected = self.trained.metrics
            details["largest difference"] = max(abs(own[name] - expected[name]) for name in expected)
        return Sample(count / seconds, details)


def evaluation_jobs(settings: Settings, dataset: Dataset, graph: Graph) -> Iterator[Sequence[Probe]]:
    """Compare evaluators for each model.

    :param settings: the settings
    :param dataset: gives the validation triples
    :param graph: its training triples

    :returns: the jobs
    """
    for model in settings.models:
        work = Work.of(settings, model=model)
        trained = Trained(work, dataset, graph, settings)
        case = {"dataset": graph.name, "model": model, "dim": work.dim, "threads": work.threads}
        yield [EvaluationProbe(case, arm, trained) for arm in ("stock", "engine")]


class FilterProbe(Probe):
    """Looks up negatives in the training triples."""

    unit = "negatives/s"

    def __init__(
        self, case: dict[str, Any], arm: str, cls: type[Filterer], graph: Graph, negatives: LongTensor
    ) -> None:
        """Initialize the probe.

        :param case: the case of the record
        :param arm: the name of the arm
        :param cls: the filterer
        :param graph: the graph
        :param negatives: what to look up, shape: ``(n, 3)``
        """
        self.kind, self.case, self.arm, self.setup = "filter", case, arm, {"filterer": cls.__name__}
        self.cls, self.graph, self.negatives = cls, graph, negatives

    def measure(self, repeat: int) -> Sample:
        """Index the triples, look up the negatives, and count what is wrong."""
        start = time.perf_counter()
        filterer = self.cls(self.graph.triples)
        built = time.perf_counter()
        found = filterer.contains(self.negatives)
        seconds = time.perf_counter() - built
        known = is_known(self.negatives, self.graph)
        details = {
            "false hits": int((found & ~known).sum()),
            "misses": int((~found & known).sum()),
            "seconds to index": built - start,
        }
        return Sample(len(self.negatives) / seconds, details)


def is_known(triples: LongTensor, graph: Graph) -> torch.Tensor:
    """Look up triples by numpy, as a reference.

    :param triples: shape: ``(n, 3)``
    :param graph: the graph

    :returns: which of them are in it, shape: ``(n,)``
    """
    sizes = (graph.num_entities, graph.num_relations, graph.num_entities)
    if math.prod(sizes) >= 2**63:
        raise ValueError(f"The graph is too large: {sizes}.")
    own, all_ = (np.ravel_multi_index(tuple(x.numpy().T), sizes) for x in (triples, graph.triples))
    return torch.from_numpy(np.isin(own, all_))


def filter_jobs(settings: Settings, graph: Graph) -> Iterator[Sequence[Probe]]:
    """Compare filterers on the same uniform negatives.

    :param settings: the settings
    :param graph: the graph

    :returns: the jobs
    """
    torch.manual_seed(settings.seed)
    count = min(NUM_NEGATIVES, settings.batch_size * max(settings.negatives))
    positives = graph.triples[torch.randint(len(graph.triples), (count,))]
    sampler = BasicNegativeSampler(
        mapped_triples=graph.triples, num_entities=graph.num_entities, num_relations=graph.num_relations
    )
    negatives = sampler.corrupt_batch(positives).view(-1, 3)
    case = {"dataset": graph.name, "negatives": count, "threads": settings.threads}
    arms: Mapping[str, type[Filterer]] = {"stock": BloomFilterer, "engine": ExactFilterer}
    yield [FilterProbe(case, arm, cls, graph, negatives) for arm, cls in arms.items()]

"""DANS written slowly: the networks and losses row by row, from the formulas."""

from __future__ import annotations

from typing import Any

import torch
from pykeen.models import ERModel, model_resolver
from pykeen.triples import CoreTriplesFactory

from pykeen_advneg.sampling.dans import DANSNegativeSampler
from pykeen_advneg.sampling.dans.networks import Generator
from pykeen_advneg.sampling.dans.proposals import GeneratedNegatives
from pykeen_advneg.scoring import Scorer
from pykeen_advneg.testing.graphs import random_graph

GRAPH = random_graph(num_entities=30, num_relations=3, num_triples=120)


def make_model(name: str = "distmult", graph: CoreTriplesFactory = GRAPH, **kwargs: Any) -> ERModel[Any, Any, Any]:
    model = model_resolver.make(name, {"embedding_dim": 6, **kwargs}, triples_factory=graph, random_seed=0)
    assert isinstance(model, ERModel)
    return model.train()


def make_sampler(model: ERModel[Any, Any, Any] | None = None, seed: int = 0, **kwargs: Any) -> DANSNegativeSampler:
    torch.manual_seed(seed)
    sampler = DANSNegativeSampler(
        mapped_triples=GRAPH.mapped_triples,
        num_entities=GRAPH.num_entities,
        num_relations=GRAPH.num_relations,
        **{"num_generated_entity": 3, "num_generated_relation": 2, "num_negs_per_pos": 4, **kwargs},
    )
    sampler.bind(Scorer(make_model() if model is None else model))
    return sampler


def draw(sampler: DANSNegativeSampler, size: int = 20) -> GeneratedNegatives:
    negatives = sampler.draw(GRAPH.mapped_triples[:size])
    assert isinstance(negatives, GeneratedNegatives)
    return negatives


def leaky(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def film_twin(generator: Generator, condition: torch.Tensor) -> list[torch.Tensor]:
    """Four networks, each of two matrices: alpha_1, beta_1, alpha_2, beta_2 of one condition."""
    assert generator.film is not None
    results = []
    for i, second in enumerate(generator.film.second):
        first = generator.film.first.weight[100 * i : 100 * (i + 1)]
        results.append(leaky(second.weight @ leaky(first @ condition)))  # type: ignore[operator]
    return results


def generator_twin(generator: Generator, inputs: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
    """Layer by layer; batch normalisation by its definition, with the eps of the authors."""
    x = list(inputs)
    for layer in range(2):
        linear, norm = generator.linears[layer], generator.norms[layer]
        hidden = []
        for row, condition in zip(x, conditions, strict=True):
            u = leaky(linear.weight @ row + linear.bias)  # type: ignore[operator]
            if generator.film is not None:
                film = film_twin(generator, condition)
                u = u * film[2 * layer] + film[2 * layer + 1]
            hidden.append(u)
        mean = sum(hidden) / len(hidden)
        variance = sum((u - mean) ** 2 for u in hidden) / len(hidden)
        x = [leaky((u - mean) / (variance + 0.8) ** 0.5 * norm.weight + norm.bias) for u in hidden]  # type: ignore
    return torch.stack([torch.tanh(generator.last.weight @ row + generator.last.bias) for row in x])


def bce(probability: torch.Tensor, label: float) -> torch.Tensor:
    return -(label * probability.log() + (1 - label) * (1 - probability).log()).mean()

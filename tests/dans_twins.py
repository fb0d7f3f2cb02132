"""DANS written slowly: the networks and losses row by row, from the formulas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from pykeen.models import ERModel, model_resolver
from pykeen.triples import CoreTriplesFactory

from pykeen_advneg.sampling.dans import DANSNegativeSampler
from pykeen_advneg.sampling.dans.networks import Discriminator, Generator, Networks
from pykeen_advneg.sampling.dans.proposals import GeneratedNegatives, Lesson
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


def omega_twin(generator: Generator, conditions: torch.Tensor) -> torch.Tensor:
    """The distance of FiLM from doing nothing, over the conditions of one side."""
    rows = [film_twin(generator, condition) for condition in conditions]
    a1, b1, a2, b2 = (torch.stack([row[i] for row in rows]) for i in range(4))
    return sum((x**2).sum() ** 0.5 for x in (a1 - 1, a2 - 1, b1, b2)) / 4  # type: ignore[return-value]


def discriminator_twin(discriminator: Discriminator, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """For each row, the probabilities of being real, and of being made by the first generator."""
    first, _, second = discriminator.trunk
    heads = [discriminator.adversarial] + ([] if discriminator.auxiliary is None else [discriminator.auxiliary])
    probabilities: list[list[torch.Tensor]] = [[] for _ in heads]
    for row in x:
        features = second.weight @ leaky(first.weight @ row + first.bias) + second.bias
        for head, found in zip(heads, probabilities, strict=True):
            value = features
            for linear in head:
                value = linear.weight @ value + linear.bias
            found.append(1 / (1 + torch.exp(-value.squeeze())))
    adversarial, *auxiliary = (torch.stack(found) for found in probabilities)
    return adversarial, auxiliary[0] if auxiliary else None


def descend(loss: torch.Tensor, parameters: Iterable[torch.nn.Parameter], lr: float) -> None:
    """A step of plain gradient descent."""
    parameters = list(parameters)
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.data -= lr * gradient


def teach_twin(
    networks: Networks, lesson: Lesson, noises: Sequence[torch.Tensor], weight: float, steps: int, lr: float
) -> tuple[list[torch.Tensor], dict[str, float]]:
    """A lesson side by side and row by row, by gradient descent; the networks are changed.

    :param noises: what is added to the conditions of each generator, those of tails first, shapes: ``(2 * b, dim)``

    :returns: the fakes of each generator, and the losses before each last step
    """
    b = len(lesson.real) // 2
    tails, heads = lesson.real[:b], lesson.real[b:]
    discriminator = networks.discriminator
    fakes: dict[str, torch.Tensor] = {}
    losses = {}
    for (name, generator), noise in zip(networks.generators.items(), noises, strict=True):
        of_tails, of_heads = lesson.conditions[name][:, 0], lesson.conditions[name][:, 1]
        clean = torch.cat([of_tails, of_heads])
        made = generator_twin(generator, clean + noise, clean)
        loss = torch.zeros((), dtype=made.dtype)
        for fake, conditions in ((made[:b], of_tails), (made[b:], of_heads)):
            loss = loss + bce(discriminator_twin(discriminator, fake)[0], 1) / 2
            if generator.film is not None:
                loss = loss + weight * omega_twin(generator, conditions) / 2
        losses[f"generator_loss_{name}"] = float(loss.detach())
        descend(loss, generator.parameters(), lr)
        fakes[name] = made.detach()
    for _ in range(steps):
        loss = bce(discriminator_twin(discriminator, tails)[0], 1) + bce(discriminator_twin(discriminator, heads)[0], 1)
        auxiliary = []
        for side in (slice(0, b), slice(b, 2 * b)):
            judged = {name: discriminator_twin(discriminator, fake[side]) for name, fake in fakes.items()}
            loss = loss + bce(torch.cat([real for real, _ in judged.values()]), 0) / 2
            if discriminator.auxiliary is not None:
                labels = {"entity": 1, "relation": 0}
                of_pathways = [bce(first, labels[name]) for name, (_, first) in judged.items() if first is not None]
                auxiliary.append(sum(of_pathways) / len(of_pathways))
                loss = loss + auxiliary[-1] / 2
        losses["discriminator_loss"] = float(loss.detach()) / 4
        if auxiliary:
            losses["auxiliary_loss"] = float(sum(auxiliary).detach()) / 2  # type: ignore[union-attr]
        descend(loss / 4, discriminator.parameters(), lr)
    return list(fakes.values()), losses

"""A small KBGAN sampler, and slow, readable twins of what it computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pykeen.models import ERModel
from pykeen.triples import CoreTriplesFactory
from torch import nn

from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.kbgan import KBGANNegativeSampler
from pykeen_advneg.testing.graphs import random_graph

HEAD, TAIL = 0, 2
GRAPH = random_graph(num_entities=12, num_relations=3, num_triples=60)
#: every triple which can be made is known
COMPLETE = random_graph(num_entities=4, num_relations=2, num_triples=32)

#: two positives whose heads are replaced, and one whose tail is
POSITIVES = GRAPH.mapped_triples[[3, 20, 41]]
COLUMN = torch.tensor([[HEAD], [TAIL], [HEAD]])
CANDIDATES = torch.tensor([[0, 5, 7], [1, 9, 2], [11, 4, 4]])


def make_sampler(triples_factory: CoreTriplesFactory = GRAPH, **kwargs: Any) -> KBGANNegativeSampler:
    """A sampler with 3 candidates and a small generator, in double precision, whose optimizer steps by the gradient."""
    torch.manual_seed(0)
    sampler = KBGANNegativeSampler(
        mapped_triples=triples_factory.mapped_triples,
        num_entities=triples_factory.num_entities,
        num_relations=triples_factory.num_relations,
        **{
            "num_candidates": 3,
            "generator_kwargs": {"embedding_dim": 4},
            "generator_optimizer": "sgd",
            "generator_optimizer_kwargs": {"lr": 1.0, "weight_decay": 0.0},
            **kwargs,
        },
    )
    return sampler.double()


def tables(model: ERModel[Any, Any, Any]) -> list[nn.Parameter]:
    """The entity and the relation table of a model."""
    return [model.entity_representations[0]._embeddings.weight, model.relation_representations[0]._embeddings.weight]


def fix_candidates(
    sampler: KBGANNegativeSampler,
    monkeypatch: pytest.MonkeyPatch,
    ids: torch.Tensor,
    column: torch.Tensor = COLUMN,
    chunk_size: int = 1,
) -> None:
    """Let a sampler always have the same candidates, the last ones where it asks for fewer."""

    def draw(positives: torch.Tensor, num: int) -> Negatives:
        return Negatives(positives, ids[:, -num:], column, chunk_size=chunk_size)

    monkeypatch.setattr(sampler, "_draw_candidates", draw)


def distmult(entities: torch.Tensor, relations: torch.Tensor, h: int, r: int, t: int) -> torch.Tensor:
    return (entities[h] * relations[r] * entities[t]).sum()


def transe(entities: torch.Tensor, relations: torch.Tensor, h: int, r: int, t: int) -> torch.Tensor:
    return -(entities[h] + relations[r] - entities[t]).abs().sum()


def replaced(positive: Sequence[int], column: int, entity: int) -> tuple[int, int, int]:
    h, r, t = positive
    return (entity, r, t) if column == HEAD else (h, r, entity)


def softmax_twin(logits: Sequence[float]) -> list[float]:
    largest = max(logits)
    weights = [math.exp(logit - largest) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def probabilities_twin(sampler: KBGANNegativeSampler, row: int, ids: torch.Tensor = CANDIDATES) -> list[float]:
    """The probabilities of the candidates of one of :data:`POSITIVES`."""
    entities, relations = tables(sampler.generator)
    triples = [replaced(POSITIVES[row].tolist(), int(COLUMN[row]), e) for e in ids[row].tolist()]
    return softmax_twin([distmult(entities, relations, *hrt).item() / sampler.temperature for hrt in triples])


def exact_gradient(sampler: KBGANNegativeSampler, rewards: torch.Tensor) -> list[torch.Tensor]:
    """The gradient of minus the expected reward, summed over the positives."""
    entities, relations = (table.detach().clone().requires_grad_() for table in tables(sampler.generator))
    expected = torch.zeros((), dtype=entities.dtype)
    for positive, column, ids, values in zip(POSITIVES.tolist(), COLUMN.tolist(), CANDIDATES, rewards, strict=True):
        triples = [replaced(positive, column[0], e) for e in ids.tolist()]
        logits = torch.stack([distmult(entities, relations, *hrt) for hrt in triples]) / sampler.temperature
        expected = expected + (logits.softmax(dim=0) * values).sum()
    return list(torch.autograd.grad(-expected, [entities, relations]))

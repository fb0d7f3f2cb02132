"""Small graphs and models to test samplers by."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from hypothesis import strategies as st
from pykeen.models import ERModel, model_resolver
from pykeen.triples import CoreTriplesFactory

__all__ = ["DENSE_GRAPH", "GRAPH", "MODELS", "VALIDATION", "graphs", "make_model", "random_graph", "same", "time_limit"]

#: the models by which samplers are tested, and their parameters
MODELS: Mapping[str, Mapping[str, Any]] = {
    "complex": {"embedding_dim": 4},
    "distmult": {"embedding_dim": 8},
    "transd": {"embedding_dim": 8, "relation_dim": 8},
    "transe": {"embedding_dim": 8},
}


def random_graph(num_entities: int, num_relations: int, num_triples: int, seed: int = 0) -> CoreTriplesFactory:
    """Draw distinct triples uniformly.

    :param num_entities: the number of entities
    :param num_relations: the number of relations
    :param num_triples: the number of triples
    :param seed: the seed

    :returns: the triples
    """
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randperm(num_entities * num_relations * num_entities, generator=generator)[:num_triples]
    heads = keys // (num_relations * num_entities)
    triples = torch.stack([heads, keys // num_entities % num_relations, keys % num_entities], dim=-1)
    return CoreTriplesFactory.create(triples, num_entities=num_entities, num_relations=num_relations)


GRAPH = random_graph(num_entities=40, num_relations=3, num_triples=150)
VALIDATION = random_graph(num_entities=40, num_relations=3, num_triples=20, seed=1)
#: nearly complete: most corruptions are known triples
DENSE_GRAPH = random_graph(num_entities=8, num_relations=2, num_triples=110)


def make_model(name: str, triples_factory: CoreTriplesFactory = GRAPH) -> ERModel[Any, Any, Any]:
    """Make one of :data:`MODELS`, always with the same weights.

    :param name: its name
    :param triples_factory: its graph

    :returns: the model, in training mode
    """
    model = model_resolver.make(name, pos_kwargs=MODELS[name], triples_factory=triples_factory, random_seed=0)
    assert isinstance(model, ERModel)
    return model.train()


def same(x: Any, y: Any) -> bool:
    """Compare two nested states bit by bit.

    :param x: tensors, plain values, and containers of them
    :param y: the other one

    :returns: whether they agree
    """
    if isinstance(x, torch.Tensor):
        return isinstance(y, torch.Tensor) and x.dtype == y.dtype and torch.equal(x, y)
    if isinstance(x, Mapping):
        return isinstance(y, Mapping) and x.keys() == y.keys() and all(same(x[key], y[key]) for key in x)
    if isinstance(x, list | tuple):
        return isinstance(y, list | tuple) and len(x) == len(y) and all(map(same, x, y))
    return bool(x == y)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what runs for too long, on systems which can.

    :param seconds: the limit
    """

    def interrupt(*_: object) -> None:
        raise TimeoutError(f"still running after {seconds} seconds")

    if not hasattr(signal, "setitimer"):
        yield
        return
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@st.composite
def graphs(draw: st.DrawFn) -> CoreTriplesFactory:
    """Draw small graphs, with isolated entities, self-loops and repeated triples."""
    num_entities, num_relations = draw(st.integers(2, 6)), draw(st.integers(1, 3))
    entity, relation = st.integers(0, num_entities - 1), st.integers(0, num_relations - 1)
    triples = draw(st.lists(st.tuples(entity, relation, entity), min_size=1, max_size=12))
    return CoreTriplesFactory.create(torch.tensor(triples), num_entities=num_entities, num_relations=num_relations)

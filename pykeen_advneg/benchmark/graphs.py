"""The graphs that are trained on: those of a data set or random ones, and random subsets of their triples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import LongTensor

__all__ = ["Graph", "random_graph"]

#: as many as FB15k-237 has
NUM_RELATIONS = 237
NUM_TRIPLES = 272_115


@dataclass(frozen=True)
class Graph:
    """The training triples of a graph."""

    name: str

    #: shape: ``(n, 3)``
    triples: LongTensor
    num_entities: int
    num_relations: int

    @classmethod
    def of(cls, name: str, factory: CoreTriplesFactory) -> Graph:
        """Take the triples of a data set.

        :param name: its name
        :param factory: its training triples

        :returns: the graph
        """
        return cls(name, factory.mapped_triples, factory.num_entities, factory.num_relations)

    def factory(self, count: int | None = None, seed: int = 0) -> CoreTriplesFactory:
        """Draw training triples without replacement; all entities and relations stay in the graph.

        :param count: how many; ``None``: all
        :param seed: the seed

        :returns: the triples
        """
        triples = self.triples
        if count is not None:
            chosen = torch.randperm(len(triples), generator=torch.Generator().manual_seed(seed))[:count]
            triples = triples[chosen]
        return CoreTriplesFactory(triples, num_entities=self.num_entities, num_relations=self.num_relations)


def random_graph(num_entities: int, seed: int) -> Graph:
    """Draw a graph whose triples are uniform, as many as those of FB15k-237 and with as many relations.

    :param num_entities: the number of entities
    :param seed: the seed

    :returns: the graph
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = (num_entities, NUM_RELATIONS, num_entities)
    columns = [torch.randint(size, (NUM_TRIPLES,), generator=generator) for size in sizes]
    return Graph(f"random, {num_entities:,} entities", torch.stack(columns, dim=1), num_entities, NUM_RELATIONS)

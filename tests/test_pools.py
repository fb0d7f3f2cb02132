"""The known answers among shared negatives against the exact filterer on their triples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.sampling.filtering import PythonSetFilterer

from pykeen_advneg.filtering import ExactFilterer
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.pools import KnownAnswers
from pykeen_advneg.testing.graphs import random_graph

#: more than any known triple has, so that some ids are unknown
NUM_ENTITIES, NUM_RELATIONS = 8, 4

Triple = tuple[int, int, int]
KNOWN = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=40)
ENTITY = st.integers(0, NUM_ENTITIES - 1)


def tensor(triples: list[Triple]) -> torch.Tensor:
    return torch.tensor(triples, dtype=torch.long).view(-1, 3)


@st.composite
def problems(draw: st.DrawFn) -> tuple[torch.Tensor, Negatives]:
    """Dense graphs with repeated triples, pools with repeated ids, chunks of any size, no positives at all."""
    known = draw(KNOWN)
    other = st.tuples(ENTITY, st.integers(0, NUM_RELATIONS - 1), ENTITY)
    positives = draw(st.lists(st.one_of(st.sampled_from(known), other), max_size=10))
    b, k, chunk_size = len(positives), draw(st.integers(1, 12)), draw(st.integers(1, 13))
    rows = -(-b // chunk_size)
    ids = draw(st.lists(ENTITY, min_size=rows * k, max_size=rows * k))
    column = draw(st.lists(st.sampled_from([0, 2]), min_size=b, max_size=b))
    negatives = Negatives(
        tensor(positives),
        torch.tensor(ids, dtype=torch.long).view(rows, k),
        torch.tensor(column, dtype=torch.long).view(b, 1),
        chunk_size=chunk_size,
    )
    return tensor(known), negatives


@given(problem=problems())
@settings(max_examples=300, deadline=None)
def test_is_the_exact_filterer(problem: tuple[torch.Tensor, Negatives]) -> None:
    known, negatives = problem
    answers = KnownAnswers(known, NUM_ENTITIES)
    # a second call finds nothing of the first
    for _ in range(2):
        mask = answers(negatives)
        assert mask.dtype == torch.bool
        assert mask.shape == negatives.shape
        assert torch.equal(mask, ExactFilterer(known)(negatives.triples))
        assert not bool(answers.is_offered.any())


@pytest.mark.parametrize("chunk_size", [1, 7, 64, 1000])
def test_large_batch(chunk_size: int) -> None:
    """Against a Python set, with many finds in each row."""
    graph = random_graph(num_entities=30, num_relations=3, num_triples=1500)
    positives = graph.mapped_triples[:200]
    generator = torch.Generator().manual_seed(0)
    rows = -(-len(positives) // chunk_size)
    ids = torch.randint(30, (rows, 50), generator=generator)
    column = 2 * torch.randint(2, (200, 1), generator=generator)
    negatives = Negatives(positives, ids, column, chunk_size=chunk_size)
    mask = KnownAnswers(graph.mapped_triples, 30)(negatives)
    assert torch.equal(mask, PythonSetFilterer(graph.mapped_triples)(negatives.triples.view(-1, 3)).view(mask.shape))
    assert 0.3 < mask.float().mean() < 0.7


def test_nothing_is_saved() -> None:
    """The index is made anew from the triples."""
    assert not KnownAnswers(random_graph(8, 2, 20).mapped_triples, 8).state_dict()


@pytest.mark.cuda
def test_cuda() -> None:
    graph = random_graph(num_entities=30, num_relations=3, num_triples=1500)
    ids, column = torch.randint(30, (25, 50)), 2 * torch.randint(2, (200, 1))
    masks = []
    for device in ("cpu", "cuda"):
        parts = (x.to(device) for x in (graph.mapped_triples[:200], ids, column))
        masks.append(KnownAnswers(graph.mapped_triples, 30).to(device)(Negatives(*parts, chunk_size=8)).cpu())
    assert torch.equal(*masks)

"""Which side is corrupted: the probabilities against those of PyKEEN, and the frequencies against the probabilities."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.datasets import UMLS, Dataset, Nations
from pykeen.sampling import BernoulliNegativeSampler
from scipy.stats import binomtest

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.sampling.sides import draw_columns, head_probability

ALPHA = 1e-3


def check(mapped_triples: torch.Tensor, num_relations: int) -> None:
    """Compare with PyKEEN, which gives NaN to a relation without triples."""
    theirs = BernoulliNegativeSampler(mapped_triples=mapped_triples, num_relations=num_relations)
    ours = head_probability("bernoulli", mapped_triples, num_relations)
    torch.testing.assert_close(ours, theirs.corrupt_head_probability.nan_to_num(nan=0.5))
    is_absent = mapped_triples[:, 1].bincount(minlength=num_relations) == 0
    assert bool((ours[is_absent] == 0.5).all())
    assert bool(((ours > 0) & (ours < 1)).all())


@pytest.mark.parametrize("dataset", [Nations, UMLS])
@pytest.mark.parametrize("create_inverse_triples", [False, True])
def test_bernoulli(dataset: type[Dataset], create_inverse_triples: bool) -> None:
    factory = dataset(create_inverse_triples=create_inverse_triples).training
    check(factory._add_inverse_triples_if_necessary(factory.mapped_triples), factory.num_relations)


ID = st.integers(0, 5)


@settings(deadline=None, derandomize=True, database=None)
@given(triples=st.sets(st.tuples(ID, st.integers(0, 3), ID), min_size=1), more_relations=st.integers(0, 2))
def test_bernoulli_on_any_graph(triples: set[tuple[int, int, int]], more_relations: int) -> None:
    mapped_triples = torch.tensor(sorted(triples))
    check(mapped_triples, int(mapped_triples[:, 1].max()) + 1 + more_relations)


def test_bernoulli_by_hand() -> None:
    """One country has many cities: heads of a city's country are many, so that the head is seldom replaced.

    Four triples of the same tail: tph = 1, hpt = 4.
    """
    mapped_triples = torch.tensor([[0, 0, 9], [1, 0, 9], [2, 0, 9], [3, 0, 9]])
    torch.testing.assert_close(head_probability("bernoulli", mapped_triples, 2), torch.tensor([0.2, 0.5]))


@pytest.mark.parametrize(("side", "expected"), [("uniform", 0.5), ("head", 1.0), ("tail", 0.0)])
def test_other_policies(side: str, expected: float) -> None:
    probability = head_probability(side, Nations().training.mapped_triples, 55)
    assert torch.equal(probability, torch.full((55,), expected))


def test_unknown_policy() -> None:
    with pytest.raises(ConfigurationError, match="side='both'"):
        head_probability("both", Nations().training.mapped_triples, 55)


def test_frequencies() -> None:
    probability = torch.tensor([0.0, 0.1, 0.5, 0.93, 1.0])
    relations = torch.arange(5).repeat(4000)
    torch.manual_seed(0)
    columns = draw_columns(probability, relations)
    assert columns.shape == (20_000, 1)
    assert set(columns.unique().tolist()) == {0, 2}
    for relation, p in enumerate(probability.tolist()):
        heads = int((columns[relations == relation] == 0).sum())
        if p in {0.0, 1.0}:
            assert heads == 4000 * p
        else:
            assert binomtest(heads, 4000, p).pvalue > ALPHA

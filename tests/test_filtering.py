"""The exact filterer and the index of known answers against Python sets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.datasets import Nations
from pykeen.sampling import BasicNegativeSampler
from pykeen.sampling.filtering import BloomFilterer, PythonSetFilterer, filterer_resolver

import pykeen_advneg
from pykeen_advneg.filtering import ExactFilterer, TripleIndex

Triple = tuple[int, int, int]

#: known triples, with duplicates
KNOWN = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 5)), max_size=30)
#: queries, with ids which no known triple has
QUERIES = st.lists(st.tuples(*[st.integers(-2, 50)] * 3), max_size=30)


def _tensor(triples: list[Triple]) -> torch.Tensor:
    return torch.as_tensor(triples, dtype=torch.long).view(-1, 3)


@given(known=KNOWN, queries=QUERIES)
@settings(max_examples=200, deadline=None)
def test_filterer_is_a_set(known: list[Triple], queries: list[Triple]) -> None:
    queries = queries + known
    filterer = ExactFilterer(_tensor(known))
    expected = [triple in set(known) for triple in queries]
    assert filterer.contains(_tensor(queries)).tolist() == expected
    assert filterer(_tensor(queries)).tolist() == [not x for x in expected]


@given(known=KNOWN, queries=QUERIES)
@settings(max_examples=200, deadline=None)
def test_index_is_a_dictionary(known: list[Triple], queries: list[Triple]) -> None:
    queries = queries + known
    index = TripleIndex(_tensor(known))
    batch = _tensor(queries)
    tails = [(i, t) for i, (h, r, _) in enumerate(queries) for t in sorted({x[2] for x in known if x[:2] == (h, r)})]
    heads = [(i, h) for i, (_, r, t) in enumerate(queries) for h in sorted({x[0] for x in known if x[1:] == (r, t)})]
    for column, expected in ((2, tails), (0, heads)):
        rows, ids = index.known(batch, column)
        assert list(zip(rows.tolist(), ids.tolist(), strict=True)) == expected


@pytest.mark.parametrize("shape", [(), (7,), (0,), (5, 4), (2, 3, 4)])
def test_shapes(shape: tuple[int, ...]) -> None:
    triples = Nations().training.mapped_triples
    batch = torch.randint(14, (*shape, 3), generator=torch.manual_seed(0))
    result = ExactFilterer(triples).contains(batch)
    assert result.shape == shape
    assert result.dtype == torch.bool
    assert torch.equal(result, PythonSetFilterer(triples).contains(batch.view(-1, 3)).view(shape))


def test_strided_batch() -> None:
    triples = Nations().training.mapped_triples
    batch = triples[:20].flip(0).t().contiguous().t()
    assert ExactFilterer(triples).contains(batch).all()


def test_more_triples_than_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pykeen_advneg.filtering._MAX_SLOTS", 64)
    triples = Nations().training.mapped_triples
    batch = torch.cartesian_prod(torch.arange(14), torch.arange(55), torch.arange(14))
    assert torch.equal(ExactFilterer(triples).contains(batch), PythonSetFilterer(triples).contains(batch))


def test_large_ids() -> None:
    largest = 2**20
    known = torch.tensor([[largest, 1000, largest], [0, 0, 0], [largest, 0, 5]])
    filterer = ExactFilterer(known)
    assert filterer.contains(known).all()
    # the first has the key of (0, 1, 0), and the others wrap around
    unknown = torch.tensor([[0, 0, largest + 1], [2**62, 2**40, 2**62], [-1, -1, -1], [largest, 1000, largest - 1]])
    assert not filterer.contains(unknown).any()
    assert not ExactFilterer(torch.tensor([[0, 1, 0], [largest, 1, 0]])).contains(unknown[:1]).any()


@pytest.mark.parametrize(
    ("triples", "message"),
    [
        (torch.zeros(4, 2, dtype=torch.long), r"shape \(n, 3\), got \(4, 2\)"),
        (torch.zeros(4, 3), "integer type, got torch.float32"),
        (torch.tensor([[0, -7, 1]]), "negative ids, got -7"),
        (torch.tensor([[2**31, 1, 5]]), "64-bit keys"),
    ],
)
@pytest.mark.parametrize("cls", [ExactFilterer, TripleIndex])
def test_bad_triples(cls: type, triples: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(triples)


def test_bad_queries() -> None:
    triples = Nations().training.mapped_triples
    with pytest.raises(ValueError, match=r"batch must have shape \(\.\.\., 3\), got \(4, 2\)"):
        ExactFilterer(triples).contains(torch.zeros(4, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"hr_batch must have shape \(b, 2\), got \(9, 3\)"):
        TripleIndex(triples).tails(triples[:9])
    with pytest.raises(ValueError, match=r"column must be 0 .* got 1"):
        TripleIndex(triples).known(triples, column=1)


def test_largest_keys_still_fit() -> None:
    """Just below the limit, the keys use all 63 bits."""
    known = torch.tensor([[2**31 - 1, 0, 2**31 - 1], [2**31 - 1, 1, 0]])
    with pytest.raises(ValueError, match="64-bit keys"):
        ExactFilterer(known)
    known = torch.tensor([[2**31 - 2, 1, 2**31 - 2], [2**31 - 2, 1, 0]])
    assert ExactFilterer(known).contains(known).all()
    assert TripleIndex(known).tails(known[:1, :2])[1].tolist() == [0, 2**31 - 2]


def test_buffers_move_and_are_not_saved() -> None:
    for module in (ExactFilterer(Nations().training.mapped_triples), TripleIndex(Nations().training.mapped_triples)):
        assert not module.state_dict()
        assert all(buffer.device.type == "meta" for buffer in module.to("meta").buffers())
        assert list(module.buffers())


def test_host_sampler_by_name() -> None:
    pykeen_advneg.register()
    assert filterer_resolver.lookup("exact") is ExactFilterer
    training = Nations().training
    sampler = BasicNegativeSampler(mapped_triples=training.mapped_triples, filtered=True, filterer="exact")
    assert isinstance(sampler.filterer, ExactFilterer)
    negatives, mask = sampler.sample(training.mapped_triples[:200])
    assert torch.equal(mask, ~PythonSetFilterer(training.mapped_triples).contains(negatives))
    assert not mask.all()


def test_no_false_hit_where_bloom_has_some() -> None:
    triples = Nations().training.mapped_triples
    batch = torch.cartesian_prod(torch.arange(14), torch.arange(55), torch.arange(14))
    exact = ExactFilterer(triples).contains(batch)
    bloom = BloomFilterer(triples, error_rate=0.1).contains(batch)
    assert int(exact.sum()) == len(triples.unique(dim=0))
    assert bloom[exact].all()
    assert bloom.sum() > exact.sum()


@pytest.mark.cuda
def test_cuda() -> None:
    triples = Nations().training.mapped_triples
    batch = torch.cartesian_prod(torch.arange(14), torch.arange(55), torch.arange(14))
    expected = ExactFilterer(triples).contains(batch)
    assert torch.equal(ExactFilterer(triples).to("cuda").contains(batch.cuda()).cpu(), expected)
    rows, ids = TripleIndex(triples).to("cuda").known(batch.cuda(), 2)
    for found, wanted in zip((rows, ids), TripleIndex(triples).known(batch, 2), strict=True):
        assert torch.equal(found.cpu(), wanted)

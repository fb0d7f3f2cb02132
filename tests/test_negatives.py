"""Negatives with shared ids against lists of Python."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pykeen_advneg.negatives import Negatives


@st.composite
def shared_negatives(draw: st.DrawFn) -> Negatives:
    """Chunks of any size, the last one incomplete or the only one, a slot for each row or for each negative."""
    b, k, chunk_size = draw(st.integers(1, 9)), draw(st.integers(1, 4)), draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    rows, width = -(-b // chunk_size), draw(st.sampled_from([1, k]))
    return Negatives(
        positives=torch.randint(100, (b, 3), generator=generator),
        ids=torch.randint(100, (rows, k), generator=generator),
        column=torch.randint(3, (b, width), generator=generator),
        mask=torch.rand(b, k, generator=generator) < 0.5 if draw(st.booleans()) else None,
        chunk_size=chunk_size,
        log_q=torch.randn(rows, k, generator=generator) if draw(st.booleans()) else None,
    )


def dense(negatives: Negatives) -> list[dict[str, Any]]:
    """All that is known of each positive."""
    b, k = negatives.shape
    result = []
    for i in range(b):
        row = i // negatives.chunk_size
        positive = negatives.positives[i].tolist()
        column = negatives.column[i].tolist()
        columns = column if len(column) == k else column * k
        ids = negatives.ids[row].tolist()
        triples = [[x if slot == c else positive[slot] for slot in range(3)] for x, c in zip(ids, columns, strict=True)]
        result.append(
            {
                "positive": positive,
                "ids": ids,
                "kept": [positive[c] for c in column],
                "triples": triples,
                "mask": None if negatives.mask is None else negatives.mask[i].tolist(),
                "log_q": None if negatives.log_q is None else negatives.log_q[row].tolist(),
            }
        )
    return result


@given(negatives=shared_negatives())
@settings(max_examples=150, deadline=None)
def test_views(negatives: Negatives) -> None:
    rows = dense(negatives)
    assert len(negatives) == len(rows)
    assert negatives.dense_ids.tolist() == [row["ids"] for row in rows]
    assert negatives.kept_ids.tolist() == [row["kept"] for row in rows]
    assert negatives.triples.tolist() == [row["triples"] for row in rows]
    if negatives.log_q is not None:
        assert negatives.expand(negatives.log_q).tolist() == [row["log_q"] for row in rows]
    # of any shape
    x = torch.randn(len(negatives.ids), 2, 3)
    assert negatives.expand(x).tolist() == [x[i // negatives.chunk_size].tolist() for i in range(len(rows))]


@given(negatives=shared_negatives(), data=st.data())
@settings(max_examples=150, deadline=None)
def test_narrow(negatives: Negatives, data: st.DataObject) -> None:
    """Any part, also one which ends after the last positive."""
    start = data.draw(st.integers(0, len(negatives) - 1))
    stop = data.draw(st.integers(start + 1, len(negatives) + 3))
    part = negatives.narrow(start, stop)
    assert dense(part) == dense(negatives)[start:stop]
    if start % negatives.chunk_size == 0 or len(negatives.ids) == 1:
        # no id is repeated
        assert len(part.ids) == -(-len(part) // negatives.chunk_size) or len(part.ids) == 1
    whole = torch.cat([negatives.narrow(i, i + 2).triples for i in range(0, len(negatives), 2)])
    assert torch.equal(whole, negatives.triples)


def test_narrow_to_everything() -> None:
    negatives = Negatives(torch.zeros(3, 3).long(), torch.zeros(2, 4).long(), torch.zeros(3, 1).long(), chunk_size=2)
    assert negatives.narrow(0, 3) is negatives


@pytest.mark.parametrize("chunk_size", [1, 4])
def test_no_positives(chunk_size: int) -> None:
    empty = torch.zeros(0, dtype=torch.long)
    ids = empty.view(0, 5)
    negatives = Negatives(empty.view(0, 3), ids, empty.view(0, 1), chunk_size=chunk_size, log_q=ids.float())
    assert negatives.shape == (0, 5)
    assert negatives.dense_ids.shape == negatives.expand(ids.float()).shape == (0, 5)
    assert negatives.triples.shape == (0, 5, 3)
    assert negatives.kept_ids.shape == (0, 1)


def test_expanded_gradients() -> None:
    """A shared row gets the sum of the gradients of its positives."""
    negatives = Negatives(torch.zeros(5, 3).long(), torch.zeros(2, 2).long(), torch.zeros(5, 1).long(), chunk_size=3)
    x = torch.zeros(2, 2, requires_grad=True)
    weights = torch.arange(10.0).view(5, 2)
    (negatives.expand(x) * weights).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [weights[:3].sum(dim=0).tolist(), weights[3:].sum(dim=0).tolist()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positives": torch.zeros(5, 2).long()}, r"positives must have shape \(b, 3\), got \(5, 2\)"),
        ({"ids": torch.zeros(3, 4).long()}, r"ids must have shape \(2, k\) for 5 positives in chunks of 3"),
        ({"ids": torch.zeros(8).long()}, r"ids must have shape \(2, k\)"),
        ({"column": torch.zeros(5, 2).long()}, r"column must have shape \(5, 1\) or \(5, 4\), got \(5, 2\)"),
        ({"mask": torch.ones(2, 4).bool()}, r"mask must have shape \(5, 4\), got \(2, 4\)"),
        ({"log_q": torch.zeros(5, 4)}, r"log_q must have shape \(2, 4\), got \(5, 4\)"),
        ({"chunk_size": 2}, r"ids must have shape \(3, k\)"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_wrong_shapes(change: dict[str, Any], message: str) -> None:
    negatives = Negatives(torch.zeros(5, 3).long(), torch.zeros(2, 4).long(), torch.zeros(5, 1).long(), chunk_size=3)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(negatives, **change)


@pytest.mark.parametrize(("columns", "width"), [([[2, 2], [0, 0]], 1), ([[2, 2], [0, 2]], 2), ([[1], [2]], 1)])
def test_one_side_is_seen(columns: list[list[int]], width: int) -> None:
    """The slot of each positive is one number if all of its negatives agree, in all rows."""
    column = torch.tensor(columns)
    ids = torch.arange(column.numel()).view(column.shape) + 5
    given = Negatives(torch.tensor([[0, 1, 2], [3, 1, 4]]), ids, column)
    read = Negatives.from_triples(given.positives, given.triples)
    assert read.column.shape == (2, width)
    assert torch.equal(read.column.expand(column.shape), column)
    assert torch.equal(read.ids, ids)
    assert torch.equal(read.triples, given.triples)

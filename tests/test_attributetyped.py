"""Typed negatives: from the right set, uniformly, never the true one; relations of a group in turn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import COLUMN_RELATION, COLUMN_TAIL
from scipy.stats import chisquare

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.sampling.attributetyped import AttributeTypedNegativeSampler

#: relation 0 has the tails 5, 6, 8; relation 1 only 7; relation 2 the tails 0, 1
TRIPLES = torch.tensor([[0, 0, 5], [1, 0, 6], [2, 0, 8], [3, 0, 8], [0, 1, 7], [1, 1, 7], [4, 2, 0], [4, 2, 1]])


def make(**kwargs: Any) -> AttributeTypedNegativeSampler:
    return AttributeTypedNegativeSampler(mapped_triples=TRIPLES, num_entities=9, num_relations=4, **kwargs)


def counts(sampler: AttributeTypedNegativeSampler, triple: list[int]) -> Counter[int]:
    torch.manual_seed(0)
    return Counter(sampler.propose(torch.tensor([triple] * 500)).ids.flatten().tolist())


@pytest.mark.parametrize(
    ("side", "triple", "allowed"),
    [
        ("tail", [0, 0, 5], [6, 8]),
        ("tail", [0, 0, 8], [5, 6]),
        # no tail of training: all of them
        ("tail", [0, 0, 7], [5, 6, 8]),
        # the only tail: any other entity
        ("tail", [0, 1, 7], [0, 1, 2, 3, 4, 5, 6, 8]),
        # no training triple at all
        ("tail", [0, 3, 2], [0, 1, 3, 4, 5, 6, 7, 8]),
        ("head", [2, 0, 8], [0, 1, 3]),
    ],
)
def test_uniform(side: Any, triple: list[int], allowed: list[int]) -> None:
    drawn = counts(make(num_negs_per_pos=8, side=side), triple)
    assert sorted(drawn) == allowed
    assert chisquare([drawn[i] for i in allowed]).pvalue > 1e-4


def test_both_sides() -> None:
    torch.manual_seed(0)
    negatives = make(num_negs_per_pos=3, side="uniform").propose(TRIPLES[:4].repeat(100, 1))
    heads = negatives.column.squeeze(-1) == 0
    assert 0.4 < heads.float().mean() < 0.6
    assert set(negatives.ids[heads].flatten().tolist()) == {0, 1, 2, 3}
    assert set(negatives.ids[~heads].flatten().tolist()) == {5, 6, 8}


def test_relations_in_turn() -> None:
    torch.manual_seed(0)
    sampler = make(num_negs_per_pos=4, relation_groups=[[0, 3, 1]], relation_share=0.5)
    negatives = sampler.propose(torch.tensor([[0, 0, 5], [4, 2, 0]] * 200))
    of_group, others = negatives.column[::2], negatives.column[1::2]
    assert bool((of_group[:, :2] == COLUMN_RELATION).all())
    assert bool((of_group[:, 2:] == COLUMN_TAIL).all())
    assert bool((others == COLUMN_TAIL).all())
    # both others once, in either order
    pairs = Counter(map(tuple, negatives.ids[::2, :2].tolist()))
    assert set(pairs) == {(1, 3), (3, 1)}
    assert chisquare(list(pairs.values())).pvalue > 1e-4
    assert bool((negatives.triples != negatives.positives.unsqueeze(1)).any(dim=-1).all())


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_triples(data: st.DataObject) -> None:
    triples = torch.tensor(
        data.draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=12))
    )
    groups = data.draw(st.sampled_from([[], [[0, 1]], [[2, 0, 1]]]))
    sampler = AttributeTypedNegativeSampler(
        mapped_triples=triples,
        num_entities=6,
        num_relations=3,
        num_negs_per_pos=5,
        relation_groups=groups,
        relation_share=data.draw(st.floats(0, 1)),
        side=data.draw(st.sampled_from(["head", "tail", "uniform", "bernoulli"])),
    )
    negatives = sampler.propose(triples)
    assert negatives.shape == (len(triples), 5)
    changed = (negatives.triples != triples.unsqueeze(1)).sum(dim=-1)
    assert bool((changed == 1).all()), "never the true one"
    if groups:
        m = sampler.num_relation_negatives
        in_group = torch.isin(triples[:, 1], torch.tensor(groups[0])).unsqueeze(-1)
        is_relation = (negatives.column == COLUMN_RELATION).expand(negatives.shape)
        assert bool((is_relation == (in_group & (torch.arange(5) < m))).all())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"relation_groups": [[0, 9]]}, "ids of relations"),
        ({"relation_groups": [[0]]}, "at least two"),
        ({"relation_groups": [[0, 1], [1, 2]]}, "in one group"),
        ({"relation_share": 2.0}, "relation_share"),
        ({"side": "left"}, "side"),
    ],
)
def test_errors(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**kwargs)


def test_groups_where_triples_have_inverses() -> None:
    """The ids of the graph: relations 0 and 1 are 0 and 2 in training, and their inverses 1 and 3."""
    factory = CoreTriplesFactory.create(TRIPLES, num_entities=9, num_relations=3, create_inverse_triples=True)
    triples = factory._add_inverse_triples_if_necessary(factory.mapped_triples)

    def sampler(groups: list[list[int]]) -> AttributeTypedNegativeSampler:
        return AttributeTypedNegativeSampler(
            mapped_triples=triples,
            num_entities=factory.num_entities,
            num_relations=factory.num_relations,
            relation_groups=groups,
            relation_share=1.0,
        )

    negatives = sampler([[0, 1]]).propose(triples)
    replaced = negatives.triples[:, 0, COLUMN_RELATION]
    for before, after in zip(triples[:, COLUMN_RELATION].tolist(), replaced.tolist(), strict=True):
        assert after == {0: 2, 2: 0, 1: 3, 3: 1}.get(before, before)
    with pytest.raises(ConfigurationError, match="0 to 2"):
        sampler([[0, 3]])

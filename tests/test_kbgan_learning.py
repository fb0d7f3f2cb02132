"""KBGAN: what a step of the generator is, against exact gradients on a tiny graph."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from kbgan_twins import (
    CANDIDATES,
    COLUMN,
    COMPLETE,
    GRAPH,
    POSITIVES,
    distmult,
    exact_gradient,
    fix_candidates,
    make_sampler,
    probabilities_twin,
    replaced,
    tables,
)

from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.base import Scores


class Learning:
    """One step of learning from given draws, as a function of these draws."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rewards: torch.Tensor, num_negs_per_pos: int) -> None:
        self.sampler = make_sampler(num_negs_per_pos=num_negs_per_pos, temperature=0.7)
        self.rewards = rewards
        self.start = [table.detach().clone() for table in tables(self.sampler.generator)]
        self.drawn = torch.zeros(3, num_negs_per_pos, dtype=torch.long)
        fix_candidates(self.sampler, monkeypatch, CANDIDATES)
        monkeypatch.setattr(torch, "multinomial", lambda *_, **__: self.drawn)

    def __call__(self, drawn: torch.Tensor, baseline: float = 0.0, mask: torch.Tensor | None = None) -> torch.Tensor:
        """The step, which is the estimated gradient, as one vector."""
        for table, start in zip(tables(self.sampler.generator), self.start, strict=True):
            table.data.copy_(start)
        self.drawn = drawn
        self.sampler.baseline_value.fill_(baseline)
        negatives = self.sampler.propose(POSITIVES)
        if mask is not None:
            negatives = Negatives(negatives.positives, negatives.ids, negatives.column, mask)
        rewards = self.rewards.gather(1, drawn)
        self.sampler.learn(negatives, Scores(torch.zeros(3, 1, dtype=rewards.dtype), rewards))
        pairs = zip(self.start, tables(self.sampler.generator), strict=True)
        return torch.cat([(start - table.detach()).flatten() for start, table in pairs])


@pytest.fixture
def rewards() -> torch.Tensor:
    return torch.randn(3, 3, generator=torch.Generator().manual_seed(7), dtype=torch.double)


def flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


@pytest.mark.parametrize("baseline", [0.0, 1.3])
def test_estimate_is_unbiased(monkeypatch: pytest.MonkeyPatch, rewards: torch.Tensor, baseline: float) -> None:
    """Over all choices of a candidate for each positive, by their probability."""
    learning = Learning(monkeypatch, rewards, num_negs_per_pos=1)
    expected = flat(exact_gradient(learning.sampler, rewards))
    p = [probabilities_twin(learning.sampler, row) for row in range(3)]
    mean = torch.zeros_like(expected)
    for choice in itertools.product(range(3), repeat=3):
        weight = math.prod(p[row][j] for row, j in enumerate(choice))
        mean += weight * learning(torch.tensor(choice).view(3, 1), baseline)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(mean, expected)


@pytest.mark.parametrize("baseline", [0.0, 1.3])
def test_estimate_of_many_draws_is_unbiased(
    monkeypatch: pytest.MonkeyPatch, rewards: torch.Tensor, baseline: float
) -> None:
    """Over all choices of three candidates for each positive; the steps of the positives add up."""
    learning = Learning(monkeypatch, rewards, num_negs_per_pos=3)
    expected = flat(exact_gradient(learning.sampler, rewards))
    p = [probabilities_twin(learning.sampler, row) for row in range(3)]
    mean = torch.zeros_like(expected)
    # the other positives are masked while one of them runs through its choices
    for row, choice in itertools.product(range(3), itertools.product(range(3), repeat=3)):
        drawn = torch.zeros(3, 3, dtype=torch.long)
        drawn[row] = torch.tensor(choice)
        mask = torch.zeros(3, 3, dtype=torch.bool)
        mask[row] = True
        mean += math.prod(p[row][j] for j in choice) * learning(drawn, baseline, mask)
    torch.testing.assert_close(mean, expected)


@pytest.mark.parametrize("num_negs_per_pos", [1, 3])
def test_mean_of_real_draws(monkeypatch: pytest.MonkeyPatch, rewards: torch.Tensor, num_negs_per_pos: int) -> None:
    """The mean over many draws is within five standard errors of the exact gradient."""
    repeats, multinomial = 500, torch.multinomial
    learning = Learning(monkeypatch, rewards, num_negs_per_pos)
    expected = flat(exact_gradient(learning.sampler, rewards))
    p = torch.tensor([probabilities_twin(learning.sampler, row) for row in range(3)])
    torch.manual_seed(1)
    steps = torch.stack([learning(multinomial(p, num_negs_per_pos, replacement=True)) for _ in range(repeats)])
    error = steps.std(dim=0) / math.sqrt(repeats)
    assert bool(((steps.mean(dim=0) - expected).abs() <= 5 * error + 1e-12).all())
    assert float(error.max()) < 0.1 * float(expected.abs().max())


def test_masked_negatives_teach_nothing(monkeypatch: pytest.MonkeyPatch, rewards: torch.Tensor) -> None:
    """Neither by their reward nor by the baseline."""
    learning = Learning(monkeypatch, rewards, num_negs_per_pos=1)
    drawn = torch.tensor([[2], [0], [1]])
    alone = [learning(drawn, 0.4, mask=torch.arange(3).eq(row).unsqueeze(-1)) for row in range(3)]
    together = learning(drawn, 0.4, mask=torch.tensor([[True], [False], [True]]))
    torch.testing.assert_close(together, alone[0] + alone[2])
    assert learning(drawn, 0.4, mask=torch.zeros(3, 1, dtype=torch.bool)).abs().max() == 0


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_warm_up(monkeypatch: pytest.MonkeyPatch, temperature: float) -> None:
    """The step is the gradient of -log softmax of the positive among itself and one candidate less."""
    sampler = make_sampler(temperature=temperature)
    fix_candidates(sampler, monkeypatch, CANDIDATES)
    start = [table.detach().clone().requires_grad_() for table in tables(sampler.generator)]
    loss = torch.zeros((), dtype=torch.double)
    for positive, column, ids in zip(POSITIVES.tolist(), COLUMN.tolist(), CANDIDATES.tolist(), strict=True):
        triples = [tuple(positive), *(replaced(positive, column[0], e) for e in ids[1:])]
        logits = torch.stack([distmult(*start, *hrt) for hrt in triples])
        loss = loss - (logits[0].exp() / logits.exp().sum()).log()
    sampler.warm_up(POSITIVES)
    for before, table, gradient in zip(start, tables(sampler.generator), torch.autograd.grad(loss, start), strict=True):
        torch.testing.assert_close(before.detach() - table.detach(), gradient)


@pytest.mark.parametrize("act", ["warm_up", "learn"])
def test_shared_candidates_are_those_of_each_positive(act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two positives with one row of candidates, and one with another: as if each had its own."""
    shared, drawn = CANDIDATES[:2], torch.tensor([[2], [0], [1]])
    steps = []
    for ids, chunk_size in ((shared, 2), (shared[[0, 0, 1]], 1)):
        sampler = make_sampler()
        fix_candidates(sampler, monkeypatch, ids, chunk_size=chunk_size)
        monkeypatch.setattr(torch, "multinomial", lambda *_, **__: drawn)
        if act == "warm_up":
            sampler.warm_up(POSITIVES)
        else:
            negatives = sampler.propose(POSITIVES)
            torch.testing.assert_close(negatives.ids, shared[[0, 0, 1]].gather(1, drawn))
            rewards = torch.tensor([[0.3], [-1.0], [2.0]], dtype=torch.double)
            sampler.learn(negatives, Scores(rewards, rewards))
        steps.append(flat([table.detach() for table in tables(sampler.generator)]))
    assert (steps[0] - flat([table.detach() for table in tables(make_sampler().generator)])).abs().max() > 0.01
    torch.testing.assert_close(*steps)


def test_candidates_of_a_chunk() -> None:
    """What is drawn for a chunk comes from its own few candidates."""
    positives = GRAPH.mapped_triples[:1].repeat(100, 1)
    ids = make_sampler(num_candidates=2, chunk_size=30).propose(positives).ids.squeeze(1)
    assert [len(chunk.unique()) for chunk in ids.split(30)] == [2, 2, 2, 2]
    assert len(ids.unique()) > 2
    whole = make_sampler(num_candidates=2, chunk_size=None).propose(positives).ids
    assert len(whole.unique()) == 2


def test_known_triples_are_never_drawn() -> None:
    sampler = make_sampler(num_candidates=6, filtered=True, filterer="pythonset")
    known = set(map(tuple, GRAPH.mapped_triples.tolist()))
    unfiltered = make_sampler(num_candidates=6).propose(GRAPH.mapped_triples.repeat(20, 1)).triples.view(-1, 3)
    assert known.intersection(map(tuple, unfiltered.tolist()))
    negatives = sampler.propose(GRAPH.mapped_triples.repeat(20, 1))
    assert negatives.mask is not None
    # on this graph, each row has a candidate which is not known, so that nothing has to be masked
    assert bool(negatives.mask.float().mean() > 0.99)
    assert not known.intersection(map(tuple, negatives.triples[negatives.mask].tolist()))


def test_no_valid_candidate() -> None:
    """Where all candidates are known triples, all is masked, and nothing is learnt."""
    sampler = make_sampler(COMPLETE, filtered=True, filterer="pythonset", num_negs_per_pos=2)
    start = [table.detach().clone() for table in tables(sampler.generator)]
    negatives = sampler.propose(COMPLETE.mapped_triples)
    assert negatives.mask is not None
    assert not bool(negatives.mask.any())
    sampler.learn(negatives, Scores(torch.zeros(32, 1), torch.randn(32, 2, dtype=torch.double)))
    sampler.warm_up(COMPLETE.mapped_triples)
    assert all(math.isfinite(value) for value in sampler.end_epoch().values())
    for before, table in zip(start, tables(sampler.generator), strict=True):
        torch.testing.assert_close(table.detach(), before)

"""KBGAN: the draw, filters, the baseline, metrics, the generator's optimizer, and errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from kbgan_twins import (
    CANDIDATES,
    COLUMN,
    GRAPH,
    POSITIVES,
    fix_candidates,
    make_sampler,
    probabilities_twin,
    tables,
)
from scipy.stats import chisquare
from torch.nn.functional import normalize

from pykeen_advneg.errors import ConfigurationError, NonFiniteSamplerError
from pykeen_advneg.initializers import unit_ball
from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.sampling.kbgan import MOVING_AVERAGE_DECAY, KBGANNegativeSampler
from pykeen_advneg.testing.graphs import random_graph

ALPHA = 1e-3


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("num_negs_per_pos", [1, 3])
def test_draw_follows_the_softmax(monkeypatch: pytest.MonkeyPatch, temperature: float, num_negs_per_pos: int) -> None:
    sampler = make_sampler(temperature=temperature, num_negs_per_pos=num_negs_per_pos)
    repeats = 4000
    ids, column = CANDIDATES.repeat(repeats, 1), COLUMN.repeat(repeats, 1)
    fix_candidates(sampler, monkeypatch, ids, column)
    torch.manual_seed(1)
    draws = sampler.propose(POSITIVES.repeat(repeats, 1)).ids.view(repeats, len(POSITIVES), -1)
    for row, candidates in enumerate(CANDIDATES.tolist()):
        expected: dict[int, float] = dict.fromkeys(candidates, 0.0)
        for entity, probability in zip(candidates, probabilities_twin(sampler, row), strict=True):
            expected[entity] += probability * repeats * num_negs_per_pos
        observed = [int((draws[:, row] == entity).sum()) for entity in expected]
        assert sum(observed) == repeats * num_negs_per_pos
        assert chisquare(observed, list(expected.values())).pvalue > ALPHA


def test_draws_of_a_positive_are_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = make_sampler(num_negs_per_pos=2)
    fix_candidates(sampler, monkeypatch, CANDIDATES[:1].repeat(9000, 1), COLUMN[:1].repeat(9000, 1))
    torch.manual_seed(1)
    first, second = sampler.propose(POSITIVES[:1].repeat(9000, 1)).ids.unbind(dim=1)
    p = dict(zip(CANDIDATES[0].tolist(), probabilities_twin(sampler, 0), strict=True))
    pairs = list(itertools.product(p, p))
    observed = [int(((first == x) & (second == y)).sum()) for x, y in pairs]
    assert chisquare(observed, [9000 * p[x] * p[y] for x, y in pairs]).pvalue > ALPHA


def test_candidates_are_uniform() -> None:
    sampler = make_sampler(num_candidates=10)
    torch.manual_seed(1)
    candidates = sampler._draw_candidates(POSITIVES.repeat(500, 1), 10)
    assert candidates.shape == (1500, 10)
    assert candidates.column.shape == (1500, 1), "all candidates of a positive replace the same side"
    assert chisquare(candidates.ids.flatten().bincount(minlength=GRAPH.num_entities)).pvalue > ALPHA


def learn_epochs(sampler: KBGANNegativeSampler, epochs: int = 3) -> Iterator[tuple[float, list[torch.Tensor]]]:
    """The baseline at the first batch of each epoch, and the rewards of its batches."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(epochs):
        baseline, rewards = float(sampler.baseline_value), []
        for positives in GRAPH.mapped_triples.split(25):
            negatives = sampler.propose(positives)
            rewards.append(torch.randn(negatives.shape, generator=generator, dtype=torch.double) - 4)
            sampler.learn(negatives, Scores(rewards[-1], rewards[-1]))
        sampler.end_epoch()
        yield baseline, rewards


@pytest.mark.parametrize("num_negs_per_pos", [1, 3])
def test_baseline_of_the_epoch(num_negs_per_pos: int) -> None:
    """The mean reward over all triples of the previous epoch, whose batches differ in size; 0 in the first."""
    expected = 0.0
    for baseline, rewards in learn_epochs(make_sampler(num_negs_per_pos=num_negs_per_pos)):
        assert baseline == pytest.approx(expected)
        expected = torch.cat(rewards).mean().item()


def test_baseline_moves() -> None:
    expected = 0.0
    for baseline, rewards in learn_epochs(make_sampler(baseline="moving")):
        assert baseline == pytest.approx(expected)
        for batch in rewards:
            expected = MOVING_AVERAGE_DECAY * expected + (1 - MOVING_AVERAGE_DECAY) * batch.mean().item()


def test_no_baseline() -> None:
    assert [baseline for baseline, _ in learn_epochs(make_sampler(baseline="none"))] == [0.0, 0.0, 0.0]


def test_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = make_sampler(num_negs_per_pos=2)
    fix_candidates(sampler, monkeypatch, CANDIDATES)
    p = [probabilities_twin(sampler, row) for row in range(3)]
    torch.manual_seed(4)
    negatives = sampler.propose(POSITIVES)
    rewards = torch.arange(6, dtype=torch.double).view(3, 2)
    sampler.learn(negatives, Scores(rewards[:, :1], rewards))
    metrics = sampler.end_epoch()
    drawn = list(map(tuple, negatives.triples.view(-1, 3).tolist()))
    assert metrics["reward"] == pytest.approx(2.5)
    assert metrics["baseline"] == 0
    assert metrics["entropy"] == pytest.approx(-sum(x * math.log(x) for row in p for x in row) / 3)
    assert 0 < metrics["repeated"] == pytest.approx(1 - len(set(drawn)) / len(drawn))
    assert sampler.end_epoch() == {}, "an epoch without negatives, as in pre-training, has no metrics"


def test_default_optimizer() -> None:
    (optimizer,) = make_sampler(generator_optimizer="adam", generator_optimizer_kwargs=None).optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (1e-3, 1e-3)
    (optimizer,) = make_sampler(generator_optimizer="adam", generator_optimizer_kwargs={"lr": 0.1}).optimizers()
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.1, 1e-3)


@pytest.mark.parametrize("name", ["distmult", "complex"])
def test_default_generators(name: str) -> None:
    """50 real numbers for each entity, of the scale of the paper, without a constraint and without a regulariser."""
    sampler = make_sampler(random_graph(3000, 2, 50), generator=name, generator_kwargs=None)
    for table in tables(sampler.generator):
        assert table.shape[1] == 50
    dim = {"distmult": 50, "complex": 25}[name]
    assert tables(sampler.generator)[0].std().item() == pytest.approx((0.04 / dim) ** (1 / 6), rel=0.02)
    before = tables(sampler.generator)[0].detach().clone()
    sampler.generator.post_parameter_update()
    assert torch.equal(before, tables(sampler.generator)[0])


@pytest.mark.parametrize(
    ("constrainer", "is_constrained"),
    [
        (partial(normalize, dim=-1), lambda norms: torch.allclose(norms, torch.ones_like(norms))),
        (unit_ball, lambda norms: bool((norms <= 1 + 1e-6).all())),
    ],
    ids=["sphere", "ball"],
)
@pytest.mark.parametrize("act", ["learn", "warm_up"])
def test_generator_is_constrained(
    constrainer: Callable[[torch.Tensor], torch.Tensor], is_constrained: Callable[[torch.Tensor], bool], act: str
) -> None:
    """After each step, whose size would lead far away."""
    sampler = make_sampler(generator="transe", generator_kwargs={"embedding_dim": 4, "entity_constrainer": constrainer})
    for group in sampler.optimizer.param_groups:
        group["lr"] = 10.0
    norms = []
    sampler.optimizer.register_step_post_hook(
        lambda *_: norms.append(tables(sampler.generator)[0].detach().norm(dim=-1))
    )
    for _ in range(2):
        if act == "warm_up":
            sampler.warm_up(POSITIVES)
        else:
            negatives = sampler.propose(POSITIVES)
            sampler.learn(negatives, Scores(torch.zeros(3, 1), torch.full((3, 1), -5.0, dtype=torch.double)))
        assert is_constrained(tables(sampler.generator)[0].detach().norm(dim=-1))
    assert not any(map(is_constrained, norms)), "the constraint had nothing to do"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_candidates": 0}, "num_candidates=0"),
        ({"num_candidates": 1}, "num_candidates=1"),
        ({"num_candidates": 13}, "num_candidates=13 exceeds the 12 entities"),
        ({"num_negs_per_pos": 0}, "num_negs_per_pos=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"temperature": math.inf}, "temperature=inf"),
        ({"baseline": "median"}, "baseline='median'"),
        ({"side": "left"}, "side='left'"),
        ({"generator": "fixedmodel"}, "generator='fixedmodel'"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(f"{key}={x}" for key, x in value.items()),
)
def test_impossible_arguments(kwargs: Mapping[str, Any], message: str) -> None:
    """One error names the argument and its value."""
    with pytest.raises(ConfigurationError, match=message):
        make_sampler(**kwargs)


def test_unknown_names() -> None:
    with pytest.raises(ConfigurationError, match="generator='no_such_model' is no model of PyKEEN"):
        make_sampler(generator="no_such_model")
    with pytest.raises(ConfigurationError, match=r"generator_optimizer='no_such_optimizer' .*adam"):
        make_sampler(generator_optimizer="no_such_optimizer")


def test_warm_start(tmp_path: Path) -> None:
    path = tmp_path / "generator.pt"
    trained = make_sampler()
    trained.warm_up(POSITIVES)
    torch.save(trained.float().generator.state_dict(), path)
    sampler = make_sampler(generator_warm_start=path).float()
    for x, y in zip(tables(sampler.generator), tables(trained.generator), strict=True):
        assert torch.equal(x, y)
    with pytest.raises(ConfigurationError, match="no file"):
        make_sampler(generator_warm_start=tmp_path / "missing.pt")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_generator_left_the_finite_numbers(value: float) -> None:
    sampler = make_sampler()
    tables(sampler.generator)[1].data[POSITIVES[0, 1]] = value
    with pytest.raises(NonFiniteSamplerError, match="generator"):
        sampler.propose(POSITIVES)
    with pytest.raises(NonFiniteSamplerError, match="generator"):
        sampler.warm_up(POSITIVES)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_reward_is_not_finite(value: float) -> None:
    sampler = make_sampler()
    start = [table.detach().clone() for table in tables(sampler.generator)]
    negatives = sampler.propose(POSITIVES)
    with pytest.raises(NonFiniteSamplerError, match="reward"):
        sampler.learn(negatives, Scores(torch.zeros(3, 1), torch.tensor([[1.0], [value], [2.0]])))
    for before, table in zip(start, tables(sampler.generator), strict=True):
        assert torch.equal(before, table), "nothing was learnt from it"


def test_learning_needs_a_proposal() -> None:
    sampler = make_sampler()
    negatives = sampler.propose(POSITIVES)
    scores = Scores(torch.zeros(3, 1), torch.zeros(3, 1, dtype=torch.double))
    sampler.learn(negatives, scores)
    with pytest.raises(RuntimeError, match="propose"):
        sampler.learn(negatives, scores)

"""KBGAN against slow, readable twins: the draw, the estimate of the gradient, the warm-up, and whole epochs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pykeen.losses import MarginRankingLoss
from pykeen.models import ERModel, TransE
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.training.callbacks import TrainingCallback
from pykeen.triples import CoreTriplesFactory
from scipy.stats import chisquare
from torch import nn
from torch.nn.functional import normalize

from pykeen_advneg.errors import ConfigurationError, NonFiniteSamplerError
from pykeen_advneg.initializers import unit_ball
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.sampling.kbgan import MOVING_AVERAGE_DECAY, KBGANNegativeSampler
from pykeen_advneg.testing import random_graph
from pykeen_advneg.training import AdversarialTrainingLoop

HEAD, TAIL = 0, 2
ALPHA = 1e-3

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
    KBGANNegativeSampler.claim(sampler)
    return sampler.double()


def tables(model: ERModel[Any, Any, Any]) -> list[nn.Parameter]:
    """The entity and the relation table of a model."""
    return [model.entity_representations[0]._embeddings.weight, model.relation_representations[0]._embeddings.weight]


def fix_candidates(
    sampler: KBGANNegativeSampler, monkeypatch: pytest.MonkeyPatch, ids: torch.Tensor, column: torch.Tensor = COLUMN
) -> None:
    """Let a sampler always have the same candidates."""
    monkeypatch.setattr(sampler, "_draw_candidates", lambda positives, num: Negatives(positives, ids, column))


# ------------------------------------------------------------------------------------------------------- the twins


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


# --------------------------------------------------------------------------------------------------------- the draw


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


# ------------------------------------------------------------------------------------------------------- REINFORCE


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


# ------------------------------------------------------------------------------------------------ warm-up, filters


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_warm_up(monkeypatch: pytest.MonkeyPatch, temperature: float) -> None:
    """The step is the gradient of -log softmax of the positive among itself and all but the first candidate."""
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


# -------------------------------------------------------------------------------------- baseline, metrics, optimizer


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


# ------------------------------------------------------------------------------------------------------------ errors


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
    """The resolvers of PyKEEN name the choices."""
    with pytest.raises(KeyError, match="distmult"):
        make_sampler(generator="no_such_model")
    with pytest.raises(KeyError, match="adam"):
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


# ---------------------------------------------------------------------------------------------------------- the loop


class Recorder(KBGANNegativeSampler):
    """Writes down what the loop does with it."""

    #: of all batches: the candidates, and the ids which were drawn
    candidates: list[Negatives]
    drawn: list[torch.Tensor]
    #: the scores which were given, and those of the model when they were given
    given: list[torch.Tensor]
    rescored: list[torch.Tensor]
    #: how many parameters the optimizers of the generator and of the model remember
    remembered: list[tuple[int, int]]

    training_loop: AdversarialTrainingLoop

    def __init__(self, *, mapped_triples: torch.Tensor, **kwargs: Any) -> None:
        super().__init__(mapped_triples=mapped_triples, **kwargs)
        self.candidates, self.drawn, self.given, self.rescored, self.remembered = [], [], [], [], []

    def _draw_candidates(self, positives: torch.Tensor, num: int) -> Negatives:
        self.candidates.append(super()._draw_candidates(positives, num))
        return self.candidates[-1]

    def propose(self, positives: torch.Tensor) -> Negatives:
        negatives = super().propose(positives)
        self.drawn.append(negatives.ids)
        return negatives

    def learn(self, negatives: Negatives, scores: Scores) -> None:
        self.given.append(scores.negatives)
        loop = self.training_loop
        with torch.no_grad():
            self.rescored.append(loop.model.score_hrt(negatives.triples.view(-1, 3)).view(negatives.shape))
        self.remembered.append((len(self.optimizer.state), len(loop.optimizer.state)))
        super().learn(negatives, scores)


class Introduction(TrainingCallback):
    """Makes the loop known to its sampler."""

    def pre_batch(self, **kwargs: Any) -> None:
        # nn.Module would register it as a part of the sampler
        object.__setattr__(self.training_loop._sampler, "training_loop", self.training_loop)


def copy_from(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Initialise a table by a copy, where PretrainedInitializer would give the same tensor to all."""
    return target.copy_(source)


INITIAL = {
    name: torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.3
    for seed, (name, shape) in enumerate({"entity": (12, 4), "relation": (3, 4)}.items())
}
INITIALIZERS = {f"{name}_initializer": partial(copy_from, tensor) for name, tensor in INITIAL.items()}


def run_loop(
    num_epochs: int = 3, pretraining_epochs: int = 0, batch_size: int = 25, **kwargs: Any
) -> tuple[Recorder, TransE, list[float]]:
    """Train TransE, constrained to the unit ball, by a DistMult which starts from the same tables."""
    torch.manual_seed(0)
    model = TransE(
        triples_factory=GRAPH,
        embedding_dim=4,
        scoring_fct_norm=1,
        entity_constrainer=unit_ball,
        relation_constrainer=unit_ball,
        loss=MarginRankingLoss(margin=3.0, reduction="sum"),
        random_seed=0,
        **INITIALIZERS,
    )
    generator = {"embedding_dim": 4, "entity_constrainer": None, "regularizer": None, **INITIALIZERS}
    loop = AdversarialTrainingLoop(
        model=model,
        triples_factory=GRAPH,
        optimizer="adam",
        optimizer_kwargs={"lr": 0.05},
        negative_sampler=Recorder,
        negative_sampler_kwargs={
            "num_candidates": 5,
            "temperature": 0.8,
            "generator_kwargs": generator,
            "generator_optimizer_kwargs": {"lr": 0.02},
            **kwargs,
        },
        pretraining_epochs=pretraining_epochs,
    )
    losses = loop.train(GRAPH, num_epochs=num_epochs, batch_size=batch_size, use_tqdm=False, callbacks=[Introduction()])
    assert losses is not None
    assert isinstance(loop._sampler, Recorder)
    return loop._sampler, model, losses


def test_reward_is_from_before_the_update() -> None:
    """The model still gives the scores which are the reward, and they are those of the negatives which were drawn."""
    sampler, _, _ = run_loop()
    assert len(sampler.given) == 9
    for given, rescored in zip(sampler.given, sampler.rescored, strict=True):
        torch.testing.assert_close(given, rescored)


def test_optimizers_are_fresh_after_pretraining() -> None:
    sampler, _, _ = run_loop(num_epochs=4, pretraining_epochs=2)
    assert len(sampler.given) == 6, "it learns in two epochs of three batches"
    assert sampler.remembered[0] == (0, 0)
    assert all(min(sizes) > 0 for sizes in sampler.remembered[1:])


def twin(
    sampler: Recorder, num_epochs: int, num_negs_per_pos: int
) -> tuple[list[torch.Tensor], list[torch.Tensor], list[float]]:
    """KBGAN as the paper's algorithm is written down, triple by triple, with the candidates and draws of a run."""
    discriminator = [nn.Parameter(INITIAL[name].clone()) for name in ("entity", "relation")]
    generator = [nn.Parameter(INITIAL[name].clone()) for name in ("entity", "relation")]
    adam_d = torch.optim.Adam(discriminator, lr=0.05)
    adam_g = torch.optim.Adam(generator, lr=0.02, weight_decay=1e-3)
    batches = list(zip(sampler.candidates, sampler.drawn, strict=True))
    per_epoch = len(batches) // num_epochs
    baseline, losses = 0.0, []
    for epoch in range(num_epochs):
        all_rewards: list[float] = []
        epoch_loss = 0.0
        for candidates, drawn in batches[epoch * per_epoch : (epoch + 1) * per_epoch]:
            loss_d, loss_g = torch.zeros(()), torch.zeros(())
            for positive, column, ids, chosen in zip(
                candidates.positives.tolist(), candidates.column.tolist(), candidates.ids.tolist(), drawn.tolist(),
                strict=True,
            ):  # fmt: skip
                logits = torch.stack([distmult(*generator, *replaced(positive, column[0], e)) for e in ids]) / 0.8
                for entity in chosen:
                    negative = transe(*discriminator, *replaced(positive, column[0], entity))
                    loss_d = loss_d + (3.0 + negative - transe(*discriminator, *positive)).relu()
                    reward = negative.item()
                    all_rewards.append(reward)
                    log_p = logits.log_softmax(dim=0)[ids.index(entity)]
                    loss_g = loss_g - (reward - baseline) * log_p / num_negs_per_pos
            for loss, optimizer in ((loss_d, adam_d), (loss_g, adam_g)):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            for table in discriminator:
                table.data /= table.data.norm(dim=-1, keepdim=True).clamp(min=1.0)
            epoch_loss += loss_d.item() / per_epoch
        baseline = sum(all_rewards) / len(all_rewards)
        losses.append(epoch_loss)
    return [x.detach() for x in discriminator], [x.detach() for x in generator], losses


@pytest.mark.parametrize("num_negs_per_pos", [1, 3])
def test_whole_epochs(num_negs_per_pos: int) -> None:
    """Three epochs of the loop end where a plain loop ends, which has nothing of it but the random draws."""
    sampler, model, losses = run_loop(num_negs_per_pos=num_negs_per_pos)
    # the sampler of the memory probe was another one
    discriminator, generator, expected = twin(sampler, num_epochs=3, num_negs_per_pos=num_negs_per_pos)
    assert losses == pytest.approx(expected, rel=1e-4)
    for twins, trained in ((discriminator, model), (generator, sampler.generator)):
        for x, y, start in zip(twins, tables(trained), INITIAL.values(), strict=True):
            torch.testing.assert_close(y.detach(), x, rtol=1e-3, atol=1e-4)
            assert (x - start).abs().max() > 0.1, "far from where it started"


def typed_graph(seed: int, num_triples: int) -> CoreTriplesFactory:
    """Three types of 20 entities; relation r leads from type r to the next one."""
    generator = torch.Generator().manual_seed(seed)
    relation = torch.randint(3, (num_triples,), generator=generator)
    head, tail = torch.randint(20, (2, num_triples), generator=generator)
    triples = torch.stack([20 * relation + head, relation, 20 * ((relation + 1) % 3) + tail], dim=-1)
    return CoreTriplesFactory.create(triples.unique(dim=0), num_entities=60, num_relations=3)


def mean_rewards(run: PipelineResult, positives: torch.Tensor) -> tuple[float, float]:
    """The mean score, by the trained model, of what the trained generator draws, and of uniform negatives."""
    sampler = run.training_loop._sampler
    with torch.no_grad():
        drawn, uniform = sampler.propose(positives), sampler._draw_candidates(positives, 1)
        drawn, uniform = (run.model.score_hrt(x.triples.view(-1, 3)).mean().item() for x in (drawn, uniform))
    return drawn, uniform


def test_generator_learns_to_be_rewarded() -> None:
    """By name through the pipeline: the longer it learns, the more the model likes what it draws over what is uniform.

    On a graph whose relations have types, which both models can find.
    """
    graph, gains = typed_graph(0, 600), []
    for num_epochs in (1, 30):
        result = pipeline(
            training=graph,
            testing=typed_graph(1, 20),
            model="transe",
            model_kwargs={"embedding_dim": 16},
            optimizer_kwargs={"lr": 0.02},
            training_loop="adversarial",
            negative_sampler="kbgan",
            negative_sampler_kwargs={
                "generator_kwargs": {"embedding_dim": 16},
                "generator_optimizer_kwargs": {"lr": 0.02},
            },
            training_kwargs={"num_epochs": num_epochs, "batch_size": 50, "use_tqdm": False},
            evaluation_kwargs={"use_tqdm": False},
            random_seed=0,
            device="cpu",
        )
        drawn, uniform = mean_rewards(result, graph.mapped_triples.repeat(10, 1))
        gains.append(drawn - uniform)
    assert abs(gains[0]) < 0.1
    assert gains[1] > gains[0] + 0.2

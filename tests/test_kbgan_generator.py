"""The generator of KBGAN: where it comes from, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kbgan_twins import CANDIDATES, COMPLETE, GRAPH, POSITIVES, fix_candidates, make_sampler
from loops import assert_same, differs
from pykeen.models import DistMult, model_resolver
from pykeen.pipeline import pipeline

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.sampling.base import Scores


def make_generator(**kwargs: Any) -> DistMult:
    return DistMult(triples_factory=GRAPH, random_seed=0, **{"embedding_dim": 4, "regularizer": None, **kwargs})


def test_instance_is_copied() -> None:
    """A second training starts from the weights which the user gave."""
    generator = make_generator()
    sampler = make_sampler(generator=generator, generator_kwargs=None)
    assert_same(sampler.generator.float().state_dict(), generator.state_dict())
    assert sampler.generator is not generator
    sampler.warm_up(POSITIVES)
    assert differs(sampler.generator.state_dict(), generator.state_dict())
    again = make_sampler(generator=generator, generator_kwargs=None)
    assert_same(again.generator.float().state_dict(), generator.state_dict())


def test_instance_with_keywords_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="generator is an instance, to which"):
        make_sampler(generator=make_generator(), generator_kwargs={"embedding_dim": 3})


def test_instance_for_another_graph_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"generator has 12 entities and 3 relations, .* 4 and 2"):
        make_sampler(COMPLETE, generator=make_generator(), generator_kwargs=None)


def test_warm_start(tmp_path: Path) -> None:
    generator = make_generator()
    torch.save(generator.state_dict(), tmp_path / "weights.pt")
    sampler = make_sampler(generator_warm_start=tmp_path / "weights.pt")
    assert_same(sampler.generator.float().state_dict(), generator.state_dict())


def test_warm_start_of_another_shape_is_refused(tmp_path: Path) -> None:
    torch.save(make_generator(embedding_dim=5).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ConfigurationError, match=r"has the shape \(12, 5\) there, and \(12, 4\) here"):
        make_sampler(generator_warm_start=tmp_path / "weights.pt")


def test_seed_of_the_generator_is_the_users() -> None:
    first = make_sampler(generator_kwargs={"embedding_dim": 4, "random_seed": 5})
    torch.rand(3)
    again = make_sampler(generator_kwargs={"embedding_dim": 4, "random_seed": 5})
    assert_same(first.generator.state_dict(), again.generator.state_dict())


@pytest.mark.parametrize("lesson", ["warm_up", "learn"])
def test_regularizer_of_the_generator_counts(lesson: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a reward equal to the baseline, nothing but the regularizer moves the generator."""
    states = []
    for weight in (0.0, 10.0):
        kwargs = {"embedding_dim": 4, "regularizer": "lp", "regularizer_kwargs": {"weight": weight}}
        sampler = make_sampler(generator_kwargs=kwargs)
        fix_candidates(sampler, monkeypatch, CANDIDATES)
        if lesson == "warm_up":
            sampler.warm_up(POSITIVES)
        else:
            zeros = torch.zeros(3, 1, dtype=torch.double)
            sampler.learn(sampler.propose(POSITIVES), Scores(zeros, zeros))
        states.append(sampler.generator.state_dict())
    assert differs(states[0], states[1])


def test_masked_negatives_are_no_part_of_the_reward() -> None:
    """In a graph where all triples are known, no negative is left: neither reward nor baseline comes from any."""
    sampler = make_sampler(COMPLETE, filtered=True, filterer="exact", num_candidates=3, baseline="moving")
    positives = COMPLETE.mapped_triples[:5]
    negatives = sampler.propose(positives)
    assert negatives.mask is not None
    assert not negatives.mask.any()
    scores = torch.full((5, 1), 100.0, dtype=torch.double)
    sampler.learn(negatives, Scores(scores, scores))
    assert sampler.baseline_value == 0
    assert sampler.end_epoch() == {}


def test_fraction_of_a_candidate_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"num_candidates=2\.5 must be a whole number"):
        make_sampler(num_candidates=2.5)


def test_no_positives() -> None:
    assert make_sampler().propose(POSITIVES[:0]).shape == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tucker", "conve"])
def test_batch_norm_with_small_batches(name: str) -> None:
    """A batch with a single corrupted head must not be normalised by itself."""
    size = {"conve": {"embedding_height": 2, "embedding_width": 4}}.get(name, {})
    kwargs = dict(embedding_dim=8, **size)
    for sampler_kwargs in ({}, {"generator": name, "generator_kwargs": kwargs}):
        result = pipeline(
            dataset="nations",
            model=name,
            model_kwargs=kwargs,
            training_loop="adversarial",
            negative_sampler="kbgan",
            negative_sampler_kwargs={"num_candidates": 3, **sampler_kwargs},
            training_kwargs=dict(num_epochs=1, batch_size=8, use_tqdm=False),
            evaluation_kwargs=dict(use_tqdm=False),
            random_seed=0,
        )
        assert result.losses[0] > 0
    assert model_resolver.lookup(name) is type(result.model)

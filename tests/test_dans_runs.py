"""DANS in the loop: sub-batches, repeated trainings, graph encoders, what is logged; and by name in the pipeline."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from loops import assert_same, make_loop, make_model, state_of, train, umls
from pykeen.evaluation import RankBasedEvaluator
from pykeen.models import RGCN
from pykeen.nn.message_passing import RGCNLayer
from pykeen.pipeline import pipeline
from pykeen.trackers import PythonResultTracker

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.sampling.dans import DANSNegativeSampler
from pykeen_advneg.training import AdversarialTrainingLoop

SMALL = dict(num_generated_entity=2, num_generated_relation=1, num_negs_per_pos=2, discriminator_steps=2)


def make_rgcn(**kwargs: Any) -> RGCN:
    return RGCN(
        triples_factory=umls().training,
        embedding_dim=8,
        decomposition="bases",
        decomposition_kwargs=dict(num_bases=2),
        random_seed=0,
        activation=torch.nn.ReLU,
        **{"edge_dropout": 0.0, "self_loop_dropout": 0.0, **kwargs},
    )


@pytest.mark.parametrize("model", ["distmult", "rotate"])
def test_sub_batches_change_nothing(model: str) -> None:
    """The generators see the whole batch however it is cut."""
    losses, states = [], []
    for size in (None, 300):
        loop = make_loop("dans", SMALL, model=make_model(model))
        losses.append(train(loop, 2, sub_batch_size=size))
        states.append(copy.deepcopy(loop.sampler.state_dict()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for key, value in states[0].items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, states[1][key], rtol=5e-3, atol=5e-4)


def test_parts_of_attached_fakes_are_refused_before_training() -> None:
    """And not after the pre-training, which has no generated negatives."""
    loop = make_loop("dans", dict(detach_fakes=False, **SMALL), pretraining_epochs=1)
    with pytest.raises(ConfigurationError, match="detach_fakes=False with a sub_batch_size"):
        train(loop, 2, sub_batch_size=300)
    assert loop.num_scores == 0
    assert len(train(loop, 2, sub_batch_size=10**6)) == 2


def test_second_training_starts_anew() -> None:
    loop = make_loop("dans", SMALL)
    losses = train(loop, 2)
    state = copy.deepcopy(state_of(loop))
    assert train(loop, 2) == losses
    assert_same(state_of(loop), state)


def test_instance() -> None:
    """An instance trains as its class does, twice."""
    training = umls().training
    torch.manual_seed(7)
    sampler = DANSNegativeSampler(
        mapped_triples=training.mapped_triples, num_entities=training.num_entities, num_relations=46, **SMALL
    )
    loop = make_loop(sampler)
    losses = train(loop, 2)
    assert losses == train(loop, 2) == train(make_loop("dans", SMALL), 2)


def test_continued_training() -> None:
    whole, parts = make_loop("dans", SMALL), make_loop("dans", SMALL)
    losses = train(whole, 3)
    train(parts, 1)
    assert train(parts, 3, seed=None, continue_training=True) == losses
    assert_same(state_of(parts), state_of(whole))


def count_encodings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each run of the encoder, whether it can be differentiated."""
    calls = []
    forward = RGCNLayer.forward

    def count(self: RGCNLayer, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        result = forward(self, x=x, **kwargs)
        if self.activation is None:  # the last layer
            calls.append(result.requires_grad)
        return result

    monkeypatch.setattr(RGCNLayer, "forward", count)
    return calls


def test_graph_is_encoded_once_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for entities: conditions, scores of three kinds, the lesson, the distance to all entities."""
    loop = make_loop("dans", SMALL, model=make_rgcn(), automatic_memory_optimization=False)
    calls = count_encodings(monkeypatch)
    train(loop, 2, batch_size=2000)
    assert calls == [False] + 6 * [True], "the first one is for the shapes of the representations"


def test_evaluation_leaves_nothing_to_train_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an evaluation, the first batch has a gradient, which PyKEEN's R-GCN has not by itself."""
    model = make_rgcn()
    loop = make_loop("basic", {}, model=model, automatic_memory_optimization=False)
    evaluator = RankBasedEvaluator()
    options = dict(batch_size=128, use_tqdm=False, additional_filter_triples=umls().training.mapped_triples)
    train(loop, 1)
    model.eval()
    evaluator.evaluate(model, umls().validation.mapped_triples[:20], **options)
    model.train()
    # what PyKEEN would train on
    assert not model.entity_representations[0]().requires_grad
    calls = count_encodings(monkeypatch)
    train(loop, 2, continue_training=True, batch_size=6000)
    assert calls == [True]


@pytest.mark.parametrize("sampler", ["basic", "dans"])
def test_graph_models_in_sub_batches(sampler: str) -> None:
    """Parts encode the graph again, since what was differentiated is gone; the result is that of the whole batch."""
    kwargs = SMALL if sampler == "dans" else {}
    losses = []
    for size in (None, 900):
        model = make_rgcn()
        # a rate of 0 draws random numbers as any other one, for each encoding
        model.entity_representations[0].edge_dropout = None
        # Adam makes much of what is not quite 0
        loop = make_loop(sampler, kwargs, model=model, optimizer="sgd", optimizer_kwargs=dict(lr=0.1))
        losses.append(train(loop, 2, batch_size=2000, sub_batch_size=size))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_graph_models_with_dropout_in_sub_batches() -> None:
    losses = train(make_loop("dans", SMALL, model=make_rgcn(edge_dropout=0.4)), 2, batch_size=2000, sub_batch_size=900)
    assert losses[1] < losses[0]


def test_pipeline_logs_metrics() -> None:
    tracker = PythonResultTracker(store_metrics=True)
    result = pipeline(
        dataset=umls(),
        model="distmult",
        model_kwargs=dict(embedding_dim=8),
        loss="bcewithlogits",
        training_loop="adversarial",
        training_loop_kwargs=dict(pretraining_epochs=1),
        negative_sampler="dans",
        negative_sampler_kwargs=SMALL,
        training_kwargs=dict(num_epochs=3, batch_size=1024, use_tqdm=False),
        evaluation_kwargs=dict(use_tqdm=False),
        result_tracker=tracker,
        random_seed=0,
    )
    assert isinstance(result.training_loop, AdversarialTrainingLoop)
    assert int(result.training_loop.sampler.num_epochs) == 2, "pre-training does not count"
    names = {name for name in tracker.metrics[3] if name.startswith("sampler.")}
    assert {f"sampler.{name}" for name in ("diversity_entity", "nearest", "outscoring", "discriminator_loss")} <= names
    assert not any(name.startswith("sampler.") for name in tracker.metrics[1])

"""What the loop promises beyond PyKEEN's; a loop which steps a second network in `_process_batch` keeps none of it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from loops import BATCH_SIZE, assert_same, differs, make_loop, make_model, make_stopper, state_of, train, umls
from pykeen.pipeline import pipeline
from pykeen.sampling import BasicNegativeSampler, negative_sampler_resolver
from pykeen.trackers import ResultTracker
from pykeen.training import NonFiniteLossError, SLCWATrainingLoop, TrainingCallback
from pykeen.utils import set_random_seed

from pykeen_advneg.errors import ConfigurationError, ModelRequiredError, NonFiniteSamplerError
from pykeen_advneg.filtering import ExactFilterer
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.sampling.kbgan import KBGANNegativeSampler
from pykeen_advneg.scoring import Scorer
from pykeen_advneg.training import AdversarialTrainingLoop
from pykeen_advneg.training.batches import Batch, draw_negatives
from pykeen_advneg.training.parts import Parts

NUM_BATCHES = -(-umls().training.num_triples // BATCH_SIZE)

#: losses of all kinds: of points, of pairs, of rows, of the whole batch
LOSSES = ["bcewithlogits", "crossentropy", "infonce", "marginranking", "mse", "nssa", "softplus", "doublemargin"]


def kbgan_of(loop: AdversarialTrainingLoop) -> KBGANNegativeSampler:
    assert isinstance(loop._sampler, KBGANNegativeSampler)
    return loop._sampler


class CountSteps(TrainingCallback):
    """Count the steps of the generator, batch by batch."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
        (state, *_) = kbgan_of(self.training_loop).optimizer.state.values()
        self.steps.append(int(state["step"]))


class Recorder(ResultTracker):
    """Keep what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[int | None, str | None, Mapping[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None, prefix: str | None = None) -> None:
        self.logged.append((step, prefix, dict(metrics)))


# --- memory probing and repeated training ----------------------------------------------------------------------------


def test_probing_leaves_generator_and_random_state_alone() -> None:
    plain = make_loop(automatic_memory_optimization=False)
    probed = make_loop(automatic_memory_optimization=True)
    assert train(plain, 3) == train(probed, 3)
    assert_same(state_of(plain), state_of(probed))


def test_probing_takes_no_step() -> None:
    counter = CountSteps()
    train(make_loop(automatic_memory_optimization=True), 1, callbacks=counter)
    assert counter.steps[-NUM_BATCHES:] == list(range(1, NUM_BATCHES + 1))


def test_second_training_resets_the_sampler() -> None:
    loop = make_loop()
    train(loop, 2)
    counter = CountSteps()
    train(loop, 2, callbacks=counter)
    assert counter.steps[-1] == 2 * NUM_BATCHES


def test_continued_training_keeps_the_sampler() -> None:
    loop, whole = make_loop(), make_loop()
    train(loop, 2)
    counter = CountSteps()
    losses = train(loop, 4, seed=None, continue_training=True, callbacks=counter)
    assert counter.steps == list(range(2 * NUM_BATCHES + 1, 4 * NUM_BATCHES + 1))
    assert losses == train(whole, 4)
    assert_same(state_of(loop), state_of(whole))


def test_same_seed_same_result() -> None:
    first, second = make_loop(), make_loop()
    assert train(first, 3) == train(second, 3)
    assert_same(state_of(first), state_of(second))


# --- sub-batches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_sub_batches_do_not_change_the_training(loss: str, filtered: bool) -> None:
    """The host weights the losses of parts by their sizes, which is wrong with masks, sums and batch-wide softmaxes."""
    results = []
    for sub_batch_size in (None, 300):
        model = make_model(loss=loss)
        loop = make_loop("basic", {"num_negs_per_pos": 3, "filtered": filtered}, model, optimizer_kwargs={"lr": 0.001})
        losses = train(loop, 1, sub_batch_size=sub_batch_size, batch_size=BATCH_SIZE)
        results.append((losses, model.state_dict()))
    (losses, whole), (sub_losses, parts) = results
    assert sub_losses == pytest.approx(losses, rel=1e-4)
    for key in whole:
        torch.testing.assert_close(parts[key], whole[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sub_batches_with_regularizer(reduction: str) -> None:
    losses = []
    for sub_batch_size in (None, 300):
        model = make_model(
            "distmult", loss="marginranking", loss_kwargs={"reduction": reduction}, regularizer_kwargs={"weight": 5.0}
        )
        losses.append(train(make_loop("basic", model=model), 1, sub_batch_size=sub_batch_size))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_sub_batches_are_really_taken() -> None:
    """PyKEEN's search for memory would put the whole batch in their place."""
    sizes: list[int] = []

    class Watch(TrainingCallback):
        def on_batch(self, epoch: int, batch: Any, batch_loss: float, **kwargs: Any) -> None:
            sizes.append(len(batch))

    train(make_loop(automatic_memory_optimization=True), 1, sub_batch_size=300, callbacks=Watch())
    assert len(sizes) == sum(-(-min(BATCH_SIZE, umls().training.num_triples - i * BATCH_SIZE) // 300) for i in range(6))


def test_dropout_falls_the_same_way_in_both_scorings() -> None:
    model = make_model("distmult", regularizer=None)
    dropout = torch.nn.Dropout(0.5)
    model.entity_representations[0].dropout = dropout
    model.train()
    triples = umls().training.mapped_triples[:64]
    negatives = draw_negatives(BasicNegativeSampler(**SIZE, num_negs_per_pos=2), triples)
    set_random_seed(0)
    parts = Parts(
        Scorer(model), negatives, None, 20, lambda scores: scores.positives.sum() + 2 * scores.negatives.sum()
    )
    for start in (0, 20, 40, 60):
        stop = min(start + 20, 64)
        # the loss is linear in the scores: its share is the surrogate itself, if the same units are dropped
        expected = parts.scores.positives[start:stop].sum() + 2 * parts.scores.negatives[start:stop].sum()
        torch.testing.assert_close(parts.surrogate(start, stop).detach(), expected)


def test_masked_negatives_do_not_count() -> None:
    """Whatever they score."""
    gradients = []
    for shift in (0.0, 100.0):
        loop = make_loop(
            "basic", {"num_negs_per_pos": 3, "filtered": True, "filterer": "exact"}, make_model(loss="nssa")
        )
        triples = umls().training.mapped_triples
        positives = triples[:50]
        # tails of other triples of the same head and relation: many of them known
        ids = triples[torch.randint(len(triples), (50, 3), generator=torch.Generator().manual_seed(0)), 2]
        ids[:, 0] = positives[:, 2]
        column = torch.full((50, 1), 2)
        mask = ExactFilterer(triples)(Negatives(positives, ids, column).triples)
        assert 50 <= int((~mask).sum()) < 150
        positive_scores = torch.linspace(-1, 1, 50).unsqueeze(1).requires_grad_()
        negative_scores = (torch.linspace(-2, 2, 150).view(50, 3) + shift * ~mask).requires_grad_()
        batch = Batch(Negatives(positives, ids, column, mask))
        loss = loop._loss_of_scores(batch, Scores(positive_scores, negative_scores), 0.0)
        gradients.append(torch.autograd.grad(loss, (positive_scores, negative_scores)))
    assert_same(gradients[0], gradients[1])
    assert torch.equal(gradients[0][1][~mask], torch.zeros(int((~mask).sum())))


def test_generator_steps_once_a_batch() -> None:
    counter = CountSteps()
    train(make_loop(), 1, sub_batch_size=300, callbacks=counter)
    assert counter.steps[-NUM_BATCHES:] == list(range(1, NUM_BATCHES + 1))


def test_generator_learns_the_same_from_sub_batches() -> None:
    whole, parts = make_loop(), make_loop()
    train(whole, 1)
    train(parts, 1, sub_batch_size=300)
    for a, b in zip(kbgan_of(whole).generator.parameters(), kbgan_of(parts).generator.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


# --- what reaches the generator --------------------------------------------------------------------------------------


def test_gradient_clipping_reaches_the_generator() -> None:
    norms: list[float] = []

    class Watch(TrainingCallback):
        def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
            sampler = kbgan_of(self.training_loop)
            gradients = [p.grad for p in sampler.generator.parameters() if p.grad is not None]
            norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))

    train(make_loop(automatic_memory_optimization=False), 1, callbacks=Watch())
    free = max(norms)
    norms.clear()
    train(make_loop(automatic_memory_optimization=False), 1, callbacks=Watch(), gradient_clipping_max_norm=free / 100)
    assert max(norms) <= free / 100 * 1.001


def test_gradient_clipping_reaches_the_model() -> None:
    """The host's clipping fails in 1.11.1: its callback never gets to know its loop."""
    norms: list[float] = []

    class Watch(TrainingCallback):
        def pre_step(self, **kwargs: Any) -> None:
            gradients = [p.grad for p in self.model.get_grad_params() if p.grad is not None]
            norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))

    for sub_batch_size in (None, 300):
        train(make_loop(), 1, callbacks=Watch(), gradient_clipping_max_norm=0.01, sub_batch_size=sub_batch_size)
    assert max(norms[-2 * NUM_BATCHES :]) <= 0.01 * 1.001


def test_absolute_clipping_reaches_the_generator() -> None:
    loop = make_loop(automatic_memory_optimization=False)
    train(loop, 1, gradient_clipping_max_abs_value=1e-6)
    gradients = [p.grad for p in kbgan_of(loop).generator.parameters() if p.grad is not None]
    assert gradients
    assert all(float(g.abs().max()) <= 1e-6 for g in gradients)


def test_learning_rate_scheduler_reaches_the_generator() -> None:
    loop = make_loop(
        sampler_kwargs={"generator_optimizer_kwargs": {"lr": 0.5}},
        lr_scheduler="exponential",
        lr_scheduler_kwargs={"gamma": 0.5},
    )
    train(loop, 3)
    assert loop.optimizer is not None
    assert kbgan_of(loop).optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * 0.5**2)


def test_clear_optimizer_reaches_the_generator() -> None:
    loop = make_loop()
    train(loop, 1)
    assert kbgan_of(loop).optimizer.state
    train(loop, 2, continue_training=True, clear_optimizer=True)
    assert loop.optimizer is None
    assert not kbgan_of(loop).optimizer.state


def test_evaluation_loss_leaves_batch_statistics_alone() -> None:
    """The generator is in evaluation mode while the model is, and learns nothing of the validation triples."""
    kwargs = {"generator": "conve", "generator_kwargs": dict(embedding_dim=8, embedding_height=2, embedding_width=4)}
    states = []
    for callbacks in ({}, {"callbacks": "evaluation-loss", "callbacks_kwargs": {"triples_factory": umls().validation}}):
        loop = make_loop(sampler_kwargs={**kwargs, "num_candidates": 3})
        train(loop, 1, **callbacks)
        states.append(kbgan_of(loop).generator.state_dict())
    assert any("running_mean" in name for name in states[0])
    assert_same(states[0], states[1])


def test_broken_off_epoch_leaves_no_rest() -> None:
    loop = make_loop(automatic_memory_optimization=False)

    class Break(TrainingCallback):
        def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(loop, 3, callbacks=Break())
    counts: dict[int, float] = {}

    class Count(TrainingCallback):
        def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
            counts[epoch] = float(kbgan_of(self.training_loop).num_rewards)

    train(loop, 3, seed=None, continue_training=True, callbacks=Count())
    # what the last batch of each epoch leaves
    assert counts == {2: umls().training.num_triples, 3: umls().training.num_triples}


def test_second_training_trains() -> None:
    """PyKEEN counts on from the epochs of the first one, and leaves a reset model untrained."""
    loop = make_loop()
    assert train(loop, 3) == train(loop, 3)


def test_training_goes_on_after_early_stopping() -> None:
    loop = make_loop(optimizer_kwargs={"lr": 0.5})
    train(loop, 4, stopper=make_stopper(loop, patience=100, relative_delta=0.0))
    before = copy.deepcopy(loop.model.state_dict())
    train(loop, 6, seed=None, continue_training=True)
    assert differs(loop.model.state_dict(), before)


def test_only_pretraining_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="pykeen_advneg"):
        train(make_loop(pretraining_epochs=3), 1)
    assert "the sampler itself is never used" in caplog.text


def test_sampler_metrics_are_logged_each_epoch() -> None:
    tracker = Recorder()
    train(make_loop(result_tracker=tracker), 3)
    logged = [(step, metrics) for step, prefix, metrics in tracker.logged if prefix == "sampler"]
    assert [step for step, _ in logged] == [1, 2, 3]
    assert all(metrics.keys() == {"reward", "baseline", "entropy", "repeated"} for _, metrics in logged)
    assert logged[0][1]["baseline"] == 0
    assert logged[1][1]["baseline"] == logged[0][1]["reward"]


# --- the host's features ---------------------------------------------------------------------------------------------


def test_evaluation_loss_teaches_nothing() -> None:
    tracker = Recorder()
    counter = CountSteps()
    train(
        make_loop(result_tracker=tracker),
        2,
        callbacks=["evaluation-loss", counter],
        callbacks_kwargs=[{"triples_factory": umls().validation, "maximum_batch_size": 128}, None],
    )
    assert counter.steps[-1] == 2 * NUM_BATCHES
    assert len([1 for _, prefix, _ in tracker.logged if prefix == "validation"]) == 2


@pytest.mark.parametrize(("patience", "stops"), [(2, True), (100, False)])
def test_best_epoch_is_restored_with_its_sampler(patience: int, stops: bool) -> None:
    """The host restores the model only, and only if the patience was used up."""
    states: dict[int, Any] = {}

    class Keep(TrainingCallback):
        def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
            loop = self.training_loop
            states[epoch] = copy.deepcopy({"model": loop.model.state_dict(), "sampler": loop._sampler.state_dict()})

    # a learning rate which makes the validation metric jump up and down
    loop = make_loop(optimizer_kwargs={"lr": 0.5})
    stopper = make_stopper(loop, patience=patience, relative_delta=0.0)
    train(loop, 8, stopper=stopper, callbacks=Keep())
    assert stopper.stopped is stops
    best = stopper.best_epoch
    assert best is not None
    assert best < max(states), "the last epoch is the best one: nothing to restore"
    assert_same({"model": loop.model.state_dict(), "sampler": kbgan_of(loop).state_dict()}, states[best])
    assert differs(states[best]["model"], states[max(states)]["model"])
    assert stopper.best_model_path is not None
    assert not stopper.best_model_path.exists()


@pytest.mark.parametrize(("patience", "num_epochs"), [(1, 5), (100, 6)])
def test_best_epoch_is_none_of_pretraining(patience: int, num_epochs: int) -> None:
    """Even if these are better: the learning rate is such that each epoch makes the model worse."""
    loop = make_loop(pretraining_epochs=3, optimizer_kwargs={"lr": 3.0})
    stopper = make_stopper(loop, patience=patience, relative_delta=0.0)
    of_all: list[float] = []

    class Evaluate(TrainingCallback):
        def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
            results = stopper.evaluator.evaluate(
                self.model,
                umls().validation.mapped_triples,
                batch_size=128,
                use_tqdm=False,
                additional_filter_triples=umls().training.mapped_triples,
            )
            of_all.append(results.get_metric(stopper.metric))

    train(loop, num_epochs, stopper=stopper, callbacks=Evaluate())
    assert max(of_all[:3]) > max(of_all[3:]), "an epoch of pre-training would be the best one"
    assert stopper.best_epoch is not None
    assert stopper.best_epoch > 3
    assert stopper.results == pytest.approx(of_all[3:])
    assert stopper.best_metric == max(stopper.results)
    assert stopper.stopped == (patience == 1)
    results = stopper.evaluator.evaluate(
        loop.model,
        umls().validation.mapped_triples,
        batch_size=128,
        use_tqdm=False,
        additional_filter_triples=umls().training.mapped_triples,
    )
    assert results.get_metric(stopper.metric) == pytest.approx(stopper.best_metric), "its weights are restored"


@pytest.mark.parametrize("patience", [2, 100])
def test_best_epoch_is_encoded_anew(patience: int) -> None:
    """R-GCN keeps the encodings of the last evaluation, which belong to the last epoch."""
    loop = make_loop("basic", model=make_model("rgcn"), optimizer_kwargs={"lr": 0.5})
    stopper = make_stopper(loop, patience=patience, relative_delta=0.0)
    train(loop, 8, stopper=stopper)
    assert stopper.best_epoch is not None
    assert stopper.best_epoch < len(loop.losses_per_epochs), "the last epoch is the best one: nothing to restore"
    (entities,) = loop.model.entity_representations
    kept = entities(None)
    loop.model.post_parameter_update()  # which makes PyKEEN forget
    torch.testing.assert_close(kept, entities(None))


def test_filtered_negatives_with_weights() -> None:
    """PyKEEN fails here: it masks the negatives, and not their weights."""
    weights = torch.linspace(0.5, 2.0, umls().num_relations)
    kwargs: dict[str, Any] = dict(loss_weighter="relation", loss_weighter_kwargs={"weights": weights})
    model = make_model(loss="bcewithlogits")
    sampler_kwargs = {"filtered": True, "num_negs_per_pos": 2, "filterer": "python-set"}
    losses = train(make_loop("basic", sampler_kwargs, model, **kwargs), 2)
    assert losses[1] < losses[0]
    unweighted = train(make_loop("basic", sampler_kwargs, make_model(loss="bcewithlogits")), 2)
    assert losses != unweighted


def test_inverse_triples() -> None:
    loop = make_loop(inverse=True)
    train(loop, 1, inverse=True)
    sampler = kbgan_of(loop)
    assert sampler.num_relations == 2 * umls().num_relations
    assert sampler.generator.num_relations == sampler.num_relations


def test_drop_last() -> None:
    counter = CountSteps()
    loop = make_loop(automatic_memory_optimization=False)
    train(loop, 1, callbacks=counter, drop_last=True)
    assert len(counter.steps) == umls().training.num_triples // BATCH_SIZE


def test_schlichtkrull_batches_hang_together() -> None:
    loop = make_loop("basic", automatic_memory_optimization=False)
    sizes: list[int] = []

    class Watch(TrainingCallback):
        def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
            positives = batch["positives"]
            entities = positives[:, [0, 2]].unique()
            # each triple but the first shares an entity with an earlier one, unless a component is used up
            sizes.append(len(entities))

    train(loop, 1, batch_size=32, sampler="schlichtkrull", callbacks=Watch())
    assert sizes
    assert max(sizes) <= 33


@pytest.mark.slow
def test_workers_share_an_epoch() -> None:
    seen: list[torch.Tensor] = []

    class Watch(TrainingCallback):
        def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
            seen.append(batch["positives"])

    loop = make_loop("bernoulli", automatic_memory_optimization=False)
    train(loop, 1, num_workers=2, callbacks=Watch())
    drawn = torch.cat(seen)
    assert len(drawn) == umls().training.num_triples
    assert torch.equal(drawn.unique(dim=0), umls().training.mapped_triples.unique(dim=0))


def test_workers_are_refused_where_the_model_is_needed() -> None:
    with pytest.raises(ConfigurationError, match=r"num_workers=2: KBGANNegativeSampler .* num_workers=0"):
        train(make_loop(), 1, num_workers=2)


@pytest.mark.parametrize(
    ("model", "sampler"),
    [
        pytest.param(model, sampler, marks=[] if (model, sampler) == ("complex", "bernoulli") else pytest.mark.slow)
        for model in ("transe", "complex", "distmult", "simple", "transd", "rotate", "mure")
        for sampler in ("basic", "bernoulli", "pseudotyped")
    ],
)
def test_loss_of_a_batch_equals_the_hosts(model: str, sampler: str) -> None:
    """The slow twin is PyKEEN's own `_process_batch_static` on the same triples."""
    # with weight, so that it shows: without it, the regularization of relations was once counted half
    regularizer = {"regularizer_kwargs": {"weight": 5.0}} if model == "distmult" else {}
    # the host regularises the kept slot once for each negative, the scorer once: another estimate of the same mean
    regularizer = {"regularizer": None} if model in {"complex", "simple"} else regularizer
    instance = make_model(model, **regularizer)
    loop = make_loop(sampler, {"num_negs_per_pos": 4}, instance, automatic_memory_optimization=False)
    batches: list[Any] = []

    class Compare(TrainingCallback):
        def on_batch(self, epoch: int, batch: Any, batch_loss: float, **kwargs: Any) -> None:
            host = SLCWATrainingLoop._process_batch_static(
                instance,
                instance.loss,
                None,
                {"positives": batch["positives"], "negatives": batch["negatives"]},
                0,
                None,
            )
            batches.append((batch_loss, host.item()))

    train(loop, 1, callbacks=Compare())
    assert len(batches) == NUM_BATCHES
    ours, theirs = zip(*batches, strict=True)
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_pretraining_then_fresh_optimizers() -> None:
    loop = make_loop(pretraining_epochs=2)
    steps: list[tuple[int, int]] = []

    class Watch(TrainingCallback):
        def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
            (own, *_) = kbgan_of(self.training_loop).optimizer.state.values()
            # the user's callbacks come before the optimizer's: its step is the one of the batch before
            host = next(iter(self.optimizer.state.values()), {"step": 0})
            steps.append((int(own["step"]), int(host["step"])))

    tracker = Recorder()
    loop.result_tracker = tracker
    train(loop, 3, callbacks=Watch())
    n = NUM_BATCHES
    assert steps[-3 * n :] == [*((i + 1, i) for i in range(2 * n)), *((i + 1, i) for i in range(n))]
    assert [step for step, prefix, _ in tracker.logged if prefix == "sampler"] == [3]


def test_warm_start(tmp_path: Any) -> None:
    teacher = make_loop()
    train(teacher, 2)
    path = tmp_path / "teacher.pt"
    torch.save(teacher.model.state_dict(), path)
    starts: list[Any] = []

    class Watch(TrainingCallback):
        def pre_batch(self, **kwargs: Any) -> None:
            starts.append(copy.deepcopy(self.model.state_dict()))

    train(make_loop(warm_start=path, automatic_memory_optimization=False), 1, callbacks=Watch())
    assert_same(starts[0], teacher.model.state_dict())


# --- instances and errors --------------------------------------------------------------------------------------------


SIZE: dict[str, Any] = dict(
    mapped_triples=umls().training.mapped_triples, num_entities=umls().num_entities, num_relations=umls().num_relations
)


def make_sampler(**kwargs: Any) -> KBGANNegativeSampler:
    return KBGANNegativeSampler(**SIZE, **kwargs)


def test_instance_is_honoured_and_reset() -> None:
    set_random_seed(3)
    sampler = make_sampler(num_candidates=7, num_negs_per_pos=2)
    before = copy.deepcopy(sampler.state_dict())
    loop = make_loop(sampler)
    train(loop, 1)
    assert loop._sampler is sampler
    assert differs(sampler.state_dict(), before)
    starts: list[Any] = []

    class Watch(TrainingCallback):
        def pre_batch(self, **kwargs: Any) -> None:
            starts.append(copy.deepcopy(sampler.state_dict()["generator.entity_representations.0._embeddings.weight"]))

    train(loop, 2, callbacks=Watch())
    assert torch.equal(starts[0], before["generator.entity_representations.0._embeddings.weight"])


def test_instance_with_keywords_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is an instance, to which"):
        make_loop(make_sampler(), {"num_candidates": 5})


@pytest.mark.parametrize("kwargs", [None, {"num_negs_per_pos": 2}])
@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("kind", ["kbgan", "basic"])
def test_instance_in_pipeline_is_refused(kind: str, used: bool, kwargs: Any) -> None:
    """PyKEEN would train on negatives of a new sampler with default parameters."""
    sampler = make_sampler(num_candidates=7) if kind == "kbgan" else BasicNegativeSampler(**SIZE, num_negs_per_pos=7)
    if used:
        train(make_loop(sampler), 1)
    with pytest.raises(ConfigurationError, match="training_loop_kwargs=dict"):
        pipeline(
            dataset=umls(),
            model="transe",
            epochs=1,
            training_loop="adversarial",
            negative_sampler=sampler,
            negative_sampler_kwargs=kwargs,
            random_seed=0,
        )


def test_other_instances_do_not_matter() -> None:
    sampler = make_sampler(num_candidates=7)
    train(make_loop("kbgan", None), 1)
    assert sampler.num_candidates == 7


@pytest.mark.parametrize("sampler", ["kbgan", "basic"])
def test_instance_for_another_graph_is_refused(sampler: str) -> None:
    instance = negative_sampler_resolver.make(sampler, mapped_triples=torch.tensor([[0, 0, 1], [1, 0, 2]]))
    with pytest.raises(ConfigurationError, match=r"an instance for 3 entities and 1 relations, .* 135 and 46"):
        train(make_loop(instance), 1)


def test_instance_through_the_loop_in_pipeline() -> None:
    sampler = make_sampler(num_candidates=7)
    result = pipeline(
        dataset=umls(),
        model="transe",
        training_loop="adversarial",
        training_loop_kwargs=dict(negative_sampler=sampler),
        training_kwargs=dict(num_epochs=1, batch_size=BATCH_SIZE, use_tqdm=False),
        evaluation_kwargs=dict(use_tqdm=False),
        random_seed=0,
    )
    assert result.training_loop._sampler is sampler


def test_stock_loop_names_the_fix() -> None:
    set_random_seed(0)
    loop = SLCWATrainingLoop(
        model=make_model(), triples_factory=umls().training, negative_sampler="kbgan", optimizer="adam"
    )
    with pytest.raises(ModelRequiredError, match="use training_loop='adversarial'"):
        loop.train(umls().training, num_epochs=1, batch_size=BATCH_SIZE, use_tqdm=False)


@pytest.mark.parametrize(
    ("sampler", "kwargs", "message"),
    [
        ("kbgan", {"num_candidate": 3}, r"unknown keywords \['num_candidate'\]; .*'num_candidates'"),
        ("basic", {"num_negatives": 3}, r"unknown keywords \['num_negatives'\]; .*'num_negs_per_pos'"),
        ("kbgann", {}, "is no sampler; choose one of .*kbgan"),
        ("kbgan", {"num_candidates": 0}, "num_candidates=0 is too small"),
        ("kbgan", {"num_candidates": 136}, "num_candidates=136 exceeds the 135 entities"),
        ("kbgan", {"num_negs_per_pos": 0}, "num_negs_per_pos=0 is too small"),
        ("kbgan", {"temperature": 0.0}, r"temperature=0.0 must be positive"),
        ("kbgan", {"side": "left"}, "side='left' is none of"),
        ("kbgan", {"baseline": "mean"}, "baseline='mean' is none of"),
        ("kbgan", {"generator_warm_start": "nowhere.pt"}, "no file 'nowhere.pt'"),
        ("kbgan", {"generator": "complexx"}, "generator='complexx' is no model"),
        (
            "kbgan",
            {"generator_kwargs": {"embeding_dim": 3}},
            "generator='distmult' cannot be built with .*embeding_dim",
        ),
        ("kbgan", {"generator_optimizer": "adamm"}, "generator_optimizer='adamm' cannot be built"),
        ("kbgan", {"generator_optimizer_kwargs": {"lr": -1}}, "generator_optimizer='adam' cannot be built .*-1"),
    ],
)
def test_bad_sampler_arguments(sampler: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train(make_loop(sampler, kwargs), 1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"pretraining_epochs": -1}, "pretraining_epochs=-1 is too small"),
        ({"pretraining_sampler": "kbgan"}, "pretraining_sampler='kbgan' needs the model"),
        ({"pretraining_sampler_kwargs": {"k": 1}}, "pretraining_sampler_kwargs has the unknown keywords"),
        ({"warm_start": "nowhere.pt"}, "no file 'nowhere.pt'"),
        ({"pretrain_epochs": 3}, "training_loop_kwargs has the unknown keywords .*'pretraining_epochs'"),
    ],
)
def test_bad_loop_arguments(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_loop(**kwargs)


@pytest.mark.parametrize("number", [{"batch_size": 0}, {"sub_batch_size": 0}, {"slice_size": 4}])
def test_bad_numbers(number: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(number))}="):
        train(make_loop(), 1, **number)


def test_model_without_interaction() -> None:
    from pykeen.models import model_resolver

    model = model_resolver.make("fixed", triples_factory=umls().training, random_seed=0)
    with pytest.raises(ValueError, match="must be an ERModel"):
        AdversarialTrainingLoop(model=model, triples_factory=umls().training, negative_sampler="basic")


def test_nan_in_the_generator() -> None:
    loop = make_loop(automatic_memory_optimization=False)

    class Break(TrainingCallback):
        def post_batch(self, epoch: int, batch: Any, **kwargs: Any) -> None:
            next(kbgan_of(self.training_loop).generator.parameters()).data.fill_(float("nan"))

    with pytest.raises(NonFiniteSamplerError, match="not finite"):
        train(loop, 1, callbacks=Break())


def test_nan_in_the_model() -> None:
    loop = make_loop(automatic_memory_optimization=False)

    class Break(TrainingCallback):
        def pre_batch(self, **kwargs: Any) -> None:
            next(self.model.parameters()).data.fill_(float("nan"))

    with pytest.raises(NonFiniteLossError):
        train(loop, 1, callbacks=Break())


def test_missing_sampler_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="pykeen_advneg"):
        loop = AdversarialTrainingLoop(model=make_model(), triples_factory=umls().training, optimizer="adam")
    assert "No negative_sampler reached the loop" in caplog.text
    train(loop, 1)
    assert isinstance(loop._sampler, BasicNegativeSampler)

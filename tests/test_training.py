"""What the loop promises beyond PyKEEN's; a loop which steps a second network in `_process_batch` keeps none of it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from loops import BATCH_SIZE, assert_same, differs, make_loop, make_model, state_of, train, umls
from pykeen.evaluation import RankBasedEvaluator
from pykeen.pipeline import pipeline
from pykeen.sampling import BasicNegativeSampler
from pykeen.stoppers import EarlyStopper
from pykeen.trackers import ResultTracker
from pykeen.training import NonFiniteLossError, SLCWATrainingLoop, TrainingCallback
from pykeen.utils import set_random_seed

from pykeen_advneg.errors import ConfigurationError, ModelRequiredError, NonFiniteSamplerError
from pykeen_advneg.sampling.kbgan import KBGANNegativeSampler
from pykeen_advneg.training import AdversarialTrainingLoop

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
    loop._epoch, loop.losses_per_epochs = 0, []  # the host counts on
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


def test_dropout_falls_the_same_way_in_sub_batches() -> None:
    model = make_model(
        "conve", embedding_dim=16, embedding_height=4, embedding_width=4, apply_batch_normalization=False
    )
    loop = make_loop("basic", model=model)
    losses = train(loop, 1, sub_batch_size=300, batch_size=BATCH_SIZE)
    assert all(map(torch.isfinite, map(torch.tensor, losses)))


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


def test_mode_follows_the_model() -> None:
    loop = make_loop()
    loop.model.eval()
    train(loop, 1)
    assert kbgan_of(loop).generator.training


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


def make_stopper(loop: AdversarialTrainingLoop, **kwargs: Any) -> EarlyStopper:
    dataset = umls()
    assert dataset.validation is not None
    return EarlyStopper(
        model=loop.model,
        evaluator=RankBasedEvaluator(),
        training_triples_factory=dataset.training,
        evaluation_triples_factory=dataset.validation,
        evaluation_batch_size=128,
        metric="inverse_harmonic_mean_rank",
        frequency=1,
        **kwargs,
    )


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
    # the host regularises the kept slot once for each negative, the scorer once: another estimate of the same mean
    instance = make_model(model, **({"regularizer": None} if model in {"complex", "distmult", "simple"} else {}))
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


def make_sampler(**kwargs: Any) -> KBGANNegativeSampler:
    return KBGANNegativeSampler(
        mapped_triples=umls().training.mapped_triples,
        num_entities=umls().num_entities,
        num_relations=umls().num_relations,
        **kwargs,
    )


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


def test_instance_in_pipeline_is_refused() -> None:
    sampler = make_sampler(num_candidates=7)
    with pytest.raises(ConfigurationError, match="training_loop_kwargs=dict"):
        pipeline(
            dataset=umls(),
            model="transe",
            epochs=1,
            training_loop="adversarial",
            negative_sampler=sampler,
            random_seed=0,
        )
    del sampler


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
    ],
)
def test_bad_loop_arguments(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_loop(**kwargs)


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
    assert "No negative_sampler was given" in caplog.text
    train(loop, 1)
    assert isinstance(loop._sampler, BasicNegativeSampler)

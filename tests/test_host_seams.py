"""What PyKEEN does that this package works around: each test fails once PyKEEN does otherwise.

Then the workaround in the module which the test names can go, or has to change. All runs are of PyKEEN's own loop.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar

import pykeen.sampling
import pykeen.training
import pytest
import torch
from class_resolver import ClassResolver
from pykeen.evaluation import RankBasedEvaluator
from pykeen.hpo import hpo_pipeline
from pykeen.hpo.hpo import ExtraKeysError
from pykeen.losses import BCEWithLogitsLoss, CrossEntropyLoss, MarginRankingLoss, NoSampleWeightSupportError
from pykeen.models import ComplEx, DistMult, Model, TransE
from pykeen.nn.init import PretrainedInitializer
from pykeen.nn.representation import Embedding
from pykeen.pipeline import pipeline
from pykeen.sampling import BasicNegativeSampler, NegativeSampler, negative_sampler_resolver
from pykeen.sampling.filtering import BloomFilterer, filterer_resolver
from pykeen.stoppers import EarlyStopper
from pykeen.training import SLCWATrainingLoop, TrainingCallback
from pykeen.training.callbacks import EvaluationLossTrainingCallback
from pykeen.training.training_loop import CheckpointMismatchError
from pykeen.triples.weights import LossWeighter
from pykeen.utils import set_random_seed

from pykeen_advneg.testing.graphs import DENSE_GRAPH, GRAPH, VALIDATION, same

BATCH_SIZE = 64


class Counting(BasicNegativeSampler):
    """Notes what happens to any of its instances."""

    made: ClassVar[list[Counting]] = []
    events: ClassVar[list[str]] = []

    def __init__(self, *, mapped_triples: torch.Tensor, **kwargs: Any) -> None:
        super().__init__(mapped_triples=mapped_triples, **kwargs)
        self.made.append(self)

    def corrupt_batch(self, positive_batch: torch.Tensor) -> torch.Tensor:
        self.events.append("corrupt")
        return super().corrupt_batch(positive_batch)


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    Counting.made.clear()
    Counting.events.clear()


def make_loop(
    model: Model | None = None, cls: type[SLCWATrainingLoop] = SLCWATrainingLoop, **kwargs: Any
) -> SLCWATrainingLoop:
    if model is None:
        model = DistMult(triples_factory=GRAPH, embedding_dim=4, random_seed=0)
    defaults = {"optimizer": "adam", "negative_sampler": Counting, "automatic_memory_optimization": False}
    return cls(model=model, triples_factory=GRAPH, **(defaults | kwargs))


def train(loop: SLCWATrainingLoop, num_epochs: int = 1, **kwargs: Any) -> list[float]:
    set_random_seed(0)
    options = {"batch_size": BATCH_SIZE, "use_tqdm": False, "pin_memory": False}
    losses = loop.train(GRAPH, num_epochs=num_epochs, **(options | kwargs))
    assert losses is not None
    return losses


def run_pipeline(**kwargs: Any) -> Any:
    common: dict[str, Any] = {
        "training": GRAPH,
        "testing": VALIDATION,
        "model": "distmult",
        "model_kwargs": {"embedding_dim": 4},
        "training_kwargs": {"num_epochs": 1, "batch_size": BATCH_SIZE, "use_tqdm": False},
        "evaluation_kwargs": {"use_tqdm": False, "batch_size": 32},
        "random_seed": 0,
        "device": "cpu",
    }
    return pipeline(**(common | kwargs))


class OwnLoop(SLCWATrainingLoop):
    """A loop as a plugin would write it."""


# --------------------------------------------------------------------------------- registration: registry.py, autoload


def test_samplers_of_others_are_not_discovered() -> None:
    """Seam A. Worked around by registry.py."""
    found = ClassResolver.from_subclasses(base=NegativeSampler).lookup_dict.values()
    assert BasicNegativeSampler in found
    assert Counting not in found


@pytest.mark.parametrize("module", [pykeen.sampling, pykeen.training], ids=lambda module: module.__name__)
def test_no_entry_points_for_samplers_and_loops(module: Any) -> None:
    """Seam A. Worked around by registry.py and pykeen_advneg_autoload.py."""
    assert "entrypoint" not in inspect.getsource(module)


# ------------------------------------------------------------------------------------------- samplers: sampling/*.py


def test_pipeline_replaces_an_instance() -> None:
    """Seam B: seven negatives are asked for, one is drawn. Found out by sampling/making.py."""
    instance = Counting(mapped_triples=GRAPH.mapped_triples, num_negs_per_pos=7)
    result = run_pipeline(training_loop="slcwa", negative_sampler=instance)
    assert result.training_loop.negative_sampler is Counting
    assert {sampler.num_negs_per_pos for sampler in Counting.made if sampler is not instance} == {1}


def test_sampler_is_made_twice() -> None:
    """Seam D: for the memory probe, and for training. sampling/base.py asks for constructors without side effects."""
    train(make_loop(automatic_memory_optimization=True))
    assert len(Counting.made) == 2


def test_sampler_is_made_for_each_training() -> None:
    """What it has learnt is lost when training is continued. Worked around by loop.py."""
    loop = make_loop()
    train(loop, num_epochs=1)
    train(loop, num_epochs=2, continue_training=True)
    assert len(Counting.made) == 2


def test_studies_look_one_base_up() -> None:
    """Seam G: keywords behind two ``**kwargs`` are unknown. sampling/base.py spells them out."""
    with pytest.raises(ExtraKeysError, match="num_negs_per_pos"):
        study(negative_sampler=Counting, negative_sampler_kwargs_ranges={"num_negs_per_pos": RANGE})


def test_default_filterer_is_approximate() -> None:
    """Some unknown triples count as known. filtering.py is exact."""
    assert filterer_resolver.lookup(None) is BloomFilterer
    filterer = BloomFilterer(mapped_triples=DENSE_GRAPH.mapped_triples, error_rate=0.3)
    every = torch.cartesian_prod(torch.arange(8), torch.arange(2), torch.arange(8))
    assert int(filterer(every).sum()) < len(every) - DENSE_GRAPH.num_triples


def test_workers_hold_copies_of_the_sampler() -> None:
    """Seam L: with a worker process, no batch is drawn by the sampler of this one. Refused by loop.py."""
    loop = make_loop()
    train(loop, num_workers=1)
    assert len(Counting.made) == 1
    assert Counting.events == []


# ------------------------------------------------------------------------------------------------------------ studies

RANGE = {"type": int, "low": 2, "high": 9}


def study(**kwargs: Any) -> Any:
    return hpo_pipeline(
        training=GRAPH,
        testing=VALIDATION,
        validation=VALIDATION,
        model="distmult",
        model_kwargs={"embedding_dim": 4},
        model_kwargs_ranges={},
        n_trials=1,
        training_kwargs={"num_epochs": 1, "batch_size": BATCH_SIZE, "use_tqdm": False},
        evaluator_kwargs={"batch_size": 32},
        evaluation_kwargs={"use_tqdm": False},
        study_name=None,
        device="cpu",
        **kwargs,
    )


@pytest.mark.parametrize(("loop", "is_used"), [(SLCWATrainingLoop, True), (OwnLoop, False)])
def test_study_drops_the_sampler_of_other_loops(loop: type[SLCWATrainingLoop], is_used: bool) -> None:
    """Seam C: without a word. `pykeen_advneg.hpo` has an objective of its own, and the loop refuses."""
    result = study(training_loop=loop, negative_sampler=Counting)
    (trial,) = result.study.trials
    assert trial.state.name == "COMPLETE"
    assert bool(Counting.made) is is_used
    assert ("negative_sampler.num_negs_per_pos" in trial.params) is is_used


# ----------------------------------------------------------------------------------- the loop: loop.py, batches.py


def test_batch_is_drawn_before_the_callback() -> None:
    """Seam E: a callback cannot prepare the sampler of a batch. loop.py binds it when the loader is made."""

    class Callback(TrainingCallback):
        def pre_batch(self, **kwargs: Any) -> None:
            Counting.events.append("pre_batch")

    train(make_loop(), callbacks=[Callback()])
    assert Counting.events == ["corrupt", "pre_batch"] * 3


class Constant(LossWeighter):
    def __call__(self, h: Any, r: Any, t: Any) -> torch.Tensor:
        return torch.ones(h.shape)


def test_weights_are_not_filtered() -> None:
    """Seam F: weights of all negatives meet the scores of those which are kept. Worked around by forward.py."""
    model = DistMult(triples_factory=GRAPH, embedding_dim=4, random_seed=0, loss=BCEWithLogitsLoss())
    kwargs = {"filtered": True, "filterer": "pythonset", "num_negs_per_pos": 20}
    loop = make_loop(model, negative_sampler_kwargs=kwargs, loss_weighter=Constant())
    with pytest.raises((RuntimeError, ValueError), match="size"):
        train(loop)


def test_margin_losses_refuse_weights() -> None:
    """Seam F: weights of negatives cannot be a method's way to prefer some."""
    model = DistMult(triples_factory=GRAPH, embedding_dim=4, random_seed=0, loss=MarginRankingLoss())
    with pytest.raises(NoSampleWeightSupportError):
        train(make_loop(model, loss_weighter=Constant()))


class Watching(SLCWATrainingLoop):
    """Notes the surroundings in which loaders are asked for."""

    loaders: list[tuple[int, bool]]

    def _create_training_data_loader(self, *args: Any, **kwargs: Any) -> Any:
        self.loaders = [*getattr(self, "loaders", ()), (id(self.optimizer), torch.is_inference_mode_enabled())]
        return super()._create_training_data_loader(*args, **kwargs)


def test_evaluation_loss_asks_the_same_loop() -> None:
    """Seams H and J2: each epoch for another loader, of a sampler made anew, without gradients.

    loop.py gives it the sampler in training, which learns nothing then.
    """
    loop = make_loop(cls=Watching)
    assert isinstance(loop, Watching)
    train(loop, num_epochs=2, callbacks=[EvaluationLossTrainingCallback(triples_factory=VALIDATION)])
    is_evaluation = [inference for _, inference in loop.loaders]
    assert not is_evaluation[0]
    assert is_evaluation.count(True) >= 2
    assert len(Counting.made) == len(is_evaluation)


def test_optimizer_is_made_before_the_loader() -> None:
    """Seam J: parameters which the sampler brings are in no optimizer of the loop. Learns has its own."""
    loop = make_loop(cls=Watching)
    assert isinstance(loop, Watching)
    before = loop.optimizer
    train(loop)
    assert loop.optimizer is not before
    assert [optimizer for optimizer, _ in loop.loaders] == [id(loop.optimizer)]


def test_embeddings_may_be_complex() -> None:
    """Seam I: the contract in testing.py has a model whose embeddings are."""
    assert ComplEx(triples_factory=GRAPH, embedding_dim=4, random_seed=0).entity_representations[0]().is_complex()


def test_memory_probe_takes_random_numbers() -> None:
    """So that the same seed gives other results once the batch size is found automatically. resumption.py rewinds."""
    assert train(make_loop(automatic_memory_optimization=True)) != train(make_loop())


def test_memory_probe_overrides_the_sub_batches() -> None:
    """Their size, as given by the user, is ignored unless automatic_memory_optimization=False."""

    class Parts(TrainingCallback):
        def on_batch(self, **kwargs: Any) -> None:
            Counting.events.append("part")

    for is_automatic, parts in ((True, 3), (False, 17)):
        Counting.events.clear()
        train(make_loop(automatic_memory_optimization=is_automatic), sub_batch_size=10, callbacks=[Parts()])
        assert Counting.events.count("part") == parts


def test_sub_batches_change_the_loss() -> None:
    """Of filtered negatives: each part counts by its positives. parts.py computes the loss of the whole batch."""

    def run(sub_batch_size: int) -> float:
        model = TransE(triples_factory=GRAPH, embedding_dim=4, random_seed=0, loss=MarginRankingLoss())
        kwargs = {"filtered": True, "filterer": EveryFifth(), "num_negs_per_pos": 3}
        loop = make_loop(model, negative_sampler_kwargs=kwargs)
        return train(loop, batch_size=GRAPH.num_triples, sub_batch_size=sub_batch_size)[0]

    assert run(GRAPH.num_triples) != pytest.approx(run(13), rel=1e-4)


class EveryFifth(pykeen.sampling.filtering.Filterer):
    """Calls negatives of heads known whose id is a multiple of five."""

    def forward(self, negative_batch: torch.Tensor) -> torch.Tensor:
        return negative_batch[..., 0] % 5 != 0

    def contains(self, batch: torch.Tensor) -> torch.Tensor:
        return batch[..., 0] % 5 == 0


def test_pretrained_initializer_shares_its_tensor() -> None:
    """Training changes it, and a reset starts from the trained one. warm_start of loop.py copies."""
    tensor = torch.randn(GRAPH.num_relations, 4)
    start = tensor.clone()
    initializer = PretrainedInitializer(tensor)
    model = TransE(triples_factory=GRAPH, embedding_dim=4, random_seed=0, relation_initializer=initializer)
    train(make_loop(model))
    assert not torch.equal(tensor, start)


# ----------------------------------------------------------------------------------------- checkpoints: resumption.py


def checkpoints(folder: Path) -> dict[str, Any]:
    return {"checkpoint_directory": folder, "checkpoint_name": "run.pt", "checkpoint_frequency": 0}


def test_checkpoint_is_without_the_sampler(tmp_path: Path) -> None:
    """Seam K. Worked around by resumption.py."""

    class Remembering(BasicNegativeSampler):
        def __init__(self, *, mapped_triples: torch.Tensor, **kwargs: Any) -> None:
            super().__init__(mapped_triples=mapped_triples, **kwargs)
            self.register_buffer("memory", torch.full((5,), 12345))

    train(make_loop(negative_sampler=Remembering), **checkpoints(tmp_path))
    content = torch.load(tmp_path / "run.pt", weights_only=False)
    assert "sampler" not in str(content.keys())
    assert not any(torch.equal(value, torch.full((5,), 12345)) for value in tensors(content))


def tensors(content: object) -> Sequence[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        return [content]
    if isinstance(content, Mapping):
        content = list(content.values())
    if isinstance(content, list | tuple):
        return [tensor for item in content for tensor in tensors(item)]
    return []


def test_checkpoint_can_run_code(tmp_path: Path) -> None:
    """It holds more than tensors, hence PyKEEN reads it with ``weights_only=False``; checkpoint.py does not."""
    train(make_loop(), **checkpoints(tmp_path))
    with pytest.raises(UnpicklingError):
        torch.load(tmp_path / "run.pt", weights_only=True)
    assert "weights_only=False" in inspect.getsource(SLCWATrainingLoop._load_state)


def test_checkpoint_is_not_written_atomically(tmp_path: Path) -> None:
    """A write which fails destroys the checkpoint of before. Worked around by checkpoint.py."""

    class Unwritable:
        def get_summary_dict(self) -> Mapping[str, Any]:
            return {"function": lambda: None}

    loop, path = make_loop(), tmp_path / "run.pt"
    train(loop)
    loop._save_state(path=path)
    whole = path.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        loop._save_state(path=path, stopper=Unwritable())  # type: ignore[arg-type]
    assert path.read_bytes() != whole


def test_no_resuming_with_a_scheduler(tmp_path: Path) -> None:
    """The learning rate of the moment is part of the checksum. resumption.py has one of its own."""
    kwargs = {"lr_scheduler": "exponential", "lr_scheduler_kwargs": {"gamma": 0.9}}
    train(make_loop(**kwargs), num_epochs=1, **checkpoints(tmp_path))
    with pytest.raises(CheckpointMismatchError):
        train(make_loop(**kwargs), num_epochs=2, **checkpoints(tmp_path))


def make_stopper(model: Model, **kwargs: Any) -> EarlyStopper:
    """A stopper which holds the first epoch for the best, since no later one is ten times better."""
    return EarlyStopper(
        model=model,
        evaluator=RankBasedEvaluator(),
        training_triples_factory=GRAPH,
        evaluation_triples_factory=VALIDATION,
        frequency=1,
        relative_delta=10.0,
        evaluation_batch_size=32,
        use_tqdm=False,
        **kwargs,
    )


def test_best_epoch_is_lost_unless_stopped(tmp_path: Path) -> None:
    """With patience left, the weights are those of the last epoch. Worked around by resumption.py."""
    loop = make_loop()
    stopper = make_stopper(loop.model, patience=100, best_model_path=tmp_path / "best.pt")
    train(loop, num_epochs=4, stopper=stopper)
    assert stopper.best_epoch == 1
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert not same(dict(loop.model.state_dict()), dict(best))
    assert (tmp_path / "best.pt").is_file(), "nobody cleans it up"


def test_best_epoch_is_lost_on_resuming(tmp_path: Path) -> None:
    """Another process looks for its weights under another name. Worked around by resumption.py."""
    model = make_loop().model
    first, second = (make_stopper(model, patience=100) for _ in range(2))
    assert first.best_model_path != second.best_model_path
    assert str(first.best_model_path) not in str(first.get_summary_dict())
    assert "best_model_path" not in first.get_summary_dict()


@pytest.mark.parametrize("argument", ["gradient_clipping_max_norm", "gradient_clipping_max_abs_value"])
def test_clipping_fails(argument: str) -> None:
    """The callback which clips never gets to know its loop. training/loop.py clips, model and sampler alike."""
    with pytest.raises(ValueError, match="Callback was never initialized"):
        train(make_loop(), **{argument: 1.0})


def test_second_training_runs_no_epoch() -> None:
    """The model is reset, the epochs are counted on. training/loop.py counts anew."""
    loop = make_loop()
    train(loop, num_epochs=2)
    fresh = copy.deepcopy(loop.model)
    set_random_seed(0)
    fresh.reset_parameters_()
    train(loop, num_epochs=2)
    assert same(loop.model.state_dict(), fresh.state_dict())


def test_scheduler_shrinks_the_learning_rate_on_each_rebuild() -> None:
    """One which changes it when it is made; a memory probe is a rebuild, too. training/loop.py rewinds it."""
    starts = []
    for is_automatic in (False, True):
        loop = make_loop(lr_scheduler="linear", automatic_memory_optimization=is_automatic)
        train(loop)
        assert loop.optimizer is not None
        starts.append(loop.optimizer.param_groups[0]["initial_lr"])
    assert starts[1] < starts[0]


def test_no_resuming_with_plain_gradient_descent(tmp_path: Path) -> None:
    """An optimizer without a state passes for one which was never used. training/resumption.py gives it an entry."""
    train(make_loop(optimizer="sgd"), num_epochs=1, **checkpoints(tmp_path))
    with pytest.raises(ValueError, match="without being trained once"):
        train(make_loop(optimizer="sgd"), num_epochs=2, **checkpoints(tmp_path))


def test_name_of_an_instance_is_that_of_its_class() -> None:
    """Which is why pipeline() cannot tell them apart, seam B."""
    instance = Counting(mapped_triples=GRAPH.mapped_triples)
    assert negative_sampler_resolver.lookup(copy.copy(instance)) is Counting


# ------------------------------------------------------------------------------- rows: optim.py, training/rows.py


def test_constraints_are_of_whole_tables() -> None:
    """After each step, for the few rows which have changed. training/rows.py constrains those only."""
    sizes: list[int] = []

    def constrainer(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return x

    loop = make_loop()
    loop.model.entity_representations[0].constrainer = constrainer
    train(loop, batch_size=5)
    assert set(sizes) == {GRAPH.num_entities}
    assert len(sizes) >= GRAPH.num_triples // 5


def test_gradients_of_tables_are_dense() -> None:
    """Of all rows, however few are in a batch. training/rows.py asks for sparse ones."""

    class Watch(TrainingCallback):
        def on_batch(self, **kwargs: Any) -> None:
            gradient = self.model.entity_representations[0]._embeddings.weight.grad
            assert gradient is not None
            gradients.append((gradient.is_sparse, len(gradient), int(gradient.any(dim=-1).sum())))

    gradients: list[tuple[bool, int, int]] = []
    train(make_loop(), batch_size=5, callbacks=[Watch()])
    assert {is_sparse for is_sparse, *_ in gradients} == {False}
    assert all(touched <= 15 < rows == GRAPH.num_entities for _, rows, touched in gradients)
    assert "sparse" not in inspect.signature(Embedding.__init__).parameters


def test_studies_know_five_optimizers() -> None:
    """Any other one stops a study, with ranges given by the user too. registry.py adds ours."""
    with pytest.raises(KeyError, match="RMSprop"):
        study(optimizer="rmsprop", optimizer_kwargs_ranges={"lr": {"type": float, "low": 0.01, "high": 0.1}})


def test_masked_scores_are_taken_out_and_put_back() -> None:
    """A matrix of scores becomes a list of those which count, and a softmax fills a matrix from it again.

    training/losses.py keeps the matrix.
    """
    mask = torch.tensor([[True, False], [False, False]])
    loss, positives = CrossEntropyLoss(), torch.zeros(2, 1)
    value = loss.process_slcwa_scores(positives, torch.zeros(1), batch_filter=mask)
    assert float(value) == pytest.approx(math.log(2) / 2)
    with pytest.raises(RuntimeError, match="shape"):
        loss.process_slcwa_scores(positives, torch.zeros(2, 2), batch_filter=mask)

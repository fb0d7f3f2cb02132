"""The contract of negative samplers, as tests which every sampler can inherit.

A distribution which brings a sampler of its own runs them like this, and needs pytest and hypothesis for it::

    import pytest

    pytest.register_assert_rewrite("pykeen_advneg.testing")

    from pykeen_advneg.testing import SamplerContract


    class TestMySampler(SamplerContract):
        cls = MySampler
        kwargs = {"alpha": 0.5}

All runs are on random graphs of a few entities, by a real-valued model (DistMult), a complex-valued one (ComplEx), a
translational one (TransE), and one with two representations for each entity and relation (TransD).
"""

from __future__ import annotations

import copy
import gc
import inspect
import io
import math
import signal
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from docdata import get_docdata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pykeen.models import ERModel, model_resolver
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.sampling import negative_sampler_resolver
from pykeen.training import TrainingCallback
from pykeen.training.callbacks import EvaluationLossTrainingCallback
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL
from pykeen.utils import set_random_seed

from .checkpoint import get_random_state
from .errors import ConfigurationError, ModelRequiredError
from .negatives import Negatives
from .parts import score
from .sampling.base import AdversarialNegativeSampler, BindsModel, Learns
from .sampling.making import keywords, make_sampler
from .scoring import Scorer
from .training import AdversarialTrainingLoop

__all__ = ["MODELS", "SamplerContract", "make_model", "random_graph", "same", "time_limit"]

#: the models by which samplers are tested, and their parameters
MODELS: Mapping[str, Mapping[str, Any]] = {
    "complex": {"embedding_dim": 4},
    "distmult": {"embedding_dim": 8},
    "transd": {"embedding_dim": 8, "relation_dim": 8},
    "transe": {"embedding_dim": 8},
}

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)

#: the longest that a few batches may take, in seconds
TIME_LIMIT = 60


def random_graph(num_entities: int, num_relations: int, num_triples: int, seed: int = 0) -> CoreTriplesFactory:
    """Draw distinct triples uniformly.

    :param num_entities: the number of entities
    :param num_relations: the number of relations
    :param num_triples: the number of triples
    :param seed: the seed

    :returns: the triples
    """
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randperm(num_entities * num_relations * num_entities, generator=generator)[:num_triples]
    heads = keys // (num_relations * num_entities)
    triples = torch.stack([heads, keys // num_entities % num_relations, keys % num_entities], dim=-1)
    return CoreTriplesFactory.create(triples, num_entities=num_entities, num_relations=num_relations)


GRAPH = random_graph(num_entities=40, num_relations=3, num_triples=150)
VALIDATION = random_graph(num_entities=40, num_relations=3, num_triples=20, seed=1)
#: nearly complete: most corruptions are known triples
DENSE_GRAPH = random_graph(num_entities=8, num_relations=2, num_triples=110)


def make_model(name: str, triples_factory: CoreTriplesFactory = GRAPH) -> ERModel[Any, Any, Any]:
    """Make one of :data:`MODELS`, always with the same weights.

    :param name: its name
    :param triples_factory: its graph

    :returns: the model, in training mode
    """
    model = model_resolver.make(name, pos_kwargs=MODELS[name], triples_factory=triples_factory, random_seed=0)
    assert isinstance(model, ERModel)
    return model.train()


def same(x: Any, y: Any) -> bool:
    """Compare two nested states bit by bit.

    :param x: tensors, plain values, and containers of them
    :param y: the other one

    :returns: whether they agree
    """
    if isinstance(x, torch.Tensor):
        return isinstance(y, torch.Tensor) and x.dtype == y.dtype and torch.equal(x, y)
    if isinstance(x, Mapping):
        return isinstance(y, Mapping) and x.keys() == y.keys() and all(same(x[key], y[key]) for key in x)
    if isinstance(x, list | tuple):
        return isinstance(y, list | tuple) and len(x) == len(y) and all(map(same, x, y))
    return bool(x == y)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what runs for too long, on systems which can.

    :param seconds: the limit
    """

    def interrupt(*_: object) -> None:
        raise TimeoutError(f"still running after {seconds} seconds")

    if not hasattr(signal, "setitimer"):
        yield
        return
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@st.composite
def graphs(draw: st.DrawFn) -> CoreTriplesFactory:
    """Draw small graphs, with isolated entities, self-loops and repeated triples."""
    num_entities, num_relations = draw(st.integers(2, 6)), draw(st.integers(1, 3))
    entity, relation = st.integers(0, num_entities - 1), st.integers(0, num_relations - 1)
    triples = draw(st.lists(st.tuples(entity, relation, entity), min_size=1, max_size=12))
    return CoreTriplesFactory.create(torch.tensor(triples), num_entities=num_entities, num_relations=num_relations)


class _Snapshots(TrainingCallback):
    """Keeps the parameters of the sampler after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[list[torch.Tensor]] = []

    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
        sampler = self.training_loop._sampler  # type: ignore[attr-defined]
        self.taken.append([parameter.detach().clone() for parameter in sampler.parameters()])


class SamplerContract:
    """What holds for every sampler of this package; inherit it under a name which starts with ``Test``."""

    #: the class under test
    cls: ClassVar[type[AdversarialNegativeSampler]]

    #: its keyword-based parameters, such that it works on graphs of 8 entities
    kwargs: ClassVar[Mapping[str, Any]] = {}

    #: laid over ``kwargs`` for graphs of 2 entities
    tiny_kwargs: ClassVar[Mapping[str, Any]] = {}

    #: the slots which may be corrupted
    columns: ClassVar[Set[int]] = {COLUMN_HEAD, COLUMN_TAIL}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def quick_garbage_collection(cls) -> Iterator[None]:
        """Hide what is loaded from the garbage collection with which PyKEEN ends each epoch."""
        gc.freeze()
        yield
        gc.unfreeze()

    @pytest.fixture(params=sorted(MODELS))
    def model_name(self, request: pytest.FixtureRequest) -> str:
        """Give each of :data:`MODELS`."""
        return str(request.param)

    @pytest.fixture
    def model(self, model_name: str) -> ERModel[Any, Any, Any]:
        """Make each of :data:`MODELS` on :data:`GRAPH`."""
        return make_model(model_name)

    @property
    def query(self) -> str | type[AdversarialNegativeSampler]:
        """The name of the sampler, or its class if it has not been registered."""
        is_registered = self.cls in negative_sampler_resolver.lookup_dict.values()
        return negative_sampler_resolver.normalize_cls(self.cls) if is_registered else self.cls

    def make(
        self,
        model: ERModel[Any, Any, Any],
        triples_factory: CoreTriplesFactory = GRAPH,
        seed: int = 0,
        **kwargs: Any,
    ) -> AdversarialNegativeSampler:
        """Make a sampler, as the loop does.

        :param model: to which it is bound
        :param triples_factory: its training triples
        :param seed: set before
        :param kwargs: laid over ``kwargs`` of the class

        :returns: the sampler
        """
        torch.manual_seed(seed)
        sampler = make_sampler(self.cls, {**self.kwargs, **kwargs}, triples_factory).to(model.device)
        assert isinstance(sampler, self.cls)
        if isinstance(sampler, BindsModel):
            sampler.bind(Scorer(model))
        return sampler

    @staticmethod
    def teach(
        sampler: AdversarialNegativeSampler,
        model: ERModel[Any, Any, Any],
        triples_factory: CoreTriplesFactory = GRAPH,
        batch_size: int = 64,
        seed: int = 0,
    ) -> list[Negatives]:
        """Let a sampler see all triples once, as the loop does, with a model which does not change.

        :param sampler: the sampler
        :param model: gives the scores
        :param triples_factory: the training triples
        :param batch_size: the size of the batches
        :param seed: set before

        :returns: what was drawn
        """
        torch.manual_seed(seed)
        drawn = []
        for positives in triples_factory.mapped_triples.to(model.device).split(batch_size):
            negatives = sampler.draw(positives)
            drawn.append(negatives)
            if isinstance(sampler, Learns):
                with torch.no_grad():
                    scores = score(Scorer(model), negatives)
                sampler.learn(negatives, scores)
        sampler.end_epoch()
        return drawn

    def train(
        self, model_name: str, num_epochs: int = 2, seed: int = 0, probe: bool = True, **kwargs: Any
    ) -> tuple[AdversarialTrainingLoop, list[float]]:
        """Train a model by the loop ``adversarial``.

        :param model_name: one of :data:`MODELS`
        :param num_epochs: the number of epochs
        :param seed: set before
        :param probe: whether PyKEEN probes the memory first
        :param kwargs: laid over the arguments of ``train()``

        :returns: the loop, and the loss of each epoch
        """
        loop = AdversarialTrainingLoop(
            model=make_model(model_name),
            triples_factory=GRAPH,
            optimizer="adam",
            negative_sampler=self.cls,
            negative_sampler_kwargs=dict(self.kwargs),
            automatic_memory_optimization=probe,
        )
        set_random_seed(seed)
        options: dict[str, Any] = {"batch_size": 64, "use_tqdm": False} | kwargs
        losses = loop.train(GRAPH, num_epochs=num_epochs, **options)
        assert losses is not None
        return loop, losses

    def check(self, negatives: Negatives, positives: torch.Tensor, triples_factory: CoreTriplesFactory) -> None:
        """Check shapes, types, ranges and slots of a proposal.

        :param negatives: the proposal
        :param positives: what was given
        :param triples_factory: the training triples
        """
        triples = negatives.triples
        assert torch.equal(negatives.positives, positives), "the positives are those which were given, in this order"
        assert triples.device == positives.device
        assert triples.dtype == negatives.ids.dtype == torch.long
        assert negatives.mask is None or negatives.mask.dtype == torch.bool
        assert int((triples != positives.unsqueeze(1)).sum(dim=-1).max()) <= 1, "one slot is corrupted"
        assert set(negatives.column.unique().tolist()) <= set(self.columns), "only some slots may be corrupted"
        for column in (COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL):
            ids = triples[..., column]
            number = triples_factory.num_relations if column == COLUMN_RELATION else triples_factory.num_entities
            assert int(ids.min()) >= 0
            assert int(ids.max()) < number

    @pytest.mark.parametrize("num_negs_per_pos", [1, 5])
    @pytest.mark.parametrize("device", DEVICES)
    def test_proposal(self, model: ERModel[Any, Any, Any], num_negs_per_pos: int, device: str) -> None:
        """A proposal has the right shapes, types and ranges; to make one leaves the model alone."""
        model = model.to(device)
        state = copy.deepcopy(model.state_dict())
        sampler = self.make(model, num_negs_per_pos=num_negs_per_pos)
        for batch_size in (64, 1):
            positives = GRAPH.mapped_triples[:batch_size].to(device)
            negatives = sampler.propose(positives)
            assert negatives.shape == (batch_size, num_negs_per_pos)
            self.check(negatives, positives, GRAPH)
        assert model.training, "the mode of the model is restored"
        assert same(model.state_dict(), state)
        assert all(parameter.grad is None for parameter in model.parameters())

    @pytest.mark.parametrize("num_negs_per_pos", [1, 5])
    def test_filtered(self, num_negs_per_pos: int) -> None:
        """With ``filtered=True``, no known triple is left unmasked, on a graph where most are known."""
        model = make_model("distmult", DENSE_GRAPH)
        sampler = self.make(model, DENSE_GRAPH, num_negs_per_pos=num_negs_per_pos, filtered=True, filterer="pythonset")
        known = set(map(tuple, DENSE_GRAPH.mapped_triples.tolist()))
        for negatives in self.teach(sampler, model, DENSE_GRAPH):
            kept = negatives.triples.flatten(end_dim=1) if negatives.mask is None else negatives.triples[negatives.mask]
            assert not known.intersection(map(tuple, kept.tolist())), "a known triple counts as a negative"

    def test_reproducible(self, model: ERModel[Any, Any, Any]) -> None:
        """The same seeds give the same samplers, which propose and learn the same."""
        states, proposals = [], []
        for _ in range(2):
            sampler = self.make(model)
            proposals.append([negatives.triples for negatives in self.teach(sampler, model)])
            states.append(copy.deepcopy(sampler.state_dict()))
        assert same(*proposals)
        assert same(*states)

    def test_state_round_trip(self, model: ERModel[Any, Any, Any]) -> None:
        """A fresh sampler with the state of another one proposes and learns as that one does; neither disturbs it."""
        first, second = self.make(model, seed=0), self.make(model, seed=1)
        self.teach(first, model)
        second.load_state_dict(first.state_dict())
        assert same(second.state_dict(), first.state_dict())
        proposals = [[drawn.triples for drawn in self.teach(sampler, model)] for sampler in (first, second)]
        assert same(*proposals)
        assert same(second.state_dict(), first.state_dict()), "the state is incomplete, or is shared by both"

    def test_state_is_plain(self, model: ERModel[Any, Any, Any]) -> None:
        """The state goes through a file which cannot run code, and a copy of it is a snapshot."""
        sampler = self.make(model)
        self.teach(sampler, model)
        snapshot = copy.deepcopy(sampler.state_dict())
        file = io.BytesIO()
        torch.save(sampler.state_dict(), file)
        self.teach(sampler, model)
        file.seek(0)
        sampler.load_state_dict(torch.load(file, weights_only=True))
        assert same(sampler.state_dict(), snapshot)

    def test_learning(self, model: ERModel[Any, Any, Any]) -> None:
        """A sampler which learns steps parameters of its own, all of them in its state, and no others."""
        sampler = self.make(model)
        if not isinstance(sampler, Learns):
            pytest.skip("learns nothing")
        own = {id(parameter) for parameter in sampler.parameters()}
        groups = [group for optimizer in sampler.optimizers() for group in optimizer.param_groups]
        trained = [parameter for group in groups for parameter in group["params"]]
        assert {id(parameter) for parameter in trained} <= own
        assert own.isdisjoint(id(parameter) for parameter in model.parameters())
        before = [parameter.detach().clone() for parameter in trained]
        state = copy.deepcopy(model.state_dict())
        self.teach(sampler, model)
        assert not same(before, [parameter.detach() for parameter in trained]), "nothing was learnt"
        assert same(model.state_dict(), state)
        assert all(parameter.grad is None for parameter in model.parameters())

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        # the contract is inherited: each subclass executes this test
        suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
    )
    @given(
        triples_factory=graphs(),
        num_negs_per_pos=st.integers(1, 3),
        filtered=st.booleans(),
        batch_size=st.sampled_from([1, 5, 64]),
    )
    def test_any_graph(
        self, triples_factory: CoreTriplesFactory, num_negs_per_pos: int, filtered: bool, batch_size: int
    ) -> None:
        """It works on any graph, be it of two entities or complete, for any size of the batch, and ends."""
        model = make_model("distmult", triples_factory)
        filterer = {"filtered": True, "filterer": "pythonset"} if filtered else {}
        with time_limit(TIME_LIMIT):
            sampler = self.make(
                model, triples_factory, num_negs_per_pos=num_negs_per_pos, **{**filterer, **self.tiny_kwargs}
            )
            drawn = self.teach(sampler, model, triples_factory, batch_size=batch_size)
        for positives, negatives in zip(triples_factory.mapped_triples.split(batch_size), drawn, strict=True):
            assert negatives.shape == (len(positives), num_negs_per_pos)
            self.check(negatives, positives, triples_factory)

    def run_pipeline(self, model_name: str, training_loop: str, **kwargs: Any) -> PipelineResult:
        """Run the pipeline of PyKEEN on :data:`GRAPH`.

        :param model_name: one of :data:`MODELS`
        :param training_loop: the name of the loop
        :param kwargs: laid over ``kwargs`` of the class

        :returns: its result
        """
        return pipeline(
            training=GRAPH,
            testing=VALIDATION,
            validation=VALIDATION,
            model=model_name,
            model_kwargs=dict(MODELS[model_name]),
            training_loop=training_loop,
            negative_sampler=self.query,
            negative_sampler_kwargs={**self.kwargs, **kwargs},
            training_kwargs={"num_epochs": 2, "batch_size": 64, "use_tqdm": False},
            evaluation_kwargs={"use_tqdm": False, "batch_size": 64},
            random_seed=0,
            device="cpu",
        )

    @pytest.mark.parametrize("filtered", [False, True], ids=["unfiltered", "filtered"])
    def test_pipeline(self, model_name: str, filtered: bool) -> None:
        """Every model is trained through PyKEEN's pipeline."""
        result = self.run_pipeline(model_name, "adversarial", num_negs_per_pos=2, filtered=filtered)
        assert len(result.losses) == 2  # noqa: PLR2004
        assert all(map(math.isfinite, result.losses))

    def test_stock_loop(self) -> None:
        """PyKEEN's own loop trains by a sampler which needs no model, and another one refuses in one sentence."""
        if not issubclass(self.cls, BindsModel | Learns):
            assert all(map(math.isfinite, self.run_pipeline("distmult", "slcwa").losses))
            return
        with pytest.raises(ModelRequiredError, match="training_loop='adversarial'") as caught:
            self.run_pipeline("distmult", "slcwa")
        assert "\n" not in str(caught.value)

    def test_evaluation_loss(self, model_name: str) -> None:
        """The callback ``evaluation-loss`` runs, and nothing is learnt from validation triples."""
        before, after = _Snapshots(), _Snapshots()
        evaluation = EvaluationLossTrainingCallback(triples_factory=VALIDATION)
        _, losses = self.train(model_name, callbacks=[before, evaluation, after])
        assert all(map(math.isfinite, losses))
        assert len(before.taken) == 2  # noqa: PLR2004
        assert same(before.taken, after.taken)

    def test_probing(self, model_name: str) -> None:
        """The memory probe changes neither the course of training nor a sampler which was trained before."""
        loop, losses = self.train(model_name)
        assert loop._sampler is not None
        state, random_state = copy.deepcopy(loop._sampler.state_dict()), get_random_state()
        loop.sub_batch_and_slice(batch_size=64, sampler=None, triples_factory=GRAPH)
        assert same(loop._sampler.state_dict(), state)
        assert same(get_random_state(), random_state)
        _, unprobed = self.train(model_name, probe=False)
        assert unprobed == losses

    def test_resume(self, model_name: str, tmp_path: Path) -> None:
        """Two epochs, a new process, and two more give the same bits as four."""
        whole, losses = self.train(model_name, num_epochs=4)
        checkpoints: dict[str, Any] = {
            "checkpoint_directory": tmp_path,
            "checkpoint_name": "run.pt",
            "checkpoint_frequency": 0,
        }
        self.train(model_name, num_epochs=2, **checkpoints)
        resumed, resumed_losses = self.train(model_name, num_epochs=4, seed=1, **checkpoints)
        assert resumed_losses == losses
        assert same(resumed.model.state_dict(), whole.model.state_dict())
        assert resumed._sampler is not None
        assert whole._sampler is not None
        assert same(resumed._sampler.state_dict(), whole._sampler.state_dict())

    def test_unknown_keyword(self) -> None:
        """A keyword which does not exist is named, before anything is built."""
        with pytest.raises(ConfigurationError, match="no_such_keyword"):
            self.run_pipeline("distmult", "adversarial", no_such_keyword=1)

    def test_impossible_number(self) -> None:
        """No negatives at all is an error."""
        with pytest.raises(ConfigurationError, match="num_negs_per_pos"):
            self.run_pipeline("distmult", "adversarial", num_negs_per_pos=0)

    def test_hpo_default(self) -> None:
        """Studies tune keywords which exist, in ranges which PyKEEN understands."""
        assert set(self.cls.hpo_default) <= keywords(self.cls)
        for name, choice in self.cls.hpo_default.items():
            if choice["type"] == "categorical":
                assert choice["choices"], name
            else:
                assert choice["type"] in {int, float, "int", "float"}, name
                assert choice["low"] < choice["high"], name

    def test_keywords_are_visible(self) -> None:
        """PyKEEN's studies look for keywords in the signatures of the class and of its first base, and no further."""
        visible = {*inspect.signature(self.cls).parameters, *inspect.signature(self.cls.__bases__[0]).parameters}
        assert keywords(self.cls) <= visible, "spell the keywords of the base out"

    def test_citation(self) -> None:
        """The docstring names the method and its source."""
        docdata = get_docdata(self.cls)
        assert docdata is not None, "add a citation to the docstring, and decorate the class by docdata.parse_docdata"
        assert docdata["name"]
        assert {"author", "year", "link"} <= set(docdata["citation"])

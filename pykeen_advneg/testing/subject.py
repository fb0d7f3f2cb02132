"""The sampler under test, made and taught as the loop ``adversarial`` does it."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Set
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from pykeen.models import ERModel
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.sampling import negative_sampler_resolver
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import COLUMN_HEAD, COLUMN_TAIL

from ..negatives import Negatives
from ..sampling.base import AdversarialNegativeSampler, BindsModel, HasLoss, Learns, Scores
from ..sampling.making import make_sampler
from ..scoring import Scorer
from ..training.losses import slcwa_loss
from ..training.parts import score
from .graphs import GRAPH, MODELS, VALIDATION, make_model

__all__ = ["Subject"]


class Subject:
    """A class of samplers, and how to make and use one."""

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
                sampler.learn(negatives, Subject.score(sampler, model, negatives))
        sampler.end_epoch()
        return drawn

    @staticmethod
    def score(sampler: AdversarialNegativeSampler, model: ERModel[Any, Any, Any], negatives: Negatives) -> Scores:
        """Score negatives; of a sampler with a loss, take the backward pass, whose gradients reach it.

        :param sampler: proposed them
        :param model: gives the scores, and keeps no gradient
        :param negatives: the negatives

        :returns: the scores, detached
        """
        if not isinstance(sampler, HasLoss):
            with torch.no_grad():
                return score(Scorer(model), negatives)
        scores = score(Scorer(model), negatives, sampler)
        host = partial(slcwa_loss, model.loss, negatives=negatives, num_entities=model.num_entities)
        sampler.loss(negatives, scores, host).backward()
        model.collect_regularization_term()
        model.zero_grad(set_to_none=True)
        return scores.map(torch.Tensor.detach)

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

"""What a sampler proposes, learns and keeps."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pykeen.models import ERModel
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL

from ..negatives import Negatives
from ..sampling.base import Learns
from .graphs import DENSE_GRAPH, GRAPH, graphs, make_model, same, time_limit
from .subject import Subject

__all__ = ["ProposalContract"]

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)

#: the longest that a few batches may take, in seconds
TIME_LIMIT = 60


class ProposalContract(Subject):
    """Tests of the sampler alone, beside a model which does not change."""

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
        if not isinstance(sampler, Learns) or (not sampler.optimizers() and not list(sampler.parameters())):
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

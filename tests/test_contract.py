"""The shipped contract, run over every registered sampler and over two as a third party would write them."""

# ruff: noqa: E402
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, ClassVar

import pytest
import torch
from docdata import parse_docdata
from pykeen.sampling.filtering import Filterer
from pykeen.typing import COLUMN_HEAD, COLUMN_TAIL, LongTensor, MappedTriples

# before its import, so that its assertions show their values
pytest.register_assert_rewrite("pykeen_advneg.testing")

from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.base import AdversarialNegativeSampler, BindsModel, Learns
from pykeen_advneg.scoring import Scorer
from pykeen_advneg.testing import SamplerContract
from pykeen_advneg.testing.graphs import make_model


@dataclass(frozen=True)
class Row:
    """The parameters with which a registered sampler is tested."""

    kwargs: Mapping[str, Any]
    tiny_kwargs: Mapping[str, Any]


#: the name of each registered sampler -> how it is tested
CONTRACTS = {
    "attributetyped": Row({"side": "uniform"}, {}),
    "dans": Row(
        {"num_generated_entity": 2, "num_generated_relation": 1},
        {"num_generated_relation": 0, "discriminator_steps": 1},
    ),
    "emu": Row({"base_kwargs": {"chunk_size": 7}}, {"base_kwargs": {"chunk_size": 3}}),
    "kbgan": Row({"num_candidates": 5, "generator_kwargs": {"embedding_dim": 6}}, {"num_candidates": 2}),
    "mmrns": Row({"pool_size": 8, "hidden_dim": 6, "attention_dim": 5}, {"pool_size": None}),
    "shared": Row({"chunk_size": 7, "in_batch_share": 0.5}, {"chunk_size": 3}),
}

REGISTERED = {entry.name: entry.load() for entry in entry_points(group="pykeen_advneg.samplers")}

# sorted: each process of a parallel run has to collect them in the same order
for name in sorted(CONTRACTS.keys() & REGISTERED.keys()):
    globals()[f"Test_{name}"] = type(
        f"Test_{name}", (SamplerContract,), {"cls": REGISTERED[name], **vars(CONTRACTS[name])}
    )


def test_every_sampler_has_a_contract() -> None:
    assert CONTRACTS.keys() == REGISTERED.keys()


@parse_docdata
class SidedNegativeSampler(AdversarialNegativeSampler):
    """Uniform replacements of the tail: the least which a sampler needs.

    ---
    name: Uniform tails
    citation:
        author: Bordes
        year: 2013
        link: https://papers.nips.cc/paper/5071-translating-embeddings-for-modeling-multi-relational-data
    """

    def propose(self, positives: LongTensor) -> Negatives:
        ids = torch.randint(self.num_entities, (len(positives), self.num_negs_per_pos), device=positives.device)
        return Negatives(positives, ids, torch.full_like(positives[:, :1], COLUMN_TAIL))


class TestSided(SamplerContract):
    cls = SidedNegativeSampler
    columns = frozenset({COLUMN_TAIL})


@parse_docdata
class DynamicNegativeSampler(AdversarialNegativeSampler, BindsModel):
    """Dynamic negative sampling: of some uniform candidates, those which the model scores highest.

    ---
    name: Dynamic Negative Sampling
    citation:
        author: Zhang
        year: 2013
        link: https://doi.org/10.1145/2484028.2484126
    """

    hpo_default: ClassVar[Mapping[str, Any]] = dict(num_candidates=dict(type=int, low=2, high=64, log=True))

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        num_candidates: int = 8,
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: type[Filterer] | str | None = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=num_negs_per_pos,
            filtered=filtered,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
        )
        self.num_candidates = max(num_candidates, self.num_negs_per_pos)

    def bind(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def propose(self, positives: LongTensor) -> Negatives:
        ids = torch.randint(self.num_entities, (len(positives), self.num_candidates), device=positives.device)
        column = torch.where(torch.rand(len(positives), 1, device=positives.device) < 0.5, COLUMN_HEAD, COLUMN_TAIL)
        with torch.no_grad():
            scores = self.scorer.negatives(Negatives(positives, ids, column))
        hardest = scores.topk(self.num_negs_per_pos, dim=-1).indices
        return Negatives(positives, ids.gather(1, hardest), column)


class TestDynamic(SamplerContract):
    cls = DynamicNegativeSampler
    kwargs: ClassVar[Mapping[str, Any]] = {"num_candidates": 6}


def flaws() -> Sequence[tuple[str, type[AdversarialNegativeSampler], type[SamplerContract]]]:
    """Samplers with one flaw each, and the test which has to find it."""

    class OutOfRange(SidedNegativeSampler):
        def propose(self, positives: LongTensor) -> Negatives:
            proposal = super().propose(positives)
            return Negatives(positives, proposal.ids + 1, proposal.column)

    class Forgetful(DynamicNegativeSampler):
        """Keeps what it has seen outside of its state."""

        seen = 0

        def propose(self, positives: LongTensor) -> Negatives:
            self.seen += 1
            proposal = super().propose(positives)
            return Negatives(positives, (proposal.ids + self.seen) % self.num_entities, proposal.column)

    class WrongSide(SidedNegativeSampler):
        def propose(self, positives: LongTensor) -> Negatives:
            proposal = super().propose(positives)
            return Negatives(positives, proposal.ids, torch.zeros_like(proposal.column))

    class Idle(SidedNegativeSampler, Learns):
        """Has parameters, and leaves them as they are."""

        def __init__(self, *, mapped_triples: MappedTriples, **kwargs: Any) -> None:
            super().__init__(mapped_triples=mapped_triples, **kwargs)
            self.weight = torch.nn.Parameter(torch.zeros(3))
            self.optimizer = torch.optim.Adam([self.weight])

        def optimizers(self) -> Sequence[torch.optim.Optimizer]:
            return (self.optimizer,)

        def learn(self, negatives: Negatives, scores: object) -> None:
            self.step(0 * self.weight.sum(), self.optimizer)

    return [
        ("test_proposal", OutOfRange, TestSided),
        ("test_proposal", WrongSide, TestSided),
        ("test_state_round_trip", Forgetful, TestDynamic),
        ("test_learning", Idle, TestSided),
    ]


@pytest.mark.parametrize(("test", "cls", "contract"), flaws(), ids=lambda value: getattr(value, "__name__", value))
def test_flaws_are_found(test: str, cls: type[AdversarialNegativeSampler], contract: type[SamplerContract]) -> None:
    """The contract is worth something only if it fails where it should."""
    flawed = type("Flawed", (contract,), {"cls": cls})()
    more = (1, "cpu") if test == "test_proposal" else ()
    with pytest.raises(AssertionError):
        getattr(flawed, test)(make_model("distmult"), *more)

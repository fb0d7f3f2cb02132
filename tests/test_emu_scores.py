"""Mutated scores against a slow twin, which mutates embeddings of explicit triples and calls the interaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from pykeen.models import ComplEx, DistMult, ERModel, model_resolver
from pykeen.nn import Embedding
from pykeen.nn.modules import Interaction, interaction_resolver
from pykeen.nn.representation import TransformedRepresentation
from pykeen.regularizers import Regularizer
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import COLUMN_HEAD, COLUMN_RELATION, COLUMN_TAIL
from test_scoring import (
    CHUNK,
    COLUMNS,
    TRIPLES,
    K,
    all_negatives,
    check,
    every_interaction,
    generator,
    is_exact,
    make_interaction,
    make_model,
    result,
    triples,
    unit_relations,
)

from pykeen_advneg.negatives import Negatives
from pykeen_advneg.queries import layouts, masks, mixing, query_form
from pykeen_advneg.queries.masks import Key
from pykeen_advneg.queries.masks import bernoulli as numbers_of
from pykeen_advneg.queries.mutated import adds_up
from pykeen_advneg.sampling import mutation
from pykeen_advneg.sampling.emu import EMUNegativeSampler, Masks, Variant
from pykeen_advneg.sampling.mutation import BernoulliWeights, Mutation, bernoulli_weights, beta_weights, mutated_scores
from pykeen_advneg.scoring import Scorer

SIDES = (COLUMN_HEAD, COLUMN_TAIL)

Weights = Callable[[Any], Any]


def bernoulli(slot: Any) -> Any:
    """The same masks for the same shapes."""
    return bernoulli_weights(slot, 0.4, generator=generator())


class Fixed(BernoulliWeights):
    """The same masks each time."""

    def __call__(self, slot: Any) -> Any:
        return bernoulli_weights(slot, self.rate, self.tied, generator())

    def key(self, device: torch.device) -> Key:
        return Key.draw(self.rate, device, generator())


def beta(slot: Any) -> Any:
    return beta_weights(slot, generator=generator())


def several(slot: Any) -> list[torch.Tensor]:
    return [slot] if isinstance(slot, torch.Tensor) else list(slot)


def real(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(x) if x.is_complex() else x


def twin(model: Any, negatives: Negatives, draw: Weights, is_shared: bool = True) -> torch.Tensor:
    """Mutate one triple at a time, by the formula w n + (1 - w) p on real numbers."""
    scores: dict[tuple[int, int], torch.Tensor] = {}
    for column in negatives.column.unique().tolist():
        limit = TRIPLES.num_relations if column == COLUMN_RELATION else TRIPLES.num_entities
        rows = (negatives.column == column).any(dim=1).nonzero().squeeze(-1).tolist()
        shared = is_shared and negatives.chunk_size > 1
        ids = (negatives.ids if shared else negatives.dense_ids[rows]).clamp(max=limit - 1)
        indices: list[Any] = [None, None, None]
        indices[column] = ids.flatten()
        pool = several(model._get_representations(*indices, mode=None)[column])
        slot = [x.unflatten(0, ids.shape) for x in pool]
        weights = several(draw(slot[0] if len(slot) == 1 else slot))
        for number, i in enumerate(rows):
            place = i // negatives.chunk_size if shared else number
            h, r, t = (x.view(1) for x in negatives.positives[i])
            for j in range(negatives.shape[1]):
                slots = [several(x) for x in model._get_representations(h=h, r=r, t=t, mode=None)]
                mixed = []
                for own, candidate, weight in zip(slots[column], slot, weights, strict=True):
                    p, n, w = real(own[0]), real(candidate[place, j]), real(weight[place, j])
                    x = w * n + (1 - w) * p
                    mixed.append((torch.view_as_complex(x) if own.is_complex() else x).unsqueeze(0))
                slots[column] = mixed
                score = model.interaction.score_hrt(*(x[0] if len(x) == 1 else x for x in slots))
                width = negatives.column[i, 0 if negatives.column.shape[1] == 1 else j]
                if width == column:
                    scores[i, j] = score.squeeze()
    b, k = negatives.shape
    return torch.stack([torch.stack([scores[i, j] for j in range(k)]) for i in range(b)])


@every_interaction
@pytest.mark.parametrize("kind", ["emu", "mixup"])
def test_shared_masks(cls: type[Interaction], kwargs: dict[str, Any], kind: str) -> None:
    """Shared ids and masks: by products of matrices or by the interaction, in values and gradients."""
    model = make_model(make_interaction(cls, **kwargs))
    if not is_exact(model.interaction):
        unit_relations(model)
    draw = bernoulli if kind == "emu" else beta
    rule = Mutation(draw, is_binary=kind == "emu", is_shared=True)
    for columns in ((COLUMN_TAIL,), SIDES, COLUMNS):
        for negatives in all_negatives(columns):
            if negatives.chunk_size == 1 or (kind == "mixup" and negatives.chunk_size != CHUNK):
                continue
            fast = result(model, lambda: mutated_scores(Scorer(model), negatives, rule)[2])  # noqa: B023
            slow = result(model, lambda: twin(model, negatives, draw))  # noqa: B023
            end = None if is_exact(model.interaction) else 1
            check(fast[:end], slow[:end], tolerance=1e-8)


@pytest.mark.parametrize("name", ["transe", "transe-l1", "rotate", "pairre", "pairre-l2", "mure"])
@pytest.mark.parametrize("power_norm", [True, False])
def test_distances_of_mixup(name: str, power_norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One share for all components: no mixture is made, where distances add up."""
    monkeypatch.setattr(mutation, "_by_interaction", None)
    name, _, norm = name.partition("-l")
    kwargs: dict[str, Any] = dict(power_norm=power_norm) if name in {"transe", "pairre"} else {}
    kwargs |= dict(p=int(norm)) if norm else {}
    model = make_model(make_interaction(interaction_resolver.lookup(name), **kwargs))
    if not is_exact(model.interaction):
        unit_relations(model)
    rule = Mutation(beta, is_binary=False, is_shared=True)
    for columns in ((COLUMN_TAIL,), SIDES):
        for negatives in all_negatives(columns):
            if negatives.chunk_size != CHUNK:
                continue
            fast = result(model, lambda: mutated_scores(Scorer(model), negatives, rule)[2])  # noqa: B023
            slow = result(model, lambda: twin(model, negatives, beta))  # noqa: B023
            end = None if is_exact(model.interaction) else 1
            check(fast[:end], slow[:end], tolerance=1e-7)


@pytest.mark.parametrize("is_shared", [True, False])
def test_fast_forms_are_fast(is_shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What adds up is not scored by the interaction: products, and L1 and L2 distances of which none is moved."""
    monkeypatch.setattr(mutation, "_by_interaction", None)
    rule = Mutation(Fixed(0.4), is_binary=True, is_shared=is_shared)
    negatives = list(all_negatives(SIDES))
    names = "autosf complex cp distma distmult hole lineare mure pairre quate rescal rotate simple transe transf"
    for name in names.split():
        model = make_model(make_interaction(interaction_resolver.lookup(name)))
        for each in negatives:
            assert mutated_scores(Scorer(model), each, rule)[2].shape == each.shape
    assert not adds_up(query_form(make_interaction(interaction_resolver.lookup("transh"))))


def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no compiled loops be found."""
    for module in (masks, mixing):
        monkeypatch.setattr(module, "kernels", lambda _: None)


class Recorder(BernoulliWeights):
    """Draws masks, and keeps what was drawn."""

    drawn: list[list[torch.Tensor]]
    keys: list[Key]

    def __init__(self, tied: bool = False) -> None:
        super().__init__(0.4, tied)
        object.__setattr__(self, "drawn", [])
        object.__setattr__(self, "keys", [])

    def __call__(self, slot: Any) -> Any:
        weights = super().__call__(slot)
        self.drawn.append(several(weights))
        return weights

    def key(self, device: torch.device) -> Key:
        self.keys.append(super().key(device))
        return self.keys[-1]

    def take(self, size: int) -> list[torch.Tensor]:
        """Give the masks of so many rows, in the order in which they were drawn."""
        taken = []
        while sum(len(each[0]) for each in taken) < size:
            taken.append(self.drawn.pop(0))
        return [torch.cat(parts) for parts in zip(*taken, strict=True)]

    def masks(self, key: Key, b: int, slot: Any) -> list[torch.Tensor]:
        """Give the masks of all pairs, one number after the other: a pair, a representation, a component at a time."""
        parts = [1 if self.tied or not x.is_complex() else 2 for x in several(slot)]
        sizes = [x[0, 0].numel() * n for x, n in zip(several(slot), parts, strict=True)]
        k = several(slot)[0].shape[1]
        split = numbers_of(torch.Size((b, k, sum(sizes))), key, torch.float64).split(sizes, dim=-1)
        found = []
        for x, n, numbers in zip(several(slot), parts, split, strict=True):
            own = numbers.unflatten(-1, (*x.shape[2:], n))
            found.append(torch.complex(own[..., 0], own[..., -1]) if x.is_complex() else own[..., 0])
        return found


PAIRED = ["distmult", "complex", "cp", "simple", "transe", "transe-l1", "rotate", "mure", "pairre", "quate"]


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize("columns", [SIDES, COLUMNS])
@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_independent_masks(
    name: str, columns: Any, is_compiled: bool, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One mask for each pair: summed up by compiled loops, or a block of pairs at a time."""
    pytest.importorskip("numba")
    if not is_compiled:
        without_numba(monkeypatch)
        monkeypatch.setattr(layouts, "ELEMENTS", {"cpu": 64})
    monkeypatch.setattr(mutation, "_by_interaction", None)
    name, _, norm = name.partition("-l")
    model = make_model(make_interaction(interaction_resolver.lookup(name), **({"p": int(norm)} if norm else {})))
    if not is_exact(model.interaction):
        unit_relations(model)
    for negatives in all_negatives(columns):
        record, b = Recorder(tied), len(negatives)
        rule = Mutation(record, is_binary=True, is_shared=False)
        numbers = negatives.column.unique().tolist()
        if COLUMN_RELATION in numbers and COLUMN_RELATION not in query_form(model.interaction).queries:
            continue
        fast = result(model, lambda: mutated_scores(Scorer(model), negatives, rule)[2])  # noqa: B023
        is_joint = numbers == list(SIDES) and negatives.column.shape[1] == 1 and Scorer(model).lookups.are_joint
        given = iter([(record.keys[0 if is_joint else i], column) for i, column in enumerate(numbers)])
        assert len(record.keys) == (1 if is_joint else len(numbers))

        def draw(slot: Any) -> list[torch.Tensor]:
            key, column = next(given)  # noqa: B023
            rows = (negatives.column == column).any(dim=1)  # noqa: B023
            return [x[rows] for x in record.masks(key, b, slot)]  # noqa: B023

        slow = result(model, lambda: twin(model, negatives, draw, is_shared=False))  # noqa: B023
        end = None if is_exact(model.interaction) else 1
        check(fast[:end], slow[:end], tolerance=1e-8)


@pytest.mark.parametrize("name", ["transd", "transh"])
@pytest.mark.parametrize("elements", [1, 2**21])
def test_independent_masks_by_the_interaction(name: str, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, masks are drawn again for the gradient, and are the same."""
    monkeypatch.setattr(mutation, "ELEMENTS", {"cpu": elements})
    model = make_model(make_interaction(interaction_resolver.lookup(name)))
    if not is_exact(model.interaction):
        unit_relations(model)
    for negatives in all_negatives(SIDES):
        record = Recorder()
        rule = Mutation(record, is_binary=True, is_shared=False)
        torch.manual_seed(0)
        fast = result(model, lambda: mutated_scores(Scorer(model), negatives, rule)[2])  # noqa: B023
        numbers = negatives.column.unique().tolist()
        given = iter([record.take(int((negatives.column == column).any(dim=1).sum())) for column in numbers])
        if elements == 1:
            assert sum(len(each[0]) for each in record.drawn) > 0, "drawn once more for the gradient"
        slow = result(model, lambda: twin(model, negatives, lambda _: next(given), is_shared=False))  # noqa: B023
        check(fast, slow, tolerance=1e-8)


@pytest.mark.parametrize("name", ["distmult", "transe", "transe-l1"])
@pytest.mark.parametrize("is_shared", [True, False])
def test_gradients_of_both(name: str, is_shared: bool) -> None:
    """Plain and mutated scores come from the same terms, and their gradients add up."""
    name, _, norm = name.partition("-l")
    model = make_model(make_interaction(interaction_resolver.lookup(name), **({"p": int(norm)} if norm else {})))
    rule = Mutation(Fixed(0.4), is_binary=True, is_shared=is_shared)

    def gradients(make: Callable[[], torch.Tensor], weights: torch.Tensor) -> list[torch.Tensor]:
        model.zero_grad()
        (make() * weights).sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    for negatives in all_negatives(SIDES):
        k = negatives.shape[1]
        weights = torch.randn(len(negatives), 2 * k, dtype=torch.float64, generator=generator())
        both = gradients(lambda: torch.cat(mutated_scores(Scorer(model), negatives, rule)[1:], dim=1), weights)  # noqa: B023
        plain = gradients(lambda: Scorer(model).negatives(negatives), weights[:, :k])  # noqa: B023
        mutated = gradients(lambda: mutated_scores(Scorer(model), negatives, rule)[2], weights[:, k:])  # noqa: B023
        check(both, [x + y for x, y in zip(plain, mutated, strict=True)])


@pytest.mark.parametrize("name", ["distmult", "complex", "transe", "rotate", "transh", "mure", "cp"])
@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_limits(name: str, is_shared: bool, rate: float) -> None:
    """With the rate 1, mutated negatives are the negatives; with 0, they are the positives."""
    model = make_model(make_interaction(model_resolver.lookup(name)(triples_factory=TRIPLES).interaction.__class__))
    if not is_exact(model.interaction):
        unit_relations(model)
    rule = Mutation(BernoulliWeights(rate), is_binary=True, is_shared=is_shared)
    for negatives in all_negatives(SIDES):
        positives, plain, mutated = mutated_scores(Scorer(model), negatives, rule)
        expected = Scorer(model).both(negatives)
        check([positives, plain], list(expected))
        check([mutated], [expected[1] if rate else expected[0].expand_as(mutated)])


@pytest.mark.parametrize("name", ["distmult", "complex", "transe"])
def test_masked_difference(name: str) -> None:
    """What is added to the positive's score is the masked part of the difference of contributions per dimension."""
    model = make_model(make_interaction(model_resolver.lookup(name)(triples_factory=TRIPLES).interaction.__class__, **(
        {"p": 1} if name == "transe" else {}
    )))  # fmt: skip
    positives = triples()
    ids = torch.randint(TRIPLES.num_entities, (1, K), generator=generator())
    negatives = Negatives(positives, ids, torch.full((len(positives), 1), COLUMN_TAIL), chunk_size=len(positives))
    h, r, t = model._get_representations(*positives.unbind(-1), mode=None)
    (entities,) = (representation() for representation in model.entity_representations)
    own, other = t.unsqueeze(1), entities[ids]
    m = real(bernoulli(other))
    if name == "transe":
        contributions = [-(h + r).unsqueeze(1).sub(x).abs() for x in (own, other)]
    elif name == "distmult":
        contributions = [(h * r).unsqueeze(1) * x for x in (own, other)]
    else:
        contributions = [real((h * r).unsqueeze(1)) * real(x) for x in (own, other)]
    difference = (m * (contributions[1] - contributions[0])).flatten(2).sum(dim=-1)
    scores = mutated_scores(Scorer(model), negatives, Mutation(bernoulli, is_binary=True, is_shared=True))
    check([scores[2] - scores[0]], [difference])


@pytest.mark.parametrize("name", ["distmult", "complex", "transe", "transd"])
@pytest.mark.parametrize("is_shared", [True, False])
def test_gradients_reach_both(name: str, is_shared: bool) -> None:
    """The true entity, the negative, the kept entity and the relation all get a gradient from mutated scores."""
    model = model_resolver.make(name, triples_factory=TRIPLES, random_seed=0).train()
    negatives = Negatives(
        torch.tensor([[0, 0, 1], [0, 0, 1]]), torch.tensor([[2]]), torch.tensor([[2], [2]]), chunk_size=2
    )
    rule = Mutation(BernoulliWeights(0.5), is_binary=True, is_shared=is_shared)
    mutated_scores(Scorer(model), negatives, rule)[2].sum().backward()
    gradient = model.entity_representations[0]._embeddings.weight.grad
    assert gradient[:3].abs().sum(dim=-1).min() > 0
    assert gradient[3:].abs().max() == 0
    assert model.relation_representations[0]._embeddings.weight.grad[0].abs().sum() > 0


@pytest.mark.parametrize("is_shared", [True, False])
def test_regularizers_see_a_batch_once(is_shared: bool) -> None:
    model = DistMult(triples_factory=TRIPLES, random_seed=0, regularizer_kwargs=dict(weight=1.0)).train()
    (regularizer,) = (m for m in model.modules() if isinstance(m, Regularizer))
    rule = Mutation(BernoulliWeights(0.5), is_binary=True, is_shared=is_shared)
    for negatives in all_negatives(SIDES):
        Scorer(model).both(negatives)
        expected = regularizer.pop_regularization_term()
        mutated_scores(Scorer(model), negatives, rule)
        torch.testing.assert_close(regularizer.pop_regularization_term(), expected)
        assert regularizer.training


@pytest.mark.parametrize("variant", ["emu", "mixup", "labels_only"])
@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize("base", ["shared", "basic"])
def test_regularizers_see_the_plain_pass_only(variant: Variant, independent: bool, base: str) -> None:
    """The same term, whatever the variant does with its further scores."""
    model = DistMult(triples_factory=TRIPLES, random_seed=0, regularizer_kwargs=dict(weight=1.0)).train()
    (regularizer,) = (m for m in model.modules() if isinstance(m, Regularizer))
    sampler = EMUNegativeSampler(
        mapped_triples=TRIPLES.mapped_triples,
        num_entities=TRIPLES.num_entities,
        num_relations=TRIPLES.num_relations,
        num_negs_per_pos=5,
        base=base,
        variant=variant,
        independent_passes=independent,
    )
    negatives = sampler.propose(TRIPLES.mapped_triples[:16])
    plain, _ = sampler._passes(negatives) if independent else (negatives, None)
    Scorer(model).both(plain)
    expected = regularizer.pop_regularization_term()
    sampler.score(Scorer(model), negatives)
    torch.testing.assert_close(regularizer.pop_regularization_term(), expected)


@pytest.mark.parametrize("side", SIDES)
def test_batch_normalisation(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where scores depend on the rest of the batch, it is not taken apart: what is not mutated has the plain scores."""
    monkeypatch.setattr(mutation, "ELEMENTS", {"cpu": 1})
    model = model_resolver.make("tucker", dict(embedding_dim=4, relation_dim=4), triples_factory=TRIPLES).train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    for rate, is_same in ((1.0, True), (0.5, False)):
        rule = Mutation(BernoulliWeights(rate), is_binary=True, is_shared=True)
        for negatives in all_negatives((side,)):
            _, plain, mutated = mutated_scores(Scorer(model), negatives, rule)
            assert torch.allclose(plain, mutated, rtol=1e-4, atol=1e-6) == is_same


@pytest.mark.parametrize("variant", ["emu", "mixup"])
def test_normalised_representations(variant: Variant) -> None:
    """Representations which are normalised over what is looked up are not looked up one by one."""
    tables = [Embedding(max_id=n, shape=(8,)) for n in (TRIPLES.num_entities, TRIPLES.num_relations)]
    layers = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8)).eval()
    entities = TransformedRepresentation(transformation=layers, base=tables[0])
    model = ERModel(
        triples_factory=TRIPLES,
        interaction="distmult",
        entity_representations=entities,
        relation_representations=tables[1],
    ).train()
    for negatives in all_negatives(SIDES):
        rule = Mutation(bernoulli if variant == "emu" else beta, is_binary=variant == "emu", is_shared=True)
        scores = mutated_scores(Scorer(model), negatives, rule)
        sum(each.sum() for each in scores).backward()
        assert all(bool(torch.isfinite(each).all()) for each in scores)
    assert tables[0]._embeddings.weight.grad is not None


def decoded(masks: Masks, tied: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the masks of the sampler: the score of a negative is the number whose bits are its mask.

    Heads are 1 + i, relations 1, and negatives have 2^l as real and 2^(l + d) as imaginary part of component l.

    :returns: real and imaginary parts, shape: ``(b, k, d)``
    """
    torch.manual_seed(0)
    d, b, k = 8, 6, 5
    triples = CoreTriplesFactory(torch.tensor([[0, 0, 1], [1, 0, 2]]), num_entities=3, num_relations=1)
    model = ComplEx(triples_factory=triples, embedding_dim=d).double()
    entities, relations = (
        x[0]._embeddings.weight.data for x in (model.entity_representations, model.relation_representations)
    )
    powers = 2.0 ** torch.arange(2 * d, dtype=torch.double)
    entities[0] = 1.0
    entities[1] = 0.0
    entities[2] = powers.view(2, d).T.flatten()
    relations[0] = torch.tensor([1.0, 0.0], dtype=torch.double).repeat(d)
    sampler = EMUNegativeSampler(
        mapped_triples=triples.mapped_triples, num_negs_per_pos=k, mutation_rate=0.5, masks=masks, tied=tied
    )
    positives = torch.tensor([[0, 0, 1]]).repeat(b, 1)
    negatives = Negatives(positives, torch.full((2, k), 2), torch.full((b, 1), COLUMN_TAIL), chunk_size=3)
    (mutated,) = sampler.score(Scorer(model), negatives).extra
    bits = (mutated.detach().round().long().unsqueeze(-1) >> torch.arange(2 * d)) & 1
    return bits[..., :d], bits[..., d:]


@pytest.mark.parametrize("tied", [False, True])
def test_masks_of_the_sampler(tied: bool) -> None:
    """The masks of a chunk are the same with ``shared``, others with ``independent``; parts are as ``tied`` says."""
    for choice in get_args(Masks):
        real, imaginary = decoded(choice, tied)
        assert torch.equal(real, imaginary) == tied
        assert torch.equal(real[0], real[1]) == torch.equal(real[0], real[2]) == (choice == "shared")
        assert not torch.equal(real[0], real[3]), "another chunk"
        assert not torch.equal(real[0, 0], real[0, 1]), "another negative"

"""DANS: what is generated, how it is scored, and who learns from what."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import Any, get_args

import numpy as np
import pytest
import torch
from dans_twins import GRAPH, draw, generator_twin, make_model, make_sampler
from pykeen.losses import BCEWithLogitsLoss, MarginRankingLoss
from pykeen.nn.representation import Embedding
from pykeen.typing import COLUMN_HEAD, COLUMN_TAIL
from scipy.spatial.distance import pdist
from scipy.stats import binomtest

from pykeen_advneg.errors import ConfigurationError, NonFiniteSamplerError
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.plotting import Projection, plot_entities
from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.sampling.dans import DANSNegativeSampler
from pykeen_advneg.sampling.dans.diagnostics import Diagnostics, mean_distance, nearest_distance
from pykeen_advneg.sampling.dans.proposals import GeneratedNegatives
from pykeen_advneg.scoring import Scorer
from pykeen_advneg.testing.graphs import same
from pykeen_advneg.training.losses import slcwa_loss

MODELS: dict[str, dict[str, Any]] = {
    "complex": {},
    "conve": dict(embedding_dim=8, output_channels=2, kernel_height=1, kernel_width=2),
    "distmult": {},
    "rescal": {},
    "rotate": {},
    "simple": {},
    "transd": dict(relation_dim=6),
    "transe": {},
    "transh": {},
}


def test_number_of_negatives() -> None:
    torch.manual_seed(0)
    sampler = DANSNegativeSampler(mapped_triples=GRAPH.mapped_triples)
    model = make_model()
    sampler.bind(Scorer(model))
    negatives = draw(sampler, 12)
    assert negatives.shape == (12, 10)
    assert negatives.generated is not None
    assert negatives.generated.shape == (12, 10, 6)
    with torch.no_grad():
        scores = sampler.score(Scorer(model), negatives)
    assert [tuple(x.shape) for x in scores.tensors] == [(12, 1), (12, 10), (12, 10)]


def test_both_pathways_are_in_the_negatives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first three are those of the first generator, from the entity which is kept; then come those of the second.

    This is what the authors' code gets wrong.
    """
    model = make_model()
    sampler = make_sampler(model, noise=0.0)
    negatives = draw(sampler)
    assert negatives.generated is not None
    assert negatives.is_head is not None
    h, r, t = negatives.positives.T
    entities, relations = model.entity_representations[0]().detach(), model.relation_representations[0]().detach()
    for name, columns, factor in (("entity", range(3), torch.ones(20, 6)), ("relation", range(3, 5), relations[r])):
        is_head = negatives.is_head[:, list(columns)].unsqueeze(-1)
        kept = torch.where(is_head, entities[t].unsqueeze(1), entities[h].unsqueeze(1))
        conditions = (kept * factor.unsqueeze(1)).flatten(end_dim=1)
        expected = generator_twin(sampler.networks.generators[name], conditions, conditions)
        torch.testing.assert_close(negatives.generated[:, list(columns)].flatten(end_dim=1), expected)
    assert not torch.allclose(negatives.generated[:, 0], negatives.generated[:, 3])


def complex_product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Multiply vectors whose pairs of numbers are real and imaginary parts."""
    (a, b), (c, d) = (z.unflatten(-1, (-1, 2)).unbind(dim=-1) for z in (x, y))
    return torch.stack([a * c - b * d, a * d + b * c], dim=-1).flatten(start_dim=1)


CONJUGATE = torch.tensor([1.0, -1.0]).repeat(6)


@pytest.mark.parametrize(
    ("name", "inverse", "of_tails", "of_heads"),
    [
        ("distmult", "product", lambda h, r: h * r, lambda t, r: t * r),
        ("distmult", "reciprocal", lambda h, r: h * r, lambda t, r: t / r),
        ("transe", "product", lambda h, r: h + r, lambda t, r: t - r),
        ("rotate", "product", complex_product, lambda t, r: complex_product(t, r * CONJUGATE)),
        ("complex", "product", complex_product, lambda t, r: complex_product(t, r * CONJUGATE)),
    ],
)
def test_what_a_lesson_is_about(name: str, inverse: str, of_tails: Any, of_heads: Any) -> None:
    """The first generator starts from the entity which is kept, the second from that and the relation."""
    model = make_model(name)
    sampler = make_sampler(model, inverse=inverse)
    negatives = draw(sampler, 12)
    entities, relations = (
        representation[0]().detach()
        for representation in (model.entity_representations, model.relation_representations)
    )
    if entities.is_complex():
        entities, relations = (torch.view_as_real(x).flatten(start_dim=1) for x in (entities, relations))
    h, r, t = (
        entities[negatives.positives[:, 0]],
        relations[negatives.positives[:, 1]],
        entities[negatives.positives[:, 2]],
    )
    assert bool((r.abs() > 1e-3).all()), "beyond this, the reciprocal is bounded"
    assert negatives.lesson is not None
    conditions = negatives.lesson.conditions
    assert list(conditions) == ["entity", "relation"]
    torch.testing.assert_close(conditions["entity"], torch.stack([h, t], dim=1))
    torch.testing.assert_close(conditions["relation"], torch.stack([of_tails(h, r), of_heads(t, r)], dim=1))
    torch.testing.assert_close(negatives.lesson.real, torch.cat([t, h]))
    assert not any(x.requires_grad for x in (negatives.lesson.real, *conditions.values()))


def test_sides_and_noise() -> None:
    """Each negative has a side by a fair coin; copies of a condition differ by noise only."""
    sampler = make_sampler()
    drawn = [draw(sampler, 100) for _ in range(20)]
    is_head = torch.cat([negatives.is_head for negatives in drawn])
    assert binomtest(int(is_head.sum()), is_head.numel()).pvalue > 1e-3
    agree = (is_head[:, 0] == is_head[:, 1]).sum()
    assert binomtest(int(agree), len(is_head)).pvalue > 1e-3
    loud, silent = make_sampler(noise=1.0), make_sampler(noise=0.0)
    for noisy, are_same in ((silent, True), (loud, False)):
        negatives = draw(noisy, 100)
        same = negatives.is_head[:, 0] == negatives.is_head[:, 1]
        x, y = negatives.generated[same, 0], negatives.generated[same, 1]
        assert torch.allclose(x, y, atol=1e-5) == are_same


@pytest.mark.parametrize("name", sorted(MODELS))
def test_scores_are_those_of_the_model(name: str) -> None:
    """As if the generated vector stood in the table, in the row of the entity which it replaces."""
    model = make_model(name, **MODELS[name]).eval()
    sampler = make_sampler(model)
    negatives = draw(sampler, 4)
    assert negatives.generated is not None
    assert negatives.is_head is not None
    with torch.no_grad():
        (scores,) = sampler.score(Scorer(model), negatives).extra
        view = sampler.generation.view
        interaction = model.interaction
        for i, triple in enumerate(negatives.positives.tolist()):
            for j in range(negatives.num_generated):
                parts = view.entity.split(negatives.generated[i, j].unsqueeze(0))
                h, t = (
                    [representation(torch.tensor([triple[column]])) for representation in model.entity_representations]
                    for column in (0, 2)
                )
                h, t = (parts, t) if negatives.is_head[i, j] else (h, parts)
                slots = [
                    [h[k] for k in interaction.head_indices],
                    [representation(torch.tensor([triple[1]])) for representation in model.relation_representations],
                    [t[k] for k in interaction.tail_indices],
                ]
                expected = interaction.score_hrt(*(x[0] if len(x) == 1 else x for x in slots))
                torch.testing.assert_close(scores[i, j], expected.squeeze(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [BCEWithLogitsLoss(), MarginRankingLoss(margin=1.0)])
@pytest.mark.parametrize("filtered", [True, False])
def test_loss_is_that_of_all_negatives(loss: Any, filtered: bool) -> None:
    """The host's loss, by the host's own code, over positives, negatives of ids which are not masked, and fakes."""
    model = make_model()
    sampler = make_sampler(model, **(dict(filtered=True, filterer="exact") if filtered else {}))
    negatives = draw(sampler, 100)
    assert (negatives.mask is not None) == filtered
    scores = sampler.score(Scorer(model), negatives)
    host = partial(slcwa_loss, loss, negatives=negatives, num_entities=30)
    together = torch.cat([scores.negatives, scores.extra[0]], dim=1)
    keep = torch.ones_like(together, dtype=torch.bool)
    if negatives.mask is not None:
        keep[:, :4] = negatives.mask
        assert not bool(keep.all())
    expected = loss.process_slcwa_scores(
        positive_scores=scores.positives,
        negative_scores=together[keep] if filtered else together,
        batch_filter=keep if filtered else None,
        num_entities=30,
    )
    torch.testing.assert_close(sampler.loss(negatives, scores, host), expected)


def test_weights_of_generated_negatives() -> None:
    """Those of their positives."""
    torch.manual_seed(0)
    negatives = Negatives(
        torch.zeros(3, 3, dtype=torch.long), torch.ones(3, 2, dtype=torch.long), torch.full((3, 1), 2)
    )
    scores = Scores(torch.randn(3, 1), torch.randn(3, 4))
    pos, neg = torch.tensor([1.0, 2.0, 3.0]), torch.rand(3, 2)
    value = slcwa_loss(BCEWithLogitsLoss(), scores, negatives, num_entities=9, pos_weights=pos, neg_weights=neg)
    expected = BCEWithLogitsLoss().process_slcwa_scores(
        positive_scores=scores.positives,
        negative_scores=scores.negatives,
        pos_weights=pos,
        neg_weights=torch.cat([neg, pos.unsqueeze(-1).expand(3, 2)], dim=1),
        num_entities=9,
    )
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("detach_fakes", [True, False])
def test_who_gets_gradients(detach_fakes: bool) -> None:
    """The networks none of the model's step, the model none of theirs, whether fakes are detached or not."""
    model = make_model()
    sampler = make_sampler(model, detach_fakes=detach_fakes)
    negatives = draw(sampler)
    scores = sampler.score(Scorer(model), negatives)
    weight = next(model.entity_representations[0].parameters())
    only_fakes = torch.autograd.grad(scores.extra[0].sum(), weight, retain_graph=True)[0]
    assert float(only_fakes.abs().sum()) > 0, "the model is trained on generated negatives"
    sampler.loss(negatives, scores, lambda s: s.positives.mean() - s.negatives.mean()).backward()
    assert all(parameter.grad is None for parameter in sampler.parameters())
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    before = [parameter.detach().clone() for parameter in sampler.parameters()]
    sampler.learn(negatives, Scores(*(x.detach() for x in scores.tensors[:2]), (scores.extra[0].detach(),)))
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    moved = [not torch.equal(p, q) for p, q in zip(sampler.parameters(), before, strict=True)]
    assert all(moved)
    assert all(parameter.requires_grad for parameter in sampler.parameters())


def test_gradient_through_the_generators() -> None:
    """If fakes are not detached, the gradient of a fake reaches what it starts from; and the fakes are the same."""
    model = make_model()
    detached, attached = (make_sampler(model, detach_fakes=value, noise=0.0) for value in (True, False))
    drawn = []
    for sampler in (detached, attached):
        torch.manual_seed(1)
        drawn.append(draw(sampler))
    first, second = drawn
    assert torch.equal(first.is_head, second.is_head)
    weight = next(model.entity_representations[0].parameters())
    gradients = []
    for sampler, negatives in ((detached, first), (attached, second)):
        scores = sampler.score(Scorer(model), negatives).extra[0]
        gradients.append((scores, torch.autograd.grad(scores.sum(), weight)[0]))
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    assert not torch.allclose(gradients[0][1], gradients[1][1])


def test_a_part_cannot_be_differentiated_through_the_generators() -> None:
    model = make_model()
    sampler = make_sampler(model, detach_fakes=False)
    with pytest.raises(ConfigurationError, match="detach_fakes=False with a sub_batch_size"):
        sampler.score(Scorer(model), draw(sampler).narrow(0, 3))


def test_batch_of_one() -> None:
    """It is generated by remembered statistics, and teaches nothing."""
    sampler = make_sampler()
    before = [parameter.detach().clone() for parameter in sampler.parameters()]
    negatives = draw(sampler, 1)
    assert negatives.generated is not None
    assert negatives.generated.shape == (1, 5, 6)
    sampler.learn(negatives, Scores(torch.zeros(1, 1), torch.zeros(1, 4), (torch.ones(1, 5),)))
    assert all(torch.equal(p, q) for p, q in zip(sampler.parameters(), before, strict=True))
    assert sampler.end_epoch() == {"outscoring": 1.0}


def test_one_pathway() -> None:
    """There is no other generator, and nothing to tell apart."""
    sampler = make_sampler(num_generated_relation=0)
    assert list(sampler.networks.generators) == ["entity"]
    assert sampler.networks.discriminator.auxiliary is None
    assert draw(sampler).generated.shape == (20, 3, 6)
    assert len(sampler.optimizers()) == 2


def test_ablations_have_no_such_parameters() -> None:
    names = [name for name, _ in make_sampler(film=False, auxiliary=False).named_parameters()]
    assert not any("film" in name or "auxiliary" in name for name in names)


def test_warm_up_epochs() -> None:
    """The networks learn, and the model gets negatives of ids only; the number of epochs is part of the state."""
    model = make_model()
    sampler = make_sampler(model, warmup_epochs=1)
    for expected in (0, 5, 5):
        negatives = draw(sampler)
        scores = sampler.score(Scorer(model), negatives)
        assert scores.extra[0].shape == (20, expected)
        before = [parameter.detach().clone() for parameter in sampler.parameters()]
        sampler.learn(negatives, Scores(scores.positives.detach(), scores.negatives.detach()))
        assert any(not torch.equal(p, q) for p, q in zip(sampler.parameters(), before, strict=True))
        sampler.end_epoch()
    other = make_sampler(model, warmup_epochs=1)
    assert other.is_warming_up
    other.load_state_dict(sampler.state_dict())
    assert not other.is_warming_up


def test_state_before_there_is_a_model() -> None:
    """A sampler which is bound to nothing takes the state of one which is, and the other way round."""
    sampler, unbound = make_sampler(), DANSNegativeSampler(mapped_triples=GRAPH.mapped_triples, num_generated_entity=3)
    empty = unbound.state_dict()
    unbound.load_state_dict(sampler.state_dict())
    assert torch.equal(
        unbound.networks.generators["entity"].last.weight, sampler.networks.generators["entity"].last.weight
    )
    unbound.load_state_dict(empty)
    assert unbound.networks is None
    with pytest.raises(RuntimeError, match="bind"):
        unbound.propose(GRAPH.mapped_triples)


def test_narrow() -> None:
    negatives = draw(make_sampler())
    part = negatives.narrow(3, 8)
    assert isinstance(part, GeneratedNegatives)
    assert torch.equal(part.generated, negatives.generated[3:8])
    assert torch.equal(part.is_head, negatives.is_head[3:8])
    assert part.lesson is None
    assert negatives.narrow(0, 99) is negatives


def test_regularisers_do_not_notice() -> None:
    """Looking entities up to generate from is not in the regularisation term."""
    model = make_model("complex", regularizer="lp", regularizer_kwargs=dict(weight=1.0))
    sampler = make_sampler(model)
    negatives = draw(sampler)
    assert float(model.collect_regularization_term()) == 0
    sampler.score(Scorer(model), negatives)
    term = float(model.collect_regularization_term().detach())
    plain = Negatives(negatives.positives, negatives.ids, negatives.column)
    Scorer(model).both(plain)
    assert term == pytest.approx(float(model.collect_regularization_term().detach()), rel=0.3)
    assert term > 0


@pytest.mark.parametrize("base", ["basic", "bernoulli", "shared", "kbgan"])
def test_bases(base: str) -> None:
    """Samplers of PyKEEN, ours, and one which learns."""
    kwargs = dict(num_candidates=5, generator_kwargs=dict(embedding_dim=4)) if base == "kbgan" else {}
    model = make_model()
    sampler = make_sampler(model, base=base, base_kwargs=kwargs)
    negatives = draw(sampler)
    scores = sampler.score(Scorer(model), negatives).map(torch.Tensor.detach)
    before = [parameter.detach().clone() for parameter in sampler.base.parameters()]
    sampler.learn(negatives, scores)
    learns = base == "kbgan"
    assert any(not torch.equal(p, q) for p, q in zip(sampler.base.parameters(), before, strict=True)) == learns
    assert len(sampler.optimizers()) == 3 + learns
    assert ("base_reward" in sampler.end_epoch()) == learns


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(num_generated_entity=-1), "num_generated_entity=-1"),
        (dict(num_generated_entity=1.5), "num_generated_entity=1.5 must be a whole number"),
        (dict(num_generated_entity=0, num_generated_relation=0), "nothing to generate"),
        (dict(discriminator_steps=0), "discriminator_steps=0"),
        (dict(noise=-1.0), "noise=-1.0"),
        (dict(film_regularization=float("inf")), "film_regularization=inf must be finite"),
        (dict(output="relu"), "output='relu' is none of"),
        (dict(condition="sum"), "condition='sum' is none of"),
        (dict(inverse="minus"), "inverse='minus' is none of"),
        (dict(condition="rotation"), "does not fit DistMultInteraction"),
        (dict(base="dans"), "has a loss of its own"),
        (dict(base="nothing"), "base='nothing' is no sampler"),
        (dict(base_kwargs=dict(num_negs_per_pos=3)), "num_negs_per_pos"),
        (dict(base="shared", base_kwargs=dict(log_q_correction=True)), "log_q_correction=True"),
        (dict(generator_optimizer="nothing"), "generator_optimizer='nothing' cannot be built"),
        (dict(discriminator_optimizer_kwargs=dict(lr=-1.0)), "discriminator_optimizer='adam' cannot be built"),
        (dict(generator_optimizer_kwargs=dict(fused=True, foreach=True)), "generator_optimizer='adam' cannot be built"),
        (dict(generator_optimizer="lbfgs"), "generator_optimizer='lbfgs' cannot be built.*use 'adam'"),
        (dict(discriminator_optimizer="sparseadam"), "discriminator_optimizer='sparseadam' cannot be built"),
        (dict(film="no"), "film='no' must be True or False"),
        (dict(film_residual="no"), "film_residual='no' must be True or False"),
        (dict(auxiliary="no"), "auxiliary='no' must be True or False"),
        (dict(detach_fakes="no"), "detach_fakes='no' must be True or False"),
    ],
)
def test_errors(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_sampler(**kwargs)


def test_model_without_relations() -> None:
    with pytest.raises(ConfigurationError, match="model UM has no representations of relations"):
        make_sampler(make_model("um"))


def test_optimizers_of_the_paper() -> None:
    entity, relation, discriminator = make_sampler().optimizers()
    assert [(o.defaults["lr"], o.defaults["betas"]) for o in (entity, relation)] == [(1e-3, (0.5, 0.999))] * 2
    assert (discriminator.defaults["lr"], discriminator.defaults["betas"]) == (1e-4, (0.5, 0.999))
    assert isinstance(make_sampler(generator_optimizer="sgd").optimizers()[0], torch.optim.SGD)
    assert entity.defaults["fused"]
    for name in ("foreach", "differentiable"):
        assert make_sampler(generator_optimizer_kwargs={name: True}).optimizers()[0].defaults[name]


def test_not_a_number() -> None:
    model = make_model()
    sampler = make_sampler(model)
    weight = next(model.entity_representations[0].parameters())
    weight.data[0] = torch.nan
    negatives = draw(sampler, 100)
    with pytest.raises(NonFiniteSamplerError, match="DANSNegativeSampler"):
        sampler.learn(negatives, Scores(torch.zeros(100, 1), torch.zeros(100, 4)))


def test_distances() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(9, 3), torch.randn(20_000, 3)
    pairs = [float((x[i] - x[j]).norm()) for i in range(9) for j in range(i)]
    assert float(mean_distance(x)) == pytest.approx(sum(pairs) / len(pairs), rel=1e-5)
    assert float(mean_distance(x[:1])) == 0
    expected = sum(float((row - y).norm(dim=1).min()) for row in x) / 9
    assert float(nearest_distance(x, y)) == pytest.approx(expected, rel=1e-3)
    assert float(mean_distance(torch.arange(2000.0).unsqueeze(1))) == pytest.approx(2000 / 3, rel=0.01)


def test_metrics() -> None:
    model = make_model()
    sampler = make_sampler(model)
    negatives = draw(sampler)
    entities = sampler.generation.view.all_entities()
    scores = Scores(torch.zeros(20, 1), torch.zeros(20, 4), (torch.tensor([[1.0, -1, -1, -1, 1]]).expand(20, 5),))
    sampler.learn(negatives, scores)
    metrics = sampler.end_epoch()
    assert set(metrics) == {
        *("generator_loss_entity", "generator_loss_relation", "discriminator_loss", "auxiliary_loss"),
        *("diversity_entity", "diversity_relation", "real_diversity", "nearest", "outscoring"),
    }
    assert metrics["outscoring"] == pytest.approx(0.4)
    real = entities[torch.cat([negatives.positives[:, 2], negatives.positives[:, 0]])]
    assert metrics["real_diversity"] == pytest.approx(float(torch.pdist(real).mean()), rel=1e-5)
    assert sampler.end_epoch() == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(diversity_entity=1e-4, diversity_relation=1.0, real_diversity=1.0), "generator 'entity' are all alike"),
        (dict(diversity_entity=1.0, diversity_relation=1e-4, real_diversity=1.0), "generator 'relation' are all alike"),
        (dict(outscoring=0.95), "95% of them score higher"),
    ],
)
def test_one_warning(caplog: pytest.LogCaptureFixture, values: dict[str, float], message: str) -> None:
    diagnostics = Diagnostics()
    with caplog.at_level(logging.WARNING):
        for name in ("diversity_entity", "diversity_relation", "real_diversity", "outscoring"):
            diagnostics.add(name, torch.tensor(0.5))
        diagnostics.means()
        assert not caplog.records
        for epoch in range(10):
            # the row of bad epochs is broken once, after the second
            for name, value in values.items() if epoch != 2 else ():
                diagnostics.add(name, torch.tensor(value))
            diagnostics.means()
            assert len(caplog.records) == (epoch >= 5)
    assert [message in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("collapsed", [("entity", "relation"), ("relation",), ()])
def test_constant_generators_are_noticed(caplog: pytest.LogCaptureFixture, collapsed: tuple[str, ...]) -> None:
    """Each for itself: two which give one vector each, far from each other, have a distance in the mean."""
    sampler = make_sampler(generator_optimizer="sgd", generator_optimizer_kwargs=dict(lr=0.0), film_residual=True)
    for name in collapsed:
        last = sampler.networks.generators[name].last
        last.weight.data.zero_()
        last.bias.data.fill_(3.0 if name == "entity" else -3.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            negatives = draw(sampler, 50)
            sampler.learn(negatives, Scores(torch.zeros(50, 1), torch.zeros(50, 4), (torch.zeros(50, 5),)))
            metrics = sampler.end_epoch()
    for name in ("entity", "relation"):
        assert (metrics[f"diversity_{name}"] < 1e-3) == (name in collapsed)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["all alike" in message for message in warnings] == [True] * bool(collapsed)


@pytest.mark.parametrize("name", ["distmult", "rotate"])
def test_double_precision(name: str) -> None:
    """The networks are of the type of the entities, also if they come from a state."""
    model = make_model(name).double()
    sampler = make_sampler(model)
    negatives = draw(sampler)
    scores = sampler.score(Scorer(model), negatives)
    assert scores.extra[0].dtype == torch.double
    sampler.learn(negatives, scores.map(torch.Tensor.detach))
    unbound = DANSNegativeSampler(mapped_triples=GRAPH.mapped_triples)
    for each in (sampler, unbound):
        each.load_state_dict(sampler.state_dict())
        assert {parameter.dtype for parameter in each.parameters()} == {torch.double}


def test_batch_normalisation_sees_negatives_only() -> None:
    """A fake is scored on the side where it stands, and not on the other one, all of them in one batch."""
    model = make_model("conve", **MODELS["conve"], input_dropout=0.0, feature_map_dropout=0.0, output_dropout=0.0)
    sampler = make_sampler(model)
    negatives = draw(sampler, 6)
    norm = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    (scores,) = sampler.score(Scorer(model), negatives).extra
    assert int(norm.num_batches_tracked) == 3, "positives, negatives of ids, and generated ones"
    vectors, biases = (representation().detach() for representation in model.entity_representations)
    relations = model.relation_representations[0]().detach()
    rows: list[list[torch.Tensor]] = []
    for i, (h, r, t) in enumerate(negatives.positives.tolist()):
        for j in range(negatives.num_generated):
            fake, bias = sampler.generation.view.entity.split(negatives.generated[i, j])
            replaced = (fake, vectors[t], biases[t]) if negatives.is_head[i, j] else (vectors[h], fake, bias)
            rows.append([*replaced, relations[r]])
    heads, tails, of_tails, kinds = (torch.stack(column) for column in zip(*rows, strict=True))
    expected = model.interaction.score_hrt(h=heads, r=kinds, t=[tails, of_tails])
    torch.testing.assert_close(scores, expected.view(6, 5), rtol=1e-4, atol=1e-5)


def test_embedding_tables_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of positives, ids and fakes come from one look-up of the entities, and hence have one gradient."""
    model = make_model("complex")
    sampler = make_sampler(model)
    negatives = draw(sampler)
    calls = []
    forward = Embedding._plain_forward

    def count(self: Embedding, indices: torch.Tensor | None = None) -> torch.Tensor:
        calls.append(self)
        return forward(self, indices)

    monkeypatch.setattr(Embedding, "_plain_forward", count)
    sampler.score(Scorer(model), negatives)
    assert calls.count(model.entity_representations[0]) == 1


def test_replaced() -> None:
    """Scores of representations of entities are those of the entities."""
    for name in sorted(MODELS):
        model = make_model(name, **MODELS[name]).eval()
        scorer, positives = Scorer(model), GRAPH.mapped_triples[:5]
        slots = scorer.lookups.represent(*positives.T)
        ids = torch.randint(30, (5, 4))
        for column in (COLUMN_HEAD, COLUMN_TAIL):
            several = [ids if i == column else None for i in range(3)]
            candidates = scorer.lookups.represent(*(several[i] if i == column else positives[:, i] for i in range(3)))
            scores = scorer.replaced(slots, column, candidates[column])
            expected = scorer.candidates(positives, column, ids)
            torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_picture() -> None:
    """Tails of positives, fakes of both generators for tails, and random entities; nothing is changed by looking."""
    model = make_model()
    sampler = make_sampler(model, noise=0.0)
    state = copy.deepcopy(sampler.state_dict())
    positives = GRAPH.mapped_triples[:12]
    groups = sampler.picture(positives, num=4)
    assert same(sampler.state_dict(), state)
    entities = model.entity_representations[0]().detach()
    assert {name: tuple(x.shape) for name, x in groups.items()} == {
        "positives": (len(positives[:, 2].unique()), 6),
        "generated (entity)": (36, 6),
        "generated (relation)": (24, 6),
        "random": (48, 6),
    }
    conditions = entities[positives[:, 0]].repeat_interleave(3, dim=0)
    expected = generator_twin(sampler.networks.generators["entity"], conditions, conditions)
    torch.testing.assert_close(groups["generated (entity)"], expected)
    assert bool((torch.cdist(groups["random"], entities).amin(dim=1) < 1e-3).all())


@pytest.mark.parametrize("projection", get_args(Projection))
def test_plot(projection: Any) -> None:
    """Each group has its points; by principal components, distances in a plane are kept."""
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.normal(size=(5, 5)))[0][:2]
    groups = {"a": generator.normal(size=(9, 2)) @ axes, "b": (generator.normal(size=(4, 2)) + 1) @ axes}
    (panel,) = plot_entities(groups, projection).axes
    drawn = {line.get_label(): line.get_xydata() for line in panel.lines}
    assert {name: len(points) for name, points in drawn.items()} == {"a": 9, "b": 4}
    distances = [pdist(np.concatenate(list(x.values()))) for x in (groups, drawn)]
    assert np.allclose(*distances, rtol=1e-4) == (projection == "pca")


def test_errors_of_the_plot() -> None:
    with pytest.raises(ConfigurationError, match="projection='umap' is none of"):
        plot_entities({"a": np.zeros((5, 2))}, "umap")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="groups have 2 vectors"):
        plot_entities({"a": np.zeros((2, 2))})

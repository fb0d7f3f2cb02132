"""MMRNS's parts against their slow twins, and the distribution of its draws."""

from __future__ import annotations

import math

import mmrns_twins as twins
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from pykeen_advneg.filtering import TripleIndex
from pykeen_advneg.sampling.mmrns import likeness as likeness_module
from pykeen_advneg.sampling.mmrns.attention import CrossModalAttention
from pykeen_advneg.sampling.mmrns.contrast import (
    contrastive_loss,
    self_adversarial_loss,
    self_adversarial_weights,
    subsampling_weights,
)
from pykeen_advneg.sampling.mmrns.exploration import effective_size, exploration_factor, log_mixture
from pykeen_advneg.sampling.mmrns.gumbel import draw, draw_hard, straight_through
from pykeen_advneg.sampling.mmrns.likeness import Groups, Likeness, likeness

PARTS = {"text": (3, 6), "image": (5, 4)}


def make_network(parts: dict[str, tuple[int, int]] | None = None, seed: int = 0) -> CrossModalAttention:
    torch.manual_seed(seed)
    network = CrossModalAttention(8, 7, PARTS if parts is None else parts, dim=5, hidden_dim=6)
    with torch.no_grad():
        # else the constants of normalisation would go unnoticed
        network.norm.weight.uniform_(0.5, 2)
        network.norm.bias.uniform_(-1, 1)
    return network


def make_entities(n: int, parts: dict[str, tuple[int, int]], seed: int = 1) -> tuple[torch.Tensor, dict, dict]:
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(n, 8, generator=generator)
    masks = {name: torch.rand(n, count, generator=generator) < 0.7 for name, (count, _) in parts.items()}
    for mask in masks.values():
        mask[:, 0] = True
    features = {
        name: torch.randn(n, *size, generator=generator) * masks[name].unsqueeze(-1) for name, size in parts.items()
    }
    return embedding, features, masks


@pytest.mark.parametrize("parts", [PARTS, {"text": (3, 6)}, {"image": (5, 4)}, {"text": (1, 6)}, {}], ids=str)
@pytest.mark.parametrize("paired", [False, True])
def test_attention(parts: dict[str, tuple[int, int]], paired: bool) -> None:
    network = make_network(parts)
    embedding, features, masks = make_entities(4, parts)
    relations = torch.randn(4 if paired else 3, 7)
    contents = network.encode(embedding, features, masks)
    for name in network.branches:
        fast = network.branch(name, contents, relations, paired)
        for n in range(4):
            own = {key: x[n] for key, x in features.items()}
            mask = {key: x[n] for key, x in masks.items()}
            for m in [n] if paired else range(len(relations)):
                slow = twins.branch(network, name, embedding[n], own, mask, relations[m])
                torch.testing.assert_close(fast[n, 0 if paired else m], slow, rtol=1e-4, atol=1e-4)


def test_attention_without_any_part() -> None:
    """An entity which lacks a modality has finite vectors and gradients, which nobody looks at."""
    network = make_network()
    embedding, features, masks = make_entities(2, PARTS)
    masks["text"][0] = False
    features["text"][0] = 0
    contents = network.encode(embedding, features, masks)
    z = network.branch("text", contents, torch.randn(3, 7), paired=False)
    z.square().sum().backward()
    assert bool(torch.isfinite(z).all())
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)


def similarities(network: CrossModalAttention, requires_grad: bool = True) -> tuple[torch.Tensor, ...]:
    embedding, features, masks = make_entities(13, PARTS)
    embedding.requires_grad_(requires_grad)
    relations = torch.randn(3, 7, generator=torch.Generator().manual_seed(2)).requires_grad_(requires_grad)
    contents = network.encode(embedding, features, masks)
    groups = Groups.of(torch.tensor([9, 4, 9, 2, 4, 9]))
    found = likeness(network, contents.narrow(0, 7), contents.narrow(7, 13), relations, groups)
    return *found.values(), embedding, relations


def test_likeness() -> None:
    """Cosines, whose gradient takes the denominator for a constant."""
    network = make_network()
    *found, embedding, relations = similarities(network)
    _, features, masks = make_entities(13, PARTS)
    order = [2, 1, 2, 0, 1, 2]
    total = torch.zeros(())
    weights = torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(3))
    for i, name in enumerate(network.branches):
        for b in range(6):
            for j in range(7):
                own, candidate = (
                    twins.branch(
                        network,
                        name,
                        embedding[n],
                        {key: x[n] for key, x in features.items()},
                        {key: x[n] for key, x in masks.items()},
                        relations[order[b]],
                    )
                    for n in (7 + b, j)
                )
                value = own @ candidate / (own.norm() * candidate.norm()).detach()
                torch.testing.assert_close(found[i][b, j], value, rtol=1e-4, atol=1e-4)
                assert -1.0001 < value < 1.0001
                total = total + weights[i, b, j] * value
    fast = sum((weights[i] * found[i]).sum() for i in range(3))
    targets = [embedding, relations, *network.parameters()]
    for x, y in zip(torch.autograd.grad(fast, targets), torch.autograd.grad(total, targets), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


def test_blocks_and_recomputation(monkeypatch: pytest.MonkeyPatch) -> None:
    """However candidates are cut into blocks, and whether or not blocks are computed again, results are the same."""
    network = make_network()
    results = []
    for block, kept in ((2**20, 2**27), (1, 2**27), (40, 0), (2**20, 0)):
        monkeypatch.setattr(likeness_module, "BLOCK_ELEMENTS", block)
        monkeypatch.setattr(likeness_module, "KEPT_ELEMENTS", kept)
        *found, embedding, relations = similarities(network)
        loss = sum(((i + 1) * x * x).sum() for i, x in enumerate(found))
        results.append([*found, *torch.autograd.grad(loss, [embedding, relations, *network.parameters()])])
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_exploration_factor() -> None:
    published = {0: 10.0, 100: 1.78, 1000: 1.26, 10_000: 0.98, 99_999: 0.80}
    for step, factor in published.items():
        assert exploration_factor("logarithmic", 10.0, 0.1, 5, step) == pytest.approx(factor, abs=0.005)
    assert exploration_factor("geometric", 10.0, 0.1, 100, 0) == 10
    assert exploration_factor("geometric", 10.0, 0.1, 100, 50) == pytest.approx(1)
    assert exploration_factor("geometric", 10.0, 0.1, 100, 1000) == pytest.approx(0.1)
    assert exploration_factor("constant", 0.3, 0.1, 100, 1000) == 0.3


def test_mixture() -> None:
    torch.manual_seed(0)
    branches = [Likeness(torch.rand(4, 9) * 2 - 1) for _ in range(3)]
    log_q = log_mixture(branches, 0.3)
    for b in range(4):
        expected = twins.mixture([branch.values[b].tolist() for branch in branches], 0.3)
        torch.testing.assert_close(log_q[b].exp(), torch.tensor(expected))


def test_mixture_where_modalities_lack() -> None:
    """A candidate without a text has 1/P in its branch; an anchor without one leaves the branch out."""
    torch.manual_seed(0)
    structure, text = torch.rand(2, 4), torch.rand(2, 4)
    has, anchor_has = torch.tensor([True, False, True, True]), torch.tensor([True, False])
    q = log_mixture([Likeness(structure), Likeness(text, has, anchor_has)], 0.5).exp()
    of_structure = (structure / 0.5).softmax(dim=1)
    torch.testing.assert_close(q[1], of_structure[1])
    of_text = torch.full((4,), 0.25)
    of_text[has] = (text[0, has] / 0.5).softmax(dim=0) * 0.75
    torch.testing.assert_close(q[0], (of_structure[0] + of_text) / 2)
    nobody = log_mixture([Likeness(structure), Likeness(text, torch.zeros(4, dtype=torch.bool))], 0.5).exp()
    torch.testing.assert_close(nobody, (of_structure + 0.25) / 2)


@pytest.mark.parametrize("factor", [1e-4, 1e-2, 10.0])
def test_mixture_is_finite(factor: float) -> None:
    values = torch.tensor([[1.0, -1.0, 0.0], [-1.0, -1.0, -1.0]]).requires_grad_()
    other = torch.tensor([[-1.0, 1.0, 0.0], [1.0, -1.0, -1.0]])
    log_q = log_mixture([Likeness(values), Likeness(other)], factor)
    torch.testing.assert_close(log_q.logsumexp(dim=1), torch.zeros(2))
    log_q.sum().backward()
    assert values.grad is not None
    assert bool(torch.isfinite(values.grad).all())


def test_effective_size() -> None:
    allowed = torch.tensor([[True] * 4, [True, True, False, False], [False] * 4])
    sizes = effective_size(torch.tensor([[0.0] * 4, [0.0, -100.0, 5.0, 5.0], [0.0] * 4]), allowed)
    torch.testing.assert_close(sizes, torch.tensor([1.0, 0.5, 0.0]))


@pytest.mark.parametrize("function", [draw, draw_hard])
def test_first_draw_follows_the_distribution(function: object) -> None:
    torch.manual_seed(0)
    p = torch.tensor([0.4, 0.3, 0.2, 0.06, 0.04])
    log_q = p.log().expand(20_000, 5)
    draws = function(log_q, torch.ones(20_000, 5, dtype=torch.bool), 2)  # type: ignore[operator]
    first = torch.bincount(draws.places[:, 0], minlength=5)
    assert chisquare(first.numpy(), (p.double() / p.double().sum() * 20_000).numpy()).pvalue > 0.01
    # without replacement: the second, given the first one
    second = torch.bincount(draws.places[draws.places[:, 0] == 0, 1], minlength=5)[1:]
    rest = p[1:].double() / p[1:].double().sum()
    assert chisquare(second.numpy(), (rest * second.sum()).numpy()).pvalue > 0.01


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 8), st.booleans(), st.sampled_from([0.5, 1.0, 2.0]))
def test_draws(seed: int, p: int, k: int, hard: bool, temperature: float) -> None:
    """No candidate which is not allowed, none twice, and as many as there are; soft draws have their maximum there."""
    torch.manual_seed(seed)
    log_q = 40 * torch.randn(6, p)
    allowed = torch.rand(6, p) < 0.7
    draws = draw_hard(log_q, allowed, k) if hard else draw(log_q, allowed, k, temperature)
    for b in range(6):
        drawn = draws.places[b][draws.valid[b]].tolist()
        assert len(drawn) == len(set(drawn)) == min(k, int(allowed[b].sum()))
        assert all(allowed[b, j] for j in drawn)
        if draws.soft is None:
            continue
        for n in range(k):
            y = draws.soft[b, n]
            assert bool(torch.isfinite(y).all())
            assert y.sum() == pytest.approx(float(draws.valid[b, n]), abs=1e-5)
            assert not draws.valid[b, n] or y[draws.places[b, n]] == y.max()
            assert not y[~allowed[b]].any()


def test_straight_through() -> None:
    """The gradient of zeros is that of one-hots minus soft draws without gradient plus soft draws."""
    torch.manual_seed(0)
    log_q = torch.randn(1, 6).log_softmax(dim=1)
    allowed = torch.tensor([[True, True, True, True, False, True]])
    draws = draw(log_q, allowed, 3)
    assert draws.soft is not None
    pool, queries = torch.randn(6, 4), torch.randn(3, 4)
    upstream = torch.tensor([[0.3, -1.0, 2.0]])
    leaf = log_q.clone().requires_grad_()
    zeros = straight_through(leaf, draws.soft, queries.unsqueeze(0), pool)
    assert not zeros.any()
    (zeros * upstream).sum().backward()
    expected = twins.straight_through_gradient(
        None, draws.soft[0], pool, log_q[0], lambda n, e: upstream[0, n] * (queries[n] @ e)
    )
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad[0], expected)


def contrast_case() -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    sims = [(torch.rand(4, 8) * 2 - 1).requires_grad_() for _ in range(2)]
    is_known = torch.zeros(4, 8, dtype=torch.bool)
    is_known[0, [1, 4]] = is_known[1, 2] = is_known[3, 7] = True
    places = torch.tensor([[0, 2], [0, 1], [3, 6], [0, 5]])
    return sims, is_known, places, torch.rand(4, 2).softmax(dim=1)


def test_contrast_of_the_paper() -> None:
    sims, is_known, places, weights = contrast_case()
    drawn = torch.ones_like(places, dtype=torch.bool)
    fast = contrastive_loss([Likeness(x) for x in sims], is_known, places, weights, drawn, 100)
    slow = twins.contrast(sims, is_known, places, weights, 100)
    torch.testing.assert_close(fast, slow)
    for x, y in zip(torch.autograd.grad(fast, sims), torch.autograd.grad(slow, sims), strict=True):
        torch.testing.assert_close(x, y)


def test_contrast_of_the_released_code() -> None:
    sims, is_known, places, weights = contrast_case()
    drawn = torch.ones_like(places, dtype=torch.bool)
    branches = [Likeness(x) for x in sims]
    fast = contrastive_loss(branches, is_known, places, weights, drawn, 100, "released")
    torch.testing.assert_close(fast, twins.released(sims, is_known, places, weights))


def test_contrast_variants_weigh_drawn_negatives_the_other_way_round() -> None:
    """Of a drawn and an undrawn negative of equal similarity: 1 : 1/|E| in the paper, 1 : 1 at the most in the code."""
    ratios = {}
    for variant in ("paper", "released"):
        sim = torch.zeros(1, 10, requires_grad=True)
        is_known = torch.zeros(1, 10, dtype=torch.bool)
        is_known[0, 0] = True
        places, drawn = torch.tensor([[3, 4]]), torch.ones(1, 2, dtype=torch.bool)
        weights = torch.tensor([[0.5, 0.5]])
        loss = contrastive_loss([Likeness(sim)], is_known, places, weights, drawn, 1000, variant)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(loss, sim)
        assert gradient[0, 0] < 0 < gradient[0, 3]
        ratios[variant] = float(gradient[0, 3] / gradient[0, 5])
    assert ratios == {"paper": pytest.approx(500), "released": pytest.approx(0.5)}


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_contrast_without_answers(variant: str) -> None:
    """Where the pool has no answer, or nothing else, the loss is zero, and so is the gradient."""
    for is_known in (torch.zeros(2, 3, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)):
        sim = torch.randn(2, 3, requires_grad=True)
        places, drawn = torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 1, dtype=torch.bool)
        loss = contrastive_loss([Likeness(sim)], is_known, places, torch.zeros(2, 1), drawn, 9, variant)  # type: ignore[arg-type]
        loss.backward()
        assert loss == 0
        assert sim.grad is not None
        assert not sim.grad.any()


def test_contrast_where_modalities_lack() -> None:
    sims, is_known, places, weights = contrast_case()
    has = torch.tensor([True] * 7 + [False])
    anchor_has = torch.tensor([True, False, True, True])
    drawn = torch.ones_like(places, dtype=torch.bool)
    loss = contrastive_loss([Likeness(sims[0], has, anchor_has)], is_known, places, weights, drawn, 100)
    loss.backward()
    assert sims[0].grad is not None
    # the second anchor lacks it, and so does the only answer of the fourth; the third one has none
    assert sims[0].grad.any(dim=1).tolist() == [True, False, False, False]
    assert not sims[0].grad[:, 7].any()


def test_weights_and_loss() -> None:
    """Against Sun et al.'s loss, term by term."""
    torch.manual_seed(0)
    positives, negatives = torch.randn(3, 1), torch.randn(3, 4)
    mask = torch.tensor([[True] * 4, [True, False, True, False], [False] * 4])
    weights = self_adversarial_weights(negatives, 0.5, mask)
    u = torch.tensor([0.3, 0.2, 0.1])
    total = 0.0
    for i in range(3):
        total += float(u[i]) * -math.log(1 / (1 + math.exp(-(2 + float(positives[i])))))
        exps = {j: math.exp(0.5 * float(negatives[i, j])) for j in range(4) if mask[i, j]}
        for j, value in exps.items():
            w = value / sum(exps.values())
            assert weights[i, j] == pytest.approx(w)
            total += float(u[i]) * w * -math.log(1 / (1 + math.exp(2 + float(negatives[i, j]))))
    loss = self_adversarial_loss(positives, negatives, weights, u, margin=2.0)
    assert loss == pytest.approx(total / (2 * 0.6))
    assert not weights[~mask].any()


def test_subsampling() -> None:
    triples = torch.tensor([[0, 0, 1], [0, 0, 2], [3, 0, 1], [3, 1, 1]])
    u = subsampling_weights(TripleIndex(triples), triples)
    # counts start from 4: (0, 0) has two tails and (0, 1) two heads
    expected = [1 / math.sqrt(5 + 5), 1 / math.sqrt(5 + 4), 1 / math.sqrt(4 + 5), 1 / math.sqrt(4 + 4)]
    torch.testing.assert_close(u, torch.tensor(expected))

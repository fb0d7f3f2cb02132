"""EMU: masks, loss, parameters and the base, against numbers and formulas from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from pykeen.sampling import BasicNegativeSampler, negative_sampler_resolver
from scipy.stats import binomtest, chisquare, kstest
from torch.nn.functional import cross_entropy

pytest.register_assert_rewrite("pykeen_advneg.testing")

from pykeen_advneg.errors import ConfigurationError  # noqa: E402
from pykeen_advneg.negatives import Negatives  # noqa: E402
from pykeen_advneg.sampling.base import HasLoss, Learns, Scores  # noqa: E402
from pykeen_advneg.sampling.emu import EMUNegativeSampler, emu_loss, mutate  # noqa: E402
from pykeen_advneg.sampling.mutation import beta_weights  # noqa: E402
from pykeen_advneg.sampling.softmax import soft_cross_entropy  # noqa: E402
from pykeen_advneg.scoring import Scorer  # noqa: E402
from pykeen_advneg.testing import SamplerContract  # noqa: E402
from pykeen_advneg.testing.graphs import DENSE_GRAPH, GRAPH, make_model  # noqa: E402

#: a p-value below which a fixed seed would be bad luck indeed
RARE = 1e-3


def make(**kwargs: Any) -> EMUNegativeSampler:
    return EMUNegativeSampler(
        mapped_triples=GRAPH.mapped_triples,
        num_entities=GRAPH.num_entities,
        num_relations=GRAPH.num_relations,
        **{"num_negs_per_pos": 6, **kwargs},
    )


def masks(rate: float, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, **kwargs: Any) -> torch.Tensor:
    """What is kept: negatives are one and positives zero, in the real and in the imaginary part."""
    one = torch.ones(shape, dtype=dtype) * (1 + 1j if dtype.is_complex else 1)
    generator = torch.Generator().manual_seed(0)
    x = mutate(one, torch.zeros(shape[0], 1, *shape[2:], dtype=dtype), rate, generator=generator, **kwargs)
    return torch.view_as_real(x) if x.is_complex() else x


@pytest.mark.parametrize("rate", [0.1, 0.39, 0.8])
def test_rate(rate: float) -> None:
    kept = masks(rate, (20, 30, 40))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert binomtest(int(kept.sum()), kept.numel(), rate).pvalue > RARE


@pytest.mark.parametrize("first", [(0, 0, 0), (3, 7, 11)])
def test_independence(first: tuple[int, int, int]) -> None:
    """Masks of two dimensions, of two negatives and of two positives are independent."""
    kept = masks(0.39, (40, 40, 40))
    i, j, d = first
    pairs = [(kept[..., d], kept[..., d + 1]), (kept[:, j], kept[:, j + 1]), (kept[i], kept[i + 1])]
    for x, y in pairs:
        counts = torch.bincount((2 * x + y).flatten().long(), minlength=4).tolist()
        expected = [sum(counts) * p for p in (0.61 * 0.61, 0.61 * 0.39, 0.39 * 0.61, 0.39 * 0.39)]
        assert chisquare(counts, expected).pvalue > RARE


def test_complex_parts() -> None:
    """Real and imaginary part are kept independently, or together."""
    real, imaginary = masks(0.39, (20, 30, 20), torch.complex64).unbind(-1)
    counts = torch.bincount((2 * real + imaginary).flatten().long(), minlength=4).tolist()
    assert chisquare(counts, [12000 * p for p in (0.61**2, 0.61 * 0.39, 0.61 * 0.39, 0.39**2)]).pvalue > RARE
    real, imaginary = masks(0.39, (20, 30, 20), torch.complex64, tied=True).unbind(-1)
    assert torch.equal(real, imaginary)
    assert binomtest(int(real.sum()), real.numel(), 0.39).pvalue > RARE


def test_mixup_law() -> None:
    """One share for all components of a negative, of the distribution Beta(2, 1)."""
    weights = beta_weights(
        [torch.zeros(40, 50, 3), torch.zeros(40, 50, 2, 2, dtype=torch.complex64)], torch.Generator()
    )
    shares = weights[0][..., 0]
    assert torch.equal(weights[0], shares.unsqueeze(-1).expand(40, 50, 3))
    assert torch.equal(torch.view_as_real(weights[1]), shares.view(40, 50, 1, 1, 1).expand(40, 50, 2, 2, 2))
    assert kstest(shares.flatten().numpy(), "beta", args=(2, 1)).pvalue > RARE


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_mutate(dtype: torch.dtype) -> None:
    """Each component is that of the negative or of the positive, and gradients go where it came from."""
    torch.manual_seed(0)
    n, p = (torch.randn(3, k, 5, dtype=dtype, requires_grad=True) for k in (4, 1))
    mutated = mutate(n, p, 0.5)
    real = [torch.view_as_real(x) if x.is_complex() else x for x in (mutated, n, p)]
    is_negative, is_positive = real[0] == real[1], real[0] == real[2]
    assert bool((is_negative ^ is_positive).all())
    assert 0 < int(is_negative.sum()) < is_negative.numel()
    real[0].sum().backward()
    gradients = [torch.view_as_real(x.grad) if x.is_complex() else x.grad for x in (n, p)]
    assert torch.equal(gradients[0], is_negative.to(gradients[0].dtype))
    assert torch.equal(gradients[1], is_positive.to(gradients[1].dtype).sum(dim=1, keepdim=True))
    assert torch.equal(mutate(n, p, 1.0), n)
    assert torch.equal(mutate(n, p, 0.0), p.expand_as(n))


def test_golden_loss() -> None:
    """The numbers were computed by hand from the formula."""
    scores = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    assert emu_loss(scores, scores, 0.53, 0.0).item() == pytest.approx(1.1732023, abs=1e-6)
    loss = emu_loss(scores, scores, 0.53, 0.11)
    assert loss.item() == pytest.approx(1.2560442, abs=1e-6)
    loss.backward()
    expected = torch.tensor([[0.0742, 0.0070, -0.0812], [-0.1150, 0.0575, 0.0575]])
    torch.testing.assert_close(scores.grad, expected, atol=6e-5, rtol=0)


def test_loss_is_that_of_torch() -> None:
    torch.manual_seed(0)
    plain, mutated = torch.randn(2, 7, 5, dtype=torch.float64)
    labels = torch.tensor([1.0] + [0.3] * 4, dtype=torch.float64).expand(7, 5)
    expected = cross_entropy(mutated, labels) / 4 + 0.2 * cross_entropy(plain, torch.zeros(7, dtype=torch.long))
    torch.testing.assert_close(emu_loss(plain, mutated, 0.3, 0.2), expected)


def test_equal_scores() -> None:
    """The limit of the rate 0: CE(p2, y) = S log(1 + K)."""
    k, beta = 9, 0.53
    scores = torch.randn(4, 1).expand(4, 1 + k)
    assert emu_loss(scores, scores, beta, 0.0).item() == pytest.approx((1 + k * beta) * math.log(1 + k) / k, rel=1e-5)


def test_margin() -> None:
    """The soft term has no gradient where the positive is above all mutated negatives by -log of their label."""
    scores = torch.tensor([[0.0, *[math.log(0.53)] * 6]], dtype=torch.float64, requires_grad=True)
    emu_loss(scores, scores, 0.53, 0.0).backward()
    assert scores.grad.abs().max() < 1e-12


@pytest.mark.parametrize("label", [0.0, 0.4])
@pytest.mark.parametrize("offset", [-1e4, 0.0, 1e4])
def test_large_scores(label: float, offset: float) -> None:
    """A common offset changes nothing, neither do masked scores of any size, in single precision."""
    torch.manual_seed(0)
    scores = torch.randn(6, 9).mul(8).round().div(8)
    mask = torch.rand(6, 8) < 0.6
    positives, negatives = scores[:, :1], scores[:, 1:]
    filled = torch.where(mask, negatives + offset, 1e9 * torch.randn(6, 8))
    shifted = [(positives + offset).requires_grad_(), filled.requires_grad_()]
    loss = soft_cross_entropy(*shifted, label, mask)
    kept = [torch.cat([positives[i].double(), negatives[i, mask[i]].double()]).requires_grad_() for i in range(6)]
    labels = [torch.full_like(row, label).index_fill(0, torch.tensor(0), 1.0) for row in kept]
    expected = torch.stack([cross_entropy(row, y) for row, y in zip(kept, labels, strict=True)])
    torch.testing.assert_close(loss, expected.float(), rtol=1e-5, atol=1e-5)
    loss.sum().backward()
    expected.sum().backward()
    gradients = torch.cat([shifted[0].grad, shifted[1].grad], dim=1)
    for i, row in enumerate(kept):
        torch.testing.assert_close(gradients[i, 1:][mask[i]], row.grad[1:].float(), rtol=1e-4, atol=1e-6)
        assert gradients[i, 0].item() == pytest.approx(row.grad[0].item(), rel=1e-4, abs=1e-6)
    assert bool((gradients[:, 1:][~mask] == 0).all())


def test_half_precision() -> None:
    """Many terms are summed up in single precision: what is off is the rounding of the scores alone."""
    torch.manual_seed(0)
    scores = torch.randn(4, 513).bfloat16()
    halves, wholes = (scores.to(dtype).requires_grad_() for dtype in (torch.bfloat16, torch.float64))
    losses = [soft_cross_entropy(x[:, :1], x[:, 1:], 0.53) for x in (halves, wholes)]
    torch.testing.assert_close(losses[0], losses[1].float(), rtol=1e-5, atol=0)
    gradients = [torch.autograd.grad(loss.sum(), x)[0] for loss, x in zip(losses, (halves, wholes), strict=True)]
    torch.testing.assert_close(gradients[0], gradients[1].bfloat16(), rtol=1e-2, atol=1e-3)


def test_no_negatives() -> None:
    """Without negatives there is nothing to tell apart, with or without a mask."""
    scores = torch.randn(3, 1)
    for mask in (None, torch.zeros(3, 0, dtype=torch.bool)):
        assert emu_loss(scores, scores, 0.53, 0.11, mask).item() == pytest.approx(0.0, abs=1e-6)


def test_masked_negatives() -> None:
    """Rows are averaged, each over the negatives which count, as if the others were not there; a row may have none."""
    torch.manual_seed(0)
    plain, mutated = (torch.randn(5, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = torch.rand(5, 6) < 0.5
    mask[2], mask[3] = False, True
    loss = emu_loss(plain, mutated, 0.4, 0.3, mask)
    rows = []
    for i in range(5):
        kept = torch.cat([torch.ones(1, dtype=torch.bool), mask[i]])
        n = int(mask[i].sum())
        soft = cross_entropy(mutated[i, kept][None], torch.tensor([[1.0] + [0.4] * n], dtype=torch.float64))
        hard = cross_entropy(plain[i, kept][None], torch.zeros(1, dtype=torch.long))
        rows.append(soft / max(n, 1) + 0.3 * hard)
    torch.testing.assert_close(loss, torch.stack(rows).mean())
    actual = torch.autograd.grad(loss, [plain, mutated])
    expected = torch.autograd.grad(torch.stack(rows).mean(), [plain, mutated])
    torch.testing.assert_close(actual, expected)
    assert all(bool((gradient[:, 1:][~mask] == 0).all()) for gradient in actual)


def test_two_masks() -> None:
    torch.manual_seed(0)
    plain, mutated = torch.randn(2, 4, 6, dtype=torch.float64)
    mask, plain_mask = (torch.rand(4, 5) < 0.5 for _ in range(2))
    one = emu_loss(plain, mutated, 0.4, 0.0, mask, plain_mask)
    other = emu_loss(plain, mutated, 0.4, 1.0, mask, plain_mask)
    kept = plain.masked_fill(torch.cat([torch.zeros(4, 1, dtype=torch.bool), ~plain_mask], dim=1), -torch.inf)
    torch.testing.assert_close(other - one, cross_entropy(kept, torch.zeros(4, dtype=torch.long)))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(mutation_rate="0.3"), r"mutation_rate='0\.3' must be a number from 0 to 1"),
        (dict(num_negs_per_pos="8"), r"num_negs_per_pos='8' must be a whole number of at least 1"),
        (dict(ce_weight="1"), r"ce_weight='1' must be a number of at least 0"),
        (dict(filtered="no"), r"filtered='no' must be True or False"),
        (dict(mutation_rate=True), "mutation_rate=True must be a number from 0 to 1"),
        (dict(tied="no"), "tied='no' must be True or False"),
        (dict(independent_passes="no"), "independent_passes='no' must be True or False"),
        (dict(mutation_rate=1.5), r"mutation_rate=1\.5 must be a number from 0 to 1"),
        (dict(mutation_rate=float("nan")), "mutation_rate=nan"),
        (dict(negative_label=-0.1), r"negative_label=-0\.1 must be a number from 0 to 1"),
        (dict(ce_weight=-1), "ce_weight=-1"),
        (dict(ce_weight=float("inf")), "ce_weight=inf must be finite"),
        (dict(variant="cutmix"), r"variant='cutmix' is none of \('emu', 'mixup', 'labels_only', 'none'\)"),
        (dict(masks="none"), "masks='none' is none of"),
        (dict(objective="kge"), "objective='kge' is none of"),
        (dict(objective="host", independent_passes=True), "independent_passes=True is about the loss of EMU"),
        (dict(objective="host", variant="labels_only"), "variant='labels_only' is about the loss of EMU"),
        (dict(base="emu"), "base='emu' has a loss of its own"),
        (dict(base="nosuch"), r"base='nosuch' is no sampler; choose one of .*\]\.$"),
        (dict(base="share"), r"base='share' is no sampler; choose one of .* Did you mean shared\?"),
        (dict(base_kwargs=dict(chunk_siz=1)), r"base_kwargs has the unknown keywords .* Did you mean chunk_size\?"),
        (dict(base_kwargs=dict(zzz=1)), r"base_kwargs has the unknown keywords \['zzz'\]; .*\]\.$"),
        (dict(base_kwargs=dict(num_negs_per_pos=3)), r"\['num_negs_per_pos'\], which the base gets from the sampler"),
        (dict(base_kwargs=dict(log_q_correction=True)), "log_q_correction=True, a correction"),
        (dict(base_kwargs=dict(chunk_size=0)), "chunk_size=0"),
        (dict(base=BasicNegativeSampler(mapped_triples=GRAPH.mapped_triples)), "give its name or class"),
    ],
)
def test_errors(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        make(**kwargs)
    assert "\n" not in str(caught.value)


def test_rate_of_the_function() -> None:
    with pytest.raises(ConfigurationError, match="rate=2 must be a number from 0 to 1"):
        mutate(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), 2)


def scored(sampler: EMUNegativeSampler, model_name: str = "distmult") -> tuple[Negatives, Scores]:
    torch.manual_seed(0)
    negatives = sampler.draw(GRAPH.mapped_triples[:20])
    return negatives, sampler.score(Scorer(make_model(model_name)), negatives)


def no_host(scores: Scores) -> torch.Tensor:
    raise AssertionError("the loss of EMU does not ask the host")


@pytest.mark.parametrize("variant", ["emu", "mixup", "labels_only", "none"])
def test_variants(variant: Any) -> None:
    """The loss of a sampler is the formula on its scores; without a mutation the scores are the plain ones."""
    sampler = make(variant=variant, negative_label=0.4, ce_weight=0.3)
    negatives, scores = scored(sampler)
    (mutated,) = scores.extra
    assert torch.equal(mutated, scores.negatives) == (variant in {"labels_only", "none"})
    positives, plain = Scorer(make_model("distmult")).both(negatives)
    torch.testing.assert_close((scores.positives, scores.negatives), (positives, plain))
    both = [torch.cat([positives, x], dim=1) for x in (plain, mutated)]
    loss = sampler.loss(negatives, scores, no_host)
    if variant == "none":
        mask = torch.cat([torch.ones_like(positives, dtype=torch.bool), negatives.mask], dim=1)
        expected = cross_entropy(both[0].masked_fill(~mask, -torch.inf), torch.zeros(20, dtype=torch.long))
    else:
        expected = emu_loss(*both, 0.4, 0.3, negatives.mask)
    torch.testing.assert_close(loss, expected)


def test_host_objective() -> None:
    """The model's loss gets the mutated scores in the place of those of the negatives."""
    sampler = make(objective="host")
    negatives, scores = scored(sampler)
    seen = []
    assert sampler.loss(negatives, scores, lambda x: seen.append(x) or x.negatives.sum()) == scores.extra[0].sum()
    (given,) = seen
    assert given.positives is scores.positives
    assert given.negatives is scores.extra[0]


@pytest.mark.parametrize("variant", ["emu", "labels_only"])
def test_independent_passes(variant: Any) -> None:
    """Plain and mutated scores belong to different ids, those of the first and of the second half."""
    sampler = make(variant=variant, mutation_rate=1.0, independent_passes=True)
    negatives, scores = scored(sampler)
    assert negatives.shape == (20, 12)
    expected = Scorer(make_model("distmult")).negatives(negatives)
    torch.testing.assert_close(scores.negatives, expected)
    torch.testing.assert_close(scores.extra[0], expected[:, 6:])
    plain, mutated = (torch.cat([scores.positives, x], dim=1) for x in (expected[:, :6], expected[:, 6:]))
    loss = emu_loss(plain, mutated, 0.53, 0.11, negatives.mask[:, 6:], negatives.mask[:, :6])
    torch.testing.assert_close(sampler.loss(negatives, scores, no_host), loss)


BASES = sorted({
    negative_sampler_resolver.normalize_cls(cls) for cls in negative_sampler_resolver if not issubclass(cls, HasLoss)
})  # fmt: skip


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("masks", ["shared", "independent"])
def test_bases(base: str, filtered: bool, masks: Any) -> None:
    """Every registered sampler can be the base; known triples count nowhere."""
    torch.manual_seed(0)
    sampler = EMUNegativeSampler(
        mapped_triples=DENSE_GRAPH.mapped_triples,
        num_entities=8,
        num_relations=2,
        num_negs_per_pos=4,
        base=base,
        masks=masks,
        filtered=filtered,
        filterer="pythonset" if filtered else None,
    )
    model = make_model("complex", DENSE_GRAPH)
    sampler.bind(Scorer(model))
    negatives = sampler.draw(DENSE_GRAPH.mapped_triples[:50])
    assert negatives.shape == (50, 4)
    if filtered:
        known = set(map(tuple, DENSE_GRAPH.mapped_triples.tolist()))
        assert not known.intersection(map(tuple, negatives.triples[negatives.mask].tolist()))
        assert bool((~negatives.mask).all(dim=1).any()), "some positive has no negative at all"
    loss = sampler.loss(negatives, sampler.score(Scorer(model), negatives), no_host)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_stock_base_stays_where_it_is() -> None:
    """PyKEEN's samplers have tables which are no buffers; they are no part of the module, those of ours are."""
    assert not list(make(base="bernoulli", filtered=True).buffers())
    assert dict(make(base="kbgan").named_parameters())


class TestOverKBGAN(SamplerContract):
    """All that holds for a sampler holds with a base that learns."""

    cls = EMUNegativeSampler
    kwargs: ClassVar[Mapping[str, Any]] = {
        "base": "kbgan",
        "base_kwargs": {"num_candidates": 5, "generator_kwargs": {"embedding_dim": 6}},
    }
    tiny_kwargs: ClassVar[Mapping[str, Any]] = {"base_kwargs": {"num_candidates": 2}}


def test_learning_base() -> None:
    """A base which learns gets the plain scores of what it has drawn, and the loop's clipping."""
    sampler = make(base="kbgan")
    assert isinstance(sampler.base, Learns)
    assert list(sampler.optimizers()) == list(sampler.base.optimizers())
    seen: list[Scores] = []
    learn = sampler.base.learn
    sampler.base.learn = lambda negatives, scores: (seen.append(scores), learn(negatives, scores))  # type: ignore
    sampler.clip_gradients = clip = lambda parameters: None
    negatives, scores = scored(sampler)
    sampler.learn(negatives, scores.map(torch.Tensor.detach))
    assert torch.equal(seen[0].negatives, scores.negatives)
    assert sampler.base.clip_gradients is clip
    assert set(sampler.end_epoch()) >= {"reward", "entropy"}
    sampler.warm_up(GRAPH.mapped_triples[:10])
    assert any(optimizer.state for optimizer in sampler.optimizers())
    sampler.end_warm_up()
    assert not any(optimizer.state for optimizer in sampler.optimizers())

"""The loss of a batch with masked negatives against PyKEEN's on the others, and the correction of a sampled softmax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import make_loop, make_model, train
from pykeen.losses import (
    CrossEntropyLoss,
    InfoNCELoss,
    Loss,
    NoSampleWeightSupportError,
    UnsupportedLabelSmoothingError,
    loss_resolver,
)
from pykeen.training import TrainingCallback
from pykeen.triples import CoreTriplesFactory
from torch import Tensor

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.sampling.shared import SharedNegativeSampler
from pykeen_advneg.training.losses import check_correction, slcwa_loss

B, K, NUM_ENTITIES = 6, 5, 9

#: settings which change the form of a loss
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "doublemargin": [{}, {"positive_negative_balance": 0.2, "margin_activation": "softplus"}],
    "focal": [{}, {"alpha": 0.3}],
    "infonce": [{}, {"margin": 0.5, "log_adversarial_temperature": 0.7}],
    "marginranking": [{}, {"margin": 3.0}],
    "nssa": [{}, {"margin": 1.0, "adversarial_temperature": 0.3}],
}
REDUCTIONS = ("mean", "sum")
NAMES = sorted(loss_resolver.lookup_dict)
every_loss = pytest.mark.parametrize(
    ("name", "kwargs"),
    [(name, {**kwargs, "reduction": r}) for name in NAMES for kwargs in ARGUMENTS.get(name, [{}]) for r in REDUCTIONS],
    ids=str,
)


def masks() -> dict[str, Tensor | None]:
    mask = torch.rand(B, K, generator=torch.Generator().manual_seed(0)) < 0.6
    row, most = mask.clone(), torch.zeros_like(mask)
    row[2] = False
    most[1, 3] = True
    return {"none": None, "random": mask, "row": row, "one": most, "full": mask | True, "nothing": mask & False}


MASKS = masks()


def make_negatives(mask: Tensor | None, **kwargs: Any) -> Negatives:
    ids, column = torch.zeros(B, K, dtype=torch.long), torch.full((B, 1), 2)
    return Negatives(torch.zeros(B, 3, dtype=torch.long), ids, column, mask, **kwargs)


def evaluate(function: Callable[[Tensor, Tensor], Tensor], scale: float = 1.0) -> list[Tensor]:
    """The value, and the gradients with respect to the scores of positives and negatives."""
    generator = torch.Generator().manual_seed(1)
    positives, negatives = (
        (scale * torch.randn(B, n, generator=generator, dtype=torch.double)).requires_grad_() for n in (1, K)
    )
    value = function(positives, negatives)
    gradients = torch.autograd.grad(value, (positives, negatives), allow_unused=True, materialize_grads=True)
    return [value.detach(), *gradients]


def host(loss: Loss, mask: Tensor | None, scale: float = 1.0, neg_weights: Any = None, **kwargs: Any) -> list[Tensor]:
    """As PyKEEN's loop calls it, whose negatives come without the masked ones."""
    weights = neg_weights if mask is None or neg_weights is None else neg_weights[mask]

    def function(positives: Tensor, negatives: Tensor) -> Tensor:
        kept = negatives if mask is None else negatives[mask]
        options = {"label_smoothing": 0.0, "num_entities": NUM_ENTITIES, "neg_weights": weights, **kwargs}
        return loss.process_slcwa_scores(positives, kept, batch_filter=mask, **options)

    return evaluate(function, scale)


def ours(loss: Loss, mask: Tensor | None, scale: float = 1.0, **kwargs: Any) -> list[Tensor]:
    def function(positives: Tensor, negatives: Tensor) -> Tensor:
        return slcwa_loss(loss, Scores(positives, negatives), make_negatives(mask), num_entities=NUM_ENTITIES, **kwargs)

    return evaluate(function, scale)


def check(fast: list[Tensor], slow: list[Tensor]) -> None:
    for x, y in zip(fast, slow, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", MASKS)
@every_loss
def test_value_and_gradients(name: str, kwargs: dict[str, Any], case: str) -> None:
    """Those of PyKEEN; nothing where PyKEEN takes the mean of no pair at all."""
    loss, mask = loss_resolver.make(name, kwargs), MASKS[case]
    for scale in (1.0, 30.0):
        fast, slow = ours(loss, mask, scale), host(loss, mask, scale)
        if not bool(slow[0].isfinite()):
            assert case == "nothing"
            slow = [torch.zeros_like(x) for x in slow]
        check(fast, slow)


@given(data=st.data(), name=st.sampled_from(NAMES), reduction=st.sampled_from(["mean", "sum"]))
@settings(max_examples=100, deadline=None)
def test_any_mask(data: st.DataObject, name: str, reduction: str) -> None:
    cells = data.draw(st.lists(st.booleans(), min_size=B * K, max_size=B * K).filter(any))
    loss, mask = loss_resolver.make(name, {"reduction": reduction}), torch.tensor(cells).view(B, K)
    check(ours(loss, mask), host(loss, mask))


@every_loss
def test_score_of_a_masked_negative_does_not_matter(name: str, kwargs: dict[str, Any]) -> None:
    """Be it no number at all."""
    loss = loss_resolver.make(name, kwargs)
    mask = MASKS["row"]
    assert mask is not None
    for value in (float("inf"), float("-inf"), float("nan"), 1e300):

        def function(positives: Tensor, negatives: Tensor, value: float = value) -> Tensor:
            scores = Scores(positives, torch.where(mask, negatives, value))
            return slcwa_loss(loss, scores, make_negatives(mask), num_entities=NUM_ENTITIES)

        check(evaluate(function), host(loss, mask))


def test_single_precision() -> None:
    """Sums of masked terms do not overflow, and their share in a mean is exact."""
    mask = MASKS["row"]
    assert mask is not None
    for name in NAMES:
        loss = loss_resolver.make(name)
        scores = Scores(torch.linspace(-3, 3, B).unsqueeze(1), torch.linspace(-5, 5, B * K).view(B, K))
        value = slcwa_loss(loss, scores, make_negatives(mask), num_entities=NUM_ENTITIES)
        expected = loss.process_slcwa_scores(scores.positives, scores.negatives[mask], batch_filter=mask)
        torch.testing.assert_close(value, expected)


def options() -> Iterator[tuple[str, dict[str, Any]]]:
    generator = torch.Generator().manual_seed(2)
    pos, neg = torch.rand(B, generator=generator).double(), torch.rand(B, K, generator=generator).double()
    yield "smoothing", {"label_smoothing": 0.2}
    yield "weights", {"pos_weights": pos, "neg_weights": neg}
    yield "positive weights", {"pos_weights": pos}
    yield "negative weights", {"neg_weights": neg}
    yield "all", {"label_smoothing": 0.2, "pos_weights": pos, "neg_weights": neg}


@pytest.mark.parametrize(("option", "given"), list(options()), ids=lambda x: x if isinstance(x, str) else "")
@every_loss
def test_smoothing_and_weights(name: str, kwargs: dict[str, Any], option: str, given: dict[str, Any]) -> None:
    """Go the host's way, whose errors remain where a loss has no such thing."""
    loss = loss_resolver.make(name, kwargs)
    for case in ("none", "random", "row"):
        try:
            slow = host(loss, MASKS[case], **given)
        except (NoSampleWeightSupportError, UnsupportedLabelSmoothingError) as error:
            with pytest.raises(type(error)):
                ours(loss, MASKS[case], **given)
            continue
        for x, y in zip(ours(loss, MASKS[case], **given), slow, strict=True):
            # a softmax with smoothed labels and masked negatives is infinite in PyKEEN, too
            torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12, equal_nan=True)


class OwnLoss(CrossEntropyLoss):
    """A third party's, of which nothing is known."""

    def process_slcwa_scores(self, positive_scores: Tensor, negative_scores: Tensor, **kwargs: Any) -> Tensor:
        assert negative_scores.ndim == 1
        return negative_scores.square().sum() + positive_scores.sum()


def test_losses_of_others() -> None:
    """Get what PyKEEN's loop gives them."""
    mask = MASKS["random"]
    check(ours(OwnLoss(), mask), host(OwnLoss(), mask))


# ---------------------------------------------------------------------------------------------------- the correction


def small_graph() -> CoreTriplesFactory:
    """Every entity has a degree, and degrees differ by far."""
    generator = torch.Generator().manual_seed(0)
    heads = (torch.rand(30, generator=generator) ** 3 * NUM_ENTITIES).long()
    triples = torch.stack([heads, torch.zeros_like(heads), torch.arange(30) % NUM_ENTITIES], dim=1).unique(dim=0)
    return CoreTriplesFactory.create(triples, num_entities=NUM_ENTITIES, num_relations=1)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("loss", "margin", "temperature"),
    [
        (CrossEntropyLoss(), 0.0, 1.0),
        (InfoNCELoss(margin=0.3, log_adversarial_temperature=0.5), 0.3, torch.tensor(0.5).exp().item()),
    ],
    ids=["crossentropy", "infonce"],
)
def test_partition_function(loss: Loss, margin: float, temperature: float, share: float) -> None:
    """In expectation that of the softmax over all entities, whatever the distribution of the negatives.

    The batch is the whole training set, so that in-batch entities are drawn by their exact degrees. The mean over
    the draws has to lie within five of its standard errors, which are less than 3% of the value.
    """
    graph = small_graph()
    positives, draws, k = graph.mapped_triples, 3000, 8
    n = len(positives)
    sampler = SharedNegativeSampler(
        mapped_triples=positives,
        num_entities=NUM_ENTITIES,
        num_negs_per_pos=k,
        chunk_size=7,
        in_batch_share=share,
        side="tail",
        log_q_correction=True,
    )
    torch.manual_seed(0)
    scores = torch.randn(n, NUM_ENTITIES, dtype=torch.double)
    tails = positives[:, 2:]
    true = scores.gather(1, tails)
    # the loss of each positive by itself
    loss.reduction = "none"
    estimates = torch.empty(draws, n, dtype=torch.double)
    for estimate in estimates:
        negatives = sampler.draw(positives)
        batch = Scores(true, scores.gather(1, negatives.dense_ids))
        row_losses = slcwa_loss(loss, batch, negatives, num_entities=NUM_ENTITIES)
        estimate[:] = (row_losses + ((true - margin) / temperature).squeeze(1)).exp()
    loss.reduction = "mean"
    terms = (scores / temperature).exp().scatter(1, tails, ((true - margin) / temperature).exp())
    error = estimates.std(dim=0) / draws**0.5
    assert bool((error < 0.03 * terms.sum(dim=1)).all())
    assert bool(((estimates.mean(dim=0) - terms.sum(dim=1)).abs() < 5 * error).all())


def test_correction_by_hand() -> None:
    """One row of ids for two positives each, one of the ids masked."""
    log_q = torch.tensor([[0.1, -2.0], [0.7, 0.3]], dtype=torch.double)
    mask = torch.tensor([[True, True], [True, False], [False, True]])
    negatives = Negatives(
        torch.zeros(3, 3, dtype=torch.long),
        torch.zeros(2, 2, dtype=torch.long),
        torch.full((3, 1), 2),
        mask,
        chunk_size=2,
        log_q=log_q,
    )
    positive = torch.tensor([[0.5], [1.0], [-1.0]], dtype=torch.double)
    negative = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=torch.double)
    rows = [
        torch.tensor([0.5, 1.0 - 0.1, 2.0 + 2.0]),
        torch.tensor([1.0, 3.0 - 0.1]),
        torch.tensor([-1.0, 6.0 - 0.3]),
    ]
    expected = sum(row.double().logsumexp(dim=0) - row[0] for row in rows) / 3
    value = slcwa_loss(CrossEntropyLoss(), Scores(positive, negative), negatives, num_entities=NUM_ENTITIES)
    torch.testing.assert_close(value, torch.as_tensor(expected).double(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_losses_with_a_correction(name: str) -> None:
    """Those which are a softmax over the positive and its negatives."""
    if name in {"crossentropy", "infonce"}:
        check_correction(loss_resolver.make(name))
    else:
        cls = loss_resolver.lookup(name).__name__
        with pytest.raises(ConfigurationError, match=rf"log_q_correction=True.*loss={cls}.*crossentropy"):
            check_correction(loss_resolver.make(name))


class Batches(TrainingCallback):
    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def pre_batch(self, **kwargs: Any) -> None:
        self.number += 1


def test_correction_is_refused_before_training() -> None:
    batches, model = Batches(), make_model(loss="marginranking")
    loop = make_loop("shared", {"log_q_correction": True}, model)
    with pytest.raises(ConfigurationError, match="log_q_correction=True"):
        train(loop, 1, callbacks=[batches])
    assert batches.number == 0


def test_correction_is_refused_in_pretraining() -> None:
    batches, model = Batches(), make_model(loss="marginranking")
    sampler = {"pretraining_sampler": "shared", "pretraining_sampler_kwargs": {"log_q_correction": True}}
    loop = make_loop("basic", model=model, pretraining_epochs=1, **sampler)
    with pytest.raises(ConfigurationError, match="log_q_correction=True"):
        train(loop, 1, callbacks=[batches])
    assert batches.number == 0


def test_correction_in_training() -> None:
    """It changes the loss, and a run goes through."""
    losses = []
    for correction in (False, True):
        loop = make_loop("shared", {"log_q_correction": correction, "num_negs_per_pos": 5}, make_model(loss="infonce"))
        losses.append(train(loop, 2))
    assert losses[0][0] != pytest.approx(losses[1][0], rel=1e-2)
    assert losses[1][1] < losses[1][0]

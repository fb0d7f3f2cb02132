"""EMU in whole runs: by name through the pipeline, in sub-batches, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from pykeen.pipeline import pipeline
from pykeen.typing import FloatTensor
from pykeen.utils import set_random_seed

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.queries import each
from pykeen_advneg.sampling.emu import EMUNegativeSampler
from pykeen_advneg.sampling.mutation import Mutation
from pykeen_advneg.testing.graphs import GRAPH, VALIDATION, make_model, same
from pykeen_advneg.training import AdversarialTrainingLoop


def run(model: str, sampler_kwargs: Mapping[str, Any] | None = None, num_epochs: int = 3, **kwargs: Any) -> Any:
    return pipeline(
        training=GRAPH,
        testing=VALIDATION,
        model=model,
        model_kwargs=kwargs.pop("model_kwargs", dict(embedding_dim=8)),
        training_loop="adversarial",
        negative_sampler="emu",
        negative_sampler_kwargs=dict(num_negs_per_pos=8, **(sampler_kwargs or {})),
        training_kwargs=dict(num_epochs=num_epochs, batch_size=50, use_tqdm=False, **kwargs.pop("training_kwargs", {})),
        evaluation_kwargs=dict(use_tqdm=False),
        random_seed=0,
        device="cpu",
        **kwargs,
    )


@pytest.mark.parametrize("model", ["complex", "distmult", "mure", "rotate", "transe", "transh"])
@pytest.mark.parametrize("options", [{}, dict(masks="independent"), dict(objective="host")], ids=str)
def test_pipeline(model: str, options: Mapping[str, Any]) -> None:
    losses = run(model, options, optimizer_kwargs=dict(lr=0.01), num_epochs=20).losses
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]


def run_shared(loss: str) -> Any:
    return pipeline(
        training=GRAPH,
        testing=VALIDATION,
        model="distmult",
        model_kwargs=dict(embedding_dim=8),
        loss=loss,
        training_loop="adversarial",
        negative_sampler="shared",
        negative_sampler_kwargs=dict(num_negs_per_pos=8),
        training_kwargs=dict(num_epochs=3, batch_size=50, use_tqdm=False),
        evaluation_kwargs=dict(use_tqdm=False),
        random_seed=0,
        device="cpu",
    )


@pytest.mark.parametrize("loss", ["crossentropy", "marginranking", "nssa", "softplus"])
def test_any_loss_of_the_host(loss: str) -> None:
    """Without mutation, the objective ``host`` trains as the base does; with it, it does not."""
    shared = run_shared(loss)
    emu = run("distmult", dict(objective="host", variant="none"), loss=loss)
    assert emu.losses == shared.losses
    assert same(emu.model.state_dict(), shared.model.state_dict())
    mutated = run("distmult", dict(objective="host", mutation_rate=0.5), loss=loss)
    assert mutated.losses[0] != pytest.approx(shared.losses[0], rel=1e-3)


def test_baseline() -> None:
    """``variant="none"`` is the cross-entropy of the base."""
    emu = run("distmult", dict(variant="none"))
    assert emu.losses == pytest.approx(run_shared("crossentropy").losses, rel=1e-6)


def test_label_smoothing() -> None:
    with pytest.raises(ConfigurationError, match=r"label_smoothing=0\.1 is not possible with the loss of 'emu'"):
        run("distmult", loss="bcewithlogits", training_kwargs=dict(label_smoothing=0.1))
    run("distmult", dict(objective="host"), loss="bcewithlogits", training_kwargs=dict(label_smoothing=0.1))


def test_sample_weights() -> None:
    weights = dict(weights=torch.ones(GRAPH.num_relations))
    options = dict(loss_weighter="relation", loss_weighter_kwargs=weights)
    with pytest.raises(ConfigurationError, match="loss_weighter gives sample weights"):
        run("distmult", loss="bcewithlogits", training_loop_kwargs=options)


def by_component(slot: Any) -> Any:
    """Masks which hang on the component alone, so that they fall the same way in all partitions of a batch."""

    def draw(x: FloatTensor) -> FloatTensor:
        kept = (torch.arange(x.shape[-1]) % 3 == 0).to(x.real.dtype).expand(x.shape)
        return torch.complex(kept, 1 - kept) if x.is_complex() else kept

    return each(slot, draw)


@pytest.mark.parametrize("model_name", ["complex", "distmult", "transd", "transe"])
@pytest.mark.parametrize("sub_batch_size", [7, 16])
@pytest.mark.parametrize("independent", [False, True])
def test_sub_batches(model_name: str, sub_batch_size: int, independent: bool) -> None:
    """A batch in parts, of whole chunks or not, trains as the whole does."""
    results = []
    for size in (None, sub_batch_size):
        model = make_model(model_name).double()
        for representation in (*model.entity_representations, *model.relation_representations):
            # its term is a mean over what is looked up at a time
            representation.regularizer = None
        sampler = EMUNegativeSampler(
            mapped_triples=GRAPH.mapped_triples,
            num_entities=GRAPH.num_entities,
            num_relations=GRAPH.num_relations,
            num_negs_per_pos=6,
            base_kwargs=dict(chunk_size=8),
            independent_passes=independent,
        )
        sampler.mutation = Mutation(by_component, is_binary=True, is_shared=True)
        loop = AdversarialTrainingLoop(
            model=model,
            triples_factory=GRAPH,
            optimizer="sgd",
            optimizer_kwargs=dict(lr=0.1),
            negative_sampler=sampler,
            automatic_memory_optimization=False,
        )
        set_random_seed(0)
        losses = loop.train(GRAPH, num_epochs=1, batch_size=64, sub_batch_size=size, use_tqdm=False)
        results.append((losses, model.state_dict()))
    (whole, expected), (parts, actual) = results
    assert parts == pytest.approx(whole, rel=1e-9)
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("variant", "low", "high"),
    # random masks spread the scores, and the mean distance stays below that at which all of them would be right
    [("labels_only", 0.8, 1.05), ("emu", 0.3, 0.9), ("none", 5.0, math.inf)],
)
def test_margin_is_learnt(variant: str, low: float, high: float) -> None:
    """Positives come to lie above negatives by -log of the label, in the mean; by cross-entropy, by ever more."""
    options = dict(variant=variant, negative_label=0.2, ce_weight=0.0, mutation_rate=0.5, filtered=True)
    model_kwargs = dict(embedding_dim=64, regularizer=None)
    result = run("complex", options, 100, model_kwargs=model_kwargs, optimizer_kwargs=dict(lr=0.03))
    sampler = result.training_loop.sampler
    negatives = sampler.draw(GRAPH.mapped_triples)
    scores = sampler.score(result.training_loop.scorer, negatives)
    distance = (scores.positives - scores.extra[0])[negatives.mask].mean().item()
    assert low < distance / -math.log(0.2) < high

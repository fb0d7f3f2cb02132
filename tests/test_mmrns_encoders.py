"""MMRNS beside models whose representations a graph encoder computes, and keeps until the next step."""

from __future__ import annotations

import pytest
import torch
from pykeen.models import ERModel, model_resolver
from pykeen.triples import CoreTriplesFactory

from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.sampling.mmrns import MMRNSNegativeSampler
from pykeen_advneg.scoring import Scorer
from pykeen_advneg.testing.graphs import GRAPH

LAYERS = {"rgcn": "RGCNLayer", "compgcn": "CompGCNLayer"}


@pytest.mark.parametrize("gradient", ["straight-through", "detached"])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_the_model_has_encodings_of_its_own(name: str, gradient: str) -> None:
    """The sampler looks in evaluation mode; what it sees is not what is scored and differentiated."""
    factory = CoreTriplesFactory.create(GRAPH.mapped_triples, 40, 3, create_inverse_triples=name == "compgcn")
    model = model_resolver.make(name, {"embedding_dim": 4, "random_seed": 0}, triples_factory=factory).train()
    assert isinstance(model, ERModel)
    triples = factory._add_inverse_triples_if_necessary(mapped_triples=factory.mapped_triples)
    sampler = MMRNSNegativeSampler(
        mapped_triples=triples,
        num_entities=40,
        num_relations=factory.num_relations,
        num_negs_per_pos=2,
        pool_size=10,
        gradient=gradient,  # type: ignore[arg-type]
        attention_dim=4,
        hidden_dim=4,
    )
    scorer = Scorer(model)
    sampler.bind(scorer)
    layer = next(module for module in model.modules() if type(module).__name__ == LAYERS[name])
    modes: list[bool] = []
    layer.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    for start in (0, 60):
        negatives = sampler.draw(triples[start : start + 60])
        assert not any(modes), "the sampler looks in evaluation mode"
        modes.clear()
        scores = sampler.score(scorer, negatives)
        assert modes[0], "the scores are encoded in training mode"
        loss = sampler.loss(negatives, scores, lambda s: (s.negatives - s.positives).exp().mean())
        loss.backward()
        assert [key for key, p in model.named_parameters() if p.grad is None] == []
        modes.clear()
        sampler.learn(negatives, Scores(scores.positives, scores.negatives).map(torch.Tensor.detach))
        model.post_parameter_update()
        modes.clear()

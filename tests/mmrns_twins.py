"""MMRNS pair by pair, as the paper writes it: the slow twins of the tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pykeen_advneg.sampling.mmrns.attention import CrossModalAttention


def normalise(x: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    return functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def encode(network: CrossModalAttention, name: str, features: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(network.encoders[name](features), 0.1)


def branch(
    network: CrossModalAttention,
    name: str,
    entity: torch.Tensor,
    features: dict[str, torch.Tensor],
    masks: dict[str, torch.Tensor],
    relation: torch.Tensor,
) -> torch.Tensor:
    """The vector of one entity and one relation in one branch; ``features`` of this entity: (parts, width)."""
    if name == "structure":
        both = torch.cat([entity, relation])
        hidden = functional.leaky_relu(network.structure.hidden(both), 0.1)
        return torch.sigmoid(network.structure.gate(hidden)) * entity
    own = network.guided[name]
    content = encode(network, name, features[name])
    guide = encode(network, network.guide_of(name), features[network.guide_of(name)])
    mask = masks[name]
    gates = torch.sigmoid(own.gate(relation)).view(len(guide), len(content))
    rows = []
    for i in range(len(guide)):
        present = [s for s in range(len(content)) if mask[s]]
        matching = {s: guide[i] @ content[s] for s in present}
        free = torch.zeros(content.shape[1])
        guided = torch.zeros(content.shape[1])
        total = sum(math.e ** matching[s] for s in present)
        for s in present:
            free = free + math.e ** matching[s] / total * content[s]
            guided = guided + gates[i, s] * matching[s] * content[s]
        rows.append(normalise(free, network.norm) + normalise(guided, network.norm))
    return own.project(torch.cat(rows))


def mixture(similarities: Sequence[list[float]], factor: float) -> list[float]:
    """The distribution over a pool of one positive: the mean of softmaxes."""
    p = len(similarities[0])
    result = [0.0] * p
    for values in similarities:
        exps = [math.exp(v / factor) for v in values]
        for j in range(p):
            result[j] += exps[j] / sum(exps) / len(similarities)
    return result


def contrast(
    similarities: Sequence[torch.Tensor],
    is_known: torch.Tensor,
    places: torch.Tensor,
    weights: torch.Tensor,
    num_entities: int,
) -> torch.Tensor:
    """The contrastive loss of the paper, positive by positive."""
    per_branch = []
    for sim in similarities:
        rows = []
        for b in range(len(sim)):
            above, below = torch.zeros(()), torch.zeros(())
            drawn = places[b].tolist()
            for j in range(sim.shape[1]):
                p = weights[b, drawn.index(j)] if j in drawn else 1 / num_entities
                if is_known[b, j]:
                    above = above + p * sim[b, j].exp()
                else:
                    below = below + p * sim[b, j].exp()
            if is_known[b].any():
                rows.append(-torch.log(above / below))
        per_branch.append(torch.stack(rows).mean())
    return torch.stack(per_branch).mean()


def released(
    similarities: Sequence[torch.Tensor], is_known: torch.Tensor, places: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The contrastive loss of the authors' code: one ratio for the batch."""
    b, p = is_known.shape
    weight = torch.ones(b, p) / p
    for i in range(b):
        for n, j in enumerate(places[i].tolist()):
            weight[i, j] *= weights[i, n]
    values = []
    for sim in similarities:
        terms = weight * sim.exp()
        values.append(-torch.log(terms[is_known].sum() / terms[~is_known].sum()))
    return torch.stack(values).mean()


def straight_through_gradient(
    interaction: Any, soft: torch.Tensor, pool: torch.Tensor, log_q: torch.Tensor, score: Any
) -> torch.Tensor:
    """Gradient of the sum of scores of straight-through draws with respect to log q, by autograd through one-hots.

    ``soft`` (k, p) were drawn with a noise which is recovered up to a constant: log y - log q.
    """
    noise = soft.clamp(min=1e-38).log() - log_q
    leaf = log_q.clone().requires_grad_()
    total = torch.zeros(())
    for n in range(len(soft)):
        open_ = soft[n] > 0
        y = torch.where(open_, leaf + noise[n], -torch.inf).softmax(dim=0)
        hard = torch.zeros_like(y)
        hard[y.argmax()] = 1
        straight = hard - y.detach() + y
        total = total + score(n, straight @ pool)
    (gradient,) = torch.autograd.grad(total, leaf)
    return gradient


def self_adversarial(
    positives: Sequence[float],
    negatives: Sequence[Sequence[float]],
    subsampling: Sequence[float],
    temperature: float,
    margin: float,
) -> float:
    """The loss of the model in the paper, term by term."""
    total = 0.0
    for s, row, u in zip(positives, negatives, subsampling, strict=True):
        exps = [math.exp(temperature * x) for x in row]
        total += u * math.log(1 + math.exp(-(margin + s)))
        total += u * sum(e / sum(exps) * math.log(1 + math.exp(margin + x)) for e, x in zip(exps, row, strict=True))
    return total / (2 * sum(subsampling))

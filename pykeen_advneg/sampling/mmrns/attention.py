r"""Knowledge-guided cross-modal attention of MMRNS, in a form without tensors of shape (relations, pool, parts, width).

For a pair of an entity and a relation, one modality is the *content*, $c_s \in \mathbb{R}^a$ for $s = 1..S$, the other
one the *guide*, $g_i$ for $i = 1..I$. With $M_{is} = g_i \cdot c_s$ and gates $\sigma(W r)_{is}$ of the relation, and
LayerNorm $LN$,

$$u_i = LN\Big(\sum_s \mathrm{softmax}_s(M_{is}) \, c_s\Big) + LN\Big(\sum_s \sigma(W r)_{is} M_{is} \, c_s\Big), \qquad
  z = P \, [u_1; \dots; u_I] + p.$$

The first summand knows no relation. In the second one, with the weights $w_{is} = \sigma(W r)_{is} M_{is}$ and the
centred content $\bar c_s = c_s - \mathrm{mean}(c_s)$, the variance is a quadratic form, so that $LN$ and $P$ can be
applied to the content before it is summed up:

$$\mathrm{var}_i = \tfrac{1}{a} \sum_{s, s'} w_{is} w_{is'} \, \bar c_s \cdot \bar c_{s'}, \qquad
  z \mathrel{+}= \sum_{i, s} \frac{w_{is}}{\sqrt{\mathrm{var}_i + \epsilon}} \, P_i (\gamma \odot \bar c_s).$$

Only $I S$ numbers are held for a pair instead of $I a$, and the last sum is a product of matrices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from pykeen.typing import BoolTensor, FloatTensor
from torch import nn
from torch.nn import functional

__all__ = ["Contents", "CrossModalAttention", "GuidedBranch", "StructureBranch"]

NEGATIVE_SLOPE = 0.1


class Contents(NamedTuple):
    """What some entities have: their embeddings, and the encoded parts of each modality."""

    #: shape: ``(n, entity_dim)``
    embedding: FloatTensor

    #: by modality, shape: ``(n, parts, width)``
    parts: Mapping[str, FloatTensor]

    #: by modality, shape: ``(n, parts)``
    masks: Mapping[str, BoolTensor]

    def narrow(self, start: int, stop: int) -> Contents:
        """Take the entities ``start:stop``."""
        parts, masks = ({name: x[start:stop] for name, x in each.items()} for each in (self.parts, self.masks))
        return Contents(self.embedding[start:stop], parts, masks)


class GuidedBranch(nn.Module):
    """A modality of an entity, as seen by the other one and by a relation."""

    def __init__(self, content_parts: int, guide_parts: int, relation_dim: int, dim: int, norm: nn.LayerNorm) -> None:
        """Initialize the branch.

        :param content_parts: $S$
        :param guide_parts: $I$
        :param relation_dim: the dimension of relations
        :param dim: $a$
        :param norm: the normalisation, which branches share
        """
        super().__init__()
        self.shape = guide_parts, content_parts
        self.gate = nn.Linear(relation_dim, guide_parts * content_parts)
        self.project = nn.Linear(guide_parts * dim, dim)
        # in a tuple, so that it is a submodule of its owner only
        self._norm = (norm,)

    def forward(
        self, content: FloatTensor, mask: BoolTensor, guide: FloatTensor, relations: FloatTensor, paired: bool
    ) -> FloatTensor:
        """Encode.

        :param content: $c$, shape: ``(n, S, a)``; zero where the mask is False
        :param mask: which parts there are, shape: ``(n, S)``
        :param guide: $g$, shape: ``(n, I, a)``
        :param relations: shape: ``(m, relation_dim)``
        :param paired: whether each entity meets its own relation (m = n), or all

        :returns: $z$, shape: ``(n, m, a)``; ``(n, 1, a)`` if paired
        """
        (norm,) = self._norm
        n, (i, s), a = len(content), self.shape, content.shape[-1]
        matching = guide @ content.transpose(1, 2)
        # an entity without any part, whose result nobody looks at, attends to all
        attended = matching.masked_fill(~(mask | ~mask.any(dim=1, keepdim=True)).unsqueeze(1), -torch.inf)
        free = norm(attended.softmax(dim=-1) @ content) + norm.bias
        fixed = self.project(free.flatten(1))
        gates = torch.sigmoid(self.gate(relations))
        gates = gates.view(n, 1, i, s) if paired else gates.view(1, -1, i, s)
        weights = gates * matching.unsqueeze(1)
        centred = content - content.mean(dim=-1, keepdim=True)
        gram = centred @ centred.transpose(1, 2) / a
        variance = _variance(gates, matching, gram, paired).clamp(min=0).unsqueeze(-1)
        scaled = weights * torch.rsqrt(variance + norm.eps)
        directions = self.project.weight.view(-1, i, a).permute(2, 1, 0).reshape(a, -1)
        projected = ((norm.weight * centred) @ directions).view(n, s, i, -1).transpose(1, 2).flatten(1, 2)
        z: FloatTensor = scaled.flatten(2) @ projected + fixed.unsqueeze(1)
        return z


def _variance(gates: FloatTensor, matching: FloatTensor, gram: FloatTensor, paired: bool) -> FloatTensor:
    r"""Compute the quadratic form of weights $w_{is} = g_{is} M_{is}$ for each entity and relation.

    $$\sum_{s, s'} w_{is} w_{is'} G_{ss'}
      = \sum_{s \le s'} (g_{is} g_{is'}) \, (2 - \delta_{ss'}) M_{is} M_{is'} G_{ss'}$$

    is a product of matrices of relations and of entities, for each $i$.

    :param gates: $g$, shape: ``(1, m, I, S)``, or ``(n, 1, I, S)`` if paired
    :param matching: $M$, shape: ``(n, I, S)``
    :param gram: $G$, symmetric, shape: ``(n, S, S)``
    :param paired: whether each entity meets its own relation

    :returns: shape: ``(n, m, I)``, or ``(n, 1, I)`` if paired
    """
    if paired:
        weights = gates.squeeze(1) * matching
        return ((weights @ gram) * weights).sum(dim=-1).unsqueeze(1)
    one, two = torch.triu_indices(gram.shape[1], gram.shape[1], device=gram.device)
    twice = gram[:, one, two] * torch.where(one == two, 1, 2)
    of_entities = matching[..., one] * matching[..., two] * twice.unsqueeze(1)
    of_relations = gates[0, ..., one] * gates[0, ..., two]
    result: FloatTensor = (of_entities.transpose(0, 1) @ of_relations.permute(1, 2, 0)).permute(1, 2, 0)
    return result


class StructureBranch(nn.Module):
    r"""An embedding behind a gate: $z = e \odot \sigma(W_3 \, \phi(W_1 [e; r]))$ with a leaky ReLU $\phi$."""

    def __init__(self, entity_dim: int, relation_dim: int, hidden_dim: int) -> None:
        """Initialize the branch.

        :param entity_dim: the dimension of entities
        :param relation_dim: the dimension of relations
        :param hidden_dim: the dimension between the two layers
        """
        super().__init__()
        self.hidden = nn.Linear(entity_dim + relation_dim, hidden_dim)
        self.gate = nn.Linear(hidden_dim, entity_dim)

    def forward(self, entities: FloatTensor, relations: FloatTensor, paired: bool) -> FloatTensor:
        """Encode.

        :param entities: shape: ``(n, entity_dim)``
        :param relations: shape: ``(m, relation_dim)``
        :param paired: whether each entity meets its own relation (m = n), or all

        :returns: shape: ``(n, m, entity_dim)``; ``(n, 1, entity_dim)`` if paired
        """
        own, others = self.first_layer(entities, relations)
        both = own.unsqueeze(1) + others.unsqueeze(1 if paired else 0)
        gate = torch.sigmoid(self.gate(functional.leaky_relu(both, NEGATIVE_SLOPE)))
        return gate * entities.unsqueeze(1)

    def first_layer(self, entities: FloatTensor, relations: FloatTensor) -> tuple[FloatTensor, FloatTensor]:
        """Give the two summands of the first layer.

        :param entities: shape: ``(n, entity_dim)``
        :param relations: shape: ``(m, relation_dim)``

        :returns: shapes: ``(n, hidden_dim)``, ``(m, hidden_dim)``
        """
        of_entity, of_relation = self.hidden.weight.split([entities.shape[1], relations.shape[1]], dim=1)
        return functional.linear(entities, of_entity, self.hidden.bias), functional.linear(relations, of_relation)


class CrossModalAttention(nn.Module):
    """The attention network of MMRNS: what an entity is, in each modality, from the point of view of a relation.

    ``text`` and ``image`` are the modalities as contents, guided by the other one. Where there is only one of them, it
    guides itself. ``structure`` is always there.
    """

    def __init__(
        self, entity_dim: int, relation_dim: int, parts: Mapping[str, tuple[int, int]], dim: int, hidden_dim: int
    ) -> None:
        """Initialize the network: normal weights of Glorot & Bengio (2010), as in the authors' code.

        :param entity_dim: how many real numbers an entity has in the model
        :param relation_dim: how many a relation has
        :param parts: for each modality the number of parts and their width
        :param dim: the dimension of attention
        :param hidden_dim: that within the gate of the structure
        """
        super().__init__()
        self.modalities = tuple(parts)
        self.encoders = nn.ModuleDict({name: nn.Linear(width, dim) for name, (_, width) in parts.items()})
        self.norm = nn.LayerNorm(dim)
        self.guided = nn.ModuleDict(
            {
                name: GuidedBranch(count, parts[self.guide_of(name)][0], relation_dim, dim, self.norm)
                for name, (count, _) in parts.items()
            }
        )
        self.structure = StructureBranch(entity_dim, relation_dim, hidden_dim)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.weight.numel():
                nn.init.xavier_normal_(module.weight)

    def guide_of(self, name: str) -> str:
        """Return the modality by which another one is guided: any other, or itself."""
        return next((other for other in self.modalities if other != name), name)

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of the branches, the structure first."""
        return ("structure", *self.modalities)

    def encode(
        self, embedding: FloatTensor, features: Mapping[str, FloatTensor], masks: Mapping[str, BoolTensor]
    ) -> Contents:
        """Encode the parts of entities.

        :param embedding: the entities in the model, shape: ``(n, entity_dim)``
        :param features: by modality, shape: ``(n, parts, width)``
        :param masks: by modality, shape: ``(n, parts)``

        :returns: the encoded entities
        """
        parts = {}
        for name in self.modalities:
            encoder = self.encoders[name]
            raw = features[name].to(embedding.dtype)
            parts[name] = functional.leaky_relu(encoder(raw), NEGATIVE_SLOPE)
        return Contents(embedding, parts, masks)

    def branch(self, name: str, entities: Contents, relations: FloatTensor, paired: bool) -> FloatTensor:
        """Compute a branch.

        :param name: one of :attr:`branches`
        :param entities: $n$ entities
        :param relations: shape: ``(m, relation_dim)``
        :param paired: whether each entity meets its own relation (m = n), or all

        :returns: shape: ``(n, m, d)``; ``(n, 1, d)`` if paired
        """
        if name == "structure":
            return cast(FloatTensor, self.structure(entities.embedding, relations, paired))
        mask = entities.masks[name]
        # as a guide, a part which is missing is what the encoder makes of zeros; as content, it is nothing
        content = entities.parts[name] * mask.unsqueeze(-1)
        guide = entities.parts[self.guide_of(name)]
        return cast(FloatTensor, self.guided[name](content, mask, guide, relations, paired))

"""What compares a pool of candidates with the true entities, by modality."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from pykeen.typing import COLUMN_RELATION, FloatTensor, LongTensor
from torch import nn

from ...multimodal.features import MultimodalFeatures
from ...scoring import Scorer
from .attention import CrossModalAttention
from .feature_store import FeatureStore
from .likeness import Groups, Likeness, likeness
from .vectors import Vectors, undisturbed

__all__ = ["Comparison"]


class Comparison(nn.Module):
    """Features of the entities, vectors of the model, and the attention network which looks at both."""

    network: CrossModalAttention | None

    def __init__(
        self,
        features: MultimodalFeatures | str | Path | None,
        num_entities: int,
        attention_dim: int,
        hidden_dim: int,
    ) -> None:
        """Initialize the comparison, as yet without a network.

        :param features: text and pictures of the entities, or the path of a saved file of them
        :param num_entities: the number of entities
        :param attention_dim: the dimension of the attention
        :param hidden_dim: the dimension within the gate of the structure
        """
        super().__init__()
        self.features = FeatureStore(features, num_entities)
        self.dims = attention_dim, hidden_dim
        self.network = None
        #: of the vectors of entities and of relations for which the network was built
        self.sizes: tuple[int, int] | None = None

    def bind(self, scorer: Scorer) -> tuple[int, int] | None:
        """Take hold of the model.

        :param scorer: gives the scores of the model

        :returns: the sizes of its vectors of entities and of relations

        :raises ConfigurationError: if features have labels, and it is not known which id is whose
        """
        self.features.check()
        self.scorer = scorer
        self.vectors = Vectors(scorer)
        return self.vectors.sizes

    def build(self, sizes: tuple[int, int] | None) -> None:
        """Build the network.

        :param sizes: of the vectors of entities and of relations; None: drop the network
        """
        self.sizes = sizes
        self.network = None if sizes is None else CrossModalAttention(*sizes, self.features.parts, *self.dims)

    def trained(self) -> CrossModalAttention:
        """Give the network.

        :returns: the network

        :raises RuntimeError: if there is none yet
        """
        if self.network is None:
            raise RuntimeError("The sampler has no model yet: call bind(scorer) before it proposes negatives.")
        return self.network

    def similarities(
        self, positives: LongTensor, column: LongTensor, pool: LongTensor, detached: bool
    ) -> dict[str, FloatTensor]:
        """Compare the pool with the true entities.

        :param positives: shape: ``(b, 3)``
        :param column: the corrupted slot of each, shape: ``(b, 1)``
        :param pool: the ids of the candidates, shape: ``(p,)``
        :param detached: whether embeddings are seen without gradient

        :returns: the similarities by branch, shapes: ``(b, p)``
        """
        network = self.trained()
        groups = Groups.of(positives[:, COLUMN_RELATION])
        anchors = positives.gather(1, column).squeeze(1)
        ids, sizes = torch.cat([pool, anchors]), (len(pool), len(anchors))
        with undisturbed(self.scorer.model), torch.set_grad_enabled(torch.is_grad_enabled() and not detached):
            embeddings, relations = self.vectors.entities(ids), self.vectors.relations(groups.relations)
        contents = network.encode(embeddings, *self.features(ids))
        return likeness(network, contents.narrow(0, sizes[0]), contents.narrow(sizes[0], sum(sizes)), relations, groups)

    def branches(
        self, values: Mapping[str, FloatTensor], positives: LongTensor, column: LongTensor, pool: LongTensor
    ) -> list[Likeness]:
        """Say of each branch who has what it looks at.

        :param values: the similarities by branch, shapes: ``(b, p)``
        :param positives: shape: ``(b, 3)``
        :param column: the corrupted slot of each, shape: ``(b, 1)``
        :param pool: the ids of the candidates, shape: ``(p,)``

        :returns: the branches
        """
        anchors = positives.gather(1, column).squeeze(1)
        return [
            Likeness(x, self.features.has(name, pool), self.features.has(name, anchors)) for name, x in values.items()
        ]

"""The features which a sampler looks up, in the order of the ids of its graph."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from pykeen.typing import BoolTensor, FloatTensor, LongTensor
from torch import nn

from ...errors import ConfigurationError
from ...multimodal.features import MultimodalFeatures

__all__ = ["FeatureStore"]

logger = logging.getLogger(__name__)


class FeatureStore(nn.Module):
    """Frozen features, which move with ``.to()`` and are no part of the state."""

    def __init__(self, features: MultimodalFeatures | str | Path | None, num_entities: int) -> None:
        """Initialize the store.

        :param features: features, or the file of some; with labels, they wait for :meth:`read_labels`
        :param num_entities: the number of entities of the graph

        :raises ConfigurationError: if features without labels are not of so many entities
        """
        super().__init__()
        self.num_entities = num_entities
        if features is not None and not isinstance(features, MultimodalFeatures | str | Path):
            raise ConfigurationError(
                f"features must be MultimodalFeatures, or the path of a file of them, got {type(features).__name__}."
            )
        if isinstance(features, str | Path):
            features = MultimodalFeatures.load(features)
        self.modalities: tuple[str, ...] = () if features is None else features.modalities
        if not self.modalities:
            logger.warning("mmrns has no features: candidates are compared by their embeddings alone.")
        self._waiting = features if features is not None and features.labels is not None else None
        if self._waiting is None and features is not None and self.modalities:
            if len(features) != num_entities:
                raise ConfigurationError(
                    f"features are of {len(features)} entities, and the graph has {num_entities}; give them labels, "
                    f"or align them by features.align(triples_factory)."
                )
            self._keep(features)

    def _keep(self, features: MultimodalFeatures) -> None:
        for name in self.modalities:
            self.register_buffer(name, getattr(features, name), persistent=False)
            self.register_buffer(f"{name}_mask", getattr(features, f"{name}_mask"), persistent=False)

    def read_labels(self, entity_to_id: Mapping[str, int]) -> None:
        """Bring features with labels into the order of the ids; entities which the graph does not have are dropped.

        :param entity_to_id: the id of each label

        :raises ConfigurationError: if the graph has fewer than half of the labels
        """
        if self._waiting is not None:
            labels = self._waiting.labels or ()
            strange = [label for label in labels if label not in entity_to_id]
            if len(labels) > len(strange) > len(labels) / 2:
                raise ConfigurationError(
                    f"features: the graph has {len(labels) - len(strange)} of their {len(labels)} labels only, and "
                    f"not, e.g., {', '.join(map(repr, strange[:3]))}. Labels must be those of the triples. If features "
                    f"are rightly of a larger graph, give features.align(training, unknown='drop')."
                )
            self._keep(self._waiting.align(entity_to_id, unknown="drop"))
            self._waiting = None

    def check(self) -> None:
        """Check that the features are in order.

        :raises ConfigurationError: if they have labels, and nobody has said which id is whose
        """
        if self._waiting is not None:
            raise ConfigurationError(
                "features have labels, and the training triples have none: give features in the order of the ids, "
                "features.align(entity_to_id)."
            )

    @property
    def parts(self) -> dict[str, tuple[int, int]]:
        """For each modality the number of parts and their width."""
        return {
            name: (int(x.shape[1]), int(x.shape[2]))
            for name in self.modalities
            if (x := getattr(self, name)) is not None
        }

    def forward(self, ids: LongTensor) -> tuple[dict[str, FloatTensor], dict[str, BoolTensor]]:
        """Look up entities.

        :param ids: shape: ``(n,)``

        :returns: by modality the features, shape: ``(n, parts, width)``, and masks, shape: ``(n, parts)``
        """
        return (
            {name: getattr(self, name)[ids] for name in self.modalities},
            {name: getattr(self, f"{name}_mask")[ids] for name in self.modalities},
        )

    def has(self, branch: str, ids: LongTensor) -> BoolTensor | None:
        """Say which entities have what a branch looks at.

        :param branch: a modality, or the structure, which all have
        :param ids: shape: ``(n,)``

        :returns: shape: ``(n,)``; ``None``: all
        """
        if branch not in self.modalities:
            return None
        mask: torch.Tensor = getattr(self, f"{branch}_mask")[ids].any(dim=1)
        return None if bool(mask.all()) else mask

"""Frozen features of entities: some vectors for the sentences of a text, some for the regions of a picture."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch
from pykeen.triples import TriplesFactory
from pykeen.typing import BoolTensor, FloatTensor

from ..errors import ConfigurationError
from .storage import read_tensors, write_tensors

__all__ = ["MODALITIES", "Modality", "MultimodalFeatures", "Unknown"]

Modality: TypeAlias = Literal["text", "image"]

MODALITIES: tuple[Modality, ...] = ("text", "image")

#: what to do with features of entities which a graph does not have
Unknown: TypeAlias = Literal["raise", "drop"]

#: how many names an error shows
_SHOWN = 3

#: how many dimensions features have: entities, parts (sentences or regions), width
_DIMENSIONS = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class MultimodalFeatures:
    """Features of the text and of the picture of each entity; frozen, i.e., nothing trains them.

    An entity may have fewer sentences or regions than there are places, or none: the masks say which are there.
    Places which are not there are zero.
    """

    #: shape: ``(entities, sentences, width)``; ``None``: no text for anybody
    text: FloatTensor | None = None

    #: shape: ``(entities, regions, width)``; ``None``: no pictures for anybody
    image: FloatTensor | None = None

    #: which sentences there are, shape: ``(entities, sentences)``; ``None``: those which are not all zeros
    text_mask: BoolTensor | None = None

    #: which regions there are, shape: ``(entities, regions)``; ``None``: those which are not all zeros
    image_mask: BoolTensor | None = None

    #: the label of each entity; ``None``: the rows are in the order of the ids of the graph
    labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Check shapes and values; a matrix, one vector for each entity, is taken for one sentence or region each.

        :raises ConfigurationError: if shapes do not fit, or if a value is not finite, with the entity
        """
        if self.labels is not None:
            object.__setattr__(self, "labels", tuple(map(str, self.labels)))
            _check_distinct(self.labels)
        for name in MODALITIES:
            values = getattr(self, name)
            if values is None:
                if getattr(self, f"{name}_mask") is not None:
                    raise ConfigurationError(f"{name}_mask is given without {name}; give both.")
                continue
            values, mask = self._checked(name, values, getattr(self, f"{name}_mask"))
            object.__setattr__(self, name, values)
            object.__setattr__(self, f"{name}_mask", mask)
        sizes: dict[str, int] = {name: len(getattr(self, name)) for name in self.modalities}
        if self.labels is not None:
            sizes["labels"] = len(self.labels)
        if len(set(sizes.values())) > 1:
            raise ConfigurationError(f"features are not of equally many entities: {sizes}; give a row for each.")

    def _checked(self, name: str, values: Any, mask: Any) -> tuple[FloatTensor, BoolTensor]:
        values = torch.as_tensor(values).detach()
        if values.ndim == _DIMENSIONS - 1:
            values = values.unsqueeze(1)
        if values.ndim != _DIMENSIONS or not values.is_floating_point() or 0 in values.shape[1:]:
            raise ConfigurationError(
                f"{name} must have shape (entities, parts, width) and real numbers, got {tuple(values.shape)} of "
                f"{values.dtype}."
            )
        finite = torch.isfinite(values).flatten(1).all(dim=1)
        if not bool(finite.all()):
            raise ConfigurationError(
                f"{name} of {self._some(~finite)} has values which are not finite; replace them, or leave {name} of "
                f"these entities out (zeros)."
            )
        mask = values.any(dim=-1) if mask is None else torch.as_tensor(mask)
        if mask.shape != values.shape[:2] or mask.dtype != torch.bool:
            raise ConfigurationError(
                f"{name}_mask must have shape {tuple(values.shape[:2])} and type bool, got {tuple(mask.shape)} of "
                f"{mask.dtype}."
            )
        if not bool(mask.all()):
            values = values * mask.unsqueeze(-1)
        return values, mask

    def _some(self, rows: BoolTensor) -> str:
        """Name the first of the entities which are marked."""
        ids = rows.nonzero().squeeze(-1).tolist()
        shown = [repr(self.labels[i]) if self.labels is not None else f"entity {i}" for i in ids[:_SHOWN]]
        return ", ".join(shown) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities which there are."""
        return tuple(name for name in MODALITIES if getattr(self, name) is not None)

    def __len__(self) -> int:
        if self.labels is not None:
            return len(self.labels)
        return len(getattr(self, self.modalities[0])) if self.modalities else 0

    def __repr__(self) -> str:
        shapes = {name: tuple(getattr(self, name).shape) for name in self.modalities}
        return f"{type(self).__name__}({len(self)} entities, {shapes}, with: {self.coverage()})"

    def coverage(self) -> dict[str, int]:
        """Count the entities which have a text, a picture.

        :returns: the number by modality
        """
        return {name: int(getattr(self, f"{name}_mask").any(dim=1).sum()) for name in self.modalities}

    def only(self, *modalities: str) -> MultimodalFeatures:
        """Leave modalities out.

        :param modalities: those to keep, of ``text`` and ``image``

        :returns: features of these only

        :raises ConfigurationError: if there is no such modality
        """
        unknown = [name for name in modalities if name not in self.modalities]
        if unknown:
            raise ConfigurationError(f"modalities {unknown} are not there; there are {list(self.modalities)}.")
        gone: dict[str, Any] = {name: None for name in MODALITIES if name not in modalities}
        return replace(self, **gone, **{f"{name}_mask": None for name in gone})

    def join(self, other: MultimodalFeatures) -> MultimodalFeatures:
        """Add the other modality, of any entities; who lacks one has zeros there.

        :param other: features with labels, of modalities which these do not have

        :returns: features of the entities of both

        :raises ConfigurationError: if labels lack, or if both have the same modality
        """
        twice = set(self.modalities) & set(other.modalities)
        if self.labels is None or other.labels is None or twice:
            reason = f"both have {sorted(twice)}" if twice else "one of them has no labels"
            raise ConfigurationError(f"features cannot be joined: {reason}.")
        ids = {label: i for i, label in enumerate(dict.fromkeys([*self.labels, *other.labels]))}
        one, two = (features.align(ids) for features in (self, other))
        values = {name: getattr(one, name) for name in ("text", "text_mask", "image", "image_mask")}
        values |= {name: x for name in values if (x := getattr(two, name)) is not None}
        return MultimodalFeatures(**values, labels=list(ids))

    def align(self, target: TriplesFactory | Mapping[str, int], unknown: Unknown = "raise") -> MultimodalFeatures:
        """Bring the features into the order of the ids of a graph; entities without features get zeros.

        :param target: the training triples, or the id of each label, from 0 on without gaps
        :param unknown: what to do with features of entities which the graph does not have: ``raise`` an error, or
            ``drop`` them, with a warning

        :returns: features without labels

        :raises ConfigurationError: if these have no labels, if an entity is unknown, or if all are
        """
        if self.labels is None:
            raise ConfigurationError("features without labels cannot be aligned: give labels, one for each row.")
        ids: Mapping[str, int] = target.entity_to_id if isinstance(target, TriplesFactory) else target
        rows = [i for i, label in enumerate(self.labels) if label in ids]
        if len(rows) < len(self.labels):
            strange = torch.ones(len(self.labels), dtype=torch.bool)
            strange[rows] = False
            if unknown == "raise":
                raise ConfigurationError(
                    f"The graph does not have {self._some(strange)}; use unknown='drop' to leave their features out."
                )
            if not rows:
                raise ConfigurationError(
                    f"The graph has none of the {len(self.labels)} entities with features, e.g., not "
                    f"{self._some(strange)}: labels must be those of the triples."
                )
            logger.warning(
                "%d of %d entities with features are not in the graph, and are dropped: %s. %d of the %d entities of "
                "the graph have features.",
                int(strange.sum()),
                len(strange),
                self._some(strange),
                len(rows),
                len(ids),
            )
        source = torch.as_tensor(rows, dtype=torch.long)
        places = torch.as_tensor([ids[self.labels[i]] for i in rows], dtype=torch.long)
        values: dict[str, Any] = {}
        for name in self.modalities:
            for key in (name, f"{name}_mask"):
                x = getattr(self, key)
                values[key] = x.new_zeros(len(ids), *x.shape[1:]).index_copy_(0, places, x[source])
        return MultimodalFeatures(**values)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file.

        :param path: the file
        """
        names = [*self.modalities, *(f"{name}_mask" for name in self.modalities)]
        write_tensors(path, {name: getattr(self, name) for name in names}, self.labels)

    @classmethod
    def load(cls, path: str | Path) -> MultimodalFeatures:
        """Read a file which :meth:`save` wrote; nothing in it is executed.

        :param path: the file

        :returns: the features

        :raises ConfigurationError: if there is no such file, or if it holds anything else
        """
        tensors, labels = read_tensors(path)
        known = {*MODALITIES, *(f"{name}_mask" for name in MODALITIES)}
        if not tensors.keys() <= known:
            raise ConfigurationError(
                f"'{path}' has the tensors {sorted(tensors)}; features have some of {sorted(known)}."
            )
        return cls(**cast("dict[str, Any]", tensors), labels=labels)


def _check_distinct(labels: Sequence[str]) -> None:
    seen: set[str] = set()
    for label in labels:
        if label in seen:
            raise ConfigurationError(f"labels has {label!r} twice; give each entity once.")
        seen.add(label)

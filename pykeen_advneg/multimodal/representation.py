"""Entities by look-up, attribute values by their encoders, in one representation of PyKEEN."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import torch
from class_resolver import HintOrType
from pykeen.nn.representation import Embedding, Representation
from pykeen.typing import FloatTensor, LongTensor
from torch import nn

from ..errors import ConfigurationError
from .attributes import Attribute
from .encoders import ValueEncoder, default_encoder, encoder_resolver

__all__ = ["MultimodalRepresentation"]


class MultimodalRepresentation(Representation):
    """Represents ids: the first ones by an embedding, those of each attribute by its encoder.

    A batch encodes each of its distinct values once, and an encoder none of whose values is in the batch is not run.
    Outside of training and of gradients, the vectors of all values are kept until a weight changes.

    Dropout inside of an encoder falls once on a value, however often the batch has it.
    """

    def __init__(
        self,
        *,
        max_id: int,
        shape: int,
        attributes: Sequence[Attribute],
        encoders: Mapping[str, HintOrType[ValueEncoder]] | None = None,
        encoders_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        dtype: torch.dtype | None = None,
        entity_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize the representation.

        :param max_id: the number of ids
        :param shape: the width; of complex numbers, if ``dtype`` is complex
        :param attributes: the attributes, in the order of their ids, which are the last ones
        :param encoders: the encoder of an attribute, by its name; what is not given is chosen by the values
        :param encoders_kwargs: the keyword-based parameters of encoders, by the names of the attributes
        :param dtype: the type; encoders give real numbers, of which pairs become a complex one
        :param entity_kwargs: keyword-based parameters of :class:`pykeen.nn.representation.Embedding`
        :param kwargs: keyword-based parameters of :class:`pykeen.nn.representation.Representation`

        :raises ConfigurationError: if an encoder is for no attribute, or cannot read its values
        """
        super().__init__(max_id=max_id, shape=shape, **{"unique": False, **kwargs})
        names = [attribute.name for attribute in attributes]
        for argument, given in (("encoders", encoders), ("encoders_kwargs", encoders_kwargs)):
            unknown = sorted(set(given or {}) - set(names))
            if unknown:
                raise ConfigurationError(f"{argument} has {unknown[0]!r}, which is no attribute; choose of {names}.")
        self.is_complex = dtype is not None and dtype.is_complex
        starts = [attribute.start for attribute in attributes]
        first = starts[0] if starts else max_id
        options = {"initializer": "xavier_uniform", **(entity_kwargs or {})}
        self.entities = Embedding(max_id=first, shape=shape, dtype=dtype, **options)
        width = shape * (2 if self.is_complex else 1)
        self.encoders = nn.ModuleList(
            encoder_resolver.make(
                (encoders or {}).get(attribute.name, default_encoder(attribute)),
                # the ids which it is asked for are distinct
                {"unique": False, **(encoders_kwargs or {}).get(attribute.name, {})},
                attribute=attribute,
                shape=width,
            )
            for attribute in attributes
        )
        self.register_buffer("starts", torch.as_tensor(starts, dtype=torch.long), persistent=False)
        self._kept: tuple[Hashable, FloatTensor] | None = None

    starts: LongTensor

    @property
    def encodes_jointly(self) -> bool:
        """Whether all ids of a batch may be asked for at once, so that a value is encoded once for all slots.

        A regulariser has to see what each slot asks for, as in PyKEEN: with one, slots are asked for one by one.
        """
        parts = (self, self.entities, *self._encoders)
        return self.normalizer is None and self.dropout is None and all(part.regularizer is None for part in parts)

    # docstr-coverage: inherited
    def _plain_forward(self, indices: LongTensor | None = None) -> FloatTensor:
        if indices is None:
            return torch.cat([self.entities(), self._values()]) if len(self.encoders) else self.entities()
        ids, inverse = indices.flatten().unique(return_inverse=True)
        x = self._distinct(ids)
        # a product or a copy of complex numbers is slower by rows than that of the pairs they are made of
        rows = torch.view_as_real(x).flatten(1) if x.is_complex() else x
        rows = rows.index_select(0, inverse)
        if x.is_complex():
            rows = torch.view_as_complex(rows.view(len(rows), *self.shape, 2))
        return rows.view(*indices.shape, *self.shape)

    def _distinct(self, ids: LongTensor) -> FloatTensor:
        """Represent ids which ascend, shape: ``(n,)``, as ``(n, d)``.

        A part without ids is not asked for: its regulariser would take the mean of nothing.
        """
        if not len(ids):
            return torch.empty(0, *self.shape, dtype=torch.cfloat if self.is_complex else None, device=ids.device)
        bounds = [0, *torch.searchsorted(ids, self.starts).tolist(), len(ids)]
        parts = [self.entities(ids[: bounds[1]])] if bounds[1] else []
        for start, encoder, low, high in zip(
            self.starts.tolist(), self._encoders, bounds[1:-1], bounds[2:], strict=True
        ):
            if low < high:
                parts.append(self._typed(encoder(ids[low:high] - start)))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    @property
    def _encoders(self) -> Sequence[ValueEncoder]:
        return cast("Sequence[ValueEncoder]", self.encoders)

    def _typed(self, x: FloatTensor) -> FloatTensor:
        return torch.view_as_complex(x.reshape(len(x), *self.shape, 2)) if self.is_complex else x

    def _values(self) -> FloatTensor:
        """Represent all values."""
        if self.training or torch.is_grad_enabled():
            return torch.cat([self._typed(encoder()) for encoder in self._encoders])
        key = tuple((id(p), p._version, str(p.device)) for p in self.encoders.parameters())
        if self._kept is None or self._kept[0] != key:
            self._kept = key, torch.cat([self._typed(encoder()) for encoder in self._encoders])
        return self._kept[1]

    # docstr-coverage: inherited
    def train(self, mode: bool = True) -> MultimodalRepresentation:
        """Change the mode."""
        self._kept = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        # what is kept need not be copied, and may be of inference mode, in which case it cannot
        return {**self.__dict__, "_kept": None}

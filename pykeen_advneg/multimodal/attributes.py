"""What an attribute of entities is: its distinct values, each of which has an id behind those of the entities."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from pykeen.typing import BoolTensor, FloatTensor, LongTensor

from ..errors import ConfigurationError
from .tables import Kind

__all__ = ["Attribute", "distinct", "picture_key"]

#: a standard deviation which is smaller than this share of the numbers is none
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Attribute:
    """An attribute, and its distinct values.

    =============== ================================================= ======================
    kind            ``values``                                        ``labels``
    =============== ================================================= ======================
    ``numeric``     the numbers, ascending, 64 bits, shape ``(n,)``
    ``categorical``                                                   the categories
    ``multi_hot``   which labels apply, 0 or 1, shape ``(n, w)``      those of the columns
    ``text``                                                          the texts
    ``images``      pixels or features, shape ``(n, *shape)``
    =============== ================================================= ======================
    """

    #: the name, which is that of its relation, too
    name: str

    kind: Kind

    #: the id of the first value
    start: int

    #: see above
    values: torch.Tensor | None = None

    #: see above
    labels: tuple[str, ...] = ()

    #: which values stand in training rows, shape ``(n,)``; None: all. What is fitted to values is fitted to these
    is_training: BoolTensor | None = None

    #: of the numbers in the training rows, each counted as often as it stands there
    mean: float = 0.0

    #: likewise, and 1 if they are all the same
    std: float = 1.0

    def __len__(self) -> int:
        return len(self.labels) if self.values is None else len(self.values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.kind}, {len(self)} values from id {self.start} on)"

    @property
    def ids(self) -> range:
        """The ids of the values."""
        return range(self.start, self.start + len(self))

    @property
    def z_scores(self) -> FloatTensor:
        r"""The standardised numbers $(x - \mu) / \sigma$, shape: ``(n, 1)``.

        :raises ConfigurationError: if the values are no numbers
        """
        if self.kind != "numeric" or self.values is None:
            raise ConfigurationError(f"attribute {self.name!r} is {self.kind}, and has no z-scores; choose a numeric.")
        return ((self.values - self.mean) / self.std).float().unsqueeze(-1)

    @property
    def training_positions(self) -> LongTensor:
        """The positions of the values which stand in training rows, ascending."""
        if self.is_training is None:
            return torch.arange(len(self))
        return self.is_training.nonzero().squeeze(-1)

    def keys(self) -> pd.Index[Any]:
        """Give what tells the values apart."""
        keys: Any = self.labels
        if self.values is not None:
            array = self.values.numpy()
            keys = array if self.kind == "numeric" else [picture_key(value) for value in array]
        index: pd.Index[Any] = pd.Index(keys)
        return index

    def positions(self, keys: Sequence[Hashable] | np.ndarray) -> np.ndarray:
        """Look values up.

        :param keys: what tells them apart, see :meth:`keys`

        :returns: their positions from 0 on, -1 for those which are no value of this attribute, shape: ``(n,)``
        """
        return self.keys().get_indexer(pd.Index(keys))

    def show(self, position: int) -> str:
        """Describe a value.

        :param position: its position, from 0 on

        :returns: the number, the category, the labels, the text, or the shape of the picture
        """
        if self.values is None:
            return self.labels[position]
        value = self.values[position]
        if self.kind == "numeric":
            return repr(value.item())
        if self.kind == "multi_hot":
            return " | ".join(label for label, on in zip(self.labels, value.tolist(), strict=True) if on)
        return f"picture {tuple(value.shape)}"

    def id_labels(self) -> list[str]:
        """Give each value a label for PyKEEN's factories."""
        if self.kind in {"numeric", "categorical"}:
            return [f"{self.name} = {self.show(i)}" for i in range(len(self))]
        return [f"{self.name} #{i}" for i in range(len(self))]

    def position_of(self, ids: LongTensor) -> LongTensor:
        """Turn ids into positions."""
        return ids - self.start


def picture_key(value: Any) -> str:
    """Tell arrays apart by their contents.

    :param value: an array

    :returns: a digest of type, shape and numbers
    """
    array = np.ascontiguousarray(value)
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()


def distinct(name: str, kind: Kind, start: int, training: Sequence[Any], others: Sequence[Any]) -> Attribute:
    """Make an attribute from the values of its rows.

    :param name: the name of the attribute
    :param kind: what its values are; not ``multi_hot``
    :param start: the id of the first value
    :param training: the values of the training rows: numbers, labels or arrays
    :param others: those of other rows, which get ids, but no say in mean and standard deviation

    :returns: the attribute

    :raises ConfigurationError: if there are no training rows, or if pictures differ in shape
    """
    if not len(training):
        raise ConfigurationError(
            f"attribute {name!r} has no training rows, only others; move some of them into training, or leave it out."
        )
    if kind == "numeric":
        numbers = np.asarray(training, dtype=np.float64)
        values = np.unique(np.concatenate([numbers, np.asarray(others, dtype=np.float64)]))
        std = float(numbers.std())
        # equal numbers deviate from their mean by what is rounded
        is_constant = std <= _ROUNDING * float(np.abs(numbers).max())
        mean, std = float(numbers.mean()), 1.0 if is_constant else std
        seen = torch.from_numpy(np.isin(values, numbers))
        return Attribute(name, kind, start, torch.from_numpy(values), (), seen, mean, std)
    if kind != "images":
        labels, own = tuple(sorted({*training, *others})), set(training)
        return Attribute(name, kind, start, None, labels, torch.tensor([label in own for label in labels]))
    unique = {picture_key(value): value for value in (*training, *others)}
    shapes = sorted({(str(value.dtype), value.shape) for value in unique.values()}, key=str)
    if len(shapes) > 1:
        raise ConfigurationError(
            f"images of {name!r} have the types and shapes {shapes}; bring all of an attribute into one shape."
        )
    own = {picture_key(value) for value in training}
    seen = torch.tensor([key in own for key in unique])
    return Attribute(name, kind, start, torch.from_numpy(np.stack(list(unique.values()))), (), seen)

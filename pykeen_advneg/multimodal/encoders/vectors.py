"""Encoders of numbers, of categories, of sets of labels, and of vectors which were computed before."""

from __future__ import annotations

from typing import Any, ClassVar

from class_resolver import HintOrType
from pykeen.nn.representation import Embedding
from pykeen.typing import FloatTensor, LongTensor
from torch import nn
from typing_extensions import override

from ...errors import ConfigurationError
from ..attributes import Attribute
from .base import ValueEncoder, check_kind, mlp

__all__ = ["CategoryEncoder", "FeatureEncoder", "MultiHotEncoder", "NumericEncoder"]


class _MatrixEncoder(ValueEncoder):
    """Layers on top of one row of numbers for each value."""

    rows: FloatTensor

    #: whether the rows are saved with the weights, since to compute them again may give others
    keeps_rows: ClassVar[bool] = False

    def __init__(
        self,
        attribute: Attribute,
        shape: int,
        rows: FloatTensor,
        num_layers: int,
        activation: HintOrType[nn.Module],
        dropout: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(attribute=attribute, shape=shape, **kwargs)
        self.register_buffer("rows", rows.float(), persistent=self.keeps_rows)
        self.layers = mlp(rows.shape[1], shape, num_layers, activation, dropout=dropout)

    @override
    def encode(self, positions: LongTensor) -> FloatTensor:
        encoded: FloatTensor = self.layers(self.rows.index_select(0, positions))
        return encoded


class NumericEncoder(_MatrixEncoder):
    r"""A multi-layer perceptron on the standardised number, $e = W_n \phi(\ldots \phi(w_1 z + b_1) \ldots) + b_n$.

    The authors' code has three layers on MovieLens and two on YAGO, with an activation (ReLU, SELU, tanh by the file)
    after each of them, the last one included; the paper does not say. Here, there is none after the last [our choice]:
    a ReLU there leaves a bilinear score with positive numbers only.
    """

    def __init__(
        self,
        *,
        attribute: Attribute,
        shape: int,
        num_layers: int = 2,
        activation: HintOrType[nn.Module] = "relu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Initialize the encoder.

        :param attribute: a numeric attribute
        :param shape: the width of the representations
        :param num_layers: the number of layers
        :param activation: the activation between them
        :param dropout: the probability with which an output of an inner layer is dropped
        :param kwargs: keyword-based parameters of :class:`pykeen.nn.representation.Representation`
        """
        check_kind("numeric", attribute, "numeric")
        super().__init__(attribute, shape, attribute.z_scores, num_layers, activation, dropout, **kwargs)


class MultiHotEncoder(_MatrixEncoder):
    """A multi-layer perceptron on the 0 and 1 of the labels, as the authors' code has it for genres."""

    def __init__(
        self,
        *,
        attribute: Attribute,
        shape: int,
        num_layers: int = 2,
        activation: HintOrType[nn.Module] = "relu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Initialize the encoder.

        :param attribute: a multi-hot attribute
        :param shape: the width of the representations
        :param num_layers: the number of layers
        :param activation: the activation between them
        :param dropout: the probability with which an output of an inner layer is dropped
        :param kwargs: keyword-based parameters of :class:`pykeen.nn.representation.Representation`
        """
        check_kind("multihot", attribute, "multi_hot")
        assert attribute.values is not None
        super().__init__(attribute, shape, attribute.values, num_layers, activation, dropout, **kwargs)


class FeatureEncoder(_MatrixEncoder):
    """A multi-layer perceptron on vectors which some other network has computed, e.g., of pictures.

    They are standardised first, component by component, by mean and deviation of the distinct values of training.
    """

    def __init__(
        self,
        *,
        attribute: Attribute,
        shape: int,
        features: FloatTensor | None = None,
        num_layers: int = 1,
        activation: HintOrType[nn.Module] = "relu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Initialize the encoder.

        :param attribute: the attribute; of images which are vectors, or of any kind with ``features``
        :param shape: the width of the representations
        :param features: a vector for each value, shape: ``(n, w)``; None: those of the attribute
        :param num_layers: the number of layers
        :param activation: the activation between them
        :param dropout: the probability with which an output of an inner layer is dropped
        :param kwargs: keyword-based parameters of :class:`pykeen.nn.representation.Representation`

        :raises ConfigurationError: if there is no vector for each value
        """
        if features is None:
            check_kind("feature", attribute, "images", "multi_hot")
            features = attribute.values
        if features is None or features.ndim != 2 or len(features) != len(attribute):  # noqa: PLR2004
            found = None if features is None else tuple(features.shape)
            raise ConfigurationError(
                f"encoder 'feature' needs a vector for each of the {len(attribute)} values of {attribute.name!r}, got "
                f"the shape {found}; flatten them, or choose 'featuremap' or 'picture'."
            )
        rows = features.float()
        own = rows[attribute.training_positions]
        deviation = own.std(dim=0, unbiased=False)
        rows = (rows - own.mean(dim=0)) / deviation.where(deviation > 0, deviation.new_ones(()))
        super().__init__(attribute, shape, rows, num_layers, activation, dropout, **kwargs)


class CategoryEncoder(ValueEncoder):
    """A vector for each category, as for entities."""

    def __init__(self, *, attribute: Attribute, shape: int, initializer: Any = "xavier_uniform", **kwargs: Any) -> None:
        """Initialize the encoder.

        :param attribute: an attribute of any kind
        :param shape: the width of the representations
        :param initializer: draws the vectors, see :class:`pykeen.nn.representation.Embedding`
        :param kwargs: keyword-based parameters of :class:`pykeen.nn.representation.Representation`
        """
        super().__init__(attribute=attribute, shape=shape, **kwargs)
        self.embedding = Embedding(max_id=len(attribute), shape=shape, initializer=initializer)

    @override
    def encode(self, positions: LongTensor) -> FloatTensor:
        encoded: FloatTensor = self.embedding(positions)
        return encoded

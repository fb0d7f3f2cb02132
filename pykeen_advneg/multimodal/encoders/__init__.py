"""Encoders of attribute values, by name; which one is the default for what."""

from __future__ import annotations

from class_resolver import ClassResolver

from ..attributes import Attribute
from .base import ValueEncoder
from .pictures import FeatureMapEncoder, PictureEncoder
from .texts import CharacterGRUEncoder, SentenceEncoder, WordCNNEncoder
from .vectors import CategoryEncoder, FeatureEncoder, MultiHotEncoder, NumericEncoder

__all__ = [
    "CategoryEncoder",
    "CharacterGRUEncoder",
    "FeatureEncoder",
    "FeatureMapEncoder",
    "MultiHotEncoder",
    "NumericEncoder",
    "PictureEncoder",
    "SentenceEncoder",
    "ValueEncoder",
    "WordCNNEncoder",
    "default_encoder",
    "encoder_resolver",
]

#: the names are ``category``, ``charactergru``, ``feature``, ``featuremap``, ``multihot``, ``numeric``, ``picture``,
#: ``sentence``, ``wordcnn``
encoder_resolver: ClassResolver[ValueEncoder] = ClassResolver(
    [
        CategoryEncoder,
        CharacterGRUEncoder,
        FeatureEncoder,
        FeatureMapEncoder,
        MultiHotEncoder,
        NumericEncoder,
        PictureEncoder,
        SentenceEncoder,
        WordCNNEncoder,
    ],
    base=ValueEncoder,  # type: ignore[type-abstract]
    suffix="Encoder",
)

#: texts with more characters on average are read by words
_LONG = 60
_MAP_DIMENSIONS = 4


def default_encoder(attribute: Attribute) -> str:
    """Choose an encoder by what the values are.

    :param attribute: the attribute

    :returns: the name: characters of short texts, words of long ones; pixels of pictures, else features
    """
    if attribute.kind == "text":
        return "wordcnn" if sum(map(len, attribute.labels)) > _LONG * len(attribute) else "charactergru"
    if attribute.kind == "images":
        values = attribute.values
        assert values is not None
        is_map = values.ndim == _MAP_DIMENSIONS
        return ("featuremap" if values.is_floating_point() else "picture") if is_map else "feature"
    return {"numeric": "numeric", "categorical": "category", "multi_hot": "multihot"}[attribute.kind]

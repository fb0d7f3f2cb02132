"""Texts, pictures, numbers and categories beside the links of a graph; at hand here: features, aligned by label."""

from __future__ import annotations

from .descriptions import entity_texts, read_texts
from .features import MultimodalFeatures
from .images import image_features, vision_encoder
from .regions import region_descriptor
from .texts import sentence_encoder, split_sentences, text_features

__all__ = [
    "MultimodalFeatures",
    "entity_texts",
    "image_features",
    "read_texts",
    "region_descriptor",
    "sentence_encoder",
    "split_sentences",
    "text_features",
    "vision_encoder",
]

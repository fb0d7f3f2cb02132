"""Encoders of texts: by characters, by words, by sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from class_resolver import HintOrType
from pykeen.typing import FloatTensor, LongTensor
from torch import nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from typing_extensions import override

from ...errors import ConfigurationError
from ..attributes import Attribute
from .base import ValueEncoder, check_kind
from .tokens import PAD, Vocabulary, characters, words
from .vectors import FeatureEncoder

__all__ = ["CharacterGRUEncoder", "SentenceEncoder", "WordCNNEncoder"]


class _TokenEncoder(ValueEncoder):
    """Reads tokens, which are looked up once, when the encoder is made."""

    tokens: LongTensor
    lengths: LongTensor

    def __init__(self, attribute: Attribute, shape: int, vocabulary: Vocabulary, width: int, **kwargs: Any) -> None:
        super().__init__(attribute=attribute, shape=shape, **kwargs)
        tokens, lengths = vocabulary.encode(attribute.labels)
        self.register_buffer("tokens", tokens, persistent=False)
        self.register_buffer("lengths", lengths, persistent=False)
        self.embedding = nn.Embedding(len(vocabulary), width, padding_idx=PAD)

    def look_up(self, positions: LongTensor) -> tuple[FloatTensor, LongTensor]:
        """Look up the vectors of the tokens, shape: ``(n, length, width)``, and the lengths, shape: ``(n,)``."""
        lengths = self.lengths[positions]
        tokens = self.tokens[positions, : int(lengths.max())]
        return self.embedding(tokens.long()), lengths


class CharacterGRUEncoder(_TokenEncoder):
    r"""Gated recurrent units over the characters, in both directions, as the authors' code has it for titles.

    A text is ``<go>``, its characters, ``<eos>``. The first of several layers joins both directions of width $d / 2$,
    all others average both of width $d$. The vector of a text is the first time step of the last layer: there the
    backward direction has read all of the text, and the forward one ``<go>`` only. The code has three layers, and
    dropout after each; here the default is one, without dropout.
    """

    def __init__(
        self,
        *,
        attribute: Attribute,
        shape: int,
        num_layers: int = 1,
        character_dim: int | None = None,
        max_length: int = 128,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Initialize the encoder.

        :param attribute: a text attribute
        :param shape: the width of the representations
        :param num_layers: the number of layers
        :param character_dim: the width of the vectors of characters; half of ``shape`` if None
        :param max_length: how many characters are read
        :param dropout: the probability with which an output of a layer is dropped
        :param kwargs: keyword-based parameters of :class:`pykeen.nn.representation.Representation`

        :raises ConfigurationError: if there is no layer
        """
        check_kind("charactergru", attribute, "text", "categorical")
        if num_layers < 1:
            raise ConfigurationError(f"num_layers={num_layers} is too small; choose at least 1.")
        vocabulary = Vocabulary(_training_texts(attribute), characters, max_length + 2)
        width = character_dim or max(1, shape // 2)
        super().__init__(attribute, shape, vocabulary, width, **kwargs)
        half = -(-shape // 2)
        widths = [width, 2 * half, *[shape] * num_layers][:num_layers]
        hidden = [half, *[shape] * num_layers][: num_layers - 1]
        self.layers = nn.ModuleList(
            nn.GRU(before, after, batch_first=True, bidirectional=True)
            for before, after in zip(widths, hidden, strict=False)
        )
        # of the last layer, the first time step is all that is asked for: one step of the forward direction
        self.forward_cell = nn.GRUCell(widths[-1], shape)
        self.backward_layer = nn.GRU(widths[-1], shape, batch_first=True)
        self.drop = nn.Dropout(dropout)

    @override
    def encode(self, positions: LongTensor) -> FloatTensor:
        x, lengths = self.look_up(positions)
        on_cpu = lengths.cpu()
        for i, layer in enumerate(self.layers):
            packed = pack_padded_sequence(x, on_cpu, batch_first=True, enforce_sorted=False)
            x, _ = pad_packed_sequence(layer(packed)[0], batch_first=True)
            # the first layer joins both directions, others average them
            x = self.drop(x if i == 0 else (x[..., : x.shape[-1] // 2] + x[..., x.shape[-1] // 2 :]) / 2)
        places = torch.arange(x.shape[1], device=x.device)
        last = (lengths.unsqueeze(-1) - 1 - places).clamp(min=0)
        turned = x.gather(1, last.unsqueeze(-1).expand_as(x))
        packed = pack_padded_sequence(turned, on_cpu, batch_first=True, enforce_sorted=False)
        _, state = self.backward_layer(packed)
        encoded: FloatTensor = self.drop((self.forward_cell(x[:, 0]) + state[-1]) / 2)
        return encoded


class WordCNNEncoder(_TokenEncoder):
    """Convolutions over the words, and the mean over the places, as in the (disabled) code for descriptions.

    Two layers of width 4 with ReLU, on word vectors of half the width. Words are in small letters; punctuation counts.
    """

    def __init__(
        self,
        *,
        attribute: Attribute,
        shape: int,
        num_layers: int = 2,
        kernel_size: int = 4,
        word_dim: int | None = None,
        max_length: int = 64,
        max_words: int = 20_000,
        **kwargs: Any,
    ) -> None:
        """Initialize the encoder.

        :param attribute: a text attribute
        :param shape: the width of the representations
        :param num_layers: the number of convolutions
        :param kernel_size: how many words a convolution sees
        :param word_dim: the width of the vectors of words; half of ``shape`` if None
        :param max_length: how many words are read
        :param max_words: how many words have vectors, the most frequent ones
        :param kwargs: keyword-based parameters of :class:`pykeen.nn.representation.Representation`
        """
        check_kind("wordcnn", attribute, "text", "categorical")
        width = word_dim or max(1, shape // 2)
        vocabulary = Vocabulary(_training_texts(attribute), words, max_length, max_words)
        super().__init__(attribute, shape, vocabulary, width, **kwargs)
        widths = [width, *[shape] * num_layers]
        self.layers = nn.ModuleList(nn.Conv1d(before, after, kernel_size) for before, after in pairwise(widths))
        self.padding = ((kernel_size - 1) // 2, kernel_size // 2)
        self.output = nn.Linear(shape, shape)

    @override
    def encode(self, positions: LongTensor) -> FloatTensor:
        x, lengths = self.look_up(positions)
        places = torch.arange(x.shape[1], device=x.device)
        there = (places < lengths.unsqueeze(-1)).unsqueeze(1)
        x = x.transpose(1, 2)
        for layer in self.layers:
            # what is behind the end of a text says nothing, whatever the longest text of the batch is
            x = layer(pad(x, self.padding)).relu() * there
        encoded: FloatTensor = self.output(x.sum(dim=-1) / lengths.unsqueeze(-1))
        return encoded


class SentenceEncoder(FeatureEncoder):
    """A vector for each text by a sentence encoder which is not trained, and a layer on top.

    Without an encoder of yours, the vectors are those of latent semantic analysis (TF-IDF of words and pairs of words,
    truncated singular value decomposition) of the texts of the attribute: no weights to download, no word order. The
    vectors are saved with the weights.
    """

    keeps_rows: ClassVar[bool] = True

    def __init__(
        self,
        *,
        attribute: Attribute,
        shape: int,
        embed: Callable[[Sequence[str]], FloatTensor] | None = None,
        width: int = 128,
        num_layers: int = 1,
        activation: HintOrType[nn.Module] = "relu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Initialize the encoder.

        :param attribute: a text attribute
        :param shape: the width of the representations
        :param embed: gives a vector for each of some texts; asked once
        :param width: the width of latent semantic analysis, at most
        :param num_layers: the number of layers
        :param activation: the activation between them
        :param dropout: the probability with which an output of an inner layer is dropped
        :param kwargs: keyword-based parameters of :class:`pykeen.nn.representation.Representation`
        """
        check_kind("sentence", attribute, "text", "categorical")
        features = (
            torch.as_tensor(embed(attribute.labels))
            if embed
            else latent_semantics(attribute.labels, width, _training_texts(attribute))
        )
        super().__init__(
            attribute=attribute,
            shape=shape,
            features=features.detach().clone(),
            num_layers=num_layers,
            activation=activation,
            dropout=dropout,
            **kwargs,
        )


def _training_texts(attribute: Attribute) -> list[str]:
    """Give the texts of training, to which vocabularies are fitted."""
    return [attribute.labels[i] for i in attribute.training_positions.tolist()]


def latent_semantics(texts: Sequence[str], width: int, training: Sequence[str]) -> FloatTensor:
    """Embed texts by latent semantic analysis.

    :param texts: the texts
    :param width: how many dimensions, at most
    :param training: the texts which it is fitted to

    :returns: shape: ``(n, w)``
    """
    from sklearn.decomposition import TruncatedSVD  # type: ignore[import-untyped]
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+", sublinear_tf=True)
    own = vectorizer.fit_transform(training)
    matrix = vectorizer.transform(texts)
    if min(own.shape) == 1:
        return torch.as_tensor(matrix.toarray()).float()
    width = max(1, min(width, min(own.shape) - 1))
    return torch.as_tensor(TruncatedSVD(width, random_state=0).fit(own).transform(matrix)).float()

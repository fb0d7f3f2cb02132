"""Texts as rows of numbers, made once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from pykeen.typing import LongTensor

from ...errors import ConfigurationError

__all__ = ["PAD", "UNKNOWN", "Vocabulary", "characters", "words"]

#: what stands behind the end of a text, and for a token which is not in the vocabulary
PAD, UNKNOWN = 0, 1

_WORD = re.compile(r"\w+|[^\w\s]")


def characters(text: str) -> list[str]:
    """Split into characters, after a first token which marks the start and before one which marks the end."""
    return ["<go>", *text, "<eos>"]


def words(text: str) -> list[str]:
    """Split into words and punctuation, in small letters."""
    return _WORD.findall(text.lower())


class Vocabulary:
    """The tokens of some texts, and the texts as rows of their ids."""

    def __init__(
        self,
        texts: Sequence[str],
        split: Callable[[str], list[str]],
        max_length: int,
        max_tokens: int = 2**15 - 1,
        special: Sequence[str] = (),
    ) -> None:
        """Split texts.

        :param texts: the texts
        :param split: splits a text into tokens
        :param max_length: how many tokens of a text are kept; a last one which marks the end is
        :param max_tokens: how many tokens have ids, the most frequent ones
        :param special: tokens which have the first ids behind padding and the unknown token

        :raises ConfigurationError: if there is no text, or no room
        """
        if max_length < 1 or not len(texts):
            raise ConfigurationError(f"max_length={max_length} of {len(texts)} texts: both must be at least 1.")
        rows = [split(text) for text in texts]
        counts = Counter(token for row in rows for token in row)
        room = max(0, max_tokens - 2 - len(special))
        # sorted, so that ties do not depend on the order of the texts
        frequent = sorted(counts, key=lambda token: (-counts[token], token))
        chosen = [token for token in frequent if token not in special][:room]
        #: the tokens by id
        self.tokens: tuple[str, ...] = ("<pad>", "<oov>", *special, *chosen)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.max_length = max_length
        self.split = split

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, texts: Sequence[str]) -> tuple[torch.Tensor, LongTensor]:
        """Turn texts into ids.

        :param texts: the texts

        :returns: the ids, shape: ``(n, length)`` of 16 bits, padded, and the lengths, shape: ``(n,)``, at least 1
        """
        rows = []
        for text in texts:
            row = [self.ids.get(token, UNKNOWN) for token in self.split(text)] or [UNKNOWN]
            rows.append(row if len(row) <= self.max_length else [*row[: self.max_length - 1], row[-1]])
        lengths = torch.as_tensor([len(row) for row in rows])
        matrix = np.full((len(rows), int(lengths.max())), PAD, dtype=np.int16)
        for target, row in zip(matrix, rows, strict=True):
            target[: len(row)] = row
        return torch.from_numpy(matrix), lengths

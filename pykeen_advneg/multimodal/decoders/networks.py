"""The networks of the decoder of texts: those which read and write, and those which play against each other."""

from __future__ import annotations

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence
from typing_extensions import override

from ..encoders.tokens import PAD
from .base import EntityDecoder

__all__ = ["END", "START", "TextNetworks"]

#: what stands before and behind a text
START, END = 2, 3


class TextNetworks(EntityDecoder):
    """Codes of texts, and texts from codes; codes of entities, and opinions of codes."""

    noise_dim: int
    conditional: bool

    def build(self, num_tokens: int) -> None:
        """Make the networks.

        :param num_tokens: how many words there are
        """
        settings = self.settings
        word_dim, hidden_dim = settings["word_dim"], settings["hidden_dim"]
        condition = settings["embedding_dim"] if self.conditional else 0
        n = max(num_tokens, END + 1)
        self.embedding = nn.Embedding(n, word_dim, padding_idx=PAD)
        self.reader = nn.LSTM(word_dim, hidden_dim, batch_first=True)
        self.writer = nn.LSTM(word_dim + hidden_dim, hidden_dim, batch_first=True)
        self.output = nn.Linear(hidden_dim, n)
        self.generator = nn.Sequential(
            *_block(condition + self.noise_dim, hidden_dim),
            *_block(hidden_dim, hidden_dim),
            nn.Linear(hidden_dim, hidden_dim),
        )
        self.critic = nn.Sequential(
            nn.Linear(hidden_dim + condition, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, hidden_dim),
            nn.BatchNorm1d(hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, 1),
        )
        for network in (self.generator, self.critic):
            for layer in network:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.02)
                    nn.init.zeros_(layer.bias)

    @override
    def condition(self, embeddings: FloatTensor) -> FloatTensor:
        """Bring embeddings to length 1, shape: ``(n, d)``; to nothing, if unconditional."""
        return functional.normalize(embeddings, dim=-1) if self.conditional else embeddings[:, :0]

    def encode(self, tokens: LongTensor, lengths: LongTensor) -> FloatTensor:
        """Read texts.

        :param tokens: ids, the end included, shape: ``(n, length)``
        :param lengths: shape: ``(n,)``

        :returns: codes of length 1, shape: ``(n, hidden_dim)``
        """
        packed = pack_padded_sequence(self.embedding(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (state, _) = self.reader(packed)
        codes: FloatTensor = functional.normalize(state[-1], dim=-1)
        return codes

    def write(self, codes: FloatTensor, tokens: LongTensor) -> FloatTensor:
        """Write texts, each word given those before it.

        :param codes: shape: ``(n, hidden_dim)``
        :param tokens: the words, the end included, shape: ``(n, length)``

        :returns: logits of the words, shape: ``(n, length, words)``
        """
        before = torch.cat([torch.full_like(tokens[:, :1], START), tokens[:, :-1]], dim=1)
        x = torch.cat([self.embedding(before), codes.unsqueeze(1).expand(-1, tokens.shape[1], -1)], dim=-1)
        output, _ = self.writer(x)
        logits: FloatTensor = self.output(output)
        return logits

    def generate_codes(self, embeddings: FloatTensor) -> FloatTensor:
        """Make codes from embeddings, shape: ``(n, hidden_dim)``."""
        condition = self.condition(embeddings)
        noise = torch.randn(len(embeddings), self.noise_dim, device=embeddings.device)
        codes: FloatTensor = self.generator(torch.cat([condition, noise], dim=-1))
        return codes

    def criticize(self, codes: FloatTensor, condition: FloatTensor) -> FloatTensor:
        """Give the mean opinion of the critic; low for true texts."""
        opinion: FloatTensor = self.critic(torch.cat([codes, condition], dim=-1)).mean()
        return opinion


def _block(width_in: int, width: int) -> list[nn.Module]:
    return [nn.Linear(width_in, width), nn.BatchNorm1d(width), nn.ReLU()]

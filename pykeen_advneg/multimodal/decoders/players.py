"""How the decoder of texts is trained: autoencoder, critic and generator take turns."""

from __future__ import annotations

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from ..encoders.tokens import PAD
from .networks import TextNetworks

__all__ = ["Players"]


class Players:
    """The three which take turns, and their optimizers."""

    def __init__(
        self, decoder: TextNetworks, lr: float, critic_lr: float, generator_lr: float, clamp: float, scale: float
    ) -> None:
        self.decoder, self.clamp, self.scale = decoder, clamp, scale
        self.autoencoder_parameters = [
            parameter
            for network in (decoder.embedding, decoder.reader, decoder.writer, decoder.output)
            for parameter in network.parameters()
        ]
        self.autoencoder = torch.optim.SGD(self.autoencoder_parameters, lr=lr)
        self.critic = torch.optim.Adam(decoder.critic.parameters(), lr=critic_lr, betas=(0.9, 0.999))
        self.generator = torch.optim.Adam(decoder.generator.parameters(), lr=generator_lr, betas=(0.9, 0.999))
        #: the norm of the last gradient of the codes from the words
        self.norm = torch.zeros(())

    def reconstruct(self, tokens: LongTensor, lengths: LongTensor, _: FloatTensor, noise: float) -> float:
        """Step the autoencoder."""
        decoder = self.decoder
        self.autoencoder.zero_grad()
        codes = decoder.encode(tokens, lengths)
        codes.register_hook(self._remember)
        logits = decoder.write(codes + noise * torch.randn_like(codes), tokens)
        loss = functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=PAD)
        loss.backward()
        clip_grad_norm_(self.autoencoder_parameters, 1.0)
        self.autoencoder.step()
        return loss.item()

    def _remember(self, gradient: FloatTensor) -> None:
        self.norm = gradient.norm()

    def _turn(self, gradient: FloatTensor) -> FloatTensor:
        """Turn the critic's gradient of the codes round, and give it the size of the one from the words."""
        turned: FloatTensor = -self.scale * gradient * self.norm / gradient.norm().clamp(min=1e-12)
        return turned

    def criticize(self, tokens: LongTensor, lengths: LongTensor, embeddings: FloatTensor) -> float:
        """Step the critic, and the encoder against it."""
        decoder = self.decoder
        with torch.no_grad():
            for parameter in decoder.critic.parameters():
                parameter.clamp_(-self.clamp, self.clamp)
        self.critic.zero_grad()
        self.autoencoder.zero_grad()
        codes, condition = decoder.encode(tokens, lengths), decoder.condition(embeddings)
        codes.register_hook(self._turn)
        made = decoder.generate_codes(embeddings).detach()
        loss = decoder.criticize(codes, condition) - decoder.criticize(made, condition)
        loss.backward()
        clip_grad_norm_(self.autoencoder_parameters, 1.0)
        self.critic.step()
        self.autoencoder.step()
        return loss.item()

    def generate(self, embeddings: FloatTensor) -> float:
        """Step the generator."""
        self.generator.zero_grad()
        loss = self.decoder.criticize(self.decoder.generate_codes(embeddings), self.decoder.condition(embeddings))
        loss.backward()
        self.generator.step()
        return loss.item()

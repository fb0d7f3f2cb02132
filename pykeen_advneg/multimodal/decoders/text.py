"""Texts from embeddings: an autoencoder of texts, whose codes a generator learns to make from entities (ARAE)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pykeen.typing import FloatTensor
from tqdm.auto import tqdm
from typing_extensions import override

from ...errors import ConfigurationError
from ..encoders.tokens import PAD, UNKNOWN, Vocabulary, words
from .base import batches, check_finite, check_rows, check_schedule, seeded
from .networks import END, START, TextNetworks
from .players import Players

__all__ = ["TextDecoder"]

_SPECIAL = ("<sos>", "<eos>")
#: the noise on codes shrinks by this factor once in so many steps
_NOISE_DECAY, _NOISE_STEPS = 0.995, 100
#: at the start of these epochs, one more round of critic and generator is played in each step
_MORE_ROUNDS = (2, 4, 6)


class TextDecoder(TextNetworks):
    r"""A conditional, adversarially regularised autoencoder (Zhao et al., 2018), as MKBE has it for descriptions.

    An LSTM reads a text; its last state, brought to the unit sphere, is the *code* $c$ of the text. Another LSTM, whose
    input at each step is the last word and the code, writes it again. A *generator* $G$ makes a code from the
    embedding of an entity, of length 1, and a *critic* $D$ tells codes of true texts from made ones, given the entity.
    What is sampled is the text which the second LSTM writes for $G(e)$.

    Each step, in this order:

    1. the autoencoder: cross-entropy of the words, normal noise on the codes; SGD, gradients clipped to norm 1;
    2. in each of some rounds, five times the critic: its weights are clamped, it minimises $D(c, e) - D(G(e), e)$;
       the encoder gets the gradient of it in the other direction, brought to the norm of its last gradient from the
       words and multiplied by ``adversarial_scale``; SGD for the encoder, Adam for the critic; then once the generator,
       which minimises $D(G(e), e)$.

    There is one round, and one more from epochs 2, 4 and 6 on. All sizes and rates are those of the authors' code. That
    code draws noise for the generator, but does not feed it: an entity has one text; here, ``noise_dim`` feeds some.
    """

    name = "text"

    def __init__(
        self,
        *,
        embedding_dim: int,
        tokens: Sequence[str] = (),
        word_dim: int = 300,
        hidden_dim: int = 300,
        max_length: int = 30,
        max_words: int = 11_000,
        noise_dim: int = 0,
        conditional: bool = True,
    ) -> None:
        """Initialize the decoder.

        :param embedding_dim: the width of the embeddings
        :param tokens: the words by id; made from the texts by training
        :param word_dim: the width of word vectors
        :param hidden_dim: the width of codes and of all layers
        :param max_length: how many words of a text are read and written
        :param max_words: how many words are known, the most frequent ones
        :param noise_dim: how many normal random numbers the generator gets
        :param conditional: whether generator and critic see the entity; an unconditional one needs noise

        :raises ConfigurationError: if the generator would see nothing
        """
        if not conditional and not noise_dim:
            raise ConfigurationError("noise_dim=0 of an unconditional decoder: it would write one text; choose 64.")
        super().__init__(
            embedding_dim=embedding_dim,
            tokens=list(tokens),
            word_dim=word_dim,
            hidden_dim=hidden_dim,
            max_length=max_length,
            max_words=max_words,
            noise_dim=noise_dim,
            conditional=conditional,
        )
        self.noise_dim, self.conditional, self.max_length = noise_dim, conditional, max_length
        self.build(len(tokens))

    @override
    def fit(
        self,
        embeddings: FloatTensor,
        targets: Sequence[str],
        *,
        seed: int = 0,
        use_tqdm: bool = True,
        device: torch.device | str | None = None,
        epochs: int = 15,
        batch_size: int = 64,
        lr: float = 1.0,
        critic_lr: float = 1e-5,
        generator_lr: float = 5e-5,
        noise: float = 0.2,
        critic_steps: int = 5,
        clamp: float = 0.01,
        adversarial_scale: float = 0.01,
    ) -> list[float]:
        """Train.

        :param embeddings: shape: ``(n, d)``
        :param targets: their texts
        :param seed: the seed of all that is random
        :param use_tqdm: whether progress is shown
        :param device: where to train, and to stay; None: where it is
        :param epochs: how many
        :param batch_size: how many texts are in a batch
        :param lr: the learning rate of the autoencoder
        :param critic_lr: that of the critic
        :param generator_lr: that of the generator
        :param noise: the standard deviation of the noise on codes, at first
        :param critic_steps: how often the critic steps in a round
        :param clamp: the weights of the critic are between its negative and it
        :param adversarial_scale: what the critic's gradient of the encoder is multiplied by

        :returns: the cross-entropy of a word in each epoch

        :raises ConfigurationError: if there are too few texts, or if nothing would be trained
        :raises DivergenceError: if a loss is not finite
        """
        check_rows(self.name, embeddings, targets, 2)
        check_schedule(self.name, epochs, batch_size)
        embeddings = embeddings.detach().to(self.to(device).device)
        vocabulary = Vocabulary(targets, _split, self.max_length + 1, self.settings["max_words"], _SPECIAL)
        tokens, lengths = vocabulary.encode(targets)
        tokens = tokens.to(self.device)
        with seeded(seed) as generator:
            self.settings = {**self.settings, "tokens": list(vocabulary.tokens)}
            self.build(len(vocabulary))
            self.to(self.device)
            players = Players(self, lr, critic_lr, generator_lr, clamp, adversarial_scale)
            losses, rounds, step = [], 1, 0
            for epoch in tqdm(range(1, epochs + 1), desc="decoder text", unit="epoch", disable=not use_tqdm):
                rounds += epoch in _MORE_ROUNDS
                self.train()
                total = count = 0.0
                for rows in batches(len(embeddings), batch_size, generator):
                    longest = int(lengths[rows].max())
                    batch = (tokens[rows, :longest].long(), lengths[rows], embeddings[rows])
                    loss = players.reconstruct(*batch, noise * _NOISE_DECAY ** (step // _NOISE_STEPS))
                    for _ in range(rounds):
                        critics = [players.criticize(*batch) for _ in range(critic_steps)]
                        made = players.generate(batch[2])
                    check_finite(self.name, cross_entropy=loss, critic=critics[-1], generator=made)
                    total, count, step = total + loss * len(rows), count + len(rows), step + 1
                losses.append(total / count)
        self.eval()
        return losses

    @torch.no_grad()
    def sample(self, embeddings: FloatTensor, temperature: float = 0.0, seed: int = 0) -> list[str]:
        """Write texts for entities.

        :param embeddings: shape: ``(n, d)``
        :param temperature: of the softmax which words are drawn from; 0: the likeliest word
        :param seed: the seed of what is drawn

        :returns: a text each
        """
        self.eval()
        with seeded(seed):
            return self.write_freely(self.generate_codes(embeddings.to(self.device)), temperature)

    @torch.no_grad()
    def write_freely(self, codes: FloatTensor, temperature: float = 0.0) -> list[str]:
        """Write texts from codes, each word given those which were written.

        :param codes: shape: ``(n, hidden_dim)``
        :param temperature: see :meth:`sample`

        :returns: a text each
        """
        word = torch.full((len(codes),), START, device=codes.device)
        state: Any = None
        written = []
        for _ in range(self.max_length):
            x = torch.cat([self.embedding(word), codes], dim=-1).unsqueeze(1)
            output, state = self.writer(x, state)
            logits = self.output(output[:, 0])
            # what is no word of a text is not written
            logits[:, [PAD, UNKNOWN, START]] = -torch.inf
            if temperature:
                word = (logits / temperature).softmax(dim=-1).multinomial(1).squeeze(-1)
            else:
                word = logits.argmax(dim=-1)
            written.append(word)
        return [self._join(row) for row in torch.stack(written, dim=1).tolist()]

    def _join(self, ids: Sequence[int]) -> str:
        if END in ids:
            ids = ids[: ids.index(END)]
        return " ".join(self.settings["tokens"][i] for i in ids)


def _split(text: str) -> list[str]:
    return [*words(text), _SPECIAL[1]]

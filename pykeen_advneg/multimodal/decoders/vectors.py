"""Decoders of categories and of sets of labels: a hidden layer on the embedding of the entity."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from typing import Any

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm
from typing_extensions import override

from .base import EntityDecoder, batches, check_finite, check_rows, check_schedule, seeded

__all__ = ["CategoricalDecoder", "MultiHotDecoder", "Perceptron"]

#: one tenth of the rows says when to stop, another how wide intervals are
_SHARE = 10
_LEAST = 10


class Perceptron(EntityDecoder):
    """A layer with ReLU, and a linear one, on standardised embeddings; stopped early."""

    def __init__(
        self, embedding_dim: int, width_out: int, hidden_dim: int | None, dropout: float, **settings: Any
    ) -> None:
        hidden_dim = hidden_dim or embedding_dim
        super().__init__(embedding_dim=embedding_dim, hidden_dim=hidden_dim, dropout=dropout, **settings)
        self.layers = nn.Sequential(
            nn.Linear(embedding_dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden_dim, width_out)
        )

    @override
    def forward(self, embeddings: FloatTensor) -> FloatTensor:
        output: FloatTensor = self.layers(self.condition(embeddings))
        return output

    @abstractmethod
    def prepare(self, targets: Any) -> torch.Tensor:
        """Turn values into what the loss compares with; the first call is for training."""

    @abstractmethod
    def loss(self, output: FloatTensor, targets: torch.Tensor) -> FloatTensor:
        """Compute the mean loss."""

    def calibrate(self, embeddings: FloatTensor, targets: torch.Tensor) -> None:
        """Learn from rows which were held out how far off predictions are."""

    @override
    def fit(
        self,
        embeddings: FloatTensor,
        targets: Any,
        *,
        seed: int = 0,
        use_tqdm: bool = True,
        device: torch.device | str | None = None,
        epochs: int = 200,
        batch_size: int = 256,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
        patience: int = 20,
    ) -> list[float]:
        """Train until a tenth of the rows, held out, says stop; another tenth calibrates.

        :param embeddings: shape: ``(n, d)``
        :param targets: their values
        :param seed: the seed of all that is random
        :param use_tqdm: whether progress is shown
        :param device: where to train, and to stay; None: where it is
        :param epochs: how many at most
        :param batch_size: how many rows are in a batch
        :param lr: the learning rate of AdamW
        :param weight_decay: its decay
        :param patience: how many epochs without a better loss are waited for

        :returns: the loss of each epoch on the rows which were held out

        :raises ConfigurationError: if there are too few rows, or if nothing would be trained
        :raises DivergenceError: if a loss is not finite
        """
        check_rows(self.name, embeddings, targets, _LEAST)
        check_schedule(self.name, epochs, batch_size)
        embeddings = embeddings.detach().to(self.to(device).device)
        with seeded(seed) as generator:
            for module in self.layers:
                if isinstance(module, nn.Linear):
                    module.reset_parameters()
            order = torch.randperm(len(embeddings), generator=generator)
            share = max(1, len(order) // _SHARE)
            stopping, calibration, training = order[:share], order[share : 2 * share], order[2 * share :]
            self.standardize(embeddings[training])
            wanted = self.prepare(targets).to(self.device)
            optimizer = torch.optim.AdamW(self.parameters(), lr=lr, weight_decay=weight_decay)
            best, state, losses = math.inf, copy.deepcopy(self.state_dict()), []
            waited = 0
            for _ in tqdm(range(epochs), desc=f"decoder {self.name}", unit="epoch", disable=not use_tqdm):
                self.train()
                for rows in batches(len(training), batch_size, generator):
                    chosen = training[rows]
                    optimizer.zero_grad()
                    self.loss(self(embeddings[chosen]), wanted[chosen]).backward()
                    optimizer.step()
                self.eval()
                with torch.no_grad():
                    losses.append(self.loss(self(embeddings[stopping]), wanted[stopping]).item())
                check_finite(self.name, loss=losses[-1])
                if losses[-1] < best:
                    best, state, waited = losses[-1], copy.deepcopy(self.state_dict()), 0
                else:
                    waited += 1
                    if waited > patience:
                        break
            self.load_state_dict(state)
            self.eval()
            with torch.no_grad():
                self.calibrate(embeddings[calibration], wanted[calibration])
        return losses


class CategoricalDecoder(Perceptron):
    """Predicts the probabilities of categories; trained by cross-entropy."""

    name = "categorical"

    def __init__(
        self, *, embedding_dim: int, num_categories: int, hidden_dim: int | None = None, dropout: float = 0.1
    ) -> None:
        """Initialize the decoder.

        :param embedding_dim: the width of the embeddings
        :param num_categories: the number of categories
        :param hidden_dim: the width of the hidden layer; that of the embeddings if None
        :param dropout: the probability with which a hidden unit is dropped in training
        """
        super().__init__(embedding_dim, num_categories, hidden_dim, dropout, num_categories=num_categories)

    @override
    def prepare(self, targets: LongTensor) -> LongTensor:
        return torch.as_tensor(targets, dtype=torch.long)

    @override
    def loss(self, output: FloatTensor, targets: LongTensor) -> FloatTensor:
        return functional.cross_entropy(output, targets)

    @torch.no_grad()
    def predict(self, embeddings: FloatTensor) -> FloatTensor:
        """Predict.

        :param embeddings: shape: ``(n, d)``

        :returns: the probabilities of the categories, shape: ``(n, c)``
        """
        self.eval()
        probabilities: FloatTensor = self(embeddings.to(self.device)).softmax(dim=-1).cpu()
        return probabilities


class MultiHotDecoder(Perceptron):
    """Predicts the probability of each label; trained by binary cross-entropy."""

    name = "multi_hot"

    def __init__(
        self, *, embedding_dim: int, num_labels: int, hidden_dim: int | None = None, dropout: float = 0.1
    ) -> None:
        """Initialize the decoder.

        :param embedding_dim: the width of the embeddings
        :param num_labels: the number of labels
        :param hidden_dim: the width of the hidden layer; that of the embeddings if None
        :param dropout: the probability with which a hidden unit is dropped in training
        """
        super().__init__(embedding_dim, num_labels, hidden_dim, dropout, num_labels=num_labels)

    @override
    def prepare(self, targets: FloatTensor) -> FloatTensor:
        return torch.as_tensor(targets).float()

    @override
    def loss(self, output: FloatTensor, targets: FloatTensor) -> FloatTensor:
        return functional.binary_cross_entropy_with_logits(output, targets)

    @torch.no_grad()
    def predict(self, embeddings: FloatTensor) -> FloatTensor:
        """Predict.

        :param embeddings: shape: ``(n, d)``

        :returns: the probability of each label, shape: ``(n, w)``
        """
        self.eval()
        probabilities: FloatTensor = self(embeddings.to(self.device)).sigmoid().cpu()
        return probabilities

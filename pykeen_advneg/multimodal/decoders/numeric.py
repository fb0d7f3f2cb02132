"""The decoder of numbers, with intervals."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from pykeen.typing import FloatTensor
from torch.nn import functional
from typing_extensions import override

from ...errors import ConfigurationError
from .base import check_rows
from .vectors import Perceptron

__all__ = ["NumericDecoder", "Prediction", "check_alpha"]


class Prediction(NamedTuple):
    """Numbers, and intervals around them."""

    #: shape: ``(n,)``
    value: FloatTensor

    #: shape: ``(n,)``
    low: FloatTensor

    #: shape: ``(n,)``
    high: FloatTensor


def check_alpha(alpha: float) -> None:
    """Check how often an interval may miss the true number.

    :param alpha: how often

    :raises ConfigurationError: if it is impossible
    """
    if not 0 < alpha < 1:
        raise ConfigurationError(f"alpha={alpha!r} must be greater than 0 and less than 1.")


class NumericDecoder(Perceptron):
    r"""Predicts a number, with an interval.

    Trained by the squared error of the standardised number. The paper's loss is its root mean squared error; sizes are
    not given there: one hidden layer of the width of the embedding [our choice].

    The interval is that of split conformal prediction: on rows which took no part in training the decoder, the
    $\lceil (n + 1) (1 - \alpha) \rceil / n$ quantile of the absolute errors is its half width. It holds the true number
    with probability $1 - \alpha$ for entities drawn as those rows were, and is as wide for all of them.

    **Which rows.** The model was trained with the numbers that :meth:`fit` gets, those of its calibrating tenth, too:
    the embedding of an entity has seen its number. Of an entity without a number it has not, so that errors are larger
    there, and the interval may hold less often than it says. :meth:`calibrate_held_out` takes numbers which the model
    was not trained with, for which it holds.
    """

    name = "numeric"

    residuals: FloatTensor

    def __init__(
        self,
        *,
        embedding_dim: int,
        mean: float = 0.0,
        std: float = 1.0,
        hidden_dim: int | None = None,
        dropout: float = 0.1,
        num_residuals: int = 0,
        held_out: bool = False,
    ) -> None:
        """Initialize the decoder.

        :param embedding_dim: the width of the embeddings
        :param mean: the mean of the numbers
        :param std: their standard deviation
        :param hidden_dim: the width of the hidden layer; that of the embeddings if None
        :param dropout: the probability with which a hidden unit is dropped in training
        :param num_residuals: of how many rows the errors are known; set by training
        :param held_out: whether the model was not trained with the numbers of these rows; set by calibration
        """
        calibration = {"num_residuals": num_residuals, "held_out": held_out}
        super().__init__(embedding_dim, 1, hidden_dim, dropout, mean=mean, std=std, **calibration)
        self.register_buffer("residuals", torch.zeros(num_residuals))

    @override
    def prepare(self, targets: FloatTensor) -> FloatTensor:
        scores: FloatTensor = (torch.as_tensor(targets).double() - self.settings["mean"]) / self.settings["std"]
        return scores.float()

    @override
    def loss(self, output: FloatTensor, targets: FloatTensor) -> FloatTensor:
        return functional.mse_loss(output.squeeze(-1), targets)

    @override
    def calibrate(self, embeddings: FloatTensor, targets: FloatTensor) -> None:
        self.residuals = (self(embeddings).squeeze(-1) - targets).abs().sort().values * self.settings["std"]
        self.settings = {**self.settings, "num_residuals": len(self.residuals), "held_out": False}

    @torch.no_grad()
    def calibrate_held_out(self, embeddings: FloatTensor, targets: FloatTensor) -> None:
        """Learn how far off predictions are for numbers which the model was not trained with.

        :param embeddings: of entities whose number the model has not seen, shape: ``(n, d)``
        :param targets: their numbers

        :raises ConfigurationError: if there are none
        """
        check_rows(self.name, embeddings, targets, 1)
        self.eval()
        self.calibrate(embeddings.to(self.device), self.prepare(targets).to(self.device))
        self.settings = {**self.settings, "held_out": True}

    @torch.no_grad()
    def predict(self, embeddings: FloatTensor, alpha: float = 0.1) -> Prediction:
        """Predict.

        :param embeddings: shape: ``(n, d)``
        :param alpha: how often the interval may miss the true number

        :returns: numbers and intervals, which are infinite where too few rows are known for this ``alpha``

        :raises ConfigurationError: if ``alpha`` is impossible
        """
        check_alpha(alpha)
        self.eval()
        value = (self(embeddings.to(self.device)).squeeze(-1) * self.settings["std"] + self.settings["mean"]).cpu()
        place = math.ceil((len(self.residuals) + 1) * (1 - alpha))
        half = self.residuals[place - 1].cpu() if place <= len(self.residuals) else value.new_tensor(math.inf)
        return Prediction(value, value - half, value + half)

"""Ranking metrics which PyKEEN lacks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, ClassVar

import numpy as np
from docdata import parse_docdata
from pykeen.metrics.ranking import RankBasedMetric
from pykeen.metrics.utils import ValueRange, weighted_mean_expectation, weighted_mean_variance

__all__ = ["NDCGAt3", "NDCGAt5", "NDCGAtK"]


@parse_docdata
class NDCGAtK(RankBasedMetric):
    r"""The normalised discounted cumulative gain @ k of queries with one relevant answer each.

    .. math::

        \mathit{NDCG}_k = \frac{1}{|\mathcal{I}|} \sum \limits_{r \in \mathcal{I}}
            \mathbb{I}[r \leq k] \frac{1}{\log_2(1 + r)}

    The ideal gain is that of rank 1, which is 1, hence the gain is normalised already. The metric is a hits @ k which
    tells the first k ranks apart; for $k = 1$ they are equal.

    If a rank is uniform on $1, \ldots, N_i$, the gain $g_i$ has $\mathbb{E}[g_i^p] = \frac{1}{N_i}
    \sum_{j=1}^{\min(k, N_i)} \log_2(1 + j)^{-p}$, from which the expectation and the variance of the metric follow.

    .. note::

        The class is given to an evaluator, ``evaluator_kwargs=dict(metrics=[NDCGAt5])``. It is not registered by name
        with PyKEEN, whose evaluators compute all registered metrics: each of their results would become longer.

    Source: K. Järvelin, J. Kekäläinen. Cumulated gain-based evaluation of IR techniques. ACM TOIS 20(4), 2002; with the
    discount $\log_2(1 + r)$ of C. Burges et al. Learning to rank using gradient descent. ICML 2005.

    ---
    description: The mean discounted gain of the ranks not larger than a given k.
    link: https://doi.org/10.1145/582415.582418
    """

    name = "Normalized Discounted Cumulative Gain @ K"
    value_range = ValueRange(lower=0, lower_inclusive=True, upper=1, upper_inclusive=True)
    synonyms: ClassVar[Collection[str]] = ("ndcg", "ndcg@", "ndcg@k", "ndcg_at_", "ndcg@10", "ndcg_at_10")
    increasing = True
    supports_weights = True
    closed_expectation: ClassVar[bool] = True
    closed_variance: ClassVar[bool] = True

    def __init__(self, k: int = 10) -> None:
        """Initialize the metric.

        :param k: how many of the top ranks gain

        :raises ValueError: if k is not positive
        """
        super().__init__()
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}.")
        self.k = k

    # docstr-coverage: inherited
    def iter_extra_repr(self) -> Iterable[str]:  # noqa: D102
        yield from super().iter_extra_repr()
        yield f"k={self.k}"

    # docstr-coverage: inherited
    @property
    def key(self) -> str:  # noqa: D102
        return f"ndcg_at_{self.k}"

    # docstr-coverage: inherited
    def __call__(  # noqa: D102
        self,
        ranks: np.ndarray[Any, Any],
        num_candidates: np.ndarray[Any, Any] | None = None,
        weights: np.ndarray[Any, Any] | None = None,
    ) -> float:
        gains = np.where(np.less_equal(ranks, self.k), 1 / np.log2(1 + np.asanyarray(ranks, dtype=float)), 0.0)
        return float(np.average(gains, weights=weights))

    def _moment(self, num_candidates: np.ndarray[Any, Any], power: int) -> np.ndarray[Any, Any]:
        """Give the expected power of each gain, if ranks are uniform; shape-preserving."""
        num_candidates = np.asanyarray(num_candidates, dtype=int)
        sums = np.cumsum(np.log2(1 + np.arange(1, self.k + 1, dtype=float)) ** -power)
        return np.asarray(sums[np.minimum(num_candidates, self.k) - 1] / num_candidates)

    # docstr-coverage: inherited
    def expected_value(  # noqa: D102
        self,
        num_candidates: np.ndarray[Any, Any],
        num_samples: int | None = None,
        weights: np.ndarray[Any, Any] | None = None,
        **kwargs: Any,
    ) -> float:
        individual = self._moment(num_candidates, power=1)
        return float(weighted_mean_expectation(individual=individual, weights=weights))

    # docstr-coverage: inherited
    def variance(  # noqa: D102
        self,
        num_candidates: np.ndarray[Any, Any],
        num_samples: int | None = None,
        weights: np.ndarray[Any, Any] | None = None,
        **kwargs: Any,
    ) -> float:
        individual = self._moment(num_candidates, power=2) - self._moment(num_candidates, power=1) ** 2
        return float(weighted_mean_variance(individual=individual, weights=weights))


@parse_docdata
class NDCGAt3(NDCGAtK):
    """The normalised discounted cumulative gain @ 3.

    ---
    description: The mean discounted gain of the ranks not larger than 3.
    link: https://doi.org/10.1145/582415.582418
    """

    synonyms: ClassVar[Collection[str]] = ("ndcg@3",)

    def __init__(self) -> None:
        """Initialize the metric."""
        super().__init__(k=3)


@parse_docdata
class NDCGAt5(NDCGAtK):
    """The normalised discounted cumulative gain @ 5.

    ---
    description: The mean discounted gain of the ranks not larger than 5.
    link: https://doi.org/10.1145/582415.582418
    """

    synonyms: ClassVar[Collection[str]] = ("ndcg@5",)

    def __init__(self) -> None:
        """Initialize the metric."""
        super().__init__(k=5)

"""What the seeds of two winners say about their difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

__all__ = ["Difference", "paired_difference", "smallest_detectable"]

LEVEL, POWER = 0.05, 0.8
_AT_LEAST = 2


@dataclass(frozen=True)
class Difference:
    """The difference of two samplers over the seeds which both have."""

    #: their number
    seeds: int
    #: the mean of the differences
    mean: float
    #: their standard deviation, of the sample
    deviation: float
    #: of the two-sided paired t-test; not a number for one seed
    p_value: float
    #: the smallest difference which so many seeds find
    detectable: float


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two samplers seed by seed, by the paired t-test.

    :param first: the values of the first one
    :param second: those of the second one, in the same order of seeds

    :returns: the difference of the second from the first
    """
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    seeds = len(differences)
    if seeds < _AT_LEAST:
        mean = float(differences.mean()) if seeds else float("nan")
        return Difference(seeds, mean, float("nan"), float("nan"), float("nan"))
    deviation = float(differences.std(ddof=1))
    if deviation == 0:
        p_value = 1.0 if differences.mean() == 0 else 0.0
    else:
        p_value = float(stats.ttest_1samp(differences, 0.0).pvalue)
    return Difference(seeds, float(differences.mean()), deviation, p_value, smallest_detectable(deviation, seeds))


def smallest_detectable(deviation: float, seeds: int, level: float = LEVEL, power: float = POWER) -> float:
    r"""Compute the smallest true difference which a two-sided paired t-test finds with a given probability.

    It is $\delta = \lambda s / \sqrt{n}$ with $\lambda$ from $P(|T_{n-1}(\lambda)| > t_{1 - \alpha / 2, n - 1}) = 1 -
    \beta$, where $T_{n-1}(\lambda)$ has a noncentral t distribution.

    :param deviation: $s$, the standard deviation of the differences
    :param seeds: $n$, the number of pairs
    :param level: $\alpha$, the level of the test
    :param power: $1 - \beta$

    :returns: $\delta$; not a number for one seed
    """
    if seeds < _AT_LEAST or not np.isfinite(deviation):
        return float("nan")
    freedom = seeds - 1
    threshold = float(stats.t.ppf(1 - level / 2, freedom))

    def lacking(noncentrality: float) -> float:
        found = stats.nct.sf(threshold, freedom, noncentrality)
        # SciPy gives up on the other tail where it is far out, and next to nothing
        other = np.nan_to_num(stats.nct.cdf(-threshold, freedom, noncentrality))
        return float(found + other) - power

    high = 1.0
    while lacking(high) < 0:
        high *= 2
    noncentrality = float(optimize.brentq(lacking, 0.0, high))
    return noncentrality * deviation / float(np.sqrt(seeds))

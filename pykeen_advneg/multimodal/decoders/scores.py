"""How near generated texts are to references: BLEU and ROUGE-L."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from ...errors import ConfigurationError
from ..encoders.tokens import words

__all__ = ["bleu", "rouge_l"]


def bleu(candidates: Sequence[str], references: Sequence[str], order: int = 4) -> float:
    r"""Corpus BLEU (Papineni et al., 2002) with one reference each.

    $\mathrm{BP} \exp(\frac{1}{N} \sum_n \log p_n)$ with clipped n-gram precisions $p_n$ of the whole corpus, and the
    brevity penalty $\mathrm{BP} = \min(1, e^{1 - r / c})$. From $n = 2$ on, one is added to both counts (Lin & Och,
    2004).

    :param candidates: the texts
    :param references: what they are compared with
    :param order: the longest n-grams

    :returns: 0 to 1

    :raises ConfigurationError: if there are not equally many
    """
    pairs = _pairs(candidates, references)
    length, wanted = (sum(len(pair[i]) for pair in pairs) for i in range(2))
    total = 0.0
    for n in range(1, order + 1):
        hits = count = 0
        for candidate, reference in pairs:
            mine, theirs = _grams(candidate, n), _grams(reference, n)
            hits += sum((mine & theirs).values())
            count += sum(mine.values())
        smooth = int(n > 1)
        if not hits + smooth or not count + smooth:
            return 0.0
        total += math.log((hits + smooth) / (count + smooth)) / order
    return min(1.0, math.exp(1 - wanted / length)) * math.exp(total)


def rouge_l(candidates: Sequence[str], references: Sequence[str]) -> float:
    """Mean ROUGE-L (Lin, 2004): the F1 score of the longest common subsequence.

    :param candidates: the texts
    :param references: what they are compared with

    :returns: 0 to 1

    :raises ConfigurationError: if there are not equally many
    """
    scores = []
    for candidate, reference in _pairs(candidates, references):
        common = _longest(candidate, reference)
        scores.append(2 * common / (len(candidate) + len(reference)) if common else 0.0)
    return sum(scores) / len(scores)


def _pairs(candidates: Sequence[str], references: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    if len(candidates) != len(references) or not candidates:
        raise ConfigurationError(f"{len(candidates)} texts for {len(references)} references: give one for each.")
    return [(words(a), words(b)) for a, b in zip(candidates, references, strict=True)]


def _grams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _longest(first: Sequence[str], second: Sequence[str]) -> int:
    """Compute the length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for token in first:
        diagonal = 0
        for j, other in enumerate(second, start=1):
            above = row[j]
            row[j] = diagonal + 1 if token == other else max(above, row[j - 1])
            diagonal = above
    return row[-1]

"""Ranks of the true answers of queries: each query scored once, known answers looked up, ranks by counting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from pykeen.evaluation.ranks import Ranks
from pykeen.typing import BoolTensor, FloatTensor, LongTensor, MappedTriples
from torch_max_mem.api import is_oom_error

from .filtering import TripleIndex

__all__ = ["AnswerRanker", "count_ranks"]


def _count(mask: BoolTensor) -> LongTensor:
    """Count along the last dimension; on the CPU by NumPy, which takes less time there."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.count_nonzero(mask.numpy(), axis=-1))
    return mask.sum(dim=-1)


def _count_finite(scores: FloatTensor, known_rows: LongTensor, finite: BoolTensor) -> LongTensor:
    """Count the finite scores of each row, where known ones are NaN, and, if ``finite``, all others are not."""
    total = scores.shape[1] - known_rows.bincount(minlength=len(scores))
    if not finite.all():
        total[~finite] = _count(scores[~finite].isfinite())
    return total


def count_ranks(
    scores: FloatTensor,
    true: LongTensor,
    rows: LongTensor | None = None,
    known: tuple[LongTensor, LongTensor] | None = None,
    candidates: LongTensor | None = None,
) -> Ranks:
    r"""Count the better and the equally good candidates.

    With $s_i$ the score of candidate $i$, $t$ the true answer and $K$ the other known answers, the optimistic rank is
    $1 + |\{i \notin K : s_i > s_t\}|$, the pessimistic rank is $|\{i \notin K : s_i \geq s_t\}|$, and the realistic
    rank is their mean.

    :param scores: the scores of all candidates for $q$ queries, shape: ``(q, n)``; known answers are overwritten
    :param true: the ids of the answers to rank, shape: ``(b,)``
    :param rows: the query which each of them answers, shape: ``(b,)``; ``None``: one answer for each query, in order
    :param known: the queries and the ids of all known answers, these among them, without duplicates, shape: ``(m,)``
        each; ``None``: nothing is left out
    :param candidates: the ids which count, shape: ``(c,)``, as often as each is given; ``None``: all, once

    :returns: the ranks, and the numbers of candidates with a finite score, shape: ``(b,)`` each
    """
    at = torch.arange(len(true), device=true.device) if rows is None else rows
    true_scores = scores[at, true]
    # a finite sum has only finite terms
    finite = scores.sum(dim=1).isfinite()
    own = torch.zeros_like(true)
    if known is None:
        known = (true[:0], true[:0])
    else:
        own += 1 if candidates is None else candidates.bincount(minlength=scores.shape[1])[true]
        scores[known] = float("nan")
    if candidates is None:
        total = _count_finite(scores, known[0], finite)
    else:
        scores = scores.index_select(1, candidates)
        total = _count(scores.isfinite())
    compared = scores if rows is None else scores.index_select(0, rows)
    bound = true_scores.unsqueeze(dim=-1)
    # the answers themselves have been overwritten with the known ones
    optimistic = _count(compared > bound) + 1
    pessimistic = _count(compared >= bound) + own * ~true_scores.isnan()
    return Ranks(
        optimistic=optimistic,
        realistic=(optimistic + pessimistic).float() * 0.5,
        pessimistic=pessimistic,
        number_of_options=total[at] + own * true_scores.isfinite(),
    )


def _concatenate(parts: Sequence[Ranks], order: LongTensor) -> Ranks:
    """Join ranks, and bring them back into the order they were in before they were sorted by ``order``."""
    fields = ("optimistic", "realistic", "pessimistic", "number_of_options")
    joint = {name: torch.cat([getattr(part, name) for part in parts]) for name in fields}
    return Ranks(**{name: torch.empty_like(value).index_copy_(0, order, value) for name, value in joint.items()})


class AnswerRanker:
    """Ranks the true answers in one slot of triples among all candidates."""

    def __init__(
        self,
        score: Callable[[MappedTriples], FloatTensor],
        column: int,
        index: TripleIndex | None = None,
        candidates: Collection[int] | None = None,
    ) -> None:
        """Initialize the ranker.

        :param score: gives the scores of all candidates, ``(b, n)``, for triples ``(b, 3)`` whose slot does not matter
        :param column: the slot, 0 for heads or 2 for tails
        :param index: the known triples, those to rank among them, which do not count; ``None``: all count
        :param candidates: the ids of the candidates; ``None``: all
        """
        self.score = score
        self.column = column
        self.index = index
        self.candidates = None if candidates is None else torch.as_tensor(list(candidates))
        #: the number of candidates, known after ranking
        self.num_candidates: int | None = None

    def rank(self, hrt: MappedTriples, batch_size: int, done: Callable[[int], object]) -> tuple[Ranks, int]:
        """Rank, in batches; these are halved for good when the memory of the device runs out.

        :param hrt: shape: ``(n, 3)``, at least one
        :param batch_size: the (maximum) number of triples in a batch
        :param done: told the number of triples done after each batch

        :returns: the ranks, shape: ``(n,)`` each, and the batch size which fitted

        :raises MemoryError: if there is not enough memory for a single triple
        """
        order = self._sort(hrt)
        parts: list[Ranks] = []
        start = 0
        while start < len(order):
            batch = hrt[order[start : start + batch_size]]
            try:
                parts.append(self._rank_batch(batch))
            except RuntimeError as error:
                batch_size = _halve(batch_size, error)
                continue
            start += batch_size
            done(len(batch))
        return _concatenate(parts, order), batch_size

    def _sort(self, hrt: MappedTriples) -> LongTensor:
        """Give the order of the triples which puts those with the same query side by side."""
        first, second = self._query(hrt).unbind(dim=-1)
        order = second.argsort(stable=True)
        return order[first[order].argsort(stable=True)]

    def _query(self, hrt: MappedTriples) -> LongTensor:
        return hrt[:, [i for i in range(3) if i != self.column]]

    def _rank_batch(self, batch: MappedTriples) -> Ranks:
        query = self._query(batch)
        is_new = torch.ones(len(query), dtype=torch.bool, device=query.device)
        is_new[1:] = (query[1:] != query[:-1]).any(dim=-1)
        queries = batch[is_new]
        rows = None if len(queries) == len(batch) else is_new.cumsum(dim=0) - 1
        scores = self.score(queries)
        known = None if self.index is None else self.index.known(queries, self.column)
        candidates = None if self.candidates is None else self.candidates.to(scores.device)
        self.num_candidates = scores.shape[1] if candidates is None else len(candidates)
        return count_ranks(scores, batch[:, self.column], rows, known, candidates)


def _halve(batch_size: int, error: RuntimeError) -> int:
    """Halve the batch size after an error, if it is about memory."""
    if not is_oom_error(error):
        raise error
    if batch_size == 1:
        raise MemoryError("There is not enough memory to rank a single triple.") from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return batch_size // 2

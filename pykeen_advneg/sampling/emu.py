"""EMU: negatives of which a random part of the representation is replaced by that of the true entity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from class_resolver import HintOrType, OptionalKwargs
from docdata import parse_docdata
from pykeen.sampling import NegativeSampler
from pykeen.sampling.filtering import Filterer
from pykeen.typing import BoolTensor, FloatTensor, MappedTriples

from ..errors import ConfigurationError
from ..negatives import Negatives
from ..queries.mutated import mix
from ..scoring import Scorer
from .base import HasLoss, Scores, at_least, check_flag
from .checks import check_choice, check_host, check_share
from .mutation import BernoulliWeights, Mutation, bernoulli_weights, beta_weights, mutated_scores, unregularized
from .softmax import soft_cross_entropy
from .wrapping import BasedNegativeSampler

__all__ = ["EMUNegativeSampler", "Masks", "Objective", "Variant", "emu_loss", "mutate"]

Variant = Literal["emu", "mixup", "labels_only", "none"]

Masks = Literal["shared", "independent"]

Objective = Literal["emu", "host"]

PAPER_NEGATIVES = 256


def mutate(
    negatives: FloatTensor,
    positives: FloatTensor,
    rate: float,
    generator: torch.Generator | None = None,
    tied: bool = False,
) -> FloatTensor:
    r"""Replace a random part of the components of negatives by those of their positives (Takamoto et al., 2025).

    $$\tilde n = m \odot n + (1 - m) \odot p, \qquad m_l \sim \mathrm{Bernoulli}(\lambda)$$

    independently for each negative and component, and for the real and the imaginary part of a complex number.

    :param negatives: $n$, shape: ``(b, k, dim)``, real or complex
    :param positives: $p$, shape: ``(b, 1, dim)``
    :param rate: $\lambda$, the probability that a component is kept from the negative
    :param generator: the source of chance; PyTorch's own if None
    :param tied: whether the real and the imaginary part of a complex number are kept together

    :returns: $\tilde n$, shape: ``(b, k, dim)``; gradients reach both

    :raises ConfigurationError: if the rate is no probability
    """
    check_share("rate", rate)
    weights: FloatTensor = bernoulli_weights(negatives, rate, tied=tied, generator=generator)
    return mix(negatives, positives, weights)


def emu_loss(
    plain_scores: FloatTensor,
    mutated_scores: FloatTensor,
    negative_label: float,
    ce_weight: float,
    mask: BoolTensor | None = None,
    plain_mask: BoolTensor | None = None,
) -> FloatTensor:
    r"""Compute the loss of EMU.

    With $s$ the plain and $\tilde s$ the mutated scores of a positive (index 0) and its $k$ negatives, and $n$ how many
    of the mutated ones count:

    $$L = \frac{1}{b} \sum_{i=1}^b \Big[ - \frac{1}{n} \Big( \log \mathrm{softmax}(\tilde s)_0
        + \beta \sum_{j=1}^n \log \mathrm{softmax}(\tilde s)_j \Big) - \alpha \log \mathrm{softmax}(s)_0 \Big]$$

    :param plain_scores: $s$, shape: ``(b, 1 + k)``
    :param mutated_scores: $\tilde s$, shape: ``(b, 1 + k)``
    :param negative_label: $\beta$, the label of each mutated negative; the labels of a positive add up to $1 + \beta n$
    :param ce_weight: $\alpha$, the weight of the cross-entropy of the plain scores
    :param mask: which mutated negatives count, shape: ``(b, k)``; None: all. The others add nothing, neither to the
        loss nor to the gradient; a positive without any adds 0, with or without a mask.
    :param plain_mask: which plain negatives count; as ``mask`` if None

    :returns: a scalar
    """
    plain, mutated = (Scores(x[:, :1], x[:, 1:]) for x in (plain_scores, mutated_scores))
    return _loss(plain, mutated, negative_label, ce_weight, mask, mask if plain_mask is None else plain_mask)


def _loss(
    plain: Scores,
    mutated: Scores,
    negative_label: float,
    ce_weight: float,
    mask: BoolTensor | None,
    plain_mask: BoolTensor | None,
) -> FloatTensor:
    """Compute the loss of EMU, with positives and negatives apart."""
    count = max(1, mutated.negatives.shape[1]) if mask is None else mask.sum(dim=1).clamp(min=1)
    soft = soft_cross_entropy(mutated.positives, mutated.negatives, negative_label, mask) / count
    return soft.mean() + ce_weight * soft_cross_entropy(plain.positives, plain.negatives, mask=plain_mask).mean()


@parse_docdata
class EMUNegativeSampler(BasedNegativeSampler, HasLoss):
    r"""EMU, embedding mutation: negatives which have most components of their representation from the true entity.

    Any other sampler, the ``base``, gives ids of negatives. In the corrupted slot, and nowhere else, each component of
    the representation $n$ of a negative is kept with the probability $\lambda$ (``mutation_rate``), and replaced by
    that of the true entity $p$ otherwise:

    $$\tilde n = m \odot n + (1 - m) \odot p, \qquad m_l \sim \mathrm{Bernoulli}(\lambda)$$

    Real and imaginary parts are components of their own. Gradients reach $n$ and $p$. With $s$ the scores of a positive
    (index 0) and its $K$ negatives, $\tilde s$ those with mutated negatives, and the labels
    $y = (1, \beta, \dots, \beta)$, which are not normalised ("unbounded label smoothing"), the loss of a positive is

    $$L = - \frac{1}{K} \sum_{j=0}^K y_j \log \mathrm{softmax}(\tilde s)_j - \alpha \log \mathrm{softmax}(s)_0$$

    with $\beta$ = ``negative_label`` and $\alpha$ = ``ce_weight``. **It takes the place of the model's loss**, which is
    not looked at; label smoothing and sample weights are refused. With ``objective="host"`` it is the other way round:
    the mutated scores go to the model's loss instead of those of the negatives, and $\beta$ and $\alpha$ are not used.

    The first term is least where $s_0 - \tilde s_j = -\ln \beta$ for all $j$ (our derivation): a margin which pushes
    and pulls. Our reading of why mutations help: they lie close to $p$, and the correlation of two components of
    $\tilde n - p$ is $\lambda$ times that of $n - p$ (second moments about 0). A scalar mixture, ``variant="mixup"``,
    leaves all correlations as they are.

    **The paper and the authors' code.** The published runs have $\lambda = 0.39$, $\beta = 0.53$, $\alpha = 0.11$ and
    $K = 256$. In their uniform mode the code draws ids inside of the forward pass, for $s$ and $\tilde s$ independently
    (``independent_passes=True``), and does not filter them: the true entity itself may be drawn. Batches corrupt tails
    and heads in turn. A mask is drawn for each pair of a positive and a negative (``masks="independent"``). The runs of
    the baselines have an L3 regulariser and those of EMU none, so that the difference between both is not EMU's
    alone. ``variant="labels_only"`` draws no mask and keeps the labels; ``"mixup"`` has one share for all components,
    from Beta(2, 1); ``"none"`` is the baseline, the cross-entropy of $s$ with the weight 1. These are the code's.

    **Chosen here:** the base is ``shared``, which masks the true entity, with both sides in one batch; $s$ and
    $\tilde s$ have the same ids. ``masks="shared"`` draws one mask for each negative of a chunk, not for each pair.
    Every pair still has a Bernoulli mask, but those of positives which share a negative are the same. Where a score
    adds up over components (products as in DistMult and ComplEx; L1 and L2 distances), $\tilde s$ then needs no
    representation of mutated negatives. With $q$ the queries, $N$ and $M$ the negatives of a chunk and their masks:

    $$\tilde S = q (M \odot N)^T + (q \odot p) (1 - M)^T$$

    If ids or masks are not shared, it is summed up pair by pair: on a CPU by compiled loops, which take a fraction of
    the time, if Numba is there (the extra ``compiled``). If the score does not add up, mutated representations are
    scored by the interaction, some positives at a time. Of negatives which are masked (filtered) none counts, and
    $1 / K$ is one over the number of those which count. Regularisers see a batch once, as without EMU.

    A base which learns gets the plain scores $s$.
    ---
    name: EMU
    citation:
        author: Takamoto
        year: 2025
        link: https://arxiv.org/abs/2504.03327
        arxiv: 2504.03327
        github: nec-research/EMU-KG
    """

    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = dict(
        mutation_rate=dict(type=float, low=0.1, high=0.9),
        negative_label=dict(type=float, low=0.1, high=0.9),
        ce_weight=dict(type=float, low=0.01, high=1.0, log=True),
        num_negs_per_pos=dict(type=int, low=8, high=1024, log=True),
    )

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        base: HintOrType[NegativeSampler] = "shared",
        base_kwargs: OptionalKwargs = None,
        mutation_rate: float = 0.39,
        negative_label: float = 0.53,
        ce_weight: float = 0.11,
        variant: Variant = "emu",
        masks: Masks = "shared",
        tied: bool = False,
        objective: Objective = "emu",
        independent_passes: bool = False,
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: HintOrType[Filterer] = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        r"""Initialize the sampler.

        :param mapped_triples: shape: ``(n, 3)``, the training triples
        :param base: the sampler which gives the ids of negatives, by name or class
        :param base_kwargs: its keyword-based parameters, without those which are given here
        :param mutation_rate: $\lambda$, the probability that a component is kept from the negative
        :param negative_label: $\beta$, the label of a mutated negative
        :param ce_weight: $\alpha$, the weight of the cross-entropy of the plain scores
        :param variant: ``emu``; ``mixup``: one share from Beta(2, 1) for all components; ``labels_only``: negatives as
            they are, with the labels of EMU; ``none``: negatives as they are
        :param masks: one mask for each negative that positives share (``shared``), or for each pair (``independent``)
        :param tied: whether the real and the imaginary part of a complex number are kept together
        :param objective: the loss of EMU (``emu``), or the model's loss of mutated scores (``host``)
        :param independent_passes: whether plain and mutated negatives have different ids, as in the paper's uniform
            mode; the base then draws twice as many
        :param num_entities: the number of entities; inferred from the triples if None
        :param num_relations: the number of relations; inferred from the triples if None
        :param num_negs_per_pos: the number of negatives of each positive; 256 if None, as in the paper
        :param filtered: whether known training triples are left out, by the base
        :param filterer: how known triples are found, by the base
        :param filterer_kwargs: keyword-based parameters of the filterer

        :raises ConfigurationError: if a value is impossible
        """
        for name, value in {"mutation_rate": mutation_rate, "negative_label": negative_label}.items():
            check_share(name, value)
        for name, flag in {"tied": tied, "independent_passes": independent_passes}.items():
            check_flag(name, flag)
        at_least("ce_weight", ce_weight, 0)
        if not math.isfinite(ce_weight):
            raise ConfigurationError(f"ce_weight={ce_weight!r} must be finite.")
        choices = (("variant", variant, Variant), ("masks", masks, Masks), ("objective", objective, Objective))
        for name, choice, possible in choices:
            check_choice(name, choice, possible)
        if objective == "host" and (independent_passes or variant == "labels_only"):
            given = "independent_passes=True" if independent_passes else "variant='labels_only'"
            raise ConfigurationError(
                f"{given} is about the loss of EMU, which objective='host' does not use; drop one."
            )
        if (base_kwargs or {}).get("log_q_correction"):
            raise ConfigurationError(
                "base_kwargs has log_q_correction=True, a correction for the frequencies of entities, which mutated "
                "negatives are not; leave it out."
            )
        independent_passes = independent_passes and variant != "none"
        super().__init__(
            mapped_triples=mapped_triples,
            base=base,
            base_kwargs=base_kwargs,
            times=2 if independent_passes else 1,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=PAPER_NEGATIVES if num_negs_per_pos is None else num_negs_per_pos,
            filtered=filtered,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
        )
        self.negative_label = negative_label
        self.ce_weight = ce_weight
        self.variant = variant
        self.objective = objective
        self.independent_passes = independent_passes
        self.mutation = _mutation(variant, mutation_rate, tied, masks)

    # docstr-coverage: inherited
    def score(self, scorer: Scorer, negatives: Negatives) -> Scores:
        """Score positives, negatives and mutated negatives; the scores of the latter are the only ``extra``."""
        if self.mutation is None and not self.independent_passes:
            positives, plain = scorer.both(negatives)
            return Scores(positives, plain, (plain,))
        if not self.independent_passes:
            assert self.mutation is not None
            positives, plain, mutated = mutated_scores(scorer, negatives, self.mutation)
            return Scores(positives, plain, (mutated,))
        first, second = self._passes(negatives)
        positives, plain = scorer.both(first)
        with unregularized(scorer):
            if self.mutation is None:
                others = mutated = scorer.negatives(second)
            else:
                _, others, mutated = mutated_scores(scorer, second, self.mutation)
        # a base which learns needs the plain scores of all that it has drawn
        return Scores(positives, torch.cat([plain, others], dim=1), (mutated,))

    def _passes(self, negatives: Negatives) -> tuple[Negatives, Negatives]:
        """Split negatives into those of the plain and those of the mutated pass."""
        return _some(negatives, slice(self.num_negs_per_pos)), _some(negatives, slice(self.num_negs_per_pos, None))

    # docstr-coverage: inherited
    @property
    def reduction_of_loss(self) -> Literal["sum", "mean"] | None:
        """That of PyKEEN's loss, or the mean which the loss of EMU is."""
        return None if self.objective == "host" else "mean"

    # docstr-coverage: inherited
    def loss(self, negatives: Negatives, scores: Scores, host: Callable[[Scores], FloatTensor]) -> FloatTensor:
        """Compute the loss of EMU, or that of the host.

        :param negatives: as proposed
        :param scores: as :meth:`score` gives them
        :param host: the loss of PyKEEN

        :returns: a scalar

        :raises ConfigurationError: if the user asks for something which only the loss of PyKEEN can do
        """
        (mutated,) = scores.extra
        if self.objective == "host":
            return host(Scores(scores.positives, mutated))
        check_host("emu", host, instead="objective='host'")
        (_, k), mask = mutated.shape, negatives.mask
        plain, plain_mask = scores.negatives[:, :k], None if mask is None else mask[:, :k]
        if self.variant == "none":
            return soft_cross_entropy(scores.positives, plain, mask=plain_mask).mean()
        mutated_mask = None if mask is None else mask[:, -k:]
        both = Scores(scores.positives, plain), Scores(scores.positives, mutated)
        return _loss(*both, self.negative_label, self.ce_weight, mutated_mask, plain_mask)


def _mutation(variant: Variant, rate: float, tied: bool, masks: Masks) -> Mutation | None:
    """Make the mutation of a variant, if it has one."""
    is_shared = masks == "shared"
    if variant == "emu":
        return Mutation(BernoulliWeights(rate, tied), is_binary=True, is_shared=is_shared)
    return Mutation(beta_weights, is_binary=False, is_shared=is_shared) if variant == "mixup" else None


def _some(negatives: Negatives, chosen: slice) -> Negatives:
    """Take some of the negatives of each positive."""
    column, mask = negatives.column, negatives.mask
    return replace(
        negatives,
        ids=negatives.ids[:, chosen],
        column=column if column.shape[1] == 1 else column[:, chosen],
        mask=None if mask is None else mask[:, chosen],
        log_q=None,
    )

"""KBGAN: negatives drawn by a generator model which REINFORCE rewards by the score of the model being trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from class_resolver import HintOrType, OptionalKwargs
from docdata import parse_docdata
from pykeen.models import Model
from pykeen.sampling.filtering import Filterer
from pykeen.triples import KGInfo
from pykeen.typing import BoolTensor, FloatTensor, LongTensor, MappedTriples
from torch.optim import Optimizer

from ..errors import ConfigurationError, NonFiniteSamplerError
from ..negatives import Negatives
from ..scoring import Scorer
from .base import AdversarialNegativeSampler, Learns, Scores, whole_at_least
from .generators import make_generator, make_optimizer
from .sides import Side, draw_columns, head_probability

__all__ = ["Baseline", "KBGANNegativeSampler", "reinforce_loss"]

Baseline = Literal["epoch", "moving", "none"]

PAPER_CANDIDATES = 20

MOVING_AVERAGE_DECAY = 0.99


def reinforce_loss(log_probabilities: FloatTensor, rewards: FloatTensor, baseline: FloatTensor) -> FloatTensor:
    r"""Surrogate whose gradient is the REINFORCE estimate (Cai & Wang 2018, eq. 6).

    $$L_G = - \sum_{i=1}^b \frac{1}{k} \sum_{j=1}^k (R_{ij} - \beta) \log p_G(j \mid i)$$

    With $k$ independent draws for each positive, the mean over them has the expectation
    $-\nabla \sum_i E_{j \sim p_G}[R_{ij}]$.

    :param log_probabilities: shape: ``(b, k)``, of the negatives which were drawn, with gradient
    :param rewards: shape: ``(b, k)``, without gradient
    :param baseline: a scalar

    :returns: a scalar
    """
    advantage = (rewards - baseline).detach()
    return -(advantage * log_probabilities).mean(dim=1).sum()


@dataclass(frozen=True)
class _Draw:
    """What a proposal leaves for the lesson after it."""

    #: of the negatives which were drawn, with their graph, shape: ``(b, k)``
    log_probabilities: FloatTensor

    #: of the distributions they were drawn from, in nat, shape: ``(b,)``
    entropy: FloatTensor

    #: the generator's own regularization term, a scalar with gradient
    regularization: FloatTensor


@parse_docdata
class KBGANNegativeSampler(AdversarialNegativeSampler, Learns):
    r"""KBGAN: negatives drawn from a softmax over a few candidates by a second model, the generator.

    For each positive, one side is chosen and $N_s$ entities are drawn for it uniformly. The generator $G$ draws the
    negative among these candidates,

    $$p_G(h', r, t' \mid h, r, t) = \frac{\exp f_G(h', r, t') / \tau}{\sum_{Neg} \exp f_G(h^*, r, t^*) / \tau},$$

    the model being trained, $D$, takes its usual step on it, and $G$ takes one on the REINFORCE estimate of the
    gradient of the expected reward. The reward is the score of $D$ before its step, $R = f_D(h', r, t')$ (with the
    paper's distance, $-f_D$), less a baseline.

    **Update order** for each batch: $G$ scores the candidates; draw; loss of $D$; step of $G$, with
    ``generator.post_parameter_update()`` after it; step of $D$. Which of the two steps comes first makes no difference,
    since they share no parameter and the reward is taken before both. In the pre-training epochs of the loop, $D$
    learns from the negatives of ``pretraining_sampler``, and $G$ learns beside it by
    $-\log \mathrm{softmax}(f_G)_0$ over the positive and $N_s - 1$ candidates; then both optimizers start anew.

    **The paper and the authors' code** (PyTorch 0.2) agree on all of this. The code draws candidates for a whole epoch
    at once and cuts the same batches in each epoch; here they are drawn batch by batch from reshuffled positives,
    which is the same in distribution. As there, candidates are not filtered unless ``filtered=True`` (then a known
    triple is never drawn), and they may hold the true entity.

    **Chosen here:** ``num_negs_per_pos`` above 1 (independent draws from the same candidates; the paper has 1);
    ``chunk_size`` above 1 (positives share candidates, so that their scores are products of matrices; the distribution
    of each negative is the same, but those of a chunk are no longer independent of each other); the
    policies of side and baseline besides the paper's, generators besides DistMult and ComplEx. ``weight_decay`` is
    $\lambda$ over the number of batches in the paper: 0.01 for FB15k-237, 0.001 for WN18 and WN18RR. The default
    optimizer has 0.001. It acts on sums over the batch, so that another number of batches wants another value.

    Scores are unit-free; the reward has the unit of the trained model's score.
    ---
    name: KBGAN
    citation:
        author: Cai
        year: 2018
        link: https://aclanthology.org/N18-1133/
        arxiv: 1711.04071
        github: cai-lw/KBGAN
    """

    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = dict(
        num_candidates=dict(type=int, low=5, high=100, log=True),
        temperature=dict(type=float, low=0.1, high=10.0, log=True),
        num_negs_per_pos=dict(type=int, low=1, high=64, log=True),
    )

    reduction = "sum"
    epoch_sums = ("reward_sum", "num_rewards", "entropy_sum", "num_draws")

    corrupt_head_probability: FloatTensor
    baseline_value: FloatTensor
    reward_sum: FloatTensor
    num_rewards: FloatTensor
    entropy_sum: FloatTensor
    num_draws: FloatTensor

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        generator: HintOrType[Model] = "distmult",
        generator_kwargs: OptionalKwargs = None,
        generator_optimizer: HintOrType[Optimizer] = "adam",
        generator_optimizer_kwargs: OptionalKwargs = None,
        generator_warm_start: str | Path | None = None,
        num_candidates: int | None = None,
        chunk_size: int | None = 1,
        temperature: float = 1.0,
        side: Side = "bernoulli",
        baseline: Baseline = "epoch",
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: HintOrType[Filterer] = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        r"""Initialize the sampler.

        :param mapped_triples: shape: ``(n, 3)``, the training triples
        :param generator: the generator, any model of PyKEEN with an interaction; of an instance, a copy is trained
        :param generator_kwargs: its keyword-based parameters; for ``distmult`` and ``complex`` they are laid over the
            paper's (50 and 25 dimensions, no constraint, no regularizer)
        :param generator_optimizer: the generator's optimizer
        :param generator_optimizer_kwargs: its keyword-based parameters, laid over ``lr=1e-3, weight_decay=1e-3``
        :param generator_warm_start: a file with the state dictionary of a pre-trained generator
        :param num_candidates: $N_s$, the number of candidates of each positive; if None, 20 as in the paper, or as many
            as there are entities
        :param chunk_size: how many positives share their candidates; 1 as in the paper; None: the whole batch
        :param temperature: $\tau$, by which the generator's scores are divided
        :param side: which side is corrupted: ``bernoulli`` as in the paper, ``uniform``, ``head``, ``tail``
        :param baseline: the mean reward of the previous ``epoch`` as in the paper (0 in the first), a ``moving``
            average over batches, or ``none``
        :param num_entities: the number of entities; inferred from the triples if None
        :param num_relations: the number of relations; inferred from the triples if None
        :param num_negs_per_pos: the number of negatives of each positive; 1 if None, as in the paper
        :param filtered: whether known training triples are never drawn
        :param filterer: how known triples are found
        :param filterer_kwargs: keyword-based parameters of the filterer

        :raises ConfigurationError: if a value is impossible
        """
        super().__init__(
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=num_negs_per_pos,
            filtered=filtered,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
        )
        if num_candidates is None:
            num_candidates = min(PAPER_CANDIDATES, self.num_entities)
        whole_at_least("num_candidates", num_candidates, 2)
        if num_candidates > self.num_entities:
            raise ConfigurationError(
                f"num_candidates={num_candidates} exceeds the {self.num_entities} entities; lower it."
            )
        if chunk_size is not None:
            whole_at_least("chunk_size", chunk_size, 1)
        if not 0 < temperature < float("inf"):
            raise ConfigurationError(f"temperature={temperature} must be positive and finite; 1.0 is the paper's.")
        if baseline not in get_args(Baseline):
            raise ConfigurationError(f"baseline={baseline!r} is none of {get_args(Baseline)}.")
        self.num_candidates = num_candidates
        self.chunk_size = chunk_size
        self.temperature = temperature
        self.baseline = baseline
        self.register_buffer("corrupt_head_probability", head_probability(side, mapped_triples, self.num_relations))
        self.register_buffer("baseline_value", torch.zeros((), dtype=torch.float64))
        # what is summed up within an epoch starts anew when that is run again, so that it is no part of a checkpoint
        for name in ("reward_sum", "num_rewards", "entropy_sum", "num_draws"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64), persistent=False)
        self.generator = make_generator(
            generator, generator_kwargs, generator_warm_start, KGInfo(self.num_entities, self.num_relations, False)
        )
        self.scorer = Scorer(self.generator)
        self.optimizer = make_optimizer(generator_optimizer, generator_optimizer_kwargs, self.generator)
        self._pending: _Draw | None = None
        self._drawn_keys: list[LongTensor] = []

    def optimizers(self) -> Sequence[Optimizer]:
        """Give the optimizer of the generator."""
        return (self.optimizer,)

    def propose(self, positives: LongTensor) -> Negatives:
        """Let the generator draw negatives.

        :param positives: shape: ``(b, 3)``

        :returns: ``num_negs_per_pos`` independent draws for each positive
        """
        candidates = self._draw_candidates(positives, self.num_candidates)
        logits = self._logits(candidates)
        log_probabilities = logits.log_softmax(dim=-1)
        drawn = torch.multinomial(log_probabilities.detach().exp(), self.num_negs_per_pos, replacement=True)
        self._pending = _Draw(
            log_probabilities.gather(1, drawn),
            torch.special.entr(log_probabilities.detach().exp()).sum(dim=-1),
            self.generator.collect_regularization_term(),
        )
        mask = None if candidates.mask is None else candidates.mask.gather(1, drawn)
        return Negatives(positives, candidates.dense_ids.gather(1, drawn), candidates.column, mask)

    def _draw_candidates(self, positives: LongTensor, num: int) -> Negatives:
        chunk_size = max(1, min(self.chunk_size or len(positives), len(positives)))
        ids = torch.randint(self.num_entities, (-(-len(positives) // chunk_size), num), device=positives.device)
        column = draw_columns(self.corrupt_head_probability, positives[:, 1])
        candidates = Negatives(positives, ids, column, chunk_size=chunk_size)
        return candidates if self.filterer is None else replace(candidates, mask=self.filterer(candidates.triples))

    def _check(self, scores: FloatTensor) -> FloatTensor:
        if not bool(torch.isfinite(scores.sum())):
            raise NonFiniteSamplerError(
                "The generator of KBGANNegativeSampler gives scores which are not finite. Lower the learning rate in "
                "generator_optimizer_kwargs, or raise its weight_decay."
            )
        return scores

    def _logits(self, candidates: Negatives) -> FloatTensor:
        scores = self._check(self.scorer.negatives(candidates)) / self.temperature
        if candidates.mask is None:
            return scores
        # a row without any valid candidate keeps its logits: the draw is masked in the result
        keep: BoolTensor = candidates.mask | ~candidates.mask.any(dim=-1, keepdim=True)
        return scores.masked_fill(~keep, -torch.inf)

    def learn(self, negatives: Negatives, scores: Scores) -> None:
        """Step the generator by REINFORCE.

        :param negatives: as proposed
        :param scores: the reward is the model's score of the negatives, before its update

        :raises NonFiniteSamplerError: if a reward is not finite
        """
        if self._pending is None:
            raise RuntimeError("learn() follows propose(): no negatives have been drawn since the last step.")
        draw, self._pending = self._pending, None
        rewards = scores.negatives
        if not bool(torch.isfinite(rewards.sum())):
            raise NonFiniteSamplerError("The reward of KBGANNegativeSampler, the model's score, is not finite.")
        if negatives.mask is not None:
            # a masked negative took no part in the model's loss: no reward, no penalty
            rewards = torch.where(negatives.mask, rewards, self.baseline_value.to(rewards.dtype))
        loss = reinforce_loss(draw.log_probabilities, rewards, self.baseline_value.to(rewards.dtype))
        self.step(loss + draw.regularization, self.optimizer)
        self.generator.post_parameter_update()
        self._record(negatives, rewards, draw.entropy)

    def _record(self, negatives: Negatives, rewards: FloatTensor, entropy: FloatTensor) -> None:
        triples = negatives.triples.view(-1, 3)
        if negatives.mask is not None:
            rewards, triples = rewards[negatives.mask], triples[negatives.mask.view(-1)]
        self.reward_sum += rewards.sum()
        self.num_rewards += rewards.numel()
        self.entropy_sum += entropy.sum()
        self.num_draws += len(entropy)
        if self.baseline == "moving" and rewards.numel():
            self.baseline_value.lerp_(rewards.mean().to(self.baseline_value.dtype), 1 - MOVING_AVERAGE_DECAY)
        keys = (triples[:, 0] * self.num_relations + triples[:, 1]) * self.num_entities + triples[:, 2]
        self._drawn_keys.append(keys)

    def warm_up(self, positives: LongTensor) -> None:
        r"""Pre-train the generator: $-\log \mathrm{softmax}(f_G)_0$ over the positive and $N_s - 1$ candidates.

        :param positives: shape: ``(b, 3)``
        """
        candidates = self._draw_candidates(positives, self.num_candidates - 1)
        own, others = map(self._check, self.scorer.both(candidates))
        if candidates.mask is not None:
            others = others.masked_fill(~candidates.mask, -torch.inf)
        scores = torch.cat([own, others], dim=1)
        loss = -scores.log_softmax(dim=-1)[:, 0].sum() + self.generator.collect_regularization_term()
        self.step(loss, self.optimizer)
        self.generator.post_parameter_update()

    def begin_epoch(self) -> None:
        """Open an epoch: sums and draws start anew."""
        for total in (self.reward_sum, self.num_rewards, self.entropy_sum, self.num_draws):
            total.zero_()
        self._drawn_keys.clear()
        self._pending = None

    def end_epoch(self) -> Mapping[str, float]:
        """Close an epoch: its mean reward becomes the baseline of the next.

        :returns: ``reward`` (mean), ``baseline`` (of this epoch), ``entropy`` (mean, of the draw, in nat),
            ``repeated`` (share of the drawn triples which had been drawn before in this epoch)
        """
        if not self.num_rewards:
            return {}
        keys = torch.cat(self._drawn_keys)
        reward = (self.reward_sum / self.num_rewards).item()
        metrics = {
            "reward": reward,
            "baseline": self.baseline_value.item(),
            "entropy": (self.entropy_sum / self.num_draws).item(),
            "repeated": 1 - len(keys.unique()) / len(keys),
        }
        if self.baseline == "epoch":
            self.baseline_value.fill_(reward)
        self.begin_epoch()
        return metrics

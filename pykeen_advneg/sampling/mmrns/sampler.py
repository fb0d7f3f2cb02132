"""MMRNS: negatives which look like, read like and mean the same as the true entity, for the relation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, cast

import torch
from class_resolver import HintOrType, OptionalKwargs
from class_resolver.contrib.torch import optimizer_resolver
from docdata import parse_docdata
from pykeen.sampling.filtering import Filterer
from pykeen.typing import COLUMN_RELATION, FloatTensor, LongTensor, MappedTriples
from torch.optim import Optimizer

from ...errors import ConfigurationError, NonFiniteSamplerError
from ...multimodal.features import MultimodalFeatures
from ...negatives import Negatives
from ...scoring import Scorer
from ..base import AdversarialNegativeSampler, BindsModel, HasLoss, Learns, ReadsLabels, Scores
from ..checks import check_host
from ..pools import KnownAnswers
from ..sides import Side, draw_columns, head_probability
from .checks import check_settings
from .comparison import Comparison
from .contrast import (
    Variant,
    contrastive_loss,
    self_adversarial_loss,
    self_adversarial_weights,
    subsampling_weights,
)
from .exploration import Schedule, exploration_factor, log_mixture, warn_if_short
from .gumbel import draw, draw_hard, straight_through
from .proposals import PooledNegatives
from .statistics import METRICS, measure
from .vectors import score_directions

__all__ = ["Gradient", "MMRNSNegativeSampler", "Objective"]

Gradient: TypeAlias = Literal["straight-through", "detached"]

Objective: TypeAlias = Literal["host", "mmrns"]

#: the pool and the negatives of the paper
PAPER_POOL = 1500
PAPER_NEGATIVES = 20


@parse_docdata
class MMRNSNegativeSampler(AdversarialNegativeSampler, BindsModel, HasLoss, Learns, ReadsLabels):
    r"""MMRNS: negatives drawn by their similarity to the true entity in text, in pictures and in the model.

    For each step a pool of $P$ entities is drawn uniformly, which the batch shares. For the true entity $e$ of the
    corrupted slot and each candidate $e_j$, an attention network gives vectors $z^m$ in each modality $m$ from the
    point of view of the relation, cf. :mod:`pykeen_advneg.sampling.mmrns.attention`. Candidates are drawn by

    $$q_j \propto \sum_m \mathrm{softmax}_j \Big( \frac{sim^m(z, z_j)}{\epsilon} \Big), \qquad
      sim(z, z_j) = \frac{z \cdot z_j}{sg(\lVert z \rVert \lVert z_j \rVert)},$$

    without replacement, by Gumbel noise; known training triples are never drawn. $\epsilon$, the exploration factor,
    falls during training. The loss is

    $$L = L_{KGC} + \beta L_{con}$$

    with the loss of the model and the contrastive loss of the network, cf.
    :func:`pykeen_advneg.sampling.mmrns.contrast.contrastive_loss`. Draws are straight-through: the gradient of the
    scores of negatives reaches the network, and the embeddings which it looks at. It pushes towards *easier*
    negatives, as network and model minimise the same loss; it is the contrastive loss which asks for similar ones.

    **What is there is used.** Without pictures, text guides itself, and vice versa; without either, only the structure
    branch is left, and a warning says so. A candidate which lacks a modality has the probability $1 / P$ in its
    branch; where the anchor lacks it, the branch is left out for this positive.

    **The paper and the authors' code.** Where they differ, this is the paper: one logarithm for each query, and
    weights of the contrastive loss which are larger for drawn negatives; ``variant="released"`` has the code's. The
    code's anchor lacks one normalisation, which is not copied. Its batches corrupt tails and heads in turn; here
    each positive has a side of its own. It masks known triples by $10^{-38}$, here they are excluded. Where no
    answer is in the pool, its loss is infinite; here the positive is skipped.

    **Chosen here:** ``objective="host"``, the loss of the model as $L_{KGC}$; the paper's is
    :class:`pykeen.losses.NSSALoss` with subsampling weights, which that class refuses: ``objective="mmrns"``. The
    relation is always seen as it is, whichever side is corrupted, as in the code. ``gradient="detached"``: the sampler
    sees the embeddings without gradient and learns by $L_{con}$ alone, the model by its loss alone. Embeddings are
    looked up without dropout. Representations of several parts, or of complex numbers, are real vectors for the
    sampler.
    ---
    name: MMRNS
    citation:
        author: Xu
        year: 2022
        link: https://doi.org/10.1145/3503161.3548388
        github: quqxui/MMRNS
    """

    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = dict(
        num_negs_per_pos=dict(type=int, low=5, high=50),
        pool_size=dict(type=int, low=100, high=2000, log=True),
        exploration=dict(type=float, low=0.05, high=10.0, log=True),
        contrast_weight=dict(type=float, low=0.001, high=1.0, log=True),
    )

    corrupt_head_probability: FloatTensor
    num_steps: LongTensor
    sums: FloatTensor
    num_batches: LongTensor

    reduction = "mean"
    epoch_sums = ("sums", "num_batches")

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        features: MultimodalFeatures | str | Path | None = None,
        pool_size: int | None = None,
        exploration: float = 10.0,
        exploration_schedule: Schedule = "logarithmic",
        exploration_end: float = 0.05,
        exploration_steps: int = 10_000,
        contrast_weight: float = 0.01,
        variant: Variant = "paper",
        gradient: Gradient = "straight-through",
        gumbel_temperature: float = 1.0,
        objective: Objective = "host",
        adversarial_temperature: float = 0.5,
        margin: float = 6.0,
        attention_dim: int = 50,
        hidden_dim: int = 100,
        side: Side = "uniform",
        optimizer: HintOrType[Optimizer] = "adam",
        optimizer_kwargs: OptionalKwargs = None,
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: HintOrType[Filterer] = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        r"""Initialize the sampler.

        :param mapped_triples: shape: ``(n, 3)``, the training triples
        :param features: text and pictures of the entities, or the path of a saved file of them; with labels, the loop
            brings them into the order of the ids
        :param pool_size: $P$, the candidates of a step; if None, 1500 as in the paper; or as many as there are, if
            these are fewer
        :param exploration: $\epsilon_0$, the exploration factor of the first step
        :param exploration_schedule: ``logarithmic`` as in the paper, ``geometric`` or ``constant``
        :param exploration_end: $\epsilon_1$, where ``geometric`` ends
        :param exploration_steps: after how many steps; choose it by the length of training, e.g., half of epochs times
            batches
        :param contrast_weight: $\beta$
        :param variant: the weights of the contrastive loss: of the ``paper``, or of the ``released`` code
        :param gradient: ``straight-through``: network and model share one loss; ``detached``: the network learns by the
            contrastive loss alone, and the model from hard draws
        :param gumbel_temperature: of the soft draws, through which the gradient goes
        :param objective: $L_{KGC}$: the loss of the model (``host``), or the paper's self-adversarial loss with
            subsampling weights (``mmrns``), which takes its place
        :param adversarial_temperature: $\alpha$, of the weights of drawn negatives in the contrastive loss, and in the
            objective ``mmrns``
        :param margin: $\gamma$ of the objective ``mmrns``; 0 for scores which are no distances
        :param attention_dim: the dimension of the attention
        :param hidden_dim: the dimension within the gate of the structure
        :param side: which side is corrupted: ``uniform``, ``bernoulli``, ``head``, ``tail``
        :param optimizer: of the attention network
        :param optimizer_kwargs: its keyword-based parameters, laid over ``lr=1e-4``
        :param num_entities: the number of entities; inferred from the triples if None
        :param num_relations: the number of relations; inferred from the triples if None
        :param num_negs_per_pos: the number of negatives of each positive; if None, 20 as in the paper, or as
            many as the pool has
        :param filtered: known training triples are never drawn in any case; if True, what the filterer knows is
            masked as well
        :param filterer: how known triples are found
        :param filterer_kwargs: keyword-based parameters of the filterer

        :raises ConfigurationError: if a value is impossible
        """
        if num_negs_per_pos is None:
            num_negs_per_pos = min(PAPER_NEGATIVES, pool_size or PAPER_POOL)
        super().__init__(
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=num_negs_per_pos,
            filtered=filtered and filterer is not None,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
        )
        self.pool_size = min(PAPER_POOL, self.num_entities) if pool_size is None else pool_size
        self.exploration = exploration
        self.exploration_schedule: Schedule = exploration_schedule
        self.exploration_end = exploration_end
        self.exploration_steps = exploration_steps
        self.contrast_weight = contrast_weight
        self.variant: Variant = variant
        self.gradient: Gradient = gradient
        self.learns_from_loss = gradient == "straight-through"
        self.gumbel_temperature = gumbel_temperature
        self.objective: Objective = objective
        self.adversarial_temperature = adversarial_temperature
        self.margin = margin
        self.attention_dim = attention_dim
        self.hidden_dim = hidden_dim
        check_settings(self, is_given=pool_size is not None)
        self._optimizer_settings = optimizer, {"lr": 1e-4, **(optimizer_kwargs or {})}
        self.comparison = Comparison(features, self.num_entities, attention_dim, hidden_dim)
        self.known = KnownAnswers(mapped_triples, self.num_entities)
        self.register_buffer("corrupt_head_probability", head_probability(side, mapped_triples, self.num_relations))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.long))
        # what is summed up within an epoch starts anew when that is run again, so that it is no part of a checkpoint
        self.register_buffer("sums", torch.zeros(len(METRICS), dtype=torch.float64), persistent=False)
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long), persistent=False)
        self._optimizer: Optimizer | None = None
        self._last_contrast = self.sums.new_zeros(())
        # to find an impossible one now, and not when there is a model
        self._make_optimizer([torch.nn.Parameter(torch.zeros(1))])

    def _make_optimizer(self, parameters: Sequence[torch.nn.Parameter]) -> Optimizer:
        optimizer, kwargs = self._optimizer_settings
        try:
            return optimizer_resolver.make(optimizer, kwargs, params=parameters)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"optimizer={optimizer!r} cannot be built with optimizer_kwargs={kwargs!r}: {error}"
            ) from error

    # docstr-coverage: inherited
    def read_labels(self, entity_to_id: Mapping[str, int]) -> None:
        """Bring features with labels into the order of the ids.

        :param entity_to_id: the id of each label
        """
        self.comparison.features.read_labels(entity_to_id)

    def bind(self, scorer: Scorer) -> None:
        """Take hold of the model, and build the attention network for it, unless it is there already.

        :param scorer: gives the scores of the model

        :raises ConfigurationError: if features have labels, and it is not known which id is whose
        """
        self.scorer = scorer
        sizes = self.comparison.bind(scorer)
        if self.comparison.sizes != sizes:
            self._build(sizes)
        self.comparison.trained().to(scorer.model.device)

    def _build(self, sizes: tuple[int, int] | None) -> None:
        """Build the network for entities and relations of these sizes, and its optimizer; None: drop both."""
        self.comparison.build(sizes)
        network = self.comparison.network
        self._optimizer = None
        if network is not None:
            network.to(self.num_steps.device)
            self._optimizer = self._make_optimizer(list(network.parameters()))

    # docstr-coverage: inherited
    def optimizers(self) -> Sequence[Optimizer]:
        """Give the optimizer of the network; none before the sampler has met a model."""
        return () if self._optimizer is None else (self._optimizer,)

    # docstr-coverage: inherited
    def get_extra_state(self) -> dict[str, Any]:
        """Give the state of the optimizer, and for what the network was built."""
        return {**super().get_extra_state(), "sizes": self.comparison.sizes and list(self.comparison.sizes)}

    # docstr-coverage: inherited
    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Build the network which a state belongs to, and load it.

        :param state_dict: the state
        :param args: further arguments of PyTorch
        :param kwargs: further keyword-based parameters of PyTorch

        :returns: what PyTorch returns
        """
        sizes = state_dict.get("_extra_state", {}).get("sizes")
        if sizes is None or tuple(sizes) != self.comparison.sizes:
            self._build(None if sizes is None else (int(sizes[0]), int(sizes[1])))
        return super().load_state_dict(state_dict, *args, **kwargs)

    @property
    def exploration_factor(self) -> float:
        r"""The factor $\epsilon$ of the next step."""
        return exploration_factor(
            self.exploration_schedule,
            self.exploration,
            self.exploration_end,
            self.exploration_steps,
            int(self.num_steps),
        )

    def propose(self, positives: LongTensor) -> PooledNegatives:
        """Draw a pool, and negatives from it.

        :param positives: shape: ``(b, 3)``

        :returns: ``num_negs_per_pos`` different negatives of each positive; masked where the pool has too few
        """
        for optimizer in self.optimizers():
            # what a memory probe has left
            optimizer.zero_grad(set_to_none=True)
        column = draw_columns(self.corrupt_head_probability, positives[:, COLUMN_RELATION])
        pool = torch.randperm(self.num_entities, device=positives.device)[: self.pool_size]
        values = self.comparison.similarities(positives, column, pool, self.gradient == "detached")
        with torch.no_grad():
            # as one row of ids which all positives share
            offered = Negatives(positives, pool.unsqueeze(0), column, chunk_size=len(positives))
            is_unknown = self.known(offered)
            allowed = is_unknown & (pool != offered.kept_ids)
            branches = self.comparison.branches(values, positives, column, pool)
            log_q = log_mixture(branches, self.exploration_factor)
            if self.gradient == "detached":
                draws = draw_hard(log_q, allowed, self.num_negs_per_pos)
            else:
                draws = draw(log_q, allowed, self.num_negs_per_pos, self.gumbel_temperature)
            others = ~is_unknown & (pool != offered.kept_ids)
            statistics = measure(branches, log_q, allowed, others, draws.places, draws.valid)
        return PooledNegatives(
            positives=positives,
            ids=pool[draws.places],
            column=column,
            mask=None if bool(draws.valid.all()) else draws.valid,
            pool=pool,
            places=draws.places,
            is_known=~is_unknown,
            soft=draws.soft,
            statistics=statistics,
            graph=[values] if torch.is_grad_enabled() else [],
        )

    # docstr-coverage: inherited
    def draw(self, positives: LongTensor) -> Negatives:
        """Propose negatives, and mask what the filterer knows, if there is one.

        :param positives: shape: ``(b, 3)``

        :returns: the negatives
        """
        negatives = self.propose(positives)
        if self.filterer is None:
            return negatives
        return replace(negatives, mask=negatives.drawn & self.filterer(negatives.triples))

    # docstr-coverage: inherited
    def score(self, scorer: Scorer, negatives: Negatives) -> Scores:
        """Score positives and negatives; with straight-through draws, similarities are the ``extra``."""
        positives, plain = scorer.both(negatives)
        if not isinstance(negatives, PooledNegatives) or negatives.soft is None:
            return Scores(positives, plain)
        values = negatives.take_graph()
        if values is None:
            values = self.comparison.similarities(negatives.positives, negatives.column, negatives.pool, detached=False)
        if torch.is_grad_enabled():
            branches = self.comparison.branches(values, negatives.positives, negatives.column, negatives.pool)
            log_q = log_mixture(branches, self.exploration_factor)
            for rows, gradients, candidates in score_directions(scorer, negatives, negatives.pool):
                own, soft = (x if rows is None else x[rows] for x in (log_q, negatives.soft))
                zeros = straight_through(own, soft, gradients, candidates, self.gumbel_temperature)
                plain = plain + zeros if rows is None else plain.index_add(0, rows, zeros)
        return Scores(positives, plain, tuple(values.values()))

    # docstr-coverage: inherited
    @property
    def reduction_of_loss(self) -> Literal["sum", "mean"] | None:
        """The mean which the paper's loss is, or that of PyKEEN's loss."""
        return "mean" if self.objective == "mmrns" else None

    # docstr-coverage: inherited
    def loss(self, negatives: Negatives, scores: Scores, host: Callable[[Scores], FloatTensor]) -> FloatTensor:
        """Compute the loss of the model, and with straight-through draws that of the network.

        :param negatives: as proposed
        :param scores: as :meth:`score` gives them
        :param host: the loss of PyKEEN

        :returns: a scalar

        :raises ConfigurationError: if the user asks for something which only the loss of PyKEEN can do
        """
        plain = Scores(scores.positives, scores.negatives)
        loss = host(plain) if self.objective == "host" else self._own_loss(negatives, plain, host)
        if not scores.extra or not self.contrast_weight:
            return loss
        assert isinstance(negatives, PooledNegatives)
        values = dict(zip(self.comparison.trained().branches, scores.extra, strict=True))
        return loss + self.contrast_weight * self._contrast(negatives, scores, values)

    def _own_loss(self, negatives: Negatives, scores: Scores, host: Callable[[Scores], FloatTensor]) -> FloatTensor:
        check_host("mmrns", host, "objective='host'")
        weights = self_adversarial_weights(scores.negatives, self.adversarial_temperature, negatives.mask)
        subsampling = subsampling_weights(self.known.index, negatives.positives).to(weights.dtype)
        return self_adversarial_loss(scores.positives, scores.negatives, weights, subsampling, self.margin)

    def _contrast(self, negatives: PooledNegatives, scores: Scores, values: Mapping[str, FloatTensor]) -> FloatTensor:
        """Compute the contrastive loss, and note its value."""
        drawn = negatives.drawn
        weights = self_adversarial_weights(scores.negatives, self.adversarial_temperature, drawn)
        branches = self.comparison.branches(values, negatives.positives, negatives.column, negatives.pool)
        loss = contrastive_loss(
            branches, negatives.is_known, negatives.places, weights, drawn, self.num_entities, self.variant
        )
        self._last_contrast = loss.detach()
        return loss

    # docstr-coverage: inherited
    def learn(self, negatives: Negatives, scores: Scores) -> None:
        """Step the network: on the gradient of the common loss, or, detached, on that of the contrastive loss.

        :param negatives: as proposed
        :param scores: their scores before the update of the model

        :raises NonFiniteSamplerError: if the gradient is not finite
        """
        assert isinstance(negatives, PooledNegatives)
        self._last_contrast = self.sums.new_zeros(()) if negatives.soft is None else self._last_contrast
        if negatives.soft is not None:
            self._step_on_common_gradient()
        elif self.contrast_weight:
            self._step_on_contrast(negatives, scores)
        self.num_steps += 1
        self.num_batches += 1
        statistics = {**negatives.statistics, "contrast": self._last_contrast}
        self.sums += torch.stack([statistics[name].to(self.sums) for name in METRICS])

    def _step_on_common_gradient(self) -> None:
        (optimizer,) = self.optimizers()
        gradients = [p.grad for p in self.comparison.trained().parameters() if p.grad is not None]
        if not gradients:
            return
        if not bool(torch.isfinite(torch.stack([gradient.sum() for gradient in gradients]).sum())):
            raise NonFiniteSamplerError(
                "The gradient of MMRNSNegativeSampler is not finite. Lower the learning rate of the model or in "
                "optimizer_kwargs, or clip gradients by gradient_clipping_max_norm."
            )
        if self.clip_gradients is not None:
            self.clip_gradients(self.comparison.trained().parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _step_on_contrast(self, negatives: PooledNegatives, scores: Scores) -> None:
        (optimizer,) = self.optimizers()
        with torch.enable_grad():
            values = negatives.take_graph() if self.gradient == "detached" else None
            if values is None:
                values = self.comparison.similarities(
                    negatives.positives, negatives.column, negatives.pool, detached=True
                )
            self.step(self._contrast(negatives, scores, values), optimizer)

    # docstr-coverage: inherited
    def warm_up(self, positives: LongTensor) -> None:
        """Step the network on the contrastive loss; the model learns from another sampler meanwhile.

        :param positives: shape: ``(b, 3)``
        """
        with torch.no_grad():
            negatives = cast(PooledNegatives, self.draw(positives))
            scores = Scores(*self.scorer.both(negatives))
        self._step_on_contrast(negatives, scores)

    # docstr-coverage: inherited
    def begin_epoch(self) -> None:
        """Open an epoch: sums start anew."""
        self.sums.zero_()
        self.num_batches.zero_()
        self._last_contrast = self.sums.new_zeros(())

    # docstr-coverage: inherited
    def end_epoch(self) -> Mapping[str, float]:
        """Close an epoch.

        :returns: means over its batches: ``effective_share`` (effective sample size of the draw, as a share of the
            candidates which may be drawn; 1: uniform), ``masked_share`` (of the pool, known answers),
            ``answered_share`` (of the positives, those with another known answer in the pool than the anchor itself),
            ``similarity`` (of the drawn negatives, mean over the branches which a pair has), ``pool_similarity`` (of
            all candidates),
            ``contrast`` (the contrastive loss); and ``exploration``, the factor of the next step
        """
        if not self.num_batches:
            return {}
        means = (self.sums / self.num_batches).tolist()
        self.begin_epoch()
        return {**dict(zip(METRICS, means, strict=True)), "exploration": self.exploration_factor}

    # docstr-coverage: inherited
    def end_training(self) -> None:
        """Warn if training was too short for the schedule ``geometric`` to choose negatives."""
        if self.exploration_schedule == "geometric":
            warn_if_short(self.exploration, self.exploration_factor, self.exploration_steps, int(self.num_steps))

"""Samplers on top of another one, which gives the ids of their negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, Literal

from class_resolver import HintOrType, OptionalKwargs
from pykeen.sampling import NegativeSampler, negative_sampler_resolver
from pykeen.sampling.filtering import Filterer
from pykeen.typing import LongTensor, MappedTriples
from torch.optim import Optimizer

from ..errors import ConfigurationError
from ..negatives import Negatives
from ..scoring import Scorer
from .base import AdversarialNegativeSampler, BindsModel, HasLoss, Learns, Scores, check_flag
from .making import check_sampler

__all__ = ["BasedNegativeSampler"]

#: what the base gets from the sampler on top of it, and not from its own keywords
GIVEN_FROM_ABOVE = frozenset({"num_negs_per_pos", "filtered", "filterer", "filterer_kwargs"})


class BasedNegativeSampler(AdversarialNegativeSampler, BindsModel, Learns):
    """A sampler whose ids come from another sampler, the base: one of PyKEEN's or one of this package.

    All that the loop asks is handed on: the base is bound to the model, learns, is warmed up, opens and closes epochs,
    and its parameters, buffers and optimizers are part of the state. PyKEEN's own samplers stay on the CPU. What known
    triples are, and that they are masked, is left to the base.
    """

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        base: HintOrType[NegativeSampler],
        base_kwargs: OptionalKwargs = None,
        times: int = 1,
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: HintOrType[Filterer] = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Initialize the sampler.

        :param mapped_triples: shape: ``(n, 3)``, the training triples
        :param base: the sampler which gives the ids of negatives, by name or class
        :param base_kwargs: its keyword-based parameters, without those which are given here
        :param times: how many times ``num_negs_per_pos`` negatives the base draws for each positive
        :param num_entities: the number of entities; inferred from the triples if None
        :param num_relations: the number of relations; inferred from the triples if None
        :param num_negs_per_pos: the number of negatives of each positive; 1 if None
        :param filtered: whether known training triples are left out, by the base
        :param filterer: how known triples are found, by the base
        :param filterer_kwargs: keyword-based parameters of the filterer

        :raises ConfigurationError: if a number is impossible, or if this cannot be a base
        """
        super().__init__(
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=num_negs_per_pos,
        )
        check_flag("filtered", filtered)
        kwargs = dict(base_kwargs or {})
        base_sampler = negative_sampler_resolver.make(
            self._check_base(base, kwargs),
            pos_kwargs=kwargs,
            mapped_triples=mapped_triples,
            num_entities=self.num_entities,
            num_relations=self.num_relations,
            num_negs_per_pos=self.num_negs_per_pos * times,
            filtered=filtered,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
        )
        # in a tuple, so that it is no part of this module: PyKEEN's own samplers have tables which are no buffers
        self._base = (base_sampler,)
        self._own_base = base_sampler if isinstance(base_sampler, AdversarialNegativeSampler) else None
        self.chunk_size = 1 if self._own_base is None else self._own_base.chunk_size
        self.reduction = self.reduction_with({"base": base, "base_kwargs": kwargs})
        if isinstance(base_sampler, Learns):
            self.fewest_positives = max(self.fewest_positives, base_sampler.fewest_positives)
            self.epoch_sums = tuple(f"_own_base.{name}" for name in base_sampler.epoch_sums)

    # docstr-coverage: inherited
    @classmethod
    def reduction_with(cls, kwargs: Mapping[str, Any]) -> Literal["sum", "mean"] | None:
        """Say what ``reduction`` is: that of what learns, this class or the base; None if both do, and differ.

        :param kwargs: the keyword-based parameters

        :returns: how gradients add up
        """
        below = kwargs.get("base_kwargs") or {}
        base = check_sampler("base", kwargs.get("base", signature(cls).parameters["base"].default), below)
        of_base = base.reduction_with(below) if issubclass(base, Learns) else None
        if cls.learn is BasedNegativeSampler.learn:
            return of_base if issubclass(base, Learns) else "sum"
        return cls.reduction if not issubclass(base, Learns) or of_base == cls.reduction else None

    def _check_base(self, base: HintOrType[NegativeSampler], kwargs: Mapping[str, Any]) -> type[NegativeSampler]:
        """Check the choice of the base, before it is built, and give its class."""
        name = negative_sampler_resolver.normalize_cls(type(self))
        cls = check_sampler("base", base, kwargs)
        if isinstance(base, NegativeSampler):
            raise ConfigurationError(
                f"base is an instance of {cls.__name__}; give its name or class and its parameters as base_kwargs."
            )
        if issubclass(cls, HasLoss):
            raise ConfigurationError(
                f"base={base!r} has a loss of its own, which would stand against that of {name!r}; choose one without, "
                f"e.g., 'shared', 'basic' or 'kbgan'."
            )
        if GIVEN_FROM_ABOVE & kwargs.keys():
            raise ConfigurationError(
                f"base_kwargs={dict(kwargs)!r} has {sorted(GIVEN_FROM_ABOVE & kwargs.keys())}, which the base gets "
                f"from the sampler {name!r}: move it to negative_sampler_kwargs."
            )
        return cls

    @property
    def base(self) -> NegativeSampler:
        """The sampler which gives the ids."""
        return self._base[0]

    @property
    def _learner(self) -> Learns | None:
        """The base, if it learns, with the clipping which the loop asks for."""
        if not isinstance(self.base, Learns):
            return None
        self.base.clip_gradients = self.clip_gradients
        return self.base

    def propose(self, positives: LongTensor) -> Negatives:
        """Let the base propose negatives.

        :param positives: shape: ``(b, 3)``

        :returns: the negatives
        """
        return self.draw(positives) if self._own_base is None else self._own_base.propose(positives)

    # docstr-coverage: inherited
    def draw(self, positives: LongTensor) -> Negatives:
        """Let the base propose negatives, and mask the known triples among them if ``filtered``.

        :param positives: shape: ``(b, 3)``

        :returns: the negatives
        """
        if self._own_base is not None:
            return self._own_base.draw(positives)
        triples, mask = self.base.sample(positives.cpu())
        device = positives.device
        return Negatives.from_triples(positives, triples.to(device), None if mask is None else mask.to(device))

    # docstr-coverage: inherited
    def bind(self, scorer: Scorer) -> None:
        """Bind the base, if it asks the model.

        :param scorer: gives the scores of the model
        """
        if isinstance(self.base, BindsModel):
            self.base.bind(scorer)

    # docstr-coverage: inherited
    def optimizers(self) -> Sequence[Optimizer]:
        """Give the optimizers of the base: none, if it does not learn."""
        return () if self._learner is None else self._learner.optimizers()

    # docstr-coverage: inherited
    def learn(self, negatives: Negatives, scores: Scores) -> None:
        """Let the base learn, if it does, from the plain scores.

        :param negatives: as proposed
        :param scores: those of positives and of all negatives; what is ``extra`` is not for the base
        """
        if self._learner is not None:
            self._learner.learn(negatives, Scores(scores.positives, scores.negatives))

    # docstr-coverage: inherited
    def warm_up(self, positives: LongTensor) -> None:
        """Let the base learn from positives alone, if it does.

        :param positives: shape: ``(b, 3)``
        """
        if self._learner is not None:
            self._learner.warm_up(positives)

    # docstr-coverage: inherited
    def end_warm_up(self) -> None:
        """Let the optimizers of the base start anew."""
        if self._learner is not None:
            self._learner.end_warm_up()

    # docstr-coverage: inherited
    def begin_epoch(self) -> None:
        """Open an epoch of the base."""
        if self._own_base is not None:
            self._own_base.begin_epoch()

    # docstr-coverage: inherited
    def end_epoch(self) -> Mapping[str, float]:
        """Close an epoch of the base.

        :returns: its metrics
        """
        return {} if self._own_base is None else self._own_base.end_epoch()

    # docstr-coverage: inherited
    def get_extra_state(self) -> dict[str, Any]:
        """Give nothing: the base keeps the states of its optimizers itself."""
        return {}

    # docstr-coverage: inherited
    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take nothing."""

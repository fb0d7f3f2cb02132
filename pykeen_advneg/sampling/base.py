"""What a sampler of this package is, and what the loop ``adversarial`` asks of it.

A sampler always *proposes* negatives. What else it can do is said by the classes it derives from, and by nothing else:

===================================  ==================================================  =======================
class                                the loop ``adversarial`` calls                      for instance
===================================  ==================================================  =======================
:class:`AdversarialNegativeSampler`  ``propose(positives)`` for each batch               all
:class:`BindsModel`                  ``bind(scorer)`` once, before the first batch       samplers which ask the model
:class:`HasLoss`                     ``score(scorer, negatives)`` for each part of a     EMU
                                     batch, and ``loss(negatives, scores, host)``
:class:`Learns`                      ``learn(negatives, scores)`` after each batch       KBGAN
:class:`ReadsLabels`                 ``read_labels(entity_to_id)`` when it is made       MMRNS
===================================  ==================================================  =======================
"""

from __future__ import annotations

import copy
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from class_resolver import HintOrType
from pykeen.sampling import NegativeSampler
from pykeen.sampling.filtering import Filterer
from pykeen.typing import FloatTensor, LongTensor, MappedTriples
from torch import nn
from torch.optim import Optimizer

from ..errors import ConfigurationError, ModelRequiredError, NonFiniteSamplerError
from ..negatives import Negatives
from ..scoring import Scorer

__all__ = [
    "NEEDS_MODEL",
    "AdversarialNegativeSampler",
    "BindsModel",
    "HasLoss",
    "Learns",
    "ReadsLabels",
    "Scores",
    "at_least",
    "check_flag",
    "whole_at_least",
]


@dataclass(frozen=True)
class Scores:
    """The scores of a batch by the model being trained, before its update."""

    #: shape: ``(b, 1)``
    positives: FloatTensor

    #: shape: ``(b, k)``
    negatives: FloatTensor

    #: what else the sampler wants for its loss, shapes: ``(b, *)``
    extra: tuple[FloatTensor, ...] = ()

    @property
    def tensors(self) -> tuple[FloatTensor, ...]:
        """All tensors, in the order in which :meth:`of` takes them."""
        return (self.positives, self.negatives, *self.extra)

    @classmethod
    def of(cls, tensors: Iterable[FloatTensor]) -> Scores:
        """Make scores from their tensors."""
        positives, negatives, *extra = tensors
        return cls(positives, negatives, tuple(extra))

    def map(self, function: Callable[[FloatTensor], FloatTensor]) -> Scores:
        """Apply a function to each tensor."""
        return Scores.of(map(function, self.tensors))


def at_least(name: str, value: float, low: float) -> None:
    """Check a lower bound.

    :param name: the name of the argument
    :param value: its value
    :param low: the smallest value which is allowed

    :raises ConfigurationError: if the value is no number, or smaller
    """
    if not isinstance(value, numbers.Real):
        raise ConfigurationError(f"{name}={value!r} must be a number of at least {low}.")
    if not value >= low:
        raise ConfigurationError(f"{name}={value!r} is too small; choose at least {low}.")


def whole_at_least(name: str, value: int, low: int) -> None:
    """Check that there is a whole number, and its lower bound.

    :param name: the name of the argument
    :param value: its value
    :param low: the smallest value which is allowed

    :raises ConfigurationError: if the value is no whole number, or smaller
    """
    if not isinstance(value, numbers.Integral):
        raise ConfigurationError(f"{name}={value!r} must be a whole number of at least {low}.")
    at_least(name, value, low)


def check_flag(name: str, value: bool) -> None:
    """Check that there is a truth value, and not the name of one.

    :param name: the name of the argument
    :param value: its value

    :raises ConfigurationError: if it is neither True nor False
    """
    if value not in (True, False):
        raise ConfigurationError(f"{name}={value!r} must be True or False.")


class AdversarialNegativeSampler(NegativeSampler, ABC):
    """A negative sampler of this package."""

    #: how many positives share the ids of their negatives; ``None``: those of a batch
    chunk_size: int | None = 1

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: HintOrType[Filterer] = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Initialize the sampler.

        The keywords are spelt out here, and not passed through, because PyKEEN's studies check a user's keywords
        against the signature of the sampler's class and of its first base only.

        :param mapped_triples: shape: ``(n, 3)``, the training triples
        :param num_entities: the number of entities; inferred from the triples if None
        :param num_relations: the number of relations; inferred from the triples if None
        :param num_negs_per_pos: the number of negatives of each positive; 1 if None
        :param filtered: whether known training triples are left out
        :param filterer: how known triples are found
        :param filterer_kwargs: keyword-based parameters of the filterer

        :raises ConfigurationError: if a number is impossible
        """
        check_flag("filtered", filtered)
        whole_at_least("num_negs_per_pos", 1 if num_negs_per_pos is None else num_negs_per_pos, 1)
        super().__init__(
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=num_negs_per_pos,
            filtered=filtered,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
        )
        whole_at_least("num_entities", self.num_entities, 2)

    @abstractmethod
    def propose(self, positives: LongTensor) -> Negatives:
        """Propose negatives.

        :param positives: shape: ``(b, 3)``, on the device of the model

        :returns: ``num_negs_per_pos`` negatives of each positive
        """

    def draw(self, positives: LongTensor) -> Negatives:
        """Propose negatives, and mark the known triples among them where the sampler did not do so itself.

        :param positives: shape: ``(b, 3)``, on the device of the model

        :returns: the negatives, with a mask if this sampler is ``filtered``
        """
        negatives = self.propose(positives)
        if self.filterer is None or negatives.mask is not None:
            return negatives
        return replace(negatives, mask=self.filterer(negatives.triples))

    def corrupt_batch(self, positive_batch: LongTensor) -> LongTensor:
        """Propose negatives to a loop of PyKEEN.

        :param positive_batch: shape: ``(*batch, 3)``

        :returns: shape: ``(*batch, k, 3)``

        :raises ModelRequiredError: if this sampler works with the model, which PyKEEN's loops keep to themselves
        """
        if isinstance(self, NEEDS_MODEL):
            raise ModelRequiredError(
                f"{type(self).__name__} works with the model being trained, which this training loop does not hand to "
                f"its sampler: use training_loop='adversarial'."
            )
        negatives = self.propose(positive_batch.reshape(-1, 3))
        return negatives.triples.view(*positive_batch.shape[:-1], -1, 3)

    def begin_epoch(self) -> None:
        """Open an epoch of training: forget what an epoch which was broken off has left."""

    def end_epoch(self) -> Mapping[str, float]:
        """Close an epoch of training.

        :returns: the metrics of this epoch, which the loop logs with the prefix ``sampler``
        """
        return {}

    def end_training(self) -> None:
        """Close a training which has come to its end, by its last epoch or by a stopper."""

    def get_extra_state(self) -> dict[str, Any]:
        """Give the states of the own optimizers to ``state_dict()``."""
        optimizers = self.optimizers() if isinstance(self, Learns) else ()
        return {"optimizers": [optimizer.state_dict() for optimizer in optimizers]}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take the states of the own optimizers from ``load_state_dict()``."""
        optimizers = self.optimizers() if isinstance(self, Learns) else ()
        for optimizer, optimizer_state in zip(optimizers, state["optimizers"], strict=True):
            # optimizers keep the tensors which they are given, and change them in place
            optimizer.load_state_dict(copy.deepcopy(optimizer_state))


class BindsModel(ABC):
    """A sampler which asks the model being trained."""

    @abstractmethod
    def bind(self, scorer: Scorer) -> None:
        """Take hold of the model; called before the first batch of each training.

        :param scorer: gives the scores of the model. A sampler which scores outside of a gradient says so itself.
        """


class ReadsLabels(ABC):
    """A sampler which has to know which entity is which, for instance to find its features."""

    @abstractmethod
    def read_labels(self, entity_to_id: Mapping[str, int]) -> None:
        """Take the labels; called once, before all else, where the training triples have labels.

        :param entity_to_id: the id of each label
        """


class HasLoss(ABC):
    """A sampler with a loss of its own, or with more scores for that of PyKEEN."""

    @property
    def reduction_of_loss(self) -> Literal["sum", "mean"] | None:
        """Whether its loss is a sum or a mean over positives; None: as that of PyKEEN is."""
        return None

    def check_parts(self) -> None:  # noqa: B027
        """Check that a batch may be scored in parts; called before the first batch, if there is a ``sub_batch_size``.

        :raises ConfigurationError: if it may not
        """

    def score(self, scorer: Scorer, negatives: Negatives) -> Scores:
        """Score a batch, or a part of it; all that is random comes from PyTorch's generator, which is rewound.

        :param scorer: gives the scores of the model
        :param negatives: as proposed, or some consecutive ones

        :returns: the scores, with gradient
        """
        return Scores(*scorer.both(negatives))

    @abstractmethod
    def loss(self, negatives: Negatives, scores: Scores, host: Callable[[Scores], FloatTensor]) -> FloatTensor:
        """Compute the loss of a whole batch.

        :param negatives: the whole batch of negatives, as proposed
        :param scores: as :meth:`score` gives them
        :param host: the loss of PyKEEN for positives and negatives with any scores; it leaves masked negatives out

        :returns: a scalar with gradient
        """


class Learns(ABC):
    """A sampler which is trained beside the model, by its own optimizers."""

    #: clips the gradients of the parameters given to it; set by the loop
    clip_gradients: Callable[[Iterable[nn.Parameter]], None] | None = None

    #: how the gradients of shares of a batch add up to that of the batch, for training on several ranks: the loss is a
    #: sum or a mean over positives; None: neither
    reduction: Literal["sum", "mean"] | None = None
    #: from how many positives it can learn: no rank gets fewer
    fewest_positives: int = 1
    #: whether it learns from the gradient of the model's loss, too: then both have to add up alike
    learns_from_loss: bool = False
    #: the buffers which sum something up within an epoch, and are summed over the ranks at its end
    epoch_sums: tuple[str, ...] = ()

    @classmethod
    def reduction_with(cls, kwargs: Mapping[str, Any]) -> Literal["sum", "mean"] | None:
        """Say what ``reduction`` will be, before there is a sampler.

        :param kwargs: its keyword-based parameters

        :returns: how gradients add up
        """
        return cls.reduction

    @abstractmethod
    def optimizers(self) -> Sequence[Optimizer]:
        """Give the optimizers, always in the same order; their states are part of the loop's checkpoints."""

    @abstractmethod
    def learn(self, negatives: Negatives, scores: Scores) -> None:
        """Learn from the negatives which were proposed last.

        Called once a batch, whatever the size of the sub-batches, with scores from before the model's update; never
        while the loop probes the memory, and never on validation triples.

        :param negatives: the whole batch of negatives, as proposed
        :param scores: their scores, and those of the positives
        """

    def warm_up(self, positives: LongTensor) -> None:  # noqa: B027
        """Learn from positives alone; called once a batch in the loop's pre-training epochs.

        :param positives: shape: ``(b, 3)``
        """

    def end_warm_up(self) -> None:
        """Forget what the optimizers remember, so that adversarial training starts with fresh ones."""
        for optimizer in self.optimizers():
            optimizer.state.clear()

    def step(self, loss: FloatTensor, optimizer: Optimizer) -> None:
        """Take one step of an own optimizer.

        :param loss: a scalar
        :param optimizer: one of :meth:`optimizers`

        :raises NonFiniteSamplerError: if the loss is not finite
        """
        if not bool(torch.isfinite(loss)):
            raise NonFiniteSamplerError(
                f"The loss of {type(self).__name__} is {loss.item()}: its networks or its reward left the finite "
                f"numbers. Lower its learning rate, or clip gradients by gradient_clipping_max_norm."
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.clip_gradients is not None:
            self.clip_gradients(p for group in optimizer.param_groups for p in group["params"])
        optimizer.step()


#: what only the loop ``adversarial`` can serve
NEEDS_MODEL = (BindsModel, HasLoss, Learns)

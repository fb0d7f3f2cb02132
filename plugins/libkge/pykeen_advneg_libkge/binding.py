"""A sampler bound to a model of LibKGE: what a training job asks for each batch and each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pykeen.sampling import NegativeSampler
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import FloatTensor, LongTensor
from torch import nn

from pykeen_advneg.checkpoint import preserved_random_state
from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.sampling.base import AdversarialNegativeSampler, BindsModel, HasLoss, Learns, Scores
from pykeen_advneg.scoring import Scorer
from pykeen_advneg.training.batches import draw_negatives
from pykeen_advneg.training.parts import Parts, score, whole_chunks

from .checks import check_scores
from .draws import Draw
from .losses import HostLoss, host_of
from .making import make
from .modes import in_mode
from .reciprocal import RECIPROCAL, ReciprocalScorer, directed
from .settings import Settings
from .view import is_a, make_view

__all__ = ["Binding"]

#: how many triples are scored to check the view, and tried: PyKEEN's `basic` corrupts the first half of its negatives
#: in one slot and the second in the other, so that an odd number shows a positive with both
SOME = 15


class Binding:
    """A sampler, and the model which it draws negatives for."""

    def __init__(
        self,
        model: nn.Module,
        triples: LongTensor,
        num_entities: int,
        num_relations: int,
        settings: Settings,
        loss: HostLoss,
        entity_ids: Callable[[], Sequence[str]],
        sampler: NegativeSampler | None = None,
    ) -> None:
        """Bind a sampler.

        :param model: a model of LibKGE
        :param triples: shape: ``(n, 3)``, the training triples, on the device of the model
        :param num_entities: the number of entities
        :param num_relations: the number of relations of the data set
        :param settings: which samplers
        :param loss: the loss of LibKGE
        :param entity_ids: gives the labels of the entities, by number; asked for samplers which have to know them
        :param sampler: the sampler which another binding to this model has; None: a new one

        :raises ConfigurationError: if the model cannot be used, or if a parameter is impossible
        """
        self.model = model
        self.settings = settings
        self.loss = loss
        self.num_relations = num_relations
        self.is_reciprocal = is_a(model, RECIPROCAL)
        self.view = make_view(model, num_entities, num_relations * (1 + self.is_reciprocal))
        check_scores(model, self.view, triples[:SOME], num_relations)
        self.scorer = Scorer(self.view)
        self.pretraining_sampler: NegativeSampler | None = None
        self.is_pretraining = False
        if sampler is not None:
            self.sampler = sampler
            return
        factory = CoreTriplesFactory(triples.cpu(), num_entities=num_entities, num_relations=num_relations)
        self.sampler = make(settings.sampler, factory, triples.device, entity_ids)
        if settings.pretraining_epochs:
            self.pretraining_sampler = make(settings.pretraining_sampler, factory, triples.device, entity_ids)
        if isinstance(self.sampler, BindsModel):
            scorer = ReciprocalScorer(self.view, num_relations) if self.is_reciprocal else self.scorer
            self.sampler.bind(scorer)
        self._try_out(triples[:SOME])

    def _try_out(self, positives: LongTensor) -> None:
        """Compute the loss of a few negatives of all samplers, so that what cannot work is said before training.

        Nothing is changed: neither what the random number generators give next, nor statistics of batches.
        """
        for sampler in (self.sampler, self.pretraining_sampler):
            if sampler is not None:
                with preserved_random_state(), in_mode(False, self.model, self.view, sampler), torch.no_grad():
                    self.loss_of_part(self._drawn(sampler, positives), 0, len(positives))

    def check_parts(self, size: int, batch_size: int) -> None:
        """Check that batches may be cut, if they are.

        :param size: the number of positives in a sub-batch which the user asks for; 0 or less: the whole batch
        :param batch_size: the number of positives in a batch

        :raises ConfigurationError: if the sampler needs the whole batch
        """
        if isinstance(self.sampler, HasLoss) and self.part_size(size, batch_size) < batch_size:
            self.sampler.check_parts()

    @property
    def learns(self) -> bool:
        """Whether the sampler learns, itself or by its base."""
        return isinstance(self.sampler, Learns) and bool(self.sampler.optimizers())

    def begin_epoch(self, epoch: int, learning_rate: float) -> bool:
        """Open an epoch of training.

        :param epoch: its number, from 1
        :param learning_rate: that of the model, as a share of its initial one

        :returns: whether the optimizer of the model has to start anew
        """
        self.view.train(self.model.training)
        self.sampler.train(self.model.training)
        self.is_pretraining = epoch <= self.settings.pretraining_epochs
        starts_anew = 0 < self.settings.pretraining_epochs == epoch - 1
        if isinstance(self.sampler, AdversarialNegativeSampler):
            self.sampler.begin_epoch()
        if isinstance(self.sampler, Learns):
            if starts_anew:
                self.sampler.end_warm_up()
            for optimizer in self.sampler.optimizers():
                for group in optimizer.param_groups:
                    group["lr"] = group.setdefault("initial_lr", group["lr"]) * learning_rate
        return starts_anew

    def end_epoch(self) -> Mapping[str, float]:
        """Close an epoch of training.

        :returns: what the sampler says of it
        """
        return self.sampler.end_epoch() if isinstance(self.sampler, AdversarialNegativeSampler) else {}

    def end_training(self) -> None:
        """Close a training which has come to its end."""
        if isinstance(self.sampler, AdversarialNegativeSampler):
            self.sampler.end_training()

    def draw(self, positives: LongTensor) -> Draw:
        """Draw the negatives of a batch.

        :param positives: shape: ``(b, 3)``

        :returns: the batch
        """
        sampler = self.pretraining_sampler if self.is_pretraining else self.sampler
        assert sampler is not None
        return self._drawn(sampler, positives)

    def _drawn(self, sampler: NegativeSampler, positives: LongTensor) -> Draw:
        negatives = draw_negatives(sampler, positives)
        scored = directed(negatives, self.num_relations) if self.is_reciprocal else negatives
        return Draw(negatives, scored, sampler if isinstance(sampler, HasLoss) else None)

    def part_size(self, size: int, batch_size: int) -> int:
        """Choose the size of sub-batches, so that they are not cut across positives which share negatives.

        :param size: what the user asks for; 0 or less: the whole batch
        :param batch_size: the number of positives in the batch

        :returns: the number of positives in a sub-batch
        """
        if not 0 < size < batch_size:
            return max(1, batch_size)
        chunk_size = self.sampler.chunk_size if isinstance(self.sampler, AdversarialNegativeSampler) else 1
        return whole_chunks(size, chunk_size)

    def loss_of_part(self, draw: Draw, start: int, stop: int) -> tuple[FloatTensor, FloatTensor]:
        """Compute the share of the positives ``start:stop`` in the loss of their batch.

        The loss does not depend on how the batch is cut, see :class:`pykeen_advneg.training.parts.Parts`.

        :param draw: the batch
        :param start: the first positive
        :param stop: the one after the last

        :returns: what is to be differentiated, and its value, scalars
        """
        if start == 0 and stop >= len(draw.scored):
            scores = score(self.scorer, draw.scored, draw.sampler)
            loss = self._loss(draw, scores)
            draw.scores = scores.map(torch.Tensor.detach)
            return loss, loss.detach()
        if start == 0:
            # the gradient with respect to the scores is needed even where none of the model is
            with torch.enable_grad():
                draw.parts = Parts(
                    self.scorer, draw.scored, draw.sampler, stop, lambda scores: self._loss(draw, scores)
                )
            draw.scores = draw.parts.scores
        assert draw.parts is not None
        return draw.parts.surrogate(start, stop), draw.parts.loss * ((stop - start) / len(draw.scored))

    def _loss(self, draw: Draw, scores: Scores) -> FloatTensor:
        host = host_of(self.loss, draw.negatives)
        return host(scores) if draw.sampler is None else draw.sampler.loss(draw.negatives, scores, host)

    def forget_gradients(self) -> None:
        """Forget the gradients which a batch that was broken off has left in the networks of the sampler."""
        if isinstance(self.sampler, Learns):
            for optimizer in self.sampler.optimizers():
                optimizer.zero_grad(set_to_none=True)

    def learn(self, draw: Draw) -> None:
        """Let the sampler learn from a batch, before the update of the model.

        :param draw: the batch, whose loss has been computed
        """
        if not isinstance(self.sampler, Learns):
            return
        if self.is_pretraining:
            self.sampler.warm_up(draw.negatives.positives)
        else:
            assert draw.scores is not None
            self.sampler.learn(draw.negatives, draw.scores)

    def state_dict(self) -> dict[str, Any]:
        """Give the state of the sampler, and what it was made of."""
        return {**self.settings.sampler.description, "state": self.sampler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of a sampler.

        :param state: as :meth:`state_dict` gave it

        :raises ConfigurationError: if it belongs to a sampler of another name or with other parameters
        """
        here = self.settings.sampler.description
        if any(here[key] != state[key] for key in here):
            raise ConfigurationError(
                f"The checkpoint has the sampler {state['name']!r} with {state['kwargs']}, and the configuration has "
                f"{here['name']!r} with {here['kwargs']}; resume with the configuration of the checkpoint, or start a "
                f"new job."
            )
        self.sampler.load_state_dict(state["state"])

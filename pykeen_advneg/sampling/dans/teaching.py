"""One lesson of the networks of DANS: the generators, one after the other, then the discriminator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from pykeen.typing import FloatTensor
from torch import nn
from torch.optim import Optimizer

from .networks import Discriminator, Generator, Modulation, Networks, discriminator_loss, generator_loss
from .proposals import Lesson

__all__ = ["PATHWAYS", "frozen", "teach"]

#: the generators by name: from an entity, and from an entity and a relation
PATHWAYS = ("entity", "relation")

#: takes a step of an optimizer
Step = Callable[[FloatTensor, Optimizer], None]


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let parameters get no gradient of what is computed inside."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def teach(
    networks: Networks,
    optimizers: Mapping[str, Optimizer],
    lesson: Lesson,
    *,
    step: Step,
    noise: float,
    film_regularization: float,
    discriminator_steps: int,
) -> tuple[FloatTensor, dict[str, FloatTensor]]:
    """Take a step of each generator against the discriminator, then steps of the discriminator on the same fakes.

    :param networks: the networks
    :param optimizers: those of the generators by name, and that of the ``discriminator``
    :param lesson: entities and conditions of a batch of two or more positives
    :param step: takes a step of an optimizer on a loss
    :param noise: the standard deviation of what is added to conditions
    :param film_regularization: the weight of the regulariser of FiLM
    :param discriminator_steps: the number of steps of the discriminator

    :returns: the fakes which the steps were taken on, shape ``(generators * 2 * b, dim)``, and the losses by name
    """
    discriminator = networks.discriminator
    assert isinstance(discriminator, Discriminator)
    fakes, metrics = [], {}
    for name, conditions in lesson.conditions.items():
        generator = networks.generators[name]
        assert isinstance(generator, Generator)
        # tails first, then heads, as the real entities
        condition = conditions.transpose(0, 1).flatten(end_dim=1)
        modulation = generator.modulation(condition)
        fake = generator(condition + noise * torch.randn_like(condition), modulation, "learn")
        with frozen(discriminator):
            logits, _ = discriminator(fake)
        loss = generator_loss(logits, _distances(modulation), film_regularization)
        step(loss, optimizers[name])
        metrics[f"generator_loss_{name}"] = loss.detach()
        fakes.append(fake.detach())
    entities = torch.cat([lesson.real, *fakes])
    for _ in range(discriminator_steps):
        loss, auxiliary = judge(discriminator, entities, len(lesson.real), len(fakes[0]))
        step(loss, optimizers["discriminator"])
        metrics |= {"discriminator_loss": loss.detach(), "auxiliary_loss": auxiliary.detach()}
    if discriminator.auxiliary is None:
        del metrics["auxiliary_loss"]
    return entities[len(lesson.real) :], metrics


def _distances(modulation: Modulation | None) -> list[FloatTensor]:
    """Return the regulariser of the tails and that of the heads."""
    if modulation is None:
        return []
    sides = zip(*(x.chunk(2) for pair in modulation for x in pair), strict=True)
    return [Modulation((a1, a2), (b1, b2)).distance() for a1, a2, b1, b2 in sides]


def judge(
    discriminator: Discriminator, entities: FloatTensor, num_real: int, num_first: int
) -> tuple[FloatTensor, FloatTensor]:
    """Compute the loss of the discriminator.

    :param discriminator: the discriminator
    :param entities: of the model, then fakes of each generator; with auxiliary head, those of that which starts from an
        entity come first
    :param num_real: how many entities are of the model
    :param num_first: how many fakes are of the first generator

    :returns: the loss, and its auxiliary term
    """
    logits, auxiliary = discriminator(entities)
    of_real, of_fakes = logits[:num_real], logits[num_real:]
    if auxiliary is None:
        return discriminator_loss(of_real, of_fakes)
    labels = torch.zeros_like(of_fakes)
    labels[:num_first] = 1
    return discriminator_loss(of_real, of_fakes, auxiliary[num_real:], labels)

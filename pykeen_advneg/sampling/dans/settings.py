"""The settings of DANS, checked, and what is made of them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from class_resolver import HintOrType, OptionalKwargs
from class_resolver.contrib.torch import optimizer_resolver
from torch import nn
from torch.optim import LBFGS, Adam, Optimizer, SparseAdam

from ...errors import ConfigurationError
from ..base import at_least, check_flag, whole_at_least
from ..checks import check_choice
from .conditions import Condition, Inverse
from .networks import Networks, Output, Sizes
from .teaching import PATHWAYS

__all__ = ["OptimizerSettings", "Settings"]

#: of Adam, for all networks
BETAS = (0.5, 0.999)

#: with which other keywords PyTorch refuses the fused form of Adam
NOT_FUSED = frozenset({"foreach", "differentiable"})


@dataclass(frozen=True)
class Settings:
    """What :class:`DANSNegativeSampler` is told, apart from the base and the optimizers."""

    num_generated_entity: int
    num_generated_relation: int
    noise: float
    film: bool
    film_regularization: float
    film_residual: bool
    auxiliary: bool
    output: Output
    condition: Condition
    inverse: Inverse
    discriminator_steps: int
    detach_fakes: bool
    warmup_epochs: int

    def __post_init__(self) -> None:
        for name, low in {
            "num_generated_entity": 0,
            "num_generated_relation": 0,
            "discriminator_steps": 1,
            "warmup_epochs": 0,
        }.items():
            whole_at_least(name, getattr(self, name), low)
        for name in ("film", "film_residual", "auxiliary", "detach_fakes"):
            check_flag(name, getattr(self, name))
        for name in ("noise", "film_regularization"):
            at_least(name, getattr(self, name), 0)
            if not math.isfinite(getattr(self, name)):
                raise ConfigurationError(f"{name}={getattr(self, name)!r} must be finite.")
        for name, choices in {"output": Output, "condition": Condition, "inverse": Inverse}.items():
            check_choice(name, getattr(self, name), choices)
        if not self.numbers:
            raise ConfigurationError(
                "num_generated_entity=0 and num_generated_relation=0 leave DANS nothing to generate; raise one."
            )

    @property
    def numbers(self) -> dict[str, int]:
        """How many entities each generator generates for a positive; those which generate none are left out."""
        numbers = zip(PATHWAYS, (self.num_generated_entity, self.num_generated_relation), strict=True)
        return {name: number for name, number in numbers if number}

    def networks(self, sizes: Sizes) -> Networks:
        """Make the networks. With one generator, there is nothing to tell apart, and no auxiliary head.

        :param sizes: the dimensions
        """
        return Networks(
            sizes,
            film=self.film,
            residual=self.film_residual,
            auxiliary=self.auxiliary and len(sizes.conditions) > 1,
            output=self.output,
        )


@dataclass(frozen=True)
class OptimizerSettings:
    """An optimizer of a network."""

    #: the name of the argument
    argument: str

    optimizer: HintOrType[Optimizer]
    kwargs: OptionalKwargs

    #: the learning rate, if the user says none
    lr: float

    def make(self, network: nn.Module) -> Optimizer:
        """Make the optimizer.

        :param network: what it trains

        :returns: a new optimizer

        :raises ConfigurationError: if there is no such optimizer, or if it refuses its parameters
        """
        arguments: Mapping[str, Any] = {"lr": self.lr, **(self.kwargs or {})}
        try:
            cls = optimizer_resolver.lookup(self.optimizer)
            if issubclass(cls, LBFGS | SparseAdam):
                raise ValueError("a step of it takes a closure, or sparse gradients, which there are not; use 'adam'")  # noqa: TRY004
            if "betas" in inspect.signature(cls).parameters:
                arguments = {"betas": BETAS, **arguments}
            if cls is Adam and not any(arguments.get(name) for name in NOT_FUSED):
                # the same numbers with fewer calls, of which a lesson has many
                arguments = {"fused": True, **arguments}
            return cls(network.parameters(), **arguments)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{self.argument}={self.optimizer!r} cannot be built with {self.argument}_kwargs={arguments!r}: {error}"
            ) from error

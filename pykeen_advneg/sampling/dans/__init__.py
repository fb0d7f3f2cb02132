"""DANS: negatives generated as representations (Liu et al., 2024)."""

from .networks import Networks, Sizes, discriminator_loss, generator_loss
from .proposals import GeneratedNegatives
from .sampler import DANSNegativeSampler

__all__ = [
    "DANSNegativeSampler",
    "GeneratedNegatives",
    "Networks",
    "Sizes",
    "discriminator_loss",
    "generator_loss",
]

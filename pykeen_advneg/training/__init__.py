"""The training loop ``adversarial``."""

from .loop import AdversarialTrainingLoop
from .runs import cheap_collection

__all__ = ["AdversarialTrainingLoop", "cheap_collection"]

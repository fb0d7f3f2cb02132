"""The training loop ``adversarial``."""

from .loop import AdversarialTrainingLoop, cheap_collection

__all__ = ["AdversarialTrainingLoop", "cheap_collection"]

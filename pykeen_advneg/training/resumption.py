"""The part of the loop ``adversarial`` which makes a killed run resume exactly, and the best epoch come back whole.

PyKEEN's loop stores its model, its optimizer and the random states. It does not store a sampler, writes to the final
path, reads with ``weights_only=False``, cannot resume with a learning rate scheduler (the current learning rate is part
of its checksum), loses the best epoch's weights when a run with early stopping is resumed, and restores the best
weights only if training was really stopped. All this is mended here, in one place, on PyKEEN's own hooks.
"""

from __future__ import annotations

import copy
import inspect
import logging
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, Any, Literal

import numpy as np
from pykeen.models import Model
from pykeen.stoppers import EarlyStopper, Stopper
from pykeen.training import SLCWATrainingLoop
from pykeen.training.training_loop import CheckpointMismatchError
from pykeen.triples import CoreTriplesFactory, TriplesFactory
from pykeen.utils import get_preferred_device

from ..checkpoint import (
    get_random_state,
    load_checkpoint,
    preserved_random_state,
    save_checkpoint,
    set_random_state,
)
from ..errors import CheckpointError
from ..queries.lookups import forget_encodings

__all__ = ["ResumableTrainingLoop", "describe", "restore_weights"]

logger = logging.getLogger(__name__)


#: The name of the host's own copy of the best epoch, which it writes but never reads.
HOST_BEST_MODEL = "best_model.pt"


def restore_weights(model: Model, weights: Mapping[str, Any]) -> None:
    """Give a model other weights, and let it forget what it has computed from the old ones.

    :param model: the model
    :param weights: its state
    """
    model.load_state_dict(weights)
    forget_encodings(model)


def plain(value: Any) -> Any:
    """Turn the scalars of NumPy, which a file without code cannot hold, into those of Python."""
    match value:
        case np.generic():
            return value.item()
        case Mapping():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    return value


def describe(value: Any) -> str:
    """Describe a configuration value in the same words in each process: no addresses, no sizes of objects."""
    match value:
        case None | bool() | int() | float() | str() | pathlib.Path():
            return str(value)
        case Mapping():
            return "{" + ", ".join(f"{key}: {describe(value[key])}" for key in sorted(value)) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(describe, value)) + "]"
        case type():
            return value.__qualname__
        case _ if callable(value) and hasattr(value, "__qualname__"):
            return str(value.__qualname__)
        case _:
            return type(value).__qualname__


def describe_settings(thing: object) -> str:
    """Describe those attributes of an object which are plain values, and named like parameters of its constructor."""
    parameters = inspect.signature(type(thing).__init__).parameters
    names = parameters.keys() - {"optimizer", "last_epoch"}
    return describe({key: value for key, value in vars(thing).items() if key in names})


@dataclass
class BestEpoch:
    """The state at the epoch with the best result of the stopper."""

    epoch: int
    model: dict[str, Any]
    extra: dict[str, Any]


class ResumableTrainingLoop(SLCWATrainingLoop, ABC):
    """An sLCWA loop with more than a model to keep."""

    _best: BestEpoch | None = None
    _stopper: Stopper | None = None
    #: where the user wants checkpoints
    _folder: pathlib.Path | None = None

    @abstractmethod
    def _extra_state(self, triples_factory: CoreTriplesFactory | None) -> dict[str, Any]:
        """Give what has to be stored besides the model and its optimizer."""

    @abstractmethod
    def _load_extra_state(self, state: Mapping[str, Any], triples_factory: CoreTriplesFactory | None) -> None:
        """Take what :meth:`_extra_state` gave."""

    @abstractmethod
    def _describe_extra(self) -> str:
        """Describe the configuration of what is stored besides the model."""

    @property
    def configuration(self) -> dict[str, str]:
        """What a checkpoint belongs to, in words; unlike PyKEEN's checksum, free of the current learning rate."""
        assert self.optimizer is not None
        scheduler = self.lr_scheduler
        return {
            "model": str(self.model),
            "loss": f"{type(self.loss).__name__} {describe_settings(self.loss)}",
            "optimizer": f"{type(self.optimizer).__name__} {describe(self.optimizer.defaults)}",
            "lr_scheduler": "None"
            if scheduler is None
            else f"{type(scheduler).__name__} {describe_settings(scheduler)}",
            "negative_sampler": self._describe_extra(),
        }

    @property
    def checksum(self) -> str:
        """The checksum of the configuration."""
        return sha256(describe(self.configuration).encode()).hexdigest()

    # docstr-coverage: inherited
    def sub_batch_and_slice(self, **kwargs: Any) -> tuple[int, int | None]:  # noqa: D102
        with preserved_random_state():
            return super().sub_batch_and_slice(**kwargs)

    # docstr-coverage: inherited
    def batch_size_search(self, **kwargs: Any) -> tuple[int, bool]:  # noqa: D102
        with preserved_random_state():
            return super().batch_size_search(**kwargs)

    def _keep_best(self) -> None:
        """Keep the state of this epoch if the stopper has just found it the best one."""
        epoch = getattr(self._stopper, "best_epoch", None)
        if epoch is None or epoch != self._epoch or (self._best is not None and self._best.epoch == epoch):
            return
        self._best = BestEpoch(
            epoch=epoch,
            model=copy.deepcopy(self.model.state_dict()),
            extra=copy.deepcopy(self._extra_state(None)),
        )

    def _restore_best(self, triples_factory: CoreTriplesFactory) -> None:
        """Go back to the best epoch, whether or not the stopper's patience was used up."""
        stopper, best = self._stopper, self._best
        if best is None:
            return
        if best.epoch != self._epoch:
            restore_weights(self.model, best.model)
            self._load_extra_state(best.extra, triples_factory)
        if isinstance(stopper, EarlyStopper) and stopper.clean_up_checkpoint and stopper.best_model_path is not None:
            stopper.best_model_path.unlink(missing_ok=True)

    # docstr-coverage: inherited
    def _save_state(
        self,
        path: IO[bytes] | str | pathlib.Path,
        stopper: Stopper | None = None,
        best_epoch_model_checkpoint_file_path: pathlib.Path | None = None,
        triples_factory: CoreTriplesFactory | None = None,
    ) -> None:
        # the keys are those of PyKEEN's checkpoints, whose stopper reads its own part from the file
        assert self.optimizer is not None
        self._keep_best()
        if isinstance(path, pathlib.Path) and path.name == HOST_BEST_MODEL and path.parent != self._folder:
            return
        labels = triples_factory if isinstance(triples_factory, TriplesFactory) else None
        save_checkpoint(
            {
                "epoch": self._epoch,
                # the pipeline reads this one
                "random_seed": getattr(self.model, "_random_seed", None),
                "loss": self.losses_per_epochs,
                "model_state_dict": self.model.state_dict(),
                "optimizer_state_dict": self.optimizer.state_dict(),
                "lr_scheduler_state_dict": None if self.lr_scheduler is None else self.lr_scheduler.state_dict(),
                "checksum": self.checksum,
                "configuration": self.configuration,
                "stopper_dict": {} if stopper is None else plain(stopper.get_summary_dict()),
                "random_state": get_random_state(),
                "relation_to_id_dict": None if labels is None else dict(labels.relation_to_id),
                "entity_to_id_dict": None if labels is None else dict(labels.entity_to_id),
                "extra_state": self._extra_state(triples_factory),
                "best": None if self._best is None else vars(self._best),
            },
            path,
        )

    # docstr-coverage: inherited
    def _load_state(
        self,
        path: str | pathlib.Path,
        triples_factory: CoreTriplesFactory | None = None,
    ) -> tuple[pathlib.Path | None, int | None]:
        assert self.optimizer is not None
        checkpoint = load_checkpoint(path)
        if "extra_state" not in checkpoint:
            raise CheckpointError(
                f"The checkpoint '{path}' was not written by the loop {self.get_normalized_name()!r}."
            )
        _check_configuration(checkpoint["configuration"], self.configuration, path)
        _check_ids(checkpoint, triples_factory, path)
        # optimizers put their state where their parameters are
        self.model.to(get_preferred_device(self.model, allow_ambiguity=True))
        self._load_extra_state(checkpoint["extra_state"], triples_factory)
        self._epoch = checkpoint["epoch"]
        self.losses_per_epochs = checkpoint["loss"]
        restore_weights(self.model, checkpoint["model_state_dict"])
        self.optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
        # the host takes an optimizer without a state, like plain SGD, for one which was never used: an entry for one
        # parameter, still empty, tells it otherwise
        _ = self.optimizer.state[next(iter(self.model.get_grad_params()))]
        if self.lr_scheduler is not None:
            self.lr_scheduler.load_state_dict(checkpoint["lr_scheduler_state_dict"])
        self._best = None if checkpoint["best"] is None else BestEpoch(**checkpoint["best"])
        stopper = self._stopper
        if self._best is not None and isinstance(stopper, EarlyStopper) and stopper.best_model_path is not None:
            # the stopper of this process has a path of its own, where it will look for the best weights
            save_checkpoint(self._best.model, stopper.best_model_path)
        set_random_state(checkpoint["random_state"])
        logger.info("Resuming from '%s' after epoch %d.", path, self._epoch)
        return None, None


def _check_configuration(stored: Mapping[str, str], present: Mapping[str, str], path: object) -> None:
    """Refuse a checkpoint of another configuration, and say where it differs."""
    for name, value in present.items():
        if stored.get(name) != value:
            # a model's description is long; what differs comes after what is equal
            texts = str(stored.get(name)), value
            common = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
            there, here = (" ".join(text[max(0, common - 40) : common + 60].split()) for text in texts)
            raise CheckpointMismatchError(
                f"The checkpoint '{path}' was written with another {name}: '...{there}' there, '...{here}' here. "
                f"Choose another checkpoint_name, or delete the file."
            )


def _check_ids(checkpoint: Mapping[str, Any], triples_factory: CoreTriplesFactory | None, path: object) -> None:
    """Refuse a checkpoint of other entities: its embeddings would be those of something else."""
    if not isinstance(triples_factory, TriplesFactory):
        return
    kind: Literal["entity", "relation"]
    for kind in ("entity", "relation"):
        stored = checkpoint[f"{kind}_to_id_dict"]
        if stored is not None and stored != dict(getattr(triples_factory, f"{kind}_to_id")):
            raise CheckpointMismatchError(
                f"The checkpoint '{path}' was written for other {kind} ids than those of the training triples: its "
                f"embeddings belong to something else. Choose another checkpoint_name, or restore the data set."
            )

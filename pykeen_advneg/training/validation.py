"""Early stopping on several ranks: rank 0 evaluates, and all ranks decide by its results."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from pykeen.evaluation import Evaluator, MetricResults
from pykeen.stoppers import EarlyStopper, Stopper
from torch import distributed

__all__ = ["validation_by_one"]


class _Shared:
    """What a stopper asks of an evaluator, which is that of rank 0 on all ranks."""

    def __init__(self, evaluator: Evaluator[Any]) -> None:
        self.evaluator = evaluator

    def evaluate(self, **kwargs: Any) -> MetricResults[Any]:
        """Evaluate on rank 0, and give its results to all."""
        results: list[Any] = [self.evaluator.evaluate(**kwargs) if distributed.get_rank() == 0 else None]
        # so that ranks whose numbers differ in the last bit, or in the statistics of a batch, stop at the same epoch
        distributed.broadcast_object_list(results, src=0)
        return cast("MetricResults[Any]", results[0])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.evaluator, name)


@contextmanager
def validation_by_one(stopper: Stopper | None) -> Iterator[None]:
    """Let rank 0 evaluate for a stopper, and write the best weights where the user wants them.

    :param stopper: the stopper of the training, the same on all ranks
    """
    if not isinstance(stopper, EarlyStopper):
        yield
        return
    replaced = cast(Any, stopper)
    evaluator, path = stopper.evaluator, stopper.best_model_path
    replaced.evaluator = _Shared(evaluator)
    try:
        with tempfile.TemporaryDirectory() as folder:
            if distributed.get_rank():
                stopper.best_model_path = pathlib.Path(folder) / "best.pt"
            yield
    finally:
        replaced.evaluator, stopper.best_model_path = evaluator, path

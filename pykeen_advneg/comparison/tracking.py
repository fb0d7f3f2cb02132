"""The learning curve of a run: one row per epoch, kept in a file that outlives a killed process."""

from __future__ import annotations

import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pykeen.trackers import ResultTracker
from pykeen.training.callbacks import TrainingCallback

__all__ = ["RANKING_METRICS", "BestWeights", "CurveTracker", "EpochClock", "append_line", "read_lines"]

#: the metrics of a ranking that are kept, by PyKEEN's names (both sides, realistic rank, all entities)
RANKING_METRICS: Mapping[str, str] = {
    "mrr": "both.realistic.inverse_harmonic_mean_rank",
    "hits_at_1": "both.realistic.hits_at_1",
    "hits_at_3": "both.realistic.hits_at_3",
    "hits_at_10": "both.realistic.hits_at_10",
}


def append_line(path: pathlib.Path, record: Mapping[str, Any], sync: bool = False) -> None:
    """Append a record as one line of JSON; after a killed write, the new line starts on a line of its own.

    :param path: the file, which is created where need be
    :param record: what to write
    :param sync: whether to wait until it is on the disk
    """
    with path.open("ab+") as file:
        if file.seek(0, 2) and (file.seek(-1, 2), file.read(1))[1] != b"\n":
            file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")
        if sync:
            file.flush()
            os.fsync(file.fileno())


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """Read the records of a file of JSON lines, without those that a killed process left half written.

    :param path: the file

    :returns: the records, none if there is no such file
    """
    if not path.is_file():
        return []
    records = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


class EpochClock(TrainingCallback):
    """Logs the seconds of each epoch as ``training.seconds``.

    The clock runs from the first batch of an epoch to the end of its last step. Evaluation and checkpoints are not
    counted, and neither is drawing the first batch, since PyKEEN tells nobody when that begins. It has to be the first
    of the callbacks, so that it reads the clock before others evaluate.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._start: float | None = None

    def pre_batch(self, **kwargs: Any) -> None:
        """Start the clock at the first batch of an epoch."""
        if self._start is None:
            self._start = time.perf_counter()

    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
        """Log the seconds since then."""
        start = time.perf_counter() if self._start is None else self._start
        self.result_tracker.log_metrics({"seconds": time.perf_counter() - start}, step=epoch, prefix="training")
        self._start = None


class BestWeights(TrainingCallback):
    """Loads the best weights where early stopping did not stop; where it did, PyKEEN does so itself."""

    def __init__(self, path: pathlib.Path) -> None:
        """Initialize the callback.

        :param path: where the stopper keeps the best weights
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = path

    def post_train(self, losses: list[float], **kwargs: Any) -> None:
        """Load the weights, once training has ended."""
        if self.path.is_file():
            self.model.load_state_dict(torch.load(self.path, weights_only=True))


class CurveTracker(ResultTracker):
    """Keeps what is logged for each epoch: loss, seconds, the metrics on validation and those of the sampler.

    Everything is appended to a file at once. A run which is resumed goes on with that file; the epochs that it trains
    anew take the place of their first version.
    """

    def __init__(self, path: pathlib.Path, resume: bool, on_epoch: Callable[[Mapping[str, Any]], None]) -> None:
        """Open the file.

        :param path: the file
        :param resume: whether to go on with what the file has; otherwise it is emptied
        :param on_epoch: is called with the row of an epoch when that has its loss, and when it grows after that
        """
        super().__init__()
        self.path = path
        self.on_epoch = on_epoch
        self.rows: dict[int, dict[str, Any]] = {}
        if not resume:
            path.unlink(missing_ok=True)
        for record in read_lines(path):
            if "epoch" in record:
                record.pop("time", None)
                self.rows.setdefault(record["epoch"], {}).update(record)
        append_line(path, {"session": time.time()})

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None, prefix: str | None = None) -> None:
        """Keep the metrics of an epoch, and write them.

        :param metrics: the metrics
        :param step: the epoch; metrics of no epoch are not kept
        :param prefix: comes before the names
        """
        kept = _select({f"{prefix}.{key}" if prefix else key: value for key, value in metrics.items()})
        if step is None or not kept:
            return
        row = self.rows.setdefault(step, {"epoch": step})
        row.update(kept)
        append_line(self.path, {"epoch": step, **kept, "time": time.time()})
        if "loss" in row:
            self.on_epoch(row)

    def curve(self, last_epoch: int) -> list[dict[str, Any]]:
        """Get the curve.

        :param last_epoch: the last epoch that was trained

        :returns: a row for each epoch, with the seconds of training up to its end
        """
        rows, seconds = [], 0.0
        for epoch in range(1, last_epoch + 1):
            row = dict(self.rows.get(epoch, {"epoch": epoch}))
            seconds += row.pop("epoch_seconds", 0.0)
            rows.append({**row, "seconds": seconds})
        return rows

    def wall_seconds(self) -> float:
        """Sum the seconds of the processes that worked on this run, up to the last line of those that were killed."""
        total, start, last = 0.0, 0.0, 0.0
        for record in read_lines(self.path):
            if "session" in record:
                total += last - start
                start = last = record["session"]
            last = record.get("time", last)
        return total + time.time() - start

    def sessions(self) -> int:
        """Count the processes that worked on this run."""
        return sum("session" in record for record in read_lines(self.path))


def _select(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Keep the metrics that a curve shows, under short names."""
    names = {"loss": "loss", "training.seconds": "epoch_seconds"}
    names |= {f"validation.{long}": short for short, long in RANKING_METRICS.items()}
    # those of the samplers of this package keep their names
    names |= {name: name for name in metrics if name.startswith("sampler.")}
    return {names[name]: float(value) for name, value in metrics.items() if name in names}

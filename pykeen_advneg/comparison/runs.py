"""The folder of a comparison: its configuration, its finished runs and what the unfinished ones need to go on."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from filelock import FileLock, Timeout

from ..checkpoint import own_name, recover
from ..errors import CheckpointError, ConfigurationError
from .configuration import read_config
from .tracking import append_line, read_lines

__all__ = ["RunStore", "config_hash"]


def config_hash(config: Mapping[str, Any]) -> str:
    """Get a name for a configuration: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


class RunStore:
    """The files of a comparison.

    ``config.json`` is a configuration file of ``advneg compare``, ``runs.jsonl`` has a line for each finished run, and
    ``unfinished`` has checkpoint and learning curve of those that are not.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.config = folder / "config.json"
        self.runs = folder / "runs.jsonl"
        self.unfinished = folder / "unfinished"

    @contextmanager
    def claimed(self, config: Mapping[str, Any], force: bool = False) -> Iterator[None]:
        """Hold the folder for a comparison; another process is kept out meanwhile.

        :param config: the configuration
        :param force: whether to set aside what another configuration left in the folder

        :raises ConfigurationError: if the folder cannot be written, if another process is at work in it, or if it holds
            the results of another configuration
        """
        try:
            self.unfinished.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock", timeout=0)
            lock.acquire()
        except Timeout as error:
            raise ConfigurationError(f"out {str(self.folder)!r}: another process is at work in this folder.") from error
        except OSError as error:
            raise ConfigurationError(f"out {str(self.folder)!r} cannot be written: {error}.") from error
        try:
            self._reconcile(config, force)
            yield
        finally:
            lock.release()

    def read_config(self) -> dict[str, Any]:
        """Read the configuration which the results of this folder belong to; empty if there is none."""
        return read_config(self.config) if self.config.is_file() else {}

    def finished(self) -> dict[str, dict[str, Any]]:
        """Read the finished runs by their hashes."""
        return {record["run"]: record for record in read_lines(self.runs) if "run" in record}

    def finish(self, record: Mapping[str, Any]) -> None:
        """Write a finished run, for good, and drop what it needed to go on."""
        append_line(self.runs, record, sync=True)
        self.clean(record["run"])

    def checkpoint(self, run: str) -> pathlib.Path:
        """Where the checkpoint of a run stands."""
        return self.unfinished / f"{run}.pt"

    def curve(self, run: str) -> pathlib.Path:
        """Where the learning curve of a run stands."""
        return self.unfinished / f"{run}.jsonl"

    def best_weights(self, run: str) -> pathlib.Path:
        """Where early stopping keeps the best weights of a run."""
        return self.unfinished / f"{run}.best.pt"

    def can_resume(self, run: str, stock: bool) -> bool:
        """Look for a whole checkpoint of a run, and drop everything of that run if there is none.

        :param run: the hash of the run
        :param stock: whether it is trained by PyKEEN's own loop, whose checkpoints are not written atomically
        """
        path = self.checkpoint(run)
        if not stock:
            path = path.with_name(own_name(path.name))
        try:
            if stock:
                with zipfile.ZipFile(path) as archive:
                    usable = archive.testzip() is None
            else:
                recover(path)
                usable = path.is_file()
        except (CheckpointError, OSError, zipfile.BadZipFile):
            usable = False
        if not usable:
            self.clean(run)
        return usable

    def clean(self, run: str) -> None:
        """Drop what an unfinished run needed to go on."""
        for path in self.unfinished.glob(f"{run}.*"):
            path.unlink()

    def _reconcile(self, config: Mapping[str, Any], force: bool) -> None:
        """Compare a configuration with that of the folder, and write what they are together."""
        worked = self.runs.is_file() or any(self.unfinished.iterdir())
        stored = self.read_config() if worked else {}
        if stored:
            differences = list(_differences(stored, config))
            if differences and not force:
                raise ConfigurationError(
                    f"out {str(self.folder)!r} has results of another configuration: {'; '.join(differences)}. "
                    "Choose another folder, or --force to set these results aside."
                )
            if differences:
                self._set_aside()
                stored = {}
        merged = dict(config)
        if stored:
            merged["datasets"] = list(dict.fromkeys([*stored["datasets"], *config["datasets"]]))
            merged["samplers"] = {**stored["samplers"], **config["samplers"]}
            merged["seeds"] = max(stored["seeds"], config["seeds"])
        part = self.config.with_suffix(".part")
        part.write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")
        part.replace(self.config)

    def _set_aside(self) -> None:
        """Move the results to names with a number, and drop the unfinished runs."""
        number = 1
        while (self.folder / f"config.{number}.json").exists() or (self.folder / f"runs.{number}.jsonl").exists():
            number += 1
        for path in (self.config, self.runs):
            if path.is_file():
                path.rename(path.with_name(f"{path.stem}.{number}{path.suffix}"))
        shutil.rmtree(self.unfinished)
        self.unfinished.mkdir()


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Name the values which differ; of data sets, samplers and seeds there may be more or fewer."""
    for key in sorted({*stored, *wanted}):
        name = f"{path}{key}"
        if name in {"datasets", "seeds"} or (path == "samplers." and not (key in stored and key in wanted)):
            continue
        old, new = stored.get(key), wanted.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{name}.")
        elif old != new:
            yield f"{name} is {json.dumps(old)} there and {json.dumps(new)} here"

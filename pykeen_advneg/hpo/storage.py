"""Where studies are kept: SQLite, a database server, a journal on a shared disk, or Optuna's gRPC proxy.

All of them get a heartbeat: a trial whose process died is found, and given to another one.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import pathlib
import time
import warnings
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import optuna
from filelock import FileLock
from optuna import Study
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ..errors import ConfigurationError
from .exclusion import exclusively
from .objective import ERROR

__all__ = ["Requeue", "is_lost", "masked", "open_storage"]

#: seconds between the signs of life of a trial, and after how many without one it is given to another process
HEARTBEAT, GRACE = 10, 60
#: how many times a trial is given to another process; after that, it may be what kills them
RETRIES = 3
#: seconds to wait for a server
TIMEOUT = 10
_BEAT = "advneg:heartbeat"

_HINT = (
    "Give a URL of a database (sqlite:///study.db, postgresql+psycopg2://user@host/name, mysql+pymysql://...), "
    "journal:PATH for a file on a shared disk, or grpc://HOST:PORT for Optuna's proxy."
)


class Requeue:
    """Puts a trial whose process died in the queue again, once, with its parameters and what it has reported."""

    def __init__(self, retries: int = RETRIES) -> None:
        """Initialize the callback.

        :param retries: how many times a trial is tried again
        """
        self.retries = retries
        #: when this process first saw a lost trial, by study and number
        self.seen: dict[tuple[str, int], float] = {}
        name = "RetryHeartbeatStaleTrialCallback"
        # of this name since Optuna 4.9
        cls = getattr(optuna.storages, name, None) or optuna.storages.RetryFailedTrialCallback
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self.retry: Callable[[Study, FrozenTrial], None] = cls(retries, inherit_intermediate_values=True)

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Put a trial in the queue again.

        :param study: its study
        :param trial: the trial, which has failed
        """
        with exclusively(study._storage, f"{study.study_name}.requeue"):
            others = study.get_trials(deepcopy=False)
            if not any(trial.number in other.system_attrs.get("retry_history", ()) for other in others):
                fresh = copy.copy(trial)
                # the next process has a heart of its own
                fresh.system_attrs = {name: value for name, value in trial.system_attrs.items() if name != _BEAT}
                self.retry(study, fresh)


class _Beating(BaseHeartbeat):
    """Optuna's heartbeat for a storage which has none: the time of the last one is an attribute of the trial.

    The clocks of the machines have to agree to a fraction of the grace period.
    """

    interval: int
    grace: int
    on_stale: Callable[[Study, FrozenTrial], None]

    def record_heartbeat(self, trial_id: int) -> None:
        """Write that a trial is alive."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self.set_trial_system_attr(trial_id, _BEAT, time.time())  # type: ignore[attr-defined]

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))  # type: ignore[attr-defined]
        return [trial._trial_id for trial in running if self._last_sign(trial) < time.time() - self.grace]

    def _last_sign(self, trial: FrozenTrial) -> float:
        if _BEAT in trial.system_attrs:
            return float(trial.system_attrs[_BEAT])
        # one which was not taken by a worker of ours; its time has no zone, and is that of the machine which wrote it
        return 0.0 if trial.datetime_start is None else trial.datetime_start.timestamp()

    def get_heartbeat_interval(self) -> int | None:
        """Give the seconds between two signs of life."""
        return self.interval

    def get_heartbeat_stale_trial_callback(self) -> Callable[[Study, FrozenTrial], None] | None:
        """Give what happens to a trial whose process died."""
        return self.on_stale

    # its name before Optuna 4.9
    def get_failed_trial_callback(self) -> Callable[[Study, FrozenTrial], None] | None:
        """Give what happens to a trial whose process died."""
        return self.on_stale


class BeatingJournal(JournalStorage, _Beating):
    """A journal with heartbeats."""


class BeatingProxy(GrpcStorageProxy, _Beating):
    """Optuna's gRPC proxy with heartbeats."""


def open_storage(
    storage: str | pathlib.Path | BaseStorage, heartbeat: int = HEARTBEAT, grace: int = GRACE, retries: int = RETRIES
) -> BaseStorage:
    """Open a storage, and make its schema if it is new.

    :param storage: a URL of a database, ``journal:PATH``, ``grpc://HOST:PORT``, the path of an SQLite file, or a
        storage of Optuna, which is taken as it is
    :param heartbeat: the seconds between the signs of life of a trial
    :param grace: the seconds without one after which another process gets the trial
    :param retries: how many times a trial is tried again

    :returns: the storage

    :raises ConfigurationError: if it cannot be reached
    """
    if isinstance(storage, BaseStorage):
        return storage
    text = str(storage)
    if grace <= heartbeat:
        raise ConfigurationError(f"grace={grace} must be longer than heartbeat={heartbeat} seconds.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            opened = _open(text, heartbeat, grace, Requeue(retries))
            opened.get_all_studies()
    except ConfigurationError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigurationError(f"storage {masked(text)!r} cannot be reached: {reason[:300]}. {_HINT}") from error
    return opened


def _open(text: str, heartbeat: int, grace: int, requeue: Requeue) -> BaseStorage:
    scheme, _, rest = text.partition(":")
    if scheme == "journal" or text.endswith((".journal", ".log")):
        path = pathlib.Path(rest.removeprefix("//") if scheme == "journal" else text)
        path.parent.mkdir(parents=True, exist_ok=True)
        beating: BeatingJournal | BeatingProxy = BeatingJournal(JournalFileBackend(str(path)))
    elif scheme == "grpc":
        beating = _proxy(text)
    else:
        return _database(text, heartbeat, grace, requeue)
    beating.interval, beating.grace, beating.on_stale = heartbeat, grace, requeue
    return beating


def _proxy(text: str) -> BeatingProxy:
    parts = urlsplit(text)
    if not parts.hostname or not parts.port:
        raise ConfigurationError(f"storage {text!r} has no host or no port; write grpc://HOST:PORT.")
    proxy = BeatingProxy(host=parts.hostname, port=parts.port)
    proxy.wait_server_ready(timeout=TIMEOUT)
    return proxy


def _database(text: str, heartbeat: int, grace: int, requeue: Requeue) -> BaseStorage:
    if "://" not in text:
        text = f"sqlite:///{text}"
    known = inspect.signature(RDBStorage).parameters
    name = "heartbeat_stale_trial_callback"
    # of this name since Optuna 4.9
    on_stale: dict[str, Any] = {name if name in known else "failed_trial_callback": requeue}
    path = text.removeprefix("sqlite:///").partition("?")[0] if text.startswith("sqlite:///") else None
    if path is None:
        arguments = {"connect_args": {"connect_timeout": TIMEOUT}, "pool_pre_ping": True}
    else:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        # how long to wait for another process which writes
        arguments = {"connect_args": {"timeout": 120}}
    lock = None if path is None else f"{path}.lock"
    # two processes which make the schema at once would get in each other's way
    with FileLock(lock, timeout=120) if lock else contextlib.nullcontext():
        storage = RDBStorage(
            text, engine_kwargs=arguments, heartbeat_interval=heartbeat, grace_period=grace, **on_stale
        )
    storage.advneg_lock = lock  # type: ignore[attr-defined]
    return storage


def masked(text: str) -> str:
    """Leave the password out of a URL.

    :param text: the URL

    :returns: what can be shown
    """
    if "://" not in text:
        return text
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        return text
    secret = {key: "***" for key in url.query if "password" in key.lower() or "passwd" in key.lower()}
    # only a password is replaced: SQLAlchemy writes other parts in its own way
    shown = url.update_query_dict(secret) if secret else url
    return shown.render_as_string(hide_password=True) if secret or url.password else text


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a trial failed without an error of its own: its process was killed or asked to end."""
    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs

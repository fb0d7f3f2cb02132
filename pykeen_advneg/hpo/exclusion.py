"""Only one process at a time, on this machine or on all which share a storage."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator

from filelock import FileLock
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

__all__ = ["claim", "exclusively"]

_TOKEN = "advneg_token"


@contextlib.contextmanager
def claim(storage: BaseStorage) -> Iterator[None]:
    """Keep other processes from giving out trials meanwhile, where the storage itself does not.

    SQLite has no rows which can be locked, so that two processes might be given the same trial.

    :param storage: the storage
    """
    # Optuna puts databases behind a cache of its own
    path = getattr(storage, "advneg_lock", None) or getattr(getattr(storage, "_backend", None), "advneg_lock", None)
    with FileLock(path, timeout=120) if path is not None else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def exclusively(storage: BaseStorage, name: str, patience: float = 60.0) -> Iterator[None]:
    """Hold a name in a storage which only one process at a time can hold, on whatever machine: that of a study.

    :param storage: the storage
    :param name: the name
    :param patience: after so many seconds, who holds it is taken for dead
    """
    lock, token = f"{name}.lock", uuid.uuid4().hex
    seen, end = None, time.monotonic() + patience
    while True:
        try:
            number = storage.create_new_study([StudyDirection.MAXIMIZE], lock)
            break
        except DuplicatedStudyError:
            holder = _holder(storage, lock)
            if holder != seen:
                # somebody else has it since the last look
                seen, end = holder, time.monotonic() + patience
            elif holder is not None and time.monotonic() > end:
                with contextlib.suppress(KeyError):
                    storage.delete_study(holder[0])
            time.sleep(0.2)
    storage.set_study_user_attr(number, _TOKEN, token)
    try:
        yield
    finally:
        # unless it was taken for dead
        if _holder(storage, lock) == (number, token):
            with contextlib.suppress(KeyError):
                storage.delete_study(number)


def _holder(storage: BaseStorage, lock: str) -> tuple[int, str | None] | None:
    """Who holds a name; a number alone does not tell, since databases give one out again."""
    try:
        number = storage.get_study_id_from_name(lock)
        return number, storage.get_study_user_attrs(number).get(_TOKEN)
    except KeyError:
        return None

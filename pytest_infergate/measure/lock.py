"""One machine-wide lock: inference cases hold it alone, other tests of such a run share it.

A lock around timing alone is not enough: a case beside ordinary tests reads 1.6-1.9 times too slow.
"""

from __future__ import annotations

import getpass
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pytest_infergate.errors import ConfigurationError, StorageError

SILENT_WAIT_SECONDS = 5.0
"""How long to wait in silence."""


HELD = "PYTEST_INFERGATE_LOCK"
"""Names the lock in the environment while it is held, so that processes started meanwhile know of it."""


class MachineLock:
    """The lock of this user on this machine. Released by the system when its holder dies."""

    def __init__(self, path: Path | None = None) -> None:
        from filelock import ReadWriteLock

        self.path = path or _default_path()
        try:
            self._lock = ReadWriteLock(self.path, is_singleton=False)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def check(self) -> None:
        """Find out what would only show while tests run.

        Raises `ConfigurationError` inside a test of another measuring run, which would wait for itself, and
        `StorageError` where the lock's file cannot be used.
        """
        from filelock import Timeout

        if os.environ.get(HELD) == str(self.path):
            raise ConfigurationError(
                "a test of a measuring run cannot measure in a run of its own, for which it would wait "
                "for ever: add --infer-disable to the inner run"
            )
        try:
            self._lock.acquire_read(timeout=0)
        except Timeout:
            return
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        self._lock.release()

    def _unusable(self, error: Exception) -> StorageError:
        return StorageError(f"cannot lock the machine with {self.path}: {error}; delete it, or set TMPDIR")

    @contextmanager
    def held(self, how: Literal["alone", "shared"], waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock; `waiting` is told, once, when somebody else has held it for long."""
        from filelock import Timeout

        acquire = self._lock.acquire_write if how == "alone" else self._lock.acquire_read
        try:
            acquire(timeout=SILENT_WAIT_SECONDS)
        except Timeout:
            waiting("infergate: waiting for another inference run on this machine to finish")
            acquire(timeout=-1)
        os.environ[HELD] = str(self.path)
        try:
            yield
        finally:
            os.environ.pop(HELD, None)
            self._lock.release()


def _default_path() -> Path:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "anyone"
    return Path(tempfile.gettempdir()) / f"infergate-{''.join(filter(str.isalnum, user))}.lock"

"""One machine-wide lock: inference cases hold it alone, other tests of such a run share it.

A lock around timing alone is not enough: a case beside ordinary tests reads 1.6-1.9 times too slow.
"""

from __future__ import annotations

import getpass
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

PATIENCE_SECONDS = 5.0
"""How long to wait in silence."""


class MachineLock:
    """The lock of this user on this machine. Released by the system when its holder dies."""

    def __init__(self, path: Path | None = None) -> None:
        from filelock import ReadWriteLock

        self._lock = ReadWriteLock(path or _default_path(), is_singleton=False)

    @contextmanager
    def held(self, how: Literal["alone", "shared"], waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock; `waiting` is told, once, when somebody else has held it for long."""
        from filelock import Timeout

        acquire = self._lock.acquire_write if how == "alone" else self._lock.acquire_read
        try:
            acquire(timeout=PATIENCE_SECONDS)
        except Timeout:
            waiting("infergate: waiting for another inference run on this machine to finish")
            acquire(timeout=-1)
        try:
            yield
        finally:
            self._lock.release()


def _default_path() -> Path:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "anyone"
    return Path(tempfile.gettempdir()) / f"infergate-{''.join(filter(str.isalnum, user))}.lock"

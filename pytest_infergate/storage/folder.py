"""A folder that several sessions may write at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_infergate.errors import StorageError
from pytest_infergate.storage.atomic import unwritable
from pytest_infergate.storage.baseline_document import RESTORE_HINT

LOCK_SECONDS = 60.0
"""How long a session waits for another that is saving; saving takes milliseconds."""


def check_writable(folder: Path) -> None:
    """Make the folder, lock it, and put a file there for a moment. Raises `StorageError`."""
    with locked(folder):
        probe = folder / ".probe"
        try:
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise unwritable(folder, error) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder against other sessions that save, in this process or another.

    Raises `StorageError` where it cannot be made or locked.
    """
    _make(folder)
    path = folder / ".lock"
    lock = FileLock(path, timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        text = f"{path} was held by another process for {LOCK_SECONDS:.0f} s; wait for that session to end"
        raise StorageError(text) from error
    except OSError as error:
        raise unwritable(path, error) from error
    except NotImplementedError as error:
        raise StorageError(f"cannot lock {path}: {error}; keep it on a local disk") from error
    try:
        yield
    finally:
        lock.release()


def unreadable(path: Path, error: OSError) -> StorageError:
    """Say why a file cannot be read, and the cure."""
    why = error.strerror or error
    return StorageError(f"cannot read {path}: {why}; make it readable for this user, or {RESTORE_HINT}")


def _make(folder: Path) -> None:
    """Make the folder, and keep its lock out of version control."""
    ignore = folder / ".gitignore"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not ignore.exists():
            ignore.write_bytes(b"# The lock and unfinished files of infergate, and this file.\n.*\n")
    except OSError as error:
        raise unwritable(folder, error) from error

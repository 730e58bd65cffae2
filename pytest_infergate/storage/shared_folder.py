"""A folder that several sessions may write to at the same time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_infergate.errors import StorageError
from pytest_infergate.storage.atomic import unwritable
from pytest_infergate.storage.baseline_format import RESTORE_HINT

# Saving takes milliseconds, so a lock that is held for longer than this belongs to a process that hangs.
LOCK_SECONDS = 60.0
"""Time to wait for another session that is saving."""


def check_writable(folder: Path) -> None:
    """Lock the folder, and write and remove a file in it. Raises `StorageError` if that fails.

    A folder that is missing is not created, because the run may record nothing: a temporary one in its place
    is tried out.
    """
    if not folder.exists():
        place = next((parent for parent in folder.parents if parent.exists()), folder)
        try:
            with tempfile.TemporaryDirectory(prefix=".infergate-", dir=place) as temporary:
                check_writable(Path(temporary))
        except OSError as error:
            raise unwritable(folder, error) from error
        return
    with locked(folder):
        # Permissions alone are not enough: the disk may be full or mounted read-only.
        probe = folder / ".probe"
        try:
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise unwritable(folder, error) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder against other sessions, in this process or another, and create it if it is missing.

    Raises `StorageError` if it cannot be created or locked.
    """
    path, ignore = folder / ".lock", folder / ".gitignore"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not ignore.exists():
            # The folder is committed for review; its lock must not be.
            ignore.write_bytes(b"# The lock and unfinished files of infergate, and this file.\n.*\n")
    except OSError as error:
        raise unwritable(folder, error) from error
    lock = FileLock(path, timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise StorageError(
            f"{path} was locked by another process for {LOCK_SECONDS:.0f} s. "
            "Hint: wait for that session to end"
        ) from error
    except OSError as error:
        raise unwritable(path, error) from error
    except NotImplementedError as error:
        raise StorageError(f"cannot lock {path}: {error}. Hint: keep the folder on a local disk") from error
    try:
        yield
    finally:
        lock.release()


def unreadable(path: Path, error: OSError) -> StorageError:
    """Return the error for a file that cannot be read, with a hint."""
    reason = error.strerror or error
    return StorageError(
        f"cannot read {path}: {reason}. Hint: make it readable for this user, or {RESTORE_HINT}"
    )

"""Write files as a whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from pytest_infergate.errors import StorageError

_HINTS = {
    errno.ENOSPC: "free some space on that disk and run again",
    errno.EACCES: "make it writable for this user, or choose another path",
    errno.EPERM: "make it writable for this user, or choose another path",
    errno.EROFS: "choose a path on a writable disk",
    errno.ENOENT: "create the folder, or choose another path",
    errno.ENOTDIR: "move the file that is in the place of a folder, or choose another path",
    errno.EEXIST: "move the file that is in the place of a folder, or choose another path",
    errno.EISDIR: "choose the name of a file, not of a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}

_UNFINISHED = re.compile(r"\.infergate-[0-9a-f]{12}\.tmp")
UNFINISHED_SECONDS = 3600.0
"""Age of an unfinished file from which its writer counts as killed; writing takes seconds."""


def atomic_write(path: str | os.PathLike[str], text: str | list[bytes]) -> None:
    """Write a text file so that readers see either the old or the new content, never a part.

    The text may be in pieces of UTF-8. The folder must exist. Links are followed; the mode of an existing
    file is kept. Pipes, devices and what `open_descriptor` finds are written to and not replaced. Unfinished
    files of writers that were killed are removed from the folder. Raises `StorageError`, in which case an
    existing file is unchanged.
    """
    # Names from a file system may contain bytes that are not text; JSON represents them by the same escape.
    data = [text.encode("utf-8", "backslashreplace")] if isinstance(text, str) else text
    descriptor = open_descriptor(path)
    try:
        if descriptor is not None:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()  # what was printed before comes first
            with open(descriptor, "wb", closefd=False) as file:
                file.writelines(data)
            return
        # A pipe or a device cannot be replaced by a file, and would not be read as one.
        if Path(path).exists() and not Path(path).is_file():
            with Path(path).open("wb") as file:
                file.writelines(data)
            return
        target = Path(os.path.realpath(path))
        _replace(target, data)
    except OSError as error:
        raise unwritable(path, error) from error


def open_descriptor(path: str | os.PathLike[str]) -> int | None:
    """Return the descriptor of this process that a path names; ``None`` for any other file.

    ``-`` is the standard output. ``/dev/stdout`` may be the log of the run, which must not be replaced.
    """
    name = os.fspath(path)
    if name == "-":
        return 1
    numbered = re.fullmatch(r"/(?:dev|proc/self)/fd/([0-9]{1,9})", name)
    for descriptor in (int(numbered[1]),) if numbered else (1, 2):
        with suppress(OSError, ValueError):
            if os.path.samestat(os.stat(name), os.fstat(descriptor)):  # noqa: PTH116
                return descriptor
    return None


def unwritable(path: str | os.PathLike[str], error: OSError) -> StorageError:
    """Return the error for a path that cannot be written, with a hint for its cause."""
    hint = _HINTS.get(error.errno or 0, "choose another path")
    return StorageError(f"cannot write {os.fspath(path)}: {error.strerror or error}. Hint: {hint}")


def _replace(target: Path, data: list[bytes]) -> None:
    # In the same folder, because a file can only be renamed within one file system.
    temporary = target.parent / f".infergate-{secrets.token_hex(6)}.tmp"
    # A writer that was killed could not remove its file.
    for path in target.parent.glob(".infergate-*.tmp"):
        with suppress(OSError):
            status = path.lstat()
            ours = _UNFINISHED.fullmatch(path.name) and stat.S_ISREG(status.st_mode)
            if ours and status.st_mtime < time.time() - UNFINISHED_SECONDS:
                path.unlink()
    try:
        with temporary.open("xb") as file:
            file.writelines(data)
            file.flush()
            # Without it, a crash after the rename may leave an empty file under the final name.
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            # The new file would have the default mode otherwise, and might become unreadable for others.
            temporary.chmod(target.stat().st_mode & 0o7777)
        temporary.replace(target)
    except BaseException:
        # Also on Ctrl-C: unfinished files must not pile up in the folder.
        with suppress(OSError):
            temporary.unlink()
        raise

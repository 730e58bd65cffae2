"""Writing a file whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

from pytest_infergate.errors import StorageError

_CURES = {
    errno.ENOSPC: "free some space on that disk and run again",
    errno.EACCES: "make it writable for this user, or choose another place",
    errno.EPERM: "make it writable for this user, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENOTDIR: "move the file that stands where a folder is needed, or choose another place",
    errno.EEXIST: "move the file that stands where a folder is needed, or choose another place",
    errno.EISDIR: "choose the name of a file, not of a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def atomic_write(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file so that readers see the old one or the new one, never a part.

    A missing folder is made, links are followed, the mode of an earlier file and line ends are kept.
    Pipes and devices are written through. Raises `StorageError`; an earlier file is then intact.
    """
    # A name from a file system may hold bytes that are no text; in JSON the escape stands for the same.
    data = text.encode("utf-8", "backslashreplace")
    try:
        if Path(path).exists() and not Path(path).is_file():
            Path(path).write_bytes(data)
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, data)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: str | os.PathLike[str], error: OSError) -> StorageError:
    """Say why a place cannot be written, and the cure."""
    hint = _CURES.get(error.errno or 0, "choose another place")
    return StorageError(f"cannot write {os.fspath(path)}: {error.strerror or error}; {hint}")


def _replace(target: Path, data: bytes) -> None:
    temporary = target.parent / f".infergate-{secrets.token_hex(6)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            temporary.chmod(target.stat().st_mode & 0o7777)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise

"""Baselines as files beside the code: one a hardware class, made for review."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_infergate.core.baseline import merge
from pytest_infergate.core.model import Baseline
from pytest_infergate.errors import StorageError
from pytest_infergate.storage import document
from pytest_infergate.storage.atomic import atomic_write, unwritable

__all__ = ["DEFAULT_FOLDER", "FileStore", "atomic_write"]

DEFAULT_FOLDER = ".infergate/baselines"
"""Where baselines are kept, relative to the rootdir."""
LOCK_SECONDS = 60.0
"""How long a session waits for another that is saving; saving takes milliseconds."""
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class FileStore:
    """One file ``<folder>/<hardware id>.json`` a class, written atomically and under a lock."""

    def __init__(self, folder: str | os.PathLike[str] = DEFAULT_FOLDER) -> None:
        self.folder = Path(folder)

    def classes(self) -> tuple[str, ...]:
        """Ids of the hardware classes that have a file, sorted."""
        try:
            names = [path.stem for path in self.folder.iterdir() if path.suffix == ".json"]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _unreadable(self.folder, error) from error
        return tuple(sorted(name for name in names if not name.startswith(".")))

    def load(self, hardware_class: str) -> Baseline | None:
        """Read and validate the file of one class; ``None`` where there is none."""
        path = self._path(hardware_class)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        baseline = document.decode(data, str(path))
        if baseline.hardware.id != hardware_class:
            raise StorageError(
                f"{path}: `$.hardware` is of class {baseline.hardware.id}, not of the one that the file is "
                f"named after; rename it to {baseline.hardware.id}.json, or {document.RESTORE}"
            )
        return baseline

    def record(self, session: Baseline) -> None:
        """Join one session in; a file whose content stays the same is not written."""
        path = self._path(session.hardware.id)
        document.check_session(session)
        with self._locked():
            old = self.load(session.hardware.id)
            text = document.encode(merge(old, session))
            if old is None or document.encode(old) != text:
                atomic_write(path, text)

    def check_writable(self) -> None:
        """Make the folder, lock it, and put a file there for a moment."""
        with self._locked():
            probe = self.folder / ".probe"
            try:
                probe.write_bytes(b"")
                probe.unlink()
            except OSError as error:
                raise unwritable(self.folder, error) from error

    def _path(self, hardware_class: str) -> Path:
        if not _SAFE_ID.fullmatch(hardware_class):
            raise StorageError(
                f"{self.folder}: {hardware_class!r} is no hardware class: letters, digits, '.', '_', '-', "
                "and first a letter or digit; move such a file out of the folder of baselines"
            )
        return self.folder / f"{hardware_class}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder against other sessions that save, in this process or another."""
        self._make_folder()
        path = self.folder / ".lock"
        lock = FileLock(path, timeout=LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout as error:
            text = (
                f"{path} was held by another process for {LOCK_SECONDS:.0f} s; wait for that session to end"
            )
            raise StorageError(text) from error
        except OSError as error:
            raise unwritable(path, error) from error
        except NotImplementedError as error:
            raise StorageError(f"cannot lock {path}: {error}; keep baselines on a local disk") from error
        try:
            yield
        finally:
            lock.release()

    def _make_folder(self) -> None:
        """Make the folder, and keep its lock out of version control."""
        ignore = self.folder / ".gitignore"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not ignore.exists():
                ignore.write_bytes(b"# The lock and unfinished files of infergate, and this file.\n.*\n")
        except OSError as error:
            raise unwritable(self.folder, error) from error


def _unreadable(path: Path, error: OSError) -> StorageError:
    why = error.strerror or error
    return StorageError(f"cannot read {path}: {why}; make it readable for this user, or {document.RESTORE}")

"""A history in a folder: one file a session."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pytest_infergate.errors import StorageError
from pytest_infergate.history.documents import document_name
from pytest_infergate.storage.atomic import atomic_write, unwritable
from pytest_infergate.storage.shared_folder import check_writable, unreadable


class FolderSessions:
    """A `SessionStore` in a folder, which is created when the first document is added."""

    def __init__(self, folder: Path) -> None:
        self.location = str(folder)
        self._folder = folder

    def names(self) -> tuple[str, ...]:
        """Return the names of regular files; links are none, because they may lead elsewhere."""
        try:
            with os.scandir(self._folder) as entries:
                return tuple(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
        except FileNotFoundError:
            return ()
        except NotADirectoryError as error:
            raise StorageError(
                f"the place of a history must be a folder, got the file {self._folder}. Hint: name a folder, "
                f"or a database of SQLite as sqlite:///{self._folder.name}"
            ) from error
        except OSError as error:
            raise unreadable(self._folder, error) from error

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the content of files."""
        for name in names:
            path = self._path(name)
            try:
                yield name, path.read_bytes()
            except OSError as error:
                raise unreadable(path, error) from error

    def add(self, name: str, content: bytes) -> bool:
        """Write a file next to its final name, and rename it."""
        path = self._path(name)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self._folder, error) from error
        with suppress(FileNotFoundError):
            if path.read_bytes() != content:
                raise different(self.location, name)
            return False
        atomic_write(path, content.decode())
        return True

    def check_writable(self) -> None:
        """Write and remove a file."""
        check_writable(self._folder)

    def _path(self, name: str) -> Path:
        path = self._folder / checked_name(name, self.location)
        with suppress(OSError):
            if stat.S_ISLNK(path.lstat().st_mode):
                raise StorageError(f"{path} must be a file, got a link. Hint: remove the link")
        return path


def checked_name(name: str, where: str) -> str:
    """Return a name that is that of a document. Raises `StorageError` for any other, such as ``../x``."""
    if document_name(name) is None:
        raise StorageError(
            f"{where}: {name!r} is not the name of a document. Hint: list them with history list"
        )
    return name


def different(where: str, name: str) -> StorageError:
    """Return the error for a document that exists with another content."""
    return StorageError(
        f"{where}: {name} exists with another content, so it is damaged. Hint: remove it, and add it again"
    )

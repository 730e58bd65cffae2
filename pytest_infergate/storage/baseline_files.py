"""Baselines as files beside the code: one a hardware class, made for review."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pytest_infergate.core.domain.records import Baseline
from pytest_infergate.core.gate.baseline import merge_baselines
from pytest_infergate.errors import StorageError
from pytest_infergate.storage import baseline_document
from pytest_infergate.storage.atomic import atomic_write
from pytest_infergate.storage.folder import check_writable, locked, unreadable

__all__ = ["DEFAULT_FOLDER", "FileStore", "atomic_write"]

DEFAULT_FOLDER = ".infergate/baselines"
"""Where baselines are kept, relative to the rootdir."""
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
            raise unreadable(self.folder, error) from error
        return tuple(sorted(name for name in names if not name.startswith(".")))

    def load(self, hardware_class: str) -> Baseline | None:
        """Read and validate the file of one class; ``None`` where there is none."""
        path = self._path(hardware_class)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(path, error) from error
        baseline = baseline_document.decode_baseline(data, str(path))
        if baseline.hardware.id != hardware_class:
            raise StorageError(
                f"{path}: `$.hardware` is of class {baseline.hardware.id}, not of the one that the file is "
                f"named after; rename it to {baseline.hardware.id}.json, or {baseline_document.RESTORE_HINT}"
            )
        return baseline

    def record(self, session: Baseline) -> None:
        """Join one session in; a file whose content stays the same is not written."""
        path = self._path(session.hardware.id)
        baseline_document.check_session(session)
        with locked(self.folder):
            old = self.load(session.hardware.id)
            text = baseline_document.encode_baseline(merge_baselines(old, session))
            if old is None or baseline_document.encode_baseline(old) != text:
                atomic_write(path, text)

    def check_writable(self) -> None:
        """Make the folder, lock it, and put a file there for a moment."""
        check_writable(self.folder)

    def _path(self, hardware_class: str) -> Path:
        if not _SAFE_ID.fullmatch(hardware_class):
            raise StorageError(
                f"{self.folder}: {hardware_class!r} is no hardware class: letters, digits, '.', '_', '-', "
                "and first a letter or digit; move such a file out of the folder of baselines"
            )
        return self.folder / f"{hardware_class}.json"

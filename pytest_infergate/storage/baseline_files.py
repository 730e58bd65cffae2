"""Baselines as files next to the code: one file for each hardware class, laid out for review."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

import msgspec

from pytest_infergate.core.domain.records import Baseline
from pytest_infergate.core.domain.values import Case
from pytest_infergate.core.gate.baseline import merge_baselines
from pytest_infergate.errors import StorageError
from pytest_infergate.storage import baseline_format
from pytest_infergate.storage.atomic import atomic_write
from pytest_infergate.storage.shared_folder import check_writable, locked, unreadable

__all__ = ["DEFAULT_FOLDER", "FileStore", "atomic_write"]

DEFAULT_FOLDER = ".infergate/baselines"
"""Folder of the baselines, relative to the rootdir."""
# Ids become file names; a class from elsewhere must not lead out of the folder.
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class FileStore:
    """Files ``<folder>/<hardware class>.json``, which are written atomically and under a lock."""

    def __init__(self, folder: str | os.PathLike[str] = DEFAULT_FOLDER) -> None:
        self.folder = Path(folder)

    def classes(self) -> tuple[str, ...]:
        """Return the ids of the hardware classes that have a file, sorted."""
        try:
            names = [path.stem for path in self.folder.iterdir() if path.suffix == ".json"]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise unreadable(self.folder, error) from error
        # Hidden files are unfinished ones, and the lock.
        return tuple(sorted(name for name in names if not name.startswith(".")))

    def load(self, hardware_class: str) -> Baseline | None:
        """Read and validate the file of a hardware class; ``None`` if there is none."""
        path = self._path(hardware_class)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(path, error) from error
        baseline = baseline_format.decode_baseline(data, str(path))
        # A renamed or copied file would be compared on the wrong hardware.
        if baseline.hardware.id != hardware_class:
            raise StorageError(
                f"{path}: `$.hardware` must be of the class in the name of the file, got "
                f"{baseline.hardware.id}. Hint: rename it to {baseline.hardware.id}.json, or "
                f"{baseline_format.RESTORE_HINT}"
            )
        return baseline

    def record(self, session: Baseline) -> None:
        """Merge a session into its file. A file whose content does not change is not written."""
        path = self._path(session.hardware.id)
        baseline_format.check_session(session)
        with locked(self.folder):
            # Read under the lock, so that sessions that are saved at the same time are all kept.
            old = self.load(session.hardware.id)
            text = baseline_format.encode_baseline(merge_baselines(old, session))
            if old is None or baseline_format.encode_baseline(old) != text:
                atomic_write(path, text)

    def remove(self, hardware_class: str, cases: Collection[Case]) -> None:
        """Remove cases from the file of a hardware class."""
        path = self._path(hardware_class)
        with locked(self.folder):
            old = self.load(hardware_class)
            if old is None or not cases:
                return
            kept = tuple(entry for entry in old.cases if entry.case not in cases)
            left = merge_baselines(None, msgspec.structs.replace(old, cases=kept))
            atomic_write(path, baseline_format.encode_baseline(left))

    def check_writable(self) -> None:
        """Lock the folder, and write and remove a file; a folder that is missing is not created."""
        check_writable(self.folder)

    def _path(self, hardware_class: str) -> Path:
        if not _SAFE_ID.fullmatch(hardware_class):
            raise StorageError(
                f"{self.folder}: a hardware class must consist of letters, digits, '.', '_' and '-', and "
                f"start with a letter or digit, got {hardware_class!r}. Hint: move the file out of the folder"
            )
        return self.folder / f"{hardware_class}.json"

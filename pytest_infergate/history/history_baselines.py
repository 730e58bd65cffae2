"""Baselines that are kept in a history: the same verdicts as from files, without a file that conflicts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from pytest_infergate.core.domain.history_values import HistorySession
from pytest_infergate.core.domain.records import Baseline
from pytest_infergate.core.gate.baseline import SESSIONS_KEPT, merge_baselines
from pytest_infergate.errors import StorageError
from pytest_infergate.history.documents import ACCEPTED, RECORDED, encoded
from pytest_infergate.history.locations import open_store
from pytest_infergate.history.session_history import SessionHistory
from pytest_infergate.storage import baseline_format

RECENT: Final = 4 * SESSIONS_KEPT
"""Number of recorded sessions of a hardware class that are read, so that a suite may be measured in parts."""


class HistoryBaselines:
    """A `Store` of baselines in a history: each recorded session is a document of its own.

    Read are the last `RECENT` sessions of a class, the first ones since its last accepted change, and what
    was accepted.
    """

    def __init__(self, history: SessionHistory, project: str) -> None:
        self._history = history
        self._project = project
        self._classes: dict[str, str] = {}

    def classes(self) -> tuple[str, ...]:
        """Return the ids of the hardware classes that were recorded."""
        # A name has a part of the id only: one document of each class has all of it.
        newest = {name.classes: name for name in self._history.documents() if name.kind == RECORDED}
        unknown = tuple(name for key, name in newest.items() if not {*key} <= self._classes.keys())
        for session in self._history.sessions(unknown):
            if session.baseline is not None:
                key = session.baseline.hardware.id
                self._classes[key[-8:]] = key
        return tuple(sorted(self._classes.values()))

    def load(self, hardware_class: str) -> Baseline | None:
        """Return the recorded sessions of a class, merged."""
        own = [name for name in self._history.documents() if name.classes == (hardware_class[-8:],)]
        accepted = [name for name in own if name.kind == ACCEPTED]
        recorded = [name for name in own if name.kind == RECORDED]
        last = max((name.time for name in accepted), default="")
        first = [name for name in recorded if name.time > last][:SESSIONS_KEPT]
        chosen = sorted({*accepted, *first, *recorded[-RECENT:]})
        found = [
            session.baseline
            for session in self._history.sessions(tuple(chosen))
            if session.baseline is not None and session.baseline.hardware.id == hardware_class
        ]
        if not found:
            return None
        # All at once: merging one after the other would look at the sessions of each case again and again.
        together = msgspec.structs.replace(
            found[-1],
            cases=tuple(entry for baseline in found for entry in baseline.cases),
            packages={created: kept for baseline in found for created, kept in baseline.packages.items()},
        )
        baseline_format.check_session(together)
        return merge_baselines(None, together)

    def record(self, session: Baseline) -> None:
        """Add a recorded session of one class."""
        baseline_format.check_session(session)
        times = [point.created for entry in session.cases for point in entry.sessions]
        times += [one.created for entry in session.cases for one in entry.accepted]
        if not times:
            return
        # As files do, and so that a session that is recorded twice is one document.
        rounded = baseline_format.decode_baseline(
            baseline_format.encode_baseline(session).encode("utf-8", "surrogatepass"), "this session"
        )
        document = HistorySession(
            project=self._project,
            created=max(times),
            baseline=rounded,
            packages={},
        )
        name, _ = encoded(document)
        try:
            self._history.add(document)
        except StorageError as error:
            raise StorageError(f"{error} ({name} was not recorded)") from error

    def check_writable(self) -> None:
        """Check what can be checked without adding anything."""
        self._history.store.check_writable()


def opened_baselines(location: str, rootdir: Path, project: str) -> HistoryBaselines:
    """Return the baselines of a project in the history at an address."""
    return HistoryBaselines(SessionHistory(open_store(location, rootdir), project), project)

"""A history: sessions are added, and read as sessions and as series of single cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from pytest_infergate.core.domain.history_values import (
    HISTORY_VERSION,
    CaseSeries,
    HistorySession,
    SeriesPoint,
    joined_point,
    mean_speed,
)
from pytest_infergate.core.domain.values import Case
from pytest_infergate.errors import StorageError
from pytest_infergate.history.documents import (
    ACCEPTED,
    RUN,
    DocumentName,
    decoded,
    document_name,
    encoded,
    of_project,
)
from pytest_infergate.history.joined_series import joined_series
from pytest_infergate.history.session_store import SessionStore
from pytest_infergate.history.session_tables import TableSessions

MAX_POINTS: Final = 200
"""Number of points of a series; of more runs, a point has the medians of several."""


class _TimedEntry(msgspec.Struct, frozen=True):
    """The part of an entry that a series needs: the rest of a document need not be decoded."""

    case: Case
    hardware: str
    p50: float | None = None
    failed: bool = False
    reference_work: dict[str, float] = {}


class _TimedSession(msgspec.Struct, frozen=True):
    created: str
    schema_version: int = HISTORY_VERSION
    commit: str | None = None
    release: str | None = None
    entries: tuple[_TimedEntry, ...] = ()


class Added(NamedTuple):
    """What adding a session did."""

    name: str
    new: bool
    """Whether it was not there already."""
    later: str | None = None
    """Time of a session that begins later although it was added before: a clock may be wrong."""


class SessionHistory:
    """The sessions of one project in one place; ``None`` is the only project that it holds."""

    def __init__(self, store: SessionStore, project: str | None = None) -> None:
        self.store = store
        self.project = project

    @property
    def location(self) -> str:
        """The place, without credentials."""
        return self.store.location

    def documents(self) -> tuple[DocumentName, ...]:
        """Return the names of its documents, the oldest first. Raises `StorageError` for another project."""
        return of_project(self.store.names(), self.project, self.location)

    def add(self, session: HistorySession) -> Added:
        """Add a session; adding it twice has no further effect.

        Raises `StorageError` if the place holds other projects only.
        """
        name, content = encoded(session)
        return self.add_document(name, content)

    def add_document(self, name: str, content: bytes) -> Added:
        """Add the text of a session, which may be that of another place."""
        decoded(name, content, "this document")
        parts = document_name(name)
        if parts is None:
            raise StorageError(f"{name!r} is not the name of a document. Hint: see `documents.encoded`")
        own = of_project(self.store.names(), parts.project, self.location)
        new = self.store.add(name, content)
        later = next((one for one in reversed(own) if one.kind == RUN and one.name != name), None)
        return Added(name, new, later.time if new and later is not None and later.time > parts.time else None)

    def sessions(self, names: tuple[DocumentName, ...] | None = None) -> Iterator[HistorySession]:
        """Yield documents as sessions, the oldest first. Raises `StorageError` for a damaged one."""
        chosen = self.documents() if names is None else names
        for name, content in self.store.read([each.name for each in chosen]):
            yield decoded(name, content, self.location)

    def series(self, last: int | None = None) -> list[CaseSeries]:
        """Return the series of each case and hardware class, with the changes that were accepted.

        With `last`, only so many runs are read, the last ones. If these are more than `MAX_POINTS`, a point
        has the medians of several.
        """
        documents = self.documents()
        accepted: dict[tuple[str, Case], list[tuple[str, str]]] = {}
        for session in self.sessions(tuple(name for name in documents if name.kind == ACCEPTED)):
            if session.baseline is not None:
                for entry in session.baseline.cases:
                    key = session.baseline.hardware.id, entry.case
                    accepted.setdefault(key, []).extend((one.created, one.reason) for one in entry.accepted)
        runs = [name.name for name in documents if name.kind == RUN]
        runs = runs if last is None else runs[-last:]
        size = max(1, math.ceil(len(runs) / MAX_POINTS))
        found = self._timed(runs) if size == 1 else self._joined(runs, size)
        return [
            one._replace(
                accepted=tuple(sorted(accepted.get((one.hardware, one.case), ()))), runs_a_point=size
            )
            for one in found
        ]

    def _joined(self, runs: Sequence[str], size: int) -> Iterable[CaseSeries]:
        """Return series of which each point has the medians of so many runs, by DuckDB if it is installed."""
        if not isinstance(self.store, TableSessions):
            with suppress(ImportError):
                return joined_series(self.store, runs, size)
        points: dict[tuple[Case, str], list[SeriesPoint]] = {}
        for begin in range(0, len(runs), size):
            for one in self._timed(runs[begin : begin + size]):
                points.setdefault((one.case, one.hardware), []).append(joined_point(one.points))
        return [CaseSeries(*key, tuple(each)) for key, each in points.items()]

    def _timed(self, runs: Sequence[str]) -> list[CaseSeries]:
        if isinstance(self.store, TableSessions):
            return self.store.series(runs)
        found: dict[tuple[str, Case], dict[str, SeriesPoint]] = {}
        for name, content in self.store.read(runs):
            session = decoded(name, content, self.location, _TimedSession)
            for entry in session.entries:
                if entry.p50 is not None:
                    found.setdefault((entry.hardware, entry.case), {})[session.created] = SeriesPoint(
                        session.created,
                        entry.p50,
                        mean_speed(entry.reference_work),
                        entry.failed,
                        session.commit,
                        session.release,
                    )
        return [
            CaseSeries(case, hardware, tuple(points[created] for created in sorted(points)))
            for (hardware, case), points in found.items()
        ]

    def is_simulated(self) -> bool:
        """Return whether the newest run was simulated."""
        runs = [name for name in self.documents() if name.kind == RUN]
        return bool(runs) and next(self.sessions((runs[-1],))).simulated

"""The table of measurements: a row for each case of each run, the same in every engine that queries it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from pytest_infergate.core.domain.history_values import HistorySession, mean_speed

MEASUREMENTS: Final = "infergate_measurements"
"""Name of the table."""
MEASUREMENT_COLUMNS: Final = {
    "session": "TEXT",
    "number": "INTEGER",
    "project": "TEXT",
    "created": "TEXT",
    "commit_hash": "TEXT",
    "release": "TEXT",
    "case_name": "TEXT",
    "case_json": "TEXT",
    "hardware": "TEXT",
    "verdict": "TEXT",
    "failed": "BOOLEAN",
    "p50": "DOUBLE",
    "p95": "DOUBLE",
    "p99": "DOUBLE",
    "throughput": "DOUBLE",
    "speed": "DOUBLE",
    "peak_memory": "BIGINT",
}
"""Its columns, with types that DuckDB and SQLite share."""


def measurement_rows(name: str, session: HistorySession) -> Iterator[dict[str, Any]]:
    """Yield the rows of a session, which is kept under this name."""
    for number, entry in enumerate(session.entries):
        yield {
            "session": name,
            "number": number,
            "project": session.project,
            "created": session.created,
            "commit_hash": session.commit,
            "release": session.release,
            # PostgreSQL keeps no text with this character.
            "case_name": entry.case.name.replace("\x00", "\\0"),
            "case_json": msgspec.json.encode(entry.case).decode(),
            "hardware": entry.hardware,
            "verdict": entry.verdict,
            "failed": entry.failed,
            "p50": entry.p50,
            "p95": entry.p95,
            "p99": entry.p99,
            "throughput": entry.throughput,
            "speed": mean_speed(entry.reference_work),
            "peak_memory": entry.peak_memory,
        }

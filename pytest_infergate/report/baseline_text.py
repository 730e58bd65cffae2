"""Baselines in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pytest_infergate.core.domain import stats, units
from pytest_infergate.core.domain.records import Baseline, BaselineCase, BaselinePoint
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import Column
from pytest_infergate.report.text_table import text_table


def _typical(points: Sequence[BaselinePoint]) -> float | None:
    return stats.geometric_mean([point.p50 for point in points]) if points else None


def _spread(points: Sequence[BaselinePoint]) -> str:
    if len(points) < 2:  # noqa: PLR2004 - a single session has no spread
        return units.UNKNOWN
    low, high = (choose(point.p50 for point in points) for choose in (min, max))
    return f"{units.seconds(low)} to {units.seconds(high)}"


_COLUMNS: Final[tuple[Column[BaselineCase], ...]] = (
    Column("case", "case", lambda entry: plain(entry.case.name), left=True),
    Column("sessions", "sessions", lambda entry: units.count(len(entry.sessions))),
    Column("p50", "p50", lambda entry: units.seconds(_typical(entry.sessions))),
    Column("range", "range", lambda entry: _spread(entry.sessions)),
    Column("anchor", "anchor", lambda entry: units.seconds(_typical(entry.anchor))),
    Column(
        "last",
        "last session",
        lambda entry: plain(entry.sessions[-1].created[:10]) if entry.sessions else units.UNKNOWN,
    ),
    Column(
        "accepted",
        "last accepted",
        lambda entry: (
            f"{plain(entry.accepted[-1].created[:10])}: {plain(entry.accepted[-1].reason)}"
            if entry.accepted
            else units.UNKNOWN
        ),
        left=True,
    ),
)
_SESSIONS: Final[tuple[Column[tuple[str, BaselinePoint]], ...]] = (
    Column("created", "session", lambda row: plain(row[1].created), left=True),
    Column("role", "role", lambda row: row[0], left=True),
    Column("p50", "p50", lambda row: units.seconds(row[1].p50)),
    Column("count", "calls", lambda row: units.count(row[1].count)),
    Column("contended", "contended", lambda row: "yes" if row[1].contended else "no"),
)


def baseline_table(found: Sequence[tuple[Baseline, Sequence[BaselineCase]]]) -> str:
    """Render a table of cases for each hardware class."""
    return "\n\n".join(
        f"{plain(baseline.hardware.text)} ({baseline.hardware.id})\n{text_table(_COLUMNS, entries)}"
        for baseline, entries in found
    )


def baseline_details(baseline: Baseline, entries: Sequence[BaselineCase]) -> str:
    """Render the sessions of each case."""
    blocks = []
    for entry in entries:
        recent = {point.created for point in entry.sessions}
        rows = [("anchor", point) for point in entry.anchor if point.created not in recent]
        firsts = {point.created for point in entry.anchor}
        rows += [("both" if point.created in firsts else "recent", point) for point in entry.sessions]
        lines = [f"{plain(entry.case.name)} on {plain(baseline.hardware.text)}"]
        lines += [f"accepted on {plain(one.created)}: {plain(one.reason)}" for one in entry.accepted]
        blocks.append(
            "\n".join([*lines, text_table(_SESSIONS, rows)] if rows else [*lines, "no session since"])
        )
    return "\n\n".join(blocks)

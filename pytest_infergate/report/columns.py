"""The columns of the results table, declared once for the terminal, the HTML page and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pytest_infergate.core.domain import units
from pytest_infergate.report.cost_and_energy import LEGEND
from pytest_infergate.report.rows import Row
from pytest_infergate.report.table import Column, shown_columns


def _time_column(key: str, header: str) -> Column[Row]:
    """Column of a field of `TimeChange`."""
    return Column(key, header, lambda row: units.UNKNOWN if row.time is None else getattr(row.time, key))


def _timed(rows: Sequence[Row]) -> bool:
    return not _counted(rows) or any(row.p50 != units.UNKNOWN for row in rows)


def _counted(rows: Sequence[Row]) -> bool:
    return any(row.counted for row in rows)


CASE: Final[Column[Row]] = Column("case", "case", lambda row: row.nodeid + row.place, left=True)
VERDICT: Final[Column[Row]] = Column("verdict", "verdict", lambda row: row.outcome, left=True)
# Most runs measure neither energy nor cost, and empty columns would take the room of names.
ENERGY: Final[Column[Row]] = Column(
    "energy",
    "energy/item",
    lambda row: row.energy,
    title="energy per item",
    shown=lambda rows: any(row.energy != units.UNKNOWN for row in rows),
)
COST: Final[Column[Row]] = Column(
    "cost",
    "cost/million",
    lambda row: row.cost,
    title="cost per million items",
    shown=lambda rows: any(row.cost != units.UNKNOWN for row in rows),
)
COLUMNS: Final[tuple[Column[Row], ...]] = (
    CASE,
    Column("p50", "p50", lambda row: row.p50, shown=_timed),
    Column("p95", "p95", lambda row: row.p95, shown=_timed),
    Column("throughput", "throughput", lambda row: row.throughput, label="rate", shown=_timed),
    Column(
        "error",
        "error",
        lambda row: row.error,
        shown=lambda rows: any(row.error != units.UNKNOWN for row in rows),
    ),
    Column(
        "accuracy",
        "accuracy",
        lambda row: row.accuracy,
        shown=lambda rows: any(row.accuracy != units.UNKNOWN for row in rows),
    ),
    Column("operators", "operators", lambda row: row.operators, shown=_counted),
    Column("flops", "FLOPs", lambda row: row.flops, shown=_counted),
    Column("bytecodes", "bytecodes", lambda row: row.bytecodes, shown=_counted),
    Column("peak_memory", "peak memory", lambda row: row.peak_memory, label="peak"),
    ENERGY,
    COST,
    Column("budget", "budget", lambda row: row.budget, left=True),
    VERDICT,
)
"""Columns of the table of cases."""
PAIRED_COLUMNS: Final[tuple[Column[Row], ...]] = (
    CASE,
    _time_column("was", "was"),
    _time_column("now", "now"),
    _time_column("change", "change"),
    Column(
        "interval",
        "99 % interval",
        lambda row: row.time.interval if row.time is not None and row.paired else units.UNKNOWN,
        label="interval",
    ),
    _time_column("launches", "launches"),
    VERDICT,
)
"""Columns of the table of a paired run. Its workers run with settings that no service has, so absolute
times, energy and cost are left out."""


def case_columns(rows: Sequence[Row], *, paired: bool = False) -> tuple[Column[Row], ...]:
    """Return the columns of a table of cases; those of a paired run if any row was compared call by call."""
    # One table cannot mix both kinds of columns, and a paired time is only valid next to that of its base.
    paired = (paired and not _counted(rows)) or any(row.paired for row in rows)
    return shown_columns(PAIRED_COLUMNS if paired else COLUMNS, rows)


def legend(columns: Iterable[Column[Row]], rows: Iterable[Row]) -> str:
    """Return the explanation of the mark of estimates; empty if the table has none."""
    return LEGEND if ENERGY in columns and any(row.estimated for row in rows) else ""

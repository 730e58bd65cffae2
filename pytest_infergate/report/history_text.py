"""A history in the terminal: a line for each series, with a sparkline."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from pytest_infergate.core.domain import units
from pytest_infergate.core.gate.trends import Trend
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import Column
from pytest_infergate.report.text_table import text_table

_BARS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 30
"""Number of characters of a sparkline; longer series show the medians of parts."""


def sparkline(seconds: Sequence[float], width: int = WIDTH) -> str:
    """Return times as bars between the smallest and the largest; a series without spread is in the middle."""
    if len(seconds) > width:
        edges = [round(index * len(seconds) / width) for index in range(width + 1)]
        seconds = [sorted(seconds[begin:end])[(end - begin) // 2] for begin, end in pairwise(edges)]
    low, high = min(seconds), max(seconds)
    if high <= low:
        return _BARS[3] * len(seconds)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in seconds)


def _changed(trend: Trend) -> str:
    found = trend.largest_change
    if found is None:
        return units.UNKNOWN
    return f"{units.percent(found[1])} on {plain(trend.series.points[found[0]].created[:10])}"


def drift_text(trend: Trend) -> str:
    """Return the drift, and whether it is within the noise."""
    if trend.drift is None:
        return units.UNKNOWN
    return units.percent(trend.drift) + ("" if trend.clear else " (noise)")


COLUMNS: Final[tuple[Column[Trend], ...]] = (
    Column("case", "case", lambda trend: plain(trend.name), left=True),
    Column("sessions", "sessions", lambda trend: units.count(len(trend.seconds))),
    Column("last", "last", lambda trend: units.seconds(trend.seconds[-1])),
    Column("drift", "drift", drift_text),
    Column("change", "largest change", _changed, left=True),
    Column("line", "p50, corrected", lambda trend: sparkline(trend.seconds), left=True),
)
"""Columns of the table of series."""


def history_table(trends: Sequence[Trend], notes: Sequence[str] = ()) -> str:
    """Render a table for each hardware class, the largest drift first, and notes below them."""
    blocks = []
    for hardware in dict.fromkeys(trend.series.hardware for trend in trends):
        own = [trend for trend in trends if trend.series.hardware == hardware]
        blocks.append(f"{plain(hardware)}\n{text_table(COLUMNS, own)}")
        accepted = [
            f"  {plain(trend.name)}: accepted on {created[:10]}: {plain(reason)}"
            for trend in own
            for created, reason in trend.series.accepted
        ]
        blocks += ["\n".join(accepted)] if accepted else []
    return "\n\n".join([*blocks, *notes])

"""Coordinates of the picture of one series: its line, the bands of its levels, and marks of what happened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.core.gate.trends import Trend
from pytest_infergate.report.charts.scale import BOX, spanning

HISTORY_HEIGHT: Final = 120
"""Height of the plot in pixels."""
MAX_DRAWN: Final = 160
"""Number of points of a line; longer series show the medians of parts."""
MAX_RELEASES: Final = 12
"""Number of releases that a picture marks, the last ones."""
_LABEL: Final = 0.08
"""Share of the width that a label needs."""
_BAND: Final = 2.0
"""Standard deviations of single sessions to either side of a level that its band shows."""


class Band(NamedTuple):
    """One level: a rectangle in the stretched box, and its centre."""

    begin: str
    width: str
    top: str
    height: str
    centre: str
    end: str


class HistoryMark(NamedTuple):
    """Something that happened: percentage of the width, kind and text."""

    at: str
    kind: str
    """``change`` for the worse, ``improvement``, ``accepted`` or ``release``."""
    text: str
    right: bool
    """Whether the label is on the left of the mark, because it is near the right end."""


class HistoryPicture(NamedTuple):
    """What the template draws of a series."""

    path: str
    bands: tuple[Band, ...]
    marks: tuple[HistoryMark, ...]
    dots: tuple[tuple[str, str, bool], ...]
    """Percentage, pixels from the top, and whether the case failed; only of short series, and of failures."""
    rows: tuple[tuple[str, str], ...]
    """Ticks of the vertical axis: pixels from the top, and label."""
    begin: str
    """Dates of the first and the last session."""
    end: str


def history_picture(trend: Trend) -> HistoryPicture:
    """Return the coordinates of a series; its horizontal axis is time, its vertical one is logarithmic."""
    points, seconds = trend.series.points, trend.seconds
    places = _places([point.created for point in points])
    low, high = min(seconds), max(seconds)
    scale = spanning(low, high, begin=0.08, end=0.08, closest=1.1, room=1.05)

    def y(value: float) -> float:
        share = scale.share(min(max(value, scale.low / 2), scale.high * 2))
        return min(max((1 - share) * HISTORY_HEIGHT, 0.0), float(HISTORY_HEIGHT))

    edges = _edges(len(points))
    line = [(median(places[begin:end]), median(seconds[begin:end])) for begin, end in edges]
    bands = []
    for level in trend.levels:
        begin = places[level.begin]
        end = places[level.end] if level.end < len(places) else places[-1]
        top = y(level.centre * math.exp(_BAND * level.spread))
        bottom = y(level.centre * math.exp(-_BAND * level.spread))
        bands.append(
            Band(
                begin=f"{begin * BOX:.1f}",
                width=f"{(end - begin) * BOX:.1f}",
                top=f"{top:.1f}",
                height=f"{max(1.0, bottom - top):.1f}",
                centre=f"{y(level.centre):.1f}",
                end=f"{end * BOX:.1f}",
            )
        )
    shown = len(points) <= MAX_DRAWN
    return HistoryPicture(
        path=" ".join(f"{x * BOX:.1f},{y(value):.1f}" for x, value in line),
        bands=tuple(bands),
        marks=tuple(_marks(trend, places)),
        dots=tuple(
            (f"{100 * place:.2f}%", f"{y(value):.1f}", point.failed)
            for place, value, point in zip(places, seconds, points, strict=True)
            if point.failed or (shown and len(points) <= MAX_DRAWN // 4)
        ),
        rows=tuple(
            (f"{y(tick):.1f}", units.seconds(tick)) for tick in scale.ticks[:: max(1, len(scale.ticks) // 3)]
        ),
        begin=points[0].created[:10],
        end=points[-1].created[:10],
    )


def _edges(count: int) -> list[tuple[int, int]]:
    parts = min(count, MAX_DRAWN)
    limits = [round(index * count / parts) for index in range(parts + 1)]
    return list(pairwise(limits))


def _places(created: Sequence[str]) -> list[float]:
    """Return the share of the width of each session: by time, or evenly if a time cannot be read."""
    times = [epoch_seconds(text) for text in created]
    known = [time for time in times if time is not None]
    if len(known) < len(times) or known[-1] <= known[0]:
        return [index / max(1, len(created) - 1) for index in range(len(created))]
    return [(time - known[0]) / (known[-1] - known[0]) for time in known]


def epoch_seconds(text: str) -> float | None:
    """Return the seconds since 1970 of a time; ``None`` if it is not one."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return None


def _marks(trend: Trend, places: Sequence[float]) -> list[HistoryMark]:
    points = trend.series.points
    marks = []
    for before, after in pairwise(trend.levels):
        if after.changed:
            change = after.centre / before.centre - 1
            kind = "change" if change > 0 else "improvement"
            marks.append((places[after.begin], kind, units.percent(change)))
    first, last = epoch_seconds(points[0].created), epoch_seconds(points[-1].created)
    for created, _ in trend.series.accepted:
        time = epoch_seconds(created)
        if time is not None and first is not None and last is not None and last > first:
            place = min(max((time - first) / (last - first), 0.0), 1.0)
            marks.append((place, "accepted", "accepted"))
    releases: dict[str, float] = {}
    for place, point in zip(places, points, strict=True):
        if point.release:
            releases.setdefault(point.release, place)
    marks += [(place, "release", name) for name, place in list(releases.items())[-MAX_RELEASES:]]
    drawn: list[HistoryMark] = []
    ends = dict.fromkeys((False, True), -1.0)
    for place, kind, text in sorted(marks):
        # Labels of one row may not overlap; a line without a label is still a line.
        below, right = kind == "release", place > 1 - _LABEL
        free = place - _LABEL * right >= ends[below]
        ends[below] = place + _LABEL * (not right) if free else ends[below]
        drawn.append(HistoryMark(f"{100 * place:.2f}%", kind, text if free else "", right))
    return drawn

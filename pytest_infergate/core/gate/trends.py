"""The course of a case over many sessions: corrected times, levels and drift. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.history_values import CaseSeries
from pytest_infergate.core.gate.stored_times import MAX_CORRECTION

DRIFT_SESSIONS: Final = 7
"""Number of sessions at either end whose medians a drift compares; fewer if there are not twice as many."""
MIN_SESSIONS: Final = 4
"""Number of sessions from which a drift is stated."""
_MAD_TO_DEVIATION: Final = 1.4826
"""Standard deviation of a normal sample over the median of its absolute deviations."""
CLEAR: Final = 4.0
"""Standard errors of a drift from which it is not within the noise."""

MOST: Final = 0.6
"""Share of a drift that a single change point explains at least, unless the drift is gradual."""


class Level(NamedTuple):
    """Sessions between two changes: indices of the first and the one after the last, and their level."""

    begin: int
    end: int
    centre: float
    """Median in seconds."""
    spread: float
    """Robust relative standard deviation of single sessions."""
    changed: bool = False
    """Whether it begins with a change point; else with the series, or with an accepted change."""


class Trend(NamedTuple):
    """A series with what can be read off it."""

    series: CaseSeries
    seconds: tuple[float, ...]
    """Times corrected for the speed of the machine."""
    levels: tuple[Level, ...]
    drift: float | None
    """Relative change from the first to the last sessions since the last accepted change; ``None`` if few."""
    clear: bool
    """Whether the drift is larger than the noise."""

    @property
    def name(self) -> str:
        """Name of the case."""
        return self.series.case.name

    @property
    def changes(self) -> tuple[tuple[int, float], ...]:
        """Change points since the last accepted change: index of the first session, and relative change."""
        begin = max((created for created, _ in self.series.accepted), default="")
        return tuple(
            (after.begin, after.centre / before.centre - 1)
            for before, after in pairwise(self.levels)
            if after.changed and self.series.points[after.begin].created > begin
        )

    @property
    def largest_change(self) -> tuple[int, float] | None:
        """The largest of its change points."""
        return max(self.changes, key=lambda change: abs(math.log1p(change[1])), default=None)

    @property
    def gradual(self) -> bool:
        """Whether no single change point explains most of a clear drift."""
        found = self.largest_change
        if self.drift is None or not self.clear or found is None:
            return False
        return math.log1p(found[1]) / math.log1p(self.drift) < MOST


def corrected(series: CaseSeries) -> tuple[float, ...]:
    """Return the times of a series as if the machine had always had its usual speed.

    A machine whose reference workloads take longer is slower. Corrections end at `MAX_CORRECTION`, beyond
    which nothing is known about them; a session without reference workloads is not corrected.
    """
    speeds = [
        point.speed for point in series.points if point.speed is not None and stats.positive(point.speed)
    ]
    usual = median(speeds) if speeds else 1.0
    return tuple(
        point.p50
        if point.speed is None or not stats.positive(point.speed)
        else point.p50 / min(max(point.speed / usual, 1 / MAX_CORRECTION), MAX_CORRECTION)
        for point in series.points
    )


def trend(series: CaseSeries, seconds: Sequence[float], changes: Sequence[int] = ()) -> Trend:
    """Return the levels and the drift of corrected times; `changes` are the indices of change points."""
    accepted = [
        next((index for index, point in enumerate(series.points) if point.created > created), len(seconds))
        for created, _ in series.accepted
    ]
    count = len(seconds)
    begins = {0: False, **dict.fromkeys(accepted, False), **dict.fromkeys(changes, True)}
    begins = {index: changed for index, changed in sorted(begins.items()) if 0 <= index < count}
    ends = [*list(begins)[1:], count]
    levels = tuple(
        _level(seconds, begin, end, changed=changed)
        for (begin, changed), end in zip(begins.items(), ends, strict=True)
    )
    since = seconds[max([0, *(index for index in accepted if index < count)]) :]
    ends_of = min(DRIFT_SESSIONS, len(since) // 2)
    if len(since) < MIN_SESSIONS:
        return Trend(series, tuple(seconds), levels, None, clear=False)
    drift = median(since[-ends_of:]) / median(since[:ends_of]) - 1
    # Noise is what neighbours differ by: the level itself may move.
    steps = [abs(math.log(late / early)) for early, late in pairwise(since)]
    noise = _MAD_TO_DEVIATION * median(steps) / math.sqrt(2)
    # A median of n values varies by 1.25 / sqrt(n) of the spread of one.
    error = 1.25 * noise * math.sqrt(2 / ends_of)
    return Trend(series, tuple(seconds), levels, drift, clear=abs(math.log1p(drift)) > CLEAR * error)


def _level(seconds: Sequence[float], begin: int, end: int, *, changed: bool) -> Level:
    own = seconds[begin:end]
    centre = median(own)
    spread = _MAD_TO_DEVIATION * median(abs(math.log(value / centre)) for value in own)
    return Level(begin, end, centre, spread, changed)


def by_drift(trends: Sequence[Trend]) -> list[Trend]:
    """Return trends with those first that drifted clearly, the largest drift of them first."""

    def key(one: Trend) -> tuple[bool, float, str, str]:
        size = 0.0 if one.drift is None else abs(math.log1p(one.drift))
        return not one.clear, -size, one.name, one.series.hardware

    return sorted(trends, key=key)


def trends_of(
    series: Sequence[CaseSeries], changes: Mapping[int, Sequence[int]] | None = None
) -> list[Trend]:
    """Return the trends of series with plausible times, the largest drift first.

    `changes` are the change points by the index of the series.
    """
    made = []
    for index, one in enumerate(series):
        usable = one._replace(points=tuple(point for point in one.points if stats.positive(point.p50)))
        if usable.points:
            found = (changes or {}).get(index, ()) if usable.points == one.points else ()
            made.append(trend(usable, corrected(usable), found))
    return by_drift(made)

"""Values of the history: what each session left of each case, and what was accepted since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

import msgspec

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.records import Baseline
from pytest_infergate.core.domain.values import Case, Hardware, Struct

HISTORY_VERSION: Final = 1
"""Version of the documents of a history. It grows when a reader of the old form would misread the new one."""


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """One case in one session. Times in seconds, sizes in bytes."""

    case: Case
    hardware: str
    """Id of the hardware class."""
    verdict: str
    failed: bool = False
    p50: float | None = None
    """``None`` without a valid measurement of times."""
    p95: float | None = None
    """``None`` if too few calls were measured for it; also for p99."""
    p99: float | None = None
    low: float | None = None
    """Lower bound of the median; `high` is the upper one."""
    high: float | None = None
    throughput: float | None = None
    cold_start: float | None = None
    peak_memory: int | None = None
    contention: float | None = None
    """As in `Measurement`."""
    reference_work: dict[str, float] = msgspec.field(default_factory=dict)
    """Median seconds of each reference workload."""
    counters: dict[str, int] = msgspec.field(default_factory=dict)


class HistorySession(Struct, frozen=True, kw_only=True):
    """One document of a history: a run with its cases, or sessions that were recorded into a baseline."""

    schema_version: int = HISTORY_VERSION
    project: str
    created: str
    """Start of the session: UTC, ISO 8601."""
    tool_version: str = ""
    commit: str | None = None
    dirty: bool = False
    """Whether the working tree had changes that were not committed."""
    branch: str | None = None
    release: str | None = None
    """Tag of the commit."""
    simulated: bool = False
    """Whether the figures were computed and not measured."""
    packages: dict[str, str] = msgspec.field(default_factory=dict)
    hardware: dict[str, Hardware] = msgspec.field(default_factory=dict)
    """By the id of the class."""
    entries: tuple[HistoryEntry, ...] = ()
    baseline: Baseline | None = None
    """What was recorded into the baseline; ``None`` for a run."""


class SeriesPoint(NamedTuple):
    """One session of one series."""

    created: str
    p50: float
    speed: float | None
    """Geometric mean of the reference workloads in seconds; ``None`` without any."""
    failed: bool = False
    commit: str | None = None
    release: str | None = None


class CaseSeries(NamedTuple):
    """The median call times of one case on one hardware class, the oldest first."""

    case: Case
    hardware: str
    points: tuple[SeriesPoint, ...]
    accepted: tuple[tuple[str, str], ...] = ()
    """Times at which changes were accepted, each with its reason."""
    runs_a_point: int = 1
    """Number of runs in a row of which each point has the medians."""


def joined_point(points: Sequence[SeriesPoint]) -> SeriesPoint:
    """Return the medians of sessions in a row, with the start of the first and the commit of the last."""
    speeds = [point.speed for point in points if point.speed is not None]
    return SeriesPoint(
        created=points[0].created,
        p50=median(point.p50 for point in points),
        speed=median(speeds) if speeds else None,
        failed=any(point.failed for point in points),
        commit=next((point.commit for point in reversed(points) if point.commit is not None), None),
        release=next((point.release for point in reversed(points) if point.release is not None), None),
    )


def mean_speed(reference_work: Mapping[str, float]) -> float | None:
    """Return the geometric mean of the times of reference workloads; ``None`` without any."""
    times = [seconds for seconds in reference_work.values() if stats.positive(seconds)]
    return stats.geometric_mean(times) if times else None

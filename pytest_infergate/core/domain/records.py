"""Values that are recorded for later sessions: baselines and exact counters."""

from __future__ import annotations

from typing import Final

import msgspec

from pytest_infergate.core.domain.measurement import OperatorWork
from pytest_infergate.core.domain.values import SCHEMA_VERSION, Case, Hardware, Struct


class BaselinePoint(Struct, frozen=True, kw_only=True):
    """One session of one case: the median of a process launch, and the speed of the machine during it."""

    created: str
    """Start of the session, which identifies it: UTC, ISO 8601."""
    p50: float
    """Seconds."""
    count: int
    """Number of calls that the median is taken from."""
    reference_work: dict[str, float] = msgspec.field(default_factory=dict)
    """Median seconds of each reference workload."""
    contended: bool = False
    """Whether other processes took so much processor time that the spread between launches is wider."""
    contention: float | None = None
    """The share that they took, as in `Measurement`; ``None`` if it was small, or not recorded."""
    page_faults: float | None = None
    """Page faults of one call, as in `Measurement`; ``None`` if they are unknown, or not recorded."""


class AcceptedChange(Struct, frozen=True, kw_only=True):
    """A change of a case that was accepted: what was measured before is not compared any more."""

    created: str
    """When it was accepted: UTC, ISO 8601."""
    reason: str


class BaselineCase(Struct, frozen=True, kw_only=True):
    """The sessions of one case, the oldest first."""

    case: Case
    # Points instead of means: the spread between sessions is what a comparison needs.
    sessions: tuple[BaselinePoint, ...]
    accepted: tuple[AcceptedChange, ...] = ()
    """Accepted changes, the oldest first; sessions and anchor are later than all of them."""
    anchor: tuple[BaselinePoint, ...] = ()
    """The first sessions since then, once they are not among the last ones any more. A slow drift is seen
    against them, while the last sessions drift along."""


class Baseline(Struct, frozen=True, kw_only=True):
    """The recorded sessions of one hardware class: the content of a baseline file."""

    schema_version: int = SCHEMA_VERSION
    hardware: Hardware
    cases: tuple[BaselineCase, ...] = ()
    packages: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    """Package versions of each session that at least one case still has, by `BaselinePoint.created`."""

    def history(self, case: Case) -> tuple[BaselinePoint, ...]:
        """Return the sessions of a case, the oldest first; empty if none is recorded."""
        # A baseline has few cases, and each is looked up once in a run.
        return next((entry.sessions for entry in self.cases if entry.case == case), ())

    def anchor(self, case: Case) -> tuple[BaselinePoint, ...]:
        """Return the first sessions of a case; empty if they are among the last ones, or none is recorded."""
        return next((entry.anchor for entry in self.cases if entry.case == case), ())


COUNTERS_VERSION: Final = 2
"""Version of what counters mean and of the files that hold them."""


class CounterKey(Struct, frozen=True, kw_only=True):
    """Properties that must be equal for counters to be compared; without any they compare everywhere."""

    # Without the build: the CPU operators of one version are the same in all builds.
    torch: str | None = None
    """Version of torch."""
    python: str | None = None
    """Minor version of Python, which determines the bytecodes of Python code."""
    architecture: str | None = None
    threads: int | None = None


class Tally(Struct, frozen=True, kw_only=True):
    """Counters of one case under one key."""

    key: CounterKey
    version: int = COUNTERS_VERSION
    """Of what the counters mean, when they were recorded."""
    counters: dict[str, int | None]
    """``None`` if it varies from call to call. A name of two words is a part of the counter named first."""
    operators: tuple[OperatorWork, ...] = ()
    at_least: dict[str, int] = msgspec.field(default_factory=dict)
    """As in `Counters`; it is compared, but not recorded."""


class CounterRecord(Struct, frozen=True, kw_only=True):
    """The counters of one case, recorded or counted now."""

    case: Case
    tallies: tuple[Tally, ...]

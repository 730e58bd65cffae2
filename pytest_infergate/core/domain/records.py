"""What is recorded for later sessions: baselines and exact counters."""

from __future__ import annotations

import msgspec

from pytest_infergate.core.domain.measurement import OperatorWork
from pytest_infergate.core.domain.model import SCHEMA_VERSION, Case, Hardware, Struct


class BaselinePoint(Struct, frozen=True, kw_only=True):
    """What one session says of one case: a launch median and the machine's speed beside it."""

    created: str
    """The session: UTC, ISO 8601."""
    p50: float
    """Seconds."""
    count: int
    """Calls behind the median."""
    reference_work: dict[str, float] = msgspec.field(default_factory=dict)
    contended: bool = False
    """Whether others took so much of its processor time that the yardsticks do not mend it."""


class BaselineCase(Struct, frozen=True, kw_only=True):
    """The history of one case, oldest session first."""

    case: Case
    sessions: tuple[BaselinePoint, ...]


class Baseline(Struct, frozen=True, kw_only=True):
    """What is known of one hardware class: the content of a baseline file."""

    schema_version: int = SCHEMA_VERSION
    hardware: Hardware
    cases: tuple[BaselineCase, ...] = ()
    packages: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    """Package versions of each session that a case still names, by its ``created``."""

    def history(self, case: Case) -> tuple[BaselinePoint, ...]:
        """Sessions of one case, oldest first; empty where it is unknown."""
        return next((entry.sessions for entry in self.cases if entry.case == case), ())


class CounterKey(Struct, frozen=True, kw_only=True):
    """What counters must share to compare; all absent compares everywhere."""

    torch: str | None = None
    """Version."""
    architecture: str | None = None
    threads: int | None = None


class Tally(Struct, frozen=True, kw_only=True):
    """Counters of one case under one key."""

    key: CounterKey
    counters: dict[str, int | None]
    """``None``: it varies from call to call. A name of two words is a part of its first."""
    operators: tuple[OperatorWork, ...] = ()


class CounterRecord(Struct, frozen=True, kw_only=True):
    """What is on record of one case, or was counted now."""

    case: Case
    tallies: tuple[Tally, ...]

"""Cases as they travel on test reports, also between processes of pytest-xdist."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pytest_infergate.core.domain.model import Case, Note, Struct
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict


class CaseReport(Struct, frozen=True, kw_only=True):
    """One case as it travels on a test report: turned into builtins, for pytest-xdist."""

    result: CaseResult
    verdict: CaseVerdict


class CollectedCases(Struct, frozen=True, kw_only=True):
    """What collection found, as it travels from a worker of pytest-xdist to the controller."""

    cases: tuple[Case, ...] = ()
    """Before ``-k`` and its like took any away."""
    modules: tuple[str, ...] = ()
    """Every test file of which tests were collected, inference tests or not."""
    selected: int = 0
    """How many were left after that."""
    deselected: tuple[Note, ...] = ()


def as_builtins(value: Struct) -> dict[str, Any]:
    """As builtins only."""
    return msgspec.to_builtins(value)  # type: ignore[no-any-return]


def case_report(
    result: CaseResult, verdict: CaseVerdict, location: tuple[str, int | None, str]
) -> dict[str, Any]:
    """A case as a test report carries it, with the line of its test.

    `location` is pytest's: the file below the rootdir that has the test's body, and its line from 0.
    """
    path, line, _ = location
    if line is not None and Path(path).as_posix() == result.case.module:
        result = msgspec.structs.replace(result, line=line + 1)
    return as_builtins(CaseReport(result=result, verdict=verdict))


class ReportedCases:
    """Cases as their reports come in, by node id: a rerun replaces what it repeats."""

    def __init__(self) -> None:
        self.collected = CollectedCases()
        self.skipped = 0
        """Cases that the user's own skips kept from running."""
        self._entries: dict[str, CaseReport] = {}

    def add(self, data: Mapping[str, Any]) -> None:
        """Take what a report carried."""
        entry = msgspec.convert(data, CaseReport)
        self._entries[entry.result.nodeid] = entry

    def add_collection(self, data: Mapping[str, Any]) -> None:
        """Take what a worker collected; all workers collect the same."""
        self.collected = msgspec.convert(data, CollectedCases)

    @property
    def results(self) -> tuple[CaseResult, ...]:
        """In order of node id."""
        return tuple(self._entries[nodeid].result for nodeid in sorted(self._entries))

    @property
    def verdicts(self) -> tuple[CaseVerdict, ...]:
        """In order of node id."""
        return tuple(self._entries[nodeid].verdict for nodeid in sorted(self._entries))

"""Results and verdicts of cases on test reports, which carry them to the controller of pytest-xdist."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, Judged
from pytest_infergate.core.domain.values import Case, Note, Struct


class CollectedCases(Struct, frozen=True, kw_only=True):
    """The result of a collection, as a worker of pytest-xdist sends it to the controller."""

    cases: tuple[Case, ...] = ()
    """All cases, before options such as ``-k`` deselected any."""
    modules: tuple[str, ...] = ()
    """All test files with collected tests, inference tests or not."""
    selected: int = 0
    """Number of cases that remained."""
    deselected: tuple[Note, ...] = ()


def portable_text(value: Struct) -> str:
    """Encode a value for pytest-xdist, which serialises text if UTF-8 can encode it.

    Names of layers and messages of exceptions may contain anything, such as a lone surrogate.
    """
    return json.dumps(msgspec.to_builtins(value))


def case_report(judged: Judged, location: tuple[str, int | None, str]) -> dict[str, Any]:
    """Return a case for a test report, with the line of its test.

    Its outcome and its peak of host memory are also there for those who need no more.

    `location` is that of pytest: the file with the body of the test, relative to the rootdir, and its line
    from 0.
    """
    path, line, _ = location
    # The body of an inherited test may be in another file, in which an annotation of the line would be wrong.
    if line is not None and Path(path).as_posix() == judged.result.case.module:
        judged = msgspec.structs.replace(judged, result=msgspec.structs.replace(judged.result, line=line + 1))
    measurement = judged.result.measurement
    return {
        "outcome": judged.result.outcome.value,
        "judged": portable_text(judged),
        "host_peak": None if measurement is None else measurement.memory.host_peak,
    }


class ReportedCases:
    """Collects the cases of incoming reports by node id. A rerun replaces the case that it repeats."""

    def __init__(self) -> None:
        self.collected = CollectedCases()
        self.skipped = 0
        """Number of cases that were skipped by the user's own marks."""
        self._cases: dict[str, Judged] = {}

    def add(self, data: Mapping[str, Any]) -> None:
        """Add the case of a report."""
        judged = msgspec.convert(json.loads(data["judged"]), Judged, str_keys=True)
        self._cases[judged.result.nodeid] = judged

    def add_collection(self, data: str) -> None:
        """Add the collection of a worker; all workers have the same."""
        self.collected = msgspec.convert(json.loads(data), CollectedCases)

    @property
    def results(self) -> tuple[CaseResult, ...]:
        """Results, sorted by node id."""
        return tuple(self._cases[nodeid].result for nodeid in sorted(self._cases))

    @property
    def verdicts(self) -> tuple[CaseVerdict, ...]:
        """Verdicts, sorted by node id."""
        return tuple(self._cases[nodeid].verdict for nodeid in sorted(self._cases))

"""How long a paired run takes, by the last one of the same cases; for the forecast only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pytest_infergate.paired.launches import LaunchesResult
from pytest_infergate.storage.remembered_figures import Cache, RememberedFigures

# Without an earlier run. Most cases are equivalent, which takes 3 to 5 launches.
TYPICAL_LAUNCHES: Final = 5
TYPICAL_SECONDS: Final = 2.0
"""Of one case in one launch."""
TYPICAL_OVERHEAD: Final = 8.0
"""Seconds of one launch beyond its cases: two processes and their imports."""
_LAUNCHES = "launches"
_OVERHEAD = "all launches beyond their cases"


class ExpectedTime:
    """Remembers, in pytest's cache, what each case took over all launches, and what was left."""

    def __init__(self, cache: Cache | None, *, counters_only: bool = False) -> None:
        self._counters_only = counters_only
        kind = "counters" if counters_only else "times"
        self._remembered = RememberedFigures(cache, f"seconds-paired-{kind}")

    def of(self, nodeids: Sequence[str]) -> tuple[int, float]:
        """Return launches and seconds of a run of these cases."""
        known = self._remembered.read()
        launches = 1 if self._counters_only else round(known.get(_LAUNCHES, TYPICAL_LAUNCHES))
        overhead = known.get(_OVERHEAD, launches * TYPICAL_OVERHEAD)
        return launches, overhead + sum(known.get(one, launches * TYPICAL_SECONDS) for one in nodeids)

    def remember(self, found: LaunchesResult, seconds: float) -> None:
        """Remember a run that took so many seconds in all, unless it was interrupted."""
        if found.interrupted:
            return
        cases = {trial.spec.nodeid: trial.seconds for trial in found.trials}
        overhead = max(0.0, seconds - sum(cases.values()))
        self._remembered.add({**cases, _LAUNCHES: found.launches, _OVERHEAD: overhead})

"""The document that a run leaves in the history. Pure functions."""

from __future__ import annotations

from pytest_infergate.core.domain.history_values import HistoryEntry, HistorySession
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, Outcome, Session
from pytest_infergate.core.domain.stats import positive
from pytest_infergate.core.domain.units import round_significant
from pytest_infergate.core.domain.values import Hardware


def history_session(session: Session, project: str) -> HistorySession:
    """Return what the history keeps of a run: figures of each case that was measured, and every verdict.

    Figures are rounded to five significant digits.
    """
    verdicts = {(verdict.case, verdict.nodeid): verdict for verdict in session.gate.verdicts}
    hardware: dict[str, Hardware] = {}
    entries = []
    for result in session.cases:
        verdict = verdicts.get((result.case, result.nodeid))
        if result.hardware is None or verdict is None:
            continue
        hardware[result.hardware.id] = result.hardware
        entries.append(_entry(result, verdict, result.hardware.id))
    return HistorySession(
        project=project,
        created=session.created,
        tool_version=session.tool_version,
        packages=dict(session.environment.packages),
        hardware=hardware,
        entries=tuple(entries),
    )


def _entry(result: CaseResult, verdict: CaseVerdict, hardware: str) -> HistoryEntry:
    empty = HistoryEntry(
        case=result.case, hardware=hardware, verdict=verdict.verdict.value, failed=verdict.failed
    )
    measured = result.measurement
    if result.outcome is not Outcome.MEASURED or measured is None:
        return empty

    def rounded(value: float | None) -> float | None:
        return None if value is None or not positive(value) else round_significant(value)

    times: dict[str, float | None] = {}
    if measured.latency is not None:
        p50 = measured.latency.p50
        times = {
            "p50": p50.value,
            "low": p50.low,
            "high": p50.high,
            "p95": measured.latency.seen(95),
            "p99": measured.latency.seen(99),
        }
    return HistoryEntry(
        case=result.case,
        hardware=hardware,
        verdict=verdict.verdict.value,
        failed=verdict.failed,
        throughput=rounded(measured.throughput),
        cold_start=rounded(measured.cold_start),
        peak_memory=measured.memory.peak,
        contention=rounded(measured.contention),
        reference_work={
            name: round_significant(seconds)
            for name, seconds in measured.reference_work.items()
            if positive(seconds)
        },
        counters=dict(measured.counters.totals),
        **{name: rounded(value) for name, value in times.items()},
    )

"""What a case was compared with, and whether nothing of it was, read off its verdict."""

from __future__ import annotations

from pytest_infergate.core.domain.outcome import CaseVerdict, GateResult, Verdict


def earlier_run(verdict: CaseVerdict) -> str:
    """Return what a case is compared with."""
    paired = verdict.against_base or any(row.evidence == "paired" for row in verdict.comparisons)
    return "base" if paired else "baseline"


def uncompared_cases(result: GateResult) -> tuple[CaseVerdict, ...]:
    """Return the verdicts of cases that were compared with nothing; their budgets may be decided."""
    return tuple(filter(uncompared, result.verdicts))


def uncompared(verdict: CaseVerdict) -> bool:
    """Return whether nothing of a case was compared, because there is no baseline; budgets may be decided."""
    rows = verdict.comparisons
    return all(row.verdict is Verdict.NO_BASELINE for row in rows) and (
        bool(rows) or verdict.verdict is Verdict.NO_BASELINE
    )


def without_baseline(verdict: CaseVerdict) -> bool:
    """Return whether nothing of a case was compared with an earlier run; its budgets may be decided."""
    return verdict.verdict is Verdict.NO_BASELINE and earlier_run(verdict) == "baseline"


def exactly_equal(verdict: CaseVerdict) -> bool:
    """Return whether exact counters were compared, besides the size of the weights, and none changed."""
    exact = [row for row in verdict.comparisons if row.evidence == "exact"]
    work = [row for row in exact if not row.metric.startswith("weight")]
    return bool(work) and all(row.candidate is not None and row.candidate == row.baseline for row in exact)

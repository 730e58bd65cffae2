"""What a user can do about a verdict."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import (
    BudgetCheck,
    CaseResult,
    CaseVerdict,
    Comparison,
    Outcome,
    Verdict,
)
from pytest_infergate.core.gate import counter_changes
from pytest_infergate.core.gate.decide import FAILING, SEVERITY
from pytest_infergate.report.sanitize import plain

WIDEST_TOLERANCE: Final = 10.0
"""Largest growth for which a tolerance is offered."""


def not_decided(check: BudgetCheck) -> bool:
    """Whether a budget counts as broken because it could not be checked."""
    return check.note is not None and check.note.code == NoteCode.BUDGET_NOT_DECIDED


def check_severity(check: BudgetCheck) -> tuple[int, bool]:
    """Sort key of budgets: the most severe first, and what was decided before what was not."""
    rank = len(SEVERITY) if check.verdict is None else SEVERITY[check.verdict]
    return rank, not_decided(check)


def stated_reason(verdict: CaseVerdict, result: CaseResult | None) -> Note | None:
    """Why there is no valid measurement; without the result, the verdict's first note says it."""
    if result is not None:
        return result.reason
    judged = verdict.comparisons or verdict.budgets
    return verdict.notes[0] if verdict.notes and not judged else None


def hints(
    verdict: CaseVerdict,
    comparisons: Sequence[Comparison],
    checks: Sequence[BudgetCheck],
    result: CaseResult | None,
) -> Iterator[str]:
    """Suggest what to do about a verdict, the most useful first.

    `comparisons` and `checks` are those of the verdict that its message explains.
    """
    if verdict.accepted:
        return
    regressed = [row for row in comparisons if row.verdict is Verdict.REGRESSED]
    broken = [check for check in checks if check.verdict is Verdict.OVER_BUDGET and not not_decided(check)]
    if regressed and any(row.evidence == "paired" for row in verdict.comparisons):
        # The pattern of a trailer ends at the first space; "?" matches any character.
        pattern = plain(verdict.nodeid.rpartition("::")[2]).replace(" ", "?")
        yield f"if the change is meant, end the message of a commit with: Infergate-Accept: {pattern} REASON"
    elif regressed:
        yield "if the change is meant, record it with --infer-save"
    elif verdict.verdict is Verdict.REGRESSED:
        yield "make it run again, or record the baseline anew without this case with --infer-save"
    if wider := _wider_tolerances(regressed, () if result is None else result.tolerance):
        table = ", ".join(f'"{plain(metric)}": "{text}"' for metric, text in wider.items())
        yield f"or allow it for this test: @pytest.mark.inference(tolerance={{{table}}})"
    if broken:
        promises = ", ".join(f'"{plain(check.budget.metric)}": ...' for check in broken)
        yield f"make it fit, or change the promise: @pytest.mark.inference(budget={{{promises}}})"
    notes = [stated_reason(verdict, result), *(row.note for row in comparisons)]
    notes += [check.note for check in checks]
    yield from (plain(note.hint) for note in notes if note is not None and note.hint)
    if any(row.verdict is Verdict.NO_BASELINE and row.evidence != "paired" for row in comparisons):
        yield "record a baseline with --infer-save, and commit it"
    if verdict.verdict is Verdict.INFEASIBLE:
        yield "leave out what does not fit: a smaller batch size, or another device"
    if verdict.failed and (result is None or result.outcome is not Outcome.FAILED):
        yield from _ways_to_pass(verdict, result)


def _wider_tolerances(regressed: Sequence[Comparison], given: Collection[str]) -> dict[str, str]:
    """Tolerances under which these metrics would pass, by name: the effect rounded up to 5 %.

    One name covers all counters but the peak memory and those that have a tolerance of their own already.
    """
    effects: dict[str, float] = {}
    for row in regressed:
        name = row.metric
        if row.metric == counter_changes.PEAK:
            name = "memory"
        elif row.evidence == "exact" and row.metric not in given:
            name = counter_changes.ALL_COUNTERS
        if row.effect is not None:
            effects[name] = max(row.effect, effects.get(name, row.effect))
    # Rounding first keeps 15.000000000000002 % from being rounded up to 20 %.
    return {
        name: f"{5 * (math.floor(round(20 * effect, 6)) + 1)}%"
        for name, effect in effects.items()
        if 0 <= effect <= WIDEST_TOLERANCE
    }


def _ways_to_pass(verdict: CaseVerdict, result: CaseResult | None) -> Iterator[str]:
    """How a run passes although the case stays as it is."""
    judged = [verdict.verdict, *(row.verdict for row in verdict.comparisons)]
    judged += [check.verdict for check in verdict.budgets if check.verdict is not None]
    if FAILING.isdisjoint(judged):
        yield f"or run without --infer-strict, which alone makes {verdict.verdict.value!r} fail"
    if result is None or result.outcome is not Outcome.SKIPPED:
        yield 'or report it without failing: @pytest.mark.inference(gate="warn")'

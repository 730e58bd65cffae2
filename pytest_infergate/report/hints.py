"""What a user can do about a verdict."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

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
from pytest_infergate.core.gate.decide import FAILING
from pytest_infergate.report.sanitize import plain

WIDEST_TOLERANCE = 10.0
"""Beyond a factor of eleven nobody should be told how to tolerate it."""


def not_decided(check: BudgetCheck) -> bool:
    """Whether a budget counts as broken because nobody could check it."""
    return check.note is not None and check.note.code == NoteCode.BUDGET_NOT_DECIDED


def stated_reason(verdict: CaseVerdict, result: CaseResult | None) -> Note | None:
    """Why there is no valid measurement; without the result, the verdict's first note says it."""
    if result is not None:
        return result.reason
    told = verdict.comparisons or verdict.budgets
    return verdict.notes[0] if verdict.notes and not told else None


def hints(
    verdict: CaseVerdict,
    comparisons: Sequence[Comparison],
    checks: Sequence[BudgetCheck],
    result: CaseResult | None,
) -> Iterable[str]:
    if verdict.accepted:
        return
    regressed = [row for row in comparisons if row.verdict is Verdict.REGRESSED]
    broken = [check for check in checks if check.verdict is Verdict.OVER_BUDGET and not not_decided(check)]
    if regressed:
        paired = any(row.evidence == "paired" for row in verdict.comparisons)
        yield _meant(verdict) if paired else "if the change is meant, record it with --infer-save"
        yield from _allowing(regressed, () if result is None else result.tolerance)
    elif verdict.verdict is Verdict.REGRESSED:
        yield "make it run again, or record the baseline anew without this case with --infer-save"
    if broken:
        promises = ", ".join(f'"{plain(check.budget.metric)}": ...' for check in broken)
        yield f"make it fit, or change the promise: @pytest.mark.inference(budget={{{promises}}})"
    notes = [
        stated_reason(verdict, result),
        *(row.note for row in comparisons),
        *(check.note for check in checks),
    ]
    yield from (plain(note.hint) for note in notes if note is not None and note.hint)
    if any(row.verdict is Verdict.NO_BASELINE and row.evidence != "paired" for row in comparisons):
        yield "record a baseline with --infer-save, and commit it"
    if verdict.verdict is Verdict.INFEASIBLE:
        yield "leave out what does not fit: a smaller batch size, or another device"
    if verdict.failed:
        yield from _forgiving(verdict, result)


def _meant(verdict: CaseVerdict) -> str:
    """How to accept a case; a pattern ends at the first space."""
    pattern = plain(verdict.nodeid.rpartition("::")[2]).replace(" ", "?")
    return f"if the change is meant, end the message of a commit with: Infergate-Accept: {pattern} REASON"


def _allowing(regressed: Iterable[Comparison], given: Collection[str]) -> Iterable[str]:
    """How to tolerate what regressed, in this test and from now on."""
    effects: dict[str, float] = {}
    for row in regressed:
        if row.effect is not None:
            name = _tolerated_as(row, given)
            effects[name] = max(row.effect, effects.get(name, row.effect))
    wider = {name: text for name, effect in effects.items() if (text := _wider(effect))}
    if wider:
        table = ", ".join(f'"{plain(metric)}": "{text}"' for metric, text in wider.items())
        yield f"or allow it for this test: @pytest.mark.inference(tolerance={{{table}}})"


def _tolerated_as(row: Comparison, given: Collection[str]) -> str:
    """The name under which a metric is tolerated: one for all counters but the memory and those given."""
    if row.metric == counter_changes.PEAK:
        return "memory"
    return row.metric if row.evidence != "exact" or row.metric in given else counter_changes.ALL


def _wider(effect: float) -> str:
    """Round an effect up to the next tolerance in steps of 5 %; empty where none should be offered."""
    if not 0 <= effect <= WIDEST_TOLERANCE:
        return ""
    return f"{5 * (math.floor(round(20 * effect, 6)) + 1)}%"


def _forgiving(verdict: CaseVerdict, result: CaseResult | None) -> Iterable[str]:
    """How a run passes nevertheless; nothing helps where the test itself failed."""
    if result is not None and result.outcome is Outcome.FAILED:
        return
    judged = [verdict.verdict, *(row.verdict for row in verdict.comparisons)]
    judged += [check.verdict for check in verdict.budgets if check.verdict is not None]
    if FAILING.isdisjoint(judged):
        yield f"or run without --infer-strict, which alone makes {verdict.verdict.value!r} fail"
    if result is None or result.outcome is not Outcome.SKIPPED:
        yield 'or report it without failing: @pytest.mark.inference(gate="warn")'

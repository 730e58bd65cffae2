"""Hints: what a user can do about a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import (
    BudgetCheck,
    CaseResult,
    CaseVerdict,
    Comparison,
    Outcome,
    Verdict,
)
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate import counter_changes
from pytest_infergate.core.gate.compared_cases import earlier_run
from pytest_infergate.core.gate.decide import FAILING, SEVERITY
from pytest_infergate.report.sanitize import plain

# A larger tolerance would switch the check off rather than allow a change.
MAX_SUGGESTED_TOLERANCE: Final = 10.0
"""Largest relative change for which a tolerance is suggested."""


def not_decided(check: BudgetCheck) -> bool:
    """Whether a budget counts as exceeded because it could not be checked."""
    return check.note is not None and check.note.code == NoteCode.BUDGET_NOT_DECIDED


def check_severity(check: BudgetCheck) -> tuple[int, bool]:
    """Sort key of budgets: the most severe first, decided ones before those that are not."""
    rank = len(SEVERITY) if check.verdict is None else SEVERITY[check.verdict]
    return rank, not_decided(check)


def stated_reason(verdict: CaseVerdict, result: CaseResult | None) -> Note | None:
    """Return why there is no valid measurement; without a result, it is the first note of the verdict."""
    if result is not None:
        return result.reason
    judged = verdict.comparisons or verdict.budgets
    return verdict.notes[0] if verdict.notes and not judged else None


LEAVE_OUT: Final = "leave this runtime out: @pytest.mark.inference(runtimes=[...]) with the others"


def hints(
    verdict: CaseVerdict,
    comparisons: Sequence[Comparison],
    checks: Sequence[BudgetCheck],
    result: CaseResult | None,
) -> Iterator[str]:
    """Suggest what to do about a verdict, the most useful first.

    `comparisons` and `checks` are the ones that the message of the verdict explains.
    """
    # A commit has accepted the change, so there is nothing left to do.
    if verdict.accepted:
        return
    regressed = [row for row in comparisons if row.verdict is Verdict.REGRESSED]
    exceeded = [check for check in checks if check.verdict is Verdict.OVER_BUDGET and not not_decided(check)]
    changed = regressed or [row for row in comparisons if row.verdict is Verdict.MISMATCH]
    if changed and earlier_run(verdict) == "base":
        # The pattern of a trailer ends at the first space; "?" matches any character.
        pattern = plain(verdict.nodeid.rpartition("::")[2]).replace(" ", "?")
        trailer = f"Infergate-Accept: {pattern} REASON"
        accept = f"if the change is intended, add a trailer to a commit message: {trailer}"
        yield accept if changed[0].base_runtime is None else LEAVE_OUT
    elif regressed:
        yield "if the change is intended, record it with --infer-save"
    # Without a regressed comparison, the baseline has a measurement and this run has none.
    elif verdict.verdict is Verdict.REGRESSED:
        yield "fix the case, or record a new baseline without it with --infer-save"
    if wider := _wider_tolerances(regressed, {} if result is None else result.tolerance):
        table = ", ".join(f'"{plain(metric)}": "{text}"' for metric, text in wider.items())
        yield f"allow it for this test: @pytest.mark.inference(tolerance={{{table}}})"
    if exceeded:
        budgets = ", ".join(f'"{plain(check.budget.metric)}": ...' for check in exceeded)
        yield f"meet the budget, or change it: @pytest.mark.inference(budget={{{budgets}}})"
    # Notes carry their own hints, from the place where the problem was found.
    notes = [stated_reason(verdict, result), *(row.note for row in comparisons)]
    notes += [check.note for check in checks]
    yield from (plain(note.hint) for note in notes if note is not None and note.hint)
    # In a paired run, a new test has a base as soon as it is merged.
    new = any(row.verdict is Verdict.NO_BASELINE and row.evidence != "paired" for row in comparisons)
    if new and not verdict.against_base:
        yield "record a baseline with --infer-save, and commit it"
    if verdict.verdict is Verdict.INFEASIBLE:
        yield "use a smaller batch size or another device"
    if verdict.failed and (result is None or result.outcome is not Outcome.FAILED):
        yield from _ways_to_pass(verdict, result)


def _wider_tolerances(regressed: Sequence[Comparison], given: Mapping[str, float | None]) -> dict[str, str]:
    """Return tolerances with which these metrics pass, by name; none if that of one would be too large.

    They are rounded up to 5 %. Each counter has its own, so that no other may grow. The tolerances that are
    `given` are kept, because a marker replaces them.
    """
    wider: dict[str, float | None] = {}
    for row in regressed:
        name = row.metric
        if name == counter_changes.ALL_COUNTERS:
            continue  # a reason without figures
        if row.metric == counter_changes.PEAK:
            name = "memory"
        # Another launch of the same code may be slower than this one: its time is below the upper bound.
        reach = row.effect if row.evidence == "exact" else row.high
        if reach is None and row.evidence == "exact":
            wider[name] = None  # no share of 0 allows anything
        elif reach is None or not 0 <= reach <= MAX_SUGGESTED_TOLERANCE:
            return {}  # a part of what is needed would leave the test failing
        else:
            wider[name] = max(reach, wider.get(name) or reach)
    # Rounding first keeps 15.000000000000002 % from being rounded up to 20 %.
    rounded = {
        name: "off" if reach is None else f"{5 * (math.floor(round(20 * reach, 6)) + 1)}%"
        for name, reach in wider.items()
    }
    kept = {name: "off" if share is None else f"{100 * share:g}%" for name, share in given.items()}
    return rounded and rounded | {name: text for name, text in kept.items() if name not in rounded}


def _ways_to_pass(verdict: CaseVerdict, result: CaseResult | None) -> Iterator[str]:
    """Suggest how the run passes without a change of the case."""
    judged = [verdict.verdict, *(row.verdict for row in verdict.comparisons)]
    judged += [check.verdict for check in verdict.budgets if check.verdict is not None]
    if FAILING.isdisjoint(judged):
        yield f"run without --infer-strict: only strict mode fails {verdict.verdict.value!r}"
    if result is None or result.outcome is not Outcome.SKIPPED:
        yield 'report it without failing the run: @pytest.mark.inference(gate="warn")'

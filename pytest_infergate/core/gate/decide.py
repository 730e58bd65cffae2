"""From evidence to one decision. The only place that says pass or fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from pytest_infergate.core.domain import launch_spread, units
from pytest_infergate.core.domain.model import Case, Environment, Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import (
    BudgetCheck,
    CaseResult,
    CaseVerdict,
    Comparison,
    GateMode,
    GateResult,
    Outcome,
    Policy,
    Verdict,
)
from pytest_infergate.core.domain.records import Baseline, BaselinePoint, CounterRecord
from pytest_infergate.core.gate import budgets, counter_changes, stored

SEVERITY = {verdict: rank for rank, verdict in enumerate(Verdict)}
"""Rank of each verdict; the gravest is 0."""
FAILING = frozenset({Verdict.REGRESSED, Verdict.OVER_BUDGET, Verdict.MISMATCH})
STRICTLY_FAILING = FAILING | {
    Verdict.INVALID,
    Verdict.SUSPECTED,
    Verdict.INCONCLUSIVE,
    Verdict.INCOMPARABLE,
    Verdict.NO_BASELINE,
    Verdict.INFEASIBLE,
    Verdict.NOT_MEASURED,
}
DECIDED = FAILING | {Verdict.SLOWER_WITHIN_TOLERANCE, Verdict.IMPROVED, Verdict.EQUIVALENT}
UNCOMPARED = frozenset({Verdict.INCOMPARABLE, Verdict.NO_BASELINE})
UNDECIDED = frozenset({Verdict.SUSPECTED, Verdict.INCONCLUSIVE, Verdict.INCOMPARABLE, Verdict.NO_BASELINE})


def fails(verdict: Verdict, policy: Policy, mode: GateMode | None = None) -> bool:
    """Map a verdict to pass or fail: the one function that does.

    `mode` is the marker's own gate and wins over the policy's. A run that records a baseline forgives
    everything but a broken budget and a failing verdict that has nothing to do with the old baseline.
    """
    if (mode or policy.gate) is not GateMode.FAIL:
        return False
    if policy.saving:
        return verdict in (Verdict.OVER_BUDGET, Verdict.MISMATCH)
    return verdict in (STRICTLY_FAILING if policy.strict else FAILING)


def judge(
    result: CaseResult,
    baselines: Mapping[str, Baseline],
    policy: Policy,
    environment: Environment,
    *,
    records: Mapping[Case, CounterRecord] | None = None,
    cases: int = 1,
) -> CaseVerdict:
    """Judge one case.

    `baselines` holds every hardware class on record, by id, `records` the counters on record; `cases` is
    how many cases this run judges, among which the chance of a false alarm is shared.
    """
    history = _history(result, baselines)
    measurement = result.measurement
    comparisons: tuple[Comparison, ...] = ()
    checks: tuple[BudgetCheck, ...] = ()
    notes: tuple[Note, ...] = () if result.reason is None else (result.reason,)
    if result.outcome is Outcome.MEASURED and measurement is not None:
        elsewhere = "" if history else _elsewhere(result, baselines)
        if elsewhere:
            time = stored.incomparable(measurement, elsewhere)
        else:
            given = result.tolerance.get("p50")
            allowed = policy.time_tolerance if given is None else given
            time = stored.compare_time(history, measurement, allowed, cases)
        before = (records or {}).get(result.case)
        now = counter_changes.record(result, environment.packages.get("torch"))
        exact = counter_changes.compare_counters(before, now, result.tolerance, policy.memory_tolerance)
        comparisons = (time, *(map(_without_advice, exact) if policy.saving else exact))
        band = launch_spread.launch_band(history, virtual=environment.virtual)
        checks = tuple(
            budgets.check_budget(
                budget,
                measurement,
                band,
                price=result.price,
                demand=result.demand,
                unpriced=result.unpriced,
                estimates=policy.gate_estimates,
            )
            for budget in result.budgets
        )
        notes = measurement.notes if result.price is None else (*measurement.notes, *result.price.notes)
        verdicts = [row.verdict for row in comparisons]
        verdicts += [check.verdict for check in checks if check.verdict is not None]
    elif result.outcome in (Outcome.INVALID, Outcome.INFEASIBLE):
        infeasible = Verdict.REGRESSED if history else Verdict.INFEASIBLE
        why = result.reason or Note(code=result.outcome.value, text=f"the case is {result.outcome.value}")
        checks = tuple(budgets.not_checked(budget, why.text, why.hint) for budget in result.budgets)
        verdicts = [Verdict.INVALID if result.outcome is Outcome.INVALID else infeasible]
        verdicts += [Verdict.OVER_BUDGET for _ in checks]
    else:
        verdicts = [Verdict.NOT_MEASURED]
    return _concluded(result, verdicts, policy, comparisons=comparisons, checks=checks, notes=notes)


def judge_paired(
    result: CaseResult,
    base: CaseResult,
    time: Comparison | None,
    policy: Policy,
    environment: Environment,
    *,
    mismatch: Note | None = None,
    accepted: Note | None = None,
) -> CaseVerdict:
    """Judge one case of a paired run from its time, and the counters that both sides took beside it.

    `time` is ``None`` for a case that was not measured, `mismatch` says that the sides computed different
    things, `accepted` that the user takes whatever the verdict is. Absolute times of paired workers are held
    against no budget.
    """
    if result.outcome is Outcome.INFEASIBLE:
        measured = base.outcome is Outcome.MEASURED and base.measurement is not None
        verdicts = [Verdict.REGRESSED if measured else Verdict.INFEASIBLE]
    elif result.outcome is Outcome.INVALID:
        verdicts = [Verdict.INVALID]
    elif result.outcome is not Outcome.MEASURED or time is None:
        verdicts = [Verdict.NOT_MEASURED]
    else:
        torch = environment.packages.get("torch")
        before, now = (counter_changes.record(side, torch) for side in (base, result))
        exact = (
            counter_changes.compare_counters(before, now, result.tolerance, policy.memory_tolerance)
            if before
            else []
        )
        comparisons = (time, *(map(_without_advice, exact)))
        if mismatch is not None:
            differs = Comparison(metric="outputs", verdict=Verdict.MISMATCH, evidence="parity", note=mismatch)
            comparisons = (*comparisons, differs)
        notes = () if result.measurement is None else result.measurement.notes
        verdicts = [row.verdict for row in comparisons]
        return _concluded(result, verdicts, policy, comparisons=comparisons, notes=notes, accepted=accepted)
    notes = () if result.reason is None else (result.reason,)
    return _concluded(result, verdicts, policy, notes=notes, accepted=accepted)


def accepted_note(case: Case, nodeid: str, patterns: Mapping[str, str]) -> Note | None:
    """The reason for which a commit accepts what became of a case; ``None`` where none does.

    A pattern, with ``*`` and ``?``, is that of a case's id, of its test, or of the name alone.
    """
    names = (nodeid, case.test, nodeid.rpartition("::")[2])
    for pattern, reason in patterns.items():
        literal = pattern.replace("[", "[[]")  # brackets are those of ids
        if any(fnmatchcase(name, literal) for name in names):
            return Note(code=NoteCode.ACCEPTED, text=f"accepted: {reason or 'no reason was given'}")
    return None


def _concluded(
    result: CaseResult,
    verdicts: list[Verdict],
    policy: Policy,
    *,
    comparisons: tuple[Comparison, ...] = (),
    checks: tuple[BudgetCheck, ...] = (),
    notes: tuple[Note, ...] = (),
    accepted: Note | None = None,
) -> CaseVerdict:
    """Join everything that was found of a case into its one verdict."""
    # A run that saves forgives some verdicts: the one that fails the case names it.
    failing = [verdict for verdict in verdicts if fails(verdict, policy, result.gate)]
    if comparisons and comparisons[0].verdict not in UNCOMPARED:
        # Counters that could not be compared take nothing from a time that was.
        verdicts = [verdict for verdict in verdicts if verdict not in UNCOMPARED]
    if accepted is not None and failing:
        notes = (*notes, accepted)
    else:
        accepted = None
    return CaseVerdict(
        case=result.case,
        nodeid=result.nodeid,
        verdict=min(failing or verdicts, key=SEVERITY.__getitem__),
        failed=(bool(failing) and accepted is None) or result.outcome is Outcome.FAILED,
        comparisons=comparisons,
        budgets=checks,
        notes=notes,
    )


def _without_advice(row: Comparison) -> Comparison:
    """A row without the note that says to record, in a run that does."""
    return msgspec.structs.replace(row, note=None) if row.verdict is Verdict.IMPROVED else row


def _history(result: CaseResult, baselines: Mapping[str, Baseline]) -> tuple[BaselinePoint, ...]:
    if result.hardware is None or result.hardware.id not in baselines:
        return ()
    return baselines[result.hardware.id].history(result.case)


def _elsewhere(result: CaseResult, baselines: Mapping[str, Baseline]) -> str:
    """Why baselines of this case on other hardware do not apply; empty where there are none."""
    if result.hardware is None:
        return ""
    others = [baseline for baseline in baselines.values() if baseline.history(result.case)]
    differences = sorted({result.hardware.difference(baseline.hardware) for baseline in others})
    return differences[0] if differences else ""


def is_decided(verdict: CaseVerdict) -> bool:
    """Whether the evidence settled the case: all of it, or the budgets alone where there is no baseline.

    A budget that could not be checked fails the case and decides nothing.
    """
    if verdict.verdict is Verdict.OVER_BUDGET:
        return any(check.verdict is verdict.verdict and check.note is None for check in verdict.budgets)
    if verdict.verdict is Verdict.NO_BASELINE:
        return bool(verdict.budgets) and all(check.verdict is None for check in verdict.budgets)
    return verdict.verdict in DECIDED


def gate_session(
    verdicts: Iterable[CaseVerdict],
    policy: Policy,
    *,
    known: Iterable[Case] = (),
    expected: Iterable[Case] | None = None,
    deselected: tuple[Note, ...] = (),
    selected: int | None = None,
    interrupted: bool = False,
) -> GateResult:
    """Join the verdicts of a run into its one result.

    `known` are the cases on record, `expected` those of them that this run would have met had nothing
    changed: what of these is not among the verdicts is missing. `selected` is how many cases the run set
    out to measure, where that differs from the verdicts: cases that never reported are then a reason to
    fail.
    """
    ordered = tuple(sorted(verdicts, key=lambda verdict: (SEVERITY[verdict.verdict], verdict.case.order)))
    known = frozenset(known)
    present = frozenset(verdict.case for verdict in ordered)
    unknown = (v.case for v in ordered if v.case not in known and v.verdict is not Verdict.NOT_MEASURED)
    new = sorted(unknown, key=lambda case: case.order)
    missing = sorted(frozenset(expected or ()) - present, key=lambda case: case.order)
    pairs = _renamed(missing, new)
    count = sum(map(is_decided, ordered))
    wanted = len(ordered) if selected is None else selected
    reasons = _reasons(ordered, count, policy, wanted)
    if interrupted:
        reasons.append("the run was interrupted")
    if policy.strict and policy.gate is GateMode.FAIL and not policy.saving and missing:
        reasons.append(f"{units.plural(len(missing), 'case')} of the baseline not met by this run (strict)")
    result = GateResult(
        passed=not reasons,
        headline="",
        reasons=tuple(reasons),
        verdicts=ordered,
        decided=count,
        new=tuple(new),
        missing=tuple(missing),
        renamed=tuple(pairs),
        deselected=deselected,
    )
    return msgspec.structs.replace(result, headline=_headline(result, wanted))


def merge_gate_results(results: Sequence[GateResult], names: Sequence[str]) -> GateResult:
    """Decide once over runs on several machines, named by `names`: what failed on one fails."""
    ordered = tuple(
        sorted(
            (verdict for result in results for verdict in result.verdicts),
            key=lambda verdict: (SEVERITY[verdict.verdict], verdict.case.order, verdict.machine),
        )
    )
    merged = GateResult(
        passed=all(result.passed for result in results),
        headline="",
        reasons=tuple(
            f"{reason}, on {name}"
            for result, name in zip(results, names, strict=True)
            for reason in result.reasons
        ),
        verdicts=ordered,
        decided=sum(map(is_decided, ordered)),
        new=tuple(case for result in results for case in result.new),
        missing=tuple(case for result in results for case in result.missing),
        renamed=tuple(pair for result in results for pair in result.renamed),
        deselected=tuple(dict.fromkeys(note for result in results for note in result.deselected)),
    )
    return msgspec.structs.replace(merged, headline=_headline(merged, len(ordered)))


def _reasons(ordered: Sequence[CaseVerdict], count: int, policy: Policy, wanted: int) -> list[str]:
    measured = [v for v in ordered if v.verdict not in (Verdict.NOT_MEASURED, Verdict.INVALID)]
    reasons = [
        f"{units.plural(number, 'case')} {verdict.value}"
        for verdict, number in sorted(
            Counter(item.verdict for item in ordered if item.failed).items(),
            key=lambda pair: SEVERITY[pair[0]],
        )
    ]
    if policy.gate is not GateMode.FAIL:
        return reasons
    if wanted and not measured:
        reasons.append(f"nothing was measured although {units.plural(wanted, 'case')} had been selected")
    elif wanted > len(ordered):
        reasons.append(f"{wanted - len(ordered)} of {units.plural(wanted, 'selected case')} never reported")
    if policy.min_decided is not None and wanted:
        asked = units.percent(policy.min_decided, signed=False, decimals=0)
        if count / wanted < policy.min_decided:
            reasons.append(
                f"{count} of {units.plural(wanted, 'case')} decided, --infer-min-decided asks for {asked}"
            )
    return reasons


def _headline(result: GateResult, wanted: int) -> str:
    """One sentence: the outcome, how much was decided, and what keeps the rest from it."""
    word = "passed" if result.passed else "FAILED"
    if not result.verdicts:
        return f"{word}: no inference case ran"
    cases = units.plural(max(wanted, len(result.verdicts)), "case")
    parts = [f"{result.decided} of {cases} decided"]
    if result.nothing_decided:
        # Nothing speaks against the run, but nothing speaks for it either: "passed" would claim a proof.
        word, parts = "nothing was decided", [cases]
    groups = Counter(
        _group(item) for item in result.verdicts if item.failed or not is_decided(item) or _notable(item)
    )
    parts += [f"{number} {words}" for words, number in groups.most_common()]
    return f"{word}: {', '.join(parts)}"


def _notable(item: CaseVerdict) -> bool:
    return item.verdict in FAILING | {Verdict.SUSPECTED, Verdict.IMPROVED}


def _group(item: CaseVerdict) -> str:
    words = str(item.verdict.value)
    if item.verdict is Verdict.INCOMPARABLE:
        reasons = [row.note.text for row in item.comparisons if row.verdict is item.verdict and row.note]
        words = f"{words}: {reasons[0]}" if reasons else words
    if item.verdict in UNDECIDED and exactly_equal(item):
        words += " (exact counters unchanged)"
    return words


def exactly_equal(item: CaseVerdict) -> bool:
    """Whether exact counters were compared, and none of them moved."""
    exact = [row for row in item.comparisons if row.evidence == "exact"]
    return bool(exact) and all(row.candidate is not None and row.candidate == row.baseline for row in exact)


def _renamed(missing: Sequence[Case], new: Sequence[Case]) -> list[tuple[Case, Case]]:
    """Pair cases that differ in their test only, where each is the only candidate of the other.

    A test that moved keeps its name, which is the stronger sign; a test that was renamed keeps its file.
    """
    pairs: dict[Case, Case] = {}
    for same in (_name, _path):
        taken = frozenset(pairs.values())
        after = _groups((case for case in new if case not in taken), same)
        before = _groups((case for case in missing if case not in pairs), same)
        for key, olds in before.items():
            news = after.get(key, [])
            if len(olds) == len(news) == 1:
                pairs[olds[0]] = news[0]
    return [(old, pairs[old]) for old in missing if old in pairs]


def _groups(cases: Iterable[Case], same: Callable[[Case], str]) -> dict[object, list[Case]]:
    groups: dict[object, list[Case]] = {}
    for case in cases:
        groups.setdefault((_axes(case), same(case)), []).append(case)
    return groups


def _path(case: Case) -> str:
    return case.module


def _name(case: Case) -> str:
    return case.test.partition("::")[2]


def _axes(case: Case) -> tuple[object, ...]:
    return case.params, case.device, case.runtime, case.dtype, case.batch_size, case.threads

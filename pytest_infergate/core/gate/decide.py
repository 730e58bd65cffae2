"""From evidence to the verdict of a case and of a run. No other module decides pass or fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from fnmatch import fnmatchcase

import msgspec

from pytest_infergate.core.domain import launch_spread, metrics, units
from pytest_infergate.core.domain.measurement import Measurement
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
from pytest_infergate.core.domain.records import Baseline, CounterRecord
from pytest_infergate.core.domain.values import Case, Environment, Note
from pytest_infergate.core.gate import budgets, counter_changes, stored_times
from pytest_infergate.core.gate.compared_cases import (
    earlier_run,
    exactly_equal,
    uncompared,
    uncompared_cases,
    without_baseline,
)
from pytest_infergate.core.gate.reference_rows import differing_outputs, lost_accuracy
from pytest_infergate.core.gate.renames import renamed_cases

SEVERITY = {verdict: rank for rank, verdict in enumerate(Verdict)}
"""Rank of each verdict; that of the most severe is 0."""
# By default a run fails only on evidence against the code; what could not be decided does not fail it,
# because stored timing on a shared machine leaves much undecided.
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
_BLINDED: Mapping[str, str] = {
    NoteCode.CONTENDED_TIME: "CPU contention",
    NoteCode.MEMORY_REMAPPED: "memory that launches keep differently",
    NoteCode.SPEED_CHANGED: "another speed of the machine",
}
UNDECIDED = frozenset({Verdict.SUSPECTED, Verdict.INCONCLUSIVE, Verdict.INCOMPARABLE, Verdict.NO_BASELINE})


def fails(verdict: Verdict, policy: Policy, mode: GateMode | None = None) -> bool:
    """Return whether a verdict fails its case. No other function maps verdicts to pass or fail.

    `mode` is the gate of the marker, which overrides that of the policy. A run that records a baseline
    tolerates every verdict except exceeded budgets and outputs that differ, which no new baseline can
    justify.
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
    """Judge one case against baselines and recorded counters.

    `baselines` contains every recorded hardware class by id, `records` the recorded counters, and `cases` is
    the number of cases in the run, which share the probability of a false alarm.
    """
    baseline = None if result.hardware is None else baselines.get(result.hardware.id)
    history = () if baseline is None else baseline.history(result.case)
    measurement = result.measurement
    if result.outcome is Outcome.MEASURED and measurement is not None:
        recorded = (records or {}).get(result.case)
        exact = (
            *_compare_counters(recorded, result, policy, environment, recording=policy.saving),
            *differing_outputs(measurement),
            *lost_accuracy(measurement),
        )
        if measurement.latency is None:
            return _judge_counted(result, measurement, policy, exact)
        given = result.tolerance.get("p50")
        time = stored_times.compare_time(
            history, measurement, policy.time_tolerance if given is None else given, cases
        )
        if not history and (reason := _other_hardware(result, baselines.values())):
            time = stored_times.incomparable(measurement, reason)
        band = launch_spread.launch_band(history, virtual=environment.virtual)
        checks = _check_budgets(result, measurement, band, policy)
        notes = measurement.notes if result.price is None else (*measurement.notes, *result.price.notes)
        anchor = () if baseline is None else baseline.anchor(result.case)
        drift = stored_times.drift_note(anchor, measurement, time, cases)
        notes = notes if drift is None else (*notes, drift)
        return _conclude(result, [], policy, comparisons=(time, *exact), checks=checks, notes=notes)
    verdict = _unmeasured(result, measured_before=bool(history))
    why = result.reason or Note(code=result.outcome.value, text=f"the case is {result.outcome.value}")
    unchecked = () if verdict is Verdict.NOT_MEASURED else result.budgets
    checks = tuple(budgets.not_checked(budget, why.text, why.hint) for budget in unchecked)
    notes = () if result.reason is None else (result.reason,)
    return _conclude(result, [verdict], policy, checks=checks, notes=notes)


def _judge_counted(
    result: CaseResult,
    measurement: Measurement,
    policy: Policy,
    comparisons: tuple[Comparison, ...],
    accepted: Note | None = None,
) -> CaseVerdict:
    """Judge a case without times, by its counters and by the budgets that need no time."""
    notes = measurement.notes
    timed = [budget.metric for budget in result.budgets if metrics.metric(budget.metric).timed]
    if timed:
        hint = "leave out --infer-counters-only to check budgets of times"
        text = f"no time was measured for the {'budget' if len(timed) == 1 else 'budgets'} {', '.join(timed)}"
        notes = (*notes, Note(code=NoteCode.NOT_TIMED, text=text, hint=hint))
    if not comparisons:
        note = Note(code=NoteCode.NO_COUNTERS, text="the case has no counter that is gated")
        comparisons = (counter_changes.not_recorded(note),)
    counted = msgspec.structs.replace(
        result, budgets=tuple(budget for budget in result.budgets if budget.metric not in timed)
    )
    checks = _check_budgets(counted, measurement, 0.0, policy)
    judged = _conclude(
        result, [], policy, comparisons=comparisons, checks=checks, notes=notes, accepted=accepted
    )
    return msgspec.structs.replace(judged, unchecked=len(timed))


def _check_budgets(
    result: CaseResult, measurement: Measurement, band: float, policy: Policy
) -> tuple[BudgetCheck, ...]:
    return tuple(
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


def _other_hardware(result: CaseResult, baselines: Iterable[Baseline]) -> str:
    """Return why the baselines of a case on other hardware do not apply; empty if there are none."""
    if result.hardware is None:
        return ""
    recorded = [baseline.hardware for baseline in baselines if baseline.history(result.case)]
    return min(map(result.hardware.difference, recorded), default="")


def _unmeasured(result: CaseResult, *, measured_before: bool) -> Verdict:
    """Return the verdict of a case without a valid measurement."""
    if result.outcome is Outcome.INFEASIBLE:
        # A case that could be measured before and now runs out of memory has become worse.
        return Verdict.REGRESSED if measured_before else Verdict.INFEASIBLE
    return Verdict.INVALID if result.outcome is Outcome.INVALID else Verdict.NOT_MEASURED


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
    """Judge one case of a paired run by its time and by the counters of both sides.

    `time` is ``None`` for a case that was not measured or not timed. `mismatch` describes outputs that differ
    between the sides, `accepted` is the note of a commit that accepts the case whatever its verdict is.
    Counters of different runtimes are not compared.
    Absolute times of paired workers are not compared with budgets.
    """
    measurement = result.measurement
    base_runtime = base.case.runtime if base.case.runtime != result.case.runtime else None
    counted = measurement is not None and (time is None or time.evidence == "exact")
    if result.outcome is Outcome.MEASURED and (time is not None or counted):
        comparisons = [] if time is None else [time]
        before = counter_changes.counter_record(base, environment.packages.get("torch"))
        if before is not None and base_runtime is None:
            rows = _compare_counters(before, result, policy, environment, recording=True)
            improved = time is not None and time.verdict is Verdict.IMPROVED
            faster = -time.effect if improved and time is not None and time.effect is not None else 0.0
            comparisons += counter_changes.less_work_excuses(rows, faster)
        if mismatch is not None:
            comparisons.append(
                Comparison(metric="outputs", verdict=Verdict.MISMATCH, evidence="parity", note=mismatch)
            )
        if base_runtime is not None:
            comparisons = [msgspec.structs.replace(row, base_runtime=base_runtime) for row in comparisons]
        if measurement is not None and counted:
            judged = _judge_counted(result, measurement, policy, tuple(comparisons), accepted)
            return msgspec.structs.replace(judged, against_base=True)
        notes = () if measurement is None else measurement.notes
        return _conclude(result, [], policy, comparisons=tuple(comparisons), notes=notes, accepted=accepted)
    measured = base.outcome is Outcome.MEASURED and base.measurement is not None and base_runtime is None
    verdict = _unmeasured(result, measured_before=measured)
    notes = () if result.reason is None else (result.reason,)
    return _conclude(result, [verdict], policy, notes=notes, accepted=accepted)


def accepted_note(case: Case, nodeid: str, patterns: Mapping[str, str]) -> Note | None:
    """Return a note with the reason for which a commit accepts a case; ``None`` if no pattern matches.

    A pattern with ``*`` and ``?`` matches the id of a case, its test, or the name alone.
    """
    names = (nodeid, case.test, nodeid.rpartition("::")[2])
    for pattern, reason in patterns.items():
        literal = pattern.replace("[", "[[]")  # ids contain brackets, so brackets match themselves
        if any(fnmatchcase(name, literal) for name in names):
            return Note(code=NoteCode.ACCEPTED, text=f"accepted: {reason or 'no reason was given'}")
    return None


def _compare_counters(
    before: CounterRecord | None,
    result: CaseResult,
    policy: Policy,
    environment: Environment,
    *,
    recording: bool,
) -> tuple[Comparison, ...]:
    """Compare counters. With `recording`, rows are without the note that suggests to record the case.

    A run that saves records it anyway, and a paired run cannot.
    """
    now = counter_changes.counter_record(result, environment.packages.get("torch"))
    rows = counter_changes.compare_counters(before, now, result.tolerance, policy.memory_tolerance)
    return tuple(
        msgspec.structs.replace(row, note=None) if recording and row.verdict is Verdict.IMPROVED else row
        for row in rows
    )


def _conclude(
    result: CaseResult,
    verdicts: Sequence[Verdict],
    policy: Policy,
    *,
    comparisons: tuple[Comparison, ...] = (),
    checks: tuple[BudgetCheck, ...] = (),
    notes: tuple[Note, ...] = (),
    accepted: Note | None = None,
) -> CaseVerdict:
    """Join all verdicts about a case, those of its comparisons and budgets included, into one."""
    every = [*verdicts, *(row.verdict for row in comparisons)]
    every += [check.verdict for check in checks if check.verdict is not None]
    # A run that records tolerates some verdicts: the verdict of the case is the one that fails it.
    failing = [verdict for verdict in every if fails(verdict, policy, result.gate)]
    if comparisons and comparisons[0].verdict not in UNCOMPARED:
        # The time comes first. If it was compared, counters that could not be compared do not change the
        # verdict, unless a strict run fails the case for them. Without a time, counters that are not recorded
        # yet do not.
        ignored = {Verdict.NO_BASELINE} if comparisons[0].evidence == "exact" else UNCOMPARED
        every = [verdict for verdict in every if verdict not in ignored]
    if accepted is not None and failing:
        notes = (*notes, accepted)
    else:
        accepted = None
    return CaseVerdict(
        case=result.case,
        nodeid=result.nodeid,
        verdict=min(failing or every, key=SEVERITY.__getitem__),
        failed=(bool(failing) and accepted is None) or result.outcome is Outcome.FAILED,
        comparisons=comparisons,
        budgets=checks,
        notes=notes,
    )


def is_decided(verdict: CaseVerdict) -> bool:
    """Return whether the evidence settled the case, or its budgets alone did if there is no baseline.

    A budget that could not be checked fails the case but does not decide it.
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
    """Decide a run from the verdicts of its cases.

    `known` are the recorded cases, `expected` those of them that this run would contain if nothing had
    changed; expected cases without a verdict are missing. `selected` is the number of cases that the run was
    to measure, if it is not the number of verdicts; cases that never reported fail the run.
    """
    ordered = tuple(sorted(verdicts, key=lambda verdict: (SEVERITY[verdict.verdict], verdict.case.order)))
    # A case that was not measured is not new: it may have been skipped for a reason of its own.
    known = frozenset(known)
    present = frozenset(verdict.case for verdict in ordered)
    unknown = (v.case for v in ordered if v.case not in known and v.verdict is not Verdict.NOT_MEASURED)
    new = sorted(unknown, key=lambda case: case.order)
    missing = sorted(frozenset(expected or ()) - present, key=lambda case: case.order)
    decided = sum(map(is_decided, ordered))
    # Workers of pytest-xdist may be lost with their cases; the selection still counts these.
    wanted = len(ordered) if selected is None else selected
    reasons = _reasons(ordered, decided, policy, wanted, interrupted=interrupted)
    if policy.strict and policy.gate is GateMode.FAIL and not policy.saving and missing:
        reasons.append(f"{units.plural(len(missing), 'case')} of the baseline missing from this run (strict)")
    result = GateResult(
        passed=not reasons,
        headline="",
        reasons=tuple(reasons),
        verdicts=ordered,
        decided=decided,
        new=tuple(new),
        missing=tuple(missing),
        renamed=tuple(renamed_cases(missing, new)),
        deselected=deselected,
        blind=tuple(verdict.case for verdict in ordered if _blinding(verdict)),
        recording=policy.saving,
    )
    return msgspec.structs.replace(result, headline=_headline(result, wanted, interrupted=interrupted))


def merge_gate_results(results: Sequence[GateResult], names: Sequence[str]) -> GateResult:
    """Join the results of runs on several machines, given by `names`: what failed on one machine fails."""
    ordered = tuple(
        sorted(
            (verdict for result in results for verdict in result.verdicts),
            key=lambda verdict: (SEVERITY[verdict.verdict], verdict.case.order, verdict.machine),
        )
    )
    # Every machine decides by itself: a case that failed on one of them is not saved by another.
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
        blind=tuple(case for result in results for case in result.blind),
        recording=any(result.recording for result in results),
    )
    return msgspec.structs.replace(merged, headline=_headline(merged, len(ordered)))


def _reasons(
    ordered: Sequence[CaseVerdict], decided: int, policy: Policy, wanted: int, *, interrupted: bool
) -> list[str]:
    """Return the reasons for which a run fails that lie in its verdicts, and in those that are missing.

    Verdicts are missing from an interrupted run because it ended early, which is its first reason.
    """
    failed = Counter(verdict.verdict for verdict in ordered if verdict.failed)
    reasons = [
        f"{units.plural(failed[verdict], 'case')} {verdict.value}"
        for verdict in sorted(failed, key=SEVERITY.__getitem__)
    ]
    if interrupted:
        return ["the run was interrupted", *reasons]
    if policy.gate is not GateMode.FAIL:
        return reasons
    if wanted and all(v.verdict in (Verdict.NOT_MEASURED, Verdict.INVALID) for v in ordered):
        reasons.append(f"nothing was measured although {units.plural(wanted, 'case')} had been selected")
    elif wanted > len(ordered):
        reasons.append(f"{wanted - len(ordered)} of {units.plural(wanted, 'selected case')} never reported")
    if policy.min_decided is not None and wanted and decided / wanted < policy.min_decided:
        share = units.percent(policy.min_decided, signed=False, decimals=0)
        cases = units.plural(wanted, "case")
        reasons.append(f"{decided} of {cases} decided, --infer-min-decided requires {share}")
    return reasons


def _headline(result: GateResult, wanted: int, *, interrupted: bool = False) -> str:
    """Return one sentence with the result, the number of decided cases, and the notable groups."""
    outcome = "gate passed" if result.passed else "gate FAILED"
    if interrupted:
        outcome = "interrupted, gate FAILED" if result.reasons[1:] else "interrupted"
    if not result.verdicts and not (interrupted and wanted):
        return f"{'nothing was decided' if result.passed else outcome}: no inference case ran"
    cases = units.plural(max(wanted, len(result.verdicts)), "case")
    parts = [f"{result.decided} of {cases} decided"]
    if result.nothing_decided:
        # Nothing speaks against the run, but nothing speaks for it either: "passed" would claim evidence.
        outcome, parts = "nothing was decided", [cases]
    alone = all(map(without_baseline, result.verdicts)) and bool(result.decided)
    if alone:
        parts = [f"{result.decided} of {cases} within {'its budgets' if wanted == 1 else 'their budgets'}"]
    if not alone:
        kinds = frozenset(verdict.verdict for verdict in result.verdicts if verdict.failed)
        groups = Counter(filter(None, (_group(v, kinds, result) for v in result.verdicts)))
        parts += [f"{number} {group}" for group, number in groups.most_common()]
        # Sentences and lists below the headline count the same cases, whatever their verdicts are.
        earlier = Counter(map(earlier_run, uncompared_cases(result)))
        parts += [f"{number} without a {what}" for what, number in earlier.items()]
    if unchecked := sum(verdict.unchecked for verdict in result.verdicts):
        parts.append(f"{units.plural(unchecked, 'budget')} not checked")
    if causes := Counter(why for verdict in result.verdicts if (why := _blinding(verdict))):
        reasons = ", ".join(f"{why}: {number}" for why, number in causes.most_common())
        whose = "its" if causes.total() == 1 else "their"
        parts.append(f"{causes.total()} of {cases} could not have seen {whose} tolerance ({reasons})")
    accepted = any(verdict.verdict is Verdict.REGRESSED and not verdict.failed for verdict in result.verdicts)
    more = " (a run that records a baseline accepts regressions)" if result.recording and accepted else ""
    none = "; nothing was compared with an earlier run" if alone else ""
    return f"{outcome}: {', '.join(parts)}{more}{none}"


def _group(verdict: CaseVerdict, failing: AbstractSet[Verdict], result: GateResult) -> str:
    """Return the group in which the headline counts a case; empty for a case that is not notable.

    `failing` are the verdicts that fail the run; the reasons below the headline count their cases.
    """
    notable = verdict.verdict in FAILING | {Verdict.SUSPECTED, Verdict.IMPROVED}
    if not (verdict.failed or notable) and is_decided(verdict):
        return ""
    group = str(verdict.verdict.value)
    if verdict.verdict is Verdict.NO_BASELINE:
        if uncompared(verdict):
            return ""
        group = f"without a time in the {earlier_run(verdict)}"
    if verdict.verdict is Verdict.INCOMPARABLE:
        rows = [row for row in verdict.comparisons if row.verdict is Verdict.INCOMPARABLE]
        group = ": ".join((group, *[row.note.text for row in rows if row.note][:1]))
    if verdict.verdict in UNDECIDED and exactly_equal(verdict):
        group += " (exact counters unchanged)"
    if verdict.accepted:
        group += " (accepted)"
    elif verdict.verdict in FAILING | failing and not (verdict.failed or result.recording):
        group += " (not failing the run)"
    return group


def _blinding(verdict: CaseVerdict) -> str:
    """Return why an undecided case could not have shown a slowdown of its tolerance; empty if it could."""
    for row in verdict.comparisons:
        undecided = row.verdict in (Verdict.SUSPECTED, Verdict.INCONCLUSIVE)
        seen = row.smallest_detectable is None or row.smallest_detectable <= (row.tolerance or 0.0)
        if row.evidence == "stored" and undecided and not seen and row.note is not None:
            return _BLINDED.get(row.note.code, "the spread of few sessions")
    exceeded = (check.note for check in verdict.budgets if check.verdict is Verdict.INCONCLUSIVE)
    return next((_BLINDED[note.code] for note in exceeded if note and note.code in _BLINDED), "")

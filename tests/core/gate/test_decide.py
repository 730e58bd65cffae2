from itertools import product

import pytest
from core_values import (
    ENVIRONMENT,
    HARDWARE,
    OTHER_HARDWARE,
    baseline,
    case,
    counted,
    day,
    latency,
    measurement,
    point,
    result,
)
from msgspec.structs import replace

from pytest_infergate.core.domain.measurement import Accuracy, Estimate, Measurement, Parity
from pytest_infergate.core.domain.outcome import (
    Budget,
    BudgetCheck,
    CaseVerdict,
    Comparison,
    GateMode,
    Outcome,
    Policy,
    Verdict,
)
from pytest_infergate.core.domain.values import Environment, Note
from pytest_infergate.core.gate import counter_changes
from pytest_infergate.core.gate.decide import fails, gate_session, is_decided, judge

POLICY = Policy()
STRICT = Policy(strict=True)
SAVING = Policy(saving=True)
ALWAYS_RED = {"regressed", "over-budget", "mismatch"}
RED_IF_STRICT = {
    "invalid",
    "infeasible",
    "suspected",
    "inconclusive",
    "incomparable",
    "no-baseline",
    "not-measured",
}
RED_IF_SAVING = {"over-budget", "mismatch"}
NEVER_RED = {"slower-within-tolerance", "improved", "equivalent"}


def test_the_table_below_knows_every_verdict():
    assert {verdict.value for verdict in Verdict} == ALWAYS_RED | RED_IF_STRICT | NEVER_RED


def test_a_verdict_fails_by_mode_and_policy():
    for verdict, mode, strict, saving in product(Verdict, GateMode, (False, True), (False, True)):
        red = ALWAYS_RED | (RED_IF_STRICT if strict else set())
        red = RED_IF_SAVING if saving else red
        policy = Policy(gate=mode, strict=strict, saving=saving)
        expected = mode is GateMode.FAIL and verdict.value in red
        assert fails(verdict, policy) is expected, (verdict, policy)


def test_the_marker_wins_over_the_policy():
    for policy, marker in product(GateMode, GateMode):
        failed = fails(Verdict.REGRESSED, Policy(gate=policy), marker)
        assert failed is (marker is GateMode.FAIL), (policy, marker)


def judged(of, *, before=None, records=None, policy=POLICY, environment=ENVIRONMENT, cases=1):
    before = {} if before is None else before
    return judge(of, before, policy, environment, records=records, cases=cases)


def on_record(*points, of=None, hardware=HARDWARE):
    return {hardware.id: baseline(*points, of=of, hardware=hardware)}


COUNTED = measurement(counters=counted(flops=1000, operators=10, peak_memory_bytes=50_000_000))
RECORDED = {case(): counter_changes.counter_record(result(measurement=COUNTED), "2.13.0")}
BIGGER = counted(flops=1000, operators=10, peak_memory_bytes=55_000_000)
NOTHING_MOVED = dict.fromkeys(("flops", "operators", "peak_memory_bytes"), Verdict.EQUIVALENT)


def rows(verdict):
    return {row.metric: row.verdict for row in verdict.comparisons}


def test_measured_and_unchanged():
    history = on_record(*(point(created=day(number)) for number in range(1, 13)))
    verdict = judged(result(measurement=COUNTED), before=history, records=RECORDED)
    assert rows(verdict) == {"p50": Verdict.EQUIVALENT, **NOTHING_MOVED}
    assert verdict.verdict is Verdict.EQUIVALENT
    assert not verdict.failed


def test_measured_for_the_first_time():
    verdict = judged(result(measurement=COUNTED))
    assert rows(verdict) == {"p50": Verdict.NO_BASELINE, "counters": Verdict.NO_BASELINE}
    assert verdict.verdict is Verdict.NO_BASELINE
    assert not verdict.failed
    assert judged(result(measurement=COUNTED), policy=STRICT).failed


def test_measured_and_slower():
    slower = measurement(0.050, counters=COUNTED.counters)
    verdict = judged(result(measurement=slower), before=on_record(), records=RECORDED)
    assert rows(verdict) == {"p50": Verdict.REGRESSED, **NOTHING_MOVED}
    assert verdict.verdict is Verdict.REGRESSED
    assert verdict.failed


def test_measured_and_bigger():
    verdict = judged(result(measurement=measurement(counters=BIGGER)), before=on_record(), records=RECORDED)
    assert rows(verdict)["peak_memory_bytes"] is Verdict.REGRESSED
    assert verdict.failed


def test_an_output_unlike_that_of_the_reference_fails_and_cannot_be_recorded():
    wrong = measurement(parity=Parity(error=0.3, difference="output: values differ by up to 3"))
    for policy in (POLICY, Policy(saving=True)):
        verdict = judged(result(measurement=wrong), before=on_record(), policy=policy)
        assert rows(verdict)["outputs"] is Verdict.MISMATCH
        assert (verdict.verdict, verdict.failed) == (Verdict.MISMATCH, True)
    near = measurement(parity=Parity(error=1e-7, cosine=1.0))
    assert "outputs" not in rows(judged(result(measurement=near), before=on_record()))


def test_the_first_module_that_differs_is_named():
    parity = Parity(error=0.3, difference="the output: differs", first_module="encoder.0")
    verdict = judged(result(measurement=measurement(parity=parity)), before=on_record())
    [row] = [row for row in verdict.comparisons if row.metric == "outputs"]
    assert row.note.text == "the output: differs; the first module whose output differs is encoder.0"


@pytest.mark.parametrize(
    ("value", "reference", "too_low"),
    [(0.89, 0.9, False), (0.8899, 0.9, True), (0.95, 0.9, False), (0.1, None, False), (-3.02, -3.0, True)],
)
def test_accuracy_may_be_lower_by_its_tolerance(value, reference, too_low):
    found = Accuracy(name="top1", value=value, reference=reference)
    verdict = judged(result(measurement=measurement(accuracy=found)), before=on_record())
    assert (rows(verdict).get("accuracy") is Verdict.MISMATCH) is too_low
    assert verdict.failed is too_low


def test_one_operation_more_fails():
    more = measurement(counters=counted(flops=1001, operators=10, peak_memory_bytes=50_000_000))
    verdict = judged(result(measurement=more), before=on_record(), records=RECORDED)
    assert rows(verdict) == {"p50": Verdict.INCONCLUSIVE, **NOTHING_MOVED, "flops": Verdict.REGRESSED}
    assert verdict.verdict is Verdict.REGRESSED
    assert verdict.failed


def test_counters_of_another_case_are_not_on_record():
    other = {case("other"): RECORDED[case()]}
    assert rows(judged(result(measurement=COUNTED), before=on_record(), records=other)) == {
        "p50": Verdict.INCONCLUSIVE,
        "counters": Verdict.NO_BASELINE,
    }


def test_the_marker_sets_the_tolerance_of_each_metric():
    bigger = measurement(0.050, counters=BIGGER)
    lenient = result(measurement=bigger, tolerance={"p50": 9.0, "memory": 0.2, "counters": 0.3})
    verdict = judged(lenient, before=on_record(), records=RECORDED)
    assert rows(verdict) == {"p50": Verdict.SLOWER_WITHIN_TOLERANCE, **NOTHING_MOVED}
    assert [row.tolerance for row in verdict.comparisons] == [9.0, 0.3, 0.3, 0.2]


def test_the_marker_can_leave_counters_out():
    lenient = result(measurement=COUNTED, tolerance={"memory": None, "counters": None})
    assert set(rows(judged(lenient, records=RECORDED))) == {"p50"}
    assert set(rows(judged(lenient))) == {"p50"}


def test_a_time_is_gated_whatever_the_marker_says():
    (time,) = judged(result(tolerance={"p50": None}), before=on_record()).comparisons
    assert time.tolerance == POLICY.time_tolerance


def test_the_policy_sets_the_default_tolerances():
    policy = Policy(time_tolerance=9.0, memory_tolerance=0.5)
    verdict = judged(result(measurement=COUNTED), before=on_record(), records=RECORDED, policy=policy)
    assert [row.tolerance for row in verdict.comparisons] == [9.0, 0.0, 0.0, 0.5]


def test_a_false_alarm_is_shared_among_the_cases_of_the_run():
    doubled = result(measurement=measurement(0.0205))
    assert judged(doubled, before=on_record(), cases=1).verdict is Verdict.REGRESSED
    assert judged(doubled, before=on_record(), cases=10).verdict is Verdict.SUSPECTED


def test_no_counters_no_row():
    assert set(rows(judged(result()))) == {"p50"}


def test_a_record_without_memory():
    less = measurement(counters=counted(flops=1000, operators=10))
    records = {case(): counter_changes.counter_record(result(measurement=less), "2.13.0")}
    verdict = judged(result(measurement=COUNTED), before=on_record(), records=records)
    assert rows(verdict)["counters"] is Verdict.NO_BASELINE


def test_memory_does_not_compare_across_versions_of_torch(snapshot):
    for now in ({"torch": "2.14.0"}, {}):
        verdict = judged(
            result(measurement=measurement(counters=BIGGER)),
            before=on_record(),
            records=RECORDED,
            environment=Environment(packages=now, virtual=False),
        )
        (row,) = [row for row in verdict.comparisons if row.verdict is Verdict.INCOMPARABLE]
        assert row.note.code == "incomparable", now
        assert str(row.note) == snapshot, now
        assert rows(verdict)["flops"] is Verdict.EQUIVALENT, now
        assert not verdict.failed, now


ELSEWHERE = Environment(packages={"torch": "2.14.0"}, virtual=False)
STEADY = on_record(*(point(created=day(number)) for number in range(1, 13)))
UNSETTLING = {
    Verdict.NO_BASELINE: {"records": None},
    Verdict.INCOMPARABLE: {"records": RECORDED, "environment": ELSEWHERE},
}
"""What leaves counters without a verdict of their own."""


def test_counters_that_could_not_be_compared_take_nothing_from_a_time():
    for (before, p50, time), unsettled in product(
        [
            (STEADY, 0.010, Verdict.EQUIVALENT),
            (STEADY, 0.0125, Verdict.SLOWER_WITHIN_TOLERANCE),
            (STEADY, 0.005, Verdict.IMPROVED),
            (STEADY, 0.050, Verdict.REGRESSED),
            (on_record(), 0.010, Verdict.INCONCLUSIVE),
            (on_record(), 0.0205, Verdict.SUSPECTED),
        ],
        sorted(UNSETTLING),
    ):
        of = result(measurement=measurement(p50, counters=COUNTED.counters))
        verdict = judged(of, before=before, cases=10, **UNSETTLING[unsettled])
        assert rows(verdict)["p50"] is time, (before, p50, time, unsettled)
        assert rows(verdict)["counters"] is unsettled, (before, p50, time, unsettled)
        assert verdict.verdict is time, (before, p50, time, unsettled)
        assert verdict.failed is (time is Verdict.REGRESSED), (before, p50, time, unsettled)


def test_counters_that_could_not_be_compared_fail_a_strict_run():
    for unsettled in sorted(UNSETTLING):
        lacking = UNSETTLING[unsettled]
        verdict = judged(result(measurement=COUNTED), before=STEADY, policy=STRICT, **lacking)
        assert verdict.verdict is unsettled, unsettled
        assert verdict.failed, unsettled
        soft = judged(
            result(measurement=COUNTED, gate=GateMode.WARN), before=STEADY, policy=STRICT, **lacking
        )
        assert soft.verdict is Verdict.EQUIVALENT, unsettled
        assert not soft.failed, unsettled


def test_lost_counters_take_nothing_from_a_time_and_fail_a_strict_run():
    verdict = judged(result(), before=STEADY, records=RECORDED)
    assert rows(verdict) == {"p50": Verdict.EQUIVALENT, "counters": Verdict.INCOMPARABLE}
    assert verdict.verdict is Verdict.EQUIVALENT
    assert judged(result(), before=STEADY, records=RECORDED, policy=STRICT).failed


def test_one_operation_more_fails_beside_counters_that_could_not_be_compared():
    more = measurement(counters=counted(flops=1001, operators=10))
    verdict = judged(result(measurement=more), before=STEADY, records=RECORDED, environment=ELSEWHERE)
    assert verdict.verdict is Verdict.REGRESSED
    assert verdict.failed


def test_counters_without_a_time_to_compare_count_for_the_verdict():
    verdict = judged(result(measurement=COUNTED), records=RECORDED, environment=ELSEWHERE)
    assert rows(verdict)["p50"] is Verdict.NO_BASELINE
    assert verdict.verdict is Verdict.INCOMPARABLE
    assert not verdict.failed


def test_fewer_operations_beside_a_time_on_other_hardware_leave_it_open():
    fewer = measurement(counters=counted(flops=999, operators=10, peak_memory_bytes=50_000_000))
    before = on_record(hardware=OTHER_HARDWARE)
    verdict = judged(result(measurement=fewer), before=before, records=RECORDED)
    assert rows(verdict)["flops"] is Verdict.IMPROVED
    assert verdict.verdict is Verdict.INCOMPARABLE


def test_a_broken_budget_fails_beside_counters_that_could_not_be_compared():
    of = result(measurement=COUNTED, budgets=(Budget(metric="p50_ms", limit=5),))
    assert judged(of, before=STEADY).verdict is Verdict.OVER_BUDGET


def test_time_compares_across_versions_of_torch():
    verdict = judged(
        result(measurement=measurement(0.050)),
        before=on_record(),
        environment=Environment(packages={"torch": "2.14.0"}, virtual=False),
    )
    assert verdict.verdict is Verdict.REGRESSED


def test_other_hardware_is_incomparable_in_time_and_not_in_counters():
    slower = measurement(0.050, counters=COUNTED.counters)
    before = on_record(hardware=OTHER_HARDWARE)
    verdict = judged(result(measurement=slower), before=before, records=RECORDED)
    assert rows(verdict) == {"p50": Verdict.INCOMPARABLE, **NOTHING_MOVED}
    assert verdict.comparisons[0].note.code == "incomparable"
    assert not verdict.failed


def test_own_hardware_wins_over_other():
    both = {**on_record(hardware=OTHER_HARDWARE), **on_record()}
    assert judged(result(measurement=measurement(0.050)), before=both).verdict is Verdict.REGRESSED


def test_a_case_on_unknown_hardware_has_no_baseline():
    assert judged(result(hardware=None), before=on_record()).verdict is Verdict.NO_BASELINE


def test_a_case_unknown_everywhere_has_no_baseline():
    before = on_record(of=case("other"), hardware=OTHER_HARDWARE)
    assert judged(result(), before=before).verdict is Verdict.NO_BASELINE


def test_notes_of_the_measurement_are_passed_on():
    note = Note(code="a", text="b")
    assert judged(result(measurement=measurement(notes=(note,)))).notes == (note,)


def test_a_broken_budget_fails_and_a_kept_one_decides():
    broken = judged(result(budgets=(Budget(metric="p50_ms", limit=5),)))
    assert broken.verdict is Verdict.OVER_BUDGET
    assert broken.failed
    kept = judged(result(budgets=(Budget(metric="p50_ms", limit=50),)))
    assert kept.budgets[0].verdict is None
    assert not kept.failed
    assert is_decided(kept)


def test_a_budget_near_its_limit_warns():
    verdict = judged(result(budgets=(Budget(metric="p50_ms", limit=10.1),)))
    assert verdict.budgets[0].verdict is Verdict.INCONCLUSIVE
    assert not verdict.failed
    assert judged(result(budgets=(Budget(metric="p50_ms", limit=10.1),)), policy=STRICT).failed


def test_a_virtual_machine_widens_the_budgets_band():
    near = result(budgets=(Budget(metric="p50_ms", limit=12),))
    assert judged(near).budgets[0].verdict is None
    assert judged(near, environment=Environment(virtual=True)).budgets[0].verdict is Verdict.INCONCLUSIVE


REASON = Note(code="oom", text="out of memory at batch size 8", hint="use a smaller batch")
BUDGETS = (Budget(metric="p50_ms", limit=50), Budget(metric="p95_ms", limit=90))


def test_outcomes_without_a_measurement():
    for outcome, budgets, before, verdict, failed in [
        (Outcome.INVALID, (), {}, Verdict.INVALID, False),
        (Outcome.INVALID, (), on_record(), Verdict.INVALID, False),
        (Outcome.INVALID, BUDGETS, {}, Verdict.OVER_BUDGET, True),
        (Outcome.INFEASIBLE, (), {}, Verdict.INFEASIBLE, False),
        (Outcome.INFEASIBLE, (), on_record(hardware=OTHER_HARDWARE), Verdict.INFEASIBLE, False),
        (Outcome.INFEASIBLE, (), on_record(), Verdict.REGRESSED, True),
        # An unchecked budget counts as failed.
        (Outcome.INFEASIBLE, BUDGETS, {}, Verdict.OVER_BUDGET, True),
        (Outcome.INFEASIBLE, BUDGETS, on_record(), Verdict.REGRESSED, True),
        # The test is red already, and so is what stands on its report.
        (Outcome.FAILED, BUDGETS, on_record(), Verdict.NOT_MEASURED, True),
        (Outcome.SKIPPED, BUDGETS, on_record(), Verdict.NOT_MEASURED, False),
    ]:
        row = (outcome, budgets, before)
        judgement = judged(result(outcome, budgets=budgets, reason=REASON), before=before)
        assert judgement.verdict is verdict, row
        assert judgement.failed is failed, row
        assert judgement.notes == (REASON,), row
        assert judgement.comparisons == (), row
        if outcome in (Outcome.INVALID, Outcome.INFEASIBLE):
            assert [check.verdict for check in judgement.budgets] == [Verdict.OVER_BUDGET] * len(budgets), row
            for check in judgement.budgets:
                assert check.note.code == "budget-not-decided", row
                assert check.note.text.endswith(REASON.text), row
                assert check.note.hint == REASON.hint, row


def test_measured_without_a_measurement_is_not_measured():
    assert judged(result(measurement=None)).verdict is Verdict.NOT_MEASURED


def test_an_outcome_without_a_reason():
    for outcome in [Outcome.INVALID, Outcome.INFEASIBLE]:
        judgement = judged(result(outcome, budgets=BUDGETS))
        assert f"the case is {outcome.value}" in judgement.budgets[0].note.text, outcome
        assert judgement.notes == (), outcome


def test_a_latency_of_zero_is_invalid():
    zero = measurement(latency=latency(0.0), throughput=1.0)
    assert judged(result(measurement=zero), before=on_record()).verdict is Verdict.INVALID


def test_modes_of_the_run():
    for policy, slower, limit, failed in [
        (SAVING, True, None, False),
        (SAVING, True, 5, True),
        (Policy(gate=GateMode.WARN), True, 5, False),
        (Policy(gate=GateMode.OFF), True, 5, False),
        (POLICY, False, 5, True),
    ]:
        of = result(
            measurement=measurement(0.050 if slower else 0.010),
            budgets=() if limit is None else (Budget(metric="p50_ms", limit=limit),),
        )
        assert judged(of, before=on_record(), policy=policy).failed is failed, (policy, slower, limit)


def test_the_marker_can_soften_its_own_case():
    of = result(measurement=measurement(0.050), gate=GateMode.WARN)
    verdict = judged(of, before=on_record())
    assert verdict.verdict is Verdict.REGRESSED
    assert not verdict.failed


# --- the run -----------------------------------------------------------------------------------------


def row(verdict, *, of="a", failed=None, metric="p50", budgets=(), note=None, axes=None):
    of = case(of, **(axes or {}))
    comparisons = ()
    if verdict not in (Verdict.OVER_BUDGET, Verdict.INVALID, Verdict.INFEASIBLE, Verdict.NOT_MEASURED):
        comparisons = (Comparison(metric=metric, verdict=verdict, evidence="stored", note=note),)
    return CaseVerdict(
        case=of,
        nodeid=of.name,
        verdict=verdict,
        failed=fails(verdict, POLICY) if failed is None else failed,
        comparisons=comparisons,
        budgets=budgets,
    )


EQUAL = row(Verdict.EQUIVALENT, of="a")
RED = row(Verdict.REGRESSED, of="b")
NOT_MEASURED = row(Verdict.NOT_MEASURED, of="c")
INVALID = row(Verdict.INVALID, of="d")


def test_a_green_run():
    outcome = gate_session([EQUAL], POLICY)
    assert outcome.passed
    assert outcome.reasons == ()


def test_a_failed_run_names_the_most_severe_first(snapshot):
    over = row(Verdict.OVER_BUDGET, of="z")
    outcome = gate_session([EQUAL, over, RED, row(Verdict.REGRESSED, of="c")], POLICY)
    assert not outcome.passed
    assert outcome.reasons == snapshot
    assert [verdict.case.test for verdict in outcome.verdicts] == ["b", "c", "z", "a"]


def test_headlines(snapshot):
    note = Note(code="incomparable", text="other CPU model")
    incomparable = [row(Verdict.INCOMPARABLE, of=str(number), note=note) for number in range(17)]
    equal = [row(Verdict.EQUIVALENT, of=f"x{number}") for number in range(3)]
    runs = {
        "no case": [],
        "equivalent": [EQUAL],
        "equivalent, regressed": [EQUAL, RED],
        "equivalent, not measured": [EQUAL, NOT_MEASURED],
        "improved": [row(Verdict.IMPROVED)],
        "slower within tolerance": [row(Verdict.SLOWER_WITHIN_TOLERANCE)],
        "suspected": [row(Verdict.SUSPECTED)],
        "no baseline, equivalent": [row(Verdict.NO_BASELINE), EQUAL],
        "17 incomparable, 3 equivalent": [*incomparable, *equal],
        "incomparable without a note": [row(Verdict.INCOMPARABLE)],
        "suspected with unchanged counters": [exactly(Verdict.SUSPECTED, SAME)],
        "suspected with counters of both kinds": [
            exactly(Verdict.SUSPECTED, SAME, of="a"),
            exactly(Verdict.SUSPECTED, SAME, of="b"),
            exactly(Verdict.SUSPECTED, FEWER, of="c"),
            EQUAL,
        ],
        "other hardware with unchanged counters": [
            judged(result(measurement=COUNTED), before=on_record(hardware=OTHER_HARDWARE), records=RECORDED)
        ],
    }
    headlines = {name: gate_session(verdicts, POLICY).headline for name, verdicts in runs.items()}
    headlines["19 of 20 never reported"] = gate_session([EQUAL], POLICY, selected=20).headline
    assert headlines == snapshot


def exactly(time, *counters_, of="a", budgets=()):
    """A case with this verdict on its time, and these on (counter, before, now)."""
    compared = row(time, of=of, budgets=budgets)
    exact = tuple(
        Comparison(
            metric=metric,
            verdict=verdict,
            evidence="exact",
            baseline=None if before is None else float(before),
            candidate=None if now is None else float(now),
        )
        for metric, verdict, before, now in counters_
    )
    return replace(compared, comparisons=compared.comparisons + exact)


SAME = ("operators", Verdict.EQUIVALENT, 10, 10)
FEWER = ("flops", Verdict.IMPROVED, 10, 9)
WITHIN = ("flops", Verdict.EQUIVALENT, 100, 104)
UNSETTLED = ("counters", Verdict.INCOMPARABLE, None, None)


def test_a_headline_says_where_the_work_is_unchanged():
    undecided = [Verdict.SUSPECTED, Verdict.INCONCLUSIVE, Verdict.INCOMPARABLE, Verdict.NO_BASELINE]
    found = [
        ((), False),
        ((SAME,), True),
        ((SAME, ("peak_memory_bytes", Verdict.EQUIVALENT, 5, 5)), True),
        ((SAME, FEWER), False),
        ((SAME, UNSETTLED), False),
        ((UNSETTLED,), False),
        ((SAME, WITHIN), False),
        ((("weight_bytes", Verdict.EQUIVALENT, 5, 5),), False),
    ]
    for verdict, (counted_, unchanged) in product(undecided, found):
        headline = gate_session([exactly(verdict, *counted_)], POLICY).headline
        assert ("exact counters unchanged" in headline) is unchanged, (verdict, counted_)
    for verdict in (Verdict.REGRESSED, Verdict.IMPROVED):
        plain, headline = (gate_session([exactly(verdict, *each)], POLICY).headline for each in ((), (SAME,)))
        assert headline == plain, verdict


def test_without_a_baseline_the_headline_claims_no_comparison():
    budget = BudgetCheck(budget=Budget(metric="p50_ms", limit=100), verdict=None)
    within, free, compared = (
        CaseVerdict(case=case(name), nodeid=name, verdict=found, failed=False, budgets=budgets)
        for name, found, budgets in (
            ("t.py::a", Verdict.NO_BASELINE, (budget,)),
            ("t.py::b", Verdict.NO_BASELINE, ()),
            ("t.py::c", Verdict.EQUIVALENT, ()),
        )
    )
    ending = "within their budgets; nothing was compared with an earlier run"
    assert gate_session([within, within], POLICY).headline == f"gate passed: 2 of 2 cases {ending}"
    assert gate_session([within, free], POLICY).headline == f"gate passed: 1 of 2 cases {ending}"
    # A case of a paired run without a base, or beside one that was compared, is counted as before.
    based = replace(within, against_base=True)
    assert "budgets" not in gate_session([based], POLICY).headline
    assert gate_session([within, compared], POLICY).headline == (
        "gate passed: 2 of 2 cases decided, 1 without a baseline"
    )


def test_a_headline_and_its_reasons_count_the_same_cases():
    """Those that do not fail the run are counted apart from those that do."""
    red, strict, warned = (
        CaseVerdict(case=case(f"t.py::{number}"), nodeid=f"t.py::{number}", verdict=verdict, failed=failed)
        for number, (verdict, failed) in enumerate(
            [(Verdict.REGRESSED, True), (Verdict.INCONCLUSIVE, True), (Verdict.REGRESSED, False)]
        )
    )
    accepted = replace(warned, notes=(Note(code="accepted", text="accepted: larger"),))
    result = gate_session([red, warned, warned, accepted, strict, replace(strict, failed=False)], POLICY)
    assert result.reasons == ("1 case regressed", "1 case inconclusive")
    assert result.headline.partition("decided, ")[2].split(", ") == [
        "2 regressed (not failing the run)",
        "1 regressed",
        "1 regressed (accepted)",
        "1 inconclusive",
        "1 inconclusive (not failing the run)",
    ]


def test_a_gate_that_measured_nothing_is_never_green(snapshot):
    reasons = []
    for verdicts, selected, passed in [
        ([], None, True),
        ([], 0, True),
        ([], 3, False),
        ([NOT_MEASURED], None, False),
        # The user's own skips took all of them away.
        ([NOT_MEASURED], 0, True),
        # A tracer makes every case invalid.
        ([INVALID, NOT_MEASURED], None, False),
        ([INVALID, EQUAL], None, True),
        ([row(Verdict.INFEASIBLE)], None, True),
        ([EQUAL], 1, True),
        ([EQUAL], 20, False),
    ]:
        run = ([verdict.verdict.value for verdict in verdicts], selected)
        outcome = gate_session(verdicts, POLICY, selected=selected)
        assert outcome.passed is passed, run
        assert gate_session(verdicts, SAVING, selected=selected).reasons == outcome.reasons, run
        reasons.append(outcome.reasons)
    assert reasons == snapshot


def test_an_interrupted_run_says_so_first_and_faults_no_case_that_it_did_not_reach(snapshot):
    shown = {}
    for verdicts, selected in [([], 0), ([], 3), ([NOT_MEASURED], 3), ([EQUAL], 3), ([RED, EQUAL], 3)]:
        for policy in (POLICY, Policy(min_decided=1.0)):
            outcome = gate_session(verdicts, policy, selected=selected, interrupted=True)
            assert not outcome.passed
            run = f"{[verdict.verdict.value for verdict in verdicts]} of {selected}"
            assert shown.setdefault(run, (outcome.headline, *outcome.reasons))[1:] == outcome.reasons
    assert shown == snapshot


def test_a_gate_that_only_warns_needs_no_measurement():
    for mode in [GateMode.WARN, GateMode.OFF]:
        assert gate_session([NOT_MEASURED], Policy(gate=mode, min_decided=1.0), selected=5).passed, mode


def test_a_share_of_cases_must_be_decided(snapshot):
    half = [EQUAL, row(Verdict.INCOMPARABLE, of="b")]
    for share, passed in [(None, True), (0.5, True), (0.501, False), (0.8, False)]:
        assert gate_session(half, Policy(min_decided=share)).passed is passed, share
    assert [gate_session(half, Policy(min_decided=share)).reasons for share in (0.501, 0.8)] == snapshot


def test_nothing_selected_needs_no_share():
    assert gate_session([], Policy(min_decided=0.8)).passed


KEPT = BudgetCheck(budget=Budget(metric="p50_ms", limit=5), verdict=None, value=Estimate(value=4))
OVER = BudgetCheck(
    budget=Budget(metric="p50_ms", limit=5), verdict=Verdict.OVER_BUDGET, value=Estimate(value=6)
)
UNCHECKED = BudgetCheck(
    budget=Budget(metric="p99_ms", limit=5),
    verdict=Verdict.OVER_BUDGET,
    note=Note(code="budget-not-decided", text="needs 459 calls"),
)
OPEN = BudgetCheck(budget=Budget(metric="p50_ms", limit=5), verdict=Verdict.INCONCLUSIVE)


def test_decided():
    for verdict, settled in [
        (row(Verdict.EQUIVALENT), True),
        (row(Verdict.IMPROVED), True),
        (row(Verdict.SLOWER_WITHIN_TOLERANCE), True),
        (row(Verdict.REGRESSED), True),
        (row(Verdict.MISMATCH), True),
        (row(Verdict.SUSPECTED), False),
        (row(Verdict.INCONCLUSIVE), False),
        (row(Verdict.INCOMPARABLE), False),
        (row(Verdict.NO_BASELINE), False),
        (row(Verdict.INVALID), False),
        (row(Verdict.INFEASIBLE), False),
        (row(Verdict.NOT_MEASURED), False),
        (row(Verdict.NO_BASELINE, budgets=(KEPT,)), True),
        # What stands on record leaves it open, whatever the budgets say.
        (row(Verdict.INCONCLUSIVE, budgets=(KEPT,)), False),
        (row(Verdict.INCOMPARABLE, budgets=(KEPT,)), False),
        (row(Verdict.OVER_BUDGET, budgets=(OVER,)), True),
        (row(Verdict.NO_BASELINE, budgets=(OPEN,)), False),
        (row(Verdict.OVER_BUDGET, budgets=(UNCHECKED,)), False),
        (row(Verdict.OVER_BUDGET, budgets=(UNCHECKED, KEPT)), False),
        (row(Verdict.OVER_BUDGET, budgets=(UNCHECKED, OVER)), True),
    ]:
        assert is_decided(verdict) is settled, (verdict, settled)


def test_a_case_infeasible_where_it_once_ran_is_decided():
    assert is_decided(judged(result(Outcome.INFEASIBLE), before=on_record()))


def test_a_run_that_saves_blames_the_budget_not_the_regression(snapshot):
    of = result(measurement=measurement(0.050), budgets=(Budget(metric="p50_ms", limit=5),))
    verdict = judged(of, before=on_record(), policy=SAVING)
    assert verdict.comparisons[0].verdict is Verdict.REGRESSED
    assert verdict.verdict is Verdict.OVER_BUDGET
    assert gate_session([verdict], SAVING).reasons == snapshot


def test_a_run_that_saves_says_that_it_accepts_a_regression():
    accepted = gate_session([EQUAL, row(Verdict.REGRESSED, of="b", failed=False)], SAVING)
    assert accepted.recording
    assert accepted.headline.endswith("1 regressed (a run that records a baseline accepts regressions)")
    assert "accepts" not in gate_session([EQUAL], SAVING).headline
    warned = gate_session([EQUAL, row(Verdict.REGRESSED, of="b", failed=False)], Policy(gate=GateMode.WARN))
    assert "accepts" not in warned.headline


def test_new_and_missing_cases_are_listed():
    old = [case("t.py::old")]
    outcome = gate_session([row(Verdict.NO_BASELINE, of="u.py::new")], POLICY, known=old, expected=old)
    assert outcome.new == (case("u.py::new"),)
    assert outcome.missing == (case("t.py::old"),)
    assert outcome.renamed == ()
    assert outcome.passed


def test_a_missing_case_fails_only_a_strict_run(snapshot):
    arguments = {"known": [case("old")], "expected": [case("old")]}
    strict = gate_session([EQUAL], STRICT, **arguments)
    assert not strict.passed
    assert strict.reasons == snapshot
    assert gate_session([EQUAL], POLICY, **arguments).passed
    assert gate_session([EQUAL], Policy(strict=True, saving=True), **arguments).passed
    assert gate_session([EQUAL], Policy(strict=True, gate=GateMode.WARN), **arguments).passed


def test_a_case_that_was_met_is_neither_new_nor_missing():
    known = [NOT_MEASURED.case, EQUAL.case]
    outcome = gate_session([NOT_MEASURED, EQUAL], POLICY, known=iter(known), expected=known)
    assert (outcome.new, outcome.missing) == ((), ())


def test_a_skipped_case_is_not_new():
    assert gate_session([NOT_MEASURED], POLICY).new == ()


def test_new_cases_of_mixed_axes_are_sorted():
    # Some axes hold None beside text or numbers, which do not compare.
    axes = [{}, {"dtype": "bfloat16"}, {"threads": 2}, {"dtype": "bfloat16", "threads": 1}]
    outcome = gate_session(
        [row(Verdict.NO_BASELINE, axes=each) for each in axes],
        POLICY,
        expected=[case("z", dtype="x"), case("z")],
    )
    assert len(outcome.new) == 4
    assert len(outcome.missing) == 2


def test_renamed_cases_are_paired():
    for old, new, pairs in [
        (["a.py::x"], ["b.py::x"], [("a.py::x", "b.py::x")]),
        (["a.py::x"], ["a.py::y"], [("a.py::x", "a.py::y")]),
        (["a.py::x"], ["b.py::y"], []),
        # Two candidates: none stands out.
        (["a.py::x"], ["a.py::y", "a.py::z"], []),
        (["a.py::x", "a.py::y"], ["a.py::z"], []),
        # The same name elsewhere is the stronger sign.
        (["a.py::x"], ["a.py::y", "b.py::x"], [("a.py::x", "b.py::x")]),
        (["a.py::w", "a.py::x"], ["b.py::x", "a.py::v"], [("a.py::w", "a.py::v"), ("a.py::x", "b.py::x")]),
        (["a.py::x", "b.py::y"], ["a.py::y"], [("b.py::y", "a.py::y")]),
    ]:
        outcome = gate_session(
            [row(Verdict.NO_BASELINE, of=test) for test in new], POLICY, expected=map(case, old)
        )
        assert [(before.test, after.test) for before, after in outcome.renamed] == pairs, (old, new, pairs)


def test_a_rename_keeps_every_axis():
    renamed = [row(Verdict.NO_BASELINE, of="a.py::y", axes={"batch_size": size}) for size in (1, 8)]
    outcome = gate_session(
        renamed, POLICY, expected=[case("a.py::x", batch_size=8), case("a.py::x", batch_size=2)]
    )
    assert outcome.renamed == ((case("a.py::x", batch_size=8), case("a.py::y", batch_size=8)),)


def test_deselected_tests_are_carried():
    note = Note(code="deselected", text="no device")
    assert gate_session([EQUAL], POLICY, deselected=(note,)).deselected == (note,)


# Counters without times


def counted_only(counters=COUNTED.counters, **fields):
    return result(measurement=Measurement(counters=counters, threads=COUNTED.threads), **fields)


def test_without_times_the_counters_decide():
    equal = judged(counted_only(), records=RECORDED)
    assert (equal.verdict, equal.failed, is_decided(equal)) == (Verdict.EQUIVALENT, False, True)
    assert rows(equal) == NOTHING_MOVED
    bigger = judged(counted_only(BIGGER), records=RECORDED)
    assert (bigger.verdict, bigger.failed) == (Verdict.REGRESSED, True)


def test_without_times_the_baselines_do_not_matter():
    assert rows(judged(counted_only(), before=on_record(), records=RECORDED)) == NOTHING_MOVED


def test_without_times_a_counter_that_is_new_leaves_the_others_decided():
    more = replace(COUNTED.counters, totals={**COUNTED.counters.totals, "allocations": 3})
    found = judged(counted_only(more), records=RECORDED)
    assert (found.verdict, is_decided(found)) == (Verdict.EQUIVALENT, True)
    nothing = judged(counted_only(more))
    assert (nothing.verdict, is_decided(nothing)) == (Verdict.NO_BASELINE, False)


def test_without_times_a_counter_of_another_machine_leaves_the_case_undecided():
    other = replace(COUNTED.counters, architecture="AVX512")
    found = judged(counted_only(other), records=RECORDED)
    assert (found.verdict, found.failed, is_decided(found)) == (Verdict.INCOMPARABLE, False, False)
    assert rows(found)["flops"] is Verdict.EQUIVALENT


def test_without_times_only_budgets_of_times_are_not_checked():
    limits = {"p95_ms": 1e-9, "cold_start_ms": 1e-9, "operators": 10, "throughput_per_s": 1e9}
    budgets = tuple(Budget(metric=name, limit=limit) for name, limit in limits.items())
    found = judged(counted_only(budgets=budgets), records=RECORDED, policy=STRICT)
    assert [check.budget.metric for check in found.budgets] == ["operators"]
    (note,) = found.notes
    assert (found.failed, note.code) == (False, "not-timed")
    assert all(name in note.text for name in limits.keys() - {"operators"})
    over = judged(counted_only(budgets=(Budget(metric="operators", limit=9),)), records=RECORDED)
    assert (over.verdict, over.failed, over.notes) == (Verdict.OVER_BUDGET, True, ())


def test_without_times_and_gated_counters_nothing_is_decided():
    found = judged(counted_only(tolerance={"counters": None, "memory": None}), records=RECORDED)
    assert (found.verdict, is_decided(found)) == (Verdict.NO_BASELINE, False)

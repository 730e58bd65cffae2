"""One case of a paired run judged: its time, the counters of both sides, and what they computed."""

from itertools import product

import pytest
from core_values import ENVIRONMENT, HARDWARE, case, counted, measurement, result

from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.outcome import Budget, Comparison, GateMode, Outcome, Policy, Verdict
from pytest_infergate.core.domain.values import Environment, Note
from pytest_infergate.core.gate import counter_changes, decide
from pytest_infergate.core.gate.decide import judge_paired

POLICY = Policy()
STRICT = Policy(strict=True)
WARN = Policy(gate=GateMode.WARN)
OFF = Policy(gate=GateMode.OFF)
MISMATCH = Note(code="mismatch", text="the output: 3 of 8 values differ")
ACCEPTED = Note(code="accepted", text="accepted by a commit: exact results")
REASON = Note(code="why", text="there is a reason", hint="do something")
FIGURES = {"flops": 1000, "operators": 10, "peak_memory_bytes": 50_000_000}

TIMED = [
    Verdict.REGRESSED,
    Verdict.SUSPECTED,
    Verdict.INCONCLUSIVE,
    Verdict.SLOWER_WITHIN_TOLERANCE,
    Verdict.IMPROVED,
    Verdict.EQUIVALENT,
]


def timed(verdict=Verdict.EQUIVALENT, **fields):
    return Comparison(metric="p50", verdict=verdict, evidence="paired", **fields)


def side(outcome=Outcome.MEASURED, *, notes=(), torch_counters=True, **fields):
    figures = {**FIGURES, **{name: fields.pop(name) for name in FIGURES if name in fields}}
    if outcome is Outcome.MEASURED and "measurement" not in fields:
        kept = {"counters": counted(**figures)} if torch_counters else {}
        fields["measurement"] = measurement(notes=notes, **kept)
    return result(outcome, **fields)


def judged(candidate=None, base=None, time=None, policy=POLICY, environment=ENVIRONMENT, **notes):
    return judge_paired(candidate or side(), base or side(), time or timed(), policy, environment, **notes)


def rows(verdict):
    return {row.metric: row.verdict for row in verdict.comparisons}


SAME = dict.fromkeys(FIGURES, Verdict.EQUIVALENT)


# Runtimes


def test_counters_of_different_runtimes_are_not_compared_and_rows_name_that_of_the_base():
    more = side(operators=99, of=case(runtime="compile"))
    found = judged(more, side(), timed(Verdict.IMPROVED), mismatch=MISMATCH)
    assert rows(found) == {"p50": Verdict.IMPROVED, "outputs": Verdict.MISMATCH}
    assert {row.base_runtime for row in found.comparisons} == {"eager"}
    same = judged(more, side(of=case(runtime="compile")))
    assert rows(same)["operators"] is Verdict.REGRESSED
    assert {row.base_runtime for row in same.comparisons} == {None}


def test_a_model_that_only_the_base_can_execute_is_infeasible():
    lost = side(Outcome.INFEASIBLE, of=case(runtime="compile"), reason=REASON)
    assert judged(lost, side()).verdict is Verdict.INFEASIBLE
    assert judged(lost, side(of=case(runtime="compile"))).verdict is Verdict.REGRESSED


# Time


def test_the_time_decides_where_nothing_else_moved():
    for verdict in TIMED:
        found = judged(time=timed(verdict))
        assert found.verdict is verdict, verdict
        assert found.failed is (verdict is Verdict.REGRESSED), verdict
        assert rows(found) == {"p50": verdict, **SAME}, verdict
        assert found.case == case(), verdict
        assert found.nodeid == case().name, verdict


def test_every_verdict_under_every_policy():
    for verdict, policy in list(product([*TIMED, Verdict.NO_BASELINE], [POLICY, STRICT, WARN, OFF])):
        found = judged(side(torch_counters=False), side(torch_counters=False), timed(verdict), policy)
        assert found.verdict is verdict, (verdict, policy)
        assert found.failed is decide.fails(verdict, policy), (verdict, policy)


def test_the_time_is_the_first_row_and_stays_as_it_is():
    row = timed(Verdict.REGRESSED, baseline=0.01, candidate=0.02, effect=1.0, sessions=5, note=REASON)
    assert judged(time=row).comparisons[0] is row


# Counters


def test_one_operation_more_fails_though_the_time_is_the_same():
    found = judged(side(flops=1001))
    assert rows(found) == {"p50": Verdict.EQUIVALENT, **SAME, "flops": Verdict.REGRESSED}
    assert found.verdict is Verdict.REGRESSED
    assert found.failed
    row = next(row for row in found.comparisons if row.metric == "flops")
    assert (row.evidence, row.baseline, row.candidate) == ("exact", 1000, 1001)


def test_more_memory_fails_beyond_its_tolerance():
    assert judged(side(peak_memory_bytes=60_000_000)).failed
    assert not judged(side(peak_memory_bytes=60_000_000), policy=Policy(memory_tolerance=0.5)).failed


def test_less_work_is_no_advice_to_record():
    found = judged(side(flops=900))
    row = next(row for row in found.comparisons if row.metric == "flops")
    assert (row.verdict, row.note) == (Verdict.IMPROVED, None)
    assert found.verdict is Verdict.IMPROVED
    assert not found.failed


def test_the_marker_of_the_candidate_sets_the_tolerance_of_counters():
    more = {"flops": 1100, "peak_memory_bytes": 60_000_000}
    assert judged(side(**more)).failed
    assert not judged(side(**more, tolerance={"counters": 0.1, "memory": 0.2})).failed
    assert not judged(side(**more, tolerance={"flops": 0.1, "memory": 0.2})).failed
    assert judged(side(**more, tolerance={"flops": 0.09, "memory": 0.2})).failed
    assert judged(side(**more), side(tolerance={"counters": 0.1, "memory": 0.2})).failed


def test_the_marker_can_leave_counters_out():
    lenient = {"counters": None, "memory": None}
    assert rows(judged(side(flops=9000, tolerance=lenient))) == {"p50": Verdict.EQUIVALENT}


def test_counters_that_the_base_lacks_take_nothing_from_the_time():
    found = judged(base=side(measurement=measurement()))
    assert found.verdict is Verdict.EQUIVALENT
    assert not found.failed
    assert rows(found)["counters"] is Verdict.NO_BASELINE


def test_counters_that_the_candidate_lacks_take_nothing_from_the_time():
    found = judged(side(measurement=measurement()))
    assert found.verdict is Verdict.EQUIVALENT
    assert rows(found)["counters"] is Verdict.INCOMPARABLE
    assert judged(side(measurement=measurement()), policy=STRICT).failed


def test_without_torch_counters_compare_all_the_same():
    assert judged(side(flops=1001), environment=Environment()).verdict is Verdict.REGRESSED
    assert rows(judged(environment=Environment())) == {"p50": Verdict.EQUIVALENT, **SAME}


# A base that measured nothing


def test_a_case_that_the_base_did_not_measure():
    for outcome in [Outcome.FAILED, Outcome.SKIPPED, Outcome.INVALID, Outcome.INFEASIBLE]:
        found = judged(base=side(outcome), time=timed(Verdict.NO_BASELINE, note=REASON))
        assert rows(found) == {"p50": Verdict.NO_BASELINE}, outcome
        assert found.verdict is Verdict.NO_BASELINE, outcome
        assert not found.failed, outcome
        assert judged(base=side(outcome), time=timed(Verdict.NO_BASELINE), policy=STRICT).failed, outcome


# Outputs


def test_a_mismatch_fails_whatever_the_time():
    for time in TIMED:
        found = judged(time=timed(time), mismatch=MISMATCH)
        assert found.failed, time
        assert found.verdict is (Verdict.REGRESSED if time is Verdict.REGRESSED else Verdict.MISMATCH), time
        row = found.comparisons[-1]
        assert (row.metric, row.verdict, row.evidence, row.note) == (
            "outputs",
            Verdict.MISMATCH,
            "parity",
            MISMATCH,
        ), time


def test_a_mismatch_fails_a_run_that_saves():
    saving = Policy(saving=True)
    assert not judged(time=timed(Verdict.REGRESSED), policy=saving).failed
    found = judged(time=timed(Verdict.REGRESSED), policy=saving, mismatch=MISMATCH)
    assert found.failed
    assert found.verdict is Verdict.MISMATCH


def test_outputs_that_agree_have_no_row():
    assert "outputs" not in rows(judged())


# A candidate that measured nothing


def test_a_candidate_without_a_measurement():
    for outcome, verdict, failed, strictly in [
        (Outcome.INVALID, Verdict.INVALID, False, True),
        (Outcome.SKIPPED, Verdict.NOT_MEASURED, False, True),
        (Outcome.FAILED, Verdict.NOT_MEASURED, True, True),
    ]:
        candidate = side(outcome, reason=REASON)
        found = judged(candidate, time=timed(Verdict.REGRESSED), mismatch=MISMATCH)
        assert (found.verdict, found.failed, found.comparisons, found.notes) == (
            verdict,
            failed,
            (),
            (REASON,),
        ), (outcome, verdict, failed, strictly)
        assert judged(candidate, policy=STRICT).failed is strictly, (outcome, verdict, failed, strictly)


def test_a_candidate_without_a_reason_has_no_note():
    assert judged(side(Outcome.SKIPPED)).notes == ()


def test_a_case_that_fits_no_more_is_a_regression():
    found = judged(side(Outcome.INFEASIBLE, reason=REASON))
    assert (found.verdict, found.failed, found.notes) == (Verdict.REGRESSED, True, (REASON,))
    assert found.comparisons == ()


def test_a_case_that_never_fitted_is_none():
    for outcome in [Outcome.INFEASIBLE, Outcome.SKIPPED, Outcome.FAILED, Outcome.INVALID]:
        found = judged(side(Outcome.INFEASIBLE, reason=REASON), side(outcome))
        assert (found.verdict, found.failed, found.notes) == (Verdict.INFEASIBLE, False, (REASON,)), outcome
        assert judged(side(Outcome.INFEASIBLE), side(outcome), policy=STRICT).failed, outcome


def test_a_base_that_measured_nothing_in_the_end_did_not_fit():
    found = judged(side(Outcome.INFEASIBLE), side(measurement=None))
    assert found.verdict is Verdict.INFEASIBLE


def test_a_test_that_failed_fails_under_any_policy():
    for policy in [WARN, OFF, POLICY]:
        assert judged(side(Outcome.FAILED), policy=policy).failed, policy
        assert judged(side(Outcome.FAILED), policy=policy, accepted=ACCEPTED).failed, policy


# Accepted by a commit


FAILURES = {
    "time": {"time": timed(Verdict.REGRESSED)},
    "counters": {"candidate": side(flops=1001)},
    "outputs": {"mismatch": MISMATCH},
    "infeasible": {"candidate": side(Outcome.INFEASIBLE)},
    "strict": {"time": timed(Verdict.INCONCLUSIVE), "policy": STRICT},
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_accepted_forgives_and_says_so(failure):
    before, after = judged(**failure), judged(**failure, accepted=ACCEPTED)
    assert before.failed
    assert not after.failed
    assert after.verdict is before.verdict
    assert after.notes == (*before.notes, ACCEPTED)
    assert after.comparisons == before.comparisons


def test_accepted_is_not_mentioned_where_nothing_failed():
    for verdict in [verdict for verdict in TIMED if verdict is not Verdict.REGRESSED]:
        found = judged(time=timed(verdict), accepted=ACCEPTED)
        assert found == judged(time=timed(verdict)), verdict
        assert ACCEPTED not in found.notes, verdict


def test_accepted_is_not_mentioned_where_nothing_can_fail():
    for policy in [WARN, OFF]:
        found = judged(time=timed(Verdict.REGRESSED), policy=policy, accepted=ACCEPTED)
        assert (found.verdict, found.failed, found.notes) == (Verdict.REGRESSED, False, ()), policy


def test_accepted_comes_after_the_notes_of_the_measurement():
    found = judged(side(notes=(REASON,)), time=timed(Verdict.REGRESSED), accepted=ACCEPTED)
    assert found.notes == (REASON, ACCEPTED)
    assert judged(side(notes=(REASON,))).notes == (REASON,)


def test_notes_of_the_base_are_its_own():
    assert judged(base=side(notes=(REASON,))).notes == ()


# Gate and budgets


def test_the_marker_wins_over_the_policy():
    for mode in list(GateMode):
        for policy in (POLICY, WARN, OFF):
            found = judged(side(gate=mode), time=timed(Verdict.REGRESSED), policy=policy)
            assert found.failed is (mode is GateMode.FAIL), mode
            assert found.verdict is Verdict.REGRESSED, mode


def test_the_gate_of_the_base_does_not_count():
    assert judged(base=side(gate=GateMode.OFF), time=timed(Verdict.REGRESSED)).failed


def test_no_budget_is_held_against_a_paired_worker():
    strict = (Budget(metric="p95_ms", limit=1e-6), Budget(metric="peak_memory_mb", limit=1e-6))
    found = judged(side(budgets=strict))
    assert (found.verdict, found.failed, found.budgets) == (Verdict.EQUIVALENT, False, ())
    assert (
        judged(side(Outcome.INFEASIBLE, budgets=strict), side(Outcome.SKIPPED)).verdict is Verdict.INFEASIBLE
    )


def test_another_machine_is_no_matter_to_a_paired_time():
    found = judged(side(hardware=HARDWARE), side(hardware=None))
    assert rows(found) == {"p50": Verdict.EQUIVALENT, **SAME}


# Counters without times


def counted_side(**figures):
    return result(measurement=Measurement(counters=counted(**{**FIGURES, **figures})))


def test_without_times_the_counters_of_both_sides_decide():
    for candidate, verdict in [
        (counted_side(), Verdict.EQUIVALENT),
        (counted_side(operators=11), Verdict.REGRESSED),
    ]:
        found = judge_paired(candidate, counted_side(), None, POLICY, ENVIRONMENT)
        assert (found.verdict, found.against_base) == (verdict, True)
        assert "p50" not in rows(found)


def test_without_times_outputs_are_compared():
    found = judge_paired(counted_side(), counted_side(), None, POLICY, ENVIRONMENT, mismatch=REASON)
    assert (found.verdict, found.failed) == (Verdict.MISMATCH, True)


def test_without_times_a_change_can_be_accepted():
    found = judge_paired(
        counted_side(operators=11), counted_side(), None, POLICY, ENVIRONMENT, accepted=REASON
    )
    assert (found.verdict, found.failed) == (Verdict.REGRESSED, False)


def test_without_times_and_base_there_is_nothing_to_compare_with():
    new = counter_changes.not_recorded(REASON)
    base = result(measurement=None)
    found = judge_paired(counted_side(), base, new, POLICY, ENVIRONMENT)
    assert (found.verdict, found.failed) == (Verdict.NO_BASELINE, False)

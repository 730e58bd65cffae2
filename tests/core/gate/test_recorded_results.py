"""Results files decided against earlier ones: the verdicts of a run against a baseline of the same sessions."""

import msgspec
import pytest
from core_values import case, counted, day, measurement, result

from pytest_infergate.core.domain.outcome import Against, Policy, Session, Verdict
from pytest_infergate.core.domain.values import Environment
from pytest_infergate.core.gate import decide
from pytest_infergate.core.gate.baseline import baselines_from_results, merge_baselines
from pytest_infergate.core.gate.recorded_results import decide_against

ENVIRONMENT = Environment(packages={"torch": "2.13.0"})


FIRST = day(1)


def session(*results, created=FIRST, **fields):
    gate = decide.gate_session((), Policy())
    known = {"tool_version": "1", "environment": ENVIRONMENT, "gate": gate}
    return Session(created=created, cases=results, **{**known, **fields})


def timed(p50, **totals):
    return result(measurement=measurement(p50, counters=counted(**totals)))


def only(decided):
    (verdict,) = decided.gate.verdicts
    return verdict


@pytest.mark.parametrize("p50", [0.008, 0.0101, 0.013, 0.02, 0.05])
def test_the_comparison_is_that_of_a_run_against_a_baseline(p50):
    earlier = [session(timed(0.01 + number / 1e5), created=day(number)) for number in range(1, 8)]
    baseline = None
    for one in earlier:
        (recorded,) = baselines_from_results(one.cases, one.created, {}).values()
        baseline = merge_baselines(baseline, recorded)
    candidate = timed(p50)
    expected = decide.judge(candidate, {baseline.hardware.id: baseline}, Policy(), ENVIRONMENT)
    found = only(decide_against(earlier, session(candidate, created=day(9)), Policy()))
    assert found.comparisons[0] == expected.comparisons[0]


def test_more_work_fails_without_a_time_that_decides():
    decided = decide_against(
        [session(timed(0.01, operators=10))], session(timed(0.01, operators=11)), Policy()
    )
    assert only(decided).verdict is Verdict.REGRESSED
    assert not decided.gate.passed


def test_cases_of_one_side_are_new_or_missing():
    old, new = result(of=case("a.py::test_old")), result(of=case("b.py::test_new"))
    gate = decide_against([session(old)], session(new), Policy()).gate
    assert (gate.missing, gate.new) == ((old.case,), (new.case,))
    assert gate.nothing_decided


def test_counters_of_the_latest_session_count_in_any_order():
    first, last = session(timed(0.01, operators=9)), session(timed(0.01, operators=10), created=day(2))
    candidate = session(timed(0.01, operators=10), created=day(3))
    for recorded in ([first, last], [last, first]):
        assert decide_against(recorded, candidate, Policy()).gate.passed


def test_times_of_a_paired_run_are_refused():
    paired = session(timed(0.01), against=Against(revision="main"))
    for sides in (([paired], session(timed(0.01))), ([session(timed(0.01))], paired)):
        with pytest.raises(ValueError, match="paired run"):
            decide_against(*sides, Policy())
    counters = msgspec.structs.replace(paired, against=Against(revision="main", counters_only=True))
    assert decide_against([session(timed(0.01))], counters, Policy()).against is None

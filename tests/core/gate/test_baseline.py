from core_values import (
    HARDWARE,
    OTHER_HARDWARE,
    REFERENCE_WORK,
    baseline,
    case,
    day,
    measurement,
    point,
    refusal,
    result,
)
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.domain.outcome import Outcome
from pytest_infergate.core.domain.records import Baseline, BaselineCase
from pytest_infergate.core.gate.baseline import SESSIONS_KEPT, baselines_from_results, merge_baselines

PACKAGES = {"torch": "2.13.0"}


def test_a_session_becomes_one_baseline_a_hardware_class():
    here, there = result(of=case("a")), result(of=case("b"), hardware=OTHER_HARDWARE)
    made = baselines_from_results([here, there], day(1), PACKAGES)
    assert set(made) == {HARDWARE.id, OTHER_HARDWARE.id}
    assert made[HARDWARE.id] == Baseline(
        hardware=HARDWARE,
        cases=(BaselineCase(case=case("a"), sessions=(point(0.010, day(1)),)),),
        packages={day(1): PACKAGES},
    )


def test_only_measured_cases_are_recorded():
    for outcome in [Outcome.INVALID, Outcome.INFEASIBLE, Outcome.FAILED, Outcome.SKIPPED]:
        assert baselines_from_results([result(outcome)], day(1), PACKAGES) == {}, outcome
        assert baselines_from_results([result(outcome, measurement=measurement())], day(1), PACKAGES) == {}, (
            outcome
        )


def test_a_case_without_hardware_or_measurement_is_left_out():
    assert baselines_from_results([result(hardware=None), result(measurement=None)], day(1), PACKAGES) == {}


def test_times_that_cannot_be_compared_are_left_out():
    for median in [0.0, float("nan"), float("inf")]:
        measured = measurement(reference_work={**REFERENCE_WORK, "gemm": median})
        broken = result(of=case("b"), measurement=measurement(median, throughput=1.0))
        (made,) = baselines_from_results([result(measurement=measured), broken], day(1), PACKAGES).values()
        assert [entry.case for entry in made.cases] == [case()], median
        assert set(made.cases[0].sessions[0].reference_work) == {"copy", "dispatch"}, median


def test_figures_keep_five_significant_digits():
    measured = measurement(0.0123456789, reference_work={"gemm": 0.000987654321})
    (made,) = baselines_from_results([result(measurement=measured)], day(1), PACKAGES).values()
    (kept,) = made.cases[0].sessions
    assert (kept.p50, kept.reference_work) == (0.012346, {"gemm": 0.00098765})


def test_merge_with_nothing_is_the_session():
    assert merge_baselines(None, baseline()) == baseline()


def test_merge_refuses_another_class():
    assert "other-cpu" in refusal(merge_baselines, baseline(), baseline(hardware=OTHER_HARDWARE))


def test_merge_keeps_the_last_sessions_of_each_case():
    joined = None
    for number in range(1, SESSIONS_KEPT + 3):
        joined = merge_baselines(joined, baseline(point(created=day(number)), of=case("a")))
    joined = merge_baselines(joined, baseline(point(created=day(1)), of=case("b")))
    assert [each.created for each in joined.history(case("a"))] == [
        day(number) for number in range(3, SESSIONS_KEPT + 3)
    ]
    assert [each.created for each in joined.history(case("b"))] == [day(1)]
    assert list(joined.packages) == [day(1), *(day(number) for number in range(3, SESSIONS_KEPT + 3))]


def test_merge_keeps_cases_that_the_session_did_not_measure():
    joined = merge_baselines(baseline(of=case("b")), baseline(of=case("a")))
    assert [entry.case for entry in joined.cases] == [case("a"), case("b")]


def test_a_session_recorded_twice_is_one():
    assert merge_baselines(baseline(), baseline()) == baseline()


def test_two_records_of_one_session_are_settled_the_same_in_any_order():
    one, other = baseline(point(0.010, count=100)), baseline(point(0.020, count=200))
    assert merge_baselines(one, other) == merge_baselines(other, one) == other


def test_cases_that_read_alike_are_kept_apart_and_in_order():
    parameter, batch = case(params="b8"), case(batch_size=8)
    assert parameter.name == batch.name
    assert merge_baselines(baseline(of=parameter), baseline(of=batch)) == merge_baselines(
        baseline(of=batch), baseline(of=parameter)
    )


POINTS = [
    point(p50, day(number), count=count, reference_work=reference_work)
    for number in range(1, 16)
    for p50, count, reference_work in [
        (0.010, 5, {}),
        (0.011, 5, {}),
        (0.010, 5, REFERENCE_WORK),
        (0.010, 6, {}),
    ]
]
CASES = [case("a"), case("b"), case("a", params="b8"), case("a", batch_size=8)]
VERSIONS = [{"torch": "2.12.0"}, {"torch": "2.13.0"}]


@st.composite
def baselines(draw):
    """Up to two cases with up to 15 points each, several of which may be of one session."""
    entries = [
        BaselineCase(case=of, sessions=tuple(draw(st.lists(st.sampled_from(POINTS), max_size=15))))
        for of in draw(st.lists(st.sampled_from(CASES), max_size=2, unique=True))
    ]
    named = sorted({each.created for entry in entries for each in entry.sessions})
    versions = draw(st.sampled_from(VERSIONS))
    return Baseline(hardware=HARDWARE, cases=tuple(entries), packages=dict.fromkeys(named, versions))


@given(baselines(), baselines())
def test_merge_is_order_free(one, other):
    assert merge_baselines(one, other) == merge_baselines(other, one)


@given(baselines())
def test_merge_is_idempotent(one):
    once = merge_baselines(None, one)
    assert merge_baselines(once, once) == once
    assert merge_baselines(once, one) == once


@given(baselines(), baselines(), baselines())
def test_merge_is_associative(one, two, three):
    left = merge_baselines(merge_baselines(one, two), three)
    right = merge_baselines(one, merge_baselines(two, three))
    assert left.cases == right.cases
    assert left.hardware == right.hardware


@given(st.lists(baselines(), min_size=1, max_size=4), st.randoms())
def test_versions_of_kept_sessions_are_known(many, random):
    joined = None
    for each in random.sample(many, len(many)):
        joined = merge_baselines(joined, each)
    named = {each.created for entry in joined.cases for each in entry.sessions}
    assert set(joined.packages) == named
    assert list(joined.packages) == sorted(named)

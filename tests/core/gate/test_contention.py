"""CPU contention and corrections: what is decided, and what is not, on a busy machine."""

import math

import msgspec
import pytest
from core_values import (
    ENVIRONMENT,
    REFERENCE_WORK,
    baseline,
    case,
    day,
    exact,
    latency,
    measurement,
    point,
    result,
)
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_infergate.core.domain.measurement import Contention, Stream
from pytest_infergate.core.domain.notes import KEEP_MEMORY
from pytest_infergate.core.domain.outcome import Budget, Policy, Verdict
from pytest_infergate.core.gate import budgets, contention
from pytest_infergate.core.gate.baseline import baselines_from_results, disturbed_results
from pytest_infergate.core.gate.decide import gate_session, judge, merge_gate_results
from pytest_infergate.core.gate.stored_times import MAX_CORRECTION, compare_time

# One session in the baseline, uncorrected: prior of 20 %, the strict and the loose level, and the tolerance.
STRICT = 3.0545395893929013 * 0.20 * math.sqrt(2)
LOOSE = 1.782287555649319 * 0.20 * math.sqrt(2)
LIMIT = math.log(1.25)
SEVERITY = [
    Verdict.IMPROVED,
    Verdict.EQUIVALENT,
    Verdict.INCONCLUSIVE,
    Verdict.SLOWER_WITHIN_TOLERANCE,
    Verdict.SUSPECTED,
    Verdict.REGRESSED,
]


def speed(factor):
    """Reference times of a machine that is slower by a factor."""
    return {name: factor * value for name, value in REFERENCE_WORK.items()}


def disturbed(p50=0.010, share=0.9, number=1):
    return point(p50, day(number), contended=True, contention=share)


def compare(history, p50, share=None, tolerance=0.25, **fields):
    return compare_time(history, measurement(p50, contention=share, **fields), tolerance)


@pytest.mark.parametrize(
    ("share", "factor"), [(-0.5, 1), (None, 1), (0.0, 1), (0.25, 4 / 3), (0.5, 2), (0.9, 10)]
)
def test_what_a_share_explains(share, factor):
    assert contention.explained(share) == pytest.approx(factor)


def test_a_share_of_all_explains_a_finite_factor():
    assert contention.explained(1.0) == contention.explained(2.0) == pytest.approx(1000)


def test_the_whole_factor_beyond_which_a_time_is_red():
    far = 4 * 2 * math.exp(STRICT + LIMIT)
    for factor, verdict in [(far * 1.0001, Verdict.REGRESSED), (far / 1.0001, Verdict.SUSPECTED)]:
        assert compare([point(0.010)], 0.010 * factor, 0.5).verdict is verdict, factor


def test_one_busy_process_on_two_cores_does_not_hide_a_sleep_of_10_ms():
    # 40 us, then 10 ms more: 250 times slower.
    comparison = compare([point(40e-6)], 10.04e-3, 0.5)
    assert comparison.verdict is Verdict.REGRESSED
    assert comparison.low > 20
    assert comparison.note is None


def test_a_baseline_recorded_under_contention_allows_no_improvement():
    # Others took 90 %, and the reference workloads were 67 times slower or faster than in the quiet run.
    for recorded, factor in [
        (20.0, 1 / 67),
        (129.0, 1.0),
        (1.91, 67.0),
        (1.91, 1 / 67),
        (0.08, 51.0),
        (84.0, 44.0),
    ]:
        comparison = compare([disturbed(recorded)], 1.91, reference_work=speed(factor))
        assert comparison.verdict in (Verdict.INCONCLUSIVE, Verdict.SUSPECTED), (recorded, factor)
        assert comparison.baseline == comparison.recorded == pytest.approx(recorded)
        assert comparison.high is None
        assert comparison.note.code == "contended-time"


def test_a_baseline_recorded_under_contention_shows_what_is_far_slower():
    far = 4 * math.exp(STRICT + LIMIT)
    assert compare([disturbed()], 0.010 * far * 1.001).verdict is Verdict.REGRESSED
    assert compare([disturbed()], 0.010 * far / 1.001).verdict is Verdict.SUSPECTED


def test_a_session_without_a_share_counts_as_heavily_disturbed():
    assert compare([point(0.010, contended=True)], 0.001).verdict is Verdict.INCONCLUSIVE


def test_disturbed_sessions_are_left_out_if_there_are_others():
    history = [disturbed(0.5, number=1), point(0.010, day(2)), disturbed(0.4, number=3)]
    comparison = compare(history, 0.010)
    assert comparison.sessions == 1
    assert comparison.recorded == pytest.approx(0.010)
    assert comparison.verdict is compare([point(0.010)], 0.010).verdict


def test_under_contention_nothing_is_corrected_and_nothing_improved():
    fast = compare([point(0.010)], 0.001, 0.5, reference_work=speed(1 / 1.4))
    assert fast.verdict is Verdict.EQUIVALENT
    assert fast.effect == pytest.approx(-0.9)
    # Contention only adds time: what is within the tolerance is within it.
    assert compare([point(0.010)], 0.0100, 0.5).verdict is Verdict.INCONCLUSIVE
    assert (
        compare([point(0.010)], 0.0100 * math.exp(LIMIT - LOOSE) / 1.001, 0.5).verdict is Verdict.EQUIVALENT
    )


def test_reference_workloads_that_contention_slowed_down_explain_as_much():
    # Two threads that wait for each other on a busy machine are slower by far more than the share.
    assert compare([point(0.010)], 0.4, 0.5, reference_work=speed(30)).verdict is Verdict.INCONCLUSIVE
    assert compare([point(0.010)], 0.4, 0.5).verdict is Verdict.REGRESSED


def one_slow(factor):
    """Reference times of which one became slower: those of the threads that wait for each other."""
    return REFERENCE_WORK | {"copy": factor * REFERENCE_WORK["copy"]}


def test_threads_that_wait_for_each_other_are_not_red():
    # 4 busy processes on two cores: 16 ms for 90 us, of which nothing remains without the waiting.
    for alone, slow, verdict in [
        (None, 1.0, Verdict.REGRESSED),
        (0.0, 1.0, Verdict.REGRESSED),
        (0.0, 1000.0, Verdict.SUSPECTED),
        (0.4, 1000.0, Verdict.REGRESSED),
    ]:
        comparison = compare([point(0.010)], 16, 0.67, undisturbed=alone, reference_work=one_slow(slow))
        assert comparison.verdict is verdict, (alone, slow)
    unknown = compare([point(0.010)], 16, 0.67, undisturbed=0.0, reference_work={})
    assert unknown.verdict is Verdict.SUSPECTED
    enough = 0.010 * math.exp(STRICT + LIMIT)
    for alone, verdict in [(enough * 1.001, Verdict.REGRESSED), (enough / 1.001, Verdict.SUSPECTED)]:
        busy = compare([point(0.010)], 16, 0.67, undisturbed=alone, reference_work=one_slow(1000))
        assert busy.verdict is verdict


@pytest.mark.parametrize("factor", [MAX_CORRECTION * 1.001, 67, 1e6])
def test_a_correction_beyond_what_calibration_has_seen_is_clamped(factor):
    for change in (factor, 1 / factor):
        now = 0.010 * change
        comparison = compare([point(0.010)], now, reference_work=speed(change))
        clamp = MAX_CORRECTION if change > 1 else 1 / MAX_CORRECTION
        assert comparison.verdict is Verdict.INCONCLUSIVE, change
        assert comparison.note.code == "speed-changed", change
        assert comparison.recorded == pytest.approx(0.010)
        assert comparison.baseline == pytest.approx(0.010 * clamp)


def test_a_correction_that_calibration_has_seen_is_made_in_full():
    for change in (1.499, 1 / 1.499):
        comparison = compare([point(0.010)], 0.010 * change, reference_work=speed(change))
        assert comparison.effect == pytest.approx(0.0)
        assert comparison.note.code == "stored-timing-is-coarse"


def test_beyond_the_clamp_only_what_is_far_slower_is_red():
    error = 0.10 * math.sqrt(2)
    far = 3 * 4 * math.exp(3.0545395893929013 * error + LIMIT)
    for factor, verdict in [(far * 1.001, Verdict.REGRESSED), (far / 1.001, Verdict.SUSPECTED)]:
        assert compare([point(0.010)], 0.010 * factor, reference_work=speed(3)).verdict is verdict


def test_impossible_times_of_a_damaged_baseline_are_compared_without_an_error():
    tiny = 5e-324
    for p50, reference in [(tiny, 1e-3), (0.010, tiny), (1e308, 1e308), (tiny, 1e308)]:
        history = [point(p50, reference_work=dict.fromkeys(REFERENCE_WORK, reference))]
        for share in (None, 0.5, 1.0):
            compared = compare(history, 0.010, share)
            assert math.isfinite(compared.smallest_detectable)


times = st.floats(1e-6, 10)
shares = st.floats(0, 1)
pairs = st.tuples(shares, shares)
factors = st.floats(1e-3, 1e3)
histories = st.lists(st.tuples(times, st.one_of(st.none(), shares), factors), min_size=1, max_size=12)


def sessions(rows):
    return [
        point(p50, f"2026-01-01T00:00:{number:02}Z", contention=share, contended=(share or 0) > 0.05,
              reference_work=speed(factor))
        for number, (p50, share, factor) in enumerate(rows)
    ]  # fmt: skip


@example([(0.03125, None, 0.5), (0.00390625, None, 5.0)], 1.0, (0.0, 0.5), 1.0, 1)
@given(histories, times, pairs, factors, st.integers(1, 300))
def test_more_contention_never_turns_a_case_red(rows, now, pair, factor, cases):
    verdicts = [
        compare_time(
            sessions(rows), measurement(now, contention=share, reference_work=speed(factor)), 0.25, cases
        ).verdict
        for share in sorted(pair)
    ]
    assert verdicts[0] is Verdict.REGRESSED or verdicts[1] is not Verdict.REGRESSED


@given(times, times, shares, shares)
def test_more_contention_of_the_baseline_never_turns_a_case_red(then, now, one, other):
    verdicts = [compare(sessions([(then, share, 1.0)]), now).verdict for share in sorted((one, other))]
    assert verdicts[0] is Verdict.REGRESSED or verdicts[1] is not Verdict.REGRESSED


@given(histories, times, st.one_of(st.none(), shares), factors, st.floats(0, 5))
def test_a_slower_candidate_is_never_judged_milder(rows, now, share, factor, tolerance):
    ranks = [
        SEVERITY.index(
            compare(sessions(rows), now * slower, share, tolerance, reference_work=speed(factor)).verdict
        )
        for slower in (0.01, 0.5, 1, 1.2, 2, 5, 25, 250)
    ]
    assert ranks == sorted(ranks)


@given(histories, times, shares, factors)
def test_heavy_contention_of_either_side_never_improves(rows, now, share, factor):
    comparison = compare(sessions(rows), now, share, reference_work=speed(factor))
    if share > 0.25:
        assert comparison.verdict is not Verdict.IMPROVED
    if all((each or 0) > 0.25 for _, each, _ in rows):
        assert comparison.verdict in (Verdict.INCONCLUSIVE, Verdict.SUSPECTED, Verdict.REGRESSED)


@given(times, st.floats(0.5, 2), factors)
def test_identical_code_is_never_red_whatever_the_reference_workloads_show(p50, noise, factor):
    comparison = compare([point(p50)], p50 * factor * noise, reference_work=speed(factor))
    assert comparison.verdict is not Verdict.REGRESSED


def check(metric, limit, measured, band=0.0):
    return budgets.check_budget(Budget(metric=metric, limit=limit), measured, band)


def test_a_budget_far_beyond_contention_is_exceeded():
    busy = measurement(40e-6, contention=0.5, first_call=Contention(share=0.5))
    assert check("p50_ms", 1e-6, busy).verdict is Verdict.OVER_BUDGET
    for metric, value in [("p50_ms", 1e3 * 40e-6), ("p95_ms", 1e3 * 40e-6), ("cold_start_ms", 500)]:
        assert check(metric, value / 8.01, busy).verdict is Verdict.OVER_BUDGET, metric
        assert check(metric, value / 7.99, busy).verdict is Verdict.INCONCLUSIVE, metric
        assert check(metric, value / 7.99, busy).note.code == "contended-time"
        assert check(metric, value, busy).verdict is None, metric


@pytest.mark.parametrize("share", [0.5, 0.75, 0.9])
def test_a_p95_of_50_times_its_budget_is_exceeded_under_heavier_load(share):
    slow = measurement(latency=latency(0.010, p95=exact(0.5)), contention=share)
    assert check("p95_ms", 10, slow).verdict is Verdict.OVER_BUDGET


def test_a_rate_far_below_its_budget_is_exceeded():
    busy = measurement(throughput=100.0, contention=0.5)
    assert check("throughput_per_s", 801, busy).verdict is Verdict.OVER_BUDGET
    assert check("throughput_per_s", 799, busy).verdict is Verdict.INCONCLUSIVE
    assert check("throughput_per_s", 100, busy).verdict is None


def test_a_typical_call_must_exceed_the_limit_of_a_high_percentile_as_well():
    # A few calls that had to wait raised the p95 of a transformer layer from 7 to 144 ms.
    for p50, alone, verdict in [
        (0.010, 0.005, Verdict.INCONCLUSIVE),
        (0.010, 0.009, Verdict.OVER_BUDGET),
        (0.400, 0.0, Verdict.OVER_BUDGET),
    ]:
        slow = latency(p50, p95=exact(0.400))
        busy = measurement(latency=slow, contention=0.5, undisturbed=alone, reference_work={"copy": 1e-3})
        assert check("p95_ms", 8, busy).verdict is verdict, (p50, alone)


def test_a_budget_of_threads_that_wait_for_each_other_is_not_exceeded():
    for metric, limit in [("p50_ms", 0.1), ("p95_ms", 0.1), ("throughput_per_s", 1e4)]:
        for slow, verdict in [(0.001, Verdict.OVER_BUDGET), (0.240, Verdict.INCONCLUSIVE)]:
            busy = measurement(0.016, contention=0.67, undisturbed=0.0, reference_work={"copy": slow})
            assert check(metric, limit, busy).verdict is verdict, (metric, slow)
    unknown = measurement(0.016, contention=0.67, undisturbed=0.0, reference_work={})
    assert check("p50_ms", 0.1, unknown).verdict is Verdict.INCONCLUSIVE
    # Nothing explains a factor of a million.
    busy = measurement(0.016, contention=0.67, undisturbed=0.0, reference_work={"copy": 0.240})
    assert check("p50_ms", 1e-6, busy).verdict is Verdict.OVER_BUDGET


def test_the_first_call_is_judged_by_what_happened_during_it():
    for share, limit, verdict in [
        (0.5, 499, Verdict.INCONCLUSIVE),
        (0.5, 500 / 7.99, Verdict.INCONCLUSIVE),
        (0.5, 500 / 8.01, Verdict.OVER_BUDGET),
        (0.0, 499, Verdict.OVER_BUDGET),
        (None, 499, Verdict.OVER_BUDGET),
    ]:
        for sampled in (0.0, 0.9):
            busy = measurement(contention=sampled, first_call=Contention(share=share))
            checked = check("cold_start_ms", limit, busy)
            assert checked.verdict is verdict, (share, limit, sampled)
            assert (checked.note is None) == (verdict is Verdict.OVER_BUDGET)
    assert check("p50_ms", 9, measurement(first_call=Contention(share=0.9))).verdict is Verdict.OVER_BUDGET


def test_a_first_call_whose_threads_wait_for_each_other_is_not_exceeded():
    for left, verdict in [(0.2, Verdict.OVER_BUDGET), (0.01, Verdict.INCONCLUSIVE)]:
        busy = measurement(first_call=Contention(share=0.5, left=left))
        assert check("cold_start_ms", 10, busy).verdict is verdict


def test_what_the_passes_after_the_sampling_measure_is_judged_by_both():
    stream = Stream(items=20, first_item=latency(0.003), between_items=latency(0.0004))
    for metric, limit in [("throughput_per_s", 101), ("ttft_ms", 2.9), ("itl_p95_ms", 0.39)]:
        for sampled, later, verdict in [
            (0.0, 0.0, Verdict.OVER_BUDGET),
            (0.5, 0.0, Verdict.INCONCLUSIVE),
            (0.0, 0.5, Verdict.INCONCLUSIVE),
        ]:
            busy = measurement(
                throughput=100.0, stream=stream, contention=sampled, later_passes=Contention(share=later)
            )
            assert check(metric, limit, busy).verdict is verdict, (metric, sampled, later)
    busy = measurement(0.010, stream=stream, later_passes=Contention(share=0.5))
    for metric, limit in [("p50_ms", 9), ("tokens_per_s", 2001)]:
        assert check(metric, limit, busy).verdict is Verdict.OVER_BUDGET, metric


def test_a_budget_within_the_spread_is_hidden_by_contention_if_there_is_any():
    for share, code in [(0.25, "budget-inconclusive"), (0.26, "contended-time")]:
        checked = check("p50_ms", 10.5, measurement(0.010, contention=share), band=0.1)
        assert checked.verdict is Verdict.INCONCLUSIVE
        assert checked.note.code == code
    verdict = judged("test_near", 0.5, p50=0.010, budget=10.5)
    gate = gate_session([verdict], Policy())
    assert [each.test for each in gate.blind] == ["tests/test_a.py::test_near"]


@given(times, shares, shares, st.floats(1e-6, 1e6), st.sampled_from(["p50_ms", "p99_ms", "throughput_per_s"]))
def test_more_contention_never_exceeds_a_budget(p50, one, other, limit, metric):
    verdicts = [
        check(metric, limit, measurement(p50, contention=share)).verdict for share in sorted((one, other))
    ]
    assert verdicts[0] is Verdict.OVER_BUDGET or verdicts[1] is not Verdict.OVER_BUDGET
    assert (verdicts[0] is None) == (verdicts[1] is None)


def test_the_share_is_recorded_with_a_session():
    for share, recorded in [(None, None), (0.05, None), (0.06, 0.06), (0.9, 0.9)]:
        results = [result(measurement=measurement(contention=share))]
        (made,) = baselines_from_results(results, day(1), {}).values()
        assert made.cases[0].sessions[0].contention == recorded
        assert made.cases[0].sessions[0].contended is (recorded is not None)
        assert bool(disturbed_results(results)) is (share == 0.9)


def judged(name, share, *history, p50=0.030, budget=None, **fields):
    of = case(f"tests/test_a.py::{name}")
    measured = result(
        of=of,
        measurement=measurement(p50, contention=share, **fields),
        budgets=() if budget is None else (Budget(metric="p50_ms", limit=budget),),
    )
    kept = baseline(*history, of=of)
    return judge(measured, {kept.hardware.id: kept}, Policy(), ENVIRONMENT)


def test_a_gate_that_could_not_see_says_so_in_its_headline():
    three = [disturbed(number=number) for number in (1, 2, 3)]
    verdicts = [
        judged("test_slow", 0.0, *three),
        judged("test_busy", 0.5, point(), p50=0.020),
        judged("test_same", 0.0, point(), p50=0.007),
    ]
    gate = gate_session(verdicts, Policy())
    assert gate.passed
    assert [each.test for each in gate.blind] == ["tests/test_a.py::test_busy", "tests/test_a.py::test_slow"]
    assert "2 of 3 cases could not have seen their tolerance (CPU contention: 2)" in gate.headline
    merged = merge_gate_results([gate, gate], ["a", "b"])
    assert len(merged.blind) == 4
    assert "4 of 6 cases could not have seen their tolerance" in merged.headline
    strict = Policy(strict=True)
    assert not gate_session([msgspec.structs.replace(each, failed=True) for each in verdicts], strict).passed


def test_a_gate_that_could_see_says_nothing_of_it():
    gate = gate_session([judged("test_same", 0.0, point(), p50=0.007)], Policy())
    assert gate.blind == ()
    assert "could not" not in gate.headline


def test_a_budget_that_contention_hides_is_in_the_headline():
    gate = gate_session([judged("test_new", 0.5, p50=0.010, budget=9.0)], Policy())
    assert len(gate.blind) == 1
    assert "CPU contention: 1" in gate.headline


def test_a_short_history_is_in_the_headline():
    gate = gate_session([judged("test_slow", 0.0, point(), p50=0.0125)], Policy())
    assert "1 of 1 case could not have seen its tolerance (the spread of few sessions: 1)" in gate.headline


@pytest.mark.parametrize(("before", "now"), [(0.0, 2500.0), (2500.0, 0.0)])
def test_the_headline_and_the_note_name_memory_that_launches_keep_differently(before, now):
    found = judged("test_pages", 0.0, point(page_faults=before), p50=0.0125, page_faults=now)
    note = found.comparisons[0].note
    assert (found.verdict, note.code) == (Verdict.INCONCLUSIVE, "memory-remapped")
    assert KEEP_MEMORY in note.hint
    gate = gate_session([found], Policy())
    assert gate.blind == (found.case,)
    assert "memory that launches keep differently: 1" in gate.headline


def test_memory_that_is_kept_since_hides_a_slowdown():
    def smallest(page_faults):
        # A slowdown of 1 / 0.7 that costs no more than 1,071 page faults of 4 us.
        history = [point(0.010, page_faults=1071.0)]
        return compare_time(history, measurement(0.010, page_faults=page_faults), 0.25).smallest_detectable

    hidden = 1 + 4e-6 * 1071 / 0.010
    assert smallest(0.0) == pytest.approx((1 + smallest(1071.0)) * hidden - 1)


def test_what_contention_explains_is_no_suspicion():
    # Identical code took 5.2 times as long at a share of 65 %, which explains up to 11.4 times.
    for slower, verdict in [(5.2, Verdict.INCONCLUSIVE), (1000.0, Verdict.REGRESSED)]:
        assert judged("test_fft", 0.65, point(), p50=0.010 * slower).verdict is verdict, slower


def test_the_part_of_a_call_that_contention_cannot_explain():
    busy = measurement(0.8, contention=0.5, undisturbed=0.01, reference_work={"copy": 1e-3})
    for slowdown, seconds in [(None, 0.1), (0.5, 0.1), (1.0, 0.1), (2.0, 0.05), (math.inf, 0.01)]:
        assert contention.typical_seconds(busy, slowdown) == pytest.approx(seconds), slowdown
    assert contention.typical_seconds(msgspec.structs.replace(busy, undisturbed=0.2)) == 0.2
    assert contention.typical_seconds(msgspec.structs.replace(busy, undisturbed=None)) is None


def margin(comparison):
    """How far the lower bound is from the estimate, as a logarithm."""
    return math.log1p(comparison.effect) - math.log1p(comparison.low)


def test_a_history_is_steady_if_its_times_follow_the_speed_of_the_machine():
    factors = (1.0, 1.2, 1.4, 1.1)

    def history(exponent):
        return [
            point(0.010 * factor, day(number + 1), reference_work=speed(factor**exponent))
            for number, factor in enumerate(factors)
        ]

    steady, unsteady = (compare(history(exponent), 0.010) for exponent in (1, -1))
    assert steady.smallest_detectable < unsteady.smallest_detectable / 2


def test_a_faster_machine_than_the_correction_reaches_does_not_narrow_the_lower_bound():
    history = [point(reference_work=speed(1.0))]
    usual, fast = (compare(history, 0.010, reference_work=speed(factor)) for factor in (1.0, 0.5))
    assert margin(fast) == pytest.approx(margin(usual))


def test_the_side_that_was_disturbed_is_named():
    now = compare([point()], 0.030, 0.5).note.text
    assert "because other processes took 50 % of the processor time" in now
    then = compare([disturbed()], 0.030).note.text
    assert "while they were recorded" in then

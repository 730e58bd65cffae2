import math
from itertools import permutations, product

import msgspec
import pytest
from core_values import REFERENCE_WORK, day, latency, measurement, point
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.domain.outcome import Verdict
from pytest_infergate.core.domain.stats import MAX_SECONDS, MAX_SHARE, MIN_SECONDS
from pytest_infergate.core.gate import stored_times
from pytest_infergate.core.gate.stored_times import compare_time

# One session in the baseline: the prior of 10 % with 12 degrees of freedom, and the new launch's own noise.
# The factors are the 99.5th, 95th and 90th percentile of Student's distribution.
ERROR = 0.10 * math.sqrt(2)
STRICT = 3.0545395893929013 * ERROR
LOOSE = 1.782287555649319 * ERROR
LIMIT = math.log(1.25)
SEEN = STRICT + 1.356217334023205 * ERROR
# Too coarse for a tolerance of 25 %, which the lower bound must then clear as well.
DETECTABLE = SEEN + LIMIT
TINY = 1e-9


def moved(difference: float, tolerance: float = 0.25, sessions: int = 1, cases: int = 1):
    """Compare a candidate whose log time differs so much from sessions that are all alike."""
    history = [point(0.010, day(number + 1)) for number in range(sessions)]
    return compare_time(history, measurement(0.010 * math.exp(difference)), tolerance, cases)


def test_verdicts_on_both_sides_of_every_threshold():
    for difference, tolerance, verdict in [
        # The instrument is too coarse for 25 %: only a lower bound above the tolerance is a regression.
        (STRICT + LIMIT + TINY, 0.25, Verdict.REGRESSED),
        (STRICT + LIMIT - TINY, 0.25, Verdict.SUSPECTED),
        (LOOSE + TINY, 0.25, Verdict.SUSPECTED),
        (LOOSE - TINY, 0.25, Verdict.INCONCLUSIVE),
        (0.0, 0.25, Verdict.INCONCLUSIVE),
        (LIMIT - LOOSE + TINY, 0.25, Verdict.INCONCLUSIVE),
        (LIMIT - LOOSE - TINY, 0.25, Verdict.EQUIVALENT),
        (-LOOSE + TINY, 0.25, Verdict.EQUIVALENT),
        (-LOOSE - TINY, 0.25, Verdict.IMPROVED),
        # A tolerance that the instrument can see: the estimate decides.
        (math.log(2) + TINY, 1.0, Verdict.REGRESSED),
        (math.log(2) - TINY, 1.0, Verdict.SLOWER_WITHIN_TOLERANCE),
        (LOOSE + TINY, 1.0, Verdict.SLOWER_WITHIN_TOLERANCE),
        (LOOSE - TINY, 1.0, Verdict.EQUIVALENT),
        (0.0, 1.0, Verdict.EQUIVALENT),
        # A tolerance just on either side of what the instrument can see.
        (SEEN + 2 * TINY, math.expm1(SEEN + TINY), Verdict.REGRESSED),
        (SEEN + 2 * TINY, math.expm1(SEEN - TINY), Verdict.SUSPECTED),
        # No tolerance at all: nothing is equivalent, and only what is certain is a regression.
        (STRICT + TINY, 0.0, Verdict.REGRESSED),
        (STRICT - TINY, 0.0, Verdict.SUSPECTED),
        (0.0, 0.0, Verdict.INCONCLUSIVE),
        (-LOOSE - TINY, 0.0, Verdict.IMPROVED),
    ]:
        assert moved(difference, tolerance).verdict is verdict, (difference, tolerance, verdict)


def test_the_numbers_of_a_comparison():
    comparison = moved(math.log(1.1))
    assert comparison.metric == "p50"
    assert comparison.evidence == "stored"
    assert comparison.sessions == 1
    assert comparison.baseline == pytest.approx(0.010)
    assert comparison.candidate == pytest.approx(0.011)
    assert comparison.effect == pytest.approx(0.1)
    assert comparison.low == pytest.approx(1.1 * math.exp(-LOOSE) - 1)
    assert comparison.high == pytest.approx(1.1 * math.exp(LOOSE) - 1)
    assert comparison.smallest_detectable == pytest.approx(math.expm1(DETECTABLE))
    assert comparison.tolerance == 0.25


def test_a_regression_shows_the_bound_it_was_judged_by():
    assert moved(math.log(5)).low == pytest.approx(5 * math.exp(-STRICT) - 1)


def test_no_history():
    comparison = compare_time([], measurement(0.02), 0.25)
    assert comparison.verdict is Verdict.NO_BASELINE
    assert comparison.candidate == 0.02
    assert comparison.baseline is None


def test_an_open_verdict_says_what_could_be_seen(snapshot):
    notes = {str(moved(difference).note) for difference in (0.0, 0.4)}
    assert notes == snapshot


def test_a_settled_verdict_has_no_note():
    for difference in [2.0, -1.0, -0.1]:
        assert moved(difference).note is None, difference


def test_one_session_always_sees_a_factor_of_five():
    for cases in [1, 10, 300]:
        assert moved(math.log(5), cases=cases).verdict is Verdict.REGRESSED, cases


def test_the_count_of_cases_is_at_least_one():
    for cases in [0, -1]:
        assert moved(0.5, cases=cases) == moved(0.5, cases=1), cases


def test_more_cases_ask_for_more_evidence():
    assert moved(0.7, cases=1).verdict is Verdict.REGRESSED
    assert moved(0.7, cases=10).verdict is Verdict.SUSPECTED


def test_a_history_cannot_claim_to_be_steadier_than_the_floor():
    comparison = moved(0.0, sessions=28)
    error = 0.02 * math.sqrt(1 + 1 / 28)
    t = 1.7032884457221265  # the 95th percentile of Student's distribution with 27 degrees of freedom
    assert comparison.high == pytest.approx(math.expm1(t * error))


def test_many_sessions_are_no_harm():
    history = [point(0.010, f"2026-01-01T00:00:00.{number:06}Z") for number in range(2000)]
    assert compare_time(history, measurement(0.020), 0.25).verdict is Verdict.REGRESSED


def speed(factor):
    """Reference times of a machine that is slower by a factor."""
    return {name: factor * value for name, value in REFERENCE_WORK.items()}


def test_a_slower_machine_is_no_regression():
    slow = measurement(0.014, reference_work=speed(1.4))
    comparison = compare_time([point(0.010)], slow, 0.25)
    assert comparison.effect == pytest.approx(0.0)
    assert comparison.baseline == pytest.approx(0.014)
    assert comparison.recorded == pytest.approx(0.010)


def test_a_faster_machine_does_not_hide_a_regression():
    fast = measurement(0.020, reference_work=speed(1 / 1.4))
    comparison = compare_time([point(0.010)], fast, 0.25)
    assert comparison.effect == pytest.approx(1.8)
    assert comparison.verdict is Verdict.REGRESSED


def faulting(p50, faults):
    return msgspec.structs.replace(measurement(p50), page_faults=faults)


@pytest.mark.parametrize(
    ("before", "after", "verdict"), [(1.18, 2.44, Verdict.INCONCLUSIVE), (2.44, 1.18, Verdict.EQUIVALENT)]
)
def test_a_time_that_page_faults_explain_is_neither_slower_nor_faster(before, after, verdict, snapshot):
    # Launches of identical code: with 300 page faults a call, and without.
    faults = {1.18: 6.0, 2.44: 320.0}
    history = [point(1e-3 * before, day(number), page_faults=faults[before]) for number in (1, 2, 3)]
    found = compare_time(history, faulting(1e-3 * after, faults[after]), 0.25)
    assert found.verdict is verdict
    assert found.low < 0 < found.high
    assert str(found.note) == snapshot
    # The same times with equal page faults are a change of the code.
    for same in (6.0, 320.0):
        alike = [msgspec.structs.replace(each, page_faults=same) for each in history]
        found = compare_time(alike, faulting(1e-3 * after, same), 0.25)
        assert found.verdict is (Verdict.REGRESSED if before < after else Verdict.IMPROVED)


def test_page_faults_explain_a_few_microseconds_each():
    def slower(faults, now=0.010 * 4):
        return compare_time([point(0.010, page_faults=0.0)], faulting(now, faults), 0.25)

    assert slower(0.0).verdict is Verdict.REGRESSED
    # 2,500 of them take up to the whole time of the call, which is a factor of two and not of four.
    explained = slower(2500.0, 0.030)
    assert explained.verdict is Verdict.SUSPECTED
    assert explained.low == pytest.approx(math.expm1(math.log(1.5) - LOOSE))
    assert slower(0.0, 0.030).verdict is Verdict.REGRESSED
    assert slower(2500.0, 0.040).verdict is Verdict.REGRESSED
    # More work maps more memory as well: however many there are, they explain a factor of 4.5.
    tenfold = slower(20_000.0, 0.100)
    assert tenfold.verdict is Verdict.REGRESSED
    assert tenfold.low == pytest.approx(math.expm1(math.log(10 / 4.5) - STRICT))
    # Less than one hundredth of the call is no explanation.
    assert slower(24.0).smallest_detectable == slower(0.0).smallest_detectable
    assert slower(26.0).smallest_detectable > slower(0.0).smallest_detectable


def test_a_session_without_recorded_page_faults_explains_nothing():
    history = [point(0.010), point(0.010, day(2), page_faults=0.0)]
    found = compare_time(history, faulting(0.040, 2500.0), 0.25)
    assert found == compare_time(history, faulting(0.040, None), 0.25)


# Medians and reference times in milliseconds, of launches of one vector quantiser on an idle machine.
LAUNCHES = [
    (4.53, {"compute": 0.253, "copy": 0.393, "dispatch": 0.556, "threads": 0.158}),
    (3.29, {"compute": 0.236, "copy": 0.555, "dispatch": 0.541, "threads": 0.107}),
    (4.33, {"compute": 0.270, "copy": 0.593, "dispatch": 0.585, "threads": 0.163}),
    (3.33, {"compute": 0.250, "copy": 0.539, "dispatch": 0.556, "threads": 0.106}),
    (4.45, {"compute": 0.259, "copy": 0.355, "dispatch": 0.520, "threads": 0.163}),
    (2.88, {"compute": 0.232, "copy": 0.551, "dispatch": 0.547, "threads": 0.107}),
]


@pytest.mark.parametrize(("before", "now"), list(permutations(LAUNCHES, 2)))
def test_a_machine_that_changed_for_some_work_only_decides_nothing_about_identical_code(before, now):
    found = compare_time(
        [point(before[0], reference_work=before[1])], measurement(now[0], reference_work=now[1]), 0.25
    )
    assert found.verdict in (Verdict.EQUIVALENT, Verdict.INCONCLUSIVE)
    assert found.low < 0 < found.high


def test_what_the_reference_workloads_disagree_about_is_an_uncertainty(snapshot):
    def after(p50, *factors):
        work = dict(zip(REFERENCE_WORK, factors, strict=False))
        now = {name: value * work.get(name, 1.0) for name, value in REFERENCE_WORK.items()}
        return compare_time([point(0.010)], measurement(p50, reference_work=now), 0.25)

    assert after(0.010 * 1.4, *([1.4] * len(REFERENCE_WORK))).low == pytest.approx(after(0.010).low)
    apart = after(0.010, 1.5, 1 / 1.5)
    deviation = math.sqrt(2 * math.log(1.5) ** 2 / (len(REFERENCE_WORK) - 1))
    assert apart.high == pytest.approx(math.expm1(math.hypot(ERROR, deviation) * LOOSE / ERROR))
    assert str(apart.note) == snapshot
    # A slowdown that no workload shows is red all the same.
    assert after(0.050, 1.5, 1 / 1.5).verdict is Verdict.REGRESSED


def test_only_reference_workloads_on_both_sides_count():
    now = measurement(0.010, reference_work={"gemm": 1e-3, "new": 123.0})
    assert compare_time([point(0.010)], now, 0.25).effect == pytest.approx(0.0)


def test_without_a_shared_reference_workload_the_raw_spread_is_assumed(snapshot):
    # Raw launch medians spread by 17-23 %; the prior of corrected ones would alarm in 1.6 % of runs.
    bare = measurement(0.020, reference_work={})
    comparison = compare_time([point(0.010)], bare, 0.25)
    assert comparison.verdict is Verdict.SUSPECTED
    assert comparison.smallest_detectable == pytest.approx(math.expm1(2 * SEEN + LIMIT))
    assert str(comparison.note) == snapshot


def test_a_side_under_contention_is_not_corrected_to_a_fine_figure(snapshot):
    for side in ["history", "candidate"]:
        before = point(0.010, contended=True, contention=0.06) if side == "history" else point(0.010)
        now = measurement(0.020, contention=0.06 if side == "candidate" else 0.05)
        comparison = compare_time([before], now, 0.25)
        assert comparison.verdict is Verdict.SUSPECTED, side
        assert comparison.smallest_detectable == pytest.approx(math.expm1(2 * SEEN + LIMIT)), side
        assert str(comparison.note) == snapshot
        assert (
            compare_time([before], measurement(0.050, contention=0.25), 0.25).verdict is Verdict.REGRESSED
        ), side


def test_reference_times_of_one_side_that_cannot_be_used_correct_nothing():
    for reference_work, side in product(
        [{}, {"other": 1e-3}, {"gemm": math.nan, "copy": 0.0, "dispatch": -1.0}],
        ["history", "candidate"],
    ):
        before = point(0.010, reference_work=reference_work if side == "history" else REFERENCE_WORK)
        now = measurement(0.010, reference_work=reference_work if side == "candidate" else REFERENCE_WORK)
        comparison = compare_time([before], now, 0.25)
        assert comparison.effect == pytest.approx(0.0), (reference_work, side)
        assert comparison.smallest_detectable == pytest.approx(math.expm1(2 * SEEN + LIMIT)), (
            reference_work,
            side,
        )


def test_one_reference_time_that_cannot_be_used_leaves_the_others():
    now = measurement(0.010, reference_work={**REFERENCE_WORK, "gemm": math.nan})
    comparison = compare_time([point(0.010)], now, 0.25)
    assert comparison.effect == pytest.approx(0.0)
    assert comparison.smallest_detectable == pytest.approx(math.expm1(DETECTABLE))


def test_a_session_without_reference_work_does_not_take_the_correction_from_the_others():
    # On a machine 1.4 times slower than that of the old session without reference work.
    history = [
        point(0.010, day(1), reference_work={}),
        point(0.014, day(2), reference_work=speed(1.4)),
        point(0.014, day(3), reference_work=speed(1.4)),
    ]
    comparison = compare_time(history, measurement(0.010), 0.25)
    assert comparison.sessions == 2
    assert comparison.effect == pytest.approx(0.0)


def test_a_median_without_a_logarithm_is_invalid_not_green(snapshot):
    for median in [0.0, math.nan, math.inf]:
        comparison = compare_time([point()], measurement(latency=latency(median), throughput=1.0), 0.25)
        assert comparison.verdict is Verdict.INVALID, median
        assert str(comparison.note) == snapshot


def test_equal_times_of_recording_are_sessions_of_their_own():
    history = [point(0.010, day(1)), point(0.020, day(1))]
    assert compare_time(history, measurement(0.014), 0.25).sessions == 2


def test_one_outlying_session_widens_and_never_alarms():
    history = [point(0.010 * (4 if number == 5 else 1), day(number + 1)) for number in range(12)]
    unchanged = compare_time(history, measurement(0.010), 0.25)
    assert unchanged.verdict is Verdict.INCONCLUSIVE
    assert compare_time(history, measurement(0.040), 0.25).verdict is Verdict.SUSPECTED


def test_a_slowdown_that_was_recorded_is_not_red_afterwards():
    for factor, sessions in product(
        [1.3, 2, 4],
        [2, 3, 6, 12],
    ):
        accepted = [point(0.010, day(number)) for number in range(1, sessions)] + [
            point(0.010 * factor, day(sessions))
        ]
        assert compare_time(accepted, measurement(0.010 * factor), 0.25).verdict is not Verdict.REGRESSED, (
            factor,
            sessions,
        )


times = st.floats(1e-6, 10)
histories = st.lists(times, min_size=1, max_size=15)


def sessions_of(p50s, reference_work=None):
    return [
        point(p50, f"2026-01-01T00:00:{number:02}Z", reference_work=reference_work or REFERENCE_WORK)
        for number, p50 in enumerate(p50s)
    ]


def logs(comparison):
    return [math.log1p(value) for value in (comparison.low, comparison.effect, comparison.high)]


@given(times, times)
def test_label_swap_flips_the_sign(a, b):
    forth = compare_time([point(a)], measurement(b), 1e9)
    back = compare_time([point(b)], measurement(a), 1e9)
    assert math.log1p(forth.effect) == pytest.approx(-math.log1p(back.effect), abs=1e-6)
    assert math.log1p(forth.smallest_detectable) == pytest.approx(math.log1p(back.smallest_detectable))


@given(histories, times, st.floats(1e-3, 1e3))
def test_scaling_all_times_changes_nothing(p50s, now, factor):
    one = compare_time(sessions_of(p50s), measurement(now), 1e9)
    scaled = compare_time(sessions_of([factor * p50 for p50 in p50s]), measurement(factor * now), 1e9)
    assert logs(one) == pytest.approx(logs(scaled), abs=1e-6)


@given(histories, times, st.floats(1e-3, 1e3))
def test_scaling_all_reference_times_changes_nothing(p50s, now, factor):
    scaled = {name: factor * value for name, value in REFERENCE_WORK.items()}
    one = compare_time(sessions_of(p50s), measurement(now), 1e9)
    other = compare_time(sessions_of(p50s, scaled), measurement(now, reference_work=scaled), 1e9)
    assert logs(one) == pytest.approx(logs(other), abs=1e-6)


@given(histories, st.floats(1, 5))
def test_more_spread_never_narrows_the_interval(p50s, factor):
    centre = math.exp(sum(map(math.log, p50s)) / len(p50s))
    wider = [centre * (p50 / centre) ** factor for p50 in p50s]
    narrow_low, _, narrow_high = logs(compare_time(sessions_of(p50s), measurement(centre), 1e9))
    wide_low, _, wide_high = logs(compare_time(sessions_of(wider), measurement(centre), 1e9))
    assert wide_high - wide_low >= narrow_high - narrow_low - 1e-6


@given(histories, times, st.randoms())
def test_order_of_sessions_does_not_matter(p50s, now, random):
    history = sessions_of(p50s)
    shuffled = random.sample(history, len(history))
    assert logs(compare_time(history, measurement(now), 1e9)) == logs(
        compare_time(shuffled, measurement(now), 1e9)
    )


@given(histories, times, st.floats(0, 5), st.integers(1, 300))
def test_a_slower_candidate_is_never_judged_milder(p50s, now, tolerance, cases):
    severity = [
        Verdict.IMPROVED,
        Verdict.EQUIVALENT,
        Verdict.INCONCLUSIVE,
        Verdict.SLOWER_WITHIN_TOLERANCE,
        Verdict.SUSPECTED,
        Verdict.REGRESSED,
    ]
    history = sessions_of(p50s)
    ranks = [
        severity.index(compare_time(history, measurement(now * factor), tolerance, cases).verdict)
        for factor in (1, 1.1, 1.5, 3, 10)
    ]
    assert ranks == sorted(ranks)


def test_incomparable_says_why(snapshot):
    comparison = stored_times.incomparable(measurement(0.02), "other CPU model")
    assert comparison.verdict is Verdict.INCOMPARABLE
    assert (comparison.metric, comparison.evidence, comparison.candidate) == ("p50", "stored", 0.02)
    assert comparison.note.code == "incomparable"
    assert str(comparison.note) == snapshot


def test_whatever_a_baseline_may_contain_gives_finite_figures():
    times = (MIN_SECONDS, 0.01, MAX_SECONDS)
    for p50, recorded, now, reference in product(times, times, times, times):
        for contention, page_faults, sessions in product((None, MAX_SHARE), (None, 0.0, 1e15), (1, 3)):
            fields = {"contention": contention, "page_faults": page_faults}
            history = [
                point(p50, day(number), reference_work={"a": recorded, "b": reference}, **fields)
                for number in range(1, sessions + 1)
            ]
            candidate = measurement(0.01, reference_work={"a": now, "b": 0.01}, page_faults=5.0)
            found = compare_time(history, candidate, 0.25)
            figures = (found.baseline, found.effect, found.low, found.high, found.smallest_detectable)
            assert all(figure is None or math.isfinite(figure) for figure in figures), (p50, recorded, fields)


def test_a_slow_drift_is_seen_against_the_first_sessions():
    """Forty sessions, each 2 % slower than the one before: the last ones drift along."""
    first = [point(0.010 * 1.02**number, day(number + 1)) for number in range(12)]
    last = [point(0.010 * 1.02 ** (number + 28), day(number + 1)) for number in range(12)]
    now = measurement(0.010 * 1.02**40)
    recent = compare_time(last, now, 0.25)
    assert recent.verdict is not Verdict.REGRESSED
    note = stored_times.drift_note(first, now, recent)
    assert note is not None
    assert note.code == "drifted"
    assert "2026-01-01 to 2026-01-12" in note.text
    assert stored_times.drift_note((), now, recent) is None
    assert stored_times.drift_note(last, now, recent) is None
    slower = compare_time(last, measurement(0.05), 0.25)
    assert slower.verdict is Verdict.REGRESSED
    assert stored_times.drift_note(first, measurement(0.05), slower) is None  # said already

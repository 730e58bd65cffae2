import math
from itertools import product

import pytest
from core_values import exact, refusal
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.domain import stats

floats = st.floats(-1e6, 1e6)


def test_samples_needed_as_published():
    for p, needed in [(0.5, 7), (0.9, 44), (0.95, 90), (0.99, 459)]:
        assert stats.samples_needed(p) == needed, (p, needed)
        assert stats.quantile_estimate(range(needed), p).high == needed - 1, (p, needed)
        assert stats.quantile_estimate(range(needed - 1), p).high is None, (p, needed)


def test_quantile_interpolates():
    for sample, p, value in [
        ([3.0], 0.99, 3.0),
        ([1.0, 2.0], 0.5, 1.5),
        ([1.0, 2.0, 4.0], 0.5, 2.0),
        ([1.0, 2.0, 4.0], 0.75, 3.0),
        ([1.0, 2.0, 4.0], 0.0, 1.0),
        ([1.0, 2.0, 4.0], 1.0, 4.0),
    ]:
        assert stats.quantile(sample, p) == value, (sample, p, value)


def test_nothing_has_no_quantile_and_no_spread(snapshot):
    assert [
        refusal(stats.quantile, [], 0.5),
        refusal(stats.quantile_estimate, [], 0.5),
        refusal(stats.pooled_spread, [1.0], 0.1, 0),
    ] == snapshot


def at_most(k: int, n: int, p: float) -> float:
    """P(B <= k), summed term by term."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


def test_bounds_cover_and_are_the_tightest_that_do():
    for p, n in product(
        [0.5, 0.9, 0.95, 0.99],
        [1, 2, 6, 7, 8, 43, 44, 45, 89, 90, 91, 250, 458, 459, 460, 1000],
    ):
        # In a sample of ranks a bound is its own rank; B counts the samples below the true quantile.
        estimate = stats.quantile_estimate(range(n), p)
        if estimate.low is None:
            assert (1 - p) ** n > 0.01, (p, n)
        else:
            assert at_most(estimate.low, n, p) <= 0.01 + 1e-12 < at_most(estimate.low + 1, n, p), (p, n)
        if estimate.high is None:
            assert p**n > 0.01, (p, n)
        else:
            assert at_most(estimate.high, n, p) >= 0.99 - 1e-12 > at_most(estimate.high - 1, n, p), (p, n)


def test_bounds_of_equal_samples_are_the_sample():
    assert stats.quantile_estimate([2.0] * 500, 0.99) == exact(2.0)


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_bounds_embrace_the_estimate(sample, p):
    estimate = stats.quantile_estimate(sorted(sample), p)
    assert estimate.low is None or estimate.low <= estimate.value
    assert estimate.high is None or estimate.high >= estimate.value


@given(st.lists(floats, min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_do_not_cross(sample, p, q):
    ordered = sorted(sample)
    low, high = sorted((p, q))
    assert stats.quantile(ordered, low) <= stats.quantile(ordered, high) + 1e-6


def test_student_quantile_as_tabulated():
    for p, degrees, t in [(0.95, 12, 1.782288), (0.995, 11, 3.105807), (0.9, 4, 1.533206), (0.5, 3, 0.0)]:
        assert stats.student_quantile(p, degrees) == pytest.approx(t, abs=1e-6), (p, degrees, t)


def test_mean_and_variance():
    assert stats.mean([1.0, 2.0, 6.0]) == 3.0
    assert stats.variance([1.0, 2.0, 6.0]) == 7.0
    assert stats.variance([5.0]) == 0.0


def test_trimmed_mean_drops_a_fifth_at_either_end():
    for values, mean in [
        ([7.0], 7.0),
        ([1.0, 2.0, 3.0, 99.0], 26.25),
        ([1.0, 2.0, 3.0, 4.0, 99.0], 3.0),
        ([9, -50, 1, 2, 60, 3, 0, 4, 5, 6], 3.5),
    ]:
        assert stats.trimmed_mean(values) == mean, (values, mean)


def test_positive():
    for value, usable in [(1e-300, True), (0.0, False), (-1.0, False), (math.nan, False), (math.inf, False)]:
        assert stats.positive(value) is usable, (value, usable)


def test_pooled_spread_starts_at_the_prior():
    assert stats.pooled_spread([0.3], 0.1, 12) == (pytest.approx(0.1), 12)


def test_pooled_spread_weighs_prior_and_data():
    spread, degrees = stats.pooled_spread([0.0, 0.2, 0.4], 0.1, 12)
    assert degrees == 12
    assert spread == pytest.approx(math.sqrt((10 * 0.01 + 2 * 0.04) / 12))


def test_pooled_spread_ends_at_the_data():
    values = [0.0, 0.2] * 7
    spread, degrees = stats.pooled_spread(values, 0.1, 12)
    assert degrees == 13
    assert spread == pytest.approx(math.sqrt(stats.variance(values)))


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20), st.floats(1, 10))
def test_pooled_spread_grows_with_the_deviations(values, factor):
    centre = stats.mean(values)
    wider = [centre + factor * (value - centre) for value in values]
    assert stats.pooled_spread(wider, 0.1, 12)[0] >= stats.pooled_spread(values, 0.1, 12)[0] - 1e-9


@given(st.lists(floats, min_size=1, max_size=30), floats)
def test_mean_and_trimmed_mean_move_with_the_sample(values, shift):
    moved = [value + shift for value in values]
    assert stats.mean(moved) == pytest.approx(stats.mean(values) + shift, abs=1e-6)
    assert stats.trimmed_mean(moved) == pytest.approx(stats.trimmed_mean(values) + shift, abs=1e-6)


@given(st.lists(floats, min_size=1, max_size=30), st.randoms())
def test_statistics_do_not_depend_on_order(values, random):
    shuffled = random.sample(values, len(values))
    assert stats.mean(shuffled) == stats.mean(values)
    assert stats.variance(shuffled) == stats.variance(values)
    assert stats.trimmed_mean(shuffled) == stats.trimmed_mean(values)


def test_one_sample_is_a_lower_bound_of_the_99th_percentile_at_exactly_99_per_cent():
    estimate = stats.quantile_estimate([3.0], 0.99, confidence=0.99)
    assert (estimate.low, estimate.value, estimate.high) == (3.0, 3.0, None)

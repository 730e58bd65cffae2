"""Levels and drift of a series."""

import math
import random

import pytest
from core_values import HARDWARE, case, day

from pytest_infergate.core.domain.history_values import CaseSeries, SeriesPoint
from pytest_infergate.core.gate.trends import by_drift, corrected, trend, trends_of


def series(seconds, speeds=None, accepted=(), test="tests/test_a.py::test_a"):
    speeds = speeds or [None] * len(seconds)
    points = tuple(
        SeriesPoint(f"2026-{1 + index // 28:02}-{1 + index % 28:02}T00:00:00Z", p50, speed)
        for index, (p50, speed) in enumerate(zip(seconds, speeds, strict=True))
    )
    return CaseSeries(case(test), HARDWARE.id, points, accepted)


def noisy(count, spread=0.02, seed=1):
    generator = random.Random(seed)
    return [0.01 * generator.lognormvariate(0, spread) for _ in range(count)]


def test_a_slower_machine_is_corrected_up_to_a_factor():
    found = corrected(series([0.01, 0.012, 0.04, 0.01], [1e-3, 1.2e-3, 4e-3, None]))
    assert found == pytest.approx((0.012, 0.012, 0.04 / 1.5, 0.01), rel=1e-6)


def test_a_step_is_a_drift_and_noise_is_none():
    steady, stepped = noisy(60), [p50 * (1.1 if index > 40 else 1) for index, p50 in enumerate(noisy(60))]
    quiet, loud = (trend(series(one), one) for one in (steady, stepped))
    assert not quiet.clear
    assert loud.clear
    assert loud.drift == pytest.approx(0.1, abs=0.03)


def test_identical_code_seldom_drifts():
    clear = sum(trend(series(one), one).clear for one in (noisy(60, seed=seed) for seed in range(300)))
    assert clear <= 3


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_sessions_have_no_drift(count):
    found = trend(series([0.01] * count), [0.01] * count)
    assert (found.drift, found.clear, len(found.levels)) == (None, False, 1)


def test_an_accepted_change_begins_a_new_level_and_is_no_drift():
    seconds = [0.01] * 10 + [0.02] * 10
    found = trend(series(seconds, accepted=(("2026-01-10T12:00:00Z", "larger"),)), seconds, [10])
    assert found.drift == 0.0
    assert [(level.begin, level.end) for level in found.levels] == [(0, 10), (10, 20)]


def test_change_points_before_an_accepted_change_are_not_the_largest():
    seconds = [0.01] * 10 + [0.02] * 10 + [0.021] * 10
    found = trend(series(seconds, accepted=(("2026-01-12T12:00:00Z", "larger"),)), seconds, [10, 20])
    assert found.largest_change == (20, pytest.approx(0.05))


def test_an_acceptance_after_the_last_session_hides_nothing():
    seconds = [0.01] * 10
    found = trend(series(seconds, accepted=(("2099-01-01T00:00:00Z", "later"),)), seconds)
    assert [(level.begin, level.end) for level in found.levels] == [(0, 10)]


def test_the_largest_clear_drift_comes_first():
    drifts = {"none": 1.0, "more": 1.5, "less": 0.8}
    made = [
        trend(series(one, test=f"t.py::{name}"), one)
        for name, factor in drifts.items()
        for one in [[p50 * (factor if index > 20 else 1) for index, p50 in enumerate(noisy(40))]]
    ]
    assert [one.series.case.test for one in by_drift(made)] == ["t.py::more", "t.py::less", "t.py::none"]


def test_impossible_times_are_left_out():
    (found,) = trends_of([series([0.01, 0.0, math.inf, 0.01]), series([0.0])])
    assert len(found.seconds) == 2
    assert day(1)[:10] == found.series.points[0].created[:10]

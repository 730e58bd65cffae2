"""The forecast of a paired run, from the last one."""

import pytest
from fake_cache import FakeCache

from pytest_infergate.paired.expected_time import (
    TYPICAL_LAUNCHES,
    TYPICAL_OVERHEAD,
    TYPICAL_SECONDS,
    ExpectedTime,
)
from pytest_infergate.paired.launches import LaunchesResult
from pytest_infergate.paired.trial import Trial, TrialSpec


def found(seconds, launches=7, *, interrupted=False):
    """Launches in which cases took so many seconds, by node id."""
    trials = [Trial(TrialSpec(nodeid)) for nodeid in seconds]
    for trial in trials:
        trial.seconds = seconds[trial.spec.nodeid]
    return LaunchesResult(trials, [], launches, interrupted, 0)


def test_without_an_earlier_run_it_is_typical():
    launch = 20 * TYPICAL_SECONDS + TYPICAL_OVERHEAD
    assert ExpectedTime(None).of(["a"] * 20) == (TYPICAL_LAUNCHES, TYPICAL_LAUNCHES * launch)
    assert ExpectedTime(None, counters_only=True).of(["a"] * 20) == (1, launch)


def test_twenty_cases_take_what_was_measured_within_a_factor_of_one_and_a_half():
    """206 and 220 s, by docs/method.md."""
    _, seconds = ExpectedTime(None).of(["a"] * 20)
    for measured in (206, 220):
        assert 1 / 1.5 < seconds / measured < 1.5


def test_after_a_run_it_is_what_that_took():
    cache = FakeCache()
    ExpectedTime(cache).remember(found({"a": 10.0, "b": 20.0}), 100.0)
    assert ExpectedTime(cache).of(["a", "b"]) == (7, 100.0)
    assert ExpectedTime(cache).of(["a"]) == (7, 80.0)
    assert ExpectedTime(cache).of(["a", "new"]) == (7, pytest.approx(80.0 + 7 * TYPICAL_SECONDS))
    assert ExpectedTime(cache, counters_only=True).of(["a"]) == (1, TYPICAL_SECONDS + TYPICAL_OVERHEAD)


def test_an_interrupted_run_is_not_remembered():
    cache = FakeCache()
    ExpectedTime(cache).remember(found({"a": 10.0}, interrupted=True), 100.0)
    assert cache == {}

"""Weights of the reference workloads, fitted to the sessions of a case."""

import math
import random

import pytest
from core_values import REFERENCE_WORK, day, measurement, point

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.outcome import Verdict
from pytest_infergate.core.gate.speed_fit import FIT_SESSIONS, NOISE, WEIGHT_SPREAD, fit_speeds
from pytest_infergate.core.gate.stored_times import compare_time

NAMES = tuple(sorted(REFERENCE_WORK))


def drawn(weights, sessions, noise=0.0, spread=0.2, seed=0):
    """Log times that follow workloads, each of which moves on its own, with these weights."""
    chance = random.Random(seed)
    speeds = [[chance.gauss(0, spread) for _ in weights] for _ in range(sessions)]
    times = [
        math.fsum(weight * speed for weight, speed in zip(weights, row, strict=True)) + chance.gauss(0, noise)
        for row in speeds
    ]
    return times, speeds


def test_few_sessions_have_no_weights():
    times, speeds = drawn((1, 0), FIT_SESSIONS)
    assert fit_speeds(times[1:], speeds[1:]) is None
    assert fit_speeds(times, speeds) is not None
    assert fit_speeds(times, [[]] * FIT_SESSIONS) is None


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)])
def test_weights_are_found(weights):
    fit = fit_speeds(*drawn(weights, 12))
    assert fit.weights == pytest.approx(weights, abs=0.07)
    assert min(fit.weights) >= 0
    assert math.sqrt(fit.variance) < 0.05


def test_speeds_that_never_changed_leave_the_weights_equal():
    times = [0.01, -0.01, 0.03, -0.03, 0.02, 0.0]
    fit = fit_speeds(times, [[0.5, 0.7]] * 6)
    assert fit.weights == pytest.approx((0.5, 0.5))
    # Nothing is corrected: the spread is that of the times.
    assert fit.variance == pytest.approx(stats.variance(times))
    # What the weights could be is then all that is known of them.
    assert fit.uncertainty((0.0, 0.0)) == 0
    assert fit.uncertainty((0.3, 0.0)) == pytest.approx(0.3 * WEIGHT_SPREAD)


def test_a_workload_that_moves_against_the_case_has_no_weight():
    fit = fit_speeds(*drawn((-0.8, 1.0), 12))
    assert fit.weights[0] == 0
    assert fit.weights[1] > 0.5


def test_weights_are_uncertain_beyond_the_speeds_on_record():
    fit = fit_speeds(*drawn((0.5, 0.5), 10, noise=NOISE, spread=0.05))
    assert fit.uncertainty((0.02, 0.02)) < 0.01
    assert fit.uncertainty((0.4, -0.4)) > 0.05


def test_the_spread_is_that_of_sessions_which_the_fit_did_not_see():
    """Four weights pass through noise of few sessions almost exactly; left out, it shows."""
    true = 0.05
    found = [fit_speeds(*drawn((0.25,) * 4, 6, noise=true, seed=seed)).variance for seed in range(40)]
    assert math.sqrt(stats.mean(found)) > true


# In comparisons


def sessions(noise, weights, spread=0.15, count=12, seed=1):
    """Sessions and a candidate whose times follow the workloads with these weights."""
    times, speeds = drawn(weights, count + 1, noise=noise, spread=spread, seed=seed)
    every = [
        (0.01 * math.exp(time), {name: 1e-3 * math.exp(x) for name, x in zip(NAMES, row, strict=True)})
        for time, row in zip(times, speeds, strict=True)
    ]
    history = [
        point(p50, created=day(index + 1), reference_work=work)
        for index, (p50, work) in enumerate(every[:-1])
    ]
    return history, every[-1]


def test_a_case_that_follows_one_workload_is_known_better():
    history, (p50, work) = sessions(0.01, (1.0, 0.0, 0.0))
    found = compare_time(history, measurement(p50, reference_work=work), 0.25)
    assert found.verdict is Verdict.EQUIVALENT
    assert found.smallest_detectable < 0.25
    slower = compare_time(history, measurement(1.4 * p50, reference_work=work), 0.25)
    assert slower.verdict is Verdict.REGRESSED
    # Four sessions are corrected by equal weights, which leave most of what the workloads do.
    few = compare_time(history[:4], measurement(p50, reference_work=work), 0.25)
    assert few.smallest_detectable > 1


def test_contention_on_record_leaves_the_weights_equal():
    history, (p50, work) = sessions(0.01, (1.0, 0.0, 0.0))
    busy = [*history[1:], point(history[0].p50, created=day(1), reference_work=history[0].reference_work,
                                contended=True, contention=0.1)]  # fmt: skip
    assert compare_time(busy, measurement(p50, reference_work=work), 0.25).smallest_detectable > 0.5


def test_identical_code_is_not_called_slower():
    """Where the case follows the mean, one workload, or none of them: 600 runs with a full baseline."""
    verdicts = []
    for weights in ((1 / 3,) * 3, (1.0, 0.0, 0.0), (0.0, 0.0, 0.0)):
        for seed in range(200):
            history, (p50, work) = sessions(0.05, weights, seed=seed)
            found = compare_time(history, measurement(p50, reference_work=work), 0.25)
            verdicts.append(found.verdict)
    assert Verdict.REGRESSED not in verdicts
    assert verdicts.count(Verdict.SUSPECTED) <= 6

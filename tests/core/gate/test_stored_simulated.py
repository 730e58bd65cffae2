"""What the rule for stored times promises, by seeded simulation of a vectorised copy of it.

``pytest tests/core/test_compare_simulated.py -s`` prints the figures.
"""

import math

import numpy as np
import pytest
from core_values import measurement, point

from pytest_infergate.core.domain.outcome import Verdict
from pytest_infergate.core.gate.stored_times import compare_time

CASES = 10
RUNS = 20_000


def judge(history, new, *, cases=CASES, tolerance=0.25, prior=0.10, floor=0.02):
    """Regressed, suspected and smallest detectable effect, of rows of log times of sessions and a new launch."""
    from scipy.special import stdtrit

    sessions = history.shape[1]
    weight = max(0.0, 12.0 - (sessions - 1))
    degrees = weight + sessions - 1
    variance = history.var(axis=1, ddof=1) if sessions > 1 else np.zeros(len(new))
    spread = np.sqrt((weight * prior**2 + (sessions - 1) * variance) / degrees)
    error = np.maximum(spread, floor) * math.sqrt(1 + 1 / sessions)
    difference = new - history.mean(axis=1)
    limit = math.log1p(tolerance)
    strict = stdtrit(degrees, 1 - 0.005 / cases) * error
    detectable = strict + stdtrit(degrees, 0.9) * error
    fine = detectable <= limit
    above = difference - strict
    regressed = (above > 0) & (difference > limit) & (fine | (above > limit))
    detectable = np.where(fine, detectable, detectable + limit)
    suspected = ~regressed & (difference > limit) & (difference - stdtrit(degrees, 0.95) * error > 0)
    return regressed, suspected, np.expm1(detectable)


def draw(seed, sessions, spread, rows, slowdown=1.0):
    """Log times of identical launches, and of one launch of code that is slower by a factor."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, spread, (rows, sessions)), rng.normal(0, spread, rows) + math.log(slowdown)


@pytest.mark.parametrize("reference_work", [{"gemm": 1e-3}, {}])
@pytest.mark.parametrize("cases", [1, 10, 300])
def test_the_copy_is_faithful(cases, reference_work):
    rng = np.random.default_rng(cases)
    for sessions in (1, 2, 3, 11, 12, 13, 20):
        spreads = rng.uniform(0.001, 0.3, 12)
        history = rng.normal(0, 1, (12, sessions)) * spreads[:, None]
        new = rng.normal(0.3, 0.5, 12)
        regressed, suspected, detectable = judge(
            history, new, cases=cases, prior=0.10 if reference_work else 0.20
        )
        for row in range(12):
            points = [
                point(math.exp(level), f"2026-01-01T00:00:{number:02}Z", reference_work=reference_work)
                for number, level in enumerate(history[row])
            ]
            now = measurement(math.exp(new[row]), reference_work=reference_work)
            comparison = compare_time(points, now, 0.25, cases)
            assert comparison.smallest_detectable == pytest.approx(detectable[row])
            assert (comparison.verdict is Verdict.REGRESSED) == regressed[row]
            assert (comparison.verdict is Verdict.SUSPECTED) == suspected[row]


@pytest.mark.parametrize("spread", [0.03, 0.07, 0.10])
@pytest.mark.parametrize("sessions", [1, 3, 12])
def test_runs_of_identical_code_stay_green(sessions, spread):
    regressed, _, _ = judge(*draw(sessions, sessions, spread, RUNS * CASES))
    rate = regressed.reshape(RUNS, CASES).any(axis=1).mean()
    print(f"K={sessions} sd={spread:.0%}: {100 * rate:.3f} % of runs of {CASES} cases red")  # noqa: T201
    assert rate <= 0.005


@pytest.mark.parametrize("spread", [0.17, 0.23])
@pytest.mark.parametrize("sessions", [1, 3, 12])
def test_runs_of_identical_code_stay_green_without_reference_work(sessions, spread):
    regressed, _, _ = judge(*draw(sessions, sessions, spread, RUNS * CASES), prior=0.20)
    assert regressed.reshape(RUNS, CASES).any(axis=1).mean() <= 0.005


@pytest.mark.parametrize("cases", [1, 10, 300])
def test_one_session_sees_large_slowdowns(cases):
    factor_4, _, _ = judge(*draw(4, 1, 0.07, RUNS, slowdown=4), cases=cases)
    regressed, suspected, _ = judge(*draw(2, 1, 0.07, RUNS, slowdown=2), cases=cases)
    factor_2 = (regressed | suspected).mean()
    print(f"{cases} cases: x4 regressed {factor_4.mean():.1%}, x2 at least suspected {factor_2:.2%}")  # noqa: T201
    assert factor_4.mean() >= 0.95
    assert factor_2 >= 0.95


@pytest.mark.parametrize(
    ("spread", "ideal", "found"), [(0.027, 0.13, 0.19), (0.058, 0.31, 0.65), (0.07, 0.38, 0.73)]
)
def test_what_twelve_sessions_can_see(spread, ideal, found):
    # Ideal: of a history that stands alone and no tolerance. The prior still has the weight of one observation
    # in twelve, which a steady machine feels most; and a coarse instrument must clear the tolerance of 25 % too.
    detectable = float(np.median(judge(*draw(12, 12, spread, RUNS), cases=1)[2]))
    print(f"K=12 CV={spread:.1%}: smallest detectable {detectable:.1%}")  # noqa: T201
    assert detectable == pytest.approx(found, abs=0.01)
    assert detectable >= ideal - 0.01

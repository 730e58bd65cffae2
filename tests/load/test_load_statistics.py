"""Figures of a load test, from batches that are written down."""

import numpy as np
import pytest

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.load.batching_server import Batch, Request, Served
from pytest_infergate.load.load_statistics import Answers, answers, load_figures, load_percentile

SERVER = Load(scenario="server", rate=1.0)
SECOND = 10**9


def served(*batches, unanswered=(), ended=100):
    """Batches as (arrivals, start, finish) in seconds."""
    made = [
        Batch(
            tuple(Request(i, i, round(SECOND * moment)) for i, moment in enumerate(arrivals)),
            len(arrivals), round(SECOND * start), round(SECOND * finish),
        )
        for arrivals, start, finish in batches
    ]  # fmt: skip
    left = tuple(Request(i, i, round(SECOND * moment)) for i, moment in enumerate(unanswered))
    return Served(made, left, ended * SECOND)


def test_latency_is_from_arrival_to_answer_in_the_order_of_arrival():
    found = answers(SERVER, served(([2.0], 2, 3), ([0.5, 1.0], 3, 5.0), unanswered=[4.0], ended=10))
    assert found == Answers((4.5, 4.0, 1.0, 6.0), (True, True, True, False))


def test_a_query_of_several_streams_ends_with_its_last_answer():
    load = Load(scenario="multi-stream", streams=3)
    found = answers(load, served(([0, 0], 0, 1), ([0], 1, 2.5), ([3, 3], 3, 4), unanswered=[3], ended=6))
    assert found == Answers((2.5, 3.0), (True, False))


def test_figures_of_a_server():
    figures = load_figures(
        SERVER, served(([0.0], 0, 1), ([1.0, 2.0], 2, 4), ([5.0], 5, 5.5)), 10.0, max_batch=8, limit=1.0
    )
    assert (figures.queries, figures.answered, figures.requests) == (4, 4, 4)
    assert figures.seconds == 10.0  # no request arrived in the last five seconds
    assert figures.rate == 0.4
    assert figures.p50.value == pytest.approx(1.5)
    assert (figures.within, figures.goodput) == (2, 0.2)
    assert figures.busy == pytest.approx(0.35)
    assert figures.mean_batch == pytest.approx(4 / 3)
    assert figures.longest_queue == 2


def test_the_time_to_drain_the_queue_counts():
    figures = load_figures(SERVER, served(([0.0, 1.0], 1, 20)), 10.0, max_batch=8)
    assert (figures.seconds, figures.rate, figures.goodput) == (20.0, 0.1, None)


def test_unanswered_requests_are_slow_ones():
    figures = load_figures(
        SERVER, served(([0.0], 0, 1), unanswered=[0.5] * 99, ended=13), 10.0, max_batch=1, limit=50.0
    )
    assert (figures.queries, figures.answered, figures.within) == (100, 1, 1)
    assert figures.p95.value == 12.5
    assert figures.p95.high is None
    assert figures.p95.low == 12.5


def test_offline_has_a_rate_and_no_latency():
    figures = load_figures(
        Load(scenario="offline"), served(([0.0] * 8, 0, 2), ([0.0] * 8, 2, 4)), 10.0, max_batch=8, limit=1.0
    )
    assert (figures.p50, figures.p95, figures.p99, figures.goodput) == (None, None, None, None)
    assert figures.rate == 4.0


def test_without_requests_there_are_no_figures():
    assert load_figures(SERVER, served(), 10.0, max_batch=8) is None


def test_independent_requests_have_the_usual_bounds():
    found = np.random.default_rng(3).exponential(size=4000)
    bounds = load_percentile(Answers(tuple(found), (True,) * 4000), 0.95)
    usual = stats.quantile_estimate(sorted(found), 0.95)
    assert bounds.value == usual.value
    assert usual.low * 0.9 <= bounds.low <= usual.low
    assert usual.high <= bounds.high <= usual.high * 1.1


def test_a_slow_phase_widens_the_bounds():
    slow = np.concatenate([np.full(900, 1.0), np.full(100, 5.0)])
    found = tuple(slow + np.random.default_rng(0).uniform(0, 0.1, 1000))
    usual = stats.quantile_estimate(sorted(found), 0.95)
    bounds = load_percentile(Answers(found, (True,) * 1000), 0.95)
    assert bounds.low < 1.2
    assert usual.low > 5
    assert bounds.high is None or bounds.high > usual.high


@pytest.mark.parametrize("correlation", [0.0, 0.95])
def test_the_bounds_hold_where_requests_wait_for_each_other(correlation):
    """99 % bounds on either side should miss about 1 in 100; independent ones miss a fifth at 0.95."""
    generator = np.random.default_rng(1)
    missed = 0
    for _ in range(200):
        noise = generator.normal(size=2000)
        state, values = generator.normal(), []
        for each in noise:
            state = correlation * state + np.sqrt(1 - correlation**2) * each
            values.append(state)
        bounds = load_percentile(Answers(tuple(values), (True,) * 2000), 0.95)
        missed += bounds.low > 1.645
        missed += bounds.high is not None and bounds.high < 1.645
    assert missed <= 12

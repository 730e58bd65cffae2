"""Measured machines or a projected accelerator: thresholds by hand, and against brute force over demands."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.advice.projected_choice import (
    ProjectedChoice,
    choose,
    served_rates,
    waiting_calls,
)
from pytest_infergate.core.advice.projection import ProjectedBatch, ProjectedRange

CPUS = 200


def cpus(price=0.2, rate=50, count=CPUS):
    """Ends and costs of the steps of a CPU machine that serves so many requests per second."""
    machines = np.arange(1, count + 1)
    return machines * rate, machines * price


def usd(price, rate, demand, least=1):
    return math.inf if not rate else price * max(least, math.ceil(round(demand / rate, 9)))


def batch(size, low, high):
    middle = (low + high) / 2
    return ProjectedBatch(
        batch_size=size,
        call_time=ProjectedRange(low=low, point=middle, high=high),
        throughput=ProjectedRange(low=size / high, point=size / middle, high=size / low),
    )


def test_thresholds_are_edges_of_the_staircase():
    # One accelerator at 1.00 costs as much as five CPUs, which serve 250/s; it serves 300 to 2,000/s.
    choice = choose(*cpus(), 1.0, 300, 2000)
    assert choice.ruled_out_to == 200  # from the fifth CPU on it is not dearer
    # Five of its pessimistic kind serve 1,500/s and cost as much as 25 CPUs, which serve 1,250/s; the sixth is
    # needed where 31 CPUs are.
    assert choice.recommended_above == 1250
    assert choice.undecided == (200, 1250)
    answers = [choice.at(rate) for rate in (200, 201, 1250, 1251)]
    assert answers == ["ruled out", "undecided", "undecided", "recommended"]


def test_a_dearer_accelerator_at_both_ends_is_ruled_out_everywhere():
    choice = choose(*cpus(), 1.0, 50, 100)
    assert (choice.ruled_out_to, choice.undecided) == (None, None)
    assert choice.at(1e9) == "ruled out"
    # From 100/s on two CPUs are needed, which cost as much as the accelerator that ends there.
    assert choose(*cpus(1, 100), 2.0, 50, 100).ruled_out_to is None


def test_an_accelerator_that_may_or_may_not_be_cheaper_is_undecided_for_ever():
    assert choose(*cpus(), 1.0, 100, 1000).undecided == (200, None)


def test_a_cheaper_machine_that_is_faster_at_both_ends_is_recommended_everywhere():
    choice = choose(*cpus(), 0.1, 60, 100)
    assert choice.recommended_above == 0
    assert choice.undecided is None
    assert choice.at(0.001) == "recommended"


def test_equal_costs_decide_nothing():
    assert choose(*cpus(), 0.2, 50, 50).at(10) == "undecided"


def test_without_a_cpu_that_meets_the_limit_only_the_limit_counts():
    none = [1000.0], [math.inf]
    assert choose(*none, 1.0, 10, 100).at(5) == "recommended"
    assert choose(*none, 1.0, 0, 100).at(5) == "undecided"
    assert choose(*none, 1.0, 0, 0).at(5) == "ruled out"


def test_a_limit_that_only_the_optimistic_end_meets_recommends_nothing():
    choice = choose(*cpus(), 1.0, 0, 2000)
    assert choice.recommended_above is None
    assert choice.at(1e6) == "undecided"


def test_machines_that_always_run_count():
    # Two accelerators at 1.00 run at least, as many as ten CPUs.
    assert choose(*cpus(), 1.0, 300, 2000, least=2).ruled_out_to == 450


rates = st.floats(0.1, 1e5)
prices = st.floats(0.01, 100)
# Steps of the least cost of several deployments: of any width, and of a cost that never falls.
steps = st.lists(st.tuples(rates, prices), min_size=1, max_size=30).map(
    lambda pairs: tuple(np.cumsum(column) for column in zip(*pairs, strict=True))
)
measured_steps = st.one_of(steps, st.builds(cpus, prices, rates, st.integers(1, 100)))
shares = st.lists(st.floats(1e-6, 1), min_size=1, max_size=30)


@given(measured_steps, prices, rates, st.floats(1, 20), shares, st.integers(1, 3))
def test_what_is_decided_holds_at_every_demand(  # noqa: PLR0917 - all are drawn
    measured,
    price,
    slow,
    spread,
    positions,
    least,
):
    ends, costs = measured
    choice = choose(ends, costs, price, slow, spread * slow, least=least)
    edges = [edge for edge in (choice.ruled_out_to, choice.recommended_above) if edge]
    for demand in (*ends, *(share * ends[-1] for share in positions), *edges, *(1.000001 * e for e in edges)):
        if demand > ends[-1]:
            continue  # nothing is known beyond the last step
        cost, decision = costs[np.searchsorted(ends, demand)], choice.at(demand)
        if decision == "recommended":
            assert usd(price, slow, demand, least) < cost * (1 + 1e-8)
        if decision == "ruled out":
            assert usd(price, spread * slow, demand, least) > cost * (1 - 1e-8)


@given(measured_steps, prices, rates, st.floats(1, 20))
def test_thresholds_are_no_further_apart_than_they_must_be(measured, price, slow, spread):
    ends, costs = measured
    choice = choose(ends, costs, price, slow, spread * slow)
    if choice.ruled_out_to is not None and choice.ruled_out_to < ends[-1] * (1 - 1e-5):
        above = choice.ruled_out_to * (1 + 1e-6) or 1e-9
        assert usd(price, spread * slow, above) <= costs[np.searchsorted(ends, above)] * (1 + 1e-6)
    if choice.recommended_above:
        at = choice.recommended_above
        assert usd(price, slow, at) >= costs[np.searchsorted(ends, at)] * (1 - 1e-6)


@given(measured_steps, prices, rates, st.floats(1, 20), st.floats(1, 10), shares)
def test_a_wider_projection_never_decides_more(  # noqa: PLR0917 - all are drawn
    measured,
    price,
    slow,
    spread,
    wider,
    positions,
):
    ends, _ = measured
    narrow = choose(*measured, price, slow, spread * slow)
    wide = choose(*measured, price, slow / wider, wider * spread * slow)
    for demand in (share * ends[-1] for share in positions):
        if wide.at(demand) != "undecided":
            assert narrow.at(demand) == wide.at(demand)


# What one machine serves


def test_without_a_limit_the_utilisation_counts_and_small_batches_are_only_optimistic():
    sizes = [batch(1, 0.002, 0.010), batch(32, 0.008, 0.060)]
    assert served_rates(sizes, None, 0.5) == (0.5 * 32 / 0.060, 0.5 * 32 / 0.008)
    assert served_rates(sizes[:1], None, 0.5) == (0, 0.5 / 0.002)


def test_the_pessimistic_end_waits_for_calls_before_its_own():
    sizes = [batch(8, 0.002, 0.010), batch(32, 0.008, 0.030)]
    # The larger batches meet 75 ms with the usual wait of up to one call, but not 50 ms.
    assert served_rates(sizes, 0.075, 0.6)[0] == 0.6 * 32 / 0.030
    assert served_rates(sizes, 0.050, 0.6)[0] == 0.6 * 8 / 0.010
    # With less time than two calls, only a part of the load leaves a server free most of the time.
    part = served_rates(sizes, 0.019, 0.6)[0]
    assert 0 < part < 0.6 * 8 / 0.010
    assert served_rates(sizes, 0.0099, 0.6) == (0, 0.6 * 32 / 0.008)
    assert served_rates(sizes, 0.0019, 0.6) == (0, 0)


@pytest.mark.parametrize("size", [8, 64])
def test_waiting_calls_grow_with_load_and_stay_below_two_where_batches_are_large(size):
    loads = [waiting_calls(size, load, 0.95) for load in (0.05, 0.1, 0.3, 0.6)]
    assert all(low <= 1.02 * high for low, high in pairwise(loads))  # the error of the simulation
    assert loads[0] >= 1
    assert loads[-1] < 2.3
    assert waiting_calls(size, 0.6, 0.99) >= waiting_calls(size, 0.6, 0.95)


def test_a_machine_for_each_stream_needs_no_wait():
    sizes = [batch(8, 0.002, 0.030)]
    assert served_rates(sizes, 1 / 30, 0.6, 0.99)[0] == 0
    assert served_rates(sizes, 1 / 30, 0.6, 0.99, stream=30)[0] == 30
    # A call that outlasts the period falls behind.
    assert served_rates(sizes, 0.1, 0.6, 0.99, stream=40)[0] != 40


def test_bad_prices_rates_and_demands_are_errors():
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="price"):
            choose(*cpus(), bad, 1, 2)
        with pytest.raises(ValueError, match="demand"):
            ProjectedChoice().at(bad)
    for slow, fast in ((-1.0, 2), (math.nan, 2), (1, math.inf), (3, 2)):
        with pytest.raises(ValueError, match="rates"):
            choose(*cpus(), 1.0, slow, fast)

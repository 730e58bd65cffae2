"""CPU or projected accelerator: thresholds by hand, and against brute force over demands."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_infergate.core.advice.projected_choice import PricedRate, ProjectedChoice, choose, served_rates
from pytest_infergate.core.advice.projection import ProjectedBatch, ProjectedRange

CPU = PricedRate(usd_per_hour=0.2, requests_per_s=50)


def usd(price, rate, demand):
    return math.inf if not rate else price * max(1, math.ceil(round(demand / rate, 9)))


def batch(size, low, high):
    middle = (low + high) / 2
    return ProjectedBatch(
        batch_size=size,
        call_time=ProjectedRange(low=low, point=middle, high=high),
        throughput=ProjectedRange(low=size / high, point=size / middle, high=size / low),
    )


def test_thresholds_are_edges_of_the_staircase():
    # One accelerator at 1.00 costs as much as five CPUs, which serve 250/s; it serves 300 to 2,000/s.
    choice = choose(CPU, 1.0, 300, 2000)
    assert choice.ruled_out_to == 200  # from the fifth CPU on it is not dearer
    # Five of its pessimistic kind serve 1,500/s and cost as much as 25 CPUs, which serve 1,250/s; the sixth is
    # needed where 31 CPUs are.
    assert choice.recommended_above == 1250
    assert choice.undecided == (200, 1250)
    answers = [choice.at(rate) for rate in (200, 201, 1250, 1251)]
    assert answers == ["ruled out", "undecided", "undecided", "recommended"]


def test_a_dearer_accelerator_at_both_ends_is_ruled_out_everywhere():
    choice = choose(CPU, 1.0, 50, 100)
    assert (choice.ruled_out_to, choice.undecided) == (None, None)
    assert choice.at(1e9) == "ruled out"
    # From 100/s on two CPUs are needed, which cost as much as the accelerator that ends there.
    assert choose(PricedRate(usd_per_hour=1, requests_per_s=100), 2.0, 50, 100).ruled_out_to is None


def test_an_accelerator_that_may_or_may_not_be_cheaper_is_undecided_for_ever():
    assert choose(CPU, 1.0, 100, 1000).undecided == (200, None)


def test_a_cheaper_machine_that_is_faster_at_both_ends_is_recommended_everywhere():
    choice = choose(CPU, 0.1, 60, 100)
    assert choice.recommended_above == 0
    assert choice.undecided is None
    assert choice.at(0.001) == "recommended"


def test_costs_that_are_too_close_are_compared_up_to_ten_thousand_machines():
    cpu = PricedRate(usd_per_hour=1, requests_per_s=100)
    choice = choose(cpu, 1.00001, 50, 99.999)
    assert choice.ruled_out_to == pytest.approx(999_990)
    assert choice.recommended_above is None
    assert choose(cpu, 1.00001, 50, 99).ruled_out_to is None


def test_equal_costs_decide_nothing():
    assert choose(CPU, 0.2, 50, 50).at(10) == "undecided"


def test_without_a_cpu_that_meets_the_limit_only_the_limit_counts():
    none = PricedRate(usd_per_hour=0.2, requests_per_s=0)
    assert choose(none, 1.0, 10, 100).at(5) == "recommended"
    assert choose(none, 1.0, 0, 100).at(5) == "undecided"
    assert choose(none, 1.0, 0, 0).at(5) == "ruled out"


def test_a_limit_that_only_the_optimistic_end_meets_recommends_nothing():
    choice = choose(CPU, 1.0, 0, 2000)
    assert choice.recommended_above is None
    assert choice.at(1e6) == "undecided"


rates = st.floats(0.1, 1e5)
prices = st.floats(0.01, 100)


cpus = st.builds(PricedRate, usd_per_hour=prices, requests_per_s=rates)


@given(cpus, prices, rates, st.floats(1, 20), st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=30))
def test_what_is_decided_holds_at_every_demand(cpu, other_price, pessimistic, spread, demands):
    price, rate = cpu.usd_per_hour, cpu.requests_per_s
    optimistic = spread * pessimistic
    choice = choose(cpu, other_price, pessimistic, optimistic)
    edges = [edge for edge in (choice.ruled_out_to, choice.recommended_above) if edge]
    for demand in (*demands, *edges, *(edge * 1.000001 for edge in edges)):
        # Beyond thousands of machines, nothing is compared.
        assume(demand < 5000 * min(rate, pessimistic))
        decision = choice.at(demand)
        if decision == "recommended":
            assert usd(other_price, pessimistic, demand) < usd(price, rate, demand) * (1 + 1e-9)
        if decision == "ruled out":
            assert usd(other_price, optimistic, demand) > usd(price, rate, demand) * (1 - 1e-9)


@given(cpus, prices, rates, st.floats(1, 20))
def test_thresholds_are_no_further_apart_than_they_must_be(cpu, other_price, pessimistic, spread):
    price, rate = cpu.usd_per_hour, cpu.requests_per_s
    optimistic = spread * pessimistic
    choice = choose(cpu, other_price, pessimistic, optimistic)
    if choice.ruled_out_to is not None and choice.ruled_out_to < 1000 * min(rate, optimistic):
        above = choice.ruled_out_to * (1 + 1e-6) or 1e-9
        assert usd(other_price, optimistic, above) <= usd(price, rate, above) * (1 + 1e-6)
    if choice.recommended_above and choice.recommended_above < 1000 * min(rate, pessimistic):
        at = choice.recommended_above
        assert usd(other_price, pessimistic, at) >= usd(price, rate, at) * (1 - 1e-6)


@given(cpus, prices, rates, st.floats(1, 20), st.floats(1, 10))
def test_a_wider_projection_never_decides_more(cpu, other_price, pessimistic, spread, wider):
    narrow = choose(cpu, other_price, pessimistic, spread * pessimistic)
    wide = choose(cpu, other_price, pessimistic / wider, wider * spread * pessimistic)
    for demand in (0.01, 1, 100, 10_000):
        if wide.at(demand) != "undecided" and demand < 1000 * min(cpu.requests_per_s, pessimistic / wider):
            assert narrow.at(demand) == wide.at(demand)


# What one machine serves


def test_the_pessimistic_end_waits_for_one_call_before_its_own():
    sizes = [batch(1, 0.002, 0.010), batch(32, 0.008, 0.060)]
    assert served_rates(sizes, None, 0.5) == (0.5 * 32 / 0.060, 0.5 * 32 / 0.008)
    assert served_rates(sizes, 0.119, 1.0) == (1 / 0.010, 32 / 0.008)
    assert served_rates(sizes, 0.120, 1.0)[0] == 32 / 0.060
    assert served_rates(sizes, 0.019, 1.0) == (0, 32 / 0.008)
    assert served_rates(sizes, 0.001, 1.0) == (0, 0)


def test_bad_prices_rates_and_demands_are_errors():
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="price"):
            PricedRate(usd_per_hour=bad, requests_per_s=1)
        with pytest.raises(ValueError, match="price"):
            choose(CPU, bad, 1, 2)
        with pytest.raises(ValueError, match="demand"):
            ProjectedChoice().at(bad)
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="rate"):
            PricedRate(usd_per_hour=1, requests_per_s=bad)
    with pytest.raises(ValueError, match="pessimistic"):
        choose(CPU, 1.0, 3, 2)

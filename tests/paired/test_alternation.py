"""The alternation, on sides that only remember that they were asked."""

import itertools
import random

import pytest

from pytest_infergate.core.domain.launch_times import GpuState, Launch
from pytest_infergate.paired.alternation import (
    CONFIRM_PRECISION,
    LAUNCH_PRECISION,
    PAIRS_BETWEEN_CHECKS,
    SamplingPlan,
    alternate,
    calls_per_block,
    sampling_plan,
    shuffled_order,
)
from pytest_infergate.paired.protocol import BlockTimed


class Side:
    """Takes as long as it is asked to, block by block."""

    def __init__(self, name, asked, seconds):
        self.name = name
        self.asked = asked
        self.seconds = seconds

    def timed_block(self, calls):
        self.asked.append((self.name, calls))
        return BlockTimed(self.seconds(), GpuState(clock_hz=1e9 * len(self.asked)))


def taken(plan, base=lambda: 0.01, candidate=lambda: 0.01, seed=1):
    asked = []
    sides = Side("base", asked, base), Side("candidate", asked, candidate)
    return alternate(*sides, plan, random.Random(seed)), asked


def noisy(seed):
    generator = random.Random(seed)
    return lambda: 0.01 * generator.lognormvariate(0, 0.5)


def test_short_calls_share_a_block():
    table = {
        3.0: 1,
        0.002: 1,
        0.0019: 3,
        0.001: 5,
        1e-4: 50,
        1e-6: 5000,
        2.5e-7: 20_000,
        1e-12: 20_000,
        0.0: 20_000,
    }
    assert {seconds: calls_per_block(seconds) for seconds in table} == table


def test_blocks_are_planned_by_the_time_that_there_is():
    table = {
        (0.010, 12.0): (1, 20, 100),
        (0.050, 12.0): (1, 20, 40),
        (0.250, 12.0): (1, 8, 8),
        (1.0, 12.0): (1, 5, 5),
        (1.0, 7.0): (1, 3, 3),
        (1.0, 2.0): (1, 1, 1),
        (1.0, 1.9): (1, 0, 0),
        (0.010, 0.0): (1, 0, 0),
        (1e-4, 12.0): (50, 20, 100),
        (1e-4, 0.105): (50, 10, 10),
        (0.0, 12.0): (20_000, 20, 100),
    }
    assert {given: sampling_plan(*given) for given in table} == {
        given: (*plan, LAUNCH_PRECISION) for given, plan in table.items()
    }


def test_confirmation_takes_more_blocks():
    table = {
        (0.010, 12.0): (1, 20, 300),
        (0.050, 12.0): (1, 20, 80),
        (0.250, 12.0): (1, 16, 16),
        (1.0, 12.0): (1, 5, 5),
        (1.0, 1.9): (1, 0, 0),
        (1e-4, 12.0): (50, 20, 300),
    }
    assert {given: sampling_plan(*given, confirming=True) for given in table} == {
        given: (*plan, CONFIRM_PRECISION) for given, plan in table.items()
    }


def test_the_least_never_exceeds_the_most_nor_the_time():
    seconds, allowed = (0.0, 1e-7, 1e-4, 0.003, 0.1, 2.0, 30.0), (-5.0, 0.0, 0.01, 1.0, 60.0)
    for given in itertools.product(seconds, allowed, (False, True)):
        plan = sampling_plan(*given[:2], confirming=given[2])
        assert plan.min_pairs <= plan.max_pairs <= (300 if given[2] else 100), given
        assert plan.max_pairs <= 0 or plan.max_pairs * 2 * given[0] * plan.calls <= given[1], given


def test_either_side_is_first_as_often_as_the_other():
    for pairs, seed in itertools.product((1, 2, 9, 10, 30), range(5)):
        firsts = shuffled_order(pairs, random.Random(seed))
        assert len(firsts) == pairs, (pairs, seed)
        assert abs(2 * sum(firsts) - pairs) <= pairs % 2, (pairs, seed)


def test_the_order_is_shuffled():
    orders = {tuple(shuffled_order(10, random.Random(seed))) for seed in range(50)}
    assert len(orders) > 30
    assert any(one[index] == one[index + 1] for one in orders for index in range(9))


def test_of_an_odd_number_either_side_gets_the_odd_one():
    assert {sum(shuffled_order(5, random.Random(seed))) for seed in range(20)} == {2, 3}


def test_no_pairs_have_no_order():
    assert shuffled_order(0, random.Random(1)) == []


def test_precise_blocks_end_at_the_least():
    launch, asked = taken(SamplingPlan(7, 20, 100))
    assert (len(launch.base), len(launch.candidate)) == (20, 20)
    assert len(asked) == 40
    assert {calls for _, calls in asked} == {7}


def test_noisy_blocks_go_on_to_the_most():
    launch, _ = taken(SamplingPlan(1, 10, 45), noisy(1), noisy(2))
    assert len(launch.base) == 45


def test_blocks_end_at_the_check_that_found_them_precise():
    generator = random.Random(3)

    def seconds():
        return 0.01 * generator.lognormvariate(0, 0.05)

    launch, _ = taken(SamplingPlan(1, 10, 100, LAUNCH_PRECISION), seconds, seconds)
    more, _ = taken(SamplingPlan(1, 10, 100, LAUNCH_PRECISION / 3), seconds, seconds)
    assert len(more.base) > len(launch.base)
    pairs = len(launch.base)
    assert 10 < pairs < 100
    assert pairs % PAIRS_BETWEEN_CHECKS == 0
    before = Launch(
        base=launch.base[:-PAIRS_BETWEEN_CHECKS], candidate=launch.candidate[:-PAIRS_BETWEEN_CHECKS]
    )
    assert launch.error <= LAUNCH_PRECISION < before.error


def test_every_block_keeps_the_state_of_its_accelerator():
    launch, asked = taken(SamplingPlan(1, 10, 10))
    assert len(asked) == 20
    assert len(launch.base_gpu_states) == len(launch.candidate_gpu_states) == 10
    clocks = sorted(
        gpu_state.clock_hz for gpu_state in (*launch.base_gpu_states, *launch.candidate_gpu_states)
    )
    assert clocks == [1e9 * number for number in range(1, 21)]


def test_each_pair_has_both_sides():
    _, asked = taken(SamplingPlan(1, 20, 20))
    names = [name for name, _ in asked]
    pairs = [set(names[index : index + 2]) for index in range(0, 40, 2)]
    assert pairs == [{"base", "candidate"}] * 20


def test_within_each_block_both_are_first_equally_often():
    _, asked = taken(SamplingPlan(1, 30, 30))
    firsts = [name for name, _ in asked][::2]
    assert [firsts[at : at + 10].count("base") for at in (0, 10, 20)] == [5, 5, 5]


def test_times_stay_with_their_side():
    base, candidate = iter(range(1, 21)), iter(range(101, 121))
    launch, _ = taken(SamplingPlan(1, 20, 20), lambda: next(base), lambda: next(candidate))
    assert (launch.base, launch.candidate) == (tuple(range(1, 21)), tuple(range(101, 121)))


@pytest.mark.parametrize("zero", ["base", "candidate", "both"])
def test_a_time_of_zero_ends_the_launch_at_the_least(zero):
    seconds = {side: (lambda: 0.0) for side in ("base", "candidate") if zero in (side, "both")}
    launch, _ = taken(SamplingPlan(1, 10, 50), **seconds)
    assert len(launch.base) == 10


@pytest.mark.parametrize("most", [0, -3])
def test_a_plan_without_blocks_takes_none(most):
    assert taken(SamplingPlan(1, most, most)) == (Launch(base=(), candidate=()), [])

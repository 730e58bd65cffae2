"""Service times in recorded order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.advice.queueing import Server, schedule, simulate
from pytest_infergate.core.advice.service_times import (
    PERCENTILES,
    CallOrders,
    RecordedTimes,
    ServiceTimes,
)

ONE = (1.0, 2.0, 8.0, 4.0)
TWO = (30.0, 10.0, 20.0)


def recorded(**calls):
    """Service times with calls in order: ``recorded(b1=ONE, b4=())``."""
    sizes = tuple(int(name[1:]) for name in calls)
    rows = [values or (5.0,) for values in calls.values()]
    return ServiceTimes(
        batch_sizes=sizes,
        percentiles=tuple(tuple(np.percentile(row, range(PERCENTILES)).tolist()) for row in rows),
        means=tuple(float(np.mean(row)) for row in rows),
        calls=tuple(calls.values()),
    )


def served(service, moments, server, *, of=1, workers=1, seed=0, slowdown=1.0):
    times = RecordedTimes(CallOrders(service, of), workers, seed, slowdown)
    line = schedule(moments, times, server)
    return (line.finishes - line.starts).tolist()


def rotations(values):
    return [list(values[start:] + values[:start]) for start in range(len(values))]


def test_a_busy_worker_repeats_the_recorded_order_from_a_place_of_the_seed():
    starts = [served(recorded(b1=ONE), [0.0] * 8, Server(max_batch=1), seed=seed) for seed in range(20)]
    assert all(times[:4] in rotations(ONE) and times[4:] == times[:4] for times in starts)
    assert len({times[0] for times in starts}) == 4


@pytest.mark.parametrize(
    ("rest", "behind"), [(0.0, 1), (0.5, 2), (1.5, 2), (2.0, 2), (2.5, 3), (10.0, 3), (10.5, 0)]
)
def test_the_recording_goes_on_while_a_worker_rests(rest, behind):
    """After the call of 1 s, which is the first: the next one of 2 s, 8 s or 4 s, or the first again."""
    seed = next(
        seed for seed in range(50) if served(recorded(b1=ONE), [0.0], Server(max_batch=1), seed=seed) == [1.0]
    )
    found = served(recorded(b1=ONE), [0.0, 1.0 + rest], Server(max_batch=1), seed=seed)
    assert found == [1.0, ONE[behind]]
    slow = served(recorded(b1=ONE), [0.0, 3.0 * (1.0 + rest)], Server(max_batch=1), seed=seed, slowdown=3.0)
    assert slow == [3.0, 3.0 * ONE[behind]]


def test_workers_have_places_of_their_own():
    phases = recorded(b1=(1.0,) * 50 + (2.0,) * 50)
    found = served(phases, [0.0] * 200, Server(max_batch=1, workers=2), workers=2)
    assert found[0] != found[1]
    assert 80 <= found.count(2.0) <= 120


def test_calls_of_other_sizes_follow_the_ranks_of_the_largest():
    orders = CallOrders(recorded(b1=ONE, b4=TWO), 4)
    assert orders[4].tolist() == list(TWO)
    assert orders[1].tolist() == [8.0, 1.0, 4.0]  # the order of `TWO`: largest, smallest, middle


def test_sizes_that_were_not_measured_scale_the_nearest_order():
    service = recorded(b1=ONE, b4=(), b6=TWO, b8=())
    orders = CallOrders(service, 6)
    assert orders[5] == pytest.approx(orders[6] * service.mean(5) / service.mean(6))
    assert orders[4] == pytest.approx(orders[6] * service.mean(4) / service.mean(6))
    assert orders[2] == pytest.approx(orders[1] * service.mean(2) / service.mean(1))
    assert [service.order_of(size) for size in (1, 4, 6, 8)] == [1, 1, 6, 6]


@pytest.mark.parametrize("calls", [(), ((),), ((), TWO)])
def test_without_an_order_times_are_drawn_independently(calls):
    sizes = (1, 4)[: len(calls) or 2]
    plain = ServiceTimes(batch_sizes=sizes, percentiles=((1.0,) * 99 + (2.0,) * 2,) * len(sizes))
    service = ServiceTimes(batch_sizes=sizes, percentiles=plain.percentiles, calls=calls)
    assert service.order_of(1) is None
    moments = np.arange(2000.0)
    loads = [simulate(moments, each, Server(max_batch=1), seed=0) for each in (plain, service)]
    assert loads[0] == loads[1]


@given(st.lists(st.floats(0.5, 9), min_size=1, max_size=30), st.floats(1, 5))
def test_slower_calls_scale_a_busy_server(calls, factor):
    service, server = recorded(b1=tuple(calls)), Server(max_batch=1)
    usual = simulate([0.0] * 100, service, server, seed=1, warm_up=0)
    slow = simulate([0.0] * 100, service, server, seed=1, warm_up=0, slowdown=factor)
    assert slow.p95 == pytest.approx(factor * usual.p95)
    scaled = simulate([0.0] * 100, service.scaled(factor), server, seed=1, warm_up=0)
    assert scaled.p95 == pytest.approx(slow.p95)


@pytest.mark.parametrize(
    "calls", [((1.0,), (1.0,)), ((0.0,),), ((-1.0,),), ((float("nan"),),), ((float("inf"),),)]
)
def test_calls_that_cannot_be_are_refused(calls):
    with pytest.raises(ValueError, match="calls"):
        ServiceTimes(batch_sizes=(1,), percentiles=((1.0,) * 101,), calls=calls)

import math
from itertools import pairwise, product

import msgspec
import numpy as np
import pytest
from core_values import refusal, refusals
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.advice import queueing, sizing
from pytest_infergate.core.advice.demand import Backlog, Demand, arrivals
from pytest_infergate.core.advice.queueing import (
    Server,
    late_requests,
    measured_times,
    replay_queue,
    schedule,
    simulate,
)
from pytest_infergate.core.advice.service_times import Curve, DrawnTimes, ServiceTimes
from pytest_infergate.core.advice.sizing import Sizing, offline


def constant(**seconds):
    """Service times that never vary: ``constant(b1=0.010, b8=0.040)``."""
    by_size = {int(name[1:]): value for name, value in seconds.items()}
    return ServiceTimes(
        batch_sizes=tuple(by_size), percentiles=tuple((value,) * 101 for value in by_size.values())
    )


def line(low, high):
    """Percentiles of the uniform distribution."""
    return tuple(low + (high - low) * index / 100 for index in range(101))


TEN_MS = constant(b1=0.010)
BATCHES = constant(b1=0.010, b4=0.016, b16=0.040)


# Service times


def test_slow_calls_are_drawn_with_the_mean_that_was_measured():
    values = (*line(0.01, 1.01)[:100], 41.0)
    # The last line bends to a mean of 5 s instead of 21 s.
    mean = sum((low + high) / 2 for low, high in pairwise(values[:100])) / 100 + 5 / 100
    service = ServiceTimes(batch_sizes=(1,), percentiles=(values,), means=(mean,))
    assert service.mean(1) == pytest.approx(mean)
    alone = simulate(np.arange(20_000) * 100.0, service, Server(max_batch=1), seed=0, warm_up=0.0)
    assert alone.mean == pytest.approx(mean, abs=0.02)


def test_the_mean_holds_of_calls_below_a_second():
    values = (0.010,) * 100 + (0.050,)
    service = ServiceTimes(batch_sizes=(1,), percentiles=(values,), means=(0.0101,))
    assert service.mean(1) == pytest.approx(0.0101)
    assert service.quantile(1, 0.995) < 0.030


def test_a_measured_size_has_its_own_times():
    service = ServiceTimes(batch_sizes=(1, 4), percentiles=(line(1, 2), line(3, 5)))
    assert service.largest == 4
    assert service.mean(1) == pytest.approx(1.5)
    assert service.mean(4) == pytest.approx(4)
    assert [service.quantile(4, u) for u in (0, 0.25, 0.995, 1)] == pytest.approx([3, 3.5, 4.99, 5])
    assert service.measured(4)
    assert not service.interpolated(4)


def test_between_two_sizes_each_quantile_is_linear_in_the_size():
    service = ServiceTimes(batch_sizes=(1, 5), percentiles=(line(1, 2), line(5, 10)), means=(1.5, 7.5))
    assert [service.quantile(2, u) for u in (0, 0.5, 1)] == pytest.approx([2, 3, 4])
    assert [service.mean(size) for size in (1, 2, 3, 4, 5)] == pytest.approx([1.5, 3, 4.5, 6, 7.5])
    assert not service.measured(2)
    assert service.interpolated(2)


def test_a_batch_below_the_smallest_is_filled_up_to_it():
    service = constant(b4=0.016, b8=0.030)
    assert service.mean(1) == service.mean(4) == pytest.approx(0.016)
    assert not service.measured(1)
    assert not service.interpolated(1)


def test_nothing_is_known_beyond_the_largest():
    for batch in (0, -1, 17):
        assert f"at most 16, as measured, got {batch}" in refusal(BATCHES.mean, batch)


def test_a_quantile_is_a_share():
    for u in (-0.1, 1.1, math.nan):
        assert str(u) in refusal(BATCHES.quantile, 1, u)


def test_service_times_check_themselves(snapshot):
    known = {"batch_sizes": (1,), "percentiles": (line(1, 2),)}
    strange = {
        "no batch size": {"batch_sizes": (), "percentiles": ()},
        "a batch of nothing": {"batch_sizes": (0,)},
        "descending sizes": {"batch_sizes": (4, 1), "percentiles": (line(1, 2),) * 2},
        "equal sizes": {"batch_sizes": (4, 4), "percentiles": (line(1, 2),) * 2},
        "a size without percentiles": {"batch_sizes": (1, 2)},
        "a mean too many": {"means": (1.0, 2.0)},
        "a percentile too few": {"percentiles": ((1.0,) * 100,)},
        "descending percentiles": {"percentiles": (line(2, 1),)},
        "from zero": {"percentiles": (line(0, 1),)},
        "from below zero": {"percentiles": (line(-1, 1),)},
        "up to infinity": {"percentiles": ((1.0,) * 100 + (math.inf,),)},
        "up to NaN": {"percentiles": ((1.0,) * 100 + (math.nan,),)},
        "NaN": {"percentiles": ((math.nan,) * 101,)},
        "a mean of zero": {"means": (0.0,)},
        "a mean of NaN": {"means": (math.nan,)},
    }
    refused = {name: refusal(ServiceTimes, **{**known, **fields}) for name, fields in strange.items()}
    assert refused == snapshot


def mean_of(curve):
    """By the middle of two thousand slices."""
    return np.mean([curve.quantile((index + 0.5) / 2000) for index in range(2000)])


@given(st.lists(st.floats(1e-4, 10), min_size=101, max_size=101), st.floats(0.3, 40))
def test_the_mean_of_a_curve_is_that_of_its_quantiles(values, tail):
    curve = Curve(tuple(sorted(values)), tail)
    assert curve.mean == pytest.approx(mean_of(curve), rel=2e-3)


def test_a_single_slow_call_weighs_as_much_as_it_did():
    # 999 calls from 1 to 2 s and one of 100 s: the straight line would take the slowest ten for 51 s each.
    sample = np.append(np.linspace(1, 2, 999), 100.0)
    percentiles = tuple(np.percentile(sample, range(101)).tolist())
    straight = ServiceTimes(batch_sizes=(1,), percentiles=(percentiles,))
    bent = ServiceTimes(batch_sizes=(1,), percentiles=(percentiles,), means=(float(sample.mean()),))
    assert straight.mean(1) > 1.9
    assert bent.mean(1) == pytest.approx(sample.mean(), rel=1e-6)
    assert mean_of(bent.curve(1)) == pytest.approx(sample.mean(), rel=0.01)
    assert bent.quantile(1, 0.5) == straight.quantile(1, 0.5)
    assert bent.quantile(1, 1) == 100


def test_a_mean_that_does_not_fit_bends_no_further_than_the_line_goes():
    for mean in [0.5, 1.0, 1.5, 2.0, 50.0]:
        service = ServiceTimes(batch_sizes=(1,), percentiles=(line(1, 2),), means=(mean,))
        assert 1.49 < service.mean(1) < 1.51, mean


def test_the_mean_of_calls_that_never_vary():
    service = ServiceTimes(batch_sizes=(1,), percentiles=((0.01,) * 101,), means=(0.01,))
    assert service.mean(1) == pytest.approx(0.01)


# The schedule, by hand


def timeline(of):
    """(start, finish, size) of each batch."""
    return list(zip(of.starts.tolist(), of.finishes.tolist(), of.sizes.tolist(), strict=True))


FIVE = [0.0, 15.0, 18.0, 20.0, 60.0]
"""Five arrivals, in milliseconds as everything here; batches of at most 2, waiting 10, taking 20."""


def test_one_worker():
    of = schedule(FIVE, lambda number, size: 20.0, Server(max_batch=2, max_wait=10.0))
    assert timeline(of) == [
        (10.0, 30.0, 1),  # 0 has waited its 10 alone
        (30.0, 50.0, 2),  # 15 and 18 were full at 18, and the worker is free at 30
        (50.0, 70.0, 1),  # 20 was due at 30, and goes alone at 50
        (70.0, 90.0, 1),  # 60 has waited its 10
    ]
    assert of.latencies.tolist() == [30.0, 35.0, 32.0, 50.0, 30.0]


def test_two_workers():
    of = schedule(FIVE, lambda number, size: 20.0, Server(max_batch=2, max_wait=10.0, workers=2))
    assert timeline(of) == [
        (10.0, 30.0, 1),
        (18.0, 38.0, 2),  # the second worker takes 15 and 18 as soon as they are two
        (30.0, 50.0, 1),  # 20 is due at 30, when the first comes free
        (70.0, 90.0, 1),
    ]
    assert of.latencies.tolist() == [30.0, 23.0, 20.0, 30.0, 30.0]


def test_without_waiting_for_a_batch_to_fill():
    of = schedule(FIVE, lambda number, size: 20.0, Server(max_batch=2))
    assert timeline(of) == [
        (0.0, 20.0, 1),
        (20.0, 40.0, 2),  # 15 and 18; 20 comes at the same moment and finds the batch full
        (40.0, 60.0, 1),
        (60.0, 80.0, 1),
    ]


def test_requests_of_one_moment_go_together():
    of = schedule([5.0] * 7, lambda number, size: 10.0 * size, Server(max_batch=3, max_wait=100.0))
    assert timeline(of) == [(5.0, 35.0, 3), (35.0, 65.0, 3), (105.0, 115.0, 1)]


def test_a_request_that_comes_as_the_wait_ends_goes_with_the_batch():
    of = schedule([0.0, 10.0], lambda number, size: 1.0, Server(max_batch=8, max_wait=10.0))
    assert timeline(of) == [(10.0, 11.0, 2)]


def test_figures_of_a_replay():
    load = replay_queue(FIVE, [20.0] * 4, Server(max_batch=2, max_wait=10.0), deadline=32.0)
    assert load.requests == 5
    assert load.mean == pytest.approx(177 / 5)
    assert (load.p50, load.p95) == (32.0, pytest.approx(47.0))
    assert load.missed == pytest.approx(2 / 5)  # 35 and 50; what takes 32 is in time
    assert load.utilisation == pytest.approx(80 / 90)
    assert load.mean_batch == pytest.approx(5 / 4)
    assert load.offered is None
    assert not load.interpolated


def test_a_replay_knows_number_and_size_of_each_batch():
    asked = []

    def seconds(number, size):
        asked.append((number, size))
        return 20.0

    replay_queue(FIVE, seconds, Server(max_batch=2, max_wait=10.0))
    assert asked == [(0, 1), (1, 2), (2, 1), (3, 1)]


def test_the_warm_up_is_left_out_of_latencies():
    moments = [0.0, 0.0, *(10.0 * index for index in range(1, 9))]
    load = replay_queue(moments, [1.0] * 10, Server(max_batch=1), deadline=1.5, warm_up=0.2)
    assert (load.requests, load.mean, load.p99, load.missed) == (8, 1.0, 1.0, 0.0)
    assert replay_queue(moments, [1.0] * 10, Server(max_batch=1), deadline=1.5).missed == pytest.approx(0.1)


# Laws

eighths = st.integers(0, 400).map(lambda value: value / 8)
servers = st.builds(
    Server,
    max_batch=st.integers(1, 6),
    max_wait=st.integers(0, 60).map(lambda value: value / 8),
    workers=st.integers(1, 4),
)
traffic = st.lists(eighths, min_size=1, max_size=40).map(sorted)
durations = st.lists(st.integers(1, 80).map(lambda value: value / 8), min_size=40, max_size=40)


def by_ticks(moments, seconds, server):
    """The rules once more, by a clock that ticks eight times a second."""
    waiting, free, batches = list(moments), [0] * server.workers, []
    tick = 0
    while waiting:
        now = tick / 8
        for worker in range(server.workers):
            here = [moment for moment in waiting if moment <= now][: server.max_batch]
            due = here and (len(here) == server.max_batch or now - here[0] >= server.max_wait)
            if free[worker] <= now and due:
                free[worker] = now + seconds[len(batches)]
                batches.append((now, free[worker], len(here)))
                del waiting[: len(here)]
        tick += 1
    return batches


@given(traffic, durations, servers)
def test_events_and_ticks_agree(moments, seconds, server):
    assert timeline(schedule(moments, lambda number, _: seconds[number], server)) == by_ticks(
        moments, seconds, server
    )


@given(traffic, durations, servers)
def test_a_schedule_keeps_its_laws(moments, seconds, server):
    of = schedule(moments, lambda number, _: seconds[number], server)
    # Every request is served once and in order, and no batch is too large.
    assert of.sizes.sum() == len(moments)
    assert of.sizes.min() >= 1
    assert of.sizes.max() <= server.max_batch
    assert (np.diff(of.starts) >= 0).all()
    assert (np.repeat(of.starts, of.sizes) >= of.arrivals).all()
    first = np.cumsum(of.sizes) - of.sizes
    for number, start in enumerate(of.starts.tolist()):
        # No worker does two things at once.
        assert ((of.starts <= start) & (start < of.finishes)).sum() <= server.workers
        # No worker rests while a batch is due.
        oldest = moments[first[number]]
        full = moments[first[number] + server.max_batch - 1 :][:1]
        due = min([oldest + server.max_wait, *full])
        assert start >= due
        if start > due:
            busy = (of.starts[:number] <= start) & (of.finishes[:number] >= start)
            assert busy.sum() >= server.workers
    load = replay_queue(moments, seconds, server, deadline=2.0)
    # Figures are within their bounds.
    assert min(seconds) <= load.p50 <= load.p95 <= load.p99
    assert 0 <= load.missed <= 1
    assert 0 < load.utilisation <= 1 + 1e-9
    assert 1 <= load.mean_batch <= server.max_batch


@given(traffic, durations, servers, st.sampled_from([0.25, 2.0, 64.0]))
def test_scaling_time_scales_every_time(moments, seconds, server, factor):
    scaled = msgspec.structs.replace(server, max_wait=factor * server.max_wait)
    here = replay_queue(moments, seconds, server, deadline=3.0)
    there = replay_queue(
        [factor * moment for moment in moments],
        [factor * value for value in seconds],
        scaled,
        deadline=factor * 3.0,
    )
    for name in ("mean", "p50", "p95", "p99"):
        assert getattr(there, name) == pytest.approx(factor * getattr(here, name))
    for name in ("requests", "missed", "utilisation", "mean_batch", "stable"):
        assert getattr(there, name) == pytest.approx(getattr(here, name))


@given(traffic, st.integers(1, 80), st.integers(1, 5))
def test_more_workers_never_lengthen_a_wait_where_all_calls_take_the_same(moments, duration, workers):
    # Single requests: with batches a smaller server may have gathered what a larger one began in pieces.
    few, more = (
        schedule(moments, lambda number, size: duration / 8, Server(max_batch=1, workers=count)).latencies
        for count in (workers, workers + 1)
    )
    assert (more <= few).all()


@given(traffic, durations, servers)
def test_with_a_worker_for_each_request_no_request_waits_for_one(moments, seconds, server):
    unlimited = msgspec.structs.replace(server, workers=len(moments))
    of = schedule(moments, lambda number, _: seconds[number], unlimited)
    assert (np.repeat(of.starts, of.sizes) - of.arrivals <= server.max_wait).all()
    more = msgspec.structs.replace(server, workers=len(moments) + 5)
    assert timeline(schedule(moments, lambda number, _: seconds[number], more)) == timeline(of)


VARIED = ServiceTimes(batch_sizes=(1, 3, 6), percentiles=(line(0.5, 4.5), line(1, 7), line(2, 11)))


def of_first_requests(drawn):
    """Drawn times as a function of the number and the size of a batch, which starts behind the one before."""
    first = 0

    def seconds(_number, size):
        nonlocal first
        found, first = drawn.one(first, size), first + size
        return found

    return seconds


@given(traffic, servers, st.integers(0, 20))
def test_drawn_times_are_those_of_the_first_request_of_a_batch(moments, server, seed):
    drawn = DrawnTimes(VARIED, len(moments), seed)
    quick, plain = (schedule(moments, service, server) for service in (drawn, of_first_requests(drawn)))
    assert quick.sizes.tolist() == plain.sizes.tolist()
    assert quick.starts == pytest.approx(plain.starts)
    assert quick.finishes == pytest.approx(plain.finishes)


@given(traffic, servers)
def test_large_batches_are_drawn_one_by_one(moments, server):
    drawn, single = (DrawnTimes(VARIED, len(moments), 0) for _ in range(2))
    single.at_once = 1
    assert timeline(schedule(moments, drawn, server)) == timeline(schedule(moments, single, server))
    assert set(single) <= {1}


def test_the_error_of_p95_is_its_spread_over_seeds():
    service = ServiceTimes(batch_sizes=(1, 8), percentiles=(line(0.005, 0.030), line(0.030, 0.070)))
    for rate, server in [(10, Server(max_batch=1)), (30, Server(max_batch=1)), (80, Server(max_batch=8))]:
        loads = [
            simulate(arrivals(Demand(rate=rate), 4000, seed), service, server, seed=seed)
            for seed in range(30)
        ]
        found = [load.p95 for load in loads]
        spread = np.std(found, ddof=1) / np.mean(found)
        assert np.median([load.p95_error for load in loads]) == pytest.approx(spread, rel=0.5), rate


def test_few_requests_or_equal_latencies_have_no_error():
    assert simulate(np.arange(300.0), TEN_MS, Server(max_batch=1), seed=0).p95_error is None
    assert simulate(np.arange(3000.0), TEN_MS, Server(max_batch=1), seed=0).p95_error < 1e-9


def test_a_simulation_goes_on_until_its_p95_is_certain():
    service = ServiceTimes(batch_sizes=(1,), percentiles=(line(0.005, 0.030),))
    known = {"service": service, "max_batch": 1, "max_wait": 0.0, "requests": 2000}
    easy, hard = Demand(rate=2), Demand(rate=48)
    unlimited = Sizing(**known, limit=None, utilisation=1.0)
    quick, certain = unlimited.load(easy, 1), unlimited.load(hard, 1)
    assert (quick.requests, certain.requests) == (1800, 28_800)
    assert quick.p95_error < sizing.MAX_ERROR
    # A limit that is clearly missed, or clearly met by a p95 that is not shown, needs no longer one.
    for limit, fields, requests in [(0.031, {}, 1800), (5.0, {"shown": False}, 1800), (5.0, {}, 28_800)]:
        limited = Sizing(**known, limit=limit, utilisation=1.0)
        assert limited.load(hard, 1, **fields).requests == requests, limit


def test_quantiles_at_once_are_those_one_by_one():
    values = (*line(0.01, 1.01)[:100], 41.0)
    curve = ServiceTimes(batch_sizes=(1,), percentiles=(values,), means=(0.6,)).curve(1)
    shares = np.random.default_rng(0).random(500)
    assert curve.quantiles(shares) == pytest.approx([curve.quantile(float(share)) for share in shares])


# Closed forms

LOADS = [
    (0.5, 100_000),
    *(
        pytest.param(load, count, marks=pytest.mark.nightly)
        for load, count in ((0.3, 200_000), (0.5, 300_000), (0.7, 700_000))
    ),
]
"""Offered loads, and the requests after which chance moves a mean by less than what is tolerated."""


@pytest.mark.slow
@pytest.mark.parametrize(("load", "count"), LOADS)
def test_exponential_calls_wait_as_mm1_says(load, count):
    moments = arrivals(Demand(rate=load), count, seed=1)
    seconds = np.random.default_rng(5).standard_exponential(count)
    found = replay_queue(moments, seconds, Server(max_batch=1), warm_up=0.02)
    assert found.mean == pytest.approx(1 / (1 - load), rel=0.02)
    # The time in the system is exponential too.
    assert found.p50 == pytest.approx(math.log(2) / (1 - load), rel=0.02)
    assert found.p95 == pytest.approx(math.log(20) / (1 - load), rel=0.03)
    assert found.utilisation == pytest.approx(load, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("load", "count"), LOADS)
def test_equal_calls_wait_as_md1_says(load, count):
    moments = arrivals(Demand(rate=100 * load), count // 2, seed=1)
    found = simulate(moments, TEN_MS, Server(max_batch=1), seed=1)
    assert found.mean == pytest.approx(0.010 * (1 + load / (2 * (1 - load))), rel=0.02)
    assert found.offered == pytest.approx(load, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("load", "count"), LOADS)
def test_drawn_calls_wait_as_pollaczek_and_khinchine_say(load, count):
    low, high = 0.5, 5.5
    service = ServiceTimes(batch_sizes=(1,), percentiles=(line(low, high),))
    mean, square = (low + high) / 2, (high**3 - low**3) / (3 * (high - low))
    rate = load / mean
    moments = arrivals(Demand(rate=rate), count // 2, seed=4)
    found = simulate(moments, service, Server(max_batch=1), seed=4)
    assert found.mean == pytest.approx(mean + rate * square / (2 * (1 - load)), rel=0.02)


def erlang_c(workers, offered):
    """Chance to wait, for so many workers and so much work a second."""
    terms = [offered**number / math.factorial(number) for number in range(workers)]
    last = offered**workers / math.factorial(workers) * workers / (workers - offered)
    return last / (sum(terms) + last)


@pytest.mark.slow
@pytest.mark.parametrize(("load", "count"), LOADS)
@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_wait_as_erlang_says(load, count, workers):
    moments = arrivals(Demand(rate=load * workers), count, seed=2)
    seconds = np.random.default_rng(7).standard_exponential(count).tolist()
    of = schedule(moments, lambda number, _: seconds[number], Server(max_batch=1, workers=workers))
    waits = of.starts - of.arrivals
    chance = erlang_c(workers, load * workers)
    assert (waits > 0).mean() == pytest.approx(chance, rel=0.02)
    assert waits.mean() == pytest.approx(chance / (workers - load * workers), rel=0.02)


# Stability, batches, interpolation


LATE_SERVERS = st.builds(
    Server, max_batch=st.integers(1, 16), max_wait=st.sampled_from([0.0, 0.004]), workers=st.integers(1, 3)
)


@given(LATE_SERVERS, st.floats(0.2, 1.2), st.floats(0.012, 0.2), st.booleans(), st.booleans())
def test_late_requests_are_those_of_a_simulation_that_records_all_batches(
    server, load, deadline, ordered, periodic
):
    percentiles = line(0.005, 0.02), line(0.012, 0.03)
    calls = tuple(tuple(np.random.default_rng(7).permutation(each).tolist()) for each in percentiles)
    service = ServiceTimes(batch_sizes=(1, 16), percentiles=percentiles, calls=calls if ordered else ())
    rate = load * server.workers * server.max_batch / service.mean(server.max_batch)
    demand = Demand(rate=rate, pattern="periodic", streams=3) if periodic else Demand(rate=rate)
    moments = arrivals(demand, 600, 3)
    if periodic:  # requests of one moment share a batch without any wait
        moments = np.repeat(moments[::2], 2)
    full = simulate(moments, service, server, seed=3, slowdown=1.1, deadline=deadline)
    late = round(full.missed * full.requests)

    def counted(most):
        times = measured_times(service, server, 600, 3, 1.1)
        return late_requests(moments, times, server, deadline=deadline, most=most)

    assert counted(late) == (late, full.requests)
    if late:
        ended = counted(late - 1)
        assert ended.late == late
        assert ended.requests <= full.requests
        # Batches of one end the count with the first late request; a single worker needs no loop.
        if server.max_batch == 1 < server.workers:
            assert counted(0).late == 1


def queued(rate, seed):
    return simulate(arrivals(Demand(rate=rate), 20_000, seed), TEN_MS, Server(max_batch=1), seed=seed)


def test_a_queue_that_is_merely_long_is_stable():
    for rate, seed in [(20, 0), (50, 0), (80, 0), *((95, seed) for seed in range(4))]:
        assert queued(rate, seed).stable, (rate, seed)


def test_a_queue_that_grows_is_unstable():
    for rate, seed in [*((103, seed) for seed in range(4)), (110, 0), (200, 0), (5000, 0)]:
        load = queued(rate, seed)
        assert not load.stable, (rate, seed)
        assert load.offered > 1, (rate, seed)
        assert load.utilisation > 0.98, (rate, seed)


def test_more_work_than_capacity_is_unstable_though_latency_hardly_grows():
    # 1 % too much: latency grows by 10 ms a second, where 50 ms a second count as growth.
    moments = [index / 101 for index in range(2000)]
    assert simulate(moments, TEN_MS, Server(max_batch=1), seed=0).offered == pytest.approx(1.01)
    assert replay_queue(moments, [0.010] * 2000, Server(max_batch=1)).stable
    assert not simulate(moments, TEN_MS, Server(max_batch=1), seed=0).stable
    fewer = [index / 99 for index in range(2000)]
    assert simulate(fewer, TEN_MS, Server(max_batch=1), seed=0).stable


def test_latency_that_grows_is_unstable_though_there_is_capacity_on_average():
    # A quiet half of 50 s, then twice the capacity for 5 s.
    moments = [0.05 * index for index in range(1000)] + [50 + 0.005 * index for index in range(1000)]
    load = simulate(moments, TEN_MS, Server(max_batch=1), seed=0, warm_up=0)
    assert load.offered < 0.4
    assert not load.stable


def test_latency_grows_where_it_rises_by_half_and_by_a_twentieth_of_the_time():
    # A worker for each request: latencies are the service times. Half of the time is 4.5 s: 0.225 s count.
    for before, after, stable in [
        (1.0, 1.49, True),
        (1.0, 1.51, False),
        (0.1, 0.32, True),
        (0.1, 0.33, False),
        (1.0, 0.1, True),
    ]:
        load = replay_queue(range(10), [before] * 5 + [after] * 5, Server(max_batch=1, workers=10))
        assert load.stable is stable, (before, after)


def test_a_replay_sees_growth_without_knowing_the_capacity():
    for rate, stable in [(50, True), (90, True), (115, False), (300, False)]:
        moments = arrivals(Demand(rate=rate), 20_000, 0)
        assert replay_queue(moments, lambda number, size: 0.010, Server(max_batch=1)).stable is stable, (
            rate,
            stable,
        )


def test_requests_of_one_moment_are_no_growth():
    load = simulate([3.0, 3.0, 3.0], TEN_MS, Server(max_batch=1), seed=0, warm_up=0)
    assert load.stable
    assert load.offered is None
    assert load.mean == pytest.approx(0.020)


def test_batches_fill_as_demand_grows():
    loads = [
        simulate(arrivals(Demand(rate=rate), 20_000, 0), BATCHES, Server(max_batch=16), seed=0)
        for rate in (10, 100, 200, 300, 390, 1000)
    ]
    sizes = [load.mean_batch for load in loads]
    assert sizes == sorted(sizes)
    assert sizes[0] < 1.2
    assert sizes[-1] > 15.9
    # Small batches keep the worker busy and leave it room: 16 in 40 ms are 400 a second.
    assert loads[1].utilisation > 0.7
    assert loads[1].offered == pytest.approx(0.25, rel=0.03)
    assert [load.stable for load in loads] == [True] * 5 + [False]


def test_what_was_interpolated_says_so():
    moments = arrivals(Demand(rate=200), 5000, 0)
    assert simulate(moments, BATCHES, Server(max_batch=16), seed=0).interpolated
    every = constant(b1=0.010, b2=0.012, b3=0.014, b4=0.016)
    assert not simulate(moments, every, Server(max_batch=4), seed=0).interpolated
    assert not simulate(moments, constant(b4=0.016), Server(max_batch=4), seed=0).interpolated


def test_waiting_for_a_batch_to_fill_is_latency():
    # At 5 requests a second a batch of 32 never fills.
    service = constant(b1=0.010, b32=0.060)
    moments = arrivals(Demand(rate=5), 5000, 0)
    load = simulate(moments, service, Server(max_batch=32, max_wait=1.0), seed=0)
    assert load.p95 == pytest.approx(1.0, abs=0.05)
    assert simulate(moments, service, Server(max_batch=32), seed=0).p95 < 0.03


def test_equal_seeds_give_equal_figures():
    service = ServiceTimes(batch_sizes=(1,), percentiles=(line(0.005, 0.015),))
    moments = arrivals(Demand(rate=70), 2000, 0)
    first, again, other = (simulate(moments, service, Server(max_batch=1), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_service_times_do_not_follow_the_arrivals_of_their_seed():
    service = ServiceTimes(batch_sizes=(1,), percentiles=(line(1.0, 2.0),))
    moments = arrivals(Demand(rate=0.01), 20_000, seed=0)
    of = schedule(moments, DrawnTimes(service, 20_000, 0), Server(max_batch=1))
    drawn = (of.finishes - of.starts)[1:]
    assert abs(np.corrcoef(np.diff(moments), drawn)[0, 1]) < 0.03
    assert drawn.mean() == pytest.approx(1.5, rel=0.01)


# Refused


def test_a_server_checks_itself(snapshot):
    waits = [{"max_batch": 1, "max_wait": wait} for wait in (-0.1, math.nan, math.inf)]
    assert refusals(Server, {"max_batch": 0}, {"max_batch": 1, "workers": 0}, *waits) == snapshot


def test_arrivals_ascend_and_are_finite(snapshot):
    def planned(*moments):
        return schedule(list(moments), lambda number, size: 1.0, Server(max_batch=1))

    strange = ((), ([1.0, 2.0],), (2.0, 1.0), (0.0, math.nan), (0.0, math.inf))
    assert refusals(planned, *strange) == snapshot


def test_a_service_takes_no_time_below_zero_and_ends():
    for seconds in (-1.0, math.nan, math.inf):
        assert "service time" in refusal(
            schedule, [0.0], lambda *_, taken=seconds: taken, Server(max_batch=1)
        )


def test_recorded_times_are_above_zero_and_finite():
    for seconds in (0.0, -1.0, math.nan, math.inf):
        assert "recorded" in refusal(replay_queue, [0.0], [seconds], Server(max_batch=1))


def test_a_record_holds_a_time_for_each_batch():
    assert "at most 1 batches" in refusal(replay_queue, [0.0, 1.0], [0.5], Server(max_batch=1))


def test_a_simulation_checks_its_deadline_and_warm_up(snapshot):
    def simulated(**fields):
        return simulate([0.0], TEN_MS, Server(max_batch=1), seed=0, **fields)

    deadlines = [{"deadline": deadline} for deadline in (0.0, math.nan)]
    warm_ups = [{"warm_up": share} for share in (1.0, -0.1, math.nan)]
    assert refusals(simulated, *deadlines, *warm_ups) == snapshot


def test_batches_larger_than_measured_are_refused():
    assert "at most 1, as measured, got 2" in refusal(simulate, [0.0], TEN_MS, Server(max_batch=2), seed=0)


# Instances


def size_for_limit(demand, service, *, max_instances=sizing.MAX_INSTANCES, min_instances=1, **fields):
    asked = Sizing(service=service, **fields)
    return sizing.size_for_limit(demand, asked, min_instances=min_instances, max_instances=max_instances)


def needed(rate=50.0, service=TEN_MS, **fields):
    known = {"limit": None, "max_batch": 1, "max_wait": 0.0, "requests": 4000}
    return size_for_limit(Demand(rate=rate), service, **{**known, **fields})


def test_instances():
    for rate, fields, instances, binding in [
        (1, {}, 1, "none"),
        (50, {}, 1, "none"),
        (60, {}, 1, "none"),  # exactly 60 % of 100 a second
        (61, {}, 2, "utilisation"),
        (120, {}, 2, "utilisation"),
        (120, {"utilisation": 0.59}, 3, "utilisation"),
        (120, {"workers_per_instance": 2}, 1, "none"),
        (121, {"workers_per_instance": 2}, 2, "utilisation"),
        (1000, {}, 17, "utilisation"),
        (90, {"utilisation": 1.0}, 1, "none"),
        (100, {"utilisation": 1.0}, 2, "utilisation"),  # one would never catch up
        (50, {"limit": 0.100}, 1, "none"),
        (50, {"limit": 0.0101}, 3, "limit"),
        (50, {"limit": math.inf}, 1, "none"),
    ]:
        found = needed(rate, **fields)
        assert (found.instances, found.binding, found.reason) == (instances, binding, None), (
            rate,
            fields,
            instances,
            binding,
        )
        assert found.load.stable, (rate, fields, instances, binding)


def test_capacity_is_that_of_full_batches():
    # 16 in 40 ms: 400 a second, of which 60 % are 240. One at a time they ask for four instances.
    assert needed(240, BATCHES, max_batch=16).instances == 1
    assert needed(241, BATCHES, max_batch=16).instances == 2
    assert needed(240, BATCHES, max_batch=1).instances == 4


PLANS = [
    (50, {"limit": 0.0101, "max_batch": 1}),
    (500, {"limit": 0.015, "max_batch": 1}),
    (500, {"limit": 0.012, "max_batch": 1, "workers_per_instance": 2}),
    (500, {"limit": 0.030, "max_batch": 16, "max_wait": 0.005}),
    (2000, {"limit": 0.050, "max_batch": 16, "max_wait": 0.010, "workers_per_instance": 4}),
    (2000, {"limit": 0.041, "max_batch": 16}),
    (12, {"limit": 0.0102, "max_batch": 4}),
]


def test_one_instance_less_breaks_what_binds():
    for (rate, fields), spread in product(PLANS, [0.0, 0.3]):
        plan = f"{rate}/s {fields}, spread {spread}"
        service = ServiceTimes(
            batch_sizes=BATCHES.batch_sizes,
            percentiles=tuple(line(row[0] * (1 - spread), row[0]) for row in BATCHES.percentiles),
        )
        demand, workers = Demand(rate=rate), fields.get("workers_per_instance", 1)
        found = size_for_limit(demand, service, **{"max_wait": 0.0, **fields}, requests=4000)
        assert found.load.missed <= 0.05, plan
        assert found.load.p95 <= fields["limit"], plan
        assert found.load.offered <= 0.63, plan  # of the arrivals that were drawn
        assert found.instances > 1, plan
        fewer = Server(
            max_batch=fields["max_batch"],
            max_wait=fields.get("max_wait", 0.0),
            workers=(found.instances - 1) * workers,
        )
        if found.binding == "utilisation":
            assert rate * service.mean(fewer.max_batch) / fewer.max_batch / fewer.workers > 0.6, plan
        else:
            assert found.binding == "limit", plan
            assert simulate(arrivals(demand, 4000, 0), service, fewer, seed=0).p95 > fields["limit"], plan


def test_a_tighter_limit_never_needs_less():
    counts = [needed(300, limit=limit).instances for limit in (0.200, 0.030, 0.015, 0.0102, 0.01001)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_a_higher_percentile_never_needs_less():
    counts = [needed(300, limit=0.013, percentile=share).instances for share in (0.5, 0.9, 0.95, 0.99, 0.999)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_a_limit_below_any_call_is_unreachable_without_a_simulation(monkeypatch, snapshot):
    monkeypatch.setattr(queueing, "simulate", None)
    found = needed(limit=0.009)
    assert (found.instances, found.binding, found.load) == (None, "limit", None)
    assert found.reason.code == "limit-unreachable"
    assert str(found.reason) == snapshot


def test_a_larger_batch_may_be_the_fastest():
    odd = constant(b1=0.020, b4=0.010)
    assert needed(5, odd, limit=0.015, max_batch=1).instances is None
    assert needed(5, odd, limit=0.015, max_batch=4).reason.code == "limit-unreachable"
    assert needed(5, odd, limit=0.050, max_batch=4).instances == 1


def test_a_wait_that_breaks_the_limit_by_itself_makes_it_unreachable(snapshot):
    found = needed(5, BATCHES, limit=0.040, max_batch=16, max_wait=0.050)
    assert (found.instances, found.binding) == (None, "limit")
    assert found.reason.code == "limit-unreachable"
    assert str(found.reason) == snapshot


def test_more_instances_than_there_may_be():
    for rate, fields, binding in [(1000, {}, "utilisation"), (50, {"limit": 0.0101}, "limit")]:
        found = needed(rate, max_instances=2, **fields)
        assert (found.instances, found.binding, found.load) == (None, binding, None), rate
        assert found.reason.code == "too-many-instances", rate
        assert needed(rate, max_instances=17, **fields).instances is not None, rate


def test_a_machine_that_is_always_busy_is_not_enough():
    """At a utilisation of 1, what fills one machine exactly needs two, also where only one is allowed."""
    assert needed(100, utilisation=1.0).instances == 2
    assert needed(100, utilisation=1.0, max_instances=2).instances == 2
    found = needed(100, utilisation=1.0, max_instances=1)
    assert (found.instances, found.binding, found.reason.code) == (None, "utilisation", "too-many-instances")


def test_a_demand_beyond_any_plan_needs_too_many_instances(snapshot):
    for rate in (1e12, 1e300):
        assert needed(rate).reason.code == "too-many-instances", rate
    assert [str(needed(1e12, max_instances=most).reason) for most in (1, 2, 1_000_000)] == snapshot


def test_tiny_simulations_end():
    assert needed(1000, limit=0.011, requests=1).instances == 17
    assert needed(1e-9, requests=1).instances == 1


def test_frames_are_due_before_the_next_of_their_stream(snapshot):
    demand = Demand(rate=240.0, pattern="periodic", streams=8)
    fields = {"limit": None, "max_batch": 1, "max_wait": 0.0, "requests": 8000}
    found = size_for_limit(demand, TEN_MS, **fields)
    assert (found.instances, found.binding) == (4, "utilisation")
    assert found.load.missed == 0
    slow = size_for_limit(demand, constant(b1=0.024), **fields, utilisation=1.0)
    assert (slow.instances, slow.binding) == (7, "limit")
    assert slow.load.missed <= 0.01
    assert slow.load.p99 <= demand.period
    never = size_for_limit(demand, constant(b1=0.034), **fields)
    assert never.reason.code == "limit-unreachable"
    assert str(never.reason) == snapshot
    assert size_for_limit(demand, constant(b1=0.034), **{**fields, "limit": math.inf}).load.missed is None
    assert size_for_limit(demand, constant(b1=0.034), **{**fields, "limit": 0.1}).load.missed <= 0.05


def test_one_stream_is_never_restarted():
    demand = Demand(rate=30.0, pattern="periodic")
    moments = sizing._moments(demand, 2000, 0)
    assert np.diff(moments) == pytest.approx(np.full(1999, demand.period))


def test_one_stream_never_waits_for_itself():
    demand = Demand(rate=30.0, pattern="periodic")
    found = size_for_limit(
        demand, constant(b1=0.032), limit=None, max_batch=1, max_wait=0.0, utilisation=1.0, requests=2000
    )
    assert (found.instances, found.load.missed) == (1, 0.0)
    assert found.load.p99 == pytest.approx(0.032)


@given(st.integers(1, 20), st.integers(1, 5000), st.integers(0, 5))
def test_streams_that_restart_stay_a_period_apart(streams, count, seed):
    demand = Demand(rate=float(streams), pattern="periodic", streams=streams)
    moments = sizing._moments(demand, count, seed)
    assert count <= len(moments) < count + sizing.PHASE_DRAWS * streams
    assert (np.diff(moments) >= 0).all()
    # Of one frame more than there are streams, two are of one stream.
    assert (moments[streams:] - moments[:-streams] >= 1 - 1e-9).all()
    assert moments[-1] >= (len(moments) / streams - 1) * (1 - 1e-9)


def test_a_plan_checks_its_figures(snapshot):
    strange = [
        *({"limit": limit} for limit in (0.0, -1.0, math.nan)),
        *({"percentile": share} for share in (0.0, 1.0, 95)),
        *({"utilisation": share} for share in (0.0, 1.1, math.nan)),
        {"max_instances": 0},
        {"requests": 0},
        {"max_batch": 0},
        {"max_batch": 2},
        {"max_wait": -1.0},
        {"workers_per_instance": 0},
    ]
    assert refusals(needed, *strange) == snapshot


# Offline


def test_a_backlog():
    for items, deadline, fields, hours, instances in [
        (360_000, 3600.0, {"max_batch": 1}, 1.0, 1),
        (360_000, 3599.0, {"max_batch": 1}, 1.0, 2),
        (360_001, 3600.0, {"max_batch": 1}, 360_001 / 360_000, 2),
        (720_000, 3600.0, {"max_batch": 1, "workers_per_instance": 2}, 1.0, 1),
        (360_000, 3600.0, {"max_batch": 1, "utilisation": 0.5}, 2.0, 2),
        (1_440_000, 3600.0, {"max_batch": 16}, 1.0, 1),
        (1, 3600.0, {"max_batch": 16}, 0.040 / 3600, 1),
        (32, 0.040, {"max_batch": 16}, 0.080 / 3600, 2),
        (32, 0.079, {"max_batch": 16}, 0.080 / 3600, 2),
        (32, 0.080, {"max_batch": 16}, 0.080 / 3600, 1),
    ]:
        found = offline(Backlog(items=items, deadline=deadline), BATCHES, **fields)
        machine_hours, count = found
        assert machine_hours == pytest.approx(hours), (items, deadline, fields, hours, instances)
        assert count == instances, (items, deadline, fields, hours, instances)


def test_a_backlog_that_cannot_be_worked_off_is_refused(snapshot):
    def worked_off(items, deadline, **fields):
        return offline(Backlog(items=items, deadline=deadline), BATCHES, **fields)

    one = {"items": 1, "deadline": 1.0}
    strange = [
        {"items": 1, "deadline": 0.030, "max_batch": 16},
        {**one, "max_batch": 17},
        {**one, "max_batch": 0},
        {**one, "max_batch": 1, "workers_per_instance": 0},
        {**one, "max_batch": 1, "utilisation": 0.0},
        {**one, "max_batch": 1, "utilisation": math.nan},
        {"items": 1, "deadline": 1e308, "max_batch": 1},
    ]
    assert refusals(worked_off, *strange) == snapshot

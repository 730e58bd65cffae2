import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.advice import queueing, sizing
from pytest_infergate.core.advice.demand import Backlog, Demand, arrivals
from pytest_infergate.core.advice.queueing import Server, replay_queue, schedule, simulate
from pytest_infergate.core.advice.service_times import Curve, ServiceTimes
from pytest_infergate.core.advice.sizing import offline, size_for_limit


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


@pytest.mark.parametrize("batch", [0, -1, 17])
def test_nothing_is_known_beyond_the_largest(batch):
    with pytest.raises(ValueError, match=f"nothing is known of a batch of {batch}: measured were up to 16"):
        BATCHES.mean(batch)


@pytest.mark.parametrize("u", [-0.1, 1.1, math.nan])
def test_a_quantile_is_a_share(u):
    with pytest.raises(ValueError, match="not a share from 0 to 1"):
        BATCHES.quantile(1, u)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_sizes": (), "percentiles": ()}, "must be at least one, from 1 on and ascending"),
        ({"batch_sizes": (0,)}, "batch sizes [0]: they must be"),
        ({"batch_sizes": (4, 1), "percentiles": (line(1, 2),) * 2}, "batch sizes [4, 1]: they must be"),
        ({"batch_sizes": (4, 4), "percentiles": (line(1, 2),) * 2}, "batch sizes [4, 4]: they must be"),
        ({"batch_sizes": (1, 2)}, "1 distribution and 0 means for 2 batch sizes"),
        ({"means": (1.0, 2.0)}, "1 distribution and 2 means for 1 batch size"),
        ({"percentiles": ((1.0,) * 100,)}, "batch size 1 has 100 percentiles, not 101"),
        (
            {"percentiles": (line(2, 1),)},
            "the percentiles of batch size 1 are not ascending times above zero",
        ),
        ({"percentiles": (line(0, 1),)}, "are not ascending times above zero"),
        ({"percentiles": (line(-1, 1),)}, "are not ascending times above zero"),
        ({"percentiles": ((1.0,) * 100 + (math.inf,),)}, "are not ascending times above zero"),
        ({"percentiles": ((1.0,) * 100 + (math.nan,),)}, "are not ascending times above zero"),
        ({"percentiles": ((math.nan,) * 101,)}, "are not ascending times above zero"),
        ({"means": (0.0,)}, "means [0.0]: they must be times above zero"),
        ({"means": (math.nan,)}, "means [nan]: they must be times above zero"),
    ],
)
def test_service_times_check_themselves(fields, message):
    known = {"batch_sizes": (1,), "percentiles": (line(1, 2),)}
    with pytest.raises(ValueError) as raised:
        ServiceTimes(**{**known, **fields})
    assert message in str(raised.value)


def mean_of(curve):
    """By the middle of ten thousand slices."""
    return np.mean([curve.quantile((index + 0.5) / 10_000) for index in range(10_000)])


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


@pytest.mark.parametrize("mean", [0.5, 1.0, 1.5, 2.0, 50.0])
def test_a_mean_that_does_not_fit_bends_no_further_than_the_line_goes(mean):
    service = ServiceTimes(batch_sizes=(1,), percentiles=(line(1, 2),), means=(mean,))
    assert 1.49 < service.mean(1) < 1.51


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
def test_every_request_is_served_once_in_order_and_no_batch_is_too_large(moments, seconds, server):
    of = schedule(moments, lambda number, _: seconds[number], server)
    assert of.sizes.sum() == len(moments)
    assert of.sizes.min() >= 1
    assert of.sizes.max() <= server.max_batch
    assert (np.diff(of.starts) >= 0).all()
    assert (np.repeat(of.starts, of.sizes) >= of.arrivals).all()


@given(traffic, durations, servers)
def test_no_worker_does_two_things_at_once(moments, seconds, server):
    of = schedule(moments, lambda number, _: seconds[number], server)
    for start in of.starts:
        assert ((of.starts <= start) & (start < of.finishes)).sum() <= server.workers


@given(traffic, durations, servers)
def test_no_worker_rests_while_a_batch_is_due(moments, seconds, server):
    of = schedule(moments, lambda number, _: seconds[number], server)
    first = np.cumsum(of.sizes) - of.sizes
    for number, start in enumerate(of.starts.tolist()):
        oldest = moments[first[number]]
        full = moments[first[number] + server.max_batch - 1 :][:1]
        due = min([oldest + server.max_wait, *full])
        assert start >= due
        if start > due:
            busy = (of.starts[:number] <= start) & (of.finishes[:number] >= start)
            assert busy.sum() >= server.workers


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
def test_with_a_worker_for_each_request_nobody_waits_for_one(moments, seconds, server):
    unlimited = msgspec.structs.replace(server, workers=len(moments))
    of = schedule(moments, lambda number, _: seconds[number], unlimited)
    assert (np.repeat(of.starts, of.sizes) - of.arrivals <= server.max_wait).all()
    more = msgspec.structs.replace(server, workers=len(moments) + 5)
    assert timeline(schedule(moments, lambda number, _: seconds[number], more)) == timeline(of)


@given(traffic, durations, servers)
def test_figures_are_within_their_bounds(moments, seconds, server):
    load = replay_queue(moments, seconds, server, deadline=2.0)
    assert min(seconds) <= load.p50 <= load.p95 <= load.p99
    assert 0 <= load.missed <= 1
    assert 0 < load.utilisation <= 1 + 1e-9
    assert 1 <= load.mean_batch <= server.max_batch


# Closed forms

LOADS = {0.3: 200_000, 0.5: 300_000, 0.7: 700_000}
"""Offered loads, and the requests after which chance moves a mean by less than 1 %."""


@pytest.mark.slow
@pytest.mark.parametrize(("load", "count"), LOADS.items(), ids=str)
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
@pytest.mark.parametrize(("load", "count"), LOADS.items(), ids=str)
def test_equal_calls_wait_as_md1_says(load, count):
    moments = arrivals(Demand(rate=100 * load), count // 2, seed=1)
    found = simulate(moments, TEN_MS, Server(max_batch=1), seed=1)
    assert found.mean == pytest.approx(0.010 * (1 + load / (2 * (1 - load))), rel=0.02)
    assert found.offered == pytest.approx(load, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("load", "count"), LOADS.items(), ids=str)
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
@pytest.mark.parametrize(("load", "count"), LOADS.items(), ids=str)
@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_wait_as_erlang_says(load, count, workers):
    count = max(count, 400_000)
    moments = arrivals(Demand(rate=load * workers), count, seed=2)
    seconds = np.random.default_rng(7).standard_exponential(count).tolist()
    of = schedule(moments, lambda number, _: seconds[number], Server(max_batch=1, workers=workers))
    waits = of.starts - of.arrivals
    chance = erlang_c(workers, load * workers)
    assert (waits > 0).mean() == pytest.approx(chance, rel=0.02)
    assert waits.mean() == pytest.approx(chance / (workers - load * workers), rel=0.02)


# Stability, batches, interpolation


@pytest.mark.parametrize("rate", [20, 50, 80, 95])
@pytest.mark.parametrize("seed", range(4))
def test_a_queue_that_is_merely_long_is_stable(rate, seed):
    assert simulate(arrivals(Demand(rate=rate), 20_000, seed), TEN_MS, Server(max_batch=1), seed=seed).stable


@pytest.mark.parametrize("rate", [103, 110, 200, 5000])
@pytest.mark.parametrize("seed", range(4))
def test_a_queue_that_grows_is_not(rate, seed):
    load = simulate(arrivals(Demand(rate=rate), 20_000, seed), TEN_MS, Server(max_batch=1), seed=seed)
    assert not load.stable
    assert load.offered > 1
    assert load.utilisation > 0.98


@pytest.mark.parametrize(("rate", "stable"), [(50, True), (90, True), (115, False), (300, False)])
def test_a_replay_sees_growth_without_knowing_the_capacity(rate, stable):
    moments = arrivals(Demand(rate=rate), 20_000, 0)
    assert replay_queue(moments, lambda number, size: 0.010, Server(max_batch=1)).stable is stable


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
    of = schedule(moments, queueing._drawn(service, 0, 20_000), Server(max_batch=1))
    drawn = (of.finishes - of.starts)[1:]
    assert abs(np.corrcoef(np.diff(moments), drawn)[0, 1]) < 0.03
    assert drawn.mean() == pytest.approx(1.5, rel=0.01)


# Refused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_batch": 0}, "batches of at most 0: they must hold at least 1"),
        ({"workers": 0}, "0 workers: there must be at least 1"),
        ({"max_wait": -0.1}, "a wait of -0.1 s for a batch to fill is not zero or more"),
        ({"max_wait": math.nan}, "a wait of nan s"),
        ({"max_wait": math.inf}, "a wait of inf s"),
    ],
)
def test_a_server_checks_itself(fields, message):
    with pytest.raises(ValueError, match=message):
        Server(**{"max_batch": 1, **fields})


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        ([], "at least one arrival"),
        ([[1.0, 2.0]], "at least one arrival"),
        ([2.0, 1.0], "must be finite and ascend"),
        ([0.0, math.nan], "must be finite and ascend"),
        ([0.0, math.inf], "must be finite and ascend"),
    ],
)
def test_arrivals_that_cannot_be(moments, message):
    with pytest.raises(ValueError, match=message):
        schedule(moments, lambda number, size: 1.0, Server(max_batch=1))


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_service_times_that_cannot_be(seconds):
    with pytest.raises(ValueError, match="a service time is negative or not finite"):
        schedule([0.0], lambda number, size: seconds, Server(max_batch=1))


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_records_that_cannot_be(seconds):
    with pytest.raises(ValueError, match="recorded service times must be above zero and finite"):
        replay_queue([0.0], [seconds], Server(max_batch=1))


def test_a_record_that_ends_too_soon():
    with pytest.raises(ValueError, match="only 1 service times were recorded, and more batches were made"):
        replay_queue([0.0, 1.0], [0.5], Server(max_batch=1))


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"deadline": 0.0}, "a deadline of 0.0 s is not above zero"),
        ({"deadline": math.nan}, "a deadline of nan s"),
        ({"warm_up": 1.0}, "a warm-up of 1.0 is not a share of the requests below 1"),
        ({"warm_up": -0.1}, "a warm-up of -0.1"),
        ({"warm_up": math.nan}, "a warm-up of nan"),
    ],
)
def test_figures_that_nobody_can_give(given_, message):
    with pytest.raises(ValueError, match=message):
        simulate([0.0], TEN_MS, Server(max_batch=1), seed=0, **given_)


def test_batches_larger_than_measured_are_refused():
    with pytest.raises(ValueError, match="nothing is known of a batch of 2: measured were up to 1"):
        simulate([0.0], TEN_MS, Server(max_batch=2), seed=0)


# Instances


def needed(rate=50.0, service=TEN_MS, **fields):
    known = {"limit": None, "max_batch": 1, "max_wait": 0.0, "requests": 4000}
    return size_for_limit(Demand(rate=rate), service, **{**known, **fields})


@pytest.mark.parametrize(
    ("rate", "fields", "instances", "binding"),
    [
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
    ],
)
def test_instances(rate, fields, instances, binding):
    found = needed(rate, **fields)
    assert (found.instances, found.binding, found.reason) == (instances, binding, None)
    assert found.load.stable


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
    (7, {"limit": 0.0102, "max_batch": 4}),
]


@pytest.mark.parametrize(("rate", "fields"), PLANS, ids=[f"plan{number}" for number in range(len(PLANS))])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_one_instance_less_breaks_what_binds(rate, fields, spread):
    service = ServiceTimes(
        batch_sizes=BATCHES.batch_sizes,
        percentiles=tuple(line(row[0] * (1 - spread), row[0]) for row in BATCHES.percentiles),
    )
    demand, workers = Demand(rate=rate), fields.get("workers_per_instance", 1)
    found = size_for_limit(demand, service, **{"max_wait": 0.0, **fields}, requests=4000)
    assert found.load.missed <= 0.05
    assert found.load.p95 <= fields["limit"]
    assert found.load.offered <= 0.63  # of the arrivals that were drawn
    assert found.instances > 1
    fewer = Server(
        max_batch=fields["max_batch"],
        max_wait=fields.get("max_wait", 0.0),
        workers=(found.instances - 1) * workers,
    )
    if found.binding == "utilisation":
        assert rate * service.mean(fewer.max_batch) / fewer.max_batch / fewer.workers > 0.6
    else:
        assert found.binding == "limit"
        assert simulate(arrivals(demand, 4000, 0), service, fewer, seed=0).p95 > fields["limit"]


def test_a_tighter_limit_never_needs_less():
    counts = [needed(300, limit=limit).instances for limit in (0.200, 0.030, 0.015, 0.0102, 0.01001)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_a_higher_percentile_never_needs_less():
    counts = [needed(300, limit=0.013, percentile=share).instances for share in (0.5, 0.9, 0.95, 0.99, 0.999)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_a_limit_below_any_call_is_told_at_once(monkeypatch):
    monkeypatch.setattr(queueing, "simulate", None)
    found = needed(limit=0.009)
    assert (found.instances, found.binding, found.load) == (None, "limit", None)
    assert found.reason.code == "limit-unreachable"
    assert found.reason.text == "95 % of calls take up to 10.0 ms without any waiting: the limit is 9.00 ms"
    assert found.reason.hint == "measure a faster machine, or allow more time"


def test_a_larger_batch_may_be_the_fastest():
    odd = constant(b1=0.020, b4=0.010)
    assert needed(5, odd, limit=0.015, max_batch=1).instances is None
    assert needed(5, odd, limit=0.015, max_batch=4).reason.code == "limit-unreachable"
    assert needed(5, odd, limit=0.050, max_batch=4).instances == 1


def test_a_wait_that_breaks_the_limit_by_itself_is_told():
    found = needed(5, BATCHES, limit=0.040, max_batch=16, max_wait=0.050)
    assert (found.instances, found.binding) == (None, "limit")
    assert found.reason.text.startswith("with any number of instances ")
    assert found.reason.text.endswith(
        "% of requests are late, the filling of batches included: the limit is 40.0 ms"
    )
    assert found.reason.hint == "let batches wait less, or allow more time"


@pytest.mark.parametrize(
    ("rate", "fields", "binding"), [(1000, {}, "utilisation"), (50, {"limit": 0.0101}, "limit")]
)
def test_more_instances_than_there_may_be(rate, fields, binding):
    found = needed(rate, most=2, **fields)
    assert (found.instances, found.binding, found.load) == (None, binding, None)
    assert found.reason.code == "too-many-instances"
    assert found.reason.text == "more than 2 instances would be needed"
    assert needed(rate, most=17, **fields).instances is not None


@pytest.mark.parametrize("rate", [1e12, 1e300])
def test_demands_beyond_any_plan(rate):
    assert needed(rate).reason.text == "more than 1,000,000 instances would be needed"


def test_tiny_simulations_end():
    assert needed(1000, limit=0.011, requests=1).instances == 17
    assert needed(1e-9, requests=1).instances == 1


def test_frames_are_due_before_the_next_of_their_stream():
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
    assert never.reason.text == (
        "99 % of calls take up to 34.0 ms without any waiting: the period of a stream is 33.3 ms"
    )
    assert size_for_limit(demand, constant(b1=0.034), **{**fields, "limit": math.inf}).load.missed is None
    assert size_for_limit(demand, constant(b1=0.034), **{**fields, "limit": 0.1}).load.missed <= 0.05


def test_one_stream_never_waits_for_itself():
    demand = Demand(rate=30.0, pattern="periodic")
    found = size_for_limit(
        demand, constant(b1=0.032), limit=None, max_batch=1, max_wait=0.0, utilisation=1.0, requests=2000
    )
    assert (found.instances, found.load.missed) == (1, 0.0)
    assert found.load.p99 == pytest.approx(0.032)


@given(st.integers(1, 20), st.integers(1, 5000), st.integers(0, 5))
def test_streams_that_begin_anew_stay_a_period_apart(streams, count, seed):
    demand = Demand(rate=float(streams), pattern="periodic", streams=streams)
    moments = sizing._moments(demand, count, seed)
    assert count <= len(moments) < count + sizing.PHASES * streams
    assert (np.diff(moments) >= 0).all()
    # Of one frame more than there are streams, two are of one stream.
    assert (moments[streams:] - moments[:-streams] >= 1 - 1e-9).all()
    assert moments[-1] >= (len(moments) / streams - 1) * (1 - 1e-9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"limit": 0.0}, "a limit of 0.0 s is not above zero"),
        ({"limit": -1.0}, "a limit of -1.0 s is not above zero"),
        ({"limit": math.nan}, "a limit of nan s is not above zero"),
        ({"percentile": 0.0}, "a percentile of 0.0 is not a share between 0 and 1"),
        ({"percentile": 1.0}, "a percentile of 1.0"),
        ({"percentile": 95}, "a percentile of 95"),
        ({"utilisation": 0.0}, "a utilisation of 0.0 is not a share above 0 and up to 1"),
        ({"utilisation": 1.1}, "a utilisation of 1.1"),
        ({"utilisation": math.nan}, "a utilisation of nan"),
        ({"most": 0}, "at most 0 instances: there must be at least 1"),
        ({"requests": 0}, "a simulation of 0 requests: there must be at least 1"),
        ({"max_batch": 0}, "batches of at most 0"),
        ({"max_batch": 2}, "nothing is known of a batch of 2"),
        ({"max_wait": -1.0}, "a wait of -1.0 s"),
        ({"workers_per_instance": 0}, "0 workers"),
    ],
)
def test_plans_that_make_no_sense(fields, message):
    with pytest.raises(ValueError, match=message):
        needed(**fields)


# Offline


@pytest.mark.parametrize(
    ("items", "deadline", "fields", "hours", "instances"),
    [
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
    ],
)
def test_a_backlog(items, deadline, fields, hours, instances):
    found = offline(Backlog(items=items, deadline=deadline), BATCHES, **fields)
    machine_hours, count = found
    assert machine_hours == pytest.approx(hours)
    assert count == instances


@pytest.mark.parametrize(
    ("items", "deadline", "fields", "message"),
    [
        (1, 0.030, {"max_batch": 16}, "one batch of 16 takes 40.0 ms, and the deadline is 30.0 ms"),
        (1, 1.0, {"max_batch": 17}, "nothing is known of a batch of 17"),
        (1, 1.0, {"max_batch": 0}, "batches of at most 0"),
        (1, 1.0, {"max_batch": 1, "workers_per_instance": 0}, "0 workers"),
        (1, 1.0, {"max_batch": 1, "utilisation": 0.0}, "a utilisation of 0.0"),
        (1, 1.0, {"max_batch": 1, "utilisation": math.nan}, "a utilisation of nan"),
        (1, 1e308, {"max_batch": 1}, "a backlog of 1 items is beyond any plan"),
    ],
)
def test_a_backlog_that_nobody_can_work_off(items, deadline, fields, message):
    with pytest.raises(ValueError, match=message):
        offline(Backlog(items=items, deadline=deadline), BATCHES, **fields)

"""Discrete-event simulation of a batching server: waiting and service of every request."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import heapreplace
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_infergate.core.advice.service_times import (
    DrawnTimes,
    RecordedTimes,
    ServiceTimes,
    call_orders,
    drawn_times,
)
from pytest_infergate.core.domain.advice_values import QueueLoad
from pytest_infergate.core.domain.values import Struct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

# The first requests find an empty queue and are answered faster than those that follow.
QUEUE_WARM_UP_SHARE: Final = 0.1
"""Share of the requests, from the first on, that are left out of every latency."""
# A queue grows without bound if latency grows with time itself. Both conditions are required: a queue that is
# merely long grows little per second, and one that is short may grow by a large factor.
MIN_GROWTH: Final = 0.05
"""Seconds by which latency grows per second in a queue that grows without bound."""
MIN_GROWTH_RATIO: Final = 1.5
"""Mean latency of the second half of the requests over that of the first half in such a queue."""
# Requests that follow each other wait for each other, so that single latencies say little about the error.
ERROR_PARTS: Final = 20
"""Number of successive parts of a simulation whose p95 are compared for the error of the whole."""
Service = Callable[[int, int], float]
"""Seconds of a batch, by its number from 0 on and its size."""
StartedService = Callable[[int, int, float], float]
"""The same, which also depends on when the batch starts."""


class Server(Struct, frozen=True, kw_only=True):
    """Workers that take batches from one queue in the order of arrival.

    Raises `ValueError` for counts below 1 and for a wait that is negative or not finite.
    """

    max_batch: int
    max_wait: float = 0.0
    """Seconds that the oldest request waits at most for its batch to fill while a worker is free."""
    workers: int = 1
    """Number of workers of all instances."""

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, got {self.max_batch}")
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")
        if not (math.isfinite(self.max_wait) and self.max_wait >= 0):
            raise ValueError(f"max_wait must be 0 s or more and finite, got {self.max_wait} s")


class Timeline(NamedTuple):
    """The work of a server in order: arrivals by request; start, finish and size by batch."""

    arrivals: NDArray[np.float64]
    starts: NDArray[np.float64]
    finishes: NDArray[np.float64]
    sizes: NDArray[np.int64]

    @property
    def latencies(self) -> NDArray[np.float64]:
        """Seconds from arrival to answer of each request."""
        import numpy as np

        return np.repeat(self.finishes, self.sizes) - self.arrivals


def schedule(moments: ArrayLike, service: Service | DrawnTimes | RecordedTimes, server: Server) -> Timeline:
    """Apply the rules of a server to arrivals.

    A batch starts as soon as a worker is free and either `max_batch` requests wait or the oldest has waited
    for `max_wait`. A worker that becomes free later takes all waiting requests at once, up to `max_batch`.
    Of drawn times, a batch takes that of its first request.
    Raises `ValueError` for arrivals that do not ascend and for negative service times.
    """
    import numpy as np

    times = np.asarray(moments, dtype=np.float64)
    if times.ndim != 1 or not times.size:
        raise ValueError(f"arrivals must be a sequence of at least one time, got shape {times.shape}")
    if not np.isfinite(times).all() or (times[1:] < times[:-1]).any():
        raise ValueError("arrivals must be finite and ascending")
    ends: NDArray[np.float64] | None = None
    asked: StartedService | DrawnTimes
    if server.max_batch == server.workers == 1 and isinstance(service, DrawnTimes):
        # A request starts when it arrives or when the one before it ends: Lindley's recursion without a loop.
        alone = service.array(1)
        until = np.cumsum(alone)
        ended = until + np.maximum.accumulate(times - (until - alone))
        return Timeline(times, ended - alone, ended, np.ones(times.size, dtype=np.int64))
    due, behind = batches_in_time(times, server)
    if isinstance(service, DrawnTimes):
        asked, sizes = service, behind - np.arange(times.size)
        ends = due + service.of_sizes(sizes) if sizes.max() <= service.at_once else None
    elif isinstance(service, RecordedTimes):
        asked = service.next
    else:
        plain = service
        asked = lambda number, size, _: plain(number, size)  # noqa: E731
    found = batches_taken(times, (due, behind, ends), asked, server)
    firsts, after = np.array(found.firsts, dtype=np.int64), np.array(found.after, dtype=np.int64)
    # Where no batch was recorded, each request is one of its own.
    begun, done = due.copy(), due.copy() if ends is None else ends
    begun[firsts], done[firsts] = found.starts, found.finishes
    joined = np.zeros(times.size + 1, dtype=np.int64)
    joined[firsts + 1] += 1
    joined[after] -= 1
    first = np.flatnonzero(np.cumsum(joined[:-1]) == 0)
    begun, done = begun[first], done[first]
    if not (np.isfinite(done).all() and (done >= begun).all()):
        raise ValueError("service times must be 0 or more and finite")
    return Timeline(times, begun, done, np.diff(first, append=times.size))


def batches_in_time(
    times: NDArray[np.float64], server: Server
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return when the batch of each request is due, if it is the first, and the number of the one behind it.

    A batch starts when it is due unless all workers are busy.
    """
    import numpy as np

    due, behind = times, np.arange(1, times.size + 1)
    if server.max_wait:
        due = times + server.max_wait
        full = times[server.max_batch - 1 :]
        due[: full.size] = np.minimum(due[: full.size], full)
    if server.max_batch > 1 and (server.max_wait or (times[1:] == times[:-1]).any()):
        waiting = np.searchsorted(times, due, side="right")
        behind = np.minimum(waiting, behind + (server.max_batch - 1))
    return due, behind


class Taken(NamedTuple):
    """The batches that are late or have several requests: first request, the one behind, start and finish."""

    firsts: list[int]
    after: list[int]
    starts: list[float]
    finishes: list[float]


def batches_taken(
    times: NDArray[np.float64],
    in_time: tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64] | None],
    service: StartedService | DrawnTimes,
    server: Server,
) -> Taken:
    """Let workers take batches; `in_time` are `batches_in_time` and, where known, their finishes."""
    waiting: list[float] = times.tolist()
    due = waiting if in_time[0] is times else in_time[0].tolist()
    behind, ends = in_time[1].tolist(), None if in_time[2] is None else in_time[2].tolist()
    drawn, ask = (service, service.one) if isinstance(service, DrawnTimes) else (None, service)
    at_once, count = 0 if drawn is None else drawn.at_once, len(waiting)
    max_batch = min(server.max_batch, count)  # a result from elsewhere may have any
    # A heap of the moments at which workers become free; more workers than requests make no difference.
    free = [waiting[0]] * min(server.workers, count)
    firsts: list[int] = []
    afters: list[int] = []
    starts: list[float] = []
    finishes: list[float] = []
    first = 0
    # No request after the last one ever waits.
    waiting = [*waiting, *[math.inf] * max_batch]
    # This loop and that of `late_requests` take most of the time of an advice.
    while first < count:
        start = free[0]
        after = first + 1
        if due[first] >= start:
            if ends is not None and behind[first] == after:
                heapreplace(free, ends[first])
                first = after
                continue
            start, after = due[first], behind[first]
        # Batches are mostly small, and a search takes longer than the next comparison.
        elif waiting[after] <= start:
            after = bisect_right(waiting, start, after, first + max_batch)
        size = after - first
        # Without drawn times, all batches before this one were recorded, so that their number is known.
        if drawn is not None and size <= at_once:
            finish = start + drawn[size][first]
        else:
            finish = start + ask(len(firsts) if drawn is None else first, size, start)
        heapreplace(free, finish)
        firsts.append(first)
        afters.append(after)
        starts.append(start)
        finishes.append(finish)
        first = after
    return Taken(firsts, afters, starts, finishes)


def measured_times(
    service: ServiceTimes, server: Server, requests: int, seed: int, slowdown: float
) -> DrawnTimes | RecordedTimes:
    """Return the service times of one simulation: in recorded order, or else drawn independently."""
    order = service.order_of(server.max_batch)
    if order is None:
        return drawn_times(service, requests, seed, slowdown)
    return RecordedTimes(call_orders(service, order), min(server.workers, requests), seed, slowdown)


class Late(NamedTuple):
    """How many requests are late, of those after the warm-up that were simulated."""

    late: int
    requests: int


def late_requests(
    moments: NDArray[np.float64],
    service: DrawnTimes | RecordedTimes,
    server: Server,
    *,
    deadline: float,
    most: int,
    warm_up: float = QUEUE_WARM_UP_SHARE,
) -> Late:
    """Count the requests of `schedule` that are answered after the deadline; stop at more than `most`.

    It takes half the time of a simulation that records all batches, and often ends early.
    """
    count = moments.size
    skipped = int(warm_up * count)
    if server.max_batch == server.workers == 1 and isinstance(service, DrawnTimes):
        # Without a loop, all of them take less time than the first ones with it.
        found = schedule(moments, service, server).latencies[skipped:]
        return Late(int((found > deadline).sum()), found.size)
    due, behind = (each.tolist() for each in batches_in_time(moments, server))
    # No request after the last one ever waits.
    max_batch = min(server.max_batch, count)
    waiting: list[float] = [*moments.tolist(), *[math.inf] * max_batch]
    drawn, ask = (service, service.one) if isinstance(service, DrawnTimes) else (None, service.next)
    at_once = 0 if drawn is None else drawn.at_once
    free = [waiting[0]] * min(server.workers, count)
    late = first = batches = 0
    # The rules are those of `batches_taken`.
    while first < count:
        start = free[0]
        after = first + 1
        if due[first] >= start:
            start, after = due[first], behind[first]
        elif waiting[after] <= start:
            after = bisect_right(waiting, start, after, first + max_batch)
        size = after - first
        if drawn is not None and size <= at_once:
            finish = start + drawn[size][first]
        else:
            finish = start + ask(batches if drawn is None else first, size, start)
            batches += 1
        heapreplace(free, finish)
        if finish - waiting[first] > deadline and after > skipped:
            each = max(first, skipped)
            while each < after and finish - waiting[each] > deadline:
                each += 1
                late += 1
            if late > most:
                return Late(late, after - skipped)
        first = after
    return Late(late, count - skipped)


def simulate(
    moments: ArrayLike,
    service: ServiceTimes,
    server: Server,
    *,
    seed: int,
    slowdown: float = 1.0,
    deadline: float | None = None,
    warm_up: float = QUEUE_WARM_UP_SHARE,
) -> QueueLoad:
    """Simulate a server with measured service times: in recorded order, or else drawn independently.

    `slowdown` multiplies service times, `deadline` is in seconds, and `warm_up` is the share of requests,
    from the first on, that latencies leave out.
    Raises `ValueError` for a server with larger batches than were measured.
    """
    import numpy as np

    times = np.asarray(moments, dtype=np.float64)
    # Offered load is demand over the capacity of full batches, which is what more demand would fill.
    each = slowdown * service.mean(server.max_batch) / server.max_batch
    timeline = schedule(times, measured_times(service, server, times.size, seed, slowdown), server)
    span = float(times[-1] - times[0])
    return _load(
        timeline,
        server,
        offered=(times.size - 1) / span * each / server.workers if span > 0 else None,
        interpolated=any(
            service.interpolated(size) for size in np.flatnonzero(np.bincount(timeline.sizes)).tolist()
        ),
        deadline=deadline,
        warm_up=warm_up,
    )


def replay_queue(
    moments: ArrayLike,
    seconds: Sequence[float] | Service,
    server: Server,
    *,
    deadline: float | None = None,
    warm_up: float = 0.0,
) -> QueueLoad:
    """Simulate a server with recorded arrivals and service times.

    `seconds` are the service times of the batches in order, or a function of the number and size of a batch.
    Raises `ValueError` if the simulation makes more batches than were recorded.
    """
    if callable(seconds):
        return _load(schedule(moments, seconds, server), server, deadline=deadline, warm_up=warm_up)
    recorded = [float(value) for value in seconds]
    if not all(math.isfinite(value) and value > 0 for value in recorded):
        raise ValueError("recorded service times must be greater than 0 and finite")

    def service(number: int, _size: int) -> float:
        if number >= len(recorded):
            raise ValueError(f"the simulation must make at most {len(recorded)} batches, as many as recorded")
        return recorded[number]

    return _load(schedule(moments, service, server), server, deadline=deadline, warm_up=warm_up)


def _load(
    timeline: Timeline,
    server: Server,
    *,
    offered: float | None = None,
    interpolated: bool = False,
    deadline: float | None,
    warm_up: float,
) -> QueueLoad:
    import numpy as np

    if deadline is not None and not deadline > 0:
        raise ValueError(f"deadline must be greater than 0 s, got {deadline} s")
    if not 0 <= warm_up < 1:
        raise ValueError(f"warm_up must be a share of at least 0 and less than 1, got {warm_up}")
    skipped = int(warm_up * timeline.arrivals.size)
    # Without the warm-up; the load of the workers is that of all requests.
    latencies = timeline.latencies[skipped:]
    p50, p94, p95, p96, p99 = np.quantile(latencies, (0.5, 0.94, 0.95, 0.96, 0.99)).tolist()
    busy = float((timeline.finishes - timeline.starts).sum())
    duration = float(timeline.finishes.max() - timeline.arrivals[0])
    return QueueLoad(
        requests=latencies.size,
        mean=float(latencies.mean()),
        p50=p50,
        p95=p95,
        p95_error=_p95_error(latencies, p95, p96 - p94),
        p99=p99,
        missed=None if deadline is None else float((latencies > deadline).mean()),
        utilisation=busy / duration / server.workers if duration > 0 else 0.0,
        offered=offered,
        mean_batch=timeline.arrivals.size / timeline.sizes.size,
        interpolated=interpolated,
        stable=(offered is None or offered < 1) and not _grows(timeline.arrivals[skipped:], latencies),
    )


def _p95_error(latencies: NDArray[np.float64], p95: float, around: float) -> float | None:
    """Return the relative standard error of p95; `around` is the 96th minus the 94th percentile."""
    each = latencies.size // ERROR_PARTS
    # The p95 of a part needs a request above it.
    if each < ERROR_PARTS:
        return None
    # The share of late requests is compared, because it is not biased in a short part. The slope of the
    # distribution at p95 turns its error into that of a time.
    late = (latencies[: each * ERROR_PARTS].reshape(ERROR_PARTS, each) > p95).mean(axis=1)
    return float(late.std(ddof=1)) / math.sqrt(ERROR_PARTS) * around / 0.02 / p95 if p95 > 0 else 0.0


def _grows(moments: NDArray[np.float64], latencies: NDArray[np.float64]) -> bool:
    """Return whether latency grows with time itself, so that the queue has no bound."""
    # Means of both halves, because single latencies vary too much to show a trend.
    half = latencies.size // 2
    if not half:
        return False
    before, after = float(latencies[:half].mean()), float(latencies[half:].mean())
    span = float(moments[-1] - moments[0]) / 2
    return span > 0 and after > MIN_GROWTH_RATIO * before and after - before > MIN_GROWTH * span

"""Discrete-event simulation of a batching server: waiting and service of every request."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import heapreplace
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_infergate.core.advice.service_times import LAST_INTERVAL, PERCENTILES, Curve, ServiceTimes
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
# Separates the random numbers of service times from those of arrivals with the same seed.
_SERVICE: Final = 2
Service = Callable[[int, int], float]
"""Seconds of a batch, by its number from 0 on and its size."""


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


def schedule(  # noqa: C901, PLR0912 - one loop, which takes most of the time of an advice
    moments: ArrayLike, service: Service, server: Server, alone: NDArray[np.float64] | None = None
) -> Timeline:
    """Apply the rules of a server to arrivals.

    A batch starts as soon as a worker is free and either `max_batch` requests wait or the oldest has waited
    for `max_wait`. A worker that becomes free later takes all waiting requests at once, up to `max_batch`.
    `alone` are the seconds of each request in a batch of its own; with them, `service` gets the number of the
    first request of a batch instead of that of the batch.
    Raises `ValueError` for arrivals that do not ascend and for negative service times.
    """
    import numpy as np

    times = np.asarray(moments, dtype=np.float64)
    if times.ndim != 1 or not times.size:
        raise ValueError(f"arrivals must be a sequence of at least one time, got shape {times.shape}")
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError("arrivals must be finite and ascending")
    if server.max_batch == server.workers == 1 and alone is not None:
        # A request starts when it arrives or when the one before it ends: the recursion of Lindley, without a
        # loop.
        until = np.cumsum(alone)
        ended = until + np.maximum.accumulate(times - (until - alone))
        return Timeline(times, ended - alone, ended, np.ones(times.size, dtype=np.int64))
    waiting: list[float] = times.tolist()
    singles: list[float] | None = None if alone is None else alone.tolist()
    count, max_batch, max_wait = len(waiting), server.max_batch, server.max_wait
    # A heap of the moments at which workers become free; more workers than requests make no difference.
    free = [waiting[0]] * min(server.workers, count)
    one_worker = len(free) == 1
    starts: list[float] = []
    finishes: list[float] = []
    ends: list[int] = []
    first = number = 0
    while first < count:
        # The batch starts when it is full or the oldest request has waited long enough, but not before a
        # worker is free.
        start = free[0]
        ready = waiting[first] + max_wait
        last = first + max_batch
        if last > count:
            last = count
        elif max_wait and waiting[last - 1] < ready:
            ready = waiting[last - 1]
        # A comparison takes half the time of `max`, in the loop that takes most of the time of an advice.
        if ready > start:  # noqa: PLR1730
            start = ready
        after = first + 1
        # Batches are mostly small, and a search takes longer than the next comparison.
        if after < last and waiting[after] <= start:
            after = bisect_right(waiting, start, after, last)
        if singles is None:
            finish = start + service(number, after - first)
        elif after == first + 1:
            # Most batches of a simulation, without a call.
            finish = start + singles[first]
        else:
            finish = start + service(first, after - first)
        if one_worker:
            free[0] = finish
        else:
            heapreplace(free, finish)
        starts.append(start)
        finishes.append(finish)
        ends.append(after)
        first = after
        number += 1
    begun, done = np.array(starts), np.array(finishes)
    if not (np.isfinite(done).all() and (done >= begun).all()):
        raise ValueError("service times must be 0 or more and finite")
    return Timeline(times, begun, done, np.diff(np.array(ends), prepend=0))


def simulate(
    moments: ArrayLike,
    service: ServiceTimes,
    server: Server,
    *,
    seed: int,
    deadline: float | None = None,
    warm_up: float = QUEUE_WARM_UP_SHARE,
) -> QueueLoad:
    """Simulate a server with service times drawn from measured distributions.

    `deadline` is in seconds, `warm_up` is the share of requests, from the first on, that latencies leave out.
    Raises `ValueError` for a server with larger batches than were measured.
    """
    import numpy as np

    times = np.asarray(moments, dtype=np.float64)
    # Offered load is demand over the capacity of full batches, which is what more demand would fill.
    each = service.mean(server.max_batch) / server.max_batch
    drawn = np.random.default_rng((seed, _SERVICE)).random(times.size)
    timeline = schedule(times, by_request(service, drawn), server, service.curve(1).quantiles(drawn))
    span = float(times[-1] - times[0])
    return _load(
        timeline,
        server,
        offered=(times.size - 1) / span * each / server.workers if span > 0 else None,
        interpolated=any(service.interpolated(size) for size in set(timeline.sizes.tolist())),
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


def by_request(service: ServiceTimes, drawn: NDArray[np.float64]) -> Service:
    """Return service times by inverse transform of one uniform number for each request.

    A batch takes the number of its first request, whatever the server and the demand are, so that these are
    compared under equal luck.
    """
    shares: list[float] = drawn.tolist()
    curves: dict[int, Curve] = {}

    def seconds(first: int, size: int) -> float:
        curve = curves.get(size)
        if curve is None:
            curve = curves[size] = service.curve(size)
        # Written out instead of calling `Curve.quantile`: this runs for most batches of hundreds of
        # simulations.
        values, tail = curve
        position = (PERCENTILES - 1) * shares[first]
        below = int(position)
        share = position - below
        if below == LAST_INTERVAL:
            share **= tail
        low = values[below]
        return low + share * (values[below + 1] - low)

    return seconds


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

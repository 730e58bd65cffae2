"""Discrete-event simulation of a batching server: waiting and service of each request."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import heapreplace
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_infergate.core.domain.advice_values import QueueLoad
from pytest_infergate.core.domain.model import Struct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
from pytest_infergate.core.advice.service_times import LAST_INTERVAL, PERCENTILES, Curve, ServiceTimes

WARM_UP_SHARE: Final = 0.1
"""Share of the requests, the first ones, that no figure counts: they find the queue still empty."""
GROWTH: Final = 0.05
"""Seconds by which latency grows in a second where the queue grows without bound."""
GROWN: Final = 1.5
"""And the factor from the first half of the requests to the second."""
_SERVICE: Final = 2
"""Keeps the random numbers of service times apart from those of arrivals of the same seed."""
Service = Callable[[int, int], float]
"""Seconds that a batch takes, by its number from 0 on and its size."""


class Server(Struct, frozen=True, kw_only=True):
    """Workers that take batches from one queue, in order of arrival.

    Raises `ValueError` for counts below 1 and a wait that is negative or not finite.
    """

    max_batch: int
    max_wait: float = 0.0
    """Seconds that the oldest request may wait for its batch to fill while a worker is free."""
    workers: int = 1
    """Of all instances."""

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError(f"batches of at most {self.max_batch}: they must hold at least 1")
        if self.workers < 1:
            raise ValueError(f"{self.workers} workers: there must be at least 1")
        if not (math.isfinite(self.max_wait) and self.max_wait >= 0):
            raise ValueError(f"a wait of {self.max_wait} s for a batch to fill is not zero or more")


class Timeline(NamedTuple):
    """What a server did: arrivals by request; start, finish and size by batch, in order."""

    arrivals: NDArray[np.float64]
    starts: NDArray[np.float64]
    finishes: NDArray[np.float64]
    sizes: NDArray[np.int64]

    @property
    def latencies(self) -> NDArray[np.float64]:
        """Seconds from arrival to answer, by request."""
        import numpy as np

        return np.repeat(self.finishes, self.sizes) - self.arrivals


def schedule(moments: ArrayLike, service: Service, server: Server) -> Timeline:
    """Run a server over arrivals: the one place where its rules stand.

    A batch starts as soon as a worker is free and either `max_batch` requests wait or the oldest has waited
    `max_wait`; a worker that comes free later than that takes at once what waits. Raises `ValueError` for
    arrivals that do not ascend and service times below 0.
    """
    import numpy as np

    times = np.asarray(moments, dtype=np.float64)
    if times.ndim != 1 or not times.size:
        raise ValueError("a simulation needs a row of at least one arrival")
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError("arrivals must be finite and ascend")
    waiting: list[float] = times.tolist()
    count, max_batch, max_wait = len(waiting), server.max_batch, server.max_wait
    free = [waiting[0]] * min(server.workers, count)
    starts: list[float] = []
    finishes: list[float] = []
    ends: list[int] = []
    first = number = 0
    while first < count:
        last = first + max_batch
        ready = waiting[first] + max_wait
        if last > count:
            last = count
        elif waiting[last - 1] < ready:
            ready = waiting[last - 1]
        start = free[0]
        start = max(start, ready)
        after = bisect_right(waiting, start, first, last)
        finish = start + service(number, after - first)
        heapreplace(free, finish)
        starts.append(start)
        finishes.append(finish)
        ends.append(after)
        first = after
        number += 1
    begun, done = np.array(starts), np.array(finishes)
    if not (np.isfinite(done).all() and (done >= begun).all()):
        raise ValueError("a service time is negative or not finite")
    return Timeline(times, begun, done, np.diff(np.array(ends), prepend=0))


def simulate(
    moments: ArrayLike,
    service: ServiceTimes,
    server: Server,
    *,
    seed: int,
    deadline: float | None = None,
    warm_up: float = WARM_UP_SHARE,
) -> QueueLoad:
    """Run a server over arrivals, with service times drawn from what was measured.

    `deadline` is in seconds; `warm_up` is the share of requests, the first ones, that latencies leave out.
    Equal seeds draw the same luck for the batch of each number, whatever the server. Raises `ValueError` for
    a server with larger batches than were measured.
    """
    import numpy as np

    times = np.asarray(moments, dtype=np.float64)
    each = service.mean(server.max_batch) / server.max_batch
    timeline = schedule(times, _drawn(service, seed, times.size), server)
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
    """Run a server over recorded arrivals and service times.

    `seconds` are those of each batch in order, or a function of a batch's number and size. Raises
    `ValueError` where more batches are made than were recorded.
    """
    timeline = schedule(moments, seconds if callable(seconds) else _recorded(seconds), server)
    return _load(timeline, server, deadline=deadline, warm_up=warm_up)


def _drawn(service: ServiceTimes, seed: int, count: int) -> Service:
    """Service times by inverse transform of one uniform number for each batch."""
    import numpy as np

    uniform = np.random.default_rng((seed, _SERVICE)).random(count)
    positions: list[float] = ((PERCENTILES - 1) * uniform).tolist()
    curves: dict[int, Curve] = {}

    def seconds(number: int, size: int) -> float:
        curve = curves.get(size)
        if curve is None:
            curve = curves[size] = service.curve(size)
        values, tail = curve
        position = positions[number]
        below = int(position)
        share = position - below
        if below == LAST_INTERVAL:
            share **= tail
        low = values[below]
        return low + share * (values[below + 1] - low)

    return seconds


def _recorded(seconds: Sequence[float]) -> Service:
    recorded = [float(value) for value in seconds]
    if not all(math.isfinite(value) and value > 0 for value in recorded):
        raise ValueError("recorded service times must be above zero and finite")

    def of(number: int, _size: int) -> float:
        if number >= len(recorded):
            raise ValueError(f"only {len(recorded)} service times were recorded, and more batches were made")
        return recorded[number]

    return of


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
        raise ValueError(f"a deadline of {deadline} s is not above zero")
    if not 0 <= warm_up < 1:
        raise ValueError(f"a warm-up of {warm_up} is not a share of the requests below 1")
    skipped = int(warm_up * timeline.arrivals.size)
    latencies = timeline.latencies[skipped:]
    p50, p95, p99 = (float(value) for value in np.quantile(latencies, (0.5, 0.95, 0.99)))
    busy = float((timeline.finishes - timeline.starts).sum())
    duration = float(timeline.finishes.max() - timeline.arrivals[0])
    return QueueLoad(
        requests=latencies.size,
        mean=float(latencies.mean()),
        p50=p50,
        p95=p95,
        p99=p99,
        missed=None if deadline is None else float((latencies > deadline).mean()),
        utilisation=busy / duration / server.workers if duration > 0 else 0.0,
        offered=offered,
        mean_batch=timeline.arrivals.size / timeline.sizes.size,
        interpolated=interpolated,
        stable=(offered is None or offered < 1) and not _runs_away(timeline.arrivals[skipped:], latencies),
    )


def _runs_away(moments: NDArray[np.float64], latencies: NDArray[np.float64]) -> bool:
    """Whether latency grows with time itself, which a queue that is merely long does not."""
    half = latencies.size // 2
    if not half:
        return False
    before, after = float(latencies[:half].mean()), float(latencies[half:].mean())
    span = float(moments[-1] - moments[0]) / 2
    return span > 0 and after > GROWN * before and after - before > GROWTH * span

"""From a demand and a limit to instances: `(demand, service times, batching, limit) -> Needed`.

A batching server with one queue is simulated on measured service times, request by request: what a request
takes under load is waiting and service, and the waiting follows from neither throughput nor service time.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from heapq import heapreplace
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from pytest_infergate.core import units
from pytest_infergate.core.demand import Backlog, Demand, arrivals
from pytest_infergate.core.model import Note, Struct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

PERCENTILES: Final = 101
"""Percentiles that tell a distribution: the 0th to the 100th."""
UTILISATION: Final = 0.6
"""Share of its capacity that a service is planned to use."""
WARM_UP: Final = 0.1
"""Share of the requests, the first ones, that no figure counts: they find the queue still empty."""
PERIODIC_MISSES: Final = 0.01
"""Share of the frames of a stream that may be answered after the next frame has come."""
REQUESTS: Final = 20_000
"""Requests of a simulation."""
ROUNDS: Final = 10
"""Full batches that each worker could serve in it, at least."""
MOST_REQUESTS: Final = 1_000_000
"""And requests to which that may lead."""
MOST_INSTANCES: Final = 1_000_000
"""Instances that may be needed where nobody says how many there may be."""
PHASES: Final = 20
"""Times that the streams of a periodic demand begin anew, as their phases decide what waits for what."""
PERIODS: Final = 50
"""Periods between two of these, at least."""
GROWTH: Final = 0.05
"""Seconds by which latency grows in a second where the queue grows without bound."""
GROWN: Final = 1.5
"""And the factor from the first half of the requests to the second."""
BEND: Final = 0.005
"""Least share of the way from the 99th percentile to the maximum that the mean of the slowest calls has."""

_SERVICE: Final = 2
"""Keeps the random numbers of service times apart from those of arrivals of the same seed."""
_LAST: Final = PERCENTILES - 2
"""Index of the interval between the 99th percentile and the maximum."""
_NOISE: Final = 1e-9
"""Relative error of a division that is not one more instance, or one batch less."""

Service = Callable[[int, int], float]
"""Seconds that a batch takes, by its number from 0 on and its size."""


class Curve(NamedTuple):
    """Distribution of the service time of one batch size: straight lines between its percentiles."""

    values: tuple[float, ...]
    tail: float = 1.0
    """Power by which the last line, the slowest hundredth of calls, is bent."""

    @property
    def mean(self) -> float:
        """Mean of the distribution."""
        reach = self.values[-1] - self.values[_LAST]
        return (_body(self.values) + self.values[_LAST] + reach / (self.tail + 1)) / (PERCENTILES - 1)

    def quantile(self, u: float) -> float:
        """The service time that a share `u` of calls stays below."""
        position = u * (PERCENTILES - 1)
        below = min(int(position), _LAST)
        share = position - below
        if below == _LAST:
            share **= self.tail
        return self.values[below] + share * (self.values[below + 1] - self.values[below])


class ServiceTimes(Struct, frozen=True, kw_only=True):
    """Seconds in which one worker serves a batch, by batch size, as measured.

    Raises `ValueError` for sizes that do not ascend, and for times that are no percentiles above 0.
    """

    batch_sizes: tuple[int, ...]
    percentiles: tuple[tuple[float, ...], ...]
    """Of each size: the 0th to the 100th."""
    means: tuple[float, ...] = ()
    """Of each size, where they are known: they tell how the slowest hundredth of calls is spread."""

    def __post_init__(self) -> None:
        sizes = self.batch_sizes
        if not sizes or sizes[0] < 1 or any(low >= high for low, high in pairwise(sizes)):
            raise ValueError(f"batch sizes {list(sizes)}: they must be at least one, from 1 on and ascending")
        if len(self.percentiles) != len(sizes) or len(self.means) not in (0, len(sizes)):
            curves, means = units.plural(len(self.percentiles), "distribution"), len(self.means)
            wanted = units.plural(len(sizes), "batch size")
            raise ValueError(f"{curves} and {units.plural(means, 'mean')} for {wanted}")
        for size, values in zip(sizes, self.percentiles, strict=True):
            if len(values) != PERCENTILES:
                raise ValueError(f"batch size {size} has {len(values)} percentiles, not {PERCENTILES}")
            ascending = all(low <= high for low, high in pairwise(values))
            if not (values[0] > 0 and ascending and math.isfinite(values[-1])):
                raise ValueError(f"the percentiles of batch size {size} are not ascending times above zero")
        if not all(math.isfinite(mean) and mean > 0 for mean in self.means):
            raise ValueError(f"means {list(self.means)}: they must be times above zero")

    @property
    def largest(self) -> int:
        """Largest batch size that was measured; nothing is known above."""
        return self.batch_sizes[-1]

    def measured(self, batch: int) -> bool:
        """Whether this very batch size was measured."""
        return batch in self.batch_sizes

    def interpolated(self, batch: int) -> bool:
        """Whether the times of a batch size lie between two that were measured.

        A batch below the smallest is taken to be filled up to it, which is an upper bound.
        """
        return self.batch_sizes[0] < batch < self.largest and not self.measured(batch)

    def mean(self, batch: int) -> float:
        """Mean service time of a batch size."""
        return self.curve(batch).mean

    def quantile(self, batch: int, u: float) -> float:
        """Service time that a share `u` of the calls of a batch size stays below."""
        if not 0 <= u <= 1:
            raise ValueError(f"a quantile of {u} is not a share from 0 to 1")
        return self.curve(batch).quantile(u)

    def curve(self, batch: int) -> Curve:
        """Distribution at a batch size, between two measured sizes linear in it, quantile by quantile.

        Raises `ValueError` for a size above the largest that was measured.
        """
        if not 1 <= batch <= self.largest:
            raise ValueError(f"nothing is known of a batch of {batch}: measured were up to {self.largest}")
        above = bisect_left(self.batch_sizes, batch)
        high = self.batch_sizes[above]
        if batch == high or above == 0:
            return _curve(self.percentiles[above], self.means[above] if self.means else None)
        low = self.batch_sizes[above - 1]
        share = (batch - low) / (high - low)
        ends = zip(self.percentiles[above - 1], self.percentiles[above], strict=True)
        mean = _between(self.means[above - 1], self.means[above], share) if self.means else None
        return _curve(tuple(_between(first, last, share) for first, last in ends), mean)


def _between(first: float, last: float, share: float) -> float:
    return first + share * (last - first)


def _body(values: Sequence[float]) -> float:
    """Sum of the means of the first 99 of the hundred intervals."""
    return math.fsum(values[: _LAST + 1]) - (values[0] + values[_LAST]) / 2


def _curve(values: tuple[float, ...], mean: float | None) -> Curve:
    """Bend the last line so that the whole has its mean; straight, one slow call would weigh too much."""
    reach = values[-1] - values[_LAST]
    if mean is None or reach <= 0:
        return Curve(values)
    place = ((PERCENTILES - 1) * mean - _body(values) - values[_LAST]) / reach
    return Curve(values, 1 / min(max(place, BEND), 1 - BEND) - 1)


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


class Load(Struct, frozen=True, kw_only=True):
    """How a server did under a demand. Latencies are waiting and service, in seconds."""

    requests: int
    """Behind the latencies: the first ones are left out."""
    mean: float
    p50: float
    p95: float
    p99: float
    missed: float | None = None
    """Share of requests answered after the deadline; ``None`` where there is none."""
    utilisation: float
    """Share of their time that the workers are busy. Small batches keep them busy and leave room."""
    offered: float | None = None
    """Offered load: requests a second over what the workers serve in full batches. ``None`` in a replay."""
    mean_batch: float
    interpolated: bool = False
    """Whether batches ran of a size that lies between two measured ones."""
    stable: bool = True
    """Whether the queue is done in time, instead of growing as long as requests come."""


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
    warm_up: float = WARM_UP,
) -> Load:
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


def replay(
    moments: ArrayLike,
    seconds: Sequence[float] | Service,
    server: Server,
    *,
    deadline: float | None = None,
    warm_up: float = 0.0,
) -> Load:
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
        if below == _LAST:
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
) -> Load:
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
    return Load(
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


class Needed(Struct, frozen=True, kw_only=True):
    """Fewest instances that serve a demand."""

    instances: int | None
    """``None`` where no number would do."""
    binding: Literal["limit", "utilisation", "none"]
    """What one instance less would break; ``none`` where there is but one."""
    load: Load | None = None
    """With so many instances."""
    reason: Note | None = None
    """Why no number would do."""


class _Promise(NamedTuple):
    """A share of requests that must be answered within a time."""

    share: float
    deadline: float | None = None
    """``None``: any time will do."""
    words: str = ""

    def kept(self, load: Load) -> bool:
        # So few may be late that the percentile, interpolated as it is, lies within the deadline.
        late = 0.0 if load.missed is None else load.missed * load.requests
        return late <= (1 - self.share) * (load.requests - 1) + _NOISE

    def broken(self, text: str, cure: str) -> Needed:
        """Say that no number of instances keeps it."""
        note = Note(code="limit-unreachable", text=f"{text}: {self.words}", cure=cure)
        return Needed(instances=None, binding="limit", reason=note)


def instances_needed(  # noqa: PLR0913 - a plan has so many parts
    demand: Demand,
    service: ServiceTimes,
    *,
    limit: float | None,
    percentile: float = 0.95,
    max_batch: int,
    max_wait: float,
    workers_per_instance: int = 1,
    utilisation: float = UTILISATION,
    most: int | None = None,
    requests: int = REQUESTS,
    seed: int = 0,
) -> Needed:
    """Find the fewest instances that serve a demand within a limit, in seconds, and a utilisation.

    Utilisation here is the offered load: the share of what full batches would serve. A periodic demand
    without a limit must have 99 % of its frames answered before the next of their stream; an infinite limit
    asks for nothing. With one instance less, the simulation breaks what `binding` says. Raises `ValueError`
    for figures that make no sense, and for batches larger than were measured.
    """
    one = Server(max_batch=max_batch, max_wait=max_wait, workers=workers_per_instance)
    promise = _promise(demand, limit, percentile)
    most = _checked(utilisation, most, requests)
    busy = demand.rate * (service.mean(max_batch) / max_batch) / workers_per_instance / utilisation
    if busy * (1 - _NOISE) > most:
        return _too_many(most, "utilisation")
    least = max(1, math.ceil(busy * (1 - _NOISE)))
    if busy * utilisation >= least * (1 - _NOISE):
        least += 1  # fully used, they would never catch up
    sizes = {1, max_batch, *(size for size in service.batch_sizes if size <= max_batch)}
    fastest = min(service.quantile(size, promise.share) for size in sizes)
    if promise.deadline is not None and fastest > promise.deadline:
        text = f"{_percent(promise.share)} of calls take up to {units.seconds(fastest)} without any waiting"
        return promise.broken(text, "measure a faster machine, or allow more time")
    places = least * workers_per_instance * max_batch
    moments = _moments(demand, max(requests, min(ROUNDS * places, MOST_REQUESTS)), seed)
    loads: dict[int, Load] = {}

    def enough(instances: int) -> bool:
        server = msgspec.structs.replace(one, workers=instances * workers_per_instance)
        loads[instances] = simulate(moments, service, server, seed=seed, deadline=promise.deadline)
        return loads[instances].stable and promise.kept(loads[instances])

    if enough(least):
        return Needed(instances=least, binding="utilisation" if least > 1 else "none", load=loads[least])
    # With a worker for each request nobody waits for one: what that does not keep, nothing keeps.
    unlimited = max(least, math.ceil(moments.size / workers_per_instance))
    if not enough(unlimited):
        late = _percent(loads[unlimited].missed or 0.0)
        text = f"with any number of instances {late} of requests are late, the filling of batches included"
        return promise.broken(text, "let batches wait less, or allow more time")
    binding: Literal["limit", "utilisation"] = "utilisation" if promise.deadline is None else "limit"
    found = _fewest(enough, least, min(most, unlimited))
    if found is None:
        return _too_many(most, binding)
    return Needed(instances=found, binding=binding, load=loads[found])


def _promise(demand: Demand, limit: float | None, percentile: float) -> _Promise:
    if not 0 < percentile < 1:
        raise ValueError(f"a percentile of {percentile} is not a share between 0 and 1")
    if limit is None and demand.period is not None:
        words = f"the period of a stream is {units.seconds(demand.period)}"
        return _Promise(1 - PERIODIC_MISSES, demand.period, words)
    if limit is None or limit == math.inf:
        return _Promise(percentile)
    if not limit > 0:
        raise ValueError(f"a limit of {limit} s is not above zero")
    return _Promise(percentile, limit, f"the limit is {units.seconds(limit)}")


def _checked(utilisation: float, most: int | None, requests: int) -> int:
    """How many instances there may be."""
    _share(utilisation)
    if most is not None and most < 1:
        raise ValueError(f"at most {most} instances: there must be at least 1")
    if requests < 1:
        raise ValueError(f"a simulation of {requests} requests: there must be at least 1")
    return MOST_INSTANCES if most is None else most


def _share(utilisation: float) -> None:
    if not 0 < utilisation <= 1:
        raise ValueError(f"a utilisation of {utilisation} is not a share above 0 and up to 1")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _too_many(most: int, binding: Literal["limit", "utilisation"]) -> Needed:
    note = Note(
        code="too-many-instances",
        text=f"more than {units.plural(most, 'instance')} would be needed",
        cure="allow more, or serve larger batches on faster machines",
    )
    return Needed(instances=None, binding=binding, reason=note)


def _fewest(enough: Callable[[int], bool], failing: int, most: int) -> int | None:
    """Smallest number above one that fails: double until it is enough, then halve the gap."""
    passing = failing
    while passing < most:
        passing = min(2 * passing, most)
        if enough(passing):
            break
        failing = passing
    else:
        return None
    while passing - failing > 1:
        middle = (failing + passing) // 2
        if enough(middle):
            passing = middle
        else:
            failing = middle
    return passing


def _moments(demand: Demand, count: int, seed: int) -> NDArray[np.float64]:
    """Arrivals to plan with: periodic streams begin anew several times, each time in other phases."""
    import numpy as np

    if demand.period is None:
        return arrivals(demand, count, seed)
    draws = 1 if demand.streams == 1 else max(1, min(PHASES, count // (PERIODS * demand.streams)))
    periods = math.ceil(count / (draws * demand.streams))
    # A period of silence in between, since frames of one stream never come closer than that.
    pause = (periods + 1) * demand.period
    size, first = periods * demand.streams, PHASES * seed
    return np.concatenate([arrivals(demand, size, first + draw) + draw * pause for draw in range(draws)])


class Offline(NamedTuple):
    """What it takes to work off a backlog."""

    machine_hours: float
    instances: int
    """That work at once, to be done before the deadline."""


def offline(
    backlog: Backlog,
    service: ServiceTimes,
    *,
    max_batch: int,
    workers_per_instance: int = 1,
    utilisation: float = 1.0,
) -> Offline:
    """Work off a backlog in full batches, one after the other.

    `utilisation` is the share of the time that the workers spend on it. Raises `ValueError` where one batch
    takes longer than the deadline.
    """
    workers = Server(max_batch=max_batch, workers=workers_per_instance).workers
    _share(utilisation)
    each = service.mean(max_batch) / utilisation
    in_time = backlog.deadline / each * (1 + _NOISE)
    seconds = backlog.items / max_batch * each
    if not (math.isfinite(in_time) and math.isfinite(seconds)):
        raise ValueError(f"a backlog of {backlog.items:g} items is beyond any plan")
    if in_time < 1:
        taken, deadline = units.seconds(each), units.seconds(backlog.deadline)
        raise ValueError(f"one batch of {max_batch} takes {taken}, and the deadline is {deadline}")
    batches = math.ceil(backlog.items / max_batch)
    return Offline(
        machine_hours=batches * each / workers / 3600,
        instances=-(-batches // (math.floor(in_time) * workers)),
    )

"""The fewest instances that serve a demand within a latency limit, by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pytest_infergate.core.advice.demand import Backlog, arrivals
from pytest_infergate.core.advice.queueing import (
    QUEUE_WARM_UP_SHARE,
    Server,
    late_requests,
    measured_times,
    simulate,
)
from pytest_infergate.core.advice.service_times import ServiceTimes
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Demand, QueueLoad
from pytest_infergate.core.domain.bisection import integer_between, last_that_holds
from pytest_infergate.core.domain.instance_types import UTILISATION
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note, Struct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A stream without a limit must have 99 % of its frames answered before its next frame arrives.
MAX_PERIODIC_MISSES: Final = 0.01
"""Share of the frames of a stream that may be answered after its next frame has arrived."""
REQUESTS: Final = 20_000
"""Number of requests of a simulation, unless the error of p95 asks for more."""
# Many workers with large batches would answer 20,000 requests in their first batch, without any waiting.
MIN_ROUNDS: Final = 10
"""Number of times that the requests under way are replaced by others in a simulation."""
MAX_REQUESTS: Final = 1_000_000
"""Number of requests to which `MIN_ROUNDS` may lead."""
MAX_INSTANCES: Final = 1_000_000
"""Default limit of the number of instances."""
# The phases of periodic streams determine which frames wait for which, so one draw of them says little.
PHASE_DRAWS: Final = 20
"""Number of times that periodic streams are restarted in other phases."""
MIN_PERIODS: Final = 50
"""Number of periods between two restarts."""
MAX_ERROR: Final = 0.03
"""Relative standard error of p95 up to which a simulation is long enough."""
ENOUGH_REQUESTS: Final = 20_000
"""Number of requests from which on a simulation is not repeated; its error is part of the result."""
REPEAT: Final = 4
"""Factor by which a repeated simulation is longer."""
CLEAR: Final = 4.0
"""Standard errors between p95 and the limit from which on it is clear which of both is larger."""
# There the share of late requests rises only as fast as demand, so that its error is one of demand.
LOW_LOAD: Final = 0.2
"""Offered load below which `Sizing.excess` repeats a simulation that is in doubt."""
DOUBTFUL: Final = 0.25
"""Absolute `Sizing.excess` below which it is: 4 standard errors of 225 late requests."""
EDGE_NOISE: Final = 1e-9
"""Relative error of a division that must not add an instance, or take a batch away."""


class Needed(Struct, frozen=True, kw_only=True):
    """The fewest instances that serve a demand."""

    instances: int | None
    """``None`` if no number is enough."""
    binding: Literal["limit", "utilisation", "none"]
    """Condition that one instance less would break; ``none`` if there is only one instance."""
    load: QueueLoad | None = None
    """Load with this number of instances."""
    reason: Note | None = None
    """Reason why no number is enough."""


class _Target(NamedTuple):
    """A share of the requests that must be answered within a time."""

    share: float
    deadline: float | None = None
    """Seconds; ``None`` if any time is good enough."""
    text: str = ""

    def met(self, load: QueueLoad) -> bool:
        late = 0.0 if load.missed is None else load.missed * load.requests
        if self.deadline is not None and load.offered is not None and load.offered >= 1:
            return False  # the queue grows, however many requests the simulation has
        return late <= self.most_late(load.requests)

    def most_late(self, requests: int) -> float:
        """Return how many requests may be late."""
        # So few that the percentile, interpolated as it is, lies within the deadline.
        return (1 - self.share) * (requests - 1) + EDGE_NOISE

    def clear(self, load: QueueLoad) -> bool:
        """Return whether p95 is so far from the deadline that a longer simulation would not cross it."""
        if self.deadline is None or load.p95_error is None:
            return True
        return abs(load.p95 - self.deadline) > CLEAR * load.p95_error * load.p95

    def unreachable(self, text: str, hint: str) -> Needed:
        """Return the answer that no number of instances meets the target."""
        note = Note(code=NoteCode.LIMIT_UNREACHABLE, text=f"{text}: {self.text}", hint=hint)
        return Needed(instances=None, binding="limit", reason=note)


class Sizing(Struct, frozen=True, kw_only=True):
    """A server of one kind, which is asked how many instances of it serve a demand.

    A periodic demand without a limit must have 99 % of its frames answered before the next frame of their
    stream; an infinite limit requires nothing. Raises `ValueError` for figures out of range, and, when it is
    asked, for larger batches than were measured.
    """

    service: ServiceTimes
    limit: float | None
    """Seconds within which requests must be answered; ``None`` without a limit."""
    percentile: float = 0.95
    """Share of the requests that must be."""
    slowdown: float = 1.0
    """Factor of service times by which calls may be slower than measured; the limit must be met with it."""
    max_batch: int
    max_wait: float
    workers_per_instance: int = 1
    utilisation: float = UTILISATION
    """Largest offered load: demand over the capacity of full batches."""
    requests: int = REQUESTS
    """Number of requests of a simulation, which is repeated with more if p95 is uncertain."""
    seed: int = 0

    def __post_init__(self) -> None:
        self.server(1)
        if not 0 < self.percentile < 1:
            raise ValueError(f"percentile must be a share between 0 and 1, got {self.percentile}")
        if self.limit is not None and not self.limit > 0:
            raise ValueError(f"limit must be greater than 0 s, got {self.limit} s")
        _check_utilisation(self.utilisation)
        if self.requests < 1:
            raise ValueError(f"requests must be at least 1, got {self.requests}")
        if not 1 <= self.slowdown < math.inf:
            raise ValueError(f"slowdown must be at least 1 and finite, got {self.slowdown}")

    def server(self, instances: int) -> Server:
        """Return the server of so many instances."""
        workers = instances * self.workers_per_instance
        return Server(max_batch=self.max_batch, max_wait=self.max_wait, workers=workers)

    def rate_at(self, instances: int) -> float:
        """Return the requests per second at which so many instances have the largest offered load."""
        each = self.service.mean(self.max_batch) / self.max_batch / self.workers_per_instance
        return instances * self.utilisation / each

    def stable_rate(self, instances: int) -> float:
        """Return the requests per second at which so many instances never rest, with their `slowdown`."""
        return self.rate_at(instances) / self.utilisation / self.slowdown

    def least(self, demand: Demand) -> int:
        """Return the fewest instances whose offered load is at most the utilisation and less than 1."""
        busy = demand.rate / self.rate_at(1)
        least = max(1, math.ceil(busy * (1 - EDGE_NOISE)))
        # Workers that are always busy would never work off a queue.
        return least + 1 if busy * self.utilisation >= least * (1 - EDGE_NOISE) else least

    def load(
        self, demand: Demand, instances: int, *, shown: bool = True, slowdown: float | None = None
    ) -> QueueLoad:
        """Simulate so many instances, with their `slowdown` unless another is given, until p95 is certain.

        It need not be certain where the limit is clearly missed, or where p95 is not `shown` and it is clear
        that the limit is met.
        """
        target = _target(demand, self.limit, self.percentile)
        count = self._enough(demand, instances)
        while True:
            load = self._simulated(demand, instances, count, slowdown)
            if count >= ENOUGH_REQUESTS or (load.p95_error or 0.0) <= MAX_ERROR:
                return load
            if target.deadline is not None and not (shown and target.met(load)) and target.clear(load):
                return load
            count *= REPEAT

    def serves(self, demand: Demand, instances: int) -> bool:
        """Return whether so many instances meet the limit and the utilisation."""
        target = _target(demand, self.limit, self.percentile)
        if instances < self.least(demand) or _too_slow(self, target) is not None:
            return False
        return target.deadline is None or target.met(self.load(demand, instances, shown=False))

    def excess(self, demand: Demand, instances: int) -> float:
        """Return the logarithm of the share of late requests over the share that may be late.

        It is above 0 where so many instances are too few, and infinite where no simulation decides. The
        simulation ends with the first request that is late once too often, so that this share is then an
        estimate, and it is repeated with more requests only at low load.
        """
        target = _target(demand, self.limit, self.percentile)
        if instances < self.least(demand) or _too_slow(self, target) is not None:
            return math.inf
        if target.deadline is None:
            return -math.inf
        # A queue that grows is long after enough requests, which the simulation need not have.
        if demand.rate >= self.stable_rate(instances):
            return math.inf
        count = self._enough(demand, instances)
        excess = self._counted(demand, instances, count, target)
        low = demand.rate < LOW_LOAD * self.stable_rate(instances)
        if low and abs(excess) < DOUBTFUL and count < ENOUGH_REQUESTS:
            excess = self._counted(demand, instances, REPEAT * count, target)
        return excess

    def _counted(self, demand: Demand, instances: int, count: int, target: _Target) -> float:
        """Return the `excess` of a simulation of so many requests."""
        server = self.server(instances)
        moments = _moments(demand, count, self.seed)
        times = measured_times(self.service, server, moments.size, self.seed, self.slowdown)
        most = target.most_late(moments.size - int(QUEUE_WARM_UP_SHARE * moments.size))
        deadline = math.inf if target.deadline is None else target.deadline
        found = late_requests(moments, times, server, deadline=deadline, most=math.floor(most))
        if found.late <= most:
            return min(0.0, math.log((found.late + 1) / (most + 1)))
        return max(EDGE_NOISE, math.log(found.late / found.requests / (1 - target.share)))

    def _enough(self, demand: Demand, instances: int) -> int:
        """Return the number of requests of a simulation that is not repeated."""
        # Requests that are under way at a time: a simulation of few more would end before any waits.
        staying = self.service.mean(self.max_batch) + self.max_wait
        places = min(instances * self.workers_per_instance * self.max_batch, demand.rate * staying)
        return max(self.requests, math.ceil(min(MIN_ROUNDS * places, MAX_REQUESTS)))

    def _simulated(
        self, demand: Demand, instances: int, count: int, slowdown: float | None = None
    ) -> QueueLoad:
        """Simulate so many requests."""
        return simulate(
            _moments(demand, count, self.seed),
            self.service,
            self.server(instances),
            seed=self.seed,
            slowdown=self.slowdown if slowdown is None else slowdown,
            deadline=_target(demand, self.limit, self.percentile).deadline,
        )


def size_for_limit(
    demand: Demand, asked: Sizing, *, min_instances: int = 1, max_instances: int = MAX_INSTANCES
) -> Needed:
    """Find the fewest instances, of at least `min_instances`, that serve a demand.

    With one instance less, the simulation breaks the condition `Needed.binding`.
    """
    if max_instances < 1:
        raise ValueError(f"max_instances must be at least 1, got {max_instances}")
    target = _target(demand, asked.limit, asked.percentile)
    least = max(asked.least(demand), min_instances)
    if least > max_instances:
        return _too_many(max_instances, "utilisation")
    if (too_slow := _too_slow(asked, target)) is not None:
        return too_slow
    loads: dict[int, QueueLoad] = {}

    def enough(instances: int) -> bool:
        loads[instances] = asked.load(demand, instances)
        return target.met(loads[instances])

    # With a worker for each request, no request waits for a worker.
    unlimited = max(least, math.ceil(asked.requests / asked.workers_per_instance))
    return _search(enough, loads, target, least=least, unlimited=unlimited, most=max_instances)


def _too_slow(asked: Sizing, target: _Target) -> Needed | None:
    """Return the answer if even the fastest calls miss the deadline without any waiting."""
    fastest = asked.slowdown * _fastest(asked.service, asked.max_batch, target.share)
    if target.deadline is None or fastest <= target.deadline:
        return None
    text = f"{_percent(target.share)} of calls take up to {units.seconds(fastest)} without any waiting"
    return target.unreachable(text, "measure a faster machine, or allow more time")


@lru_cache(maxsize=64)
def _fastest(service: ServiceTimes, max_batch: int, share: float) -> float:
    """Return the time that a share of the calls of the fastest batch size stays below."""
    sizes = {1, max_batch, *(size for size in service.batch_sizes if size <= max_batch)}
    return min(service.quantile(size, share) for size in sizes)


def _search(
    enough: Callable[[int], bool],
    loads: Mapping[int, QueueLoad],
    target: _Target,
    *,
    least: int,
    unlimited: int,
    most: int,
) -> Needed:
    """Find the fewest instances from `least` on that are `enough`, which records each load in `loads`."""
    if enough(least):
        return Needed(instances=least, binding="utilisation" if least > 1 else "none", load=loads[least])
    if not enough(unlimited):
        late = _percent(loads[unlimited].missed or 0.0)
        text = f"with any number of instances {late} of requests are late, because batches wait to fill"
        return target.unreachable(text, "let batches wait less, or allow more time")
    binding: Literal["limit", "utilisation"] = "utilisation" if target.deadline is None else "limit"
    # Double the number until it is enough, then halve the range.
    failing, passing, bound = least, least, min(most, unlimited)
    while passing < bound:
        passing = min(2 * passing, bound)
        if enough(passing):
            last = last_that_holds(lambda number: not enough(number), failing, passing, integer_between)
            return Needed(instances=last + 1, binding=binding, load=loads[last + 1])
        failing = passing
    return _too_many(most, binding)


def _target(demand: Demand, limit: float | None, percentile: float) -> _Target:
    if limit is None and demand.period is not None:
        text = f"the period of a stream is {units.seconds(demand.period)}"
        return _Target(1 - MAX_PERIODIC_MISSES, demand.period, text)
    if limit is None or limit == math.inf:
        return _Target(percentile)
    return _Target(percentile, limit, f"the limit is {units.seconds(limit)}")


def _check_utilisation(utilisation: float) -> None:
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation must be greater than 0 and at most 1, got {utilisation}")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _too_many(most: int, binding: Literal["limit", "utilisation"]) -> Needed:
    note = Note(
        code=NoteCode.TOO_MANY_INSTANCES,
        text=f"more than {units.plural(most, 'instance')} would be needed",
        hint="allow more, or serve larger batches on faster machines",
    )
    return Needed(instances=None, binding=binding, reason=note)


def _moments(demand: Demand, count: int, seed: int) -> NDArray[np.float64]:
    """Return arrivals to plan with, in which periodic streams are restarted several times in other phases."""
    import numpy as np

    if demand.period is None:
        return arrivals(demand, count, seed)
    # A single stream never waits for another one, whatever its phase is.
    draws = 1 if demand.streams == 1 else max(1, min(PHASE_DRAWS, count // (MIN_PERIODS * demand.streams)))
    periods = math.ceil(count / (draws * demand.streams))
    # A period of silence in between, because frames of one stream are never closer to each other than that.
    pause = (periods + 1) * demand.period
    size, first = periods * demand.streams, PHASE_DRAWS * seed
    return np.concatenate([arrivals(demand, size, first + draw) + draw * pause for draw in range(draws)])


class Offline(NamedTuple):
    """Machines and time that work off a backlog."""

    machine_hours: float
    instances: int
    """Number of instances that work at the same time to finish before the deadline."""


def offline(
    backlog: Backlog,
    service: ServiceTimes,
    *,
    max_batch: int,
    workers_per_instance: int = 1,
    utilisation: float = 1.0,
) -> Offline:
    """Work off a backlog in full batches, one after the other.

    `utilisation` is the share of the time that workers spend on it. Raises `ValueError` if one batch takes
    longer than the deadline.
    """
    workers = Server(max_batch=max_batch, workers=workers_per_instance).workers
    _check_utilisation(utilisation)
    each = service.mean(max_batch) / utilisation
    # Whole batches only: a batch that ends after the deadline is late as a whole.
    in_time = backlog.deadline / each * (1 + EDGE_NOISE)
    seconds = backlog.items / max_batch * each
    if not (math.isfinite(in_time) and math.isfinite(seconds)):
        raise ValueError(f"a backlog of {backlog.items:g} items is too large to plan")
    if in_time < 1:
        batch, deadline = units.seconds(each), units.seconds(backlog.deadline)
        raise ValueError(f"the deadline must be at least {batch}, one batch of {max_batch}, got {deadline}")
    batches = math.ceil(backlog.items / max_batch)
    return Offline(
        machine_hours=batches * each / workers / 3600,
        instances=-(-batches // (math.floor(in_time) * workers)),
    )

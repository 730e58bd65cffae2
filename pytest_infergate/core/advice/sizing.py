"""The fewest instances that serve a demand within a latency limit, by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from pytest_infergate.core.advice.demand import Backlog, arrivals
from pytest_infergate.core.advice.queueing import Server, simulate
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
"""Number of requests of a simulation."""
# Many workers with large batches would answer 20,000 requests in their first batch, without any waiting.
MIN_ROUNDS: Final = 10
"""Number of full batches that each worker could serve in a simulation."""
MAX_REQUESTS: Final = 1_000_000
"""Number of requests to which `MIN_ROUNDS` may lead."""
MAX_INSTANCES: Final = 1_000_000
"""Default limit of the number of instances."""
# The phases of periodic streams determine which frames wait for which, so one draw of them says little.
PHASE_DRAWS: Final = 20
"""Number of times that periodic streams are restarted in other phases."""
MIN_PERIODS: Final = 50
"""Number of periods between two restarts."""
# Relative error of a division that must not add an instance, or take a batch away.
_NOISE: Final = 1e-9


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
        # So few may be late that the percentile, interpolated as it is, lies within the deadline.
        late = 0.0 if load.missed is None else load.missed * load.requests
        return late <= (1 - self.share) * (load.requests - 1) + _NOISE

    def unreachable(self, text: str, hint: str) -> Needed:
        """Return the answer that no number of instances meets the target."""
        note = Note(code=NoteCode.LIMIT_UNREACHABLE, text=f"{text}: {self.text}", hint=hint)
        return Needed(instances=None, binding="limit", reason=note)


def size_for_limit(  # noqa: PLR0913 - a plan has so many parts
    demand: Demand,
    service: ServiceTimes,
    *,
    limit: float | None,
    percentile: float = 0.95,
    max_batch: int,
    max_wait: float,
    workers_per_instance: int = 1,
    utilisation: float = UTILISATION,
    max_instances: int | None = None,
    requests: int = REQUESTS,
    seed: int = 0,
) -> Needed:
    """Find the fewest instances that serve a demand within a limit, in seconds, and a utilisation.

    Utilisation is the offered load here: demand over the capacity of full batches. A periodic demand without
    a limit must have 99 % of its frames answered before the next frame of their stream; an infinite limit
    requires nothing. With one instance less, the simulation breaks the condition `Needed.binding`. Raises
    `ValueError` for figures out of range, and for larger batches than were measured.
    """
    server = Server(max_batch=max_batch, max_wait=max_wait, workers=workers_per_instance)
    target = _target(demand, limit, percentile)
    most = MAX_INSTANCES if max_instances is None else max_instances
    _check_utilisation(utilisation)
    for name, count in (("requests", requests), ("max_instances", most)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    least = _least_by_load(demand, service, server, utilisation)
    if least > most:
        return _too_many(most, "utilisation")
    if (too_slow := _too_slow(service, target, max_batch)) is not None:
        return too_slow
    places = least * workers_per_instance * max_batch
    moments = _moments(demand, max(requests, min(MIN_ROUNDS * places, MAX_REQUESTS)), seed)
    loads: dict[int, QueueLoad] = {}

    def enough(instances: int) -> bool:
        all_workers = msgspec.structs.replace(server, workers=instances * workers_per_instance)
        loads[instances] = simulate(moments, service, all_workers, seed=seed, deadline=target.deadline)
        return loads[instances].stable and target.met(loads[instances])

    # With a worker for each request, no request waits for a worker.
    unlimited = max(least, math.ceil(moments.size / workers_per_instance))
    return _search(enough, loads, target, least=least, unlimited=unlimited, most=most)


def _too_slow(service: ServiceTimes, target: _Target, max_batch: int) -> Needed | None:
    """Return the answer if even the fastest calls miss the deadline without any waiting."""
    sizes = {1, max_batch, *(size for size in service.batch_sizes if size <= max_batch)}
    fastest = min(service.quantile(size, target.share) for size in sizes)
    if target.deadline is None or fastest <= target.deadline:
        return None
    text = f"{_percent(target.share)} of calls take up to {units.seconds(fastest)} without any waiting"
    return target.unreachable(text, "measure a faster machine, or allow more time")


def _least_by_load(demand: Demand, service: ServiceTimes, server: Server, utilisation: float) -> int:
    """Return the fewest instances whose offered load is at most the utilisation and less than 1."""
    batch = server.max_batch
    busy = demand.rate * (service.mean(batch) / batch) / server.workers / utilisation
    least = max(1, math.ceil(busy * (1 - _NOISE)))
    # Workers that are always busy would never work off a queue.
    return least + 1 if busy * utilisation >= least * (1 - _NOISE) else least


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
    if not 0 < percentile < 1:
        raise ValueError(f"percentile must be a share between 0 and 1, got {percentile}")
    if limit is None and demand.period is not None:
        text = f"the period of a stream is {units.seconds(demand.period)}"
        return _Target(1 - MAX_PERIODIC_MISSES, demand.period, text)
    if limit is None or limit == math.inf:
        return _Target(percentile)
    if not limit > 0:
        raise ValueError(f"limit must be greater than 0 s, got {limit} s")
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
    in_time = backlog.deadline / each * (1 + _NOISE)
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

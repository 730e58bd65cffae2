"""The fewest instances that serve a demand within a latency limit, by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from pytest_infergate.core.advice.demand import Backlog, arrivals
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Demand, QueueLoad
from pytest_infergate.core.domain.model import Note, Struct
from pytest_infergate.core.domain.notes import NoteCode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
from pytest_infergate.core.advice.queueing import Server, simulate
from pytest_infergate.core.advice.service_times import ServiceTimes

UTILISATION: Final = 0.6
"""Share of its capacity that a service is planned to use."""
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
_NOISE: Final = 1e-9
"""Relative error of a division that is not one more instance, or one batch less."""


class Needed(Struct, frozen=True, kw_only=True):
    """Fewest instances that serve a demand."""

    instances: int | None
    """``None`` where no number would do."""
    binding: Literal["limit", "utilisation", "none"]
    """What one instance less would break; ``none`` where there is but one."""
    load: QueueLoad | None = None
    """With so many instances."""
    reason: Note | None = None
    """Why no number would do."""


class _Promise(NamedTuple):
    """A share of requests that must be answered within a time."""

    share: float
    deadline: float | None = None
    """``None``: any time will do."""
    text: str = ""

    def kept(self, load: QueueLoad) -> bool:
        # So few may be late that the percentile, interpolated as it is, lies within the deadline.
        late = 0.0 if load.missed is None else load.missed * load.requests
        return late <= (1 - self.share) * (load.requests - 1) + _NOISE

    def broken(self, text: str, hint: str) -> Needed:
        """Say that no number of instances keeps it."""
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
    loads: dict[int, QueueLoad] = {}

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
        code=NoteCode.TOO_MANY_INSTANCES,
        text=f"more than {units.plural(most, 'instance')} would be needed",
        hint="allow more, or serve larger batches on faster machines",
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

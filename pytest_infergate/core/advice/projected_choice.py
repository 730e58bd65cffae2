"""Decide between measured machines and a projected accelerator, where both ends of the projection agree.

Never decides between two accelerators: a projection cannot rank them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pytest_infergate.core.advice.demand import arrivals
from pytest_infergate.core.advice.projection import SMALLEST_BATCH, ProjectedBatch
from pytest_infergate.core.advice.queueing import Server, simulate
from pytest_infergate.core.advice.service_times import PERCENTILES, ServiceTimes
from pytest_infergate.core.advice.sizing import MAX_INSTANCES, REQUESTS
from pytest_infergate.core.domain.advice_values import Demand, ProjectedDecision
from pytest_infergate.core.domain.values import Struct

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LOADS: Final = (1.0, 0.5, 0.25, 0.1)
"""Shares of the target utilisation at which an accelerator may be planned so that requests wait less."""


class ProjectedChoice(Struct, frozen=True, kw_only=True):
    """For which demands a projected accelerator is ruled out, undecided, or recommended.

    At demands up to `ruled_out_to` even its optimistic end costs more than the measured machines. Above
    `recommended_above` its pessimistic end still costs less. All rates are requests per second.
    """

    ruled_out_to: float | None = 0.0
    """``None``: at every demand that was compared."""
    recommended_above: float | None = None
    """``None``: at no demand that was compared."""

    @property
    def undecided(self) -> tuple[float, float | None] | None:
        """The demands between which only a measurement decides, or ``None``; the upper one may be open."""
        low, high = self.ruled_out_to, self.recommended_above
        return None if low is None or (high is not None and high <= low) else (low, high)

    def at(self, requests_per_s: float) -> ProjectedDecision:
        """Return the decision at a demand. Raises `ValueError` for one that is not greater than 0."""
        if not 0 < requests_per_s < math.inf:
            raise ValueError(f"a demand must be greater than 0 and finite, got {requests_per_s}")
        if self.ruled_out_to is None or requests_per_s <= self.ruled_out_to:
            return "ruled out"
        if self.recommended_above is not None and requests_per_s > self.recommended_above:
            return "recommended"
        return "undecided"


@functools.cache
def waiting_calls(max_batch: int, load: float, share: float) -> float:
    """Return in how many calls of one server a share of requests is answered, its own call included.

    All calls take as long as one with `max_batch` items, which is pessimistic. `load` is the demand over the
    capacity of full batches.
    """
    service = ServiceTimes(batch_sizes=(max_batch,), percentiles=((1.0,) * PERCENTILES,))
    moments = arrivals(Demand(rate=load * max_batch), REQUESTS, seed=0)
    found = simulate(moments, service, Server(max_batch=max_batch), seed=0)
    # Twice the error of the simulation, so that luck recommends nothing.
    return (found.p95 if share <= 0.95 else found.p99) * (1 + 2 * (found.p95_error or 0.0))  # noqa: PLR2004


def served_rates(
    batches: Iterable[ProjectedBatch],
    limit: float | None,
    utilisation: float,
    share: float = 0.95,
    stream: float = 0.0,
) -> tuple[float, float]:
    """Return the requests per second that one accelerator serves at the pessimistic and the optimistic end.

    `limit` is the latency limit in seconds, which a share of the requests must meet. `stream` is the rate of
    one stream: a machine for each is free whenever a frame arrives, so that none waits. At the pessimistic
    end requests wait for a server whose calls are slow, and small batches count as unknown; at the optimistic
    one a request takes one fast call. An end that misses the limit with every batch size serves 0.
    """
    slow = fast = 0.0
    for batch in batches:
        if limit is None or batch.call_time.low <= limit:
            fast = max(fast, utilisation * batch.throughput.high)
        if batch.batch_size < SMALLEST_BATCH:
            continue
        if limit is not None and stream and batch.call_time.high <= min(limit, 1 / stream):
            slow = max(slow, stream)
        for part in LOADS:
            load = part * utilisation
            if load * batch.throughput.low <= slow:
                break
            if limit is None or (
                batch.call_time.high <= limit
                and waiting_calls(batch.batch_size, load, share) * batch.call_time.high <= limit
            ):
                slow = load * batch.throughput.low
    return slow, fast


def choose(
    rates: ArrayLike,
    usd: ArrayLike,
    usd_each: float,
    pessimistic: float,
    optimistic: float,
    *,
    least: int = 1,
) -> ProjectedChoice:
    """Compare the measured machines with whole machines that have a projected accelerator.

    The cheapest measured machines cost `usd[n]` for demands above `rates[n - 1]` and up to `rates[n]`,
    infinity where none serves them. A machine with the accelerator costs `usd_each` and serves `pessimistic`
    to `optimistic` requests per second; at least `least` of them run. Raises `ValueError` for a price that is
    not greater than 0 and finite, and for rates that are negative, infinite or in the wrong order.
    """
    import numpy as np

    if not 0 < usd_each < math.inf:
        raise ValueError(f"a price must be greater than 0 and finite, got {usd_each}")
    if not 0 <= pessimistic <= optimistic < math.inf:
        raise ValueError(
            f"rates must be 0 or more, finite, and pessimistic first, got {pessimistic}, {optimistic}"
        )
    ends = np.asarray(rates, dtype=np.float64)
    begins = np.concatenate([[0.0], ends[:-1]])
    # Rounded, because prices are sums of decimal fractions: three machines of 0.1 cost as much as one of 0.3.
    share = np.minimum(np.round(np.asarray(usd, dtype=np.float64) / usd_each, 9), MAX_INSTANCES)
    affordable, cheaper = np.floor(share), np.ceil(share) - 1
    possible = (affordable >= least) & (affordable * optimistic > begins)
    certain = (cheaper >= least) & (cheaper * pessimistic >= ends)
    # Cost is a staircase, so that a machine may be cheaper at a demand and dearer again at a larger one.
    last = np.flatnonzero(~certain)
    above = 0.0 if not last.size else None if last[-1] == ends.size - 1 else float(ends[last[-1]])
    return ProjectedChoice(
        ruled_out_to=float(begins[possible.argmax()]) if possible.any() else None, recommended_above=above
    )

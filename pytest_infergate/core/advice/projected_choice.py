"""Decide between a measured CPU and a projected accelerator, where both ends of the projection agree.

Never decides between two accelerators: a projection cannot rank them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, Literal

from pytest_infergate.core.advice.projection import ProjectedBatch
from pytest_infergate.core.domain.values import Struct

ProjectedDecision = Literal["recommended", "ruled out", "undecided"]
# A request may arrive just after a call began: it waits for that call and then takes part in its own.
WAITING_CALLS: Final = 2
"""Calls that a request takes at worst in a server that is not overloaded."""
MAX_MACHINES: Final = 10_000
"""Machines of either kind up to which costs are compared; beyond them a decision is not stated."""


class PricedRate(Struct, frozen=True, kw_only=True):
    """What one machine costs, and which demand it serves within the latency limit.

    Raises `ValueError` for a price that is not greater than 0 and finite, or a rate below 0 or infinite.
    """

    usd_per_hour: float
    requests_per_s: float
    """0 if one machine, and therefore no number of machines, meets the limit."""

    def __post_init__(self) -> None:
        if not 0 < self.usd_per_hour < math.inf:
            raise ValueError(f"a price must be greater than 0 and finite, got {self.usd_per_hour}")
        if not 0 <= self.requests_per_s < math.inf:
            raise ValueError(f"a rate must be 0 or more and finite, got {self.requests_per_s}")


class ProjectedChoice(Struct, frozen=True, kw_only=True):
    """For which demands a projected accelerator is ruled out, undecided, or recommended.

    At demands up to `ruled_out_to` even its optimistic end costs more than the measured machine. Above
    `recommended_above` its pessimistic end still costs less. All rates are requests per second.
    """

    ruled_out_to: float | None = 0.0
    """``None``: at every demand."""
    recommended_above: float | None = None
    """``None``: at no demand."""

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


def served_rates(
    batches: Iterable[ProjectedBatch], limit: float | None, utilisation: float
) -> tuple[float, float]:
    """Return the requests per second that one accelerator serves at the pessimistic and the optimistic end.

    `limit` is the latency limit in seconds. At the pessimistic end a request takes `WAITING_CALLS` calls, at
    the optimistic one it takes one. An end that misses the limit with every batch size serves 0.
    """
    room = math.inf if limit is None else limit
    sizes = tuple(batches)
    slow = (b.throughput.low for b in sizes if WAITING_CALLS * b.call_time.high <= room)
    fast = (b.throughput.high for b in sizes if b.call_time.low <= room)
    return utilisation * max(slow, default=0.0), utilisation * max(fast, default=0.0)


def choose(
    measured: PricedRate, usd_per_hour: float, pessimistic: float, optimistic: float
) -> ProjectedChoice:
    """Compare whole machines of a measured CPU and of a projected accelerator at every demand.

    `pessimistic` and `optimistic` are the rates of `served_rates`. Cost is a staircase in the demand, so the
    thresholds are its exact edges. Raises `ValueError` for rates in the wrong order, and like `PricedRate`.
    """
    if not pessimistic <= optimistic:
        raise ValueError(
            f"the pessimistic rate must not exceed the optimistic, got {pessimistic}, {optimistic}"
        )
    slow = PricedRate(usd_per_hour=usd_per_hour, requests_per_s=pessimistic)
    fast = PricedRate(usd_per_hour=usd_per_hour, requests_per_s=optimistic)
    return ProjectedChoice(
        ruled_out_to=dearer_up_to(fast, measured), recommended_above=cheaper_above(slow, measured)
    )


def dearer_up_to(machine: PricedRate, other: PricedRate) -> float | None:
    """Return the demand up to which machines cost more than others; ``None`` if they always do."""
    if not machine.requests_per_s:
        return None
    if not other.requests_per_s:
        return 0.0
    for count in range(1, MAX_MACHINES + 1):
        # Beyond this demand the others cost as much as this number of machines, which serve up to the end.
        others = math.ceil(round(count * machine.usd_per_hour / other.usd_per_hour, 9))
        begin = max((others - 1) * other.requests_per_s, (count - 1) * machine.requests_per_s)
        if begin < count * machine.requests_per_s:
            return begin
    # Of more machines, the steps are smaller than the difference in cost, or the costs are too close to say.
    compared = MAX_MACHINES * machine.requests_per_s
    closest = machine.usd_per_hour / other.usd_per_hour * other.requests_per_s - machine.requests_per_s
    return None if MAX_MACHINES * closest > other.requests_per_s else compared


def cheaper_above(machine: PricedRate, other: PricedRate) -> float | None:
    """Return the demand beyond which machines always cost less than others; ``None`` if they never do."""
    if not machine.requests_per_s:
        return None
    if not other.requests_per_s:
        return 0.0
    ratio = machine.usd_per_hour / machine.requests_per_s / (other.usd_per_hour / other.requests_per_s)
    # Beyond this number of machines, a step is too small to make up for the difference in cost.
    last = math.ceil(1 / (1 - ratio)) if ratio < 1 else math.inf
    if last > MAX_MACHINES:
        return None
    found = 0.0
    for count in range(1, int(last) + 1):
        others = math.floor(round(count * machine.usd_per_hour / other.usd_per_hour, 9))
        end = min(count * machine.requests_per_s, others * other.requests_per_s)
        if end > (count - 1) * machine.requests_per_s:
            found = end
    return found

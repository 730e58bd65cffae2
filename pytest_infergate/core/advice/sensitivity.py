"""How the best plan changes with demand, prices and service times."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from pytest_infergate.core.advice.planning import TIE, Question, at_demand, server_of
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.advice.staircase import (
    Staircase,
    largest_rate,
    merged_steps,
    rates_between,
    utilised_rate,
)
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import (
    CostPoint,
    Crossing,
    Demand,
    Plan,
    PriceRange,
    Sensitivity,
)
from pytest_infergate.core.domain.bisection import last_near

COST_DECADES: Final = 2.0
"""Decades around the demand, up and down, for which costs are computed."""
COST_STEPS: Final = 32
"""Number of demands over these decades."""
PRICE_STEP: Final = 0.2
"""Relative increase of the price of the winner for the sensitivity to prices."""


def demands_around(demand: Demand) -> list[float]:
    """Return rates around a demand, evenly spaced on a logarithmic scale; its own rate is one of them."""
    # An odd number of rates with the demand itself in the middle.
    half = COST_STEPS // 2
    return [demand.rate * 10 ** (COST_DECADES * step / half) for step in range(-half, half + 1)]


def cost_point(rate: float, candidates: Sequence[Staircase], question: Question) -> CostPoint:
    """Return the cost of serving a rate on each deployment."""
    demand = at_demand(question, rate).demand
    return CostPoint(
        rate=demand.rate,
        usd_per_month=tuple(stairs.usd_per_month(stairs.needed(demand.rate)) for stairs in candidates),
    )


def cheapest(costs: Sequence[float | None], favourites: Sequence[int | None]) -> int | None:
    """Return the index of the cheapest deployment, or of the first favourite that ties with it."""
    priced = {index: usd for index, usd in enumerate(costs) if usd is not None}
    if not priced:
        return None
    best = min(priced, key=priced.__getitem__)
    bound = priced[best] * (1 + TIE)
    # Without favourites, two deployments of equal cost would cross at every demand.
    tied = (index for index in favourites if index in priced and priced[index] <= bound)
    return next(tied, best)


def crossings(candidates: Sequence[Staircase], winner: Plan, highest: float) -> Iterator[Crossing]:
    """Yield the demands, up to the highest, at which another deployment becomes the cheapest.

    Costs change where a deployment needs one more machine, and nowhere else.
    """
    texts = [stairs.priced.text for stairs in candidates]
    own = texts.index(winner.deployment)
    before: int | None = None
    for low, _, costs in merged_steps(candidates, highest):
        leader = cheapest(costs, [own, before])
        if leader is None:
            return
        if before is not None and leader != before:
            yield Crossing(rate=low, below=texts[before], above=texts[leader])
        before = leader


def headroom(winner: Plan, candidates: Sequence[PricedDeployment], question: Question) -> float:
    """Return the largest demand that the machines of the best plan serve with its server."""
    priced = next(priced for priced in candidates if priced.text == winner.deployment)
    server = server_of(priced, question, winner.max_batch, winner.max_wait)
    low = question.demand.rate
    high = utilised_rate(server.rate_at(winner.instances), question)
    if high <= low:
        return low
    steps, rate_of = rates_between(question, low, high)
    near = largest_rate(server, winner.instances, question, low)

    def serves(step: int) -> bool:
        return server.serves(at_demand(question, rate_of(step)).demand, winner.instances)

    # The end of a step is near; what the plan serves is decided as the plan itself was.
    found = last_near(serves, bisect_right(range(steps), near, key=rate_of) - 1, 0, steps + 1)
    return rate_of(found)


def sensitivities(winner: Plan, candidates: Sequence[Staircase], question: Question) -> Iterator[Sensitivity]:
    """Yield the best deployment if the winner becomes more expensive, and if it becomes slower."""
    if len(candidates) < 2:  # noqa: PLR2004 - no other deployment could win
        return
    texts = [stairs.priced.text for stairs in candidates]
    own = texts.index(winner.deployment)
    slowdown = units.percent(
        math.expm1(candidates[own].priced.deployment.launch_band), signed=False, decimals=0
    )
    factors = [1 + PRICE_STEP if stairs.priced.name == winner.instance else 1.0 for stairs in candidates]
    now = cost_point(question.demand.rate, candidates, question).usd_per_month
    # The worst case within the spread between launches: the winner is slower and all others are faster.
    scaled = [
        Staircase(_scaled_times(stairs.priced, slower=text == winner.deployment), question)
        for text, stairs in zip(texts, candidates, strict=True)
    ]
    for assumption, costs in (
        (
            f"its price {units.percent(PRICE_STEP, decimals=0)}",
            [None if usd is None else usd * factor for usd, factor in zip(now, factors, strict=True)],
        ),
        (
            f"calls {slowdown} slower, as in another launch, and all others faster",
            [stairs.usd_per_month(stairs.needed_once()) for stairs in scaled],
        ),
    ):
        leader = cheapest(costs, [own])
        yield Sensitivity(assumption=assumption, winner=None if leader is None else texts[leader])


def price_range(plans: Sequence[Plan], candidates: Sequence[PricedDeployment]) -> PriceRange | None:
    """Return what costs least at both ends of a price that is assumed from a wide range.

    `plans` are the best plan of each deployment. ``None`` without such a price, or without another machine.
    """
    unsure = next((each for each in candidates if each.price_ends is not None), None)
    if unsure is None or unsure.price_ends is None or len({plan.instance for plan in plans}) < 2:  # noqa: PLR2004
        return None
    cheapest_at = []
    for end in unsure.price_ends:
        costs = [
            plan.instances * (end if plan.instance == unsure.name else plan.usd_per_hour) for plan in plans
        ]
        cheapest_at.append(plans[costs.index(min(costs))].deployment)
    low, high = unsure.price_ends
    return PriceRange(
        machine=unsure.name,
        low=low,
        high=high,
        cheapest_at_low=cheapest_at[0],
        cheapest_at_high=cheapest_at[1],
    )


def _scaled_times(priced: PricedDeployment, *, slower: bool) -> PricedDeployment:
    """Return a deployment whose calls are slower, or faster, by the spread between launches."""
    deployment = priced.deployment
    factor = math.exp(deployment.launch_band if slower else -deployment.launch_band)
    # They are as slow, or as fast, as a launch makes them: no further slowdown is allowed for.
    changed = msgspec.structs.replace(
        deployment, service=deployment.service.scaled(factor), launch_band=0.0, sampled=()
    )
    return msgspec.structs.replace(priced, deployment=changed)

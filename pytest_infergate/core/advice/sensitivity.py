"""How the best plan changes with demand, prices and service times."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from pytest_infergate.core.advice.planning import (
    TIE,
    Question,
    at_demand,
    best_plan,
    rank,
    served_plan,
    servers,
)
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import CostPoint, Crossing, Demand, Plan, Sensitivity
from pytest_infergate.core.domain.bisection import last_that_holds

COST_DECADES: Final = 2.0
"""Decades around the demand, up and down, for which costs are computed."""
COST_STEPS: Final = 32
"""Number of demands over these decades."""
# A demand is rarely known better than this, and each halving costs a simulation of every deployment.
CROSSING_PRECISION: Final = 1.02
"""Ratio of two demands between which a crossing is located exactly enough."""
PRICE_STEP: Final = 0.2
"""Relative increase of the price of the winner for the sensitivity to prices."""


def demands_around(demand: Demand) -> list[float]:
    """Return rates around a demand, evenly spaced on a logarithmic scale; its own rate is one of them."""
    # An odd number of rates with the demand itself in the middle.
    half = COST_STEPS // 2
    return [demand.rate * 10 ** (COST_DECADES * step / half) for step in range(-half, half + 1)]


def cost_point(rate: float, candidates: Sequence[PricedDeployment], question: Question) -> CostPoint:
    """Return the cost of serving a rate on each deployment."""
    changed = at_demand(question, rate)
    return CostPoint(
        rate=changed.demand.rate, usd_per_month=tuple(_lowest_cost(priced, changed) for priced in candidates)
    )


def _lowest_cost(priced: PricedDeployment, question: Question) -> float | None:
    """Return the cost of `best_plan` without looking for the fastest plan of that cost."""
    cheapest: Plan | None = None
    # Large batches tend to need the fewest instances, and leave less to simulate for the others.
    for max_batch, max_wait in reversed(list(servers(priced.deployment, question))):
        if cheapest is not None and cheapest.instances <= question.min_instances:
            break
        # Only a plan with fewer instances would be cheaper, because all run on the same machine.
        fewer = None if cheapest is None else cheapest.instances - 1
        cheapest = served_plan(priced, question, max_batch, max_wait, max_instances=fewer) or cheapest
    return None if cheapest is None else cheapest.usd_per_month


def _cheapest(point: CostPoint, favourites: Sequence[int | None]) -> int | None:
    """Return the index of the cheapest deployment, or of the first favourite that ties with it."""
    priced = {index: usd for index, usd in enumerate(point.usd_per_month) if usd is not None}
    if not priced:
        return None
    cheapest = min(priced, key=priced.__getitem__)
    bound = priced[cheapest] * (1 + TIE)
    # Without favourites, two deployments of equal cost would cross at every demand.
    tied = (index for index in favourites if index in priced and priced[index] <= bound)
    return next(tied, cheapest)


def crossings(
    costs: Sequence[CostPoint], candidates: Sequence[PricedDeployment], question: Question, winner: Plan
) -> Iterator[Crossing]:
    """Yield the demands at which another deployment becomes the cheapest."""
    own = next(index for index, priced in enumerate(candidates) if priced.text == winner.deployment)
    before = _cheapest(costs[0], [own])
    for low, high in pairwise(costs):
        after = _cheapest(high, [own, before])
        if before is not None and after is not None and after != before:

            def stays(rate: float, leader: int = before) -> bool:
                return _cheapest(cost_point(rate, candidates, question), [own, leader]) == leader

            rate = last_that_holds(stays, low.rate, high.rate, _demand_between(question))
            yield Crossing(rate=rate, below=candidates[before].text, above=candidates[after].text)
        before = after


def headroom(
    winner: Plan, costs: Sequence[CostPoint], candidates: Sequence[PricedDeployment], question: Question
) -> float | None:
    """Return the largest demand that the deployment of the best plan serves at the same cost."""
    index, priced = next(pair for pair in enumerate(candidates) if pair[1].text == winner.deployment)

    def affordable(usd: float | None) -> bool:
        return usd is not None and usd <= winner.usd_per_month * (1 + TIE)

    def serves(rate: float) -> bool:
        return affordable(_lowest_cost(priced, at_demand(question, rate)))

    low = question.demand.rate
    for point in costs:
        if point.rate <= question.demand.rate:
            continue
        if not affordable(point.usd_per_month[index]):
            return last_that_holds(serves, low, point.rate, _demand_between(question))
        low = point.rate
    return None


def _demand_between(question: Question) -> Callable[[float, float], float | None]:
    """Return a function that halves the range between two rates until it is narrow enough."""

    def middle(low: float, high: float) -> float | None:
        if high / low <= CROSSING_PRECISION:
            return None
        rate = at_demand(question, math.sqrt(low * high)).demand.rate
        return rate if low < rate < high else None  # there may be no whole number of streams in between

    return middle


def sensitivities(
    winner: Plan, candidates: Sequence[PricedDeployment], question: Question
) -> Iterator[Sensitivity]:
    """Yield the best deployment if the winner becomes more expensive, and if it becomes slower."""
    if len(candidates) < 2:  # noqa: PLR2004 - no other deployment could win
        return
    own = next(priced for priced in candidates if priced.text == winner.deployment)
    slowdown = units.percent(math.expm1(own.deployment.launch_band), signed=False, decimals=0)
    expensive = [
        msgspec.structs.replace(
            priced,
            instance=msgspec.structs.replace(
                priced.instance, usd_per_hour=priced.instance.usd_per_hour * (1 + PRICE_STEP)
            ),
        )
        if priced.name == winner.instance
        else priced
        for priced in candidates
    ]
    # The worst case within the spread between launches: the winner is slower and all others are faster.
    slower = [_scaled_times(priced, slower=priced.text == own.text) for priced in candidates]
    for assumption, changed in (
        (f"its price {units.percent(PRICE_STEP, decimals=0)}", expensive),
        (f"calls {slowdown} slower, as in another launch, and all others faster", slower),
    ):
        plans = sorted(filter(None, (best_plan(priced, question) for priced in changed)), key=rank)
        yield Sensitivity(assumption=assumption, winner=plans[0].deployment if plans else None)


def _scaled_times(priced: PricedDeployment, *, slower: bool) -> PricedDeployment:
    """Return a deployment whose calls are slower, or faster, by the spread between launches."""
    deployment = priced.deployment
    factor = math.exp(deployment.launch_band if slower else -deployment.launch_band)
    service = msgspec.structs.replace(
        deployment.service,
        percentiles=tuple(tuple(factor * time for time in times) for times in deployment.service.percentiles),
        means=tuple(factor * mean for mean in deployment.service.means),
    )
    return msgspec.structs.replace(priced, deployment=msgspec.structs.replace(deployment, service=service))

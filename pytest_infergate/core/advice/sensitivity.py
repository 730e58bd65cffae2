"""How the best plan changes with demand, prices and service times."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from pytest_infergate.core.advice.deployments import PricedDeployment
from pytest_infergate.core.advice.planning import (
    TIE,
    Question,
    at_demand,
    best,
    rank,
    served_plan,
    servers,
)
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import CostPoint, Crossing, Demand, Plan, Sensitivity

DECADES: Final = 2.0
"""How far from the demand, up and down, the cost is followed."""
STEPS: Final = 32
"""Demands on that way."""
CLOSE: Final = 1.02
"""Ratio of two demands between which a crossing is told exactly enough."""
PRICE_STEP: Final = 0.2
"""By how much prices are moved to see whether the winner stays."""


def demands_around(demand: Demand) -> list[float]:
    """Demands around the one asked for, evenly on a logarithmic scale; it is among them."""
    half = STEPS // 2
    return [demand.rate * 10 ** (DECADES * step / half) for step in range(-half, half + 1)]


def cost_point(rate: float, found: Sequence[PricedDeployment], question: Question) -> CostPoint:
    asked = at_demand(question, rate)
    return CostPoint(
        rate=asked.demand.rate, usd_per_month=tuple(_least_cost(priced, asked) for priced in found)
    )


def _least_cost(priced: PricedDeployment, question: Question) -> float | None:
    """What `best` costs, without looking for the fastest plan of that cost."""
    least: Plan | None = None
    for max_batch, max_wait in reversed(list(servers(priced.deployment, question))):
        if least is not None and least.instances <= question.least:
            break
        most = None if least is None else least.instances - 1
        least = served_plan(priced, question, max_batch, max_wait, most=most) or least
    return None if least is None else least.usd_per_month


def _cheapest(point: CostPoint, favourites: Sequence[int | None]) -> int | None:
    """Which offer costs least; the first favourite that ties with it takes its place."""
    priced = {index: usd for index, usd in enumerate(point.usd_per_month) if usd is not None}
    if not priced:
        return None
    least = min(priced, key=priced.__getitem__)
    tied = (index for index in favourites if index in priced and priced[index] <= priced[least] * (1 + TIE))
    return next(tied, least)


def crossings(
    costs: Sequence[CostPoint], found: Sequence[PricedDeployment], question: Question, winner: Plan
) -> Iterator[Crossing]:
    """Where another offer costs less than the best plan's, and where others change places."""
    best_one = next(index for index, priced in enumerate(found) if priced.text == winner.deployment)
    before = _cheapest(costs[0], [best_one])
    for low, high in pairwise(costs):
        after = _cheapest(high, [best_one, before])
        if before is not None and after is not None and after != before:

            def stays(rate: float, leader: int = before) -> bool:
                return _cheapest(cost_point(rate, found, question), [best_one, leader]) == leader

            rate = _narrowed(low.rate, high.rate, stays, question)
            yield Crossing(rate=rate, below=found[before].text, above=found[after].text)
        before = after


def headroom(
    winner: Plan, costs: Sequence[CostPoint], found: Sequence[PricedDeployment], question: Question
) -> float | None:
    """The largest demand that the offer of the best plan serves for the same money."""
    index, priced = next(pair for pair in enumerate(found) if pair[1].text == winner.deployment)

    def served(usd: float | None) -> bool:
        return usd is not None and usd <= winner.usd_per_month * (1 + TIE)

    above = [point for point in costs if point.rate > question.demand.rate]
    low = question.demand.rate
    for point in above:
        if not served(point.usd_per_month[index]):
            return _narrowed(
                low, point.rate, lambda rate: served(_least_cost(priced, at_demand(question, rate))), question
            )
        low = point.rate
    return None


def _narrowed(low: float, high: float, holds: Callable[[float], bool], question: Question) -> float:
    """Halve the way from a demand at which something holds to one at which it does not."""
    while high / low > CLOSE:
        middle = at_demand(question, math.sqrt(low * high)).demand.rate
        if not low < middle < high:
            break  # whole streams leave nothing between
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def sensitivities(
    winner: Plan, found: Sequence[PricedDeployment], question: Question
) -> Iterator[Sensitivity]:
    """Who wins when the winner gets dearer or slower and the others do not, by the worse of both."""
    if len(found) < 2:  # noqa: PLR2004 - no other deployment could win
        return
    dearer = f"its price {units.percent(PRICE_STEP, decimals=0)}"
    slower = f"calls {_uncertain(winner, found)} slower, as in another launch, and all others faster"
    for words, moved in (
        (dearer, [_dearer(priced, own=priced.name == winner.instance) for priced in found]),
        (slower, [_slower(priced, own=priced.text == winner.deployment) for priced in found]),
    ):
        plans = sorted(filter(None, (best(priced, question) for priced in moved)), key=rank)
        yield Sensitivity(assumption=words, winner=plans[0].deployment if plans else None)


def _uncertain(winner: Plan, found: Sequence[PricedDeployment]) -> str:
    """By how much calls of the winner may differ in another launch."""
    deployment = next(priced.deployment for priced in found if priced.text == winner.deployment)
    return units.percent(math.expm1(deployment.uncertain), signed=False, decimals=0)


def _dearer(priced: PricedDeployment, *, own: bool) -> PricedDeployment:
    if not own:
        return priced
    dearer = msgspec.structs.replace(
        priced.instance, usd_per_hour=priced.instance.usd_per_hour * (1 + PRICE_STEP)
    )
    return msgspec.structs.replace(priced, instance=dearer)


def _slower(priced: PricedDeployment, *, own: bool) -> PricedDeployment:
    factor = math.exp(priced.deployment.uncertain if own else -priced.deployment.uncertain)
    service = priced.deployment.service
    scaled = msgspec.structs.replace(
        service,
        percentiles=tuple(tuple(factor * time for time in times) for times in service.percentiles),
        means=tuple(factor * mean for mean in service.means),
    )
    return msgspec.structs.replace(
        priced, deployment=msgspec.structs.replace(priced.deployment, service=scaled)
    )

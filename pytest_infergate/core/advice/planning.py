"""Deployment plans: one deployment with a server configuration and an instance count, simulated and priced.

Every plan is simulated as a queue, because throughput alone ignores the time that requests wait for each
other and for a batch to fill.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import msgspec

from pytest_infergate.core.advice import sizing
from pytest_infergate.core.advice.deployments import Deployment, PricedDeployment
from pytest_infergate.core.domain import energy, instance_types
from pytest_infergate.core.domain.advice_values import SCALE_UP, Demand, Electricity, Plan, QueueLoad
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.model import Struct

WAITS: Final = (0.0, 0.1, 0.25)
"""Shares of the limit for which a server may wait for its batch to fill."""
REQUESTS: Final = 5_000
"""Requests of one simulation."""
TIE: Final = 0.01
"""Plans whose cost differs by less than this are worth the same, and the faster one wins."""


class Question(Struct, frozen=True, kw_only=True):
    """What is asked for."""

    demand: Demand
    limit: float | None = None
    """Seconds that 95 % of requests may take, waiting included."""
    utilisation: float = instance_types.UTILISATION
    """Share of its capacity that a machine may use."""
    least: int = 1
    """Instances that run whatever the demand is."""
    day: tuple[float, ...] = ()
    """Demand of each hour of a day as a share of `demand`, which is the peak; empty where nobody said."""
    scale_up: float = SCALE_UP
    """Seconds from the order of a machine until it serves."""
    grid: str = "world"
    """Whose electricity it is, a name of `energy.GRID`."""

    @property
    def mean_share(self) -> float:
        """Share of the peak that is asked for on average."""
        return sum(self.day) / len(self.day) if self.day else 1.0


def rank(plan: Plan) -> tuple[float, float, int]:
    return plan.usd_per_month, plan.load.p95, plan.max_batch


def ties_by_speed(plans: list[Plan]) -> list[Plan]:
    """Among plans that cost the same as the cheapest, put the fastest first."""
    if not plans:
        return plans
    bound = plans[0].usd_per_month * (1 + TIE)
    tied = [plan for plan in plans if plan.usd_per_month <= bound]
    return sorted(tied, key=lambda plan: plan.load.p95) + plans[len(tied) :]


def best(priced: PricedDeployment, question: Question) -> Plan | None:
    """The cheapest plan of an offer that meets the limit, the fastest where several cost the same."""
    found: Plan | None = None
    for max_batch, max_wait in servers(priced.deployment, question):
        most = None if found is None else found.instances
        plan = served_plan(priced, question, max_batch, max_wait, most=most)
        if plan is not None and (found is None or rank(plan) < rank(found)):
            found = plan
    return found


def plans_of(priced: PricedDeployment, question: Question) -> Iterator[Plan]:
    """Every plan of an offer that meets the limit, each with as few instances as it takes."""
    for max_batch, max_wait in servers(priced.deployment, question):
        plan = served_plan(priced, question, max_batch, max_wait)
        if plan is not None:
            yield plan


def served_plan(
    priced: PricedDeployment, question: Question, max_batch: int, max_wait: float, most: int | None = None
) -> Plan | None:
    """The plan of an offer with such a server; ``None`` where `most` instances do not meet the limit."""
    needed = sizing.size_for_limit(
        question.demand,
        priced.deployment.service,
        limit=question.limit,
        max_batch=max_batch,
        max_wait=max_wait,
        workers_per_instance=priced.deployment.workers,
        utilisation=question.utilisation,
        most=most,
        requests=REQUESTS,
    )
    if needed.instances is None or needed.load is None:
        return None
    return _plan(priced, question, (max_batch, max_wait), needed.instances, needed.load)


def servers(deployment: Deployment, question: Question) -> Iterator[tuple[int, float]]:
    """Largest batches and waits that are worth a try."""
    for size in deployment.service.batch_sizes:
        for share in WAITS if size > 1 and question.limit is not None else (0.0,):
            yield size, share * (question.limit or 0.0)


def _plan(
    priced: PricedDeployment, question: Question, server: tuple[int, float], needed: int, load: QueueLoad
) -> Plan:
    """`server` is its largest batch and the time that it waits for one to fill."""
    instances = max(needed, question.least)
    deployment, instance = priced.deployment, priced.instance
    month = instance_types.usd_per_month(instance.price, instances)
    return Plan(
        deployment=priced.text,
        instance=priced.name,
        price=price_text(instance),
        usd_per_hour=instance.price,
        user_specified=priced.user_specified,
        device=deployment.device,
        runtime=deployment.runtime,
        dtype=deployment.dtype,
        threads=deployment.threads,
        workers=deployment.workers,
        hardware=deployment.hardware.id,
        max_batch=server[0],
        max_wait=server[1],
        instances=instances,
        usd_per_month=month,
        usd_per_month_with_spare=instance_types.usd_per_month(
            instance.price, max(needed + 1, question.least)
        ),
        usd_per_million=month / _items_per_month(question) * 1e6,
        load=load,
        electricity=_electricity(deployment, load, question.demand.rate, instances, question.grid),
        cold_start=dict(deployment.cold_starts).get(server[0]),
        weights_bytes=deployment.weights_bytes,
    )


def _electricity(
    deployment: Deployment, load: QueueLoad, rate: float, instances: int, grid: str
) -> Electricity | None:
    """Energy by the batch size that is nearest to the mean one; as busy as the simulation was."""
    if not deployment.energies:
        return None
    _, taken = min(deployment.energies, key=lambda pair: abs(pair[0] - load.mean_batch))
    each = rate / instances
    busy = min(1.0, load.utilisation)
    joules = energy.joules_per_item_at(taken, each, each / busy) if busy > 0 else None
    if joules is None or not 0 < joules < math.inf:
        return None
    month = joules * rate * energy.MONTH_SECONDS
    emitted = energy.co2e(month, grid)
    return Electricity(
        joules_per_item=joules,
        kwh_per_month=month / energy.JOULES_PER_KWH,
        grams_co2e_per_month=emitted.grams,
        basis=emitted.basis,
        source=taken.source,
        scope=taken.scope,
    )


def _items_per_month(question: Question) -> float:
    return question.demand.rate * question.mean_share * energy.MONTH_SECONDS


def price_text(instance: Instance) -> str:
    return instance.text if instance.as_of or instance.region else "own hardware"


def at_demand(question: Question, rate: float) -> Question:
    """The same question at another demand; whole streams where they are periodic."""
    demand = question.demand
    if demand.pattern == "periodic":
        each = demand.rate / demand.streams
        streams = max(1, round(rate / each))
        demand = msgspec.structs.replace(demand, streams=streams, rate=streams * each)
    else:
        demand = msgspec.structs.replace(demand, rate=rate)
    return msgspec.structs.replace(question, demand=demand)

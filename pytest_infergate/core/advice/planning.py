"""Deployment plans: one deployment with a server configuration and an instance count, simulated and priced.

Every plan is simulated as a queue, because throughput alone ignores the time that requests wait for each
other and for a batch to fill.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from pytest_infergate.core.advice import sizing
from pytest_infergate.core.advice.deployments import Deployment
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.domain import energy, instance_types
from pytest_infergate.core.domain.advice_values import SCALE_UP, Demand, Electricity, Plan, QueueLoad
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.values import Struct

WAITS: Final = (0.0, 0.1, 0.25)
"""Times that a server may wait for its batch to fill, as shares of the limit."""
# Fewer than for a single question: an advice simulates hundreds of servers and demands.
PLAN_REQUESTS: Final = 5_000
"""Number of requests of one simulation."""
TIE: Final = 0.01
"""Relative difference of costs up to which two plans cost the same, and the faster one wins."""
# Another launch of the same process differs by as much.
P95_TIE: Final = 0.05
"""Relative difference of p95 up to which two servers answer as fast, and the one with larger batches wins."""


class Question(Struct, frozen=True, kw_only=True):
    """A demand and the conditions that a deployment must meet."""

    demand: Demand
    limit: float | None = None
    """Seconds within which 95 % of requests must be answered, waiting included."""
    utilisation: float = instance_types.UTILISATION
    """Share of its capacity that a machine may use."""
    min_instances: int = 1
    """Number of instances that always run, whatever the demand is."""
    day: tuple[float, ...] = ()
    """Demand of each hour of a day as a share of `demand`, which is the peak; empty if it is unknown."""
    scale_up: float = SCALE_UP
    """Seconds from the order of a machine until it serves."""
    grid: str = "world"
    """Grid of the electricity, a name of `energy.GRID`."""

    @property
    def mean_share(self) -> float:
        """Mean demand as a share of the peak."""
        return sum(self.day) / len(self.day) if self.day else 1.0


def rank(plan: Plan) -> tuple[float, float, int]:
    """Return the sort key of plans: the cheapest first, then the fastest, then the smallest batch."""
    return plan.usd_per_month, plan.load.p95, plan.max_batch


def fastest_first(plans: list[Plan]) -> list[Plan]:
    """Sort the plans that cost the same as the first one by speed; the others keep their places."""
    if not plans:
        return plans
    # A difference of one per cent of the cost is worth less than faster answers.
    bound = plans[0].usd_per_month * (1 + TIE)
    tied = [plan for plan in plans if plan.usd_per_month <= bound]
    return sorted(tied, key=lambda plan: plan.load.p95) + plans[len(tied) :]


def best_of(plans: Iterable[Plan]) -> Plan | None:
    """Return the best of the plans of one deployment; ``None`` without any."""
    ranked = sorted(plans, key=rank)
    if not ranked:
        return None
    # Of servers that answer as fast, the one with the largest batches serves more if demand grows.
    month, p95, _ = rank(ranked[0])
    tied = [plan for plan in ranked if plan.usd_per_month <= month and plan.load.p95 <= p95 * (1 + P95_TIE)]
    return max(tied, key=lambda plan: (plan.max_batch, -plan.load.p95))


def best_plan(priced: PricedDeployment, question: Question) -> Plan | None:
    """Return the best plan of a deployment that meets the limit; ``None`` if none meets it."""
    return best_of(plans_of(priced, question, cheapest=True))


def plans_of(priced: PricedDeployment, question: Question, *, cheapest: bool = False) -> Iterator[Plan]:
    """Yield the plans of a deployment that meet the limit, each with the fewest instances that do.

    With `cheapest`, plans that need more instances than one before are left out.
    """
    most: int | None = None
    for max_batch in priced.deployment.service.batch_sizes:
        for max_wait in waits(max_batch, question):
            plan = served_plan(priced, question, max_batch, max_wait, max_instances=most)
            if plan is None:
                continue
            yield plan
            most = plan.instances if cheapest else None
            # Requests wait for a batch to fill in order to need fewer instances.
            if plan.instances <= max(
                server_of(priced, question, max_batch, max_wait).least(question.demand),
                question.min_instances,
            ):
                break


def waits(max_batch: int, question: Question) -> tuple[float, ...]:
    """Return the times that are worth a simulation for which requests wait for a batch to fill."""
    # A batch of one never waits to fill, and without a limit there is no time to take a share of.
    if max_batch == 1 or question.limit is None:
        return (0.0,)
    return tuple(share * question.limit for share in WAITS)


def server_of(priced: PricedDeployment, question: Question, max_batch: int, max_wait: float) -> sizing.Sizing:
    """Return a server of a deployment, to be asked how many instances of it serve a demand."""
    return sizing.Sizing(
        service=priced.deployment.service,
        limit=question.limit,
        slowdown=priced.deployment.slowdown,
        max_batch=max_batch,
        max_wait=max_wait,
        workers_per_instance=priced.deployment.workers,
        utilisation=question.utilisation,
        requests=PLAN_REQUESTS,
    )


def served_plan(
    priced: PricedDeployment,
    question: Question,
    max_batch: int,
    max_wait: float,
    max_instances: int | None = None,
) -> Plan | None:
    """Return the plan with such a server; ``None`` if `max_instances` do not meet the limit."""
    asked = server_of(priced, question, max_batch, max_wait)
    most = sizing.MAX_INSTANCES if max_instances is None else max_instances
    needed = shown = sizing.size_for_limit(question.demand, asked, max_instances=most)
    least = question.min_instances
    if needed.instances is not None and needed.instances < least:
        # More machines than needed answer faster, and take more energy.
        shown = sizing.size_for_limit(
            question.demand, asked, min_instances=least, max_instances=max(least, most)
        )
    if needed.instances is None or shown.instances is None or shown.load is None:
        return None
    spare = max(needed.instances + 1, shown.instances)
    # Without a slowdown, both loads are the same simulation.
    load = shown.load if asked.slowdown == 1 else asked.load(question.demand, shown.instances, slowdown=1.0)
    return _plan(priced, question, (max_batch, max_wait), (shown.instances, spare), (load, shown.load))


def _plan(
    priced: PricedDeployment,
    question: Question,
    server: tuple[int, float],
    counts: tuple[int, int],
    loads: tuple[QueueLoad, QueueLoad],
) -> Plan:
    """Return a plan with its costs.

    `server` is the largest batch and the time that it waits to fill. `counts` are the instances without and
    with a spare one, which may fail without breaking the limit. `loads` are as measured, and slow.
    """
    deployment, instance = priced.deployment, priced.instance
    (max_batch, max_wait), (instances, with_spare) = server, counts
    month = instance_types.usd_per_month(instance.price, instances)
    rate = question.demand.rate
    return Plan(
        deployment=priced.text,
        instance=priced.name,
        price=price_source(instance),
        usd_per_hour=instance.price,
        user_specified=priced.user_specified,
        assumed=priced.assumed,
        unverified=instance.unverified,
        device=deployment.device,
        runtime=deployment.runtime,
        dtype=deployment.dtype,
        threads=deployment.threads,
        workers=deployment.workers,
        hardware=deployment.hardware.id,
        max_batch=max_batch,
        max_wait=max_wait,
        instances=instances,
        usd_per_month=month,
        usd_per_month_with_spare=instance_types.usd_per_month(instance.price, with_spare),
        usd_per_million=month / (rate * question.mean_share * energy.MONTH_SECONDS) * 1e6,
        load=loads[0],
        slow_load=loads[1],
        slowdown=deployment.slowdown,
        sampled=deployment.sampled_up_to(max_batch),
        electricity=_electricity(deployment, loads[0], rate, instances, question.grid),
        # A later case of the same process, with a larger batch, finds it warm.
        cold_start=min(deployment.cold_starts)[1] if deployment.cold_starts else None,
        weights_bytes=deployment.weights_bytes,
    )


def _electricity(
    deployment: Deployment, load: QueueLoad, rate: float, instances: int, grid: str
) -> Electricity | None:
    """Return the energy of a plan, by the measured batch size nearest to the mean batch of the simulation."""
    if not deployment.energies:
        return None
    # The energy of a batch was measured at some sizes only.
    _, taken = min(deployment.energies, key=lambda pair: abs(pair[0] - load.mean_batch))
    each = rate / instances
    busy = min(1.0, load.utilisation)
    # The throughput at which the instances would be as busy as in the simulation.
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


def price_source(instance: Instance) -> str:
    """Return the source of the price of an instance."""
    return instance.text if instance.as_of or instance.unverified else "own hardware"


def at_demand(question: Question, rate: float) -> Question:
    """Return the question with another demand, rounded to whole streams if it is periodic."""
    demand = question.demand
    if demand.pattern == "periodic":
        each = demand.rate / demand.streams
        # A camera cannot send half of its frames.
        streams = max(1, round(rate / each))
        demand = msgspec.structs.replace(demand, streams=streams, rate=streams * each)
    else:
        demand = msgspec.structs.replace(demand, rate=rate)
    return msgspec.structs.replace(question, demand=demand)

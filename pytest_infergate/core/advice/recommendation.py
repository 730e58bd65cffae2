"""Where a model should run: `(priced deployments, question) -> Advice`.

A plan ranks only on hardware that was measured. Projected accelerators are compared with the measured plans,
and never with each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from pytest_infergate.core.advice import sizing
from pytest_infergate.core.advice.demand import Backlog
from pytest_infergate.core.advice.planning import (
    Question,
    at_demand,
    best_of,
    best_plan,
    fastest_first,
    plans_of,
    price_source,
    rank,
    served_plan,
)
from pytest_infergate.core.advice.price_limits import price_limits
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.advice.projected_plans import ProjectionOffer, projected_plan, projections
from pytest_infergate.core.advice.rules import answer_notes, assumption_notes, next_steps
from pytest_infergate.core.advice.sensitivity import (
    cost_point,
    crossings,
    demands_around,
    headroom,
    price_range,
    sensitivities,
)
from pytest_infergate.core.advice.staircase import Staircase
from pytest_infergate.core.domain import instance_types, units
from pytest_infergate.core.domain.advice_values import (
    Advice,
    DemandStep,
    DemandTable,
    Plan,
    Projections,
    Scaled,
    Sweep,
)
from pytest_infergate.core.domain.bisection import integer_between, last_that_holds
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note, Struct

MAX_STREAMS_PER_INSTANCE: Final = 1_000
"""Number of streams of one instance up to which the exact number is searched for."""


STEPS: Final = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Requests per second that are answered without a stated demand."""


def advise(
    question: Question,
    candidates: Sequence[PricedDeployment],
    notes: Sequence[Note] = (),
    gpus: Sequence[Instance] = (),
    offer: ProjectionOffer | None = None,
) -> Advice:
    """Return the advice for one model.

    `notes` name the deployments that were left out. `gpus` are the machines with a GPU that can be rented,
    and `offer` those that can be projected.
    Raises `ValueError` for deployments of different models, or without any.
    """
    model = _only_model(candidates)
    # All plans and not only the best ones, so that a report can show what larger batches would cost.
    considered = [list(plans_of(priced, question)) for priced in candidates]
    plans = fastest_first(sorted(filter(None, map(best_of, considered)), key=rank))
    by_text = {priced.text: priced for priced in candidates}
    if question.day:
        plans = [_scaled(plan, by_text[plan.deployment], question) for plan in plans]
    if question.demand.pattern == "periodic":
        plans = [_with_streams(plan, by_text[plan.deployment], question) for plan in plans]
    nearest = None if plans else _fastest_unlimited(candidates, question)
    stairs = [Staircase(priced, question) for priced in candidates]
    rates = demands_around(question.demand)
    machines, projected = projections(offer, question, stairs, rates[-1])
    answer = Advice(
        model=model,
        weights_bytes=next(
            (each.deployment.weights_bytes for each in candidates if each.deployment.dtype is None), None
        ),
        demand=question.demand,
        limit=question.limit,
        utilisation=question.utilisation,
        scale_up=question.scale_up,
        deployments=tuple(priced.text for priced in candidates),
        plans=tuple(plans),
        considered=tuple(plan for each in considered for plan in each),
        sweeps=tuple(_sweep(priced) for priced in candidates),
        price_limits=price_limits(question, stairs, plans, gpus),
        projections=msgspec.structs.replace(
            projected, plans=tuple(projected_plan(machine, question) for machine in machines)
        ),
        price_range=price_range(plans, candidates),
        nearest=nearest,
        binding=None if plans else _binding(nearest, question),
        actions=tuple(next_steps(candidates)),
        notes=tuple(dict.fromkeys((*assumption_notes(candidates), *notes, *answer_notes(candidates)))),
    )
    if not plans:
        return answer
    costs = tuple(cost_point(rate, stairs, question) for rate in rates)
    return msgspec.structs.replace(
        answer,
        costs=costs,
        enough=headroom(plans[0], candidates, question),
        crossings=tuple(crossings(stairs, plans[0], costs[-1].rate)),
        sensitivities=tuple(sensitivities(plans[0], stairs, question)),
    )


def demand_table(
    question: Question,
    candidates: Sequence[PricedDeployment],
    notes: Sequence[Note] = (),
    gpus: Sequence[Instance] = (),
    offer: ProjectionOffer | None = None,
) -> DemandTable:
    """Return the best plan of one model for each demand of `STEPS`.

    Arguments and errors are those of `advise`.
    """
    model = _only_model(candidates)
    steps = []
    stairs = [Staircase(priced, question) for priced in candidates]
    machines, projected = projections(offer, question, stairs, 2 * STEPS[-1])
    for rate in STEPS:
        asked = at_demand(question, rate)
        plans = fastest_first(sorted(filter(None, (best_plan(each, asked) for each in candidates)), key=rank))
        beside = Projections(plans=tuple(projected_plan(machine, asked) for machine in machines))
        steps.append(DemandStep(rate=rate, plan=plans[0] if plans else None, projections=beside))
    limits = price_limits(question, stairs, [step.plan for step in steps if step.plan], gpus)
    if limits is not None:
        # What a GPU must serve to win depends on the demand.
        limits = msgspec.structs.replace(limits, gpus=None, gpu_rate=None)
    return DemandTable(
        model=model,
        limit=question.limit,
        utilisation=question.utilisation,
        steps=tuple(steps),
        price_limits=limits,
        projections=projected,
        notes=tuple(
            dict.fromkeys(
                (
                    *assumption_notes(candidates),
                    *next_steps(candidates),
                    *notes,
                    *answer_notes(candidates),
                )
            )
        ),
    )


def _only_model(candidates: Iterable[PricedDeployment]) -> str:
    models = {priced.deployment.model for priced in candidates}
    if len(models) != 1:
        raise ValueError(f"advice needs the deployments of exactly one model, got {len(models)} models")
    return models.pop()


def _with_streams(plan: Plan, priced: PricedDeployment, question: Question) -> Plan:
    """Add the largest number of streams that one instance serves with the server of the plan."""
    each = question.demand.rate / question.demand.streams

    def fits(streams: int) -> bool:
        changed = at_demand(question, streams * each)
        return served_plan(priced, changed, plan.max_batch, plan.max_wait, max_instances=1) is not None

    # Double until it does not fit, then halve the range.
    low, high = 0, 1
    while high <= MAX_STREAMS_PER_INSTANCE and fits(high):
        low, high = high, 2 * high
    most = last_that_holds(fits, low, high, integer_between)
    return msgspec.structs.replace(plan, streams_per_instance=most)


def _scaled(plan: Plan, priced: PricedDeployment, question: Question) -> Plan:
    """Add the number of instances that each hour of the day needs, and their cost."""

    def needed(share: float) -> int:
        # An hour without any demand still has the instances that always run.
        if share == 0:
            return question.min_instances
        changed = at_demand(question, question.demand.rate * share)
        # The few requests of a quiet hour may never fill the batch that they wait for.
        waits = (plan.max_wait, 0.0)
        served = (
            served_plan(priced, changed, plan.max_batch, wait, max_instances=plan.instances) for wait in waits
        )
        fewest = next((found.instances for found in served if found is not None), plan.instances)
        return min(fewest, plan.instances)

    # Hours with equal demand are simulated once.
    counts = {share: needed(share) for share in set(question.day)}
    instances = tuple(counts[share] for share in question.day)
    paid = instance_types.instance_hours(instances, question.scale_up) / len(instances)
    scaled = Scaled(
        instances=instances, usd_per_month=instance_types.usd_per_month(priced.instance.price, paid)
    )
    return msgspec.structs.replace(plan, scaled=scaled)


def _fastest_unlimited(candidates: Iterable[PricedDeployment], question: Question) -> Plan | None:
    """Return the fastest plan without a limit; ``None`` if no number of machines serves the demand."""
    # A periodic demand has a limit of its own unless it is infinite.
    limit = math.inf if question.demand.pattern == "periodic" else None
    unlimited = msgspec.structs.replace(question, limit=limit)
    plans = (
        served_plan(priced, unlimited, size, 0.0)
        for priced in candidates
        for size in priced.deployment.service.batch_sizes
    )
    return min(
        (plan for plan in plans if plan is not None),
        key=lambda plan: answered_within(plan, question.limit),
        default=None,
    )


def answered_within(plan: Plan, limit: float | None, *, slow: bool = True) -> float:
    """Return the seconds within which a plan answers the share that a limit is about.

    Without a `limit`, it is the next frame, before which 99 % of frames must be answered. A limit is held
    against `slow` calls, if they were simulated.
    """
    load = (plan.slow_load if slow else None) or plan.load
    return load.p99 if limit is None else load.p95


def times_text(plan: Plan, limit: float | None) -> str:
    """Return within which time a plan answers, as measured and with slow calls: ``65.8 ms, slow 101 ms``."""
    times = [units.seconds(answered_within(plan, limit, slow=slow)) for slow in (False, True)]
    return ", slow ".join(dict.fromkeys(times))


def _binding(nearest: Plan | None, question: Question) -> Note:
    """Return the reason why no plan meets the limit."""
    if nearest is None:
        return Note(
            code=NoteCode.DEMAND_UNMET,
            text="no number of machines serves this demand",
            hint="lower the demand, or measure larger batches or faster machines",
        )
    limit = question.limit if question.limit is not None else question.demand.period
    share = "95 % of requests" if question.limit is not None else "99 % of frames"
    faster = "a faster machine, or allow more time"
    return Note(
        code=NoteCode.LIMIT_UNMET,
        text=f"no plan answers {share} within {units.seconds(limit)}: the nearest, {nearest.text} "
        f"with batches of at most {nearest.max_batch} for {nearest.usd_per_month:,.0f} USD per month, "
        f"takes {times_text(nearest, question.limit)}, simulated from measured calls",
        hint=f"measure {faster}" if nearest.max_batch == 1 else f"measure smaller batch sizes or {faster}",
    )


def _sweep(priced: PricedDeployment) -> Sweep:
    """Return call time and throughput of a deployment by batch size."""
    service = priced.deployment.service
    return Sweep(
        deployment=priced.text,
        batch_sizes=service.batch_sizes,
        # The 50th of the 101 percentiles.
        p50=tuple(times[len(times) // 2] for times in service.percentiles),
        throughput=tuple(
            priced.deployment.workers * size / service.mean(size) for size in service.batch_sizes
        ),
    )


class Job(Struct, frozen=True, kw_only=True):
    """A deployment that works off a backlog."""

    instance: str
    price: str
    """As in `Plan`."""
    assumed: str = ""
    """As in `Plan`."""
    unverified: bool = False
    """As in `Plan`."""
    usd_per_hour: float
    device: str
    runtime: str = "eager"
    dtype: str | None = None
    threads: int | None = None
    """As in `Plan`."""
    workers: int = 1
    max_batch: int
    machine_hours: float
    instances: int
    """Number of instances that work at the same time to finish before the deadline."""
    usd: float
    usd_on_spot: float | None = None
    """Cost on spot machines if none is taken away; ``None`` without a spot price."""


def plan_backlog(work: Backlog, candidates: Iterable[PricedDeployment]) -> tuple[Job, ...]:
    """Return the cost of a backlog on each deployment, the cheapest first. Only working time is paid for.

    Raises `ValueError` if one batch takes longer than the deadline on every deployment.
    """
    jobs = []
    problem: ValueError | None = None
    for priced in candidates:
        service = priced.deployment.service
        # Offline work has no limit of latency, so that the batch with the highest throughput is the best.
        size = max(service.batch_sizes, key=lambda batch: batch / service.mean(batch))
        try:
            hours, instances = sizing.offline(
                work, service, max_batch=size, workers_per_instance=priced.deployment.workers
            )
        except ValueError as error:
            # Another deployment may be fast enough; the reason is raised if none is.
            problem = error
            continue
        spot = priced.instance.spot_usd_per_hour
        jobs.append(
            Job(
                instance=priced.name,
                price=price_source(priced.instance),
                assumed=priced.assumed,
                unverified=priced.instance.unverified,
                usd_per_hour=priced.instance.price,
                device=priced.deployment.device,
                runtime=priced.deployment.runtime,
                dtype=priced.deployment.dtype,
                threads=priced.deployment.threads,
                workers=priced.deployment.workers,
                max_batch=size,
                machine_hours=hours,
                instances=instances,
                usd=hours * priced.instance.price,
                usd_on_spot=None if spot is None else hours * spot,
            )
        )
    if problem is not None and not jobs:
        raise problem
    return tuple(sorted(jobs, key=lambda job: (job.usd, job.instances)))

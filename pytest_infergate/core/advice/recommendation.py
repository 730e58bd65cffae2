"""Where a model should run: `(priced deployments, question) -> Advice`.

A plan ranks only on hardware that was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from pytest_infergate.core.advice import sizing
from pytest_infergate.core.advice.demand import Backlog
from pytest_infergate.core.advice.deployments import PricedDeployment
from pytest_infergate.core.advice.planning import (
    Question,
    at_demand,
    plans_of,
    price_text,
    rank,
    served_plan,
    ties_by_speed,
)
from pytest_infergate.core.advice.sensitivity import (
    cost_point,
    crossings,
    demands_around,
    headroom,
    sensitivities,
)
from pytest_infergate.core.domain import instance_types, units
from pytest_infergate.core.domain.advice_values import Advice, Plan, Scaled, Sweep
from pytest_infergate.core.domain.model import Note, Struct
from pytest_infergate.core.domain.notes import NoteCode

MOST_STREAMS: Final = 1_000
"""Streams of one instance beyond which nobody asks for the number."""


def advise(question: Question, found: Sequence[PricedDeployment], notes: Sequence[Note] = ()) -> Advice:
    """Answer for one model. `notes` say what was left out of the offers.

    Raises `ValueError` for offers of different models, or none.
    """
    models = {priced.deployment.model for priced in found}
    if len(models) != 1:
        raise ValueError("advice is for one model, which needs an offer")
    considered = [list(plans_of(priced, question)) for priced in found]
    plans = ties_by_speed(sorted((min(each, key=rank) for each in considered if each), key=rank))
    by_words = {priced.text: priced for priced in found}
    if question.day:
        plans = [_scaled(plan, by_words[plan.deployment], question) for plan in plans]
    if question.demand.pattern == "periodic":
        plans = [_streaming(plan, by_words[plan.deployment], question) for plan in plans]
    nearest = None if plans else _nearest(found, question)
    answer = Advice(
        model=models.pop(),
        demand=question.demand,
        limit=question.limit,
        utilisation=question.utilisation,
        scale_up=question.scale_up,
        deployments=tuple(priced.text for priced in found),
        plans=tuple(plans),
        considered=tuple(plan for each in considered for plan in each),
        sweeps=tuple(map(_sweep, found)),
        nearest=nearest,
        binding=None if plans else _binding(nearest, question),
        actions=tuple(_actions(found)),
        notes=tuple(dict.fromkeys((*notes, *_remarks(found)))),
    )
    if not plans:
        return answer
    costs = tuple(cost_point(rate, found, question) for rate in demands_around(question.demand))
    return msgspec.structs.replace(
        answer,
        costs=costs,
        enough=headroom(plans[0], costs, found, question),
        crossings=tuple(crossings(costs, found, question, plans[0])),
        sensitivities=tuple(sensitivities(plans[0], found, question)),
    )


def _streaming(plan: Plan, priced: PricedDeployment, question: Question) -> Plan:
    """The same plan with the number of streams that one instance serves: doubled, then narrowed by halves."""
    each = question.demand.rate / question.demand.streams

    def fits(streams: int) -> bool:
        asked = at_demand(question, streams * each)
        return served_plan(priced, asked, plan.max_batch, plan.max_wait, most=1) is not None

    low, high = 0, 1
    while high <= MOST_STREAMS and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return msgspec.structs.replace(plan, streams_per_instance=low)


def _scaled(plan: Plan, priced: PricedDeployment, question: Question) -> Plan:
    """The same plan with as many instances as each hour of the day takes."""

    def needed(share: float) -> int:
        if share == 0:
            return question.least
        asked = at_demand(question, question.demand.rate * share)
        waits = (plan.max_wait, 0.0)  # few requests may never fill the batch that they wait for
        each = (served_plan(priced, asked, plan.max_batch, wait, most=plan.instances) for wait in waits)
        fewest = next((found.instances for found in each if found is not None), plan.instances)
        return min(fewest, plan.instances)

    counts = {share: needed(share) for share in set(question.day)}
    instances = tuple(counts[share] for share in question.day)
    paid = instance_types.instance_hours(instances, question.scale_up) / len(instances)
    scaled = Scaled(
        instances=instances, usd_per_month=instance_types.usd_per_month(priced.instance.price, paid)
    )
    return msgspec.structs.replace(plan, scaled=scaled)


def _nearest(found: Iterable[PricedDeployment], question: Question) -> Plan | None:
    """The fastest plan when nothing limits it; ``None`` where the demand is beyond any number of machines."""
    plans = (plan for priced in found for plan in _unlimited(priced, question))
    return min(plans, key=lambda plan: plan.load.p95, default=None)


def _unlimited(priced: PricedDeployment, question: Question) -> Iterator[Plan]:
    """The plans of an offer when nothing limits its latency."""
    limit = math.inf if question.demand.pattern == "periodic" else None
    free = msgspec.structs.replace(question, limit=limit)
    plans = (served_plan(priced, free, size, 0.0) for size in priced.deployment.service.batch_sizes)
    return (plan for plan in plans if plan is not None)


def _binding(nearest: Plan | None, question: Question) -> Note:
    if nearest is None:
        return Note(
            code=NoteCode.DEMAND_UNMET,
            text="no number of machines serves this demand",
            hint="ask for less, or measure larger batches or faster machines",
        )
    limit = question.limit if question.limit is not None else question.demand.period
    return Note(
        code=NoteCode.LIMIT_UNMET,
        text=f"no plan answers 95 % of requests within {units.seconds(limit)}: the nearest, {nearest.text} "
        f"with batches of at most {nearest.max_batch} for {nearest.usd_per_month:,.0f} USD a month, "
        f"takes {units.seconds(nearest.load.p95)}",
        hint="measure a faster machine, or allow more time"
        if nearest.max_batch == 1
        else "measure smaller batch sizes or a faster machine, or allow more time",
    )


def _sweep(priced: PricedDeployment) -> Sweep:
    service = priced.deployment.service
    return Sweep(
        deployment=priced.text,
        batch_sizes=service.batch_sizes,
        p50=tuple(times[len(times) // 2] for times in service.percentiles),
        throughput=tuple(
            priced.deployment.workers * size / service.mean(size) for size in service.batch_sizes
        ),
    )


def _actions(found: Sequence[PricedDeployment]) -> Iterator[Note]:
    """What might serve the model better: measured against each other where it was, else to be measured."""
    for priced in found:
        deployment = priced.deployment
        siblings = [
            other.deployment
            for other in found
            if other.deployment.hardware == deployment.hardware
            and other.deployment.device == deployment.device
        ]
        if len(deployment.service.batch_sizes) == 1:
            yield Note(
                code=NoteCode.ONE_BATCH_SIZE,
                text=f"only batches of {deployment.service.batch_sizes[0]} were measured on {deployment.device}: whether "
                "larger ones pay is unknown",
                hint="give the marker batch_sizes=[1, 8, 32]",
            )
        if (
            deployment.device == "cpu"
            and deployment.hardware.cores > 1
            and all(one.workers == 1 for one in siblings)
        ):
            yield Note(
                code=NoteCode.SINGLE_WORKER,
                text=f"one worker was measured on {units.plural(deployment.hardware.cores, 'core')}",
                hint=f"see whether several serve more: --infer-workers={deployment.hardware.cores}",
            )
    if all(priced.deployment.hardware.accelerator is None for priced in found):
        yield Note(
            code=NoteCode.NO_ACCELERATOR,
            text="no accelerator was measured, so this says nothing of GPUs",
            hint="run the tests with --infer-devices=cpu,cuda --infer-json=gpu.json on a machine with one, "
            "and give that file too",
        )


def _remarks(found: Sequence[PricedDeployment]) -> Iterator[Note]:
    for priced in found:
        yield from priced.deployment.doubts
        if priced.deployment.dtype is not None:
            yield Note(
                code=NoteCode.ACCURACY,
                text=f"{priced.deployment.dtype} was asked for: whether it is accurate enough, the test must check",
            )
        if not priced.user_specified:
            yield Note(
                code=NoteCode.ASSUMED_INSTANCE,
                text=f"{priced.deployment.hardware.text} is taken for {priced.instance.full_name}, by its class",
                hint=f"say --instance {priced.deployment.device}={priced.instance.name} if that is right",
            )


class Job(Struct, frozen=True, kw_only=True):
    """What working off a backlog takes on one offer."""

    instance: str
    price: str
    """As in `Plan`."""
    usd_per_hour: float
    device: str
    max_batch: int
    machine_hours: float
    instances: int
    """That work at once, to be done before the deadline."""
    usd: float
    usd_on_spot: float | None = None
    """On machines that may be taken away, if none is; ``None`` where there is no such price."""


def plan_backlog(work: Backlog, found: Iterable[PricedDeployment]) -> tuple[Job, ...]:
    """What working off a backlog costs, the cheapest first: machines are paid for while they work.

    Raises `ValueError` where one batch takes longer than the deadline on every offer.
    """
    jobs = []
    problem: ValueError | None = None
    for priced in found:
        service = priced.deployment.service
        size = max(service.batch_sizes, key=lambda batch: batch / service.mean(batch))
        try:
            hours, instances = sizing.offline(
                work, service, max_batch=size, workers_per_instance=priced.deployment.workers
            )
        except ValueError as error:
            problem = error
            continue
        spot = priced.instance.spot_usd_per_hour
        jobs.append(
            Job(
                instance=priced.name,
                price=price_text(priced.instance),
                usd_per_hour=priced.instance.price,
                device=priced.deployment.device,
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

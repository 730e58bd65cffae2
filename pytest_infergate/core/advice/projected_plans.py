"""Machines with an accelerator that was not measured, compared with the measured plans by a projection."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from pytest_infergate.core.advice.deployments import judged_cases, model_name
from pytest_infergate.core.advice.planning import Question, price_source
from pytest_infergate.core.advice.priced_deployments import PricedDeployment
from pytest_infergate.core.advice.projectable_work import (
    MORE_SIZES,
    NEEDED,
    ONE_SIZE,
    ItemWork,
    item_work,
    refusal,
)
from pytest_infergate.core.advice.projected_choice import ProjectedChoice, choose, served_rates
from pytest_infergate.core.advice.projection import AcceleratorSheet, Projected, project
from pytest_infergate.core.advice.sizing import EDGE_NOISE, MAX_INSTANCES, MAX_PERIODIC_MISSES
from pytest_infergate.core.advice.staircase import Staircase, merged_steps, utilised_rate
from pytest_infergate.core.domain import energy, instance_types
from pytest_infergate.core.domain.advice_values import ProjectedPlan, ProjectionCheck, Projections
from pytest_infergate.core.domain.hardware_names import same_accelerator
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.outcome import Outcome, Session, Verdict
from pytest_infergate.core.domain.values import Note

PROJECTED_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Batch sizes that are projected. Published times confirm projections up to 256."""
PROJECTED_DTYPE: Final = "float16"
"""Dtype on accelerators: all of them have it, and its peak does not depend on settings of torch."""


class ProjectionOffer(NamedTuple):
    """The work of a model, or the reason why it is unknown, and accelerators to project it onto."""

    work: ItemWork | Note
    sheets: tuple[AcceleratorSheet, ...]
    machines: tuple[tuple[Instance, AcceleratorSheet], ...]


class ProjectedMachine(NamedTuple):
    """A machine with its projection, and the decision at every demand."""

    instance: Instance
    projected: Projected
    rates: tuple[float, float]
    """Requests per second of one machine at the pessimistic and the optimistic end."""
    choice: ProjectedChoice


def projectable_machines(
    instances: Iterable[Instance], sheets: Sequence[AcceleratorSheet]
) -> tuple[tuple[Instance, AcceleratorSheet], ...]:
    """Return the cheapest machine with one accelerator of each kind with a data sheet, the cheapest first.

    How several accelerators share one host is not projected.
    """
    found: dict[str, tuple[Instance, AcceleratorSheet]] = {}
    single = (instance for instance in instances if instance.accelerator_count == 1)
    for instance in sorted(single, key=lambda each: (each.price, each.full_name, each.region)):
        same = (sheet for sheet in sheets if same_accelerator(sheet.name, instance.accelerator))
        if (sheet := next(same, None)) is not None:
            found.setdefault(sheet.name, (instance, sheet))
    return tuple(found.values())


def projectable_works(sessions: Iterable[Session]) -> dict[str, ItemWork | Note]:
    """Return the work of one item by model, from its eager cases on the CPU, or why it is unknown.

    Models without such a case are left out.
    """
    groups: dict[str, dict[tuple[str, int], dict[int, Measurement]]] = {}
    for result, verdict, _ in judged_cases(sessions):
        case, measured = result.case, result.measurement
        wrong = verdict is not None and verdict.verdict in (Verdict.MISMATCH, Verdict.INVALID)
        if (
            case.device != "cpu"
            or case.runtime != "eager"
            or measured is None
            or wrong
            or case.batch_size < 1
        ):
            continue
        if result.outcome is Outcome.MEASURED:
            group = groups.setdefault(model_name(case), {})
            sizes = group.setdefault((case.dtype or "", case.threads or 0), {})
            # A run without time to count must not replace the counters of another.
            if case.batch_size not in sizes or set(NEEDED) <= measured.counters.totals.keys():
                sizes[case.batch_size] = measured
    works = {}
    for model, group in groups.items():
        found = []
        for _, sizes in sorted(group.items()):
            counted = {
                size: each for size, each in sizes.items() if set(NEEDED) <= each.counters.totals.keys()
            }
            found.append(item_work(counted or sizes))
        works[model] = next((work for work in found if isinstance(work, ItemWork)), found[0])
    return works


def projections(
    offer: ProjectionOffer | None, question: Question, stairs: Sequence[Staircase], highest: float
) -> tuple[tuple[ProjectedMachine, ...], Projections]:
    """Return the machines to decide about, and the refusals and checks.

    `stairs` are those of the measured deployments, `highest` is the largest demand to compare. As soon as an
    accelerator was measured for the model, no other is projected: a projection does not rank accelerators.
    """
    if offer is None:
        return (), Projections()
    candidates = [each.priced for each in stairs]
    if any(priced.deployment.hardware.accelerator is not None for priced in candidates):
        return (), Projections(checks=tuple(_checks(offer, candidates)))
    work = offer.work
    if isinstance(work, ItemWork) and work.only_batch_size is not None:
        # The optimistic end would be that of this batch size alone, and rule out too much.
        work = refusal(
            ONE_SIZE,
            MORE_SIZES,
        )
    if isinstance(work, Note):
        return (), Projections(refusals=(work,))
    steps = [
        (high, min((usd for usd in known if usd is not None), default=math.inf))
        for _, high, known in merged_steps(stairs, highest)
    ]
    if not steps or steps[-1][0] < highest:
        steps.append((highest, math.inf))
    ends, costs = [rate for rate, _ in steps], [usd for _, usd in steps]
    limit = question.limit if question.limit is not None else question.demand.period
    share = 0.95 if question.limit is not None else 1 - MAX_PERIODIC_MISSES
    stream = 0.0 if question.demand.period is None else 1 / question.demand.period
    machines, refusals = [], []
    for instance, sheet in offer.machines:
        projected = project(work, sheet, PROJECTED_SIZES, dtype=PROJECTED_DTYPE)
        if isinstance(projected, Note):
            refusals.append(projected)
            continue
        slow, fast = served_rates(projected.batches, limit, question.utilisation, share, stream)
        # At the pessimistic end, a machine serves whole streams only.
        rates = utilised_rate(slow, question), fast
        each = instance_types.usd_per_month(instance.price, 1)
        choice = choose(ends, costs, each, *rates, least=question.min_instances)
        machines.append(ProjectedMachine(instance, projected, rates, choice))
    return tuple(machines), Projections(refusals=tuple(dict.fromkeys(refusals)))


def projected_plan(machine: ProjectedMachine, question: Question) -> ProjectedPlan:
    """Return what a machine costs at the demand of the question, at both ends of its projection."""
    instance, rate = machine.instance, question.demand.rate
    counts: list[int | None] = []
    for served in machine.rates:
        needed = math.ceil(rate / served * (1 - EDGE_NOISE)) if served else MAX_INSTANCES + 1
        counts.append(max(needed, question.min_instances) if needed <= MAX_INSTANCES else None)
    many, few = counts
    months = [None if each is None else instance_types.usd_per_month(instance.price, each) for each in counts]
    items = rate * question.mean_share * energy.MONTH_SECONDS
    millions = [None if month is None else month / items * 1e6 for month in months]
    return ProjectedPlan(
        instance=instance.full_name,
        accelerator=instance.accelerator or machine.projected.accelerator,
        price=price_source(instance),
        usd_per_hour=instance.price,
        unverified=instance.unverified,
        dtype=machine.projected.dtype,
        runtime=machine.projected.runtime,
        evidence=machine.projected.evidence,
        decision="ruled out" if few is None else machine.choice.at(rate),
        instances_low=few,
        instances_high=many,
        usd_per_month_low=months[1],
        usd_per_month_high=months[0],
        usd_per_million_low=millions[1],
        usd_per_million_high=millions[0],
        rate_low=machine.rates[0],
        rate_high=machine.rates[1],
        ruled_out_to=machine.choice.ruled_out_to,
        recommended_above=machine.choice.recommended_above,
    )


def _checks(offer: ProjectionOffer, candidates: Iterable[PricedDeployment]) -> Iterator[ProjectionCheck]:
    """Yield the measured calls on accelerators whose time a projection gives as well."""
    for priced in candidates:
        deployment = priced.deployment
        name, service = deployment.hardware.accelerator, deployment.service
        sheet = next((sheet for sheet in offer.sheets if same_accelerator(sheet.name, name)), None)
        alone = deployment.runtime == "eager" and deployment.workers == 1
        if sheet is None or isinstance(offer.work, Note) or not alone or deployment.device == "cpu":
            continue
        # The counters are those of float32, the dtype that models usually have.
        dtype = deployment.dtype or "float32"
        projected = project(offer.work, sheet, service.batch_sizes, dtype=dtype)
        for batch in () if isinstance(projected, Note) else projected.batches:
            at = service.batch_sizes.index(batch.batch_size)
            times = service.percentiles[at]
            yield ProjectionCheck(
                accelerator=sheet.name,
                dtype=dtype,
                evidence=sheet.support,
                batch_size=batch.batch_size,
                measured=times[len(times) // 2],
                low=batch.call_time.low,
                point=batch.call_time.point,
                high=batch.call_time.high,
            )

"""What is known of GPUs that were not measured, by prices and by projection, as sentences and tables."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pytest_infergate.core.advice.projectable_work import REFUSED
from pytest_infergate.core.advice.projected_plans import PROJECTED_DTYPE, PROJECTED_SIZES
from pytest_infergate.core.advice.recommendation import answered_within, times_text
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import (
    Advice,
    PriceLimits,
    ProjectedPlan,
    ProjectionCheck,
    Projections,
)
from pytest_infergate.core.domain.hardware_names import with_article
from pytest_infergate.report.amounts import interval, labelled, usd
from pytest_infergate.report.plan_names import price_label
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import Column, shown_columns

HUNDRED: Final = 100
"""Factor from which on a speed-up is written with a separator of thousands."""
MEASURED: Final = "● measured"
"""Marks differ in word and shape, so that they need no colour."""
PROJECTED: Final = "◇ projected"
UNDECIDED: Final = "? undecided"
LEGEND: Final = (
    f"{MEASURED}: calls on the machine that is named; {PROJECTED}: a range from the work of the model and "
    f"the data sheet of the GPU; {UNDECIDED}: only a measurement decides."
)
"""Meaning of the marks, shown where any result is not measured."""
ONLY_MEASURED: Final = "measure a GPU to know"
BEST: Final = "◇ enough, costs at most this"
"""Mark of the machine whose pessimistic end costs least."""
LESS: Final = "◇ enough, costs less if the price holds"
"""Mark of a machine below this bound with an unverified price."""
OPEN: Final = "? enough, may cost less"
MACHINES_SHOWN: Final = 3
"""Number of machines that a sentence names; tables have all of them."""


def machine_count(plan: ProjectedPlan) -> str:
    """Return the number of machines at both ends of the projection: ``1 to 8``."""
    if plan.instances_low is None:
        return units.UNKNOWN
    if plan.instances_high is None:
        return f"{plan.instances_low:,} or more"
    return " to ".join(dict.fromkeys((f"{plan.instances_low:,}", f"{plan.instances_high:,}")))


PROJECTED_COLUMNS: Final[tuple[Column[ProjectedPlan], ...]] = (
    Column("machine", "machine", lambda plan: plain(f"◇ {plan.machine}"), left=True),
    Column(
        "machines",
        "number",
        lambda plan: f"{machine_count(plan)} machine{'' if plan.instances_high == 1 else 's'}",
        left=True,
    ),
    Column(
        "usd_per_month", "USD/month", lambda plan: interval(plan.usd_per_month_low, plan.usd_per_month_high)
    ),
    Column(
        "usd_per_hour",
        "USD/hour",
        lambda plan: labelled(units.dollars(plan.usd_per_hour), price_label(plan)),
    ),
    Column("rate", "one serves", lambda plan: f"{units.rate(plan.rate_low)} to {units.rate(plan.rate_high)}"),
    Column("evidence", "evidence", lambda plan: plain(plan.evidence), left=True),
)
CHECK_COLUMNS: Final[tuple[Column[ProjectionCheck], ...]] = (
    Column("accelerator", "accelerator", lambda check: plain(check.accelerator), left=True),
    Column("dtype", "dtype", lambda check: plain(check.dtype), left=True),
    Column("batch", "batch size", lambda check: str(check.batch_size)),
    Column("measured", "● measured", lambda check: units.seconds(check.measured)),
    Column(
        "projected",
        "◇ projected",
        lambda check: f"{units.seconds(check.low)} to {units.seconds(check.high)}",
    ),
    Column("ratio", "measured / middle", lambda check: units.significant(check.measured / check.point)),
    Column("inside", "within", lambda check: "yes" if check.inside else "no", left=True),
    Column(
        "evidence",
        "evidence",
        lambda check: plain(check.evidence),
        left=True,
        shown=lambda checks: any(check.evidence for check in checks),
    ),
)


PROJECTED_TITLE: Final = (
    f"{PROJECTED}, not measured: GPUs by price per hour; in "
    f"{PROJECTED_DTYPE} with batches of {PROJECTED_SIZES[0]} to {PROJECTED_SIZES[-1]}"
)
CHECKED_TITLE: Final = "● measured GPUs, and what would have been ◇ projected for a call"


def projected_tables(answer: Advice) -> Iterator[tuple[str, Sequence[Column[Any]], Sequence[Any]]]:
    """Yield the title, the columns and the rows of each table that is not empty."""
    projections, planned = answer.projections, answer.winner is not None
    if projections.plans:
        first, *others = PROJECTED_COLUMNS
        decided: Column[ProjectedPlan] = Column(
            "decision", "decision", lambda plan: decision_text(plan, projections), left=True
        )
        compared: Column[ProjectedPlan] = Column(
            "by_demand",
            "compared with measured machines",
            lambda plan: by_demand(plan, planned=planned),
            left=True,
            # Machines that miss the limit cost nothing to compare with.
            shown=lambda _: planned,
        )
        columns = shown_columns((first, decided, *others, compared), projections.plans)
        yield PROJECTED_TITLE, columns, projections.plans
    if projections.checks:
        yield CHECKED_TITLE, shown_columns(CHECK_COLUMNS, projections.checks), projections.checks


def decision_text(plan: ProjectedPlan, projections: Projections) -> str:
    """Return what is decided about a projected machine, with its mark."""
    if plan == projections.bound:
        return BEST
    if plan.decision == "ruled out":
        return plan.decision
    bound = projections.bound
    if bound is not None and projections.dearer(plan):
        return plain(f"dearer than {with_article(bound.accelerator)}")
    if plan.decision == "undecided":
        return UNDECIDED
    # Only a price of a known day bounds the cost, if there is one.
    ends = bound and bound.usd_per_month_high, plan.usd_per_month_high
    return LESS if ends[0] and ends[1] and ends[1] < ends[0] else OPEN


def by_demand(plan: ProjectedPlan, *, planned: bool) -> str:
    """Return at which demands a projected machine is dearer and cheaper: ``dearer up to 60.0 requests/s``.

    `planned` says whether a measured plan meets the limit.
    """
    low, high = plan.ruled_out_to, plan.recommended_above
    if low is None:
        return "dearer at every demand"
    if high == 0:
        return "cheaper at every demand" if planned else "none of these meets the limit"
    parts = [f"dearer up to {units.rate(low, 'requests')}"] if low else []
    if high is None or high > low:
        until = (
            " above"
            if low and high is None
            else ""
            if high is None
            else f" up to {units.rate(high, 'requests')}"
        )
        parts.append(f"undecided{until or ' at every demand'}")
    parts += [] if high is None else ["cheaper above"]
    return ", ".join(parts)


def bound_text(bound: ProjectedPlan) -> str:
    """Return the machines that are enough at the pessimistic end: ``1 x aws/g6e.xlarge with an L40S``."""
    count = units.UNKNOWN if bound.instances_high is None else f"{bound.instances_high:,}"
    return f"{count} x {bound.machine}"


def projected_text(projections: Projections) -> str:
    """Return the machines to plan with, and those that may cost less; empty if none is enough."""
    bound, lowest = projections.bound, projections.lowest
    if bound is None or lowest is None:
        return ""
    most = f" ({units.dollars(bound.usd_per_month_high)})" if lowest != bound else ""
    least = f" (from {units.dollars(lowest.usd_per_month_low)})"
    less = f"; {machine_count(lowest)} x {lowest.machine} may cost less{least}" if lowest != bound else ""
    return f"{bound_text(bound)} should be enough{most}{less}"


def projected_costs(projections: Projections) -> tuple[float | None, float | None]:
    """Return the least and the most that the machines to plan with cost in a month."""
    bound, lowest = projections.bound, projections.lowest
    if bound is None or lowest is None:
        return None, None
    return lowest.usd_per_month_low, bound.usd_per_month_high


def bound_price(bound: ProjectedPlan) -> str:
    """Return why the machine is named that bounds the cost."""
    price = "an unverified price" if bound.unverified else "a verified price"
    return f"the lowest pessimistic end with {price}"


def projected_verdict(answer: Advice, bound: ProjectedPlan) -> str:
    """Return the recommendation of a GPU that was not measured."""
    low, high = projected_costs(answer.projections)
    lowest = answer.projections.lowest or bound
    gain = "cost less than this CPU" if answer.winner is not None else "meet the limit"
    why = f"{sentence(cpu_too_slow(answer))}. " if answer.winner is None and cpu_too_slow(answer) else ""
    less = ""
    if lowest != bound and lowest.instances_low is not None:
        machines = f"{lowest.instances_low:,} x {lowest.machine}"
        less = f", from {units.dollars(low)} with {machines} if it is fast enough"
    return (
        f"{why}A GPU is {PROJECTED} to {gain}: at most {interval(high, high)} USD per month with "
        f"{bound_text(bound)} ({bound_price(bound)}){less}. Measure one before you buy."
    )


def cpu_too_slow(answer: Advice) -> str:
    """Return by how much the measured machines miss the limit; empty if they do not."""
    limit = answer.demand.period if answer.limit is None else answer.limit
    if answer.nearest is None or limit is None:
        return ""
    if answered_within(answer.nearest, answer.limit) <= limit:
        return ""
    where = "this CPU" if answer.nearest.device == "cpu" else answer.nearest.instance
    figures = f"{times_text(answer.nearest, answer.limit)} > {units.seconds(limit)}"
    return f"not on {plain(where)}: {figures} (from {MEASURED} calls)"


def sentence(text: str) -> str:
    """Return a text that begins with a capital."""
    return text[:1].upper() + text[1:]


def basis(projections: Projections, *, planned: bool, open_price: bool = False) -> str:
    """Return the mark of an answer.

    `planned` says whether a measured plan meets the limit, `open_price` whether an uncertain price decides.
    """
    if open_price:
        return UNDECIDED
    if projections.recommended:
        return PROJECTED
    if not planned:
        return UNDECIDED if projections.undecided else MEASURED
    return f"{MEASURED}; GPU {UNDECIDED}" if projections.undecided else MEASURED


def noun(answer: Advice) -> str:
    """Return what is counted: requests, or frames of streams."""
    return "frames" if answer.demand.pattern == "periodic" else "requests"


def amount(answer: Advice, rate: float) -> str:
    """Return a demand in the unit in which the demand of an answer is stated: streams, or requests/s."""
    demand = answer.demand
    # A results file has five digits; a stream is served as a whole.
    streams = math.floor(rate / demand.rate * demand.streams * (1 + 1e-4)) if demand.period else 0
    return f"{units.plural(streams, 'stream')}" if streams else units.rate(rate, noun(answer))


def gpu_changes(answer: Advice) -> Iterator[str]:
    """Yield what makes another answer right where GPUs were not measured, the nearest demand first."""
    projections, limits = answer.projections, answer.price_limits
    priced = (limits and limits.rate) or 0.0
    bound, high = projections.bound, projections.some_above
    low = max(priced, projections.none_up_to or 0.0)
    if bound is not None:
        if limits is not None and limits.faster is not None:
            yield f"this CPU, if a call becomes {times_faster(limits.faster)} times faster{_then(limits)}"
        elif low and answer.winner is not None:
            yield f"up to {amount(answer, low)} no GPU costs less"
        yield "to settle number and cost, measure a GPU"
        if bound.rate_low and bound.instances_high:
            served = amount(answer, bound.rate_low * bound.instances_high)
            yield f"above {served} it may take more than {bound_text(bound)}"
        return
    measured = any(plan.device != "cpu" for plan in (*answer.plans, answer.nearest) if plan is not None)
    if not projections.plans and (measured or limits is None):
        return
    if projections.plans and projections.none_up_to is None:
        yield f"{PROJECTED}: no GPU is cheaper at any demand"
        return
    if low:
        # Prices decide without a projection, whatever a GPU can do.
        why = "from prices alone" if priced == low else PROJECTED
        why += "; that of this CPU is assumed" if priced == low and limits and limits.assumed else ""
        # Between what the plan serves and this demand, more machines of its kind are right.
        more = ": more such machines, because" if answer.enough and answer.enough < low else ""
        yield f"up to {amount(answer, low)}{more} no GPU costs less ({why})"
    if high is None or high > low:
        until = f"up to {amount(answer, high)}," if high else "above that," if low else ""
        goal = "" if low or high else " whether one costs less" if answer.plans else " whether one is enough"
        yield f"{until} {ONLY_MEASURED}{goal}".strip()
    if high is not None:
        yield f"above {amount(answer, high)} a GPU costs less ({PROJECTED})"


def _then(limits: PriceLimits) -> str:
    """Return how many machines the demand takes once calls are fast enough; empty if it is not known."""
    count = limits.faster_machines
    return "" if count is None else f", and then on at least {units.plural(count, 'machine')}"


def times_faster(factor: float) -> str:
    """Format a speed-up that is needed, rounded up so that it suffices."""
    if factor >= HUNDRED:
        return units.count(math.ceil(factor))
    return f"{math.ceil(10 * factor * (1 - 1e-9)) / 10:.1f}"


def confirmation(model: str, plans: Sequence[ProjectedPlan]) -> str:
    """Return where to measure and the command to run there."""
    test = shlex.quote(plain(model.partition("[")[0]))
    names = [plan.machine for plan in plans[:MACHINES_SHOWN]]
    if len(plans) > MACHINES_SHOWN:
        names.append(f"{len(plans) - MACHINES_SHOWN} more")
    where = names[0] if not names[1:] else f"one of {', '.join(names[:-1])} or {names[-1]}"
    return (
        f"measure on {where}: pytest {test} --infer-devices=cuda --infer-dtypes={plans[0].dtype} "
        "--infer-json=gpu.json, and add gpu.json to infergate advise"
    )


def projected_sentences(
    model: str, projections: Projections, noun: str = "requests", *, planned: bool
) -> Iterator[str]:
    """Yield what a projection decides at the demand, where that changes, what it refuses, and its error.

    `planned` says whether a measured plan meets the limit.
    """
    count = len(projections.plans)
    every = "the only GPU" if count == 1 else f"each of {count} GPUs"
    sure, open_ = projections.recommended, projections.undecided
    if sure:
        one = len(sure) == count or len(sure) == 1
        effect = f"cost{'s' if one else ''} less than the best measured plan"
        effect = effect if planned else f"{'is' if one else 'are'} enough"
        share = f"{len(sure)} of {units.plural(count, 'GPU')}" if len(sure) < count else every
        yield (
            f"{PROJECTED}, not measured: {share} {effect} even at the pessimistic end. To find the cheapest, "
            f"{confirmation(model, projections.candidates)}."
        )
    elif open_:
        span = _span(projections.none_up_to or 0.0, projections.some_above, noun)
        yield f"{UNDECIDED} {span}: {confirmation(model, open_)}."
    elif count:
        which = "the only GPU" if count == 1 else f"any of {count} GPUs"
        effect = f"{every} costs more than this plan" if planned else f"no number of {which} is enough"
        text = f"{PROJECTED}, not measured: at this demand {effect}, even at the optimistic end"
        none, some = projections.none_up_to, projections.some_above
        if none is not None and some is not None:
            text += f"; the same holds up to {units.rate(none, noun)}. "
            undecided = (
                f"It is {UNDECIDED} up to {units.rate(some, noun)}; above that"
                if some > none
                else "Above that"
            )
            text += f"{undecided}, a GPU costs less even at the pessimistic end"
        yield f"{text}."
    test = shlex.quote(plain(model.partition("[")[0]))
    for note in projections.refusals:
        reason = note.text.removeprefix(f"{REFUSED}: ")
        # Without a hint, there is nothing that would make a projection possible.
        know = note.hint or f"run pytest {test} --infer-devices=cuda on a machine with a GPU"
        yield f"Unknown on {'another' if count else 'a'} GPU, because {reason}; to know, {know}."
    yield from check_sentences(projections.checks)


def check_sentences(checks: Sequence[ProjectionCheck]) -> Iterator[str]:
    """Yield how far a projection of the measured GPU would have been off; nothing without a check."""
    off = sorted(check.measured / check.point for check in checks)
    if off:
        times = " to ".join(dict.fromkeys(units.significant(end, 2) for end in (off[0], off[-1])))
        inside = sum(check.inside for check in checks)
        yield (
            f"A projection of the measured GPU would have been off: its calls take {times} times the middle "
            f"of the interval, and {inside} of {len(off)} are within it."
        )


def _span(low: float, high: float | None, noun: str = "") -> str:
    """Return the demands between two rates in words; without a `noun` in the unit of a table."""
    if high is None:
        return f"above {units.rate(low, noun)}" if low else "at any demand"
    return f"between {units.rate(low, noun)} and {units.rate(high, noun)}"


def price_sentences(limits: PriceLimits | None, noun: str = "requests", *, limited: bool) -> list[str]:
    """Return what prices alone decide between CPU and GPU. `limited` says whether latency has a limit."""
    if limits is None:
        return []
    doubt = ", unverified price" if limits.gpu_unverified else ""
    gpu = f"{limits.gpu} ({usd(limits.gpu_usd_per_hour)} per hour{doubt})"
    within = " within the limit" if limited else ""
    lines = []
    if limits.machines < 1:
        lines.append(
            f"By price: one {limits.cpu} costs more per hour than {gpu}, the cheapest GPU machine of the "
            "price table, so that prices alone exclude no GPU."
        )
    elif limits.rate is not None:
        rate = units.rate(limits.rate, noun)
        enough = "is enough and costs" if limits.machines == 1 else "are enough and cost"
        enough += ", at the assumed price," if limits.assumed else ""
        lines.append(
            f"By price alone, no GPU can be cheaper up to about {rate}: {limits.machines} x {limits.cpu} "
            f"{enough} no more than {gpu}, the cheapest GPU machine of the price table. Above that, this GPU "
            f"can be cheaper only if it serves more than {rate}{within}."
        )
    if limits.faster is not None:
        lines.append(
            f"To meet the limit on {limits.cpu}, a call must become at least "
            f"{times_faster(limits.faster)} times faster{_then(limits)}."
        )
    if limits.gpus and limits.gpu_rate is not None:
        each = "one such GPU machine is" if limits.gpus == 1 else f"{limits.gpus} such GPU machines are"
        share = "it serves" if limits.gpus == 1 else "each serves"
        lines.append(
            f"At this demand, {each} cheaper than CPUs if {share} {units.rate(limits.gpu_rate, noun)}"
            f"{within}."
        )
    return lines

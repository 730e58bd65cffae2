"""What is known of GPUs that were not measured, by prices and by projection, as sentences and tables."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pytest_infergate.core.advice.projected_plans import PROJECTED_DTYPE, PROJECTED_SIZES
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import (
    Advice,
    PriceLimits,
    ProjectedPlan,
    ProjectionCheck,
    Projections,
)
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
    f"{MEASURED}: on the machine that is named; {PROJECTED}: a range from the work of the model and the data "
    f"sheet of the GPU, not measured; {UNDECIDED}: only a measurement decides."
)
"""Meaning of the marks, shown where any result is not measured."""
ONLY_MEASURED: Final = "measure a GPU to know"
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
        "decision",
        "decision",
        lambda plan: UNDECIDED if plan.decision == "undecided" else plan.decision,
        left=True,
    ),
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
    f"{PROJECTED}, not measured: GPUs by price per hour, because a projection does not rank them; in "
    f"{PROJECTED_DTYPE} with batches of {PROJECTED_SIZES[0]} to {PROJECTED_SIZES[-1]}"
)
CHECKED_TITLE: Final = "● measured GPUs, and what would have been ◇ projected for a call"


def projected_tables(answer: Advice) -> Iterator[tuple[str, Sequence[Column[Any]], Sequence[Any]]]:
    """Yield the title, the columns and the rows of each table that is not empty."""
    projections, planned = answer.projections, answer.winner is not None
    if projections.plans:
        compared: Column[ProjectedPlan] = Column(
            "by_demand",
            "compared with measured machines",
            lambda plan: by_demand(plan, planned=planned),
            left=True,
        )
        yield PROJECTED_TITLE, (*PROJECTED_COLUMNS, compared), projections.plans
    if projections.checks:
        yield CHECKED_TITLE, shown_columns(CHECK_COLUMNS, projections.checks), projections.checks


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


def order(plan: ProjectedPlan) -> str:
    """Return how many machines to order, the pessimistic end, and how many may do."""
    low, high, name = plan.instances_low, plan.instances_high, f"{plan.machine} ({plan.dtype})"
    if low is None or high is None or low == high:
        return f"{machine_count(plan)} x {name}"
    return f"at most {high:,} x {name}, at least {low:,},"


def alternatives(plans: Sequence[ProjectedPlan]) -> str:
    """Return how many kinds of GPU are recommended besides the first; empty if there is none."""
    others = len(plans) - 1
    if not others:
        return ""
    return f", or one of {others} other kinds of GPU" if others > 1 else ", or one other kind of GPU"


def projected_text(plans: Sequence[ProjectedPlan]) -> str:
    """Return recommended machines in short, named by the one with the lowest price per hour."""
    others = len(plans) - 1
    more = f", or {units.plural(others, 'other kind')} of GPU" if others else ""
    return f"{machine_count(plans[0])} x {plans[0].machine}{more}"


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


def gpu_words(answer: Advice, noun: str) -> str:
    """Return for which demands a GPU that was not measured is cheaper; empty if there is none to compare."""
    projections, limits = answer.projections, answer.price_limits
    low = max((limits and limits.rate) or 0.0, projections.none_up_to or 0.0)
    high = projections.some_above
    none = f"no GPU is cheaper up to {units.rate(low, noun)}" if low else ""
    if projections.recommended and not high:
        why = (
            "measured machines cost more at every demand"
            if answer.plans
            else "no measured machine meets the limit"
        )
        return f"never: {why} (a measured GPU narrows the range of the cost)"
    if projections.plans and projections.none_up_to is None and not projections.recommended:
        return f"{PROJECTED}: no GPU is cheaper at any demand"
    if projections.plans:
        parts = [none] if none else []
        if high is None or high > low:
            until = (
                f"up to {units.rate(high, noun)}"
                if high is not None
                else "above that"
                if none
                else "at every demand"
            )
            parts.append(f"{until} {ONLY_MEASURED}")
        parts += [] if high is None else ["above that a GPU is cheaper"]
        return f"{PROJECTED}: {', '.join(parts)}"
    measured = any(plan.device != "cpu" for plan in (*answer.plans, answer.nearest) if plan is not None)
    if measured or limits is None:
        return ""
    if none:
        return f"{none}, above that {ONLY_MEASURED}"
    return f"{ONLY_MEASURED} whether one {'is cheaper' if answer.plans else 'meets the limit'}"


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
        effect = effect if planned else f"meet{'s' if one else ''} the limit"
        share = f"{len(sure)} of {units.plural(count, 'GPU')}" if len(sure) < count else every
        yield (
            f"{PROJECTED}, not measured: {share} {effect}, even at the pessimistic end of the projection. To "
            f"confirm it, {confirmation(model, sure)}."
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
    for note in projections.refusals:
        # The text of the note begins with "not projected".
        yield f"{'A GPU is' if count else 'GPUs are'} {note}."
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
        factor = (
            units.significant(limits.faster, 2) if limits.faster < HUNDRED else units.count(limits.faster)
        )
        lines.append(
            f"To meet the limit on {limits.cpu}, a call must become at least "
            f"{factor} times faster; otherwise only another machine can serve "
            "this demand."
        )
    if limits.gpus and limits.gpu_rate is not None:
        each = "one such GPU machine is" if limits.gpus == 1 else f"{limits.gpus} such GPU machines are"
        share = "it serves" if limits.gpus == 1 else "each serves"
        lines.append(
            f"At this demand, {each} cheaper than CPUs if {share} {units.rate(limits.gpu_rate, noun)}"
            f"{within}."
        )
    return lines

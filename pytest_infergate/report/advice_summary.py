"""The answers in short, one row for each model: where it runs, at what cost, and when that changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from pytest_infergate.core.advice.demand import demand_text
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Advice, Plan, ProjectedPlan
from pytest_infergate.core.domain.values import Struct
from pytest_infergate.report import advice, gpu_advice
from pytest_infergate.report.amounts import interval, labelled
from pytest_infergate.report.plan_names import device_text, place, price_label
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import Column

SEPARATE: Final = (
    "The sum is that of separate machines: each machine serves one model. Whether models can share a machine "
    "was not measured."
)
"""Meaning of the sum."""
NO_LIMIT: Final = "no latency limit"


class SummaryRow(Struct, frozen=True, kw_only=True):
    """The answer for one model as text, or the sum over all models."""

    model: str
    demand: str = ""
    limit: str = ""
    """The latency limit, or that there is none."""
    plan: str = ""
    basis: str = ""
    """Whether the plan is measured or projected, by word and shape."""
    usd_per_month: str = units.UNKNOWN
    price: str = ""
    """What is uncertain about the price behind the cost; empty for a known price."""
    usd_per_million: str = units.UNKNOWN
    p95: str = units.UNKNOWN
    """The latency, or ``met`` if only the limit is known to be met."""
    changes: tuple[str, ...] = ()
    """At which demands the answer changes, the nearest first."""
    total: bool = False


SUMMARY_COLUMNS: Final[tuple[Column[SummaryRow], ...]] = (
    Column("model", "model", lambda row: plain(row.model), left=True),
    Column("demand", "demand", lambda row: row.demand, left=True),
    Column("plan", "where to run", lambda row: plain(row.plan), left=True),
    # Where nothing is projected, the mark would say nothing.
    Column(
        "basis",
        "basis",
        lambda row: row.basis,
        left=True,
        shown=lambda rows: any(row.basis not in ("", gpu_advice.MEASURED) for row in rows),
    ),
    Column("usd_per_month", "USD/month", lambda row: labelled(row.usd_per_month, row.price)),
    Column("p95", "p95 latency", lambda row: ": ".join(filter(None, (row.limit, row.p95))), left=True),
    Column("usd_per_million", "USD/million", lambda row: row.usd_per_million),
)
CHANGES: Final[Column[SummaryRow]] = Column(
    "changes", "when that changes", lambda row: plain("; ".join(row.changes)), left=True
)
"""Column for a page that has room for it."""


def summary_rows(answers: Sequence[Advice]) -> list[SummaryRow]:
    """Return one row for each answer, and a total if each of several models has a plan."""
    result = [_summary_row(answer) for answer in answers]
    months = [_months(answer) for answer in answers]
    # Results of several machines may contain two answers for one model, of which only one would be deployed.
    # Two tests whose weights have the same size may measure one model.
    weights = [answer.weights_bytes for answer in answers if answer.weights_bytes]
    distinct = len({answer.model for answer in answers}) == len(answers) and len(set(weights)) == len(weights)
    known = [ends for ends in months if ends is not None]
    if distinct and len(known) == len(answers) > 1:
        lows, highs = zip(*known, strict=True)
        labels = [row.price.partition(" ")[0] for row in result if row.price]
        projected = any(answer.projections.recommended for answer in answers)
        result.append(
            SummaryRow(
                model="sum",
                plan="separate machines for each model",
                basis=f"{gpu_advice.PROJECTED} in part" if projected else "",
                usd_per_month=interval(sum(lows), sum(highs)),
                price=" and ".join(dict.fromkeys(labels)) + " in part" if labels else "",
                usd_per_million="",
                p95="",
                total=True,
            )
        )
    return result


def limit_help(answers: Iterable[Advice]) -> str:
    """Return what it means to have no latency limit, and how to set one; empty if every answer has one."""
    for answer in answers:
        if answer.limit is None and answer.demand.period is None:
            return (
                "No latency limit: the cheapest plan is shown, however long requests wait. To have 95 % of "
                "them answered within 100 ms, for example: infergate advise results.json "
                f"--demand {answer.demand.rate:g}/s --p95-ms 100."
            )
    return ""


def _summary_row(answer: Advice) -> SummaryRow:
    winner, projected = answer.winner, answer.projections.recommended
    row = SummaryRow(
        model=answer.model,
        demand=demand_text(answer.demand).removesuffix(", Poisson"),
        limit=_limit(answer),
        plan="none meets the limit" if answer.nearest is not None else "none serves the demand",
        basis=gpu_advice.basis(
            answer.projections, planned=winner is not None, open_price=advice.price_decides(answer)
        ),
        changes=tuple(_changes(answer)),
    )
    best: Plan | ProjectedPlan | None = projected[0] if projected else winner
    if isinstance(best, ProjectedPlan):
        row = msgspec.structs.replace(
            row,
            plan=f"GPU: {gpu_advice.projected_text(projected)}",
            # A recommended machine meets the limit even at the pessimistic end.
            p95="not projected" if row.limit == NO_LIMIT else "met",
            usd_per_month=interval(best.usd_per_month_low, best.usd_per_month_high),
            usd_per_million=interval(best.usd_per_million_low, best.usd_per_million_high),
            price=price_label(best),
        )
    elif best is not None:
        device = device_text(best)
        row = msgspec.structs.replace(
            row,
            plan=f"{place(best)}: {best.instances} x {'this ' if best.assumed else ''}{best.instance}"
            + (f" ({device})" if device != best.device else ""),
            p95=units.seconds(best.load.p95),
            usd_per_month=units.dollars(best.usd_per_month),
            usd_per_million=units.dollars(best.usd_per_million),
            price=price_label(best),
        )
    return row


def _limit(answer: Advice) -> str:
    if answer.limit is not None:
        return f"limit {units.seconds(answer.limit)}"
    period = answer.demand.period
    return NO_LIMIT if period is None else f"limit {units.seconds(period)} (next frame)"


def _months(answer: Advice) -> tuple[float, float] | None:
    """Return the cost of the plan of an answer, at both ends if it is projected; ``None`` without a plan."""
    for plan in answer.projections.recommended:
        if plan.usd_per_month_low is not None and plan.usd_per_month_high is not None:
            return plan.usd_per_month_low, plan.usd_per_month_high
    return None if answer.winner is None else (answer.winner.usd_per_month, answer.winner.usd_per_month)


def _changes(answer: Advice) -> Iterable[str]:
    """Yield at which demands more machines, another machine or a GPU is needed, or costs less."""
    winner, noun = answer.winner, advice.noun(answer)
    if winner is not None and not answer.projections.recommended:
        if answer.enough is not None:
            enough = "one machine is" if winner.instances == 1 else f"{winner.instances} machines are"
            yield f"{enough} enough up to {units.rate(answer.enough, noun)}"
        following = [crossing for crossing in answer.crossings if crossing.rate >= answer.demand.rate]
        if following:
            yield f"above {units.rate(following[0].rate, noun)} {following[0].above} costs less"
        elif answer.deployments[1:] and answer.costs:
            last = units.rate(answer.costs[-1].rate, noun)
            yield f"no other measured machine costs less up to {last}"
    elif winner is None and answer.binding is not None and not answer.projections.plans:
        yield answer.binding.hint
    if text := gpu_advice.gpu_words(answer, noun):
        yield text


def change_lines(rows: Iterable[SummaryRow]) -> list[str]:
    """Return at which demands the answer of each model changes, for a page without room for a column."""
    return [plain(f"{row.model}: {'; '.join(row.changes)}") for row in rows if row.changes]


def explanations(answers: Sequence[Advice], rows: Iterable[SummaryRow]) -> list[str]:
    """Return the sentences below the table: marks, limits and the sum, as far as it has them."""
    legend = (
        gpu_advice.LEGEND
        if any(each.projections.plans or each.projections.checks for each in answers)
        else ""
    )
    return [
        line
        for line in (legend, limit_help(answers), SEPARATE if any(row.total for row in rows) else "")
        if line
    ]

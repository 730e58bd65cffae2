"""The answers in short, one row for each model: where it runs, at what cost, and when that changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from pytest_infergate.core.advice.demand import demand_text
from pytest_infergate.core.advice.deployments import model_name
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Advice
from pytest_infergate.core.domain.outcome import Session
from pytest_infergate.core.domain.values import Struct
from pytest_infergate.report import advice, gpu_advice
from pytest_infergate.report.amounts import interval, labelled
from pytest_infergate.report.gpu_advice import amount, noun
from pytest_infergate.report.latency_promises import p95_text
from pytest_infergate.report.plan_names import dated_label, device_text, machine_at_hand, place, priced_like
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import Column

COSTS: Final = "Costs are for 730 hours per month on demand, without a spare machine"
SEPARATE: Final = f"{COSTS}; models that share a machine were not measured."
"""Meaning of the sum."""
NO_LIMIT: Final = "no latency limit"
MANY: Final = 3
"""Number of tests from which on they are counted."""


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
    """The latency, or that it is projected to meet the limit."""
    noun: str = ""
    """What the cost per million is about: requests, or frames."""
    late: str = ""
    """By how much the measured machines miss the limit; empty if they meet it."""
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
    Column("usd_per_million", "USD/million", lambda row: labelled(row.usd_per_million, row.noun)),
)
CHANGES: Final[Column[SummaryRow]] = Column(
    "changes",
    "when that changes",
    lambda row: plain("; ".join(filter(None, (row.late, *row.changes)))),
    left=True,
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
        uncertain = (row.price.partition(" ")[0] for row in result)
        labels = [label for label in uncertain if label in ("assumed", "unverified")]
        projected = any(answer.projections.recommended for answer in answers)
        result.append(
            SummaryRow(
                model="sum",
                plan="separate machines for each model",
                basis=f"{gpu_advice.PROJECTED} in part" if projected else "",
                usd_per_month=interval(*map(sum, zip(*known, strict=True))),
                price=" and ".join(dict.fromkeys(labels)) + " in part" if labels else "",
                usd_per_million="",
                p95="",
                total=True,
            )
        )
    return result


def _summary_row(answer: Advice) -> SummaryRow:
    winner = answer.winner
    row = SummaryRow(
        model=answer.model,
        demand=demand_text(answer.demand).removesuffix(", Poisson"),
        limit=_limit(answer),
        late=gpu_advice.cpu_too_slow(answer),
        plan="none meets the limit" if answer.nearest is not None else "none serves the demand",
        basis=gpu_advice.basis(
            answer.projections, planned=winner is not None, open_price=advice.price_decides(answer)
        ),
        changes=tuple(_changes(answer)),
    )
    bound, lowest = answer.projections.bound, answer.projections.lowest
    if bound is not None and lowest is not None:
        row = msgspec.structs.replace(
            row,
            plan=f"GPU: {gpu_advice.projected_text(answer.projections)}",
            # A recommended machine meets the limit even at the pessimistic end.
            p95="not projected" if row.limit == NO_LIMIT else "projected to be met",
            usd_per_month=interval(*gpu_advice.projected_costs(answer.projections)),
            noun=noun(answer),
            usd_per_million=interval(lowest.usd_per_million_low, bound.usd_per_million_high),
            price=dated_label(bound),
        )
    elif winner is not None:
        device = device_text(winner)
        here = f"{machine_at_hand(winner)}, {priced_like(winner)}" if winner.assumed else winner.instance
        row = msgspec.structs.replace(
            row,
            plan=f"{place(winner)}: {winner.instances} x {here}"
            + (f" ({device})" if device != winner.device else ""),
            p95=f"{p95_text(winner)}, simulated",
            usd_per_month=units.dollars(winner.usd_per_month),
            noun=noun(answer),
            usd_per_million=units.dollars(winner.usd_per_million),
            price=dated_label(winner),
        )
    return row


def _limit(answer: Advice) -> str:
    if answer.limit is not None:
        return f"limit {units.seconds(answer.limit)}"
    period = answer.demand.period
    return NO_LIMIT if period is None else f"limit {units.seconds(period)} (next frame)"


def _months(answer: Advice) -> tuple[float, float] | None:
    """Return the cost of the plan of an answer, at both ends if it is projected; ``None`` without a plan."""
    low, high = gpu_advice.projected_costs(answer.projections)
    if low is not None and high is not None:
        return low, high
    return None if answer.winner is None else (answer.winner.usd_per_month, answer.winner.usd_per_month)


def _changes(answer: Advice) -> Iterable[str]:
    """Yield at which demands more machines, another machine or a GPU is needed, or costs less."""
    winner = answer.winner
    if winner is not None and not answer.projections.recommended:
        if answer.enough is not None:
            enough = "one machine is" if winner.instances == 1 else f"{winner.instances} machines are"
            served, times = amount(answer, answer.enough), answer.enough / answer.demand.rate
            yield f"{enough} enough up to {served}, {units.significant(times, 2)} times the demand"
        following = [crossing for crossing in answer.crossings if crossing.rate >= answer.demand.rate]
        if following:
            yield f"above {amount(answer, following[0].rate)} {following[0].above} costs less"
        elif answer.deployments[1:] and answer.costs:
            last = amount(answer, answer.costs[-1].rate)
            yield f"no other measured machine costs less up to {last}"
    elif winner is None and answer.binding is not None and not answer.projections.plans:
        yield answer.binding.hint
    yield from gpu_advice.gpu_changes(answer)


def change_lines(rows: Iterable[SummaryRow]) -> list[str]:
    """Return at which demands the answer of each model changes, for a page without room for a column."""
    return [f"{plain(row.model)}: {changes}" for row in rows if (changes := CHANGES.cell(row))]


def key(answers: Sequence[Advice]) -> str:
    """Return the meaning of the marks; empty where nothing is projected."""
    shown = any(each.projections.plans or each.projections.checks for each in answers)
    return gpu_advice.LEGEND if shown else ""


def short_answer(answers: Sequence[Advice], rows: Sequence[SummaryRow]) -> str:
    """Return where the models run and what all of them cost, as one line; empty without an answer."""
    counts: Counter[str] = Counter()
    for answer in answers:
        where = "without a plan"
        if advice.price_decides(answer):
            where = gpu_advice.UNDECIDED
        elif answer.projections.recommended:
            where = f"on a GPU ({gpu_advice.PROJECTED})"
        elif answer.winner is not None:
            here = "this" if answer.winner.assumed else "a"
            where = f"on {here} {place(answer.winner)} ({gpu_advice.MEASURED})"
        counts[where] += 1
    if not answers:
        return ""
    parts = [
        f"{units.plural(count, 'model') if not index else count} {where}"
        for index, (where, count) in enumerate(counts.most_common())
    ]
    # The last row is the sum, or that of the only model.
    summed = len(rows) == 1 or rows[-1].total
    known = summed and rows[-1].usd_per_month != units.UNKNOWN
    return plain(", ".join(parts)) + (f": {rows[-1].usd_per_month} USD per month" if known else "")


def explanations(
    answers: Sequence[Advice], rows: Iterable[SummaryRow], silent: Sequence[str] = ()
) -> list[str]:
    """Return the sentences below the table: latencies, costs, and the `silent` tests, without a demand."""
    rows = list(rows)
    priced = any(row.usd_per_month != units.UNKNOWN for row in rows)
    lines = [
        advice.SIMULATED if any(answer.plans for answer in answers) else "",
        SEPARATE if rows[1:] else f"{COSTS}.",
    ]
    if silent:
        some = " and ".join(silent) if len(silent) < MANY else f"{silent[0]} and {len(silent) - 1} more"
        states = "state" if silent[1:] else "states"
        lines.append(f'{some} {states} no demand, so that there is no row: add demand="5/s" to the marker.')
    return [plain(line) for line in lines if line and (priced or line not in (SEPARATE, f"{COSTS}."))]


def limit_lines(answers: Iterable[Advice], results: str = "results.json") -> list[str]:
    """Return how to set a latency limit, for the first model without one."""
    texts = ((each.model, advice.limit_help(each, results)) for each in answers)
    return [plain(f"{model}: {text}") for model, text in texts if text][:1]


def without_demand(session: Session) -> list[str]:
    """Return the names of the measured tests of a session that state no demand, although others do."""
    given = session.advice
    if given is None or not given.answers:
        return []
    asked = {*(answer.model for answer in given.answers), *given.unanswered}
    measured = (result.case for result in session.cases if result.measurement is not None)
    silent = (case for case in measured if model_name(case) not in asked)
    return list(dict.fromkeys(case.test.rpartition("::")[2] for case in silent))

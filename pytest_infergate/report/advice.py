"""Advice as sentences, and the columns of its tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from pytest_infergate.core.advice import demand as demands
from pytest_infergate.core.advice.deployments import deployment_text
from pytest_infergate.core.advice.planning import TIE
from pytest_infergate.core.advice.recommendation import Job
from pytest_infergate.core.advice.sizing import MAX_ERROR
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import (
    Advice,
    DemandTable,
    Electricity,
    Plan,
    PriceLimits,
    QueueLoad,
    Recommendations,
)
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note, Struct
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import Column

HUNDRED: Final = 100
"""Factor from which on a speed-up is written with a separator of thousands."""
ASSUMPTIONS: Final = (
    "p95 includes the time that requests wait, which is simulated from the measured service times.",
    (
        "The p95 of a real server was a sixth longer than predicted at 30 and 50 % load, and three times as "
        "long at 70 %: plan a margin."
    ),
    (
        "A request is one item of a batch. Network time, pre-processing and post-processing are included "
        "only if the measured callable includes them."
    ),
    "Each machine serves one model. A fixed number of machines is paid for 730 hours per month.",
    "“Used” is the share of the throughput with full batches. “With spare” includes one additional machine.",
    "Plans for a demand use on-demand prices only, because spot machines can be reclaimed.",
    "Prices are those of the machines alone: storage, network egress, load balancers and taxes are excluded.",
)
"""Assumptions behind every answer."""


class SummaryRow(Struct, frozen=True, kw_only=True):
    """The best plan of one model as text, or the sum over all models."""

    model: str
    plan: str = ""
    demand: str = ""
    p95: str = units.UNKNOWN
    usd_per_month: str = units.UNKNOWN
    usd_per_million: str = units.UNKNOWN
    enough: str = units.UNKNOWN
    """Demand up to which the machines of the plan are sufficient."""
    cheapest: str = units.UNKNOWN
    """Demand up to which no other plan costs less; unknown if there is no other."""
    no_gpu: str = units.UNKNOWN
    """Demand up to which prices alone exclude that a GPU is cheaper."""
    total: bool = False


def _known(field: str) -> Callable[[Iterable[SummaryRow]], bool]:
    """Return whether a column has any figure."""
    return lambda rows: any(getattr(row, field) not in ("", units.UNKNOWN) for row in rows)


SUMMARY_COLUMNS: Final[tuple[Column[SummaryRow], ...]] = (
    Column("model", "model", lambda row: plain(row.model), left=True),
    Column("plan", "plan", lambda row: plain(row.plan), left=True),
    Column("demand", "demand", lambda row: row.demand),
    Column("p95", "p95", lambda row: row.p95),
    Column("usd_per_month", "USD/month", lambda row: row.usd_per_month),
    Column("usd_per_million", "USD/million", lambda row: row.usd_per_million),
    Column("enough", "serves up to", lambda row: row.enough),
    Column("no_gpu", "no GPU cheaper up to", lambda row: row.no_gpu, shown=_known("no_gpu")),
    Column("cheapest", "cheapest up to", lambda row: row.cheapest, shown=_known("cheapest")),
)
PLAN_COLUMNS: Final[tuple[Column[Plan], ...]] = (
    Column("plan", "plan", lambda plan: plain(plan.text), left=True),
    Column("device", "device", lambda plan: plain(_device(plan)), left=True),
    Column("batch", "batch", lambda plan: str(plan.max_batch)),
    Column("wait", "wait", lambda plan: units.seconds(plan.max_wait)),
    Column("p95", "p95", lambda plan: units.seconds(plan.load.p95)),
    Column("used", "used", lambda plan: _used(plan.load)),
    Column("usd_per_month", "USD/month", lambda plan: month(plan.usd_per_month, plan.assumed)),
    Column("with_spare", "with spare", lambda plan: units.dollars(plan.usd_per_month_with_spare)),
    Column("usd_per_million", "USD/million", lambda plan: units.dollars(plan.usd_per_million)),
    Column(
        "scaled",
        "USD/month scaled",
        lambda plan: units.UNKNOWN if plan.scaled is None else units.dollars(plan.scaled.usd_per_month),
        shown=lambda plans: any(plan.scaled is not None for plan in plans),
    ),
)
JOB_COLUMNS: Final[tuple[Column[Job], ...]] = (
    Column("instance", "instance", lambda job: plain(job.instance), left=True),
    Column("device", "device", lambda job: plain(_device(job)), left=True),
    Column("batch", "batch", lambda job: str(job.max_batch)),
    Column("machine_hours", "machine-hours", lambda job: units.significant(job.machine_hours)),
    Column("instances", "machines", lambda job: str(job.instances)),
    Column("usd", "USD", lambda job: month(job.usd, job.assumed)),
    Column("usd_on_spot", "USD on spot", lambda job: units.dollars(job.usd_on_spot)),
)


MAX_CROSSINGS: Final = 3
"""Number of changes of the cheapest deployment up to which all are listed."""


class StepRow(Struct, frozen=True, kw_only=True):
    """One demand of a table of demands, and the best plan of one model for it."""

    model: str
    rate: float
    plan: Plan | None


STEP_COLUMNS: Final[tuple[Column[StepRow], ...]] = (
    Column("model", "model", lambda row: plain(row.model), left=True),
    Column("demand", "demand", lambda row: units.rate(row.rate)),
    Column(
        "plan",
        "plan",
        lambda row: plain(f"{row.plan.text} ({_device(row.plan)})") if row.plan else "none meets the limit",
        left=True,
    ),
    Column("batch", "batch", lambda row: str(row.plan.max_batch) if row.plan else units.UNKNOWN),
    Column("p95", "p95", lambda row: units.seconds(row.plan.load.p95 if row.plan else None)),
    Column(
        "usd_per_month",
        "USD/month",
        lambda row: month(row.plan.usd_per_month, row.plan.assumed) if row.plan else units.UNKNOWN,
    ),
    Column(
        "usd_per_million",
        "USD/million",
        lambda row: units.dollars(row.plan.usd_per_million if row.plan else None),
    ),
)


def step_rows(tables: Iterable[DemandTable]) -> list[StepRow]:
    """Return one row for each model and demand."""
    return [
        StepRow(model=table.model, rate=step.rate, plan=step.plan) for table in tables for step in table.steps
    ]


def decided_by_price(given: Recommendations) -> list[str]:
    """Return what prices alone decide, for each model."""
    lines = [
        (table.model, price_sentences(table.price_limits, limited=table.limit is not None))
        for table in given.tables
    ]
    lines += [
        (answer.model, price_sentences(answer.price_limits, _noun(answer), limited=_limited(answer)))
        for answer in given.answers
    ]
    return [plain(f"{model}: {line}") for model, sentences in lines for line in sentences]


def table_prices(tables: Iterable[DemandTable]) -> list[str]:
    """Return the prices of the plans of a table, each once."""
    return list(
        dict.fromkeys(price(step.plan) for table in tables for step in table.steps if step.plan is not None)
    )


def table_question(tables: Sequence[DemandTable]) -> str:
    """Describe the conditions that the plans of a table meet."""
    limit = "" if tables[0].limit is None else f", 95 % within {units.seconds(tables[0].limit)}"
    utilisation = units.percent(tables[0].utilisation, signed=False, decimals=0)
    return f"Poisson arrivals{limit}, utilisation of each machine at most {utilisation}"


def table_remarks(tables: Iterable[DemandTable]) -> list[str]:
    """Return the notes of a table, each once."""
    return list(dict.fromkeys(plain(str(note)) for table in tables for note in table.notes))


def headline(answers: Sequence[Advice], tables: Sequence[DemandTable] = ()) -> str:
    """Return the heading of a page of advice."""
    if len(answers) == 1:
        return verdict(answers[0])
    return f"Where to run {units.plural(len(answers) + len(tables), 'model')}"


def summary_rows(answers: Sequence[Advice]) -> list[SummaryRow]:
    """Return one row for each answer, and a total if each of several models has a plan."""
    result = []
    for answer in answers:
        plan, demand = answer.winner, units.rate(answer.demand.rate)
        if plan is None:
            none = "none meets the limit" if answer.nearest is not None else "none serves the demand"
            no_gpu = _no_gpu_up_to(answer.price_limits)
            result.append(SummaryRow(model=answer.model, plan=none, demand=demand, no_gpu=no_gpu))
            continue
        result.append(
            SummaryRow(
                model=answer.model,
                plan=f"{plan.text} ({_device(plan)})",
                demand=demand,
                p95=units.seconds(plan.load.p95),
                usd_per_month=month(plan.usd_per_month, plan.assumed),
                usd_per_million=units.dollars(plan.usd_per_million),
                enough=_beyond(answer) if answer.enough is None else units.rate(answer.enough),
                cheapest=_cheapest_up_to(answer),
                no_gpu=_no_gpu_up_to(answer.price_limits),
            )
        )
    winners = [answer.winner for answer in answers if answer.winner is not None]
    # Results of several machines may contain two answers for one model, of which only one would be deployed.
    # Two tests whose weights have the same size may measure one model.
    weights = [answer.weights_bytes for answer in answers if answer.weights_bytes]
    distinct = len({answer.model for answer in answers}) == len(answers) and len(set(weights)) == len(weights)
    if distinct and len(winners) == len(answers) > 1:
        empty = dict.fromkeys(("p95", "usd_per_million", "enough", "cheapest", "no_gpu"), "")
        total = sum(plan.usd_per_month for plan in winners)
        all_months = month(total, any(plan.assumed for plan in winners))
        result.append(SummaryRow(model="all", usd_per_month=all_months, total=True, **empty))
    return result


def _beyond(answer: Advice) -> str:
    """Return the largest demand of the sweep as a lower bound: costs are not known beyond it."""
    return f"> {units.rate(answer.costs[-1].rate)}" if answer.costs else units.UNKNOWN


def _cheapest_up_to(answer: Advice) -> str:
    """Return the demand up to which no other plan costs less; unknown without any other deployment."""
    if len(answer.deployments) == 1:
        return units.UNKNOWN
    return _beyond(answer) if answer.cheapest_up_to is None else units.rate(answer.cheapest_up_to)


def _no_gpu_up_to(limits: PriceLimits | None) -> str:
    return units.UNKNOWN if limits is None else units.rate(limits.rate)


def shared(answers: Sequence[Advice]) -> list[str]:
    """Return the remarks that several answers have in common; empty for a single answer."""
    first, *others = map(remarks, answers) if answers[1:] else [[]]
    return [line for line in first if all(line in other for other in others)]


def assumed_prices(answers: Iterable[Advice]) -> list[str]:
    """Return the labels of the assumed prices of all answers, each once, with the line that replaces it."""
    notes = (note for answer in answers for note in answer.notes if note.code == NoteCode.ASSUMED_PRICE)
    return list(dict.fromkeys(plain(str(note)) for note in notes))


def questions(unanswered: Mapping[str, Sequence[Note]]) -> list[str]:
    """List why models have no advice: each reason once, with its models."""
    models: dict[str, list[str]] = {}
    for model, notes in unanswered.items():
        for note in notes:
            models.setdefault(plain(str(note)), []).append(plain(model))
    return [
        f"{f'{names[0]} and {len(names) - 1} more' if names[1:] else names[0]}: {text}"
        for text, names in models.items()
    ]


def question(answer: Advice) -> str:
    """Describe the demand and the limits of an answer."""
    limit = "" if answer.limit is None else f", 95 % within {units.seconds(answer.limit)}"
    return (
        f"{demands.demand_text(answer.demand)}{limit}, utilisation of each machine at most "
        f"{units.percent(answer.utilisation, signed=False, decimals=0)}"
    )


def verdict(answer: Advice) -> str:
    """Return the recommendation as one sentence."""
    winner = answer.winner
    if winner is None:
        return "No plan meets the limit." if answer.binding is None else f"{_sentence(answer.binding.text)}."
    return (
        f"Run it on {winner.text} ({_device(winner)}): {usd(winner.usd_per_month)} per month"
        f"{' (assumed price)' if winner.assumed else ''}, {usd(winner.usd_per_million)} per million "
        f"{_noun(answer)}."
    )


def _limited(answer: Advice) -> bool:
    """Return whether answers have a limit; frames must be answered before the next one."""
    return answer.limit is not None or answer.demand.pattern == "periodic"


def _noun(answer: Advice) -> str:
    return "frames" if answer.demand.pattern == "periodic" else "requests"


def findings(answer: Advice) -> list[str]:
    """Return the sentences below the verdict: latency, alternatives, sensitivities, first call, energy."""
    winner = answer.winner
    lines = price_sentences(answer.price_limits, _noun(answer), limited=_limited(answer))
    if winner is None:
        return lines if answer.binding is None else [*lines, f"Hint: {answer.binding.hint}."]
    lines.append(_speed(winner, answer))
    if winner.streams_per_instance is not None:
        lines.append(_streams(winner, winner.streams_per_instance))
    if answer.runner_up is not None and answer.saving is not None:
        other = answer.runner_up
        more = f"the same cost, with a p95 of {units.seconds(other.load.p95)}"
        # Within a tie, plans cost the same for practical purposes, and p95 decided.
        if answer.saving > TIE * winner.usd_per_month:
            more = f"{usd(answer.saving)} more"
        lines.append(
            f"Runner-up: {other.text} ({_device(other)}), {usd(other.usd_per_month)} per month: {more}."
        )
    if answer.enough is not None:
        serves = "serves" if winner.instances == 1 else "serve"
        lines.append(f"{winner.text} {serves} up to about {units.rate(answer.enough, _noun(answer))}.")
    # Deployments without a plan are named, so that they do not seem to be forgotten.
    served = {plan.deployment for plan in answer.plans}
    late = [deployment for deployment in answer.deployments if deployment not in served]
    if late:
        goal = "serve this demand" if answer.limit is None else "meet the latency limit"
        lines.append(f"Cannot {goal} at any scale: {', '.join(late)}.")
    lines += _changes(answer, winner)
    if winner.cold_start is not None:
        weights = winner.weights_bytes
        before = "" if weights is None else f" after its {units.bytes_(weights)} of weights are loaded"
        lines.append(f"The first call in a new process takes {units.seconds(winner.cold_start)}{before}.")
    if winner.electricity is not None:
        lines.append(_electricity(winner.electricity))
    elif any(plan.electricity is not None for plan in answer.considered):
        lines.append("The energy of this plan is unknown: energy was only measured with a single worker.")
    return lines


def price_sentences(limits: PriceLimits | None, noun: str = "requests", *, limited: bool) -> list[str]:
    """Return what prices alone decide between CPU and GPU. `limited` says whether latency has a limit."""
    if limits is None:
        return []
    gpu = f"{limits.gpu} ({usd(limits.gpu_usd_per_hour)} per hour)"
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


def _streams(winner: Plan, streams: int) -> str:
    if streams:
        return f"One {winner.instance} alone serves up to {units.plural(streams, 'such stream')}."
    spread = "" if winner.instances == 1 else "; its frames must be spread over several machines"
    return f"One {winner.instance} alone cannot serve a whole stream of this kind{spread}."


def _changes(answer: Advice, winner: Plan) -> Iterable[str]:
    """Yield the cheapest plan for another demand, scaled hourly, and under other assumptions."""
    high = units.rate(answer.costs[-1].rate) if answer.costs else units.UNKNOWN
    if len(answer.crossings) > MAX_CROSSINGS:
        # Costs are steps, so that two deployments that cost about the same take turns.
        low, end = answer.cheapest_from, answer.cheapest_up_to
        until = high if end is None else units.rate(end, _noun(answer))
        last, span = answer.crossings[-1], f"between {units.rate(low)} and" if low else "up to"
        yield (
            f"{_sentence(span)} {until} {winner.deployment} costs least. The cheapest deployment changes "
            f"{len(answer.crossings)} times up to {units.rate(last.rate)}; from there to {high} it is "
            f"{last.above}."
        )
    elif answer.crossings:
        parts: list[str] = []
        for crossing in answer.crossings:
            costs = "" if parts else " costs least"
            parts.append(f"up to {units.rate(crossing.rate, _noun(answer))} {crossing.below}{costs}")
        yield _sentence(", ".join(parts)) + f", from there to {high} {answer.crossings[-1].above}."
    elif len(answer.deployments) > 1 and answer.costs:
        yield f"No other deployment costs less up to {high}."
    plan = answer.scaled_winner
    if plan is not None and plan.scaled is not None:
        few, many = min(plan.scaled.instances), max(plan.scaled.instances)
        name = f"{few} to {many} x {plan.instance}" if few < many else plan.text
        yield (
            f"Scaled hourly, {name} ({_device(plan)}) costs least: {usd(plan.scaled.usd_per_month)} per "
            f"month, with machines ordered {units.duration(answer.scale_up)} in advance."
        )
    for item in answer.sensitivities:
        outcome = f"{item.winner} would cost least"
        if item.winner is None:
            outcome = "no plan meets the limit"
        elif item.winner == winner.deployment:
            outcome = "it still costs least"
        yield f"With {item.assumption}, {outcome}."


def _speed(winner: Plan, answer: Advice) -> str:
    load = winner.load
    limit = "" if answer.limit is None else f" (limit {units.seconds(answer.limit)})"
    # Only a frame can be too late: requests of other demands have no deadline of their own.
    periodic = answer.demand.pattern == "periodic" and load.missed is not None
    late = "later than the next frame" if answer.limit is None else "later than the limit"
    missed = f", {units.percent(load.missed, signed=False)} of frames {late}" if periodic else ""
    wait = "" if not winner.max_wait else f", which wait up to {units.seconds(winner.max_wait)} for requests"
    note = " Some service times are interpolated between measured batch sizes." if load.interpolated else ""
    if load.p95_error is not None and load.p95_error > MAX_ERROR:
        error = units.percent(load.p95_error, signed=False, decimals=0)
        note += f" The simulation of p95 has a standard error of {error}."
    return (
        f"p95 {units.seconds(load.p95)}{limit}{missed}; batches of at most {winner.max_batch}{wait}; "
        f"{_used(load)} of the capacity used, busy "
        f"{units.percent(load.utilisation, signed=False, decimals=0)} of the time.{note}"
    )


def _used(load: QueueLoad) -> str:
    """Format the used share of the throughput with full batches; small batches keep a machine busier."""
    return units.percent(load.offered, signed=False, decimals=0)


def _electricity(electricity: Electricity) -> str:
    source = (
        "estimated from the class of the processor"
        if electricity.source == "estimate"
        else f"measured by {electricity.source} for the {electricity.scope} only"
    )
    return (
        f"Energy, including idle time: {units.joules(electricity.joules_per_item)} per item, "
        f"{units.significant(electricity.kwh_per_month)} kWh per month, "
        f"{units.grams(electricity.grams_co2e_per_month)} CO2e at {electricity.basis}; {source}. "
        "The price of a rented machine includes electricity, and the price of your own machine should."
    )


def remarks(answer: Advice, excluded: Collection[str] = ()) -> list[str]:
    """Return suggested measurements and notes, without those in `excluded`."""
    # The label of an assumed price comes first.
    notes = sorted((*answer.actions, *answer.notes), key=lambda note: note.code != NoteCode.ASSUMED_PRICE)
    lines = dict.fromkeys(plain(str(note)) for note in notes)
    return [line for line in lines if line not in excluded]


def month(value: float, assumed: str | bool) -> str:
    """Format an amount for a column, with a label if it is based on an assumed price."""
    return f"{units.dollars(value)} assumed" if assumed else units.dollars(value)


def usd(value: float) -> str:
    """Format an amount: ``1,234 USD``, ``12.3 USD``."""
    return f"{units.dollars(value)} USD"


def price(plan: Plan) -> str:
    """Format the price of a plan: ``g6.xlarge 0.805 USD per hour: aws/g6.xlarge in us-east-1, on demand``."""
    assumed = f"assumed, {plan.assumed}; " if plan.assumed else ""
    return f"{plan.instance} {usd(plan.usd_per_hour)} per hour: {assumed}{plan.price}"


def _device(plan: Plan | Job) -> str:
    return deployment_text(plan.device, plan.runtime, plan.dtype, plan.threads, plan.workers)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]

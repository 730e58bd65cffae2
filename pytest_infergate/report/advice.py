"""Advice as sentences, and the columns of its tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from pytest_infergate.core.advice import demand as demands
from pytest_infergate.core.advice.planning import TIE
from pytest_infergate.core.advice.recommendation import Job
from pytest_infergate.core.advice.sizing import MAX_ERROR
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import (
    Advice,
    DemandTable,
    Electricity,
    Plan,
    QueueLoad,
    Recommendations,
)
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.report import gpu_advice
from pytest_infergate.report.amounts import labelled, usd
from pytest_infergate.report.gpu_advice import amount, noun, sentence
from pytest_infergate.report.latency_promises import p95_text, sampled_text
from pytest_infergate.report.plan_names import device_text, plan_text, price_label
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import Column

SIMULATED: Final = (
    "The p95 of a plan is simulated from measured calls, waiting included; “slow” allows for calls that "
    "are slower in another process or at another moment, and a limit is held against it."
)
ASSUMPTIONS: Final = (
    SIMULATED,
    (
        "A request is one item of a batch. Network time, pre-processing and post-processing are included "
        "only if the measured callable includes them."
    ),
    "Each machine serves one model. A fixed number of machines is paid for 730 hours per month.",
    (
        "“Used” is the share of the throughput with full batches at the demand. “Serves up to” keeps it "
        "within the utilisation limit, and p95 within its limit."
    ),
    "Plans for a demand use on-demand prices only, because spot machines can be reclaimed.",
    "Prices are those of the machines alone: storage, network egress, load balancers and taxes are excluded.",
)
"""Assumptions behind every answer."""


PLAN_COLUMNS: Final[tuple[Column[Plan], ...]] = (
    Column("plan", "plan", lambda plan: plain(plan.text), left=True),
    Column("device", "device", lambda plan: plain(device_text(plan)), left=True),
    Column("batch", "batch", lambda plan: str(plan.max_batch)),
    Column("wait", "wait", lambda plan: units.seconds(plan.max_wait)),
    Column("p95", "p95, simulated", p95_text),
    Column("used", "used", lambda plan: _used(plan.load)),
    Column(
        "usd_per_month",
        "USD/month",
        lambda plan: labelled(units.dollars(plan.usd_per_month), price_label(plan)),
    ),
    Column("with_spare", "USD/month with a spare", lambda plan: units.dollars(plan.usd_per_month_with_spare)),
    Column("usd_per_million", "USD/million items", lambda plan: units.dollars(plan.usd_per_million)),
    Column(
        "scaled",
        "USD/month scaled",
        lambda plan: units.UNKNOWN if plan.scaled is None else units.dollars(plan.scaled.usd_per_month),
        shown=lambda plans: any(plan.scaled is not None for plan in plans),
    ),
)
JOB_COLUMNS: Final[tuple[Column[Job], ...]] = (
    Column("instance", "instance", lambda job: plain(job.instance), left=True),
    Column("device", "device", lambda job: plain(device_text(job)), left=True),
    Column("batch", "batch", lambda job: str(job.max_batch)),
    Column("machine_hours", "machine-hours", lambda job: units.significant(job.machine_hours)),
    Column("instances", "machines", lambda job: str(job.instances)),
    Column("usd", "USD", lambda job: labelled(units.dollars(job.usd), price_label(job))),
    Column("usd_on_spot", "USD on spot", lambda job: units.dollars(job.usd_on_spot)),
)


def assumptions(said: Collection[str] = ()) -> list[str]:
    """Return the assumptions behind every answer, without the sentences that were `said`."""
    return [line for line in ASSUMPTIONS if line not in said]


MAX_CROSSINGS: Final = 3
"""Number of changes of the cheapest deployment up to which all are listed."""


def decided_by_price(given: Recommendations) -> list[str]:
    """Return what prices alone decide, for each model."""
    lines = [
        (table.model, gpu_advice.price_sentences(table.price_limits, limited=table.limit is not None))
        for table in given.tables
    ]
    lines += [
        (
            answer.model,
            gpu_advice.price_sentences(answer.price_limits, noun(answer), limited=_limited(answer)),
        )
        for answer in given.answers
    ]
    return [plain(f"{model}: {line}") for model, sentences in lines for line in sentences]


def decided_by_projection(given: Recommendations) -> list[str]:
    """Return what projections decide, or why they do not, for each model."""
    lines = [(answer.model, _projected_sentences(answer)) for answer in given.answers]
    lines += [
        (table.model, gpu_advice.projected_sentences(table.model, table.projections, planned=True))
        for table in given.tables
    ]
    return [plain(f"{model}: {line}") for model, sentences in lines for line in sentences]


def projects(given: Recommendations) -> bool:
    """Return whether any figure of an advice is projected, so that the marks need a legend."""
    steps = (step.projections for table in given.tables for step in table.steps)
    return any(
        each.plans or each.checks for each in (*(answer.projections for answer in given.answers), *steps)
    )


def _projected_sentences(answer: Advice) -> Iterable[str]:
    return gpu_advice.projected_sentences(
        answer.model, answer.projections, noun(answer), planned=answer.winner is not None
    )


def headline(answers: Sequence[Advice], tables: Sequence[DemandTable] = ()) -> str:
    """Return the heading of a page of advice."""
    if len(answers) == 1:
        return verdict(answers[0])
    return f"Where to run {units.plural(len(answers) + len(tables), 'model')}"


def price_decides(answer: Advice) -> bool:
    """Return whether the best plan depends on a price that is assumed from a wide range."""
    return answer.price_range is not None and answer.price_range.decides


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
    limit, period = ", no latency limit", answer.demand.period
    if answer.limit is not None:
        limit = f", 95 % within {units.seconds(answer.limit)}"
    elif period is not None:
        limit = f", 99 % before the next frame within {units.seconds(period)}"
    return (
        f"{demands.demand_text(answer.demand)}{limit}, utilisation of each machine at most "
        f"{units.percent(answer.utilisation, signed=False, decimals=0)}"
    )


def verdict(answer: Advice) -> str:
    """Return the recommendation as one sentence."""
    winner, bound = answer.winner, answer.projections.bound
    if bound is not None:
        return gpu_advice.projected_verdict(answer, bound)
    unsure = answer.price_range
    if unsure is not None and price_decides(answer):
        ends = [usd(unsure.low), usd(unsure.high)]
        return (
            f"{gpu_advice.UNDECIDED} until the price of {unsure.machine} is known: "
            f"{unsure.cheapest_at_low} costs least if it is {ends[0]} per hour, "
            f"{unsure.cheapest_at_high} if it is {ends[1]}."
        )
    if winner is None and answer.projections.undecided:
        return "No measured plan meets the limit; only a measurement on a GPU decides whether one does."
    if winner is None:
        text = "No plan meets the limit" if answer.binding is None else answer.binding.text
        return f"{sentence(text)}."
    cost = labelled(f"{usd(winner.usd_per_month)} per month", price_label(winner))
    return f"Run it on {plan_text(winner)}: {cost}, {usd(winner.usd_per_million)} per million {noun(answer)}."


def _limited(answer: Advice) -> bool:
    """Return whether answers have a limit; frames must be answered before the next one."""
    return answer.limit is not None or answer.demand.pattern == "periodic"


def findings(answer: Advice, results: str = "results.json") -> list[str]:
    """Return the sentences below the verdict: latency, alternatives, sensitivities, first call, energy.

    `results` is the results file as an argument of a shell.
    """
    winner = answer.winner
    lines = gpu_advice.price_sentences(answer.price_limits, noun(answer), limited=_limited(answer))
    lines += _projected_sentences(answer)
    if winner is None:
        return lines if answer.binding is None else [*_unserved(answer, answer.binding), *lines]
    if answer.projections.recommended:
        cost = labelled(f"{usd(winner.usd_per_month)} per month", price_label(winner))
        lines.append(f"The best measured plan is {plan_text(winner)}: {cost}.")
    return [*lines, *_planned(answer, winner), *filter(None, [limit_help(answer, results)])]


def limit_help(answer: Advice, results: str = "results.json") -> str:
    """Return what it means to have no latency limit, and how to set one; empty if the answer has one.

    `results` is the results file as an argument of a shell.
    """
    if answer.limit is not None or answer.demand.period is not None:
        return ""
    return (
        "No latency limit: the cheapest plan is shown, however long requests wait. To have 95 % of them "
        f"answered within 100 ms, for example: infergate advise {results} "
        f"--demand {answer.demand.rate:g}/s --p95-ms 100."
    )


def _unserved(answer: Advice, binding: Note) -> Iterable[str]:
    """Yield why no measured plan will do, as far as the verdict does not say it."""
    if answer.projections.recommended or answer.projections.undecided:
        yield f"{sentence(binding.text)}.".replace("No plan", "No measured plan", 1)
    else:
        yield f"Hint: {binding.hint}."


def _planned(answer: Advice, winner: Plan) -> list[str]:
    """Return the sentences on the best measured plan."""
    lines = [_speed(winner, answer)]
    if winner.streams_per_instance is not None:
        lines.append(_streams(winner, winner.streams_per_instance))
    if answer.runner_up is not None and answer.saving is not None:
        other = answer.runner_up
        more = f"the same cost, with a p95 of {units.seconds(other.load.p95)}"
        # Within a tie, plans cost the same for practical purposes, and p95 decided.
        if answer.saving > TIE * winner.usd_per_month:
            more = f"{usd(answer.saving)} more"
        lines.append(f"Runner-up: {plan_text(other)}, {usd(other.usd_per_month)} per month: {more}.")
    if answer.enough is not None:
        serves = "serves" if winner.instances == 1 else "serve"
        share = units.percent(answer.utilisation, signed=False, decimals=0)
        lines.append(
            f"{winner.text} {serves} up to about {amount(answer, answer.enough)} with at most "
            f"{share} of the capacity used, the utilisation limit."
        )
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
        first = units.seconds(winner.cold_start)
        lines.append(f"The first call in a new process takes at least {first}{before}.")
    if winner.electricity is not None:
        lines.append(_electricity(winner.electricity))
    elif any(plan.electricity is not None for plan in answer.considered):
        lines.append("The energy of this plan is unknown: energy was only measured with a single worker.")
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
        until = high if end is None else units.rate(end, noun(answer))
        last, span = answer.crossings[-1], f"between {units.rate(low)} and" if low else "up to"
        yield (
            f"{sentence(span)} {until} {winner.deployment} costs least. The cheapest deployment changes "
            f"{len(answer.crossings)} times up to {units.rate(last.rate)}; from there to {high} it is "
            f"{last.above}."
        )
    elif answer.crossings:
        parts: list[str] = []
        for crossing in answer.crossings:
            costs = "" if parts else " costs least"
            parts.append(f"up to {units.rate(crossing.rate, noun(answer))} {crossing.below}{costs}")
        yield sentence(", ".join(parts)) + f", from there to {high} {answer.crossings[-1].above}."
    elif len(answer.deployments) > 1 and answer.costs:
        yield f"No other deployment costs less up to {high}."
    plan = answer.scaled_winner
    if plan is not None and plan.scaled is not None:
        few, many = min(plan.scaled.instances), max(plan.scaled.instances)
        name = f"{few} to {many} x {plan.instance}" if few < many else plan.text
        yield (
            f"Scaled hourly, {name} ({device_text(plan)}) costs least: {usd(plan.scaled.usd_per_month)} per "
            f"month, with machines ordered {units.duration(answer.scale_up)} in advance."
        )
    unsure = answer.price_range
    if unsure is not None and not unsure.decides:
        ends = f"{usd(unsure.low)} to {usd(unsure.high)}"
        yield f"The price of {unsure.machine} does not change that: it holds from {ends} per hour."
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
    batched = winner.max_batch > 1 and load.offered is not None
    full = f", {_used(load)} if all batches were full" if batched else ""
    note = " Some service times are interpolated between measured batch sizes." if load.interpolated else ""
    if load.p95_error is not None and load.p95_error > MAX_ERROR:
        error = units.percent(load.p95_error, signed=False, decimals=0)
        note += f" The simulation of p95 has a standard error of {error}."
    busy = f"busy {units.percent(load.utilisation, signed=False, decimals=0)} of the time{full}"
    return (
        f"p95 {p95_text(winner)}, simulated{limit}{missed}; batches of at most "
        f"{winner.max_batch}{wait}; {busy}.{note}{sampled_text(winner)}"
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

"""Advice in words: for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from tabulate import tabulate

from pytest_infergate.core.advice import demand as demands
from pytest_infergate.core.advice.demand import Backlog
from pytest_infergate.core.advice.deployments import deployment_text
from pytest_infergate.core.advice.planning import TIE
from pytest_infergate.core.advice.recommendation import Job
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Advice, Electricity, Plan, QueueLoad, Sensitivity
from pytest_infergate.core.domain.model import Note
from pytest_infergate.report.markdown import code, escaped, markdown_table
from pytest_infergate.report.sanitize import plain

ASSUMPTIONS = (
    "Service time is not latency under load: requests wait for each other, and that was simulated.",
    "Leave room: a real server took a sixth longer at 30 and 50 % load, and three times as long at 70 %.",
    "A request is one item of a batch. Network, pre- and post-processing count where the callable has them.",
    "One model a machine; what is fixed for the peak is paid for around the clock, 730 hours a month.",
    "“Used” is the share of what full batches would serve; “with spare” has one machine more than it takes.",
    "Prices are on demand. Spot machines, which may be taken away, never alone serve a latency limit.",
)
"""What every answer rests on."""
PLAN_HEADERS = ("plan", "device", "batch", "wait", "p95", "used", "USD/month", "with spare", "USD/million")
SCALED_HEADER = "USD/month scaled"
SUMMARY = ("model", "plan", "p95", "USD/month", "USD/million", "enough up to", "cheapest up to")
JOB_HEADERS = ("instance", "device", "batch", "machine-hours", "at once", "USD", "on spot")
LEFT = 2
"""Columns of words; the others hold figures."""


def advice_text(answers: Sequence[Advice], unanswered: Mapping[str, Sequence[Note]] | None = None) -> str:
    """Every answer, what must be known for the other models, and what all answers rest on."""
    common = shared(answers)
    body = [tuple(map(plain, line)) for line in summary_rows(answers)]
    blocks = [_table(SUMMARY, body)] if body else []
    blocks += [block for answer in answers for block in _blocks(answer, common)]
    blocks += [_listed("notes on all", common), _listed("not answered", questions(unanswered or {}))]
    return "\n\n".join(filter(None, [*blocks, _listed("assumed", ASSUMPTIONS)]))


def advice_markdown(answers: Sequence[Advice], unanswered: Mapping[str, Sequence[Note]] | None = None) -> str:
    """Every answer under a heading of its own."""
    common = shared(answers)
    blocks = [_markdown_table(SUMMARY, summary_rows(answers))] if answers[1:] else []
    for answer in answers:
        blocks += [f"### {code(answer.model)}", escaped(question(answer)), f"**{escaped(verdict(answer))}**"]
        blocks += [_markdown_list(findings(answer))]
        if answer.plans:
            blocks.append(_markdown_table(headers(answer), map(cells, answer.plans)))
        blocks.append(_markdown_list(remarks(answer, common)))
    for title, lines in (("On all", common), ("Not answered", questions(unanswered or {}))):
        blocks += [f"### {title}", _markdown_list(lines)] if lines else []
    blocks += ["### Assumed", _markdown_list(ASSUMPTIONS)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [tuple(map(escaped, row)) for row in rows]
    return markdown_table(columns, body, frozenset(range(LEFT, len(columns))))


def _markdown_list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)


def headline(answers: Sequence[Advice]) -> str:
    """What a page of advice is headed with."""
    if len(answers) == 1:
        return verdict(answers[0])
    return f"Where to run {units.plural(len(answers), 'model')}"


def summary_rows(answers: Sequence[Advice]) -> list[tuple[str, ...]]:
    """A row of `SUMMARY` for each answer, and one for all, where there are several."""
    if not answers[1:]:
        return []
    winners = [answer.winner for answer in answers]
    month = sum(plan.usd_per_month for plan in winners if plan is not None)
    total = ("all", "", "", usd(month).removesuffix(" USD"), "", "", "")
    return [*map(_summed, answers), *([total] if all(winners) else [])]


def _summed(answer: Advice) -> tuple[str, ...]:
    plan = answer.winner
    if plan is None:
        return answer.model, "none meets the limit", *[units.UNKNOWN] * (len(SUMMARY) - LEFT)
    above = [crossing for crossing in answer.crossings if crossing.rate > answer.demand.rate]
    beyond = f"> {units.rate(answer.costs[-1].rate)}" if answer.costs else units.UNKNOWN
    return (
        answer.model,
        f"{plan.text} ({_device(plan)})",
        units.seconds(plan.load.p95),
        usd(plan.usd_per_month).removesuffix(" USD"),
        usd(plan.usd_per_million).removesuffix(" USD"),
        beyond if answer.enough is None else units.rate(answer.enough),
        units.rate(above[0].rate) if above else beyond,
    )


def shared(answers: Sequence[Advice]) -> list[str]:
    """Remarks that hold for every answer, where there are several."""
    first, *others = map(remarks, answers) if answers[1:] else [[]]
    return [line for line in first if all(line in other for other in others)]


def questions(unanswered: Mapping[str, Sequence[Note]]) -> list[str]:
    """What must be known to answer for the other models: each question once."""
    models: dict[str, list[str]] = {}
    for model, notes in unanswered.items():
        for note in notes:
            models.setdefault(plain(str(note)), []).append(plain(model))
    return [
        f"{f'{named[0]} and {len(named) - 1} more' if named[1:] else named[0]}: {text}"
        for text, named in models.items()
    ]


def question(answer: Advice) -> str:
    """What was asked."""
    limit = "" if answer.limit is None else f", 95 % within {units.seconds(answer.limit)}"
    return (
        f"{demands.demand_text(answer.demand)}{limit}, machines used to at most "
        f"{units.percent(answer.utilisation, signed=False, decimals=0)} of their capacity"
    )


def verdict(answer: Advice) -> str:
    """The sentence that matters."""
    winner = answer.winner
    if winner is None:
        return "No plan meets the limit." if answer.binding is None else f"{_sentence(answer.binding.text)}."
    return (
        f"Run it on {winner.text} ({_device(winner)}): {usd(winner.usd_per_month)} a month, "
        f"{usd(winner.usd_per_million)} per million {_noun(answer)}."
    )


def _noun(answer: Advice) -> str:
    return "frames" if answer.demand.pattern == "periodic" else "requests"


def findings(answer: Advice) -> list[str]:
    """What stands beside the sentence that matters: how fast, who else, where it flips, how sure."""
    winner = answer.winner
    if winner is None:
        return [] if answer.binding is None else [f"Next: {answer.binding.hint}."]
    lines = [_speed(winner, answer)]
    if winner.streams_per_instance is not None:
        most = winner.streams_per_instance
        streams = units.plural(most, "such stream") if most else "no such stream"
        spread = "" if most or winner.instances == 1 else ", but frames of a stream may go to any of them"
        lines.append(f"One {winner.instance} alone keeps up with {streams}{spread}.")
    if answer.runner_up is not None and answer.saving is not None:
        other = answer.runner_up
        dearer = answer.saving > TIE * winner.usd_per_month
        more = (
            f"{usd(answer.saving)} more"
            if dearer
            else f"as much, with a p95 of {units.seconds(other.load.p95)}"
        )
        lines.append(
            f"Runner-up: {other.text} ({_device(other)}), {usd(other.usd_per_month)} a month: {more}."
        )
    if answer.enough is not None:
        serves = "serves" if winner.instances == 1 else "serve"
        lines.append(f"{winner.text} {serves} up to about {units.rate(answer.enough, _noun(answer))}.")
    late = [
        priced for priced in answer.deployments if priced not in {plan.deployment for plan in answer.plans}
    ]
    if late:
        lines.append(f"Not in time with any number of machines: {', '.join(late)}.")
    if answer.crossings:
        lines.append(_flips(answer))
    if len(answer.deployments) > 1 and not answer.crossings and answer.costs:
        low, high = answer.costs[0].rate, answer.costs[-1].rate
        lines.append(f"Nothing else costs less from {units.rate(low)} to {units.rate(high)}.")
    lines += [*_by_the_hour(answer), *(_stays(item, winner) for item in answer.sensitivities)]
    lines += _start(winner)
    if winner.electricity is not None:
        lines.append(_electricity(winner.electricity))
    elif any(plan.electricity is not None for plan in answer.considered):
        lines.append("Energy of this plan is not known, only that of one worker.")
    return lines


def _flips(answer: Advice) -> str:
    """Who costs least, from the least demand to the largest; what lies between two serves nobody in time."""
    parts: list[str] = []
    for crossing in answer.crossings:
        costs = "" if parts else " costs least"
        parts.append(f"up to {units.rate(crossing.rate, _noun(answer))} {crossing.below}{costs}")
    return _sentence(", ".join(parts)) + f", above that {answer.crossings[-1].above}."


def _speed(winner: Plan, answer: Advice) -> str:
    load = winner.load
    allowed = "" if answer.limit is None else f" of the {units.seconds(answer.limit)} allowed"
    periodic = answer.demand.pattern == "periodic" and load.missed is not None
    late = "after the next had come" if answer.limit is None else "later than that"
    missed = f", {units.percent(load.missed, signed=False)} of frames {late}" if periodic else ""
    wait = "" if not winner.max_wait else f", waiting up to {units.seconds(winner.max_wait)} for them"
    marked = " Part of it is interpolated between measured batch sizes." if load.interpolated else ""
    return (
        f"p95 {units.seconds(load.p95)}{allowed}{missed}; batches of at most {winner.max_batch}{wait}; "
        f"{_used(load)} of its capacity used, busy "
        f"{units.percent(load.utilisation, signed=False, decimals=0)} of the time.{marked}"
    )


def _by_the_hour(answer: Advice) -> Iterable[str]:
    """What machines that come and go would cost."""
    plan = answer.scaled_winner
    if plan is None or plan.scaled is None:
        return
    few, many = min(plan.scaled.instances), max(plan.scaled.instances)
    name = f"{few} to {many} x {plan.instance}" if few < many else plan.text
    yield (
        f"Scaled by the hour, {name} ({_device(plan)}) costs least: "
        f"{usd(plan.scaled.usd_per_month)} a month, machines ordered {units.duration(answer.scale_up)} ahead."
    )


def _used(load: QueueLoad) -> str:
    """Share of what full batches would serve: smaller ones keep a machine busy and leave it room."""
    return units.percent(load.offered, signed=False, decimals=0)


def _stays(item: Sensitivity, winner: Plan) -> str:
    if item.winner == winner.deployment:
        return f"With {item.assumption}, it still costs least."
    if item.winner is None:
        return f"With {item.assumption}, no plan meets the limit."
    return f"With {item.assumption}, {item.winner} would cost least."


def _start(winner: Plan) -> Iterable[str]:
    """How long a new process takes over its first call, which is one such batch."""
    if winner.cold_start is None:
        return
    weights = winner.weights_bytes
    before = "" if weights is None else f" once its {units.bytes_(weights)} of weights are loaded"
    yield f"The first call in a new process takes {units.seconds(winner.cold_start)}{before}."


def _electricity(taken: Electricity) -> str:
    how = (
        "estimated from the processor's class"
        if taken.source == "estimate"
        else f"measured by {taken.source}, of the {taken.scope} alone"
    )
    return (
        f"Energy, idle time included: {units.joules(taken.joules_per_item)} an item, "
        f"{units.significant(taken.kwh_per_month)} kWh a month, "
        f"{units.grams(taken.grams_co2e_per_month)} CO2e at {taken.basis}; {how}. "
        "It is in the price of a rented machine, and should be in that of an own one."
    )


def remarks(answer: Advice, but: Collection[str] = ()) -> list[str]:
    """What to try next, and what was taken for granted; without what is told elsewhere."""
    lines = dict.fromkeys(plain(str(note)) for note in (*answer.actions, *answer.notes))
    return [line for line in lines if line not in but]


def jobs(work: Backlog, found: Sequence[Job], model: str) -> str:
    """A backlog, for the terminal."""
    body = [
        (
            plain(job.instance),
            plain(job.device),
            job.max_batch,
            units.significant(job.machine_hours),
            job.instances,
            usd(job.usd).removesuffix(" USD"),
            units.UNKNOWN if job.usd_on_spot is None else usd(job.usd_on_spot).removesuffix(" USD"),
        )
        for job in found
    ]
    title = f"{plain(model)}\n  {units.significant(work.items)} items within {units.duration(work.deadline)}"
    blocks = [title, _table(JOB_HEADERS, body)]
    if any(job.usd_on_spot is not None for job in found):
        blocks.append("Spot machines may be taken away, and what they were at is done again.")
    return "\n\n".join(blocks)


def usd(value: float) -> str:
    """``1,234 USD``, ``12.3 USD``: three digits, whole dollars from a hundred."""
    return f"{value:,.0f} USD" if value >= 100 else f"{units.significant(value)} USD"  # noqa: PLR2004


def headers(answer: Advice) -> tuple[str, ...]:
    """Columns of the plans."""
    return PLAN_HEADERS if answer.scaled_winner is None else (*PLAN_HEADERS, SCALED_HEADER)


def cells(plan: Plan) -> tuple[str, ...]:
    """A plan as a row of `headers`."""
    scaled = () if plan.scaled is None else (usd(plan.scaled.usd_per_month).removesuffix(" USD"),)
    return (
        plan.text,
        _device(plan),
        str(plan.max_batch),
        units.seconds(plan.max_wait),
        units.seconds(plan.load.p95),
        _used(plan.load),
        usd(plan.usd_per_month).removesuffix(" USD"),
        usd(plan.usd_per_month_with_spare).removesuffix(" USD"),
        usd(plan.usd_per_million).removesuffix(" USD"),
        *scaled,
    )


def price(plan: Plan) -> str:
    """``g6.xlarge 0.805 USD an hour: aws/g6.xlarge in us-east-1, on demand, as of 2026-07-20``."""
    return f"{plan.instance} {usd(plan.usd_per_hour)} an hour: {plan.price}"


def _blocks(answer: Advice, common: Collection[str]) -> Iterable[str]:
    lines = [plain(answer.model), f"  {question(answer)}", f"  {plain(verdict(answer))}"]
    yield "\n".join([*lines, *(f"  {plain(line)}" for line in findings(answer))])
    if answer.plans:
        body = [tuple(map(plain, cells(plan))) for plan in answer.plans]
        yield _table(headers(answer), body)
        yield _listed("prices", list(dict.fromkeys(plain(price(plan)) for plan in answer.plans)))
    yield _listed("notes", remarks(answer, common))


def _table(columns: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    aligned = ["left"] * LEFT + ["right"] * (len(columns) - LEFT)
    return tabulate(body, headers=columns, tablefmt="plain", colalign=aligned, disable_numparse=True)


def _listed(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines)]) if lines else ""


def _device(plan: Plan) -> str:
    return deployment_text(plan.device, plan.runtime, plan.dtype, plan.threads, plan.workers)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]

"""Verdicts as text: what was measured, what is allowed, how certain that is, and hints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from pytest_infergate.core.domain import instance_types, metrics, units
from pytest_infergate.core.domain.metrics import Metric
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import (
    Against,
    BudgetCheck,
    CaseResult,
    CaseVerdict,
    Comparison,
    Price,
    Verdict,
)
from pytest_infergate.core.domain.values import Note, Struct
from pytest_infergate.core.gate import counter_changes, stored_times
from pytest_infergate.core.gate.decide import FAILING, SEVERITY, STRICTLY_FAILING
from pytest_infergate.report.hints import check_severity, hints, not_decided, stated_reason
from pytest_infergate.report.sanitize import plain

MAX_SUMMARIES: Final = 3
"""Maximum number of findings in a title; the others are counted."""
CAUSES_SHOWN: Final = 5
"""Default number of causes; the others are counted."""
_COMPARED: Final = {"p50": "p50_ms"}
"""Metrics of comparisons that have a different name in a budget."""
_RUN_LEVEL: Final = units.percent(stored_times.FALSE_ALARMS, signed=False)
_CASE_LEVEL: Final = units.percent(1 - stored_times.SUSPICION, signed=False, decimals=0)
_ALWAYS_EXPLAINED: Final = FAILING | {Verdict.SUSPECTED, Verdict.INCONCLUSIVE}
"""Verdicts that are explained whatever the verdict of the case is: next to an exceeded budget, a missing
baseline is not important, but a suspected slowdown is."""


class MetricSection(Struct, frozen=True, kw_only=True):
    """The figures of one metric of a case, as pairs of label and text."""

    text: str
    verdict: str
    lines: tuple[tuple[str, str], ...] = ()


class Message(Struct, frozen=True, kw_only=True):
    """The explanation of one case."""

    verdict: str
    """The verdict, or the outcome of a case that was not judged."""
    summary: str = ""
    """The findings behind the verdict; empty if there is nothing to add."""
    sections: tuple[MetricSection, ...] = ()
    hints: tuple[str, ...] = ()
    """Possible next steps, the most useful first."""

    @property
    def title(self) -> str:
        """A complete sentence."""
        return f"{self.verdict}: {self.summary}" if self.summary else self.verdict


def explain(verdict: CaseVerdict, result: CaseResult | None = None) -> Message:
    """Explain a verdict: the metrics behind it, the most severe first, and hints.

    The message of a case without a problem has only a title.
    """
    comparisons = sorted(verdict.comparisons, key=lambda row: SEVERITY[row.verdict])
    checks = sorted(verdict.budgets, key=check_severity)
    summary = _summary(verdict, comparisons, checks, result)
    # The tables contain all figures of a case that passes.
    if verdict.verdict not in STRICTLY_FAILING:
        return Message(verdict=verdict.verdict.value, summary=summary)
    explained = _ALWAYS_EXPLAINED | {verdict.verdict}
    sections = tuple(_comparison_sections(comparisons, explained, result))
    comparisons = [row for row in comparisons if row.verdict in explained]
    checks = [check for check in checks if check.verdict in explained]
    return Message(
        verdict=verdict.verdict.value,
        summary=summary,
        sections=(*sections, *(_budget_section(check, result) for check in checks)),
        # Several findings may have the same hint.
        hints=tuple(dict.fromkeys(hints(verdict, comparisons, checks, result))),
    )


def explain_result(result: CaseResult) -> Message:
    """Describe a case that was not judged."""
    reason = result.reason
    return Message(
        verdict=f"{result.outcome.value}, not judged",
        summary="" if reason is None else plain(reason.text),
        hints=() if reason is None or not reason.hint else (plain(reason.hint),),
    )


def compared_how(against: Against) -> str:
    """Return how a paired run compares."""
    return "by exact counters" if against.counters_only else "call by call"


def described_base(against: Against) -> str:
    """Name the base of a paired run: ``main (merge base 1a2b3c4)``."""
    parts = []
    if against.revision is not None:
        # Seven digits are what git shows, and are sufficient to find the commit.
        commit = "" if against.commit is None else f" (merge base {plain(against.commit[:7])})"
        parts.append(f"{plain(against.revision)}{commit}")
    parts += [plain(name) for name in (against.python, against.runtime) if name is not None]
    return " with ".join(parts)


def compared_metric(name: str) -> Metric:
    """Look up the metric of a comparison, whose figures are in SI units."""
    return budget_metric(_COMPARED.get(name, name))


def budget_metric(name: str) -> Metric:
    """Look up the metric of a budget; a name that is unknown here is shown as a number without a unit."""
    # A results file of another version may have a metric that this version does not know.
    try:
        return metrics.metric(name)
    except KeyError:
        return Metric(
            name=plain(name),
            text=plain(name),
            read=None,
            scale=1,
            show=lambda value: units.UNKNOWN if value is None else f"{value:,.6g}",
        )


def formatted(metric: Metric, value: float | None, result: CaseResult | None) -> str:
    """Format a value in the unit of its metric, and a rate in the unit of the items of the test."""
    if metric.name == "throughput_per_s" and result is not None:
        return units.rate(value, plain(result.unit or ""))
    return metric.shown(value)


def budget_figure(check: BudgetCheck, metric: Metric, result: CaseResult | None) -> str:
    """Format what was measured for a budget: its lower bound if there is no upper one, as of few calls.

    A median is shown nevertheless. A high percentile of few calls is the slowest of them, whatever it is.
    """
    value = check.value
    if value is None or value.high is not None or metric.percentile == 0.5:  # noqa: PLR2004 - the median
        return formatted(metric, None if value is None else value.value, result)
    return f"at least {formatted(metric, value.low, result)}" if value.low is not None else units.UNKNOWN


def why_not_decided(check: BudgetCheck) -> str:
    """Return why a budget was not decided; files of version 0.1 only have it as part of the note."""
    return plain(check.missing or ("" if check.note is None else check.note.text))


def _summary(
    verdict: CaseVerdict,
    comparisons: Iterable[Comparison],
    checks: Iterable[BudgetCheck],
    result: CaseResult | None,
) -> str:
    """Describe the findings behind a verdict, in a few words each."""
    # A title that names only what failed stays short: sections explain the rest.
    leading = FAILING | {verdict.verdict}
    rows = [row for row in comparisons if row.verdict in leading]
    exact = [row for row in rows if row.evidence == "exact" and row.metric != counter_changes.ALL_COUNTERS]
    # One change of a model moves several counters: the first is named, the others are counted.
    parts = [text for row in rows if row not in exact[1:] and (text := _comparison_summary(row))]
    if exact[1:]:
        parts.append(units.plural(len(exact) - 1, "more counter"))
    parts += [_budget_summary(check, result) for check in checks if check.verdict in leading]
    reason = stated_reason(verdict, result)
    if reason is not None:
        lost = verdict.verdict is Verdict.REGRESSED and not verdict.comparisons
        before = "measured in the baseline, but not in this run: " if lost else ""
        parts.insert(0, before + plain(reason.text))
    elif not parts and verdict.verdict is Verdict.NOT_MEASURED:
        parts.append("no reason was recorded")
    if len(parts) > MAX_SUMMARIES:
        parts[MAX_SUMMARIES:] = [f"and {len(parts) - MAX_SUMMARIES} more"]
    return "; ".join(parts)


def _comparison_summary(row: Comparison) -> str:
    metric = compared_metric(row.metric)
    because = "" if row.note is None else f": {plain(row.note.text)}"
    allowed = "" if row.tolerance is None else f", allowed {units.percent(row.tolerance)}"
    was, now = metric.show(row.baseline), metric.show(row.candidate)
    # This row has no figures: its note is about the counters as a whole.
    if row.metric == counter_changes.ALL_COUNTERS:
        return "" if row.note is None else plain(row.note.text)
    of_outputs = {
        "parity": f"the outputs differ from those of {plain(row.base_runtime or 'the base')}",
        "reference": "the outputs differ from those of eager PyTorch on the CPU",
        "accuracy": "the accuracy is too low",
    }
    if row.evidence in of_outputs:
        return f"{of_outputs[row.evidence]}{because}"
    if row.evidence == "paired":
        text = f"was not compared{because}"
        if row.effect is not None:
            why = because if row.verdict is Verdict.INVALID else ""
            text = f"{now}, {was} {_of_base(row)}: {units.percent(row.effect)}{allowed}{why}"
    elif row.verdict is Verdict.NO_BASELINE:
        text = f"{now} has no baseline"
    elif row.verdict is Verdict.INCOMPARABLE:
        text = f"{now} cannot be compared{because}"
    elif row.evidence == "exact":
        # The largest cause is sufficient for a title.
        by = "".join(f": {cause}" for cause in causes([row], 1)[:1])
        text = f"{now}, was {was}{by}"
    else:
        recorded = recorded_median(row)
        beside = f" (recorded {recorded})" if recorded else ""
        text = f"{now}, expected {was}{beside}: {units.percent(row.effect)}{allowed}"
        if row.note is not None and row.note.code == NoteCode.CONTENDED_TIME:
            text += ", while other processes took processor time"
    return f"{metric.text} {text}"


def _of_base(row: Comparison) -> str:
    return "on the base" if row.base_runtime is None else f"in {plain(row.base_runtime)}"


def recorded_median(row: Comparison) -> str:
    """Format the median that was recorded; empty if it reads like the expected one."""
    show = compared_metric(row.metric).show
    text = "" if row.recorded is None else show(row.recorded)
    return "" if text == show(row.baseline) else text


def _budget_summary(check: BudgetCheck, result: CaseResult | None) -> str:
    if check.note is not None:
        return plain(check.note.text)
    metric = budget_metric(check.budget.metric)
    limit = formatted(metric, check.budget.limit, result)
    figure = f"{metric.text} {budget_figure(check, metric, result)}"
    if check.verdict is Verdict.OVER_BUDGET:
        return f"{figure} is {'over' if metric.better == 'lower' else 'under'} its budget of {limit}"
    if check.verdict is None:
        return f"{figure} is within its budget of {limit}"
    return f"{figure}, budget {limit}"


def _comparison_sections(
    rows: Sequence[Comparison], explained: AbstractSet[Verdict], result: CaseResult | None
) -> Iterator[MetricSection]:
    """Make a section for each time, and one for all counters of the same verdict."""
    exact = [row for row in rows if row.evidence == "exact" and row.metric != counter_changes.ALL_COUNTERS]
    shown: set[Verdict] = set()
    for row in rows:
        if row.verdict not in explained:
            continue
        note = "" if row.note is None else plain(row.note.text)
        if row.metric == counter_changes.ALL_COUNTERS:
            yield _section("exact counters", row.verdict.value, {"reason": note})
        elif row.evidence in ("parity", "reference", "accuracy"):
            what = "figures" if row.evidence == "accuracy" else "difference"
            yield _section(row.metric, row.verdict.value, {what: note})
        elif row not in exact:
            yield _time_section(row, exact, note, result)
        elif row.verdict not in shown:
            shown.add(row.verdict)
            alike = [other for other in exact if other.verdict is row.verdict]
            lines = [(compared_metric(other.metric).text, _counter_change(other)) for other in alike]
            lines += [("caused by", text) for text in causes(alike)]
            fell = [other for other in exact if other.verdict is Verdict.IMPROVED is not row.verdict]
            lines += [
                ("less than before", f"{compared_metric(other.metric).text} {_counter_change(other)}")
                for other in fell
            ]
            yield MetricSection(
                text="exact counters (no measurement noise)", verdict=row.verdict.value, lines=tuple(lines)
            )


def _section(text: str, verdict: str, figures: dict[str, str]) -> MetricSection:
    """Make a section of those figures that are not empty."""
    lines = tuple((label, figure) for label, figure in figures.items() if figure)
    return MetricSection(text=text, verdict=verdict, lines=lines)


def _time_section(
    row: Comparison, exact: Sequence[Comparison], note: str, result: CaseResult | None
) -> MetricSection:
    """Make the section of a time that was compared call by call or with a stored baseline.

    `exact` contains the counters of the case.
    """
    metric = compared_metric(row.metric)
    allowed = "" if row.tolerance is None else f", allowed {units.percent(row.tolerance)}"
    change = "" if row.effect is None else f"{units.percent(row.effect)}{allowed}"
    detectable = ""
    if row.smallest_detectable is not None:
        slowdown = units.percent(row.smallest_detectable)
        detectable = f"a true slowdown of {slowdown} would be reported as regressed in 9 of 10 runs"
    low, high = units.percent(row.low), units.percent(row.high)
    bounded = row.low is not None and row.high is not None
    if row.evidence == "paired":
        launches = f", {units.plural(row.sessions, 'launch')} of each side" if row.sessions else ""
        figures = {
            "now": metric.show(row.candidate) if row.candidate is not None else "",
            _of_base(row): f"{metric.show(row.baseline)}{launches}" if row.baseline is not None else "",
            "change": change,
            "confidence": f"99 % interval {low} to {high}" if bounded else "",
        }
    else:
        measurement = None if result is None else result.measurement
        latency = None if measurement is None else measurement.latency
        calls = "" if latency is None else units.plural(latency.count, "call")
        sessions = f", based on {units.plural(row.sessions, 'session')}"
        level = ""
        if row.evidence == "stored":
            level = f", each bound at {_CASE_LEVEL} confidence"
            # The strict bounds behind this verdict are corrected for the number of cases, so the probability
            # holds for the whole run; the bounds of other verdicts hold for a single case.
            if row.verdict is Verdict.REGRESSED:
                level = f"; the probability of a false alarm anywhere in the run is {_RUN_LEVEL}"
        recorded = recorded_median(row)
        figures = {
            "measured": f"{metric.show(row.candidate)}{f', median of {calls}' if calls else ''}",
            "expected": f"{metric.show(row.baseline)}{sessions}" if row.baseline is not None else "",
            "recorded": f"{recorded}, before the correction for the speed of the machine" if recorded else "",
            "change": change,
            "confidence": f"between {low} and {high}{level}" if bounded else "",
        }
        if row.high is None and row.low is not None:
            figures["confidence"] = f"at least {low}{level}"
    figures |= {"smallest detectable": detectable, "exact counters": _work(exact), "note": note}
    figures["contention"] = _contention(row.verdict, row.note, result)
    text = f"{metric.text}, call by call" if row.evidence == "paired" else metric.text
    return _section(text, row.verdict.value, figures)


def _contention(verdict: Verdict | None, note: Note | None, result: CaseResult | None) -> str:
    """Return what other processes took of an undecided case, unless its own note states that."""
    said = note is not None and note.code == NoteCode.CONTENDED_TIME
    measurement = None if result is None else result.measurement
    if said or measurement is None or verdict not in (Verdict.INCONCLUSIVE, Verdict.SUSPECTED):
        return ""
    found = (each.text for each in measurement.notes if each.code == NoteCode.CPU_CONTENTION)
    return plain(next(found, ""))


def _work(exact: Sequence[Comparison]) -> str:
    """Describe the change of the exact counters for the section of a time; empty if none was compared."""
    moved = [row for row in exact if row.candidate != row.baseline]
    if moved:
        changes = (f"{compared_metric(row.metric).text} {change_exactly(row)}" for row in moved)
        return "; ".join(causes(moved, 2)) or ", ".join(changes)
    # Other counters cover a part of the work only: without operators, nothing can be said about it.
    return "unchanged" if any(row.metric == "operators" for row in exact) else ""


def _counter_change(row: Comparison) -> str:
    """Format a change with the allowed change: ``28, was 24: +4 (+16.7 %)``."""
    show = compared_metric(row.metric).show
    allowed = ""
    minimum = counter_changes.tolerated_change(row.metric, row.tolerance)
    if minimum:
        allowed = f", allowed {units.percent(row.tolerance)} or {show(minimum)}, whichever is larger"
    elif row.tolerance:
        allowed = f", allowed {units.percent(row.tolerance)}"
    return f"{show(row.candidate)}, was {show(row.baseline)}: {change_exactly(row)}{allowed}"


def change_exactly(row: Comparison) -> str:
    """Format a change: ``+4 (+16.7 %)``, without the percentage if the baseline is 0."""
    change = _signed(row.metric, (row.candidate or 0) - (row.baseline or 0))
    return change if row.effect is None else f"{change} ({units.percent(row.effect)})"


def _signed(metric: str, change: float) -> str:
    return f"{'-' if change < 0 else '+'}{compared_metric(metric).show(abs(change))}"


def causes(rows: Iterable[Comparison], shown: int = CAUSES_SHOWN) -> tuple[str, ...]:
    """Format the causes of changed counters: ``+4 aten::clone in layers.{0-3}, +164 kB``.

    There is one text for each operator and place. Causes of the first counter come first, the largest first.
    """
    moved: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        show = compared_metric(row.metric).show
        for cause in row.causes:
            # Bytes read, bytes written and peak memory repeat each other: one figure of each kind is enough.
            kind, text = "bytes", _signed(row.metric, cause.change)
            if show is units.count:
                kind, text = "calls", f"{cause.change:+,}"
            elif show is units.flops:
                kind = "flops"
            figures = moved.setdefault((cause.operator, cause.place), {})
            figures.setdefault(kind, text)
            if cause.calls:  # the operators as a whole may not have changed
                figures.setdefault("calls", f"{cause.calls:+,}")
    lines = []
    for (operator, place), figures in moved.items():
        calls = f"{figures['calls']} " if "calls" in figures else ""
        where = f" in {plain(place)}" if place else ""
        rest = "".join(f", {text}" for kind, text in figures.items() if kind != "calls")
        lines.append(f"{calls}{plain(operator)}{where}{rest}")
    # The first causes are the largest, so the others may be counted.
    more = len(lines) - shown
    return (*lines[:shown], f"and {more} more") if more > 0 else tuple(lines)


def _budget_section(check: BudgetCheck, result: CaseResult | None) -> MetricSection:
    metric = budget_metric(check.budget.metric)
    bound = "at most" if metric.better == "lower" else "at least"
    reason = "" if check.note is None else plain(check.note.text)
    measured = budget_figure(check, metric, result)
    outcome = "met" if check.verdict is None else check.verdict.value
    if not_decided(check):
        reason, outcome = why_not_decided(check), "over-budget (not decided)"
    elif check.verdict is Verdict.OVER_BUDGET and metric.better == "higher":
        outcome = "over-budget (under its limit)"
    figures = {
        "measured": "" if measured == units.UNKNOWN else measured,
        "allowed": f"{bound} {formatted(metric, check.budget.limit, result)}",
        "confidence": _bounds(check, metric, result),
        "price": _price(metric, result),
        "reason": reason,
        "contention": _contention(check.verdict if metric.timed else None, check.note, result),
    }
    return _section(f"budget {plain(check.budget.metric)}", outcome, figures)


def _price(metric: Metric, result: CaseResult | None) -> str:
    """Format the price behind a cost, and the number of machines behind a cost per month."""
    if metric.dollars is None or result is None or result.price is None:
        return ""
    price = result.price
    text = price_text(price)
    rate = None if result.measurement is None else result.measurement.throughput
    if metric.name != "usd_per_month" or result.demand is None or rate is None:
        return text
    try:
        count = instance_types.instances_for_throughput(result.demand, rate, price.utilisation)
    except ValueError:  # a results file may contain any number
        return text
    machines = units.plural(count, "machine")
    return f"{text}; {machines} for {units.rate(result.demand)} by throughput alone, without queueing"


def price_text(price: Price) -> str:
    """``0.1785 USD per hour, aws/c7i.xlarge in us-east-1, on demand, as of 2026-07-20; 60 % utilisation``."""
    share = units.percent(price.utilisation, signed=False, decimals=0)
    return f"{price.usd_per_hour:g} USD per hour, {plain(price.source)}; {share} utilisation"


def _bounds(check: BudgetCheck, metric: Metric, result: CaseResult | None) -> str:
    value = check.value
    if value is None or (value.low is None and value.high is None):
        return ""
    # Counters and sizes of weights are counted, so both bounds equal the value.
    if value.low == value.high == value.value:
        return "exact: this figure has no noise"
    low, high = (formatted(metric, bound, result) for bound in (value.low, value.high))
    text = f"between {low} and {high}"
    if value.low is None:
        text = f"at most {high}"
    elif value.high is None:
        text = f"at least {low}"
    # Budgets combine the bounds over calls with the spread between launches, in quadrature.
    return f"{text} (99 % over calls, 95 % between launches)" if metric.timed else text

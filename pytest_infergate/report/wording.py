"""Verdicts in sentences: what was measured, what is allowed, how certain it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from pytest_infergate.core.domain import instance_types, metrics, units
from pytest_infergate.core.domain.metrics import Metric
from pytest_infergate.core.domain.model import Note, Struct
from pytest_infergate.core.domain.outcome import (
    Against,
    BudgetCheck,
    CaseResult,
    CaseVerdict,
    Cause,
    Comparison,
    Price,
    Verdict,
)
from pytest_infergate.core.gate import counter_changes, stored
from pytest_infergate.core.gate.decide import FAILING, SEVERITY, STRICTLY_FAILING
from pytest_infergate.report.hints import hints, not_decided, stated_reason
from pytest_infergate.report.sanitize import plain

SUMMARIES = 3
"""Findings that a title names before it counts the rest."""
_COMPARED = {"p50": "p50_ms"}
CAUSES_SHOWN = 5
_RUN_LEVEL = units.percent(stored.FALSE_ALARMS, signed=False)
_CASE_LEVEL = units.percent(1 - stored.SUSPICION, signed=False, decimals=0)
_TOLD = FAILING | {Verdict.SUSPECTED, Verdict.INCONCLUSIVE}
"""Told of a case whatever its own verdict: a missing baseline does not matter beside a broken budget."""


class MetricSection(Struct, frozen=True, kw_only=True):
    """What is known of one metric of a case: labels and what they say."""

    text: str
    verdict: str
    lines: tuple[tuple[str, str], ...] = ()


class Message(Struct, frozen=True, kw_only=True):
    """One case in words."""

    title: str
    """One sentence that stands alone."""
    sections: tuple[MetricSection, ...] = ()
    cures: tuple[str, ...] = ()
    """What to do next, the first thing first."""


def explain(verdict: CaseVerdict, result: CaseResult | None = None) -> Message:
    """Say what became of a case; of one that is in order the title says it all.

    Of any other the troubled metrics are told, the gravest first, and what to do about them.
    """
    comparisons = sorted(verdict.comparisons, key=lambda row: SEVERITY[row.verdict])
    checks = sorted(verdict.budgets, key=_check_severity)
    title = _title(verdict, comparisons, checks, result)
    if verdict.verdict not in STRICTLY_FAILING:
        return Message(title=title)
    told = _TOLD | {verdict.verdict}
    sections = tuple(_comparisons(comparisons, told, result))
    comparisons = [row for row in comparisons if row.verdict in told]
    checks = [check for check in checks if check.verdict in told]
    return Message(
        title=title,
        sections=(
            *sections,
            *(_budget(check, result) for check in checks),
        ),
        cures=tuple(dict.fromkeys(hints(verdict, comparisons, checks, result))),
    )


def _check_severity(check: BudgetCheck) -> int:
    return len(SEVERITY) if check.verdict is None else SEVERITY[check.verdict]


def described_base(against: Against) -> str:
    """What a paired run was compared with: ``main (merge base 1a2b3c4)``."""
    parts = []
    if against.revision is not None:
        commit = "" if against.commit is None else f" (merge base {plain(against.commit[:7])})"
        parts.append(f"{plain(against.revision)}{commit}")
    if against.python is not None:
        parts.append(plain(against.python))
    return " with ".join(parts)


def explain_result(result: CaseResult) -> Message:
    """Say what became of a case that nobody judged."""
    words = "" if result.reason is None else f": {plain(result.reason.text)}"
    cures = () if result.reason is None or not result.reason.hint else (plain(result.reason.hint),)
    return Message(title=f"{result.outcome.value}, not judged{words}", cures=cures)


def compared_metric(name: str) -> Metric:
    """Look up the metric of a comparison; its figures are SI."""
    return budget_metric(_COMPARED.get(name, name))


def budget_metric(name: str) -> Metric:
    """Look up the metric of a budget; a name from a foreign file is shown as a bare number."""
    try:
        return metrics.metric(name)
    except KeyError:
        return Metric(plain(name), plain(name), None, 1, _bare)


def formatted(metric: Metric, value: float | None, result: CaseResult | None) -> str:
    """Format a value in the unit of the metric's name, rates in the unit that the test gave its items."""
    if metric.name == "throughput_per_s" and result is not None:
        return units.rate(value, plain(result.unit or ""))
    return metric.shown(value)


def why_not_decided(check: BudgetCheck) -> str:
    """What was missing, without the name of the budget."""
    text = "" if check.note is None else check.note.text
    return plain(text.removeprefix(f"budget {check.budget.metric} was not decided: "))


def _bare(value: float | None) -> str:
    return units.UNKNOWN if value is None else f"{value:,.6g}"


def _title(
    verdict: CaseVerdict,
    comparisons: Iterable[Comparison],
    checks: Iterable[BudgetCheck],
    result: CaseResult | None,
) -> str:
    leading = FAILING | {verdict.verdict}
    rows = [row for row in comparisons if row.verdict in leading]
    exact = [row for row in rows if row.evidence == "exact" and row.metric != counter_changes.ALL]
    parts = [text for row in rows if row not in exact[1:] and (text := _comparison_summary(row))]
    if exact[1:]:
        parts.append(units.plural(len(exact) - 1, "more counter"))
    parts += [_budget_summary(check, result) for check in checks if check.verdict in leading]
    reason = stated_reason(verdict, result)
    if reason is not None:
        parts.insert(0, _reason_summary(verdict, reason))
    elif not parts and verdict.verdict is Verdict.NOT_MEASURED:
        parts.append("no reason was recorded")
    if len(parts) > SUMMARIES:
        parts[SUMMARIES:] = [f"and {len(parts) - SUMMARIES} more"]
    return f"{verdict.verdict.value}: {'; '.join(parts)}" if parts else verdict.verdict.value


def _comparison_summary(row: Comparison) -> str:
    metric = compared_metric(row.metric)
    if row.metric == counter_changes.ALL:
        return "" if row.note is None else plain(row.note.text)
    if row.evidence in ("paired", "parity"):
        return _paired_summary(row, metric)
    figure = f"{metric.text} {metric.show(row.candidate)}"
    if row.verdict is Verdict.NO_BASELINE:
        return f"{figure} has no baseline"
    if row.verdict is Verdict.INCOMPARABLE:
        return f"{figure} cannot be compared{_because(row.note)}"
    if row.evidence == "exact":
        by = "".join(f": {words}" for words in causes([row], 1)[:1])
        return f"{figure} against {metric.show(row.baseline)}{by}"
    allowed = "" if row.tolerance is None else f", allowed {units.percent(row.tolerance)}"
    return f"{figure} against an expected {metric.show(row.baseline)}: {units.percent(row.effect)}{allowed}"


def _paired_summary(row: Comparison, metric: Metric) -> str:
    if row.evidence == "parity":
        return f"it does not compute what the base does{_because(row.note)}"
    if row.effect is None:
        return f"{metric.text} was not compared{_because(row.note)}"
    allowed = "" if row.tolerance is None else f", allowed {units.percent(row.tolerance)}"
    because = _because(row.note) if row.verdict is Verdict.INVALID else ""
    was, now = metric.show(row.baseline), metric.show(row.candidate)
    return f"{metric.text} {now}, {was} on the base: {units.percent(row.effect)}{allowed}{because}"


def _because(note: Note | None) -> str:
    return "" if note is None else f": {plain(note.text)}"


def _budget_summary(check: BudgetCheck, result: CaseResult | None) -> str:
    metric = budget_metric(check.budget.metric)
    limit = formatted(metric, check.budget.limit, result)
    if check.note is not None:
        return plain(check.note.text)
    figure = f"{metric.text} {formatted(metric, None if check.value is None else check.value.value, result)}"
    if check.verdict is Verdict.OVER_BUDGET:
        return f"{figure} is {_beyond(metric)} its budget of {limit}"
    return f"{figure} keeps its budget of {limit}" if check.verdict is None else f"{figure}, budget {limit}"


def _beyond(metric: Metric) -> str:
    return "over" if metric.better == "lower" else "under"


def _reason_summary(verdict: CaseVerdict, reason: Note) -> str:
    if verdict.verdict is Verdict.REGRESSED and not verdict.comparisons:
        return f"the baseline measured it and this run could not: {plain(reason.text)}"
    return plain(reason.text)


def _comparisons(
    rows: Sequence[Comparison], told: AbstractSet[Verdict], result: CaseResult | None
) -> Iterator[MetricSection]:
    """The times one by one, the counters of one verdict together."""
    exact = [row for row in rows if row.evidence == "exact" and row.metric != counter_changes.ALL]
    shown: set[Verdict] = set()
    for row in rows:
        if row.verdict not in told:
            continue
        if row.metric == counter_changes.ALL:
            yield _unsettled(row)
        elif row not in exact:
            yield _comparison(row, _work(exact), result)
        elif row.verdict not in shown:
            shown.add(row.verdict)
            yield _exact([other for other in exact if other.verdict is row.verdict])


def _comparison(row: Comparison, work: str, result: CaseResult | None) -> MetricSection:
    metric = compared_metric(row.metric)
    if row.evidence == "parity":
        differs = "" if row.note is None else plain(row.note.text)
        return MetricSection(text="outputs", verdict=row.verdict.value, lines=_told({"difference": differs}))
    if row.evidence == "paired":
        return _paired(row, metric, work)
    figures = {
        "measured": f"{metric.show(row.candidate)}{_calls(result)}",
        "expected": "" if row.baseline is None else f"{metric.show(row.baseline)}{_sessions(row)}",
        "change": _change(row),
        "how sure": _certainty(row),
        "smallest detectable": _detectable(row),
        "the model's work": work,
        "note": "" if row.note is None else plain(row.note.text),
    }
    return MetricSection(text=metric.text, verdict=row.verdict.value, lines=_told(figures))


def _paired(row: Comparison, metric: Metric, work: str) -> MetricSection:
    """A time that was compared call by call."""
    launches = f", {units.plural(row.sessions, 'launch')} of both" if row.sessions else ""
    interval = ""
    if row.low is not None and row.high is not None:
        interval = f"99 % interval {units.percent(row.low)} to {units.percent(row.high)}"
    seen = ""
    if row.smallest_detectable is not None:
        seen = f"{units.percent(row.smallest_detectable)}, in 9 of 10 runs"
    figures = {
        "now": metric.show(row.candidate) if row.candidate is not None else "",
        "on the base": f"{metric.show(row.baseline)}{launches}" if row.baseline is not None else "",
        "change": _change(row),
        "how sure": interval,
        "smallest detectable": seen,
        "the model's work": work,
        "note": "" if row.note is None else plain(row.note.text),
    }
    return MetricSection(text=f"{metric.text}, call by call", verdict=row.verdict.value, lines=_told(figures))


def _work(exact: Sequence[Comparison]) -> str:
    """What the exact counters say beside a time that changed; empty where none was compared."""
    if not exact:
        return ""
    moved = [row for row in exact if row.candidate != row.baseline]
    if moved:
        words = (f"{compared_metric(row.metric).text} {change_exactly(row)}" for row in moved)
        return "; ".join(causes(moved, 2)) or ", ".join(words)
    return "unchanged: no exact counter moved" if any(row.metric == "operators" for row in exact) else ""


def _unsettled(row: Comparison) -> MetricSection:
    """Counters that could not be compared."""
    why = () if row.note is None else (("why", plain(row.note.text)),)
    return MetricSection(text="exact counters", verdict=row.verdict.value, lines=why)


def _exact(rows: Sequence[Comparison]) -> MetricSection:
    """What became of the exact counters, a line each, and who moved them."""
    lines = [(compared_metric(row.metric).text, _against(row)) for row in rows]
    lines += [("from", words) for words in causes(rows)]
    return MetricSection(
        text="exact counters, without noise", verdict=rows[0].verdict.value, lines=tuple(lines)
    )


def _against(row: Comparison) -> str:
    show = compared_metric(row.metric).show
    allowed = ""
    if row.metric == counter_changes.PEAK:
        least = units.bytes_(counter_changes.LEAST_BYTES)
        allowed = f", allowed {units.percent(row.tolerance)} or {least}, whichever is more"
    elif row.tolerance:
        allowed = f", allowed {units.percent(row.tolerance)}"
    return f"{show(row.candidate)} against {show(row.baseline)}: {change_exactly(row)}{allowed}"


def change_exactly(row: Comparison) -> str:
    """``+4 (+16.7 %)``; without the share where nothing was on record."""
    change = _signed(row.metric, (row.candidate or 0) - (row.baseline or 0))
    return change if row.effect is None else f"{change} ({units.percent(row.effect)})"


def _signed(metric: str, change: float) -> str:
    return f"{'-' if change < 0 else '+'}{compared_metric(metric).show(abs(change))}"


def causes(rows: Iterable[Comparison], shown: int = CAUSES_SHOWN) -> tuple[str, ...]:
    """Who moved the counters, a line each operator and place: ``+4 aten::clone in layers.{0-3}, +164 kB``.

    Those of the first counter come first, the largest share first.
    """
    moved: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        for cause in row.causes:
            kind, words = _moved(row.metric, cause)
            moved.setdefault((cause.operator, cause.place), {}).setdefault(kind, words)
    lines = [_cause(operator, place, figures) for (operator, place), figures in moved.items()]
    more = len(lines) - shown
    return (*lines[:shown], f"and {more} more") if more > 0 else tuple(lines)


def _moved(metric: str, cause: Cause) -> tuple[str, str]:
    """What kind of figure a cause moved, and by how much; figures of one kind say the same."""
    show = compared_metric(metric).show
    if show is units.count:
        return "calls", f"{cause.change:+,}"
    return ("flops" if show is units.flops else "bytes"), _signed(metric, cause.change)


def _cause(operator: str, place: str, figures: Mapping[str, str]) -> str:
    calls = f"{figures['calls']} " if "calls" in figures else ""
    where = f" in {plain(place)}" if place else ""
    rest = "".join(f", {words}" for kind, words in figures.items() if kind != "calls")
    return f"{calls}{plain(operator)}{where}{rest}"


def _told(figures: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((label, text) for label, text in figures.items() if text)


def _calls(result: CaseResult | None) -> str:
    if result is None or result.measurement is None:
        return ""
    return f", median of {units.plural(result.measurement.latency.count, 'call')}"


def _sessions(row: Comparison) -> str:
    return f", from {units.plural(row.sessions, 'session')}"


def _change(row: Comparison) -> str:
    if row.effect is None:
        return ""
    if row.tolerance is None:
        return units.percent(row.effect)
    return f"{units.percent(row.effect)}, allowed {units.percent(row.tolerance)}"


def _certainty(row: Comparison) -> str:
    """Put the bounds in words, with the level at which `core.compare` took them."""
    if row.low is None or row.high is None:
        return ""
    between = f"between {units.percent(row.low)} and {units.percent(row.high)}"
    if row.evidence != "stored":
        return between
    if row.verdict is Verdict.REGRESSED:
        return f"{between}; the chance of a false alarm anywhere in the run is {_RUN_LEVEL}"
    return f"{between}, each bound at {_CASE_LEVEL} confidence"


def _detectable(row: Comparison) -> str:
    if row.smallest_detectable is None:
        return ""
    return f"a true {units.percent(row.smallest_detectable)} would be called regressed in 9 of 10 runs"


def _budget(check: BudgetCheck, result: CaseResult | None) -> MetricSection:
    metric = budget_metric(check.budget.metric)
    side = "at most" if metric.better == "lower" else "at least"
    figures = {
        "measured": "" if check.value is None else formatted(metric, check.value.value, result),
        "allowed": f"{side} {formatted(metric, check.budget.limit, result)}",
        "how sure": _bounds(check, metric, result),
        "price": _price(metric, result),
        "why": _why(check),
    }
    word = _budget_word(check, metric)
    return MetricSection(text=f"budget {plain(check.budget.metric)}", verdict=word, lines=_told(figures))


def _price(metric: Metric, result: CaseResult | None) -> str:
    """What a cost rests on; by month, that it counts whole machines by throughput alone."""
    if metric.dollars is None or result is None or result.price is None:
        return ""
    price = result.price
    words = price_words(price)
    rate = None if result.measurement is None else result.measurement.throughput
    if metric.name != "usd_per_month" or result.demand is None or rate is None:
        return words
    try:
        count = instance_types.instances_for_throughput(result.demand, rate, price.utilisation)
    except ValueError:  # a file of somebody else may say anything
        return words
    machines = units.plural(count, "machine")
    return f"{words}; {machines} for {units.rate(result.demand)}, by throughput alone: waiting is not counted"


def price_words(price: Price) -> str:
    """``0.1785 USD an hour, aws/c7i.xlarge in us-east-1, on demand, as of 2026-07-20; used to 60 %``."""
    used = units.percent(price.utilisation, signed=False, decimals=0)
    return f"{price.usd_per_hour:g} USD an hour, {plain(price.source)}; used to {used}"


def _why(check: BudgetCheck) -> str:
    if not_decided(check):
        return why_not_decided(check)
    return "" if check.note is None else plain(check.note.text)


def _budget_word(check: BudgetCheck, metric: Metric) -> str:
    if check.verdict is None:
        return "kept"
    if not_decided(check):
        return "over-budget (not decided)"
    if check.verdict is Verdict.OVER_BUDGET and metric.better == "higher":
        return "over-budget (under its limit)"
    return check.verdict.value


def _bounds(check: BudgetCheck, metric: Metric, result: CaseResult | None) -> str:
    value = check.value
    if value is None or (value.low is None and value.high is None):
        return ""
    if value.low == value.high == value.value:
        return "exact: this figure has no noise"
    if value.low is not None and value.high is not None:
        words = f"between {formatted(metric, value.low, result)} and {formatted(metric, value.high, result)}"
    elif value.low is not None:
        words = f"at least {formatted(metric, value.low, result)}"
    else:
        words = f"at most {formatted(metric, value.high, result)}"
    return f"{words} (99 % over calls, 95 % between launches)" if metric.timed else words

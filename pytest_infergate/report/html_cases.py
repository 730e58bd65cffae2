"""The cases of the HTML page: grouped by test, with charts, tables and changed counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from pytest_infergate.core.advice.bottleneck import bottleneck
from pytest_infergate.core.domain import metrics, units
from pytest_infergate.core.domain.outcome import BudgetCheck, CaseResult, Session, Verdict
from pytest_infergate.core.gate.decide import FAILING, SEVERITY
from pytest_infergate.report import wording
from pytest_infergate.report.charts import latency_strips
from pytest_infergate.report.charts.latency_strips import Mark, Picture, Series
from pytest_infergate.report.charts.line_charts import CaseBottleneck
from pytest_infergate.report.cost_and_energy import SPENDING_COLUMNS, bases, cost_and_energy
from pytest_infergate.report.load_table import LOAD_COLUMNS, LOAD_TITLE, load_rows, shown_bounds
from pytest_infergate.report.rows import CaseParts, Row, row
from pytest_infergate.report.sanitize import ELLIPSIS, plain, shorten, within_test
from pytest_infergate.report.stream_table import STREAM_COLUMNS, STREAM_TITLE, stream_rows
from pytest_infergate.report.table import FigureTable, figure_table, shown_columns

NAME: Final = 160
"""Maximum length of a name in a table; the section of the test has the complete name."""
# A phone shows 28 characters next to the figures.
LABEL: Final = 28
"""Maximum length of a name in a chart, which must fit the screen of a phone."""
LIMITED: Final = {"p50_ms": 1e-3, "p90_ms": 1e-3, "p95_ms": 1e-3, "p99_ms": 1e-3}
"""Budgets that a chart can show, and the factor from their unit to seconds."""
LISTED_ELSEWHERE: Final = frozenset(("peak_memory_bytes", "views"))
"""Counters that are not in the tables of work: one is in the table of all cases, and views are no work."""
_KINDS: Final = {
    Verdict.INVALID: "warn",
    Verdict.INFEASIBLE: "warn",
    Verdict.SUSPECTED: "warn",
    Verdict.INCONCLUSIVE: "warn",
    Verdict.SLOWER_WITHIN_TOLERANCE: "good",
    Verdict.IMPROVED: "good",
    Verdict.EQUIVALENT: "good",
}


class Name(NamedTuple):
    """A node id in two parts: the path, which the page shows in a lighter colour, and the test."""

    path: str
    test: str


class Figure(NamedTuple):
    """A cell of the table below a chart."""

    text: str
    bounds: str = ""


class CaseEntry(NamedTuple):
    """A row, and what the page shows in addition."""

    row: Row
    kind: str
    name: Name
    anchor: str
    """Anchor of the section of the test."""
    label: str
    latency: tuple[Figure, ...]
    """Cells of the table below the chart; empty without times."""
    work: Mapping[str, str]
    """Exact counters as text, by name."""
    bottleneck: CaseBottleneck | None
    """``None`` if the bottleneck is unknown."""


class Spending(NamedTuple):
    """Energy, CO2e and cost of the cases of a test."""

    headers: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    """Label and figures of each case."""
    bases: tuple[tuple[str, str], ...]
    """Sentences on the basis of the figures, with the labels of the cases if it does not apply to all."""


class Group(NamedTuple):
    """The cases of one test, with their chart."""

    anchor: str
    name: Name
    kind: str
    text: str
    entries: tuple[CaseEntry, ...]
    picture: Picture | None
    spending: Spending | None
    figures: tuple[FigureTable, ...]
    """Cases that are streams, and those that were served under load."""
    opened: bool
    """Whether the page shows the section unfolded."""


class ChangedCounters(NamedTuple):
    """A case whose exact counters changed."""

    entry: CaseEntry
    changes: tuple[tuple[str, str], ...]
    """Kind and text of each change."""
    causes: tuple[str, ...]


def kind(row: Row) -> str:
    """Return the colour and symbol of a verdict: ``bad``, ``warn``, ``good`` or ``none``."""
    if row.verdict in FAILING:
        return "warn" if row.accepted else "bad"
    return "none" if row.verdict is None else _KINDS.get(row.verdict, "none")


def split_name(nodeid: str) -> Name:
    """Split a node id before its test; parameters may contain ``::``."""
    cut = nodeid.partition("[")[0].rfind("::") + 2
    return Name(nodeid[:cut], nodeid[cut:]) if cut > 1 else Name("", nodeid)


def case_severity(entry: CaseEntry) -> tuple[object, ...]:
    """Sort key of the page: failing cases first, then by severity, test and axes."""
    verdict = entry.row.verdict
    rank = len(SEVERITY) if verdict is None else SEVERITY[verdict]
    return not entry.row.failed, rank, entry.row.case.test, _axes(entry)


def _axes(entry: CaseEntry) -> tuple[object, ...]:
    """Sort key of the cases of a test: by device first, numbers by their value."""
    case = entry.row.case
    return case.params, case.device, case.runtime, case.dtype or "", case.batch_size, case.threads or 0


def grouped_cases(parts: Iterable[CaseParts]) -> tuple[Group, ...]:
    """Group cases by test, in the order of the most severe case of each."""
    tests: dict[str, list[CaseParts]] = {}
    for pair in parts:
        tests.setdefault(pair.subject.case.test, []).append(pair)
    groups = []
    for index, (test, cases) in enumerate(tests.items(), 1):
        entries = [_entry(pair, f"t{index}") for pair in cases]
        # The heading of a test has the colour of its most severe case.
        severe = sorted(entries, key=case_severity)
        counts = Counter(entry.row.verdict_text for entry in severe)
        shown = sorted(zip(entries, cases, strict=True), key=lambda pair: _axes(pair[0]))
        groups.append(
            Group(
                anchor=f"t{index}",
                name=split_name(plain(test)),
                kind=severe[0].kind,
                text=", ".join(
                    f"{count} {verdict}" if len(entries) > 1 else verdict for verdict, count in counts.items()
                ),
                entries=tuple(entry for entry, _ in shown),
                picture=latency_strips.picture(_series(entry, pair) for entry, pair in shown),
                spending=_spending([(entry.label, pair.result) for entry, pair in shown]),
                figures=_figures([(entry.label, pair.result) for entry, pair in shown]),
                opened=any(entry.row.failed for entry in entries),
            )
        )
    return tuple(groups)


def _entry(parts: CaseParts, anchor: str) -> CaseEntry:
    shown = row(parts)
    label = within_test(shown.case) + shown.place
    result = parts.result
    cause = None if result is None else bottleneck(result)
    case_bottleneck = None
    if result is not None and cause is not None:
        hardware = "" if result.hardware is None else f", {plain(result.hardware.text)}"
        case_bottleneck = CaseBottleneck(
            label=label,
            machine=f"{plain(result.case.device)}{hardware}",
            bottleneck=cause,
            bandwidth=0.0 if result.peaks is None else result.peaks.bandwidth,
        )
    measured = None if result is None else result.measurement
    totals = {} if measured is None else measured.counters.totals
    return CaseEntry(
        row=shown,
        kind=kind(shown),
        name=split_name(shorten(shown.nodeid, NAME)),
        anchor=anchor,
        label=label,
        latency=_latency(parts),
        work={
            name: counter.show(totals[name])
            for name, counter in metrics.COUNTERS.items()
            if totals.get(name) and name not in LISTED_ELSEWHERE  # a count of zero adds a column, not a fact
        },
        bottleneck=case_bottleneck,
    )


def _latency(parts: CaseParts) -> tuple[Figure, ...]:
    """Return the cells below a chart: calls, percentiles with bounds, first call, expected, limits."""
    result = parts.result
    latency = None if result is None or result.measurement is None else result.measurement.latency
    if result is None or result.measurement is None or latency is None:
        return ()
    limits = []
    for check in _checks(parts):
        metric = wording.budget_metric(check.budget.metric)
        limit = wording.formatted(metric, check.budget.limit, result)
        limits.append(f"{plain(check.budget.metric)} {limit}")
    return (
        Figure(f"{latency.count:,}"),
        Figure(units.seconds(latency.p50.value), shown_bounds(latency.p50)),
        *(
            Figure(units.seconds(seen), shown_bounds(estimate) if seen else "")
            for seen, estimate in ((latency.seen(95), latency.p95), (latency.seen(99), latency.p99))
        ),
        Figure(units.seconds(result.measurement.cold_start)),
        Figure(units.seconds(_expected(parts)), _recorded(parts)),
        Figure(", ".join(limits) or units.UNKNOWN),
    )


def _checks(parts: CaseParts) -> tuple[BudgetCheck, ...]:
    return () if parts.verdict is None else parts.verdict.budgets


def _expected(parts: CaseParts) -> float | None:
    """Return the median to expect by the baseline, in seconds."""
    comparisons = () if parts.verdict is None else parts.verdict.comparisons
    return next((item.baseline for item in comparisons if item.metric == "p50"), None)


def _recorded(parts: CaseParts) -> str:
    """Format the recorded median behind the expected one; empty without a stored baseline."""
    comparisons = () if parts.verdict is None else parts.verdict.comparisons
    recorded = next((wording.recorded_median(item) for item in comparisons if item.metric == "p50"), "")
    return f"recorded {recorded}" if recorded else ""


def _spending(cases: Iterable[tuple[str, CaseResult | None]]) -> Spending | None:
    """Format energy, CO2e and cost of the cases of a test, by label; ``None`` if nothing is known."""
    known = [(label, figures) for label, result in cases if (figures := cost_and_energy(result)).basis]
    if not known:
        return None
    columns = shown_columns(SPENDING_COLUMNS, [figures for _, figures in known])
    return Spending(
        headers=("Case", *(column.header for column in columns)),
        lines=tuple((label, *(column.cell(figures) for column in columns)) for label, figures in known),
        bases=bases(known),
    )


def _figures(cases: Sequence[tuple[str, CaseResult | None]]) -> tuple[FigureTable, ...]:
    """Return the tables of figures that only some cases have."""
    tables = (
        figure_table(STREAM_TITLE, STREAM_COLUMNS, stream_rows(cases)),
        figure_table(LOAD_TITLE, LOAD_COLUMNS, load_rows(cases)),
    )
    return tuple(filter(None, tables))


def picture_label(name: str, place: str) -> str:
    """Shorten the name of a case to `LABEL` characters: its name within the test, then its place.

    The right end of a name distinguishes cases, the left end of a place distinguishes machines.
    """
    # Two cases of one test on two machines must not get the same label.
    room = LABEL - len(name)
    if room <= 0:
        return shorten(name, LABEL)
    return name + (place if len(place) <= room else place[: room - 1] + ELLIPSIS)


def _series(entry: CaseEntry, parts: CaseParts) -> Series:
    measured = None if parts.result is None else parts.result.measurement
    latency = None if measured is None else measured.latency
    if latency is None:
        return Series(label=entry.label, figures=(), percentiles=())
    marks = [
        Mark(symbol="limit", seconds=check.budget.limit * LIMITED[check.budget.metric])
        for check in _checks(parts)
        if check.budget.metric in LIMITED
    ]
    expected = _expected(parts)
    if expected is not None:
        marks.append(Mark(symbol="expected", seconds=expected))
    if (p95 := latency.seen(95)) is not None:
        marks.append(Mark(symbol="p95", seconds=p95))
    marks.append(Mark(symbol="p50", seconds=latency.p50.value))
    return Series(
        label=picture_label(within_test(entry.row.case), entry.row.place),
        figures=(f"p50 {entry.row.p50}", f"p95 {entry.row.p95}"),
        percentiles=latency.percentiles,
        marks=tuple(marks),
        failed=entry.kind == "bad",
    )


def changed_counters(session: Session, entries: Sequence[CaseEntry]) -> list[ChangedCounters]:
    """Return the cases whose exact counters changed, in the order of `entries`."""
    # Entries contain texts only, so the comparisons are looked up by case.
    by_case = {verdict.case: verdict.comparisons for verdict in session.gate.verdicts}
    changed = []
    for entry in entries:
        rows = [
            item
            for item in by_case.get(entry.row.case, ())
            if item.evidence == "exact" and item.verdict in (Verdict.REGRESSED, Verdict.IMPROVED)
        ]
        changes = []
        for item in rows:
            metric = wording.compared_metric(item.metric)
            share = "" if item.effect is None else f" ({units.percent(item.effect)})"
            text = f"{metric.text} {metric.show(item.baseline)} → {metric.show(item.candidate)}{share}"
            changes.append((_KINDS.get(item.verdict, "bad"), text))
        if rows:
            changed.append(ChangedCounters(entry=entry, changes=tuple(changes), causes=wording.causes(rows)))
    return changed

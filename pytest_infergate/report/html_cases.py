"""The cases of a page: grouped by test, with their pictures, tables and changed counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from pytest_infergate.core.advice.bottleneck import bottleneck
from pytest_infergate.core.domain import metrics, units
from pytest_infergate.core.domain.measurement import Estimate
from pytest_infergate.core.domain.outcome import BudgetCheck, CaseResult, Session, Verdict
from pytest_infergate.core.gate.decide import FAILING, SEVERITY
from pytest_infergate.report import wording
from pytest_infergate.report.charts import latency_strips
from pytest_infergate.report.charts.latency_strips import Mark, Picture, Series
from pytest_infergate.report.charts.line_charts import Held
from pytest_infergate.report.columns import shown_columns
from pytest_infergate.report.cost_and_energy import SPENDING_COLUMNS, bases, cost_and_energy
from pytest_infergate.report.rows import CaseParts, Row, row
from pytest_infergate.report.sanitize import ELLIPSIS, plain, shorten, within_test

NAME: Final = 160
"""Characters of a name in the tables; the section of its test has the whole name."""
LABEL: Final = 28
"""Characters of a name in a picture, which must fit the screen of a telephone."""
LIMITED: Final = {"p50_ms": 1e-3, "p90_ms": 1e-3, "p95_ms": 1e-3, "p99_ms": 1e-3}
"""Budgets that a picture can show, and the factor from their unit to seconds."""
LISTED_ELSEWHERE: Final = frozenset(("peak_memory_bytes", "views"))
"""Counters that the tables of work leave out: one is in the table of all cases, one is no work."""
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
    """A node id in two parts: the path, which the page sets more quietly, and the test."""

    path: str
    test: str


class Figure(NamedTuple):
    """A cell of the table beside a picture."""

    text: str
    bounds: str = ""


class CaseEntry(NamedTuple):
    """A row with what the page adds to it."""

    row: Row
    kind: str
    name: Name
    anchor: str
    """Of the section of its test."""
    label: str
    latency: tuple[Figure, ...]
    """Cells of the table beside the picture, empty without a measurement."""
    work: Mapping[str, str]
    """Exact counters as text, by name."""
    held: Held | None
    """Its bottleneck, where that is known."""


class Spent(NamedTuple):
    """Energy, CO2e and cost of the cases of a test."""

    headers: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    """Label and figures of a case each."""
    bases: tuple[tuple[str, str], ...]
    """What the figures rest on, and the labels of the cases where that does not apply to all."""


class Group(NamedTuple):
    """The cases of one test, and their picture."""

    anchor: str
    name: Name
    kind: str
    text: str
    entries: tuple[CaseEntry, ...]
    picture: Picture | None
    spent: Spent | None
    opened: bool


class Moved(NamedTuple):
    """A case whose exact counters changed."""

    entry: CaseEntry
    changes: tuple[tuple[str, str], ...]
    """Kind and text of each change."""
    causes: tuple[str, ...]


def kind(row: Row) -> str:
    """Colour and shape of a verdict: ``bad``, ``warn``, ``good`` or ``none``."""
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
    """Natural order of the cases of a test: device first, numbers as numbers."""
    case = entry.row.case
    return case.params, case.device, case.runtime, case.dtype or "", case.batch_size, case.threads or 0


def grouped_cases(parts: Iterable[CaseParts]) -> tuple[Group, ...]:
    """Group cases by test, in the order of the most severe case of each."""
    tests: dict[str, list[CaseParts]] = {}
    for one in parts:
        tests.setdefault(one.subject.case.test, []).append(one)
    groups = []
    for index, (test, cases) in enumerate(tests.items(), 1):
        entries = [_entry(one, f"t{index}") for one in cases]
        severe = sorted(entries, key=case_severity)
        counts = Counter(entry.row.word for entry in severe)
        shown = sorted(zip(entries, cases, strict=True), key=lambda pair: _axes(pair[0]))
        groups.append(
            Group(
                anchor=f"t{index}",
                name=split_name(plain(test)),
                kind=severe[0].kind,
                text=", ".join(
                    f"{count} {word}" if len(entries) > 1 else word for word, count in counts.items()
                ),
                entries=tuple(entry for entry, _ in shown),
                picture=latency_strips.picture(_series(entry, one) for entry, one in shown),
                spent=_spent([(entry.label, one.result) for entry, one in shown]),
                opened=any(entry.row.failed for entry in entries),
            )
        )
    return tuple(groups)


def _entry(parts: CaseParts, anchor: str) -> CaseEntry:
    shown = row(parts)
    label = within_test(shown.case) + shown.place
    result = parts.result
    found = None if result is None else bottleneck(result)
    held = None
    if result is not None and found is not None:
        hardware = "" if result.hardware is None else f", {plain(result.hardware.text)}"
        held = Held(
            label=label,
            machine=f"{plain(result.case.device)}{hardware}",
            found=found,
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
        held=held,
    )


def _latency(parts: CaseParts) -> tuple[Figure, ...]:
    """Cells of the table beside a picture: calls, percentiles with bounds, first call, expected, limits."""
    result = parts.result
    if result is None or result.measurement is None:
        return ()
    latency = result.measurement.latency
    limits = []
    for check in _checks(parts):
        metric = wording.budget_metric(check.budget.metric)
        limit = wording.formatted(metric, check.budget.limit, result)
        limits.append(f"{plain(check.budget.metric)} {limit}")
    return (
        Figure(f"{latency.count:,}"),
        *(Figure(units.seconds(one.value), _bounds(one)) for one in (latency.p50, latency.p95, latency.p99)),
        Figure(units.seconds(result.measurement.cold_start)),
        Figure(units.seconds(_expected(parts))),
        Figure(", ".join(limits) or units.UNKNOWN),
    )


def _bounds(estimate: Estimate) -> str:
    """Bounds of a time; empty where few calls give none."""
    low, high = units.seconds(estimate.low), units.seconds(estimate.high)
    if estimate.low is None:
        return "" if estimate.high is None else f"{high} or less"
    return f"{low} or more" if estimate.high is None else f"{low} to {high}"


def _checks(parts: CaseParts) -> tuple[BudgetCheck, ...]:
    return () if parts.verdict is None else parts.verdict.budgets


def _expected(parts: CaseParts) -> float | None:
    """The median that the baseline lets expect, in seconds."""
    comparisons = () if parts.verdict is None else parts.verdict.comparisons
    return next((item.baseline for item in comparisons if item.metric == "p50"), None)


def _spent(cases: Iterable[tuple[str, CaseResult | None]]) -> Spent | None:
    """Energy, CO2e and cost of the cases of a test, by their labels; ``None`` where nothing is known."""
    known = [(label, found) for label, result in cases if (found := cost_and_energy(result)).basis]
    if not known:
        return None
    columns = shown_columns(SPENDING_COLUMNS, [found for _, found in known])
    return Spent(
        headers=("Case", *(column.header for column in columns)),
        lines=tuple((label, *(column.cell(found) for column in columns)) for label, found in known),
        bases=bases(known),
    )


def picture_label(name: str, place: str) -> str:
    """Name a case in a picture in `LABEL` characters: what distinguishes it within its test, then its place.

    The right end of a name distinguishes cases, the left end of a place distinguishes machines.
    """
    room = LABEL - len(name)
    if room <= 0:
        return shorten(name, LABEL)
    return name + (place if len(place) <= room else place[: room - 1] + ELLIPSIS)


def _series(entry: CaseEntry, parts: CaseParts) -> Series:
    measured = None if parts.result is None else parts.result.measurement
    if measured is None:
        return Series(label=entry.label, figures=(), percentiles=())
    marks = [
        Mark(symbol="limit", seconds=check.budget.limit * LIMITED[check.budget.metric])
        for check in _checks(parts)
        if check.budget.metric in LIMITED
    ]
    expected = _expected(parts)
    if expected is not None:
        marks.append(Mark(symbol="expected", seconds=expected))
    marks.append(Mark(symbol="p95", seconds=measured.latency.p95.value))
    marks.append(Mark(symbol="p50", seconds=measured.latency.p50.value))
    return Series(
        label=picture_label(within_test(entry.row.case), entry.row.place),
        figures=(f"p50 {entry.row.p50}", f"p95 {entry.row.p95}"),
        percentiles=measured.latency.percentiles,
        marks=tuple(marks),
        failed=entry.kind == "bad",
    )


def moved_counters(session: Session, entries: Sequence[CaseEntry]) -> list[Moved]:
    """Cases whose counters changed, in the order of the entries."""
    by_case = {verdict.case: verdict.comparisons for verdict in session.gate.verdicts}
    found = []
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
            found.append(Moved(entry=entry, changes=tuple(changes), causes=wording.causes(rows)))
    return found

"""One self-contained HTML page: no script, no external resource, strict content policy."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from pytest_infergate.core.advice.bottleneck import bottleneck
from pytest_infergate.core.domain import metrics, units
from pytest_infergate.core.domain.advice_values import Advice
from pytest_infergate.core.domain.measurement import Estimate, Latency
from pytest_infergate.core.domain.model import Hardware, Note
from pytest_infergate.core.domain.outcome import (
    BudgetCheck,
    CaseResult,
    CaseVerdict,
    Comparison,
    Session,
    Verdict,
)
from pytest_infergate.core.gate.decide import FAILING, SEVERITY
from pytest_infergate.report import advice as words
from pytest_infergate.report import wording
from pytest_infergate.report.charts import latency_strips, line_charts
from pytest_infergate.report.charts.latency_strips import Mark, Picture, Series
from pytest_infergate.report.charts.line_charts import Chart, Held
from pytest_infergate.report.cost_and_energy import bases, cost_and_energy
from pytest_infergate.report.rows import (
    Judged,
    Row,
    expenses,
    grouped_notes,
    legend,
    paired_with_verdicts,
    row,
)
from pytest_infergate.report.sanitize import ELLIPSIS, called, plain, shorten, within_test

NAME = 160
"""Characters of a name in the tables; the whole name stands where its test is told."""
LABEL = 28
"""Characters of a name in a picture, which must fit a telephone."""
LIMITED = {"p50_ms": 1e-3, "p90_ms": 1e-3, "p95_ms": 1e-3, "p99_ms": 1e-3}
"""Budgets that a picture can show, and what turns their unit into seconds."""

TOLD_ELSEWHERE = frozenset(("peak_memory_bytes", "views"))
"""Counters that the tables of work leave out: one stands in the table of all cases, one is no work."""

EXPENSE_HEADERS = {
    "energy": "Energy per item",
    "idle": "Idle power",
    "co2e": "CO2e per million items",
    "cost": "Cost per million items",
}
"""Headers by what is known of a case; energy and cost stand in the table of all cases too."""

_KINDS = {
    Verdict.INVALID: "warn",
    Verdict.INFEASIBLE: "warn",
    Verdict.SUSPECTED: "warn",
    Verdict.INCONCLUSIVE: "warn",
    Verdict.SLOWER_WITHIN_TOLERANCE: "good",
    Verdict.IMPROVED: "good",
    Verdict.EQUIVALENT: "good",
}


class Name(NamedTuple):
    """A node id in two parts, the path to be set more quietly than the test."""

    path: str
    test: str


class CaseEntry(NamedTuple):
    """A row with what the page adds to it."""

    row: Row
    kind: str
    name: Name
    anchor: str
    """Where its test is told."""
    label: str
    latency: tuple[str, ...]
    """Cells of the table beside the picture, empty without a measurement."""
    work: Mapping[str, str]
    """Exact counters in words, by name."""
    held: Held | None
    """What holds it back, where that is known."""


class Spent(NamedTuple):
    """What the cases of a test take and cost."""

    headers: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    """Label and figures of a case each."""
    bases: tuple[tuple[str, str], ...]
    """What the figures rest on, and of which cases that is where it is not of all."""


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
    """A case of which exact counters changed."""

    entry: CaseEntry
    changes: tuple[tuple[str, str], ...]
    """Kind of each, and its words."""
    causes: tuple[str, ...]


class Machine(NamedTuple):
    """A hardware class and how many cases ran on it."""

    hardware: Hardware
    cases: int


class Answer(NamedTuple):
    """Advice for one model, and its pictures."""

    advice: Advice
    name: Name
    question: str
    verdict: str
    findings: Sequence[str]
    headers: Sequence[str]
    plans: Sequence[tuple[str, ...]]
    prices: Sequence[str]
    charts: Sequence[Chart]
    remarks: Sequence[str]


def render_html(
    session: Session,
    *,
    settings: Mapping[str, str] | None = None,
    advice: Sequence[Advice] = (),
    unanswered: Mapping[str, Sequence[Note]] | None = None,
    leading: bool = False,
) -> str:
    """Render a session as one HTML document, with the advice that was asked for.

    `settings` are shown beside the environment as they stand; `unanswered` says, by model, what must be known
    before it can be advised on. A page on which advice is `leading` begins with it.
    """
    pairs = paired_with_verdicts(session)
    groups = _groups(pairs)
    entries = [entry for group in groups for entry in group.entries]
    ordered = sorted(entries, key=_severity)
    held = [entry for entry in ordered if entry.held is not None]
    shown = [entry.row for entry in ordered]
    fields = expenses(shown) if session.against is None else ()
    spent = {field: EXPENSE_HEADERS[field] for field in fields}
    style = _style(spent.values())
    common = words.shared(advice)
    questions = words.questions(unanswered or {})
    return _template().render(
        style=Markup(style),  # noqa: S704 - the package's own style sheet, nobody else's text
        style_hash=_hash(style),
        gate=session.gate,
        against=session.against,
        opponent="" if session.against is None else wording.described_base(session.against),
        took="" if session.against is None else units.duration(session.against.seconds),
        created=session.created,
        version=session.tool_version,
        tally=_tally(ordered),
        entries=ordered,
        spent=spent,
        mark=legend(shown) if spent else "",
        failed=[entry for entry in ordered if entry.row.failed],
        groups=groups,
        legend=_legend(groups),
        counters=metrics.COUNTERS,
        moved=_moved(session, ordered),
        changes=_changes(session),
        notes=grouped_notes(session),
        environment=_environment(session),
        packages=sorted(session.environment.packages.items()),
        machines=_machines(session),
        settings=sorted((settings or {}).items()),
        plain=plain,
        geometry=latency_strips,
        held=held,
        roofline=line_charts.roofline(entry.held for entry in held if entry.held is not None),
        leading=leading,
        headline=words.headline(advice) if leading else session.gate.headline,
        advised=bool(advice or questions),
        answers=[_answer(answer, common) for answer in advice],
        summary=words.summary_rows(advice),
        summary_headers=words.SUMMARY,
        common=common,
        questions=questions,
        assumptions=words.ASSUMPTIONS,
    )


def _held(result: CaseResult | None, label: str) -> Held | None:
    """What holds a case back, where that is known."""
    found = None if result is None else bottleneck(result)
    if result is None or found is None:
        return None
    machine = "" if result.hardware is None else f", {plain(result.hardware.text)}"
    bandwidth = 0.0 if result.peaks is None else result.peaks.bandwidth
    return Held(
        label=label, machine=f"{plain(result.case.device)}{machine}", found=found, bandwidth=bandwidth
    )


def _answer(advice: Advice, common: Collection[str]) -> Answer:
    return Answer(
        advice=advice,
        name=_name(plain(advice.model)),
        question=words.question(advice),
        verdict=words.verdict(advice),
        findings=words.findings(advice),
        headers=words.headers(advice),
        plans=[words.cells(plan) for plan in advice.plans],
        prices=list(dict.fromkeys(map(words.price, advice.plans))),
        charts=line_charts.charts(advice),
        remarks=words.remarks(advice, common),
    )


def kind(row: Row) -> str:
    """Colour and shape of a verdict: ``bad``, ``warn``, ``good`` or ``none``."""
    if row.verdict in FAILING:
        return "warn" if row.accepted else "bad"
    return "none" if row.verdict is None else _KINDS.get(row.verdict, "none")


@functools.cache
def _jinja() -> Environment:
    return Environment(
        loader=PackageLoader("pytest_infergate", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template() -> Template:
    return _jinja().get_template("report.html")


def _style(spent: Iterable[str]) -> str:
    """Render the style sheet; `spent` are headers of columns that the table of all cases has besides."""
    return _jinja().get_template("style.css").render(spent=list(spent))


def _hash(style: str) -> str:
    """The style's source expression in a content policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def _groups(pairs: Iterable[Judged]) -> tuple[Group, ...]:
    """Group cases by test, the test of the gravest case first."""
    tests: dict[str, list[Judged]] = {}
    for pair in pairs:
        tests.setdefault(_subject(pair).case.test, []).append(pair)
    return tuple(_group(index, test, cases) for index, (test, cases) in enumerate(tests.items(), 1))


def _subject(pair: Judged) -> CaseResult | CaseVerdict:
    subject = pair.result or pair.verdict
    if subject is None:
        raise ValueError("a case needs a result or a verdict")
    return subject


def _group(index: int, test: str, pairs: Sequence[Judged]) -> Group:
    anchor = f"t{index}"
    entries = [_entry(pair, anchor) for pair in pairs]
    graves = min(entries, key=_severity)
    words = Counter(entry.row.word for entry in sorted(entries, key=_severity))
    told = sorted(zip(entries, pairs, strict=True), key=lambda item: _axes(item[0]))
    return Group(
        anchor=anchor,
        name=_name(plain(test)),
        kind=graves.kind,
        text=", ".join(f"{count} {word}" if len(entries) > 1 else word for word, count in words.items()),
        entries=tuple(entry for entry, _ in told),
        picture=latency_strips.picture(_series(entry, pair) for entry, pair in told),
        spent=_spent((entry.label, pair.result) for entry, pair in told),
        opened=any(entry.row.failed for entry in entries),
    )


def _entry(pair: Judged, anchor: str) -> CaseEntry:
    shown = row(pair)
    label = within_test(shown.case) + shown.place
    return CaseEntry(
        row=shown,
        kind=kind(shown),
        name=_name(shorten(shown.nodeid, NAME)),
        anchor=anchor,
        label=label,
        latency=_latency(pair),
        work=_work(pair.result),
        held=_held(pair.result, label),
    )


def _severity(entry: CaseEntry) -> tuple[object, ...]:
    verdict = entry.row.verdict
    rank = len(SEVERITY) if verdict is None else SEVERITY[verdict]
    return not entry.row.failed, rank, entry.row.case.test, _axes(entry)


def _axes(entry: CaseEntry) -> tuple[object, ...]:
    """Siblings in their natural order: device first, numbers as numbers."""
    case = entry.row.case
    return case.params, case.device, case.runtime, case.dtype or "", case.batch_size, case.threads or 0


def _name(nodeid: str) -> Name:
    cut = nodeid.partition("[")[0].rfind("::") + 2
    return Name(nodeid[:cut], nodeid[cut:]) if cut > 1 else Name("", nodeid)


def _latency(pair: Judged) -> tuple[str, ...]:
    """Cells of the table beside a picture: calls, percentiles with bounds, first call, expected, limits."""
    result, verdict = pair
    if result is None or result.measurement is None:
        return ()
    latency = result.measurement.latency
    return (
        f"{latency.count:,}",
        *map(_bounded, (latency.p50, latency.p95, latency.p99)),
        units.seconds(result.measurement.cold_start),
        units.seconds(_expected(verdict)),
        ", ".join(_limit(check, result) for check in _checks(verdict)) or units.UNKNOWN,
    )


def _work(result: CaseResult | None) -> dict[str, str]:
    """Exact counters of a case in words, by name, but for those of nothing and those told elsewhere."""
    if result is None or result.measurement is None:
        return {}
    totals = result.measurement.counters.totals
    return {
        name: counter.show(totals[name])
        for name, counter in metrics.COUNTERS.items()
        if totals.get(name) and name not in TOLD_ELSEWHERE
    }


def _spent(cases: Iterable[tuple[str, CaseResult | None]]) -> Spent | None:
    """Energy, CO2e and cost of the cases of a test, by their labels; ``None`` where nothing is known."""
    told = [(label, found) for label, result in cases if (found := cost_and_energy(result)).basis]
    if not told:
        return None
    fields = [
        field for field in EXPENSE_HEADERS if any(getattr(one, field) != units.UNKNOWN for _, one in told)
    ]
    return Spent(
        headers=("Case", *(EXPENSE_HEADERS[field] for field in fields)),
        lines=tuple((label, *(getattr(one, field) for field in fields)) for label, one in told),
        bases=bases(told),
    )


def _moved(session: Session, entries: Sequence[CaseEntry]) -> list[Moved]:
    """Cases with counters that changed, the gravest first."""
    by_case = {verdict.case: verdict.comparisons for verdict in session.gate.verdicts}
    found = []
    for entry in entries:
        rows = [
            row
            for row in by_case.get(entry.row.case, ())
            if row.evidence == "exact" and row.verdict in (Verdict.REGRESSED, Verdict.IMPROVED)
        ]
        if rows:
            changes = tuple((_KINDS.get(row.verdict, "bad"), _change(row)) for row in rows)
            found.append(Moved(entry=entry, changes=changes, causes=wording.causes(rows)))
    return found


def _change(row: Comparison) -> str:
    """``operators 24 → 28 (+16.7 %)``."""
    metric = wording.compared_metric(row.metric)
    share = "" if row.effect is None else f" ({units.percent(row.effect)})"
    return f"{metric.text} {metric.show(row.baseline)} → {metric.show(row.candidate)}{share}"


def _bounded(estimate: Estimate) -> str:
    """A time, and on a line below what bounds it has."""
    value, low, high = map(units.seconds, (estimate.value, estimate.low, estimate.high))
    if estimate.low is not None and estimate.high is not None:
        return f"{value}\n{low} to {high}"
    if estimate.low is not None:
        return f"{value}\n{low} or more"
    return value if estimate.high is None else f"{value}\n{high} or less"


def _checks(verdict: CaseVerdict | None) -> tuple[BudgetCheck, ...]:
    return () if verdict is None else verdict.budgets


def _limit(check: BudgetCheck, result: CaseResult) -> str:
    metric = wording.budget_metric(check.budget.metric)
    return f"{plain(check.budget.metric)} {wording.formatted(metric, check.budget.limit, result)}"


def _expected(verdict: CaseVerdict | None) -> float | None:
    """What the baseline lets expect of the median, in seconds."""
    rows = () if verdict is None else verdict.comparisons
    return next((item.baseline for item in rows if item.metric == "p50"), None)


def _series(entry: CaseEntry, pair: Judged) -> Series:
    latency = None if pair.result is None or pair.result.measurement is None else pair.result.measurement
    if latency is None:
        return Series(label=entry.label, figures="", percentiles=())
    return Series(
        label=_beside(within_test(entry.row.case), entry.row.place),
        figures=f"p50 {entry.row.p50} · p95 {entry.row.p95}",
        percentiles=latency.latency.percentiles,
        marks=tuple(_marks(latency.latency, pair.verdict)),
        failed=entry.kind == "bad",
    )


def _beside(label: str, place: str) -> str:
    """Name a case in a picture: what tells it from its siblings, and of its place what there is room for."""
    room = LABEL - len(label)
    if room <= 0:
        return shorten(label, LABEL)
    return label + (place if len(place) <= room else place[: room - 1] + ELLIPSIS)


def _marks(latency: Latency, verdict: CaseVerdict | None) -> Iterable[Mark]:
    for check in _checks(verdict):
        if check.budget.metric in LIMITED:
            yield Mark(symbol="limit", seconds=check.budget.limit * LIMITED[check.budget.metric])
    expected = _expected(verdict)
    if expected is not None:
        yield Mark(symbol="expected", seconds=expected)
    yield Mark(symbol="p95", seconds=latency.p95.value)
    yield Mark(symbol="p50", seconds=latency.p50.value)


def _legend(groups: Iterable[Group]) -> frozenset[str]:
    """Symbols that occur in any picture."""
    return frozenset(
        symbol
        for group in groups
        if group.picture is not None
        for strip in group.picture.strips
        for symbol, _ in strip.marks
    )


def _tally(entries: Iterable[CaseEntry]) -> list[tuple[str, str, int]]:
    """Kind, word and count of each verdict, gravest first."""
    counts = Counter((entry.kind, entry.row.word) for entry in entries)
    return [(kind_, word, count) for (kind_, word), count in counts.items()]


def _changes(session: Session) -> list[tuple[str, list[str]]]:
    gate = session.gate
    name = called(gate)
    lists = [
        ("New, unknown to the baseline", [name(case) for case in gate.new]),
        ("Missing, in the baseline only", [name(case) for case in gate.missing]),
        ("Renamed, it seems", [f"{name(old)} → {name(new)}" for old, new in gate.renamed]),
        ("Deselected", [plain(str(note)) for note in gate.deselected]),
    ]
    return [(title, names) for title, names in lists if names]


def _machines(session: Session) -> list[Machine]:
    counts = Counter(result.hardware for result in session.cases if result.hardware is not None)
    return [Machine(hardware, count) for hardware, count in counts.most_common()]


def _environment(session: Session) -> list[tuple[str, str]]:
    known = session.environment
    threads = {str(case.measurement.threads) for case in session.cases
               if case.measurement is not None and case.measurement.threads is not None}  # fmt: skip
    lines = {
        "System": known.os,
        "Python": known.python,
        "Memory": "" if known.memory_bytes is None else units.bytes_(known.memory_bytes),
        "Machine": "virtual: its speed follows the neighbours" if known.virtual else "not virtual",
        "Threads in an operator": ", ".join(sorted(threads)),
        "OMP_WAIT_POLICY": known.wait_policy or "not set",
    }
    return [(label, plain(text)) for label, text in lines.items() if text]

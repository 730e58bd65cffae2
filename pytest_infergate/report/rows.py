"""A session as rows: the figures that the terminal, the HTML page and other readers show alike."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.measurement import Measurement
from pytest_infergate.core.domain.model import Case, Note, Struct
from pytest_infergate.core.domain.outcome import (
    BudgetCheck,
    CaseResult,
    CaseVerdict,
    Comparison,
    Session,
    Verdict,
)
from pytest_infergate.core.gate.decide import SEVERITY
from pytest_infergate.report import hints, wording
from pytest_infergate.report.cost_and_energy import ESTIMATED, LEGEND, cost_and_energy
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.wording import Message

NOT_JUDGED = "not judged"
EXPENSES: Final = {"energy": "energy/item", "cost": "cost/million"}
"""Headers by the field of a row, of columns that are there only where a row has such a figure."""


class Pair(Struct, frozen=True, kw_only=True):
    """What a paired run says of the time of a case, in words."""

    was: str = units.UNKNOWN
    now: str = units.UNKNOWN
    change: str = units.UNKNOWN
    interval: str = units.UNKNOWN
    launches: str = units.UNKNOWN


class Row(Struct, frozen=True, kw_only=True):
    """One case as people read it; every text is safe to print, though not escaped for HTML."""

    case: Case
    nodeid: str
    verdict: Verdict | None
    """``None``: measured, and nobody judged it."""
    failed: bool = False
    accepted: bool = False
    """Whether it would fail, had a commit not accepted it."""
    machine: str = ""
    """What it ran on, where results of several machines stand together."""
    p50: str = units.UNKNOWN
    p95: str = units.UNKNOWN
    throughput: str = units.UNKNOWN
    peak_memory: str = units.UNKNOWN
    energy: str = units.UNKNOWN
    """Of an item, marked where it is an estimate."""
    co2e: str = units.UNKNOWN
    """Of a million items, marked likewise."""
    cost: str = units.UNKNOWN
    """Of a million items."""
    budget: str = units.UNKNOWN
    pair: Pair | None = None
    """``None`` where the run was compared with a stored baseline."""
    message: Message

    @property
    def place(self) -> str:
        """`` on 1 x NVIDIA L4``, empty where there is one machine only."""
        return f" on {self.machine}" if self.machine else ""

    @property
    def word(self) -> str:
        """The verdict in a word."""
        if self.verdict is None:
            return NOT_JUDGED
        return f"{self.verdict.value} (accepted)" if self.accepted else self.verdict.value


class NoteGroup(Struct, frozen=True, kw_only=True):
    """One note and the cases it was made of, in the order of the rows."""

    note: Note
    nodeids: tuple[str, ...]


class Judged(NamedTuple):
    """The two halves of a case: what was measured and what was made of it. One of them may be missing."""

    result: CaseResult | None
    verdict: CaseVerdict | None


def paired_with_verdicts(session: Session) -> tuple[Judged, ...]:
    """Pair results with verdicts, gravest first as the gate ordered them; nothing is dropped.

    Cases that occur twice on one machine are paired in the order in which they stand.
    """
    several = any(verdict.machine for verdict in session.gate.verdicts)
    waiting: dict[tuple[str, Case, str], deque[int]] = defaultdict(deque)
    for index, result in enumerate(session.cases):
        machine = result.hardware.id if several and result.hardware is not None else ""
        waiting[result.nodeid, result.case, machine].append(index)
    pairs = []
    for verdict in session.gate.verdicts:
        indices = waiting.get((verdict.nodeid, verdict.case, verdict.machine))
        pairs.append(Judged(session.cases[indices.popleft()] if indices else None, verdict))
    left = sorted(index for indices in waiting.values() for index in indices)
    return (*pairs, *(Judged(session.cases[index], None) for index in left))


def rows(session: Session) -> tuple[Row, ...]:
    """One row a case, in the order of `joined`."""
    return tuple(map(row, paired_with_verdicts(session)))


def row(judged: Judged) -> Row:
    """Put one case into words."""
    result, verdict = judged
    subject = verdict or result
    if subject is None:
        raise ValueError("a row needs a result or a verdict")
    measurement = None if result is None else result.measurement
    spent = cost_and_energy(result)
    return Row(
        case=subject.case,
        nodeid=plain(subject.nodeid),
        machine=plain(result.hardware.text)
        if verdict and verdict.machine and result and result.hardware
        else "",
        verdict=None if verdict is None else verdict.verdict,
        failed=verdict is not None and verdict.failed,
        accepted=verdict is not None and verdict.accepted,
        energy=spent.energy,
        co2e=spent.co2e,
        cost=spent.cost,
        budget=units.UNKNOWN if verdict is None else budget_words(verdict.budgets, result),
        pair=None if verdict is None else _pair(verdict.comparisons),
        message=_message(result, verdict),
        **_figures(measurement, plain((result and result.unit) or "")),
    )


def expenses(shown: Sequence[Row]) -> tuple[str, ...]:
    """Name those of `EXPENSES` that any row has. Workers of a paired run serve nobody: there it is none."""
    if any(row.pair is not None for row in shown):
        return ()
    return tuple(name for name in EXPENSES if any(getattr(row, name) != units.UNKNOWN for row in shown))


def legend(shown: Sequence[Row]) -> str:
    """Say what the mark of an estimate means; empty where no energy that is shown bears it."""
    marked = "energy" in expenses(shown) and any(row.energy.startswith(ESTIMATED) for row in shown)
    return LEGEND if marked else ""


def _message(result: CaseResult | None, verdict: CaseVerdict | None) -> Message:
    if verdict is not None:
        return wording.explain(verdict, result)
    if result is None:
        raise ValueError("a message needs a result or a verdict")
    return wording.explain_result(result)


def _pair(comparisons: Sequence[Comparison]) -> Pair | None:
    found = next((item for item in comparisons if item.evidence == "paired"), None)
    if found is None:
        return None
    interval = units.UNKNOWN
    if found.low is not None and found.high is not None:
        interval = f"{units.percent(found.low)} to {units.percent(found.high)}"
    return Pair(
        was=units.seconds(found.baseline),
        now=units.seconds(found.candidate),
        change=units.percent(found.effect),
        interval=interval,
        launches=str(found.sessions) if found.sessions else units.UNKNOWN,
    )


def _figures(measurement: Measurement | None, unit: str) -> dict[str, str]:
    if measurement is None:
        return {}
    return {
        "p50": units.seconds(measurement.latency.p50.value),
        "p95": units.seconds(measurement.latency.p95.value),
        "throughput": units.rate(measurement.throughput, unit),
        "peak_memory": units.bytes_(measurement.memory.peak),
    }


def budget_words(checks: Sequence[BudgetCheck], result: CaseResult | None = None) -> str:
    """Sum up the budgets of a case: ``kept``, or the gravest that was not, and how many more were not."""
    if not checks:
        return units.UNKNOWN
    open_ = [check for check in checks if check.verdict is not None]
    if not open_:
        return "kept"
    open_.sort(key=_severity)
    more = f" (and {len(open_) - 1} more)" if len(open_) > 1 else ""
    return _budget_words(open_[0], result) + more


def _severity(check: BudgetCheck) -> tuple[int, bool]:
    rank = len(SEVERITY) if check.verdict is None else SEVERITY[check.verdict]
    return rank, hints.not_decided(check)


def _budget_words(check: BudgetCheck, result: CaseResult | None) -> str:
    metric = wording.budget_metric(check.budget.metric)
    name = plain(check.budget.metric)
    if hints.not_decided(check):
        return f"not decided: {name}: {wording.why_not_decided(check)}"
    value = wording.formatted(metric, None if check.value is None else check.value.value, result)
    limit = wording.formatted(metric, check.budget.limit, result)
    if check.verdict is not Verdict.OVER_BUDGET:
        return f"close: {name} {value}, limit {limit}"
    word, sign = ("over", ">") if metric.better == "lower" else ("under", "<")
    return f"{word}: {name} {value} {sign} {limit}"


def grouped_notes(session: Session) -> tuple[NoteGroup, ...]:
    """Every note of a session once, those of most cases first."""
    groups: dict[Note, dict[str, None]] = {}
    for result, verdict in paired_with_verdicts(session):
        for nodeid, note in (*_result_notes(result), *_verdict_notes(verdict)):
            groups.setdefault(note, {})[plain(nodeid)] = None
    ordered = sorted(groups.items(), key=lambda pair: -len(pair[1]))
    return tuple(NoteGroup(note=_plain_note(note), nodeids=tuple(ids)) for note, ids in ordered)


def _result_notes(result: CaseResult | None) -> Iterable[tuple[str, Note]]:
    if result is None:
        return
    if result.reason is not None:
        yield result.nodeid, result.reason
    if result.measurement is not None:
        yield from ((result.nodeid, note) for note in result.measurement.notes)


def _verdict_notes(verdict: CaseVerdict | None) -> Iterable[tuple[str, Note]]:
    if verdict is None:
        return
    yield from ((verdict.nodeid, note) for note in verdict.notes)
    notes = [row.note for row in verdict.comparisons] + [check.note for check in verdict.budgets]
    yield from ((verdict.nodeid, note) for note in notes if note is not None)


def _plain_note(note: Note) -> Note:
    return Note(code=plain(note.code), text=plain(note.text), hint=plain(note.hint))

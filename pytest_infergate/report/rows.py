"""The rows of a session: one case each, as the terminal, the HTML page and Markdown show it."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.metrics import COUNTERS
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.outcome import (
    BudgetCheck,
    CaseResult,
    CaseVerdict,
    Comparison,
    GateResult,
    Session,
    Verdict,
)
from pytest_infergate.core.domain.values import HASH_LENGTH, Case, Note, Struct
from pytest_infergate.core.gate.compared_cases import uncompared
from pytest_infergate.core.gate.decide import FAILING
from pytest_infergate.report import hints, wording
from pytest_infergate.report.cost_and_energy import cost_and_energy
from pytest_infergate.report.runtime_tables import accuracy_figure
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.wording import Message

NOT_JUDGED = "not judged"
COUNTED_COLUMNS: Final = ("operators", "flops", "bytecodes")
"""Counters that the table shows in place of times, if a run takes no times."""


ONE_CAUSE: Final = frozenset(
    (
        NoteCode.CPU_CONTENTION,
        NoteCode.CONTENDED_TIME,
        NoteCode.NOT_STEADY,
        NoteCode.PAGE_FAULTS,
        NoteCode.SPEED_CHANGED,
        NoteCode.STORED_TIMING_IS_COARSE,
    )
)
"""Codes of notes whose texts differ only in the figures of the case."""


class TimeChange(Struct, frozen=True, kw_only=True):
    """The median call time of baseline and candidate, as text."""

    was: str = units.UNKNOWN
    now: str = units.UNKNOWN
    change: str = units.UNKNOWN
    interval: str = units.UNKNOWN
    launches: str = units.UNKNOWN
    """Number of process launches behind the decision; unknown for a stored baseline."""
    paired: bool
    """Whether both were measured in this run; otherwise the baseline is a stored one."""

    @property
    def text(self) -> str:
        """``+8.7 % (+7.7 % to +9.7 %)``."""
        return self.change if self.interval == units.UNKNOWN else f"{self.change} ({self.interval})"


class Row(Struct, frozen=True, kw_only=True):
    """One case as text that is safe to print, but not escaped for HTML."""

    case: Case
    nodeid: str
    verdict: Verdict | None
    """``None`` if the case was measured, but not judged."""
    failed: bool = False
    accepted: bool = False
    """Whether the case would fail without a commit that accepts it."""
    machine: str = ""
    """Hardware of the case, in a table of several machines."""
    p50: str = units.UNKNOWN
    p95: str = units.UNKNOWN
    throughput: str = units.UNKNOWN
    error: str = units.UNKNOWN
    """Largest difference from the output of eager PyTorch on the CPU, as a share of the largest value."""
    accuracy: str = units.UNKNOWN
    """What the user's function of accuracy returned."""
    counted: bool = False
    """Whether counters were taken and no times."""
    absent: bool = False
    """Whether the device of the case is not there."""
    operators: str = units.UNKNOWN
    flops: str = units.UNKNOWN
    bytecodes: str = units.UNKNOWN
    peak_memory: str = units.UNKNOWN
    energy: str = units.UNKNOWN
    """Energy per item, marked if it is an estimate."""
    estimated: bool = False
    """Whether the energy is an estimate."""
    cost: str = units.UNKNOWN
    """Cost per million items."""
    budget_parts: tuple[str, ...] = ()
    """The outcome of the budgets, followed by details; empty without a budget."""
    time: TimeChange | None = None
    """``None`` if the median was not compared."""
    message: Message

    @property
    def budget(self) -> str:
        """``over: p95_ms 61.0 ms > 60.0 ms``."""
        return ": ".join(self.budget_parts) or units.UNKNOWN

    @property
    def place(self) -> str:
        """`` on 1 x NVIDIA L4``; empty in a table of one machine."""
        return f" on {self.machine}" if self.machine else ""

    @property
    def paired(self) -> bool:
        """Whether the time was compared call by call."""
        return self.time is not None and self.time.paired

    @property
    def verdict_text(self) -> str:
        """The verdict as text."""
        if self.verdict is None:
            return NOT_JUDGED
        return f"{self.verdict.value} (accepted)" if self.accepted else self.verdict.value

    @property
    def finding(self) -> str:
        """The findings behind the verdict, for a table that has a column of verdicts."""
        return self.message.title if self.verdict is None else self.message.summary

    @property
    def outcome(self) -> str:
        """The verdict, with a mark if it fails the run although verdicts of its kind usually do not."""
        if self.failed and self.verdict not in FAILING:
            return f"{self.verdict_text} (fails)"
        return self.verdict_text


class NoteGroup(Struct, frozen=True, kw_only=True):
    """One note, and the cases that have it in the order of the rows."""

    note: Note
    nodeids: tuple[str, ...]


class CaseParts(NamedTuple):
    """The result and the verdict of a case, one of which may be missing."""

    result: CaseResult | None
    verdict: CaseVerdict | None

    @property
    def subject(self) -> CaseResult | CaseVerdict:
        """The part that is present; it names the case."""
        subject = self.verdict or self.result
        if subject is None:
            raise ValueError("a case needs a result or a verdict")
        return subject


def paired_with_verdicts(session: Session) -> tuple[CaseParts, ...]:
    """Pair results with verdicts in the order of the gate, the most severe first.

    Unpaired results and verdicts are kept. Cases that occur twice on one machine are paired in the order of
    the file.
    """
    several = any(verdict.machine for verdict in session.gate.verdicts)
    # A machine distinguishes cases only in merged results: other verdicts do not name one.
    waiting: dict[tuple[str, Case, str], deque[int]] = defaultdict(deque)
    for index, result in enumerate(session.cases):
        machine = result.hardware.id if several and result.hardware is not None else ""
        waiting[result.nodeid, result.case, machine].append(index)
    pairs = []
    for verdict in session.gate.verdicts:
        indices = waiting.get((verdict.nodeid, verdict.case, verdict.machine))
        pairs.append(CaseParts(session.cases[indices.popleft()] if indices else None, verdict))
    # A result without a verdict, for example of a foreign file, must not disappear from the report.
    left = sorted(index for indices in waiting.values() for index in indices)
    return (*pairs, *(CaseParts(session.cases[index], None) for index in left))


def rows(session: Session) -> tuple[Row, ...]:
    """Return one row for each case, in the order of `paired_with_verdicts`."""
    machines = {
        result.hardware.id: result.hardware.text for result in session.cases if result.hardware is not None
    }
    several = Counter(machines.values())
    found = []
    for parts in paired_with_verdicts(session):
        one = row(parts)
        # Two machines may differ in the instruction set only, which their descriptions do not contain.
        if one.machine and parts.verdict is not None and several[machines[parts.verdict.machine]] > 1:
            name = f"{one.machine} ({parts.verdict.machine[-HASH_LENGTH:]})"
            one = msgspec.structs.replace(one, machine=name)
        found.append(one)
    return tuple(found)


def row(parts: CaseParts) -> Row:
    """Format one case."""
    result, verdict = parts
    subject = parts.subject
    figures = {}
    counted = False
    if result is not None and result.measurement is not None:
        measured = result.measurement
        figures = {
            "throughput": units.rate(measured.throughput, plain(result.unit or "")),
            "error": units.power(None if measured.parity is None else measured.parity.error),
            "accuracy": accuracy_figure(measured.accuracy),
            "peak_memory": units.bytes_(measured.memory.peak),
            **{name: COUNTERS[name].show(measured.counters.totals.get(name)) for name in COUNTED_COLUMNS},
        }
        counted = measured.latency is None
        if measured.latency is not None:
            figures["p50"] = units.seconds(measured.latency.p50.value)
            figures["p95"] = units.seconds(measured.latency.seen(95))
    spent = cost_and_energy(result)
    if verdict is not None:
        message = wording.explain(verdict, result)
    elif result is not None:
        message = wording.explain_result(result)
    # Only merged results name a machine in the verdict: within one run, it is the same for all cases.
    machine = verdict is not None and verdict.machine and result is not None and result.hardware
    return Row(
        case=subject.case,
        nodeid=plain(subject.nodeid),
        machine=plain(machine.text) if machine else "",
        verdict=None if verdict is None else verdict.verdict,
        failed=verdict is not None and verdict.failed,
        accepted=verdict is not None and verdict.accepted,
        energy=spent.energy,
        estimated=spent.estimated,
        cost=spent.cost,
        counted=counted,
        absent=result is not None
        and result.reason is not None
        and result.reason.code in (NoteCode.DEVICE_ABSENT, NoteCode.RUNTIME_ABSENT),
        budget_parts=() if verdict is None else budget_parts(verdict.budgets, result, verdict.unchecked),
        time=None if verdict is None else _time_change(verdict.comparisons),
        message=message,
        **figures,
    )


def _time_change(comparisons: Sequence[Comparison]) -> TimeChange | None:
    """Return the change of the median: of a paired run if there is one, otherwise of a stored baseline."""
    # A paired comparison has less noise than one with a stored baseline.
    timed = [item for item in comparisons if item.metric == "p50" and item.evidence in ("paired", "stored")]
    if not timed:
        return None
    shown = min(timed, key=lambda item: item.evidence != "paired")
    interval = units.UNKNOWN
    if shown.low is not None and shown.high is not None:
        interval = f"{units.percent(shown.low)} to {units.percent(shown.high)}"
    paired = shown.evidence == "paired"
    recorded = wording.recorded_median(shown)
    return TimeChange(
        was=units.seconds(shown.baseline) + (f" (recorded {recorded})" if recorded else ""),
        now=units.seconds(shown.candidate),
        change=units.percent(shown.effect),
        interval=interval,
        launches=str(shown.sessions) if paired and shown.sessions else units.UNKNOWN,
        paired=paired,
    )


def budget_parts(
    checks: Sequence[BudgetCheck], result: CaseResult | None = None, unchecked: int = 0
) -> tuple[str, ...]:
    """Summarise the budgets of a case: the most severe one that is not met, and the number of others.

    The first part is the outcome: ``met``, ``over``, ``under``, ``inconclusive`` or ``not decided``. Budgets
    that are `unchecked`, because the run takes no times, are counted if all others are met.
    """
    # A cell has room for one budget: the most severe one.
    unmet = sorted((check for check in checks if check.verdict is not None), key=hints.check_severity)
    if not unmet:
        return ("met",) * bool(checks) + (f"{unchecked} not checked",) * bool(unchecked)
    more = f" (and {len(unmet) - 1} more)" if len(unmet) > 1 else ""
    check = unmet[0]
    metric, name = wording.budget_metric(check.budget.metric), plain(check.budget.metric)
    if hints.not_decided(check):
        return ("not decided", name, wording.why_not_decided(check) + more)
    value = wording.budget_figure(check, metric, result)
    limit = wording.formatted(metric, check.budget.limit, result)
    if check.verdict is not Verdict.OVER_BUDGET:
        return ("inconclusive", f"{name} {value}, limit {limit}{more}")
    outcome, sign = ("over", ">") if metric.better == "lower" else ("under", "<")
    return (outcome, f"{name} {value} {sign} {limit}{more}")


def without_cases(gate: GateResult) -> list[tuple[str, list[str]]]:
    """Return titled lists of the tests that have no case in this run; only those that are not empty."""
    titles: dict[str, str] = {NoteCode.UNUSED_MARKER: "Notes on other tests"}
    lists: dict[str, list[str]] = {}
    for note in gate.deselected:
        lists.setdefault(titles.get(note.code, "Deselected"), []).append(plain(str(note)))
    return list(lists.items())


def grouped_notes(session: Session) -> tuple[NoteGroup, ...]:
    """Group the notes of a session: outputs that were not compared, then the notes of most cases.

    Equal notes are one group, and so are those of one cause, which differ only in the figures of the cases.
    If several ask for more time, a group of its own states the limit that is enough for all of them.
    """
    groups: dict[Note | str, list[tuple[Note, str]]] = {}
    for parts in paired_with_verdicts(session):
        for note in dict.fromkeys(_notes(*parts)):
            cause = note.code if note.max_time is not None or note.code in ONE_CAUSE else note
            groups.setdefault(cause, []).append((note, plain(parts.subject.nodeid)))
    short = [same for same in groups.values() if any(note.max_time is not None for note, _ in same)]
    merged = [_merged(same, apart=bool(short[1:])) for same in groups.values()]
    if short[1:]:
        seconds = max(note.max_time or 0.0 for same in short for note, _ in same)
        note = Note(code=NoteCode.TIME_LIMIT, text="these cases lack time", hint=units.longer_limit(seconds))
        cases = dict.fromkeys(nodeid for same in short for _, nodeid in same)
        merged.append(NoteGroup(note=note, nodeids=tuple(cases)))
    # A report may show the first notes only: what no verdict covers comes before them. The sort is stable, so
    # that notes of equally many cases stay in the order of the rows.
    return tuple(
        sorted(
            merged,
            key=lambda group: (group.note.code != NoteCode.OUTPUTS_NOT_COMPARED, -len(group.nodeids)),
        )
    )


def _merged(same: Sequence[tuple[Note, str]], *, apart: bool) -> NoteGroup:
    """Join notes of one cause: the text is that of the first, the hint that with the longest time limit.

    With `apart`, the time limit is stated elsewhere.
    """
    notes = [note for note, _ in same]
    longest = max(notes, key=lambda note: note.max_time or 0.0)
    example = "" if all(note.text == notes[0].text for note in notes) else "for instance, "
    return NoteGroup(
        note=Note(
            code=plain(notes[0].code),
            text=example + plain(notes[0].text),
            hint="" if apart and longest.max_time is not None else plain(longest.hint),
        ),
        nodeids=tuple(dict.fromkeys(nodeid for _, nodeid in same)),
    )


def _notes(result: CaseResult | None, verdict: CaseVerdict | None) -> Iterable[Note]:
    measured = () if result is None or result.measurement is None else result.measurement.notes
    reason = None if result is None else result.reason
    yield from () if reason is None else (reason,)
    yield from measured
    if verdict is None:
        return
    yield from verdict.notes
    # Where a case has no baseline at all, that its counters have none either says nothing.
    alone = uncompared(verdict)
    judged = [item.note for item in verdict.comparisons if not (alone and item.evidence == "exact")]
    # A case without figures has one reason, however many budgets it has.
    known = None if reason is None else reason.text
    judged += [check.note for check in verdict.budgets if check.missing != known]
    # That other processes took time is one cause; the message of the case says what it hides.
    contended = any(note.code == NoteCode.CPU_CONTENTION for note in measured)
    hidden = NoteCode.CONTENDED_TIME if contended else None
    yield from (note for note in judged if note is not None and note.code != hidden)

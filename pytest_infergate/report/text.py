"""What the terminal shows: the table, the outcome, what changed, the notes, and why a test failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tabulate import tabulate

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, GateResult, Session, Verdict
from pytest_infergate.core.gate.decide import FAILING
from pytest_infergate.report import wording
from pytest_infergate.report.rows import EXPENSES, NoteGroup, Pair, Row, expenses, grouped_notes, legend, rows
from pytest_infergate.report.sanitize import called, plain, shorten

WIDTH = 100
ROWS_SHOWN = 200
"""Rows of the table, gravest first; the HTML page has them all."""
NAMES_SHOWN = 12
"""Entries of any list of cases."""
LEAST_NAME = 16
"""Columns that a case's name keeps, however narrow the terminal."""
CASE_HEADERS = ("case", "p50", "p95", "throughput", "peak memory", "budget", "verdict")
PAIRED_HEADERS = ("case", "was", "now", "change", "99 % interval", "launches", "verdict")
_ALIGNED = ("left", "right", "right", "right", "right", "left", "left")
_PAIRED_ALIGNED = ("left", "right", "right", "right", "right", "right", "left")
_GUTTER = 2
"""What tabulate adds to a header."""
_INDENT = "  "
_FLAGGED = FAILING | {Verdict.SUSPECTED, Verdict.INVALID}


class _Grid(NamedTuple):
    """A table before it is laid out; in its first column stand names."""

    headers: tuple[str, ...]
    aligned: tuple[str, ...]
    cells: list[tuple[str, ...]]


def terminal_summary(session: Session, width: int = WIDTH) -> str:
    """Everything the terminal section says, blocks apart by an empty line, without a final newline."""
    shown = rows(session)
    blocks = (
        base_lines(session),
        case_table(shown, width),
        flagged(shown, width),
        changes(session.gate, width),
        note_lines(grouped_notes(session), width),
        outcome(session.gate),
    )
    return "\n\n".join(block for block in blocks if block)


def base_lines(session: Session) -> str:
    """What a paired run was compared with, and the changes that are accepted; empty for any other."""
    against = session.against
    if against is None:
        return ""
    took = f"{units.plural(against.launches, 'launch')} in all, {units.duration(against.seconds)}"
    lines = [f"against {wording.described_base(against)}, call by call: {took}"]
    lines += [
        f"{_INDENT}accepted by a commit: {plain(pattern)}: {plain(reason) or 'no reason was given'}"
        for pattern, reason in against.accepted.items()
    ]
    return "\n".join(lines)


def outcome(gate: GateResult) -> str:
    """The headline, and a line for each reason to fail."""
    return "\n".join([plain(gate.headline), *(f"{_INDENT}{plain(reason)}" for reason in gate.reasons)])


def case_table(shown: Sequence[Row], width: int = WIDTH) -> str:
    """Lay the rows out in at most `width` columns where that can be done, empty where there are none.

    Room is found in the names first, then in the words about budgets; figures and verdicts stay whole. Energy
    and cost are told where any row has them, in a table of their own where names would have no room beside.
    """
    if not shown:
        return ""
    told = shown[:ROWS_SHOWN]
    paired = any(row.pair is not None for row in shown)
    spent = () if paired else expenses(told)
    grid, room = _fitted(_grid(told, spent, paired=paired), width)
    apart = bool(spent) and room < LEAST_NAME
    if apart:
        grid, room = _fitted(_grid(told, (), paired=paired), width)
    lines = [_laid_out(grid, room)]
    if len(shown) > ROWS_SHOWN:
        lines.append(f"and {units.plural(len(shown) - ROWS_SHOWN, 'more case')}, in --infer-report")
    if apart:
        grid = _expenses(told, spent)
        lines += ["", _laid_out(grid, _room_for_names(grid, width))]
    if spent and (mark := legend(told)):
        lines.append(mark)
    return "\n".join(lines)


def flagged(shown: Iterable[Row], width: int = WIDTH) -> str:
    """Name the cases that deserve a look although they do not fail the run."""
    analyses = [row for row in shown if row.verdict in _FLAGGED and not row.failed]
    names = [
        f"{shorten(row.nodeid, width - len(_INDENT))}{row.place}\n{_INDENT * 2}{row.message.title}"
        for row in analyses
    ]
    return _listed("worth a look, though not failing", names)


def changes(gate: GateResult, width: int = WIDTH) -> str:
    """List the cases that came, went, moved or were left out."""
    name = called(gate)
    room = width - len(_INDENT)
    half = (room - len(" -> ")) // 2
    pairs = [f"{shorten(name(old), half)} -> {shorten(name(new), half)}" for old, new in gate.renamed]
    blocks = (
        _listed("new, unknown to the baseline", [shorten(name(case), room) for case in gate.new]),
        _listed("missing, in the baseline only", [shorten(name(case), room) for case in gate.missing]),
        _listed("renamed, it seems", pairs),
        _listed("deselected", [plain(str(note)) for note in gate.deselected]),
    )
    return "\n".join(block for block in blocks if block)


def note_lines(groups: Iterable[NoteGroup], width: int = WIDTH) -> str:
    """Print each note once, with the case it is about or how many cases it is about."""
    lines = []
    for group in groups:
        about = (
            shorten(group.nodeids[0], width // 2)
            if len(group.nodeids) == 1
            else units.plural(len(group.nodeids), "case")
        )
        lines.append(f"{about}: {_sentence(group.note)}")
    return _listed("notes", lines)


def failure_message(verdict: CaseVerdict, result: CaseResult | None = None) -> str:
    """Report a case in pytest's failure section: what was measured, what is allowed, how sure, what next."""
    message = wording.explain(verdict, result)
    blocks = [message.title]
    for section in message.sections:
        lines = [f"{_INDENT}{section.text}: {section.verdict}"]
        pad = max((len(label) for label, _ in section.lines), default=0)
        lines += [f"{_INDENT * 2}{label:<{pad}}  {text}" for label, text in section.lines]
        blocks.append("\n".join(lines))
    if message.cures:
        blocks.append("\n".join([f"{_INDENT}next", *(f"{_INDENT * 2}- {hint}" for hint in message.cures)]))
    return "\n\n".join(blocks)


def _grid(told: Iterable[Row], spent: Sequence[str], *, paired: bool) -> _Grid:
    """The table of all rows, the fields of `spent` between memory and budget."""
    if paired:
        return _Grid(PAIRED_HEADERS, _PAIRED_ALIGNED, [_paired_cells(row) for row in told])
    return _Grid(
        (*CASE_HEADERS[:-2], *(EXPENSES[field] for field in spent), *CASE_HEADERS[-2:]),
        (*_ALIGNED[:-2], *("right" for _ in spent), *_ALIGNED[-2:]),
        [_cells(row, spent) for row in told],
    )


def _expenses(told: Iterable[Row], spent: Sequence[str]) -> _Grid:
    """The rows that have such a figure, and these alone."""
    cells = [(_called(row), *(getattr(row, field) for field in spent)) for row in told]
    return _Grid(
        (CASE_HEADERS[0], *(EXPENSES[field] for field in spent)),
        (_ALIGNED[0], *("right" for _ in spent)),
        [line for line in cells if set(line[1:]) != {units.UNKNOWN}],
    )


def _cells(row: Row, spent: Sequence[str]) -> tuple[str, ...]:
    figures = row.p50, row.p95, row.throughput, row.peak_memory, *(getattr(row, field) for field in spent)
    return _called(row), *figures, row.budget, _word(row)


def _paired_cells(row: Row) -> tuple[str, ...]:
    pair = row.pair or Pair()
    return _called(row), pair.was, pair.now, pair.change, pair.interval, pair.launches, _word(row)


def _called(row: Row) -> str:
    return row.nodeid + row.place


def _word(row: Row) -> str:
    return f"{row.word} (fails)" if row.failed and row.verdict not in FAILING else row.word


def _fitted(grid: _Grid, width: int) -> tuple[_Grid, int]:
    """Say so little about budgets that names keep a quarter of the width, and how many columns that is."""
    wanted = max(LEAST_NAME, width // 4)
    for parts in (3, 2, 1):
        cells = [(*row[:-2], ": ".join(row[-2].split(": ")[:parts]), row[-1]) for row in grid.cells]
        fitted = grid._replace(cells=cells)
        room = _room_for_names(fitted, width)
        if room >= wanted:
            break
    return fitted, room


def _room_for_names(grid: _Grid, width: int) -> int:
    columns = zip(grid.headers[1:], *(row[1:] for row in grid.cells), strict=True)
    return width - sum(max(map(len, column)) + _GUTTER for column in columns)


def _laid_out(grid: _Grid, room: int) -> str:
    """Cut names to the room that there is for them, or to the least that they keep."""
    # Headers are rows to tabulate, which would else pad them beyond their words.
    body = [grid.headers, *((shorten(row[0], max(LEAST_NAME, room)), *row[1:]) for row in grid.cells)]
    rule = tuple("-" * max(map(len, column)) for column in zip(*body, strict=True))
    text = tabulate(
        [body[0], rule, *body[1:]], tablefmt="plain", colalign=grid.aligned, disable_numparse=True
    )
    return "\n".join(line.rstrip() for line in text.splitlines())


def _listed(title: str, entries: Sequence[str]) -> str:
    """A titled list, cut where it grows long; empty where there is nothing to list."""
    if not entries:
        return ""
    lines = [f"{title} ({len(entries)}):", *(f"{_INDENT}{entry}" for entry in entries[:NAMES_SHOWN])]
    if len(entries) > NAMES_SHOWN:
        lines.append(f"{_INDENT}and {len(entries) - NAMES_SHOWN} more")
    return "\n".join(lines)


def _sentence(note: Note) -> str:
    return plain(str(note))

"""What the terminal shows: the table, the outcome, what changed, the notes, and why a test failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tabulate import tabulate

from pytest_infergate.core import units
from pytest_infergate.core.gate import FAILING
from pytest_infergate.core.model import CaseResult, CaseVerdict, GateResult, Note, Session, Verdict
from pytest_infergate.report import messages
from pytest_infergate.report.names import called, plain, shorten
from pytest_infergate.report.rows import NoteGroup, Pair, Row, grouped_notes, rows

WIDTH = 100
ROWS_SHOWN = 200
"""Rows of the table, gravest first; the HTML page has them all."""
NAMES_SHOWN = 12
"""Entries of any list of cases."""
LEAST_NAME = 16
"""Columns that a case's name keeps, however narrow the terminal."""
HEADERS = ("case", "p50", "p95", "throughput", "peak memory", "budget", "verdict")
PAIRED_HEADERS = ("case", "was", "now", "change", "99 % interval", "launches", "verdict")
_ALIGNED = ("left", "right", "right", "right", "right", "left", "left")
_PAIRED_ALIGNED = ("left", "right", "right", "right", "right", "right", "left")
_GUTTER = 2
"""What tabulate adds to a header."""
_INDENT = "  "
_FLAGGED = FAILING | {Verdict.SUSPECTED, Verdict.INVALID}


def terminal(session: Session, width: int = WIDTH) -> str:
    """Everything the terminal section says, blocks apart by an empty line, without a final newline."""
    shown = rows(session)
    blocks = (
        opponent(session),
        table(shown, width),
        flagged(shown, width),
        changes(session.gate, width),
        notes(grouped_notes(session), width),
        outcome(session.gate),
    )
    return "\n\n".join(block for block in blocks if block)


def opponent(session: Session) -> str:
    """What a paired run was compared with, and the changes that are accepted; empty for any other."""
    against = session.against
    if against is None:
        return ""
    took = f"{units.plural(against.launches, 'launch')}, {units.duration(against.seconds)}"
    lines = [f"against {messages.opponent(against)}, call by call: {took}"]
    lines += [
        f"{_INDENT}accepted by a commit: {plain(pattern)}: {plain(reason) or 'no reason was given'}"
        for pattern, reason in against.accepted.items()
    ]
    return "\n".join(lines)


def outcome(gate: GateResult) -> str:
    """The headline, and a line for each reason to fail."""
    return "\n".join([plain(gate.headline), *(f"{_INDENT}{plain(reason)}" for reason in gate.reasons)])


def table(shown: Sequence[Row], width: int = WIDTH) -> str:
    """Lay the rows out in at most `width` columns where that can be done, empty where there are none.

    Room is found in the names first, then in the words about budgets; figures and verdicts stay whole.
    """
    if not shown:
        return ""
    paired = any(row.pair is not None for row in shown)
    headers = PAIRED_HEADERS if paired else HEADERS
    cells, room = _fitted([_cells(row, paired=paired) for row in shown[:ROWS_SHOWN]], headers, width)
    # Headers are rows to tabulate, which would else pad them beyond their words.
    body = [headers, *((shorten(row[0], room), *row[1:]) for row in cells)]
    rule = tuple("-" * max(map(len, column)) for column in zip(*body, strict=True))
    text = tabulate(
        [body[0], rule, *body[1:]],
        tablefmt="plain",
        colalign=_PAIRED_ALIGNED if paired else _ALIGNED,
        disable_numparse=True,
    )
    lines = [line.rstrip() for line in text.splitlines()]
    if len(shown) > ROWS_SHOWN:
        lines.append(f"and {units.plural(len(shown) - ROWS_SHOWN, 'more case')}, in --infer-report")
    return "\n".join(lines)


def flagged(shown: Iterable[Row], width: int = WIDTH) -> str:
    """Name the cases that deserve a look although they do not fail the run."""
    looks = [row for row in shown if row.verdict in _FLAGGED and not row.failed]
    names = [
        f"{shorten(row.nodeid, width - len(_INDENT))}{row.place}\n{_INDENT * 2}{row.message.title}"
        for row in looks
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


def notes(groups: Iterable[NoteGroup], width: int = WIDTH) -> str:
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
    message = messages.explain(verdict, result)
    blocks = [message.title]
    for section in message.sections:
        lines = [f"{_INDENT}{section.words}: {section.verdict}"]
        pad = max((len(label) for label, _ in section.lines), default=0)
        lines += [f"{_INDENT * 2}{label:<{pad}}  {text}" for label, text in section.lines]
        blocks.append("\n".join(lines))
    if message.cures:
        blocks.append("\n".join([f"{_INDENT}next", *(f"{_INDENT * 2}- {cure}" for cure in message.cures)]))
    return "\n\n".join(blocks)


def _cells(row: Row, *, paired: bool) -> tuple[str, ...]:
    word = f"{row.word} (fails)" if row.failed and row.verdict not in FAILING else row.word
    name = row.nodeid + row.place
    if paired:
        pair = row.pair or Pair()
        return name, pair.was, pair.now, pair.change, pair.interval, pair.launches, word
    return name, row.p50, row.p95, row.throughput, row.peak_memory, row.budget, word


def _fitted(
    cells: list[tuple[str, ...]], headers: Sequence[str], width: int
) -> tuple[list[tuple[str, ...]], int]:
    """Say so little about budgets that names keep a quarter of the width, and how many columns that is."""
    wanted = max(LEAST_NAME, width // 4)
    for parts in (3, 2, 1):
        fitted = [(*row[:5], ": ".join(row[5].split(": ")[:parts]), row[6]) for row in cells]
        room = _room_for_names(fitted, headers, width)
        if room >= wanted:
            break
    return fitted, max(LEAST_NAME, room)


def _room_for_names(cells: Sequence[tuple[str, ...]], headers: Sequence[str], width: int) -> int:
    columns = zip(headers[1:], *(row[1:] for row in cells), strict=True)
    return width - sum(max(map(len, column)) + _GUTTER for column in columns)


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

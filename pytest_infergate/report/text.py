"""What the terminal shows: the table, the outcome, what changed, the notes, and why a test failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Recommendations
from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, GateResult, Session, Verdict
from pytest_infergate.core.gate.decide import FAILING
from pytest_infergate.report import advice, wording
from pytest_infergate.report.columns import Column
from pytest_infergate.report.rows import (
    CASE,
    COST,
    ENERGY,
    NoteGroup,
    Row,
    case_columns,
    grouped_notes,
    legend,
    rows,
)
from pytest_infergate.report.sanitize import called, plain, shorten
from pytest_infergate.report.text_table import LEAST_NAME, room_for_names, text_list, text_table

WIDTH: Final = 100
ROWS_SHOWN: Final = 200
"""Rows of the table, the most severe first; the HTML page has them all."""
NAMES_SHOWN: Final = 12
"""Entries of any list of cases."""
LEAST_ADVICE: Final = 5
"""Columns that the table of advice keeps, however narrow the terminal."""
_INDENT = "  "
_FLAGGED = FAILING | {Verdict.SUSPECTED, Verdict.INVALID}


def terminal_summary(session: Session, width: int = WIDTH) -> str:
    """Render the terminal section: blocks separated by an empty line, without a final newline."""
    shown = rows(session)
    # The outcome comes last, because a terminal shows the end of its output.
    blocks = (
        base_lines(session),
        case_table(shown, width, paired=session.against is not None),
        flagged(shown, width),
        changes(session.gate, width),
        note_lines(grouped_notes(session), width),
        advice_lines(session.advice, width),
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


def case_table(shown: Sequence[Row], width: int = WIDTH, *, paired: bool = False) -> str:
    """Lay the rows out in at most `width` columns where possible; empty without rows.

    Names are shortened first, then the details of budgets; figures and verdicts stay whole. Where energy and
    cost would leave no room for names, they follow in a table of their own.
    """
    if not shown:
        return ""
    listed = shown[:ROWS_SHOWN]
    columns = case_columns(listed, paired=paired or any(row.paired for row in shown))
    spent = [column for column in columns if column in (ENERGY, COST)]
    fitted = _fit_budgets(columns, listed, width)
    # A name of fewer characters does not identify a case.
    apart = bool(spent) and room_for_names(columns, fitted, width) < LEAST_NAME
    if apart:
        columns = tuple(column for column in columns if column not in spent)
        fitted = _fit_budgets(columns, listed, width)
    lines = [text_table(columns, fitted, width)]
    if len(shown) > ROWS_SHOWN:
        lines.append(f"and {units.plural(len(shown) - ROWS_SHOWN, 'more case')}, in --infer-report")
    if apart:
        spending = [row for row in listed if any(column.cell(row) != units.UNKNOWN for column in spent)]
        lines += ["", text_table((CASE, *spent), spending, width)]
    if mark := legend(spent, listed):
        lines.append(mark)
    return "\n".join(lines)


def _fit_budgets(columns: Sequence[Column[Row]], shown: Sequence[Row], width: int) -> Sequence[Row]:
    """Leave out so many details of budgets that names keep a quarter of the width."""
    fitted = shown
    for parts in (3, 2, 1):
        fitted = [msgspec.structs.replace(row, budget_parts=row.budget_parts[:parts]) for row in shown]
        if room_for_names(columns, fitted, width) >= max(LEAST_NAME, width // 4):
            break
    return fitted


def flagged(shown: Iterable[Row], width: int = WIDTH) -> str:
    """Name the cases that deserve a look although they do not fail the run."""
    names = [
        f"{shorten(row.nodeid, width - len(_INDENT))}{row.place}\n{_INDENT * 2}{row.message.title}"
        for row in shown
        if row.verdict in _FLAGGED and not row.failed
    ]
    return _counted_list("worth a look, though not failing", names)


def changes(gate: GateResult, width: int = WIDTH) -> str:
    """List the cases that came, went, moved or were left out."""
    name = called(gate)
    room = width - len(_INDENT)
    half = (room - len(" -> ")) // 2
    pairs = [f"{shorten(name(old), half)} -> {shorten(name(new), half)}" for old, new in gate.renamed]
    blocks = (
        _counted_list("new, unknown to the baseline", [shorten(name(case), room) for case in gate.new]),
        _counted_list("missing, in the baseline only", [shorten(name(case), room) for case in gate.missing]),
        _counted_list("renamed, it seems", pairs),
        _counted_list("deselected", [plain(str(note)) for note in gate.deselected]),
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
        lines.append(f"{about}: {group.note}")
    return _counted_list("notes", lines)


def advice_lines(given: Recommendations | None, width: int = WIDTH) -> str:
    """The best plan of each model, and what is missing to advise on the others; empty without advice."""
    if given is None:
        return ""
    blocks = []
    if given.answers:
        best = advice.summary_rows(given.answers)
        columns = advice.SUMMARY_COLUMNS
        # The last columns, the demands that the plan covers, matter least.
        while len(columns) > LEAST_ADVICE and room_for_names(columns, best, width) < LEAST_NAME:
            columns = columns[:-1]
        table = text_table(columns, best[:ROWS_SHOWN], width)
        blocks.append(f"where to run it, by the machines measured here:\n{table}")
        if len(best) > ROWS_SHOWN:
            blocks.append(f"and {units.plural(len(best) - ROWS_SHOWN, 'more model')}, in --infer-report")
    blocks.append(text_list("no advice", advice.questions(given.unanswered), NAMES_SHOWN))
    return "\n".join(filter(None, blocks))


def failure_message(verdict: CaseVerdict, result: CaseResult | None = None) -> str:
    """Report a case in pytest's failure section: what was measured, what is allowed, how sure, what next."""
    message = wording.explain(verdict, result)
    blocks = [message.title]
    for section in message.sections:
        lines = [f"{_INDENT}{section.text}: {section.verdict}"]
        pad = max((len(label) for label, _ in section.lines), default=0)
        lines += [f"{_INDENT * 2}{label:<{pad}}  {text}" for label, text in section.lines]
        blocks.append("\n".join(lines))
    if message.hints:
        blocks.append("\n".join([f"{_INDENT}next", *(f"{_INDENT * 2}- {hint}" for hint in message.hints)]))
    return "\n\n".join(blocks)


def _counted_list(title: str, entries: Sequence[str]) -> str:
    return text_list(f"{title} ({len(entries)})", entries, NAMES_SHOWN)

"""The texts of the terminal: the summary of a session, and the message of a failed test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from pytest_infergate.core.advice.deployments import deployments
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Recommendations
from pytest_infergate.core.domain.outcome import (
    CaseResult,
    CaseVerdict,
    GateResult,
    Outcome,
    Session,
    Verdict,
)
from pytest_infergate.core.domain.values import Case
from pytest_infergate.core.gate.contention import IDLE, MAX_CONTENTION
from pytest_infergate.core.gate.decide import FAILING
from pytest_infergate.report import advice, advice_summary, gate_text, wording
from pytest_infergate.report.columns import CASE, COST, ENERGY, case_columns, legend
from pytest_infergate.report.load_table import LOAD_COLUMNS, LOAD_TITLE, load_rows
from pytest_infergate.report.rows import NoteGroup, Row, grouped_notes, rows, without_cases
from pytest_infergate.report.runtime_tables import runtime_lines
from pytest_infergate.report.sanitize import called, plain, shorten
from pytest_infergate.report.stream_table import STREAM_COLUMNS, STREAM_TITLE, stream_rows
from pytest_infergate.report.table import Column, shown_columns
from pytest_infergate.report.text_table import (
    MIN_NAME,
    room_for_names,
    stacked_rows,
    text_list,
    text_table,
    wrapped,
)

_T = TypeVar("_T")

WIDTH: Final = 100
# A longer table would push the outcome out of sight in the log of a CI job.
ROWS_SHOWN: Final = 200
"""Maximum number of rows of the table; the HTML page has all rows."""
NAMES_SHOWN: Final = 12
"""Maximum number of entries of a list of cases."""
CASES_NAMED: Final = 2
"""Number of cases that a note names; the others are counted."""
MAX_NAME: Final = 400
"""Number of characters of a name outside of tables, which is whole."""
DISPENSABLE: Final = ("usd_per_million", "p95")
"""Columns that the table of advice loses on a narrow terminal: without the others, it answers nothing."""
SPARE_FIGURES: Final = ("busy", "queue", "batch", "goodput", "rate", "growth", "items", "output", "prompt")
"""Columns that tables of figures beside that of all cases lose on a narrow terminal."""
_INDENT = "  "
_FLAGGED = FAILING | {Verdict.SUSPECTED, Verdict.INVALID}


def terminal_summary(session: Session, width: int = WIDTH, results: str = "results.json") -> str:
    """Render the section of the terminal: blocks separated by an empty line, without a final newline.

    `results` is the results file that commands in it name.
    """
    shown = rows(session)
    # The outcome comes last, because a terminal shows the end of its output.
    blocks = (
        base_lines(session),
        # A note lists the cases of absent devices, which would fill the table.
        case_table(
            [row for row in shown if not row.absent] or shown, width, paired=session.against is not None
        ),
        figure_lines(STREAM_TITLE, STREAM_COLUMNS, stream_rows(_named_cases(session)), width),
        figure_lines(LOAD_TITLE, LOAD_COLUMNS, load_rows(_named_cases(session)), width),
        text_list("runtimes", runtime_lines(session), ROWS_SHOWN, width),
        flagged(shown),
        changes(session.gate),
        note_lines(grouped_notes(session)),
        advice_lines(session.advice, width, advice_summary.without_demand(session), results),
        outcome(session),
    )
    return "\n\n".join(block for block in blocks if block)


def base_lines(session: Session) -> str:
    """Describe the base of a paired run, and the changes that commits accept; empty for any other run."""
    against = session.against
    if against is None:
        return ""
    effort = f"{units.plural(against.launches, 'launch')} in total, {units.duration(against.seconds)}"
    lines = [f"compared with {wording.described_base(against)}, {wording.compared_how(against)}: {effort}"]
    lines += [
        f"{_INDENT}accepted by a commit: {plain(pattern)}: {plain(reason) or 'no reason was given'}"
        for pattern, reason in against.accepted.items()
    ]
    return "\n".join(lines)


def outcome(session: Session) -> str:
    """Render the headline, each reason why the run fails, and what was checked."""
    details = [*map(plain, session.gate.reasons), *gate_text.gate_lines(session)]
    return "\n".join([plain(session.gate.headline), *(f"{_INDENT}{line}" for line in details)])


def case_table(shown: Sequence[Row], width: int = WIDTH, *, paired: bool = False) -> str:
    """Render the table of cases, at most `width` characters wide if possible; empty without rows.

    Names are shortened first, then the details of budgets; figures and verdicts are not. Energy and cost
    follow in a table of their own if they would leave no room for names.
    """
    if not shown:
        return ""
    listed = shown[:ROWS_SHOWN]
    columns = case_columns(listed, paired=paired or any(row.paired for row in shown))
    spending = [column for column in columns if column in (ENERGY, COST)]
    fitted = _fit_budgets(columns, listed, width)
    # A shorter name does not identify a case.
    apart = bool(spending) and room_for_names(columns, fitted, width) < MIN_NAME
    if apart:
        # A second table is easier to read than one whose lines wrap.
        columns = tuple(column for column in columns if column not in spending)
        fitted = _fit_budgets(columns, listed, width)
    lines = [text_table(columns, fitted, width)]
    if len(shown) > ROWS_SHOWN:
        lines.append(f"and {units.plural(len(shown) - ROWS_SHOWN, 'more case')} (see --infer-report)")
    if apart:
        known = [row for row in listed if any(column.cell(row) != units.UNKNOWN for column in spending)]
        lines += ["", text_table((CASE, *spending), known, width)]
    if mark := legend(spending, listed):
        lines.append(mark)
    return "\n".join(lines)


def _fit_budgets(columns: Sequence[Column[Row]], shown: Sequence[Row], width: int) -> Sequence[Row]:
    """Leave out details of budgets until names have a quarter of the width."""
    fitted = shown
    for parts in (3, 2, 1):
        fitted = [msgspec.structs.replace(row, budget_parts=row.budget_parts[:parts]) for row in shown]
        if room_for_names(columns, fitted, width) >= max(MIN_NAME, width // 4):
            break
    return fitted


def figure_lines(title: str, columns: Sequence[Column[_T]], found: Sequence[_T], width: int = WIDTH) -> str:
    """Render a table of figures of some cases below its title; empty without rows."""
    if not found:
        return ""
    shown = shown_columns(columns, found)
    while shown[-1].key in SPARE_FIGURES and room_for_names(shown, found, width) < MIN_NAME:
        shown = shown[:-1]
    return f"{title}:\n{text_table(shown, found[:ROWS_SHOWN], width)}"


def _named_cases(session: Session) -> list[tuple[str, CaseResult | None]]:
    return [(plain(result.nodeid), result) for result in session.cases]


def flagged(shown: Iterable[Row]) -> str:
    """List the cases that need attention although they do not fail the run, and those that improved."""
    # Cases that fail have a message of their own in the failures of pytest.
    passed = [row for row in shown if not row.failed]
    lists = {
        "needs attention, but does not fail the run": [row for row in passed if row.verdict in _FLAGGED],
        "improved": [row for row in passed if row.verdict is Verdict.IMPROVED],
    }
    names = {
        title: [f"{_whole(row.nodeid)}{row.place}\n{_INDENT * 2}{row.message.title}" for row in listed]
        for title, listed in lists.items()
    }
    return "\n\n".join(filter(None, (_counted_list(title, listed) for title, listed in names.items())))


def changes(gate: GateResult) -> str:
    """List the cases that are new, missing, renamed or deselected."""
    named = called(gate)

    def name(case: Case) -> str:
        return _whole(named(case))

    blocks = (
        _counted_list("new, compared with nothing", list(map(name, gate_text.new_cases(gate)))),
        _counted_list("missing, only in the baseline", list(map(name, gate.missing))),
        _counted_list("probably renamed", [f"{name(old)} -> {name(new)}" for old, new in gate.renamed]),
        *(_counted_list(title.lower(), names) for title, names in without_cases(gate)),
    )
    return "\n".join(block for block in blocks if block)


def _whole(name: str) -> str:
    """Return a name that can be copied into a command; only one that no command has is cut."""
    return shorten(name, MAX_NAME)


def note_lines(groups: Iterable[NoteGroup]) -> str:
    """List each note once, with its first cases and the number of the others."""
    lines = []
    for group in groups:
        count, first = len(group.nodeids), ", ".join(map(_whole, group.nodeids[:CASES_NAMED]))
        more = f" and {count - CASES_NAMED:,} more" if count > CASES_NAMED else ""
        lines.append(
            f"{first}: {group.note}" if count == 1 else f"{count:,} cases ({first}{more}): {group.note}"
        )
    return _counted_list("notes", lines)


def advice_lines(
    given: Recommendations | None,
    width: int = WIDTH,
    silent: Sequence[str] = (),
    results: str = "results.json",
) -> str:
    """Render the best plan of each model, and why other models have none; empty without advice.

    `silent` names the tests that state no demand.
    """
    if given is None:
        return ""
    blocks = []
    if given.answers:
        best = advice_summary.summary_rows(given.answers)
        lines = (advice_summary.short_answer(given.answers, best), advice_summary.key(given.answers))
        blocks += ["where to run each model (the gate does not depend on it):", *lines]
        blocks += _best_plans(best, width)
        blocks += advice_summary.explanations(given.answers, best, silent)
        blocks += advice_summary.limit_lines(given.answers, results)
        blocks = [wrapped(block, width) if "\n" not in block else block for block in blocks]
        lists = {
            "what projections decide": advice.decided_by_projection(given),
            "assumed prices": advice.assumed_prices(given.answers),
        }
        blocks += [text_list(title, entries, NAMES_SHOWN, width) for title, entries in lists.items()]
    blocks.append(text_list("no advice for", advice.questions(given.unanswered), NAMES_SHOWN, width))
    return "\n".join(filter(None, blocks))


def _best_plans(best: Sequence[advice_summary.SummaryRow], width: int) -> list[str]:
    """Render the best plan of each model: as a table, or, where that is too wide, as blocks of lines."""
    columns = shown_columns(advice_summary.SUMMARY_COLUMNS, best)
    if len(best) <= NAMES_SHOWN and room_for_names(columns, best, width) < MIN_NAME:
        return [stacked_rows((*columns, advice_summary.CHANGES), best, width)]
    while columns[-1].key in DISPENSABLE and room_for_names(columns, best, width) < MIN_NAME:
        columns = columns[:-1]
    more = len(best) - ROWS_SHOWN
    return [
        text_table(columns, best[:ROWS_SHOWN], width),
        f"and {units.plural(more, 'more model')} (see --infer-report)" if more > 0 else "",
        text_list("when that changes", advice_summary.change_lines(best), NAMES_SHOWN, width),
    ]


def next_command(session: Session, results: str | None) -> str:
    """Return a line with the command that says where to run what was measured; empty if nothing can be.

    `results` is the path of the results file, if one is written.
    """
    if session.advice is not None or not deployments([session]):
        return ""
    if results is None:
        return "to see where to run each model, and at what cost, add --infer-demand=5/s"
    return (
        "to see where to run each model, and at what cost: "
        f"infergate advise {results} --demand 5/s --p95-ms 200"
    )


def failure_message(verdict: CaseVerdict, result: CaseResult | None = None) -> str:
    """Render the message of a failed case: what was measured, what is allowed, the confidence, and hints."""
    message = wording.explain(verdict, result)
    blocks = [message.title]
    for section in message.sections:
        lines = [f"{_INDENT}{section.text}: {section.verdict}"]
        pad = max((len(label) for label, _ in section.lines), default=0)
        lines += [f"{_INDENT * 2}{label:<{pad}}  {text}" for label, text in section.lines]
        blocks.append("\n".join(lines))
    if message.hints:
        blocks.append("\n".join([f"{_INDENT}hints", *(f"{_INDENT * 2}- {hint}" for hint in message.hints)]))
    return "\n\n".join(blocks)


def refused_times(disturbed: Sequence[CaseResult]) -> str:
    """Explain why the times of some measured cases were not recorded."""
    shares = [result.measurement.contention or 0.0 for result in disturbed if result.measurement is not None]
    most, allowed = (units.percent(share, signed=False) for share in (max(shares), MAX_CONTENTION))
    names = _named(result.nodeid for result in disturbed)
    return (
        f"the times of {units.plural(len(disturbed), 'case')} were not recorded: contention must be at most "
        f"{allowed}, got up to {most} of the processor time taken by others ({names}). "
        f"Hint: {IDLE}, or record them nevertheless with --infer-save-contended"
    )


def unrecorded_lines(left_out: Iterable[CaseResult], failed: Mapping[Case, str]) -> list[str]:
    """Return a line for each reason why cases were not recorded, with their names.

    `failed` contains the verdicts of cases that fail the run.
    """
    by_reason: dict[str, list[str]] = {}
    for result in left_out:
        measured = result.outcome is Outcome.MEASURED
        why = failed.get(result.case, "nothing to record") if measured else result.outcome.value
        by_reason.setdefault(why, []).append(result.nodeid)
    return [
        f"not recorded, {why}: {units.plural(len(names), 'case')} ({_named(names)})"
        for why, names in by_reason.items()
    ]


def _named(nodeids: Iterable[str]) -> str:
    """Join the first names of a list, and count the others."""
    names = list(map(plain, nodeids))
    more = [f"and {len(names) - NAMES_SHOWN} more"] if len(names) > NAMES_SHOWN else []
    return ", ".join([*names[:NAMES_SHOWN], *more])


def _counted_list(title: str, entries: Sequence[str]) -> str:
    return text_list(f"{title} ({len(entries)})", entries, NAMES_SHOWN)

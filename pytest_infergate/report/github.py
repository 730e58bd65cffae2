"""Workflow annotations, job summaries and comments for GitHub and GitLab.

This module must not import tabulate: the job that publishes a comment does not install it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.outcome import GateResult, Outcome, Session, Verdict
from pytest_infergate.core.gate.decide import FAILING, SEVERITY
from pytest_infergate.report import advice, advice_summary, gate_text, wording
from pytest_infergate.report.columns import CASE, VERDICT, case_columns, legend
from pytest_infergate.report.load_table import LOAD_COLUMNS, LOAD_TITLE, load_rows
from pytest_infergate.report.markdown import CELL, block, code, cut, details, escaped, link, markdown_table
from pytest_infergate.report.rows import Row, grouped_notes, paired_with_verdicts, row, without_cases
from pytest_infergate.report.sanitize import called, plain, shorten, without_commands
from pytest_infergate.report.stream_table import STREAM_COLUMNS, STREAM_TITLE, stream_rows
from pytest_infergate.report.table import BoundedRow, Column, shown_columns
from pytest_infergate.report.wording import Message

_Figures = TypeVar("_Figures", bound=BoundedRow)

# GitHub shows ten annotations of a step, and one of them is the notice.
MAX_ANNOTATIONS: Final = 9
"""Maximum number of failures that are annotated; a notice counts the others."""
SUMMARY_BYTES: Final = 1_000_000
"""GitHub accepts 1 MiB per step."""
COMMENT_BYTES: Final = 65_000
"""GitHub accepts 65,536 characters."""
MARKER: Final = "<!-- infergate -->"
"""First line of a comment, which identifies it in later runs."""
ROWS: Final = 200
"""Maximum number of rows of a table."""
COMMENT_ROWS: Final = 20
_EXPLAINED: Final = 10
"""Maximum number of cases that are explained in full."""
_LISTED: Final = 12
_NAME: Final = 100
_MESSAGE: Final = 4_000
"""Maximum number of characters of an annotation."""
# The names of all sections together have less than 200 bytes.
_RESERVE: Final = 300
"""Bytes reserved for the sentence on what was left out."""
_CHANGED = FAILING | {
    Verdict.INVALID,
    Verdict.INFEASIBLE,
    Verdict.SUSPECTED,
    Verdict.SLOWER_WITHIN_TOLERANCE,
    Verdict.IMPROVED,
}
_FAILED, _WORTH, _FINE = "❌", "⚠️", "✅"
_ORDER = re.compile(r"<!-- run (\d{1,18})\.(\d{1,9}) -->")

MEANINGS: Final = {
    Verdict.REGRESSED: "slower, larger or more work than before, beyond the tolerance and the noise",
    Verdict.OVER_BUDGET: "a budget of the test is exceeded, or could not be checked",
    Verdict.MISMATCH: "the outputs of the model are not those that are expected",
    Verdict.INVALID: "the measurement does not count, for the stated reason",
    Verdict.INFEASIBLE: "the case does not fit into memory",
    Verdict.SUSPECTED: "it looks slower, but the evidence is not sufficient",
    Verdict.INCONCLUSIVE: "neither a change nor its absence could be shown",
    Verdict.INCOMPARABLE: "the baseline is from other hardware or software, so nothing was compared",
    Verdict.NO_BASELINE: "there is nothing to compare with yet, as for every new test",
    Verdict.SLOWER_WITHIN_TOLERANCE: "certainly slower, but within the tolerance",
    Verdict.IMPROVED: "faster, smaller or less work than before",
    Verdict.EQUIVALENT: "unchanged, within the tolerance",
    Verdict.NOT_MEASURED: "skipped, or failed before the measurement",
}
"""An explanation of each verdict for readers who see it for the first time."""


class PagePart(NamedTuple):
    """A part of a page, which is shown completely or not at all."""

    name: str
    text: str


def annotate(
    session: Session, places: Mapping[str, tuple[str, int | None]], limit: int = MAX_ANNOTATIONS
) -> str:
    """Render one workflow command per line: an error for each of the first `limit` failing cases.

    `places` maps node ids to file and line, relative to the repository. A run that fails without a failing
    case is one error without a place. Empty if nothing failed.
    """
    failing = [
        parts for parts in paired_with_verdicts(session) if parts.verdict is not None and parts.verdict.failed
    ]
    lines = []
    for parts in failing[:limit]:
        shown = row(parts)
        file, line = places.get(parts.subject.nodeid, ("", None))
        lines.append(
            command(
                "error",
                "\n".join(_explained(shown.message)),
                file=plain(file),
                line="" if line is None else str(line),
                title=f"{shown.verdict_text}: {shorten(shown.nodeid, _NAME)}{shown.place}",
            )
        )
    if len(failing) > limit:
        more = units.plural(len(failing) - limit, "more failing case")
        lines.append(command("notice", f"and {more}", title="infergate"))
    if not failing and not session.gate.passed:
        texts = [session.gate.headline, *session.gate.reasons]
        lines.append(command("error", "\n".join(map(plain, texts)), title="infergate"))
    return "\n".join(lines)


def command(name: str, message: str, **properties: str) -> str:
    """Render one workflow command as a single line: ``::error file=a.py,line=3::it broke``."""
    # Percent signs, line ends, colons and commas have a meaning in commands, so GitHub decodes them.
    encoded = ",".join(
        f"{key}={_data(value).replace(':', '%3A').replace(',', '%2C')}"
        for key, value in properties.items()
        if value
    )
    rest = f"{name}{' ' if encoded else ''}{encoded}::{_data(cut(message, _MESSAGE))}"
    # The older form of a command would be obeyed within this one.
    return f"::{without_commands(rest)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _explained(message: Message) -> list[str]:
    """Render the message of a case as lines of plain text."""
    lines = [message.title]
    for section in message.sections:
        lines.append(f"{section.text}: {section.verdict}")
        lines += [f"  {label}: {text}" for label, text in section.lines]
    lines += [f"hint: {hint}" for hint in message.hints]
    return [cut(plain(line), CELL) for line in lines]


def markdown_summary(
    session: Session,
    *,
    artifact_url: str = "",
    lead: str = "",
    limit: int = SUMMARY_BYTES,
    rows: int = ROWS,
    results: str = "results.json",
) -> str:
    """Render a session as Markdown in at most `limit` bytes; commands in it name the file `results`.

    `lead` is a problem of the run that is not one of a case; it becomes the heading. Sections that do not
    fit are left out and named.
    """
    pairs = [(parts, row(parts)) for parts in paired_with_verdicts(session)]
    every = [shown for _, shown in pairs]
    failed = [shown for parts, shown in pairs if parts.verdict is not None and parts.verdict.failed]
    changed = [
        shown
        for parts, shown in pairs
        if shown.failed
        or shown.accepted
        or shown.verdict in _CHANGED
        or (parts.result is not None and parts.result.outcome is Outcome.FAILED)
    ]
    reasons = (
        f"{code(shorten(shown.nodeid, _NAME))}{escaped(shown.place)}\n\n{block(_explained(shown.message))}"
        for shown in failed[:_EXPLAINED]
    )
    folded = (
        ("reasons and hints", "\n\n".join(reasons)),
        ("what the verdicts mean", _meanings(session)),
        (f"all {units.plural(len(every), 'case')}", _all(every, rows, paired=session.against is not None)),
        ("new, missing and deselected cases", _comings(session.gate)),
        ("notes", _notes(session)),
        ("environment", _environment(session)),
    )
    sections = [
        PagePart("the table of changes", _changes(changed, rows)),
        PagePart("the times of streams", _streams(session, rows)),
        PagePart("the figures under load", _under_load(session, rows)),
        PagePart("where to run each model", _advice(session, rows, results)),
        *(PagePart(name, details(name[:1].upper() + name[1:], text)) for name, text in folded if text),
    ]
    return _assembled(_head(session, artifact_url, lead), sections, limit)


def comment(
    session: Session,
    order: tuple[int, int],
    *,
    artifact_url: str = "",
    lead: str = "",
    limit: int = COMMENT_BYTES,
) -> str:
    """Render the comment of a pull request; `order` is the id and the attempt of the run."""
    head = _marked(order)
    page = markdown_summary(
        session, artifact_url=artifact_url, lead=lead, limit=limit - len(head), rows=COMMENT_ROWS
    )
    return head + page


def without_results(reason: str, *, artifact_url: str = "", order: tuple[int, int] | None = None) -> str:
    """Render the page or comment of a run without results, which does not count as passed."""
    head = "" if order is None else _marked(order)
    details_link = link("See the run.", artifact_url)
    return f"{head}### {_FAILED} No result: {_sentence(reason)}\n\nNothing was decided. {details_link}\n"


def order_of(body: str) -> tuple[int, int] | None:
    """Return id and attempt of the run of a comment; ``None`` if infergate did not write the comment."""
    if not body.startswith(MARKER):
        return None
    # A comment without a run counts as older than every run.
    match = _ORDER.match(body[len(MARKER) :].lstrip("\r\n"))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _marked(order: tuple[int, int]) -> str:
    return f"{MARKER}\n<!-- run {order[0]}.{order[1]} -->\n\n"


def _assembled(head: str, sections: Iterable[PagePart], limit: int) -> str:
    # In order of importance, so that a page that is too long loses its least important parts.
    kept, left = [head], []
    room = limit - _RESERVE - _size(head)
    for section in sections:
        if not section.text:
            continue
        if _size(section.text) > room:
            left.append(section.name)
            continue
        kept.append(section.text)
        room -= _size(section.text)
    if left:
        kept.append(f"Left out to limit the size: {', '.join(left)}. The results file is complete.")
    return "\n\n".join(kept) + "\n"


def _size(text: str) -> int:
    return len(text.encode()) + 2


def _head(session: Session, artifact_url: str, lead: str) -> str:
    """Render the outcome, why the run fails, and the base of a paired run."""
    gate, against = session.gate, session.against
    # A run that decided nothing must not look like one that passed.
    mark = _FAILED if lead or not gate.passed else (_FINE if gate.decided else _WORTH)
    blocks = [f"### {mark} {_sentence(lead or gate.headline)}"]
    if lead:
        blocks.append(_sentence(gate.headline))
    blocks.append(_bullets(map(_sentence, (*gate.reasons, *gate_text.gate_lines(session)))))
    if against is not None:
        effort = f"{units.plural(against.launches, 'launch')}, {units.duration(against.seconds)}"
        base = wording.described_base(against)
        # The base of a push or a merge queue is given by its commit, which needs no second mention.
        if against.commit is not None and against.revision == against.commit:
            base = f"the merge base {against.commit[:7]}"
        blocks.append(f"Compared with {_sentence(base)}, {wording.compared_how(against)}: {effort}")
        accepted = (
            f"accepted by a commit: {code(shorten(plain(pattern), _NAME))}: "
            f"{_sentence(reason) or 'no reason was given'}"
            for pattern, reason in against.accepted.items()
        )
        blocks.append(_bullets(accepted))
    blocks.append(link("Report and results", artifact_url) if artifact_url else "")
    return "\n\n".join(filter(None, blocks))


def _sentence(text: str) -> str:
    return escaped(cut(plain(text), CELL))


def _bullets(lines: Iterable[str]) -> str:
    """Render a list of at most `_LISTED` items; the others are counted."""
    items = list(lines)
    shown = [f"- {line}" for line in items[:_LISTED]]
    if len(items) > _LISTED:
        shown.append(f"- and {len(items) - _LISTED} more")
    return "\n".join(shown)


def _compared(rows: Sequence[Row]) -> bool:
    """Return whether the time of any row was compared."""
    return any(row.time is not None for row in rows)


_CHANGE_COLUMNS: Final[tuple[Column[Row], ...]] = (
    CASE,
    VERDICT,
    Column("was", "was", lambda shown: "" if shown.time is None else shown.time.was, shown=_compared),
    Column("now", "now", lambda shown: "" if shown.time is None else shown.time.now, shown=_compared),
    Column("change", "change", lambda shown: "" if shown.time is None else shown.time.text, shown=_compared),
    Column("what", "finding", lambda shown: shown.finding, left=True),
)


def _changes(changed: Sequence[Row], limit: int) -> str:
    if not changed:
        return ""
    columns = shown_columns(_CHANGE_COLUMNS, changed)
    return _with_rest(markdown_table(columns, changed[:limit], _CELLS), len(changed) - limit)


def _with_rest(text: str, more: int, noun: str = "case") -> str:
    return f"{text}\n\nand {units.plural(more, f'more {noun}')}" if more > 0 else text


def _name(shown: Row) -> str:
    return code(shorten(shown.nodeid, _NAME) + cut(shown.place, _NAME), cell=True)


def _verdict(shown: Row) -> str:
    mark = _FAILED if shown.failed else (_WORTH if shown.verdict in _CHANGED else "")
    mark = _FINE if shown.verdict in (Verdict.IMPROVED, Verdict.EQUIVALENT) else mark
    return f"{mark} {shown.verdict_text}".strip()


_CELLS: Final = {CASE.key: _name, VERDICT.key: _verdict}
"""Functions for cells that are not plain text, by the key of their column."""


def _meanings(session: Session) -> str:
    """Explain the verdicts of this run, and how an intended change is accepted."""
    verdicts = sorted({verdict.verdict for verdict in session.gate.verdicts}, key=SEVERITY.__getitem__)
    if not verdicts:
        return ""
    lines = [f"- **{verdict.value}**: {MEANINGS[verdict]}" for verdict in verdicts]
    # Readers of a pull request may see these terms for the first time.
    hint = "record it with `pytest --infer-save`, and commit `.infergate/`"
    if session.against is not None:
        hint = "add a trailer to a commit message: `Infergate-Accept: PATTERN REASON`"
    return "\n".join([*lines, "", f"If a change is intended, {hint}."])


def _all(every: Sequence[Row], limit: int, *, paired: bool) -> str:
    if not every:
        return ""
    shown = every[:limit]
    columns = case_columns(shown, paired=paired)
    # GitHub shows wide tables with a scroll bar, so the verdict comes first.
    ordered = (CASE, VERDICT, *(column for column in columns if column not in (CASE, VERDICT)))
    text = _with_rest(markdown_table(ordered, shown, _CELLS), len(every) - limit)
    mark = escaped(legend(columns, shown))
    return f"{text}\n\n{mark}" if mark else text


def _streams(session: Session, limit: int) -> str:
    found = stream_rows((result.nodeid, result) for result in session.cases)
    return _figures("Streams", STREAM_TITLE, STREAM_COLUMNS, found, limit)


def _under_load(session: Session, limit: int) -> str:
    found = load_rows((result.nodeid, result) for result in session.cases)
    return _figures("Under load", LOAD_TITLE, LOAD_COLUMNS, found, limit)


def _figures(
    heading: str, title: str, columns: Sequence[Column[_Figures]], found: Sequence[_Figures], limit: int
) -> str:
    """Render a table of figures that only some cases have; empty without rows."""
    if not found:
        return ""
    names: Mapping[str, Callable[[_Figures], str]] = {
        "case": lambda row: code(shorten(row.case, _NAME), cell=True)
    }
    table = markdown_table(shown_columns(columns, found), found[:limit], names)
    whole = f"### {heading}\n\n{escaped(title[0].upper() + title[1:])}"
    return f"{whole}:\n\n{_with_rest(table, len(found) - limit)}"


def _advice(session: Session, limit: int, results: str) -> str:
    given = session.advice
    if given is None:
        return ""
    best = advice_summary.summary_rows(given.answers)
    columns = (*shown_columns(advice_summary.SUMMARY_COLUMNS, best), advice_summary.CHANGES)
    table = markdown_table(columns, best[:limit]) if best else ""
    above = (advice_summary.short_answer(given.answers, best), advice_summary.key(given.answers))
    silent = advice_summary.without_demand(session)
    below = (
        *advice_summary.explanations(given.answers, best, silent),
        *advice_summary.limit_lines(given.answers, results),
    )
    by_projection = _titled(
        "What projections decide", map(escaped, advice.decided_by_projection(given)[:limit])
    )
    assumed = _titled("Assumed prices", map(escaped, advice.assumed_prices(given.answers)))
    missing = _titled("No advice for", map(_sentence, advice.questions(given.unanswered)))
    shown = _with_rest(table, len(best) - limit, "model")
    parts = (*map(escaped, above), shown, *map(escaped, below), by_projection, assumed, missing)
    text = "\n\n".join(filter(None, parts))
    return f"### Where to run each model\n\n{text}" if text else ""


def _comings(gate: GateResult) -> str:
    name = called(gate)

    def shown(text: str) -> str:
        return code(shorten(text, _NAME))

    pairs = [f"{shown(name(old))} is now {shown(name(new))}" for old, new in gate.renamed]
    blocks = (
        _titled("New, compared with nothing", (shown(name(case)) for case in gate_text.new_cases(gate))),
        _titled("Missing, only in the baseline", (shown(name(case)) for case in gate.missing)),
        _titled("Probably renamed", pairs),
        *(_titled(title, map(_sentence, names)) for title, names in without_cases(gate)),
    )
    return "\n\n".join(filter(None, blocks))


def _titled(title: str, lines: Iterable[str]) -> str:
    listed = _bullets(lines)
    return f"{title}:\n\n{listed}" if listed else ""


def _notes(session: Session) -> str:
    lines = []
    for group in grouped_notes(session):
        about, count = code(shorten(group.nodeids[0], _NAME)), len(group.nodeids)
        if count > 1:
            about = f"{units.plural(count, 'case')} ({about} and {count - 1:,} more)"
        lines.append(f"{about}: {_sentence(str(group.note))}")
    return _bullets(lines)


def _environment(session: Session) -> str:
    environment = session.environment
    machines = dict.fromkeys(result.hardware.text for result in session.cases if result.hardware is not None)
    lines = [
        *(("machine", text) for text in machines),
        ("system", environment.os),
        ("Python", environment.python),
        (
            "packages",
            ", ".join(f"{name} {version}" for name, version in sorted(environment.packages.items())),
        ),
        ("infergate", session.tool_version),
        ("finished", session.created),
    ]
    return _bullets(f"{label}: {_sentence(text)}" for label, text in lines if text)

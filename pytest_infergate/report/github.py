"""What GitHub and GitLab show of a session: annotations beside the code, a job summary, a comment.

Loads no table library: the job that publishes a comment installs little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Recommendations
from pytest_infergate.core.domain.outcome import GateResult, Outcome, Session, Verdict
from pytest_infergate.core.gate.decide import FAILING, SEVERITY
from pytest_infergate.report import advice, wording
from pytest_infergate.report.columns import Column
from pytest_infergate.report.markdown import CELL, block, code, cut, details, escaped, link, markdown_table
from pytest_infergate.report.rows import (
    CASE,
    VERDICT,
    Row,
    case_columns,
    grouped_notes,
    legend,
    paired_with_verdicts,
    row,
)
from pytest_infergate.report.sanitize import called, plain, shorten
from pytest_infergate.report.wording import Message

MOST_ANNOTATIONS: Final = 9
"""GitHub shows ten errors of a step; the rest is counted in a notice."""
SUMMARY_BYTES: Final = 1_000_000
"""GitHub takes 1 MiB of a step."""
COMMENT_BYTES: Final = 65_000
"""GitHub takes 65,536 characters."""
MARKER: Final = "<!-- infergate -->"
"""First line of a comment, by which it is found again."""
ROWS: Final = 200
"""Rows of a table, the most severe first."""
COMMENT_ROWS: Final = 20
_EXPLAINED: Final = 10
"""Cases that are explained in full."""
_LISTED: Final = 12
_NAME: Final = 100
_MESSAGE: Final = 4_000
"""Characters of an annotation."""
_RESERVE: Final = 300
"""Bytes kept free for the sentence that says what was left out."""
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
    Verdict.REGRESSED: "slower, bigger or more work than before, beyond what is tolerated and the noise",
    Verdict.OVER_BUDGET: "a limit that the test promises is broken, or could not be checked",
    Verdict.MISMATCH: "the model computes something else than before",
    Verdict.INVALID: "the measurement does not count, for the reason that is given",
    Verdict.INFEASIBLE: "it does not fit into memory",
    Verdict.SUSPECTED: "it looks slower, and the evidence is not enough to say so for certain",
    Verdict.INCONCLUSIVE: "neither a change nor its absence could be shown: it proves nothing",
    Verdict.INCOMPARABLE: "what is on record is of other hardware or software, so nothing was compared",
    Verdict.NO_BASELINE: "there is nothing to compare with yet, as with every new test",
    Verdict.SLOWER_WITHIN_TOLERANCE: "slower for certain, by less than what is tolerated",
    Verdict.IMPROVED: "faster, smaller or less work than before",
    Verdict.EQUIVALENT: "as before, within what is tolerated",
    Verdict.NOT_MEASURED: "skipped, or failed before it was measured",
}
"""Each verdict for readers who have never seen one."""


class PagePart(NamedTuple):
    """A part of a page that is shown whole or left out."""

    name: str
    text: str


def annotate(
    session: Session, places: Mapping[str, tuple[str, int | None]], most: int = MOST_ANNOTATIONS
) -> str:
    """Workflow commands, a line each: an error at the test of each failing case, up to `most` of them.

    `places` are files and lines by node id, as the repository has them. Empty where nothing failed; a run
    that failed as a whole is an error without a place.
    """
    failing = [
        parts for parts in paired_with_verdicts(session) if parts.verdict is not None and parts.verdict.failed
    ]
    lines = []
    for parts in failing[:most]:
        shown = row(parts)
        file, line = places.get(parts.subject.nodeid, ("", None))
        lines.append(
            command(
                "error",
                "\n".join(_explained(shown.message)),
                file=plain(file),
                line="" if line is None else str(line),
                title=f"{shown.word}: {shorten(shown.nodeid, _NAME)}{shown.place}",
            )
        )
    if len(failing) > most:
        lines.append(command("notice", f"and {len(failing) - most} more", title="infergate"))
    if not failing and not session.gate.passed:
        words = [session.gate.headline, *session.gate.reasons]
        lines.append(command("error", "\n".join(map(plain, words)), title="infergate"))
    return "\n".join(lines)


def command(name: str, message: str, **properties: str) -> str:
    """One workflow command, on one line whatever it says: ``::error file=a.py,line=3::it broke``."""
    given = ",".join(
        f"{key}={_data(value).replace(':', '%3A').replace(',', '%2C')}"
        for key, value in properties.items()
        if value
    )
    return f"::{name}{' ' if given else ''}{given}::{_data(cut(message, _MESSAGE))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _explained(message: Message) -> list[str]:
    """A case in plain lines: what was measured, what is allowed, how sure, what next."""
    lines = [message.title]
    for section in message.sections:
        lines.append(f"{section.text}: {section.verdict}")
        lines += [f"  {label}: {text}" for label, text in section.lines]
    lines += [f"next: {hint}" for hint in message.hints]
    return [cut(plain(line), CELL) for line in lines]


def markdown_summary(
    session: Session,
    *,
    artifact_url: str = "",
    lead: str = "",
    limit: int = SUMMARY_BYTES,
    rows: int = ROWS,
) -> str:
    """A page of Markdown in at most `limit` bytes, the sentence that matters first.

    `lead` is what went wrong beside the cases, and comes before them. Sections that do not fit are left out
    whole, and named.
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
        ("why, and what next", "\n\n".join(reasons)),
        ("what these words mean", _meanings(session)),
        (f"all {units.plural(len(every), 'case')}", _all(every, rows, paired=session.against is not None)),
        ("new, missing and deselected cases", _comings(session.gate)),
        ("where to run it", _advice(session.advice, rows)),
        ("notes", _notes(session)),
        ("environment", _environment(session)),
    )
    sections = [
        PagePart("the table of what changed", _changes(changed, rows)),
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
    """The comment at a pull request, found again by its marker; `order` are the run's id and attempt."""
    head = _marked(order)
    page = markdown_summary(
        session, artifact_url=artifact_url, lead=lead, limit=limit - len(head), rows=COMMENT_ROWS
    )
    return head + page


def without_results(reason: str, *, artifact_url: str = "", order: tuple[int, int] | None = None) -> str:
    """The page or comment of a run that left no results, which does not count as passed."""
    head = "" if order is None else _marked(order)
    where = link("Look at the run.", artifact_url)
    return f"{head}### {_FAILED} No result: {_sentence(reason)}\n\nNothing was decided. {where}\n"


def order_of(body: str) -> tuple[int, int] | None:
    """The run that a comment is of; ``None`` for a comment that infergate did not write."""
    if not body.startswith(MARKER):
        return None
    found = _ORDER.match(body[len(MARKER) :].lstrip("\r\n"))
    return (int(found[1]), int(found[2])) if found else (0, 0)


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
        kept.append(f"Left out for want of room: {', '.join(left)}. The results file has it all.")
    return "\n\n".join(kept) + "\n"


def _size(text: str) -> int:
    return len(text.encode()) + 2


def _head(session: Session, artifact_url: str, lead: str) -> str:
    """The outcome, why the run fails, and what it was compared with."""
    gate, against = session.gate, session.against
    mark = _FAILED if lead or not gate.passed else (_FINE if gate.decided else _WORTH)
    blocks = [f"### {mark} {_sentence(lead or gate.headline)}"]
    if lead:
        blocks.append(_sentence(gate.headline))
    blocks.append(_bullets(map(_sentence, gate.reasons)))
    if against is not None:
        took = f"{units.plural(against.launches, 'launch')}, {units.duration(against.seconds)}"
        other = wording.described_base(against)
        if against.commit is not None and against.revision == against.commit:
            other = f"the merge base {against.commit[:7]}"
        blocks.append(f"Against {_sentence(other)}, call by call: {took}")
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
    """A list, cut where it grows long."""
    items = list(lines)
    shown = [f"- {line}" for line in items[:_LISTED]]
    if len(items) > _LISTED:
        shown.append(f"- and {len(items) - _LISTED} more")
    return "\n".join(shown)


_CHANGE_COLUMNS: Final[tuple[Column[Row], ...]] = (
    CASE,
    VERDICT,
    Column("was", "was", lambda shown: "" if shown.time is None else shown.time.was),
    Column("now", "now", lambda shown: "" if shown.time is None else shown.time.now),
    Column("change", "change", lambda shown: "" if shown.time is None else shown.time.text),
    Column("what", "what", lambda shown: shown.finding, left=True),
)


def _changes(changed: Sequence[Row], most: int) -> str:
    if not changed:
        return ""
    return _with_rest(markdown_table(_CHANGE_COLUMNS, changed[:most], _CELLS), len(changed) - most)


def _with_rest(text: str, more: int, noun: str = "case") -> str:
    return f"{text}\n\nand {units.plural(more, f'more {noun}')}" if more > 0 else text


def _name(shown: Row) -> str:
    return code(shorten(shown.nodeid, _NAME) + cut(shown.place, _NAME), cell=True)


def _verdict(shown: Row) -> str:
    mark = _FAILED if shown.failed else (_WORTH if shown.verdict in _CHANGED else "")
    mark = _FINE if shown.verdict in (Verdict.IMPROVED, Verdict.EQUIVALENT) else mark
    return f"{mark} {shown.word}".strip()


_CELLS: Final = {CASE.key: _name, VERDICT.key: _verdict}
"""Cells that have Markdown of their own."""


def _meanings(session: Session) -> str:
    """What the verdicts of this run mean, and how a change that is meant is accepted."""
    found = sorted({verdict.verdict for verdict in session.gate.verdicts}, key=SEVERITY.__getitem__)
    if not found:
        return ""
    lines = [f"- **{verdict.value}**: {MEANINGS[verdict]}" for verdict in found]
    hint = "record it with `pytest --infer-save`, and commit `.infergate/`"
    if session.against is not None:
        hint = "say so at the end of a commit message: `Infergate-Accept: PATTERN REASON`"
    return "\n".join([*lines, "", f"If a change is meant, {hint}."])


def _all(every: Sequence[Row], most: int, *, paired: bool) -> str:
    if not every:
        return ""
    shown = every[:most]
    columns = case_columns(shown, paired=paired)
    ordered = (CASE, VERDICT, *(column for column in columns if column not in (CASE, VERDICT)))
    text = _with_rest(markdown_table(ordered, shown, _CELLS), len(every) - most)
    mark = escaped(legend(columns, shown))
    return f"{text}\n\n{mark}" if mark else text


def _advice(given: Recommendations | None, most: int) -> str:
    if given is None:
        return ""
    best = advice.summary_rows(given.answers)
    table = markdown_table(advice.SUMMARY_COLUMNS, best[:most]) if best else ""
    missing = _titled("No advice", map(_sentence, advice.questions(given.unanswered)))
    return "\n\n".join(filter(None, (_with_rest(table, len(best) - most, "model"), missing)))


def _comings(gate: GateResult) -> str:
    name = called(gate)

    def shown(text: str) -> str:
        return code(shorten(text, _NAME))

    pairs = [f"{shown(name(old))} is now {shown(name(new))}" for old, new in gate.renamed]
    blocks = (
        _titled("New, unknown to what is on record", (shown(name(case)) for case in gate.new)),
        _titled("Missing, on record only", (shown(name(case)) for case in gate.missing)),
        _titled("Renamed, it seems", pairs),
        _titled("Deselected", (_sentence(str(note)) for note in gate.deselected)),
    )
    return "\n\n".join(filter(None, blocks))


def _titled(title: str, lines: Iterable[str]) -> str:
    listed = _bullets(lines)
    return f"{title}:\n\n{listed}" if listed else ""


def _notes(session: Session) -> str:
    lines = []
    for group in grouped_notes(session):
        only = len(group.nodeids) == 1
        about = code(shorten(group.nodeids[0], _NAME)) if only else units.plural(len(group.nodeids), "case")
        lines.append(f"{about}: {_sentence(str(group.note))}")
    return _bullets(lines)


def _environment(session: Session) -> str:
    environment = session.environment
    machines = dict.fromkeys(one.hardware.text for one in session.cases if one.hardware is not None)
    lines = [
        *(("machine", words) for words in machines),
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

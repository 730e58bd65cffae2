"""What a machine can decide, and why not more, as text for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.machine_values import Diagnosis, Finding, FindingState, Slowdown
from pytest_infergate.core.domain.outcome import Policy
from pytest_infergate.report.results_json import formatted_json
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import Column
from pytest_infergate.report.text_table import text_table, wrapped

NOTHING: Final = 10.0
"""Ratio from which on a slowdown is shown as one that is not detected."""
WIDTH: Final = 110
"""Number of characters of a line."""
_MARKS: Final = {FindingState.COSTS: "!", FindingState.UNKNOWN: "?", FindingState.GOOD: " "}
_SAME_MINUTE: Final = (
    "These launches are of one minute. Sessions of a baseline are of different days, which differ by more: "
    "the rows on baselines and budgets are the best case."
)
_COLUMNS: Final[tuple[Column[tuple[str, str]], ...]] = (
    Column("instrument", "instrument", lambda row: row[0], left=True),
    Column("decides", "smallest slowdown that 9 of 10 runs report", lambda row: row[1], left=True),
)


def doctor_text(diagnosis: Diagnosis) -> str:
    """Render a diagnosis for the terminal."""
    blocks = [_headline(diagnosis), text_table(_COLUMNS, list(_reaches(diagnosis)))]
    if diagnosis.decidable.stored:
        blocks.append(wrapped(_SAME_MINUTE, WIDTH))
    if diagnosis.missing:
        blocks.append("\n".join(["not measured", *(f"  {plain(one)}" for one in diagnosis.missing)]))
    blocks.append("\n".join(["why not better", *map(_finding, diagnosis.findings)]))
    return "\n\n".join(blocks)


def doctor_json(diagnosis: Diagnosis) -> str:
    """Render a diagnosis as JSON, with sorted keys and a newline at the end."""
    return formatted_json(diagnosis)


def _headline(diagnosis: Diagnosis) -> str:
    if not diagnosis.models:
        return "what this machine can decide: not measured"
    launches = units.plural(diagnosis.launches, "launch")
    paired = units.plural(diagnosis.paired_launches, "paired launch")
    models = units.plural(len(diagnosis.models), "small model")
    return (
        f"what this machine can decide today, by {models} in {launches} and {paired} of identical code, "
        f"in {units.duration(diagnosis.seconds)}"
    )


def _reaches(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    """Return an instrument and what it decides, for each row of the table."""
    found = diagnosis.decidable
    if found.counters is None:
        yield "exact counters", units.UNKNOWN
    elif found.counters:
        yield "exact counters", "any change of the work: all launches counted the same"
    else:
        yield "exact counters", f"changes of what does not vary; here varied {', '.join(found.varying)}"
    for paired in found.paired:
        limit = "" if paired is not found.paired[-1] else ", and of any longer one"
        launches = units.plural(paired.launches, "launch")
        yield (
            f"paired run, {units.trimmed(paired.minutes)} min",
            f"{_slowdown(paired.smallest)} of one case, in {launches}{limit}",
        )
    if not found.paired:
        yield "paired run", units.UNKNOWN
    for stored in found.stored:
        tolerance = Policy().time_tolerance
        limit = ""
        if stored.smallest.value < tolerance:
            limit = f", which is within the tolerance of {_ratio(tolerance)} by default"
        yield f"baseline, {units.plural(stored.sessions, 'session')}", _slowdown(stored.smallest) + limit
    if not found.stored:
        yield "baseline", units.UNKNOWN
    if found.budget is not None:
        recorded = ""
        if found.budget_recorded is not None:
            recorded = f", and within {_ratio(found.budget_recorded)} with a full baseline"
        yield "budget of a time", f"undecided within {_ratio(found.budget)} of its limit{recorded}"


def _slowdown(found: Slowdown | None) -> str:
    if found is None or found.value >= NOTHING:
        return "none"
    value, low = _ratio(found.value), _ratio(found.low)
    high = "none" if found.high is None or found.high >= NOTHING else _ratio(found.high)
    return value if value == low == high else f"{value} (from {low} to {high})"


def _ratio(value: float) -> str:
    if value >= 1:
        return f"a factor of {units.significant(1 + value, 2)}"
    return units.percent(value, signed=False, decimals=1 if value < 0.1 else 0)  # noqa: PLR2004 - digits


def _finding(finding: Finding) -> str:
    lines = [f"{_MARKS[finding.state]} {finding.subject}: {plain(finding.seen)}"]
    if finding.cost:
        lines.append(f"    {finding.cost}")
    if finding.hint:
        lines.append(f"    hint: {finding.hint}")
    return "\n".join(wrapped(line, WIDTH, "      ") for line in lines)

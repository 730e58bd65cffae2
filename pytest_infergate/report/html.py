"""A self-contained HTML page: no script, no external resource, a strict content policy."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pytest_infergate.core.domain import metrics, units
from pytest_infergate.core.domain.advice_values import Advice, Recommendations
from pytest_infergate.core.domain.outcome import GateResult, Session, Verdict
from pytest_infergate.core.domain.values import Hardware
from pytest_infergate.report import advice, advice_summary, gate_text, gpu_advice, step_tables, wording
from pytest_infergate.report.charts import latency_strips, line_charts
from pytest_infergate.report.charts.line_charts import Chart
from pytest_infergate.report.charts.scale import BOX
from pytest_infergate.report.columns import COST, ENERGY, case_columns, legend
from pytest_infergate.report.html_cases import (
    Name,
    case_severity,
    changed_counters,
    grouped_cases,
    split_name,
)
from pytest_infergate.report.plan_names import plan_price
from pytest_infergate.report.rows import grouped_notes, paired_with_verdicts, without_cases
from pytest_infergate.report.runtime_tables import runtimes_by_test
from pytest_infergate.report.sanitize import called, plain
from pytest_infergate.report.table import Column, shown_columns

UNBROKEN: Final = re.compile(r"--[a-z][a-z-]+(?:[ =]\d[\w/.:]*)?|\d{4}-\d\d-\d\d")
"""Options with a figure, and dates."""


class Machine(NamedTuple):
    """A hardware class, and the number of cases that ran on it."""

    hardware: Hardware
    cases: int


class AdviceEntry(NamedTuple):
    """Advice for one model, with its charts."""

    advice: Advice
    name: Name
    columns: Sequence[Column[Any]]
    prices: Sequence[str]
    projected: Sequence[tuple[str, Sequence[Column[Any]], Sequence[Any]]]
    charts: Sequence[Chart]
    remarks: Sequence[str]


def render_html(
    session: Session,
    *,
    settings: Mapping[str, str] | None = None,
    leading: bool = False,
    results: str = "results.json",
) -> str:
    """Render a session and its advice as one HTML document.

    `settings` are shown unchanged next to the environment. With `leading`, the page begins with the advice.
    `results` is the results file as an argument of a shell.
    """
    groups = grouped_cases(paired_with_verdicts(session))
    ordered = sorted((entry for group in groups for entry in group.entries), key=case_severity)
    shown = [entry.row for entry in ordered]
    bottlenecks = [entry for entry in ordered if entry.bottleneck is not None]
    columns = case_columns(shown, paired=session.against is not None)
    style = page_environment().get_template("style.css").render(columns=columns)
    # Cases without a baseline are counted in a sentence that says what that means.
    tally = Counter(
        (entry.kind, entry.row.verdict_text)
        for entry in ordered
        if entry.row.verdict is not Verdict.NO_BASELINE
    )
    machines = Counter(result.hardware for result in session.cases if result.hardware is not None)
    pictures = [group.picture for group in groups if group.picture is not None]
    ungated = gate_text.ungated_limits(session)
    # The legend explains only the symbols that are used.
    symbols = {symbol for picture in pictures for strip in picture.strips for symbol, _ in strip.marks}
    return (
        page_environment()
        .get_template("report.html")
        .render(
            style=Markup(style),  # noqa: S704 - the package's own style sheet without any foreign text
            # The content policy allows this style sheet by its hash, and nothing else.
            style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            gate=session.gate,
            checked=[line for line in gate_text.gate_lines(session) if line not in ungated],
            ungated=ungated,
            against=session.against,
            base="" if session.against is None else wording.described_base(session.against),
            compared_how="" if session.against is None else wording.compared_how(session.against),
            duration="" if session.against is None else units.duration(session.against.seconds),
            created=session.created,
            # Nobody reads the seconds.
            created_minute=plain(session.created)[:16].replace("T", " "),
            version=session.tool_version,
            tally=[(kind, verdict, count) for (kind, verdict), count in tally.items()],
            columns=columns,
            entries=ordered,
            has_streams=any(
                case.measurement is not None and case.measurement.stream is not None for case in session.cases
            ),
            has_spending=ENERGY in columns or COST in columns,
            mark=legend(columns, shown),
            failed=[entry for entry in ordered if entry.row.failed],
            groups=groups,
            runtimes=runtimes_by_test(session),
            legend=symbols,
            counters=metrics.COUNTERS,
            changed_counters=changed_counters(session, ordered),
            changes=_changes(session.gate),
            notes=grouped_notes(session),
            environment=_environment(session),
            packages=sorted(session.environment.packages.items()),
            machines=[Machine(hardware, count) for hardware, count in machines.most_common()],
            settings=sorted((settings or {}).items()),
            plain=plain,
            kept=kept_together,
            geometry=latency_strips,
            box=BOX,
            bottlenecks=bottlenecks,
            roofline=line_charts.roofline(
                entry.bottleneck for entry in bottlenecks if entry.bottleneck is not None
            ),
            leading=leading,
            results=results,
            **_advice(session, leading=leading),
        )
    )


def _advice(session: Session, *, leading: bool) -> dict[str, Any]:
    """Return the variables of the template for advice."""
    given, gate = session.advice or Recommendations(), session.gate
    silent = advice_summary.without_demand(session)
    answers, common = given.answers, advice.shared(given.answers)
    questions = advice.questions(given.unanswered)
    summary = advice_summary.summary_rows(answers)
    explanations = advice_summary.explanations(answers, summary, silent)
    projects = advice.projects(given)
    return {
        "advised": bool(answers or questions or given.tables),
        "advice_text": advice,
        "headline": advice.headline(answers, given.tables) if leading else gate.headline,
        "tables": given.tables,
        "projects": projects,
        "explanations": explanations,
        "key": gpu_advice.LEGEND if projects else "",
        "short_answer": advice_summary.short_answer(answers, summary),
        "assumptions": advice.assumptions(explanations),
        "step_tables": step_tables,
        "shown_columns": shown_columns,
        # The columns of plans mark the price of each.
        "assumed": any(plan.assumed for answer in answers for plan in answer.plans)
        or any(step.plan.assumed for table in given.tables for step in table.steps if step.plan),
        "recommendations": given,
        "answers": [
            AdviceEntry(
                advice=answer,
                name=split_name(plain(answer.model)),
                columns=shown_columns(advice.PLAN_COLUMNS, answer.plans),
                prices=list(dict.fromkeys(map(plan_price, answer.plans))),
                projected=list(gpu_advice.projected_tables(answer)),
                charts=line_charts.charts(answer),
                remarks=advice.remarks(answer, common),
            )
            for answer in answers
        ],
        "summary": summary,
        "common": common,
        "questions": questions,
    }


def kept_together(text: str) -> Markup:
    """Escape a text, and keep the options and the dates in it on one line."""
    return Markup(UNBROKEN.sub(r'<span class="k">\g<0></span>', str(escape(plain(text)))))  # noqa: S704 - escaped


@functools.cache
def page_environment() -> Environment:
    """Return the environment of the templates, which escapes every value."""
    # Results files are untrusted, so every value is escaped. A misspelt variable must be an error.
    return Environment(
        loader=PackageLoader("pytest_infergate", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _changes(gate: GateResult) -> list[tuple[str, list[str]]]:
    name = called(gate)
    lists = [
        ("New, compared with nothing", [name(case) for case in gate_text.new_cases(gate)]),
        ("Missing, only in the baseline", [name(case) for case in gate.missing]),
        ("Probably renamed", [f"{name(old)} → {name(new)}" for old, new in gate.renamed]),
        *without_cases(gate),
    ]
    return [(title, names) for title, names in lists if names]


def _environment(session: Session) -> list[tuple[str, str]]:
    known = session.environment
    # Cases may run with different numbers of threads.
    threads = {
        str(case.measurement.threads)
        for case in session.cases
        if case.measurement is not None and case.measurement.threads is not None
    }
    lines = {
        "System": known.os,
        "Python": known.python,
        "Memory": "" if known.memory_bytes is None else units.bytes_(known.memory_bytes),
        "Machine": "virtual, so its speed depends on its host" if known.virtual else "not virtual",
        "Threads per operator": ", ".join(sorted(threads)),
        "OMP_WAIT_POLICY": known.wait_policy or "not set",
    }
    return [(label, plain(text)) for label, text in lines.items() if text]

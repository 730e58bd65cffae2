"""Pages of advice for the terminal and as Markdown: the output of ``infergate advise``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from pytest_infergate.core.advice.demand import Backlog
from pytest_infergate.core.advice.recommendation import Job
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Recommendations
from pytest_infergate.core.domain.values import Note
from pytest_infergate.report import advice, advice_summary, gpu_advice, step_tables
from pytest_infergate.report.markdown import code, escaped, markdown_table
from pytest_infergate.report.plan_names import plan_price
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.table import shown_columns
from pytest_infergate.report.text_table import fitted_table, text_list, text_table, wrapped

TITLE: Final = "Where to run each model\n"
NEXT_IS: Final = "for one demand, with reasons and alternatives: "
NEXT: Final = f"{NEXT_IS}add --demand, for example --demand 5/s"


def advice_text(given: Recommendations, width: int | None = None) -> str:
    """Render every answer, why other models have none, and the assumptions, in lines of at most `width`."""
    listed = partial(text_list, width=width)
    # Answers of one run share most of their notes, which are shown once.
    common = advice.shared(given.answers)
    blocks: list[str] = []
    said: list[str] = []
    if given.tables:
        rows = step_tables.step_rows(given.tables)
        blocks += [
            TITLE + wrapped(f"  {step_tables.table_question(given.tables)}", width, "  "),
            fitted_table(shown_columns(step_tables.STEP_COLUMNS, rows), rows, width),
            wrapped(gpu_advice.LEGEND, width) if advice.projects(given) else "",
            listed("what projections decide", advice.decided_by_projection(given)),
            listed("what prices alone decide", advice.decided_by_price(given)),
            listed("prices", list(map(plain, step_tables.table_prices(given.tables)))),
            listed("notes", step_tables.table_remarks(given.tables)),
            wrapped(NEXT, width),
        ]
    if given.answers[1:]:
        summary = advice_summary.summary_rows(given.answers)
        said = advice_summary.explanations(given.answers, summary)
        blocks += [
            wrapped(advice_summary.short_answer(given.answers, summary), width),
            wrapped(advice_summary.key(given.answers), width),
            fitted_table(shown_columns(advice_summary.SUMMARY_COLUMNS, summary), summary, width),
            listed("when that changes", advice_summary.change_lines(summary)),
            "\n".join(wrapped(line, width) for line in said),
        ]
    elif given.answers and advice.projects(given):
        blocks.append(wrapped(gpu_advice.LEGEND, width))
    for answer in given.answers:
        lines = [answer.model, advice.question(answer), advice.verdict(answer), *advice.findings(answer)]
        blocks.append("\n".join(wrapped(f"  {plain(line)}", width, "  ") for line in lines).lstrip())
        if answer.plans:
            blocks.append(fitted_table(shown_columns(advice.PLAN_COLUMNS, answer.plans), answer.plans, width))
            blocks.append(listed("prices", list(dict.fromkeys(map(plain, map(plan_price, answer.plans))))))
        blocks += [
            f"{wrapped(title, width)}\n{fitted_table(columns, shown, width)}"
            for title, columns, shown in gpu_advice.projected_tables(answer)
        ]
        blocks.append(listed("notes", advice.remarks(answer, common)))
    blocks.append(listed("notes on all models", common))
    blocks.append(listed("no advice for", advice.questions(given.unanswered)))
    return "\n\n".join(filter(None, [*blocks, listed("assumptions", advice.assumptions(said))]))


def advice_markdown(given: Recommendations) -> str:
    """Render every answer below a heading of its own."""
    common = advice.shared(given.answers)
    blocks: list[str] = []
    said: list[str] = []
    if given.tables:
        rows = step_tables.step_rows(given.tables)
        blocks += [
            escaped(step_tables.table_question(given.tables)),
            markdown_table(shown_columns(step_tables.STEP_COLUMNS, rows), rows),
            escaped(gpu_advice.LEGEND) if advice.projects(given) else "",
            _bullets(advice.decided_by_projection(given)),
            _bullets(advice.decided_by_price(given)),
            _bullets(f"Price: {line}" for line in step_tables.table_prices(given.tables)),
            _bullets(step_tables.table_remarks(given.tables)),
        ]
    if given.answers[1:]:
        summary = advice_summary.summary_rows(given.answers)
        wide = (*shown_columns(advice_summary.SUMMARY_COLUMNS, summary), advice_summary.CHANGES)
        said = advice_summary.explanations(given.answers, summary)
        above = (advice_summary.short_answer(given.answers, summary), advice_summary.key(given.answers))
        blocks += [*map(escaped, above), markdown_table(wide, summary), *map(escaped, said)]
    elif given.answers and advice.projects(given):
        blocks.append(escaped(gpu_advice.LEGEND))
    for answer in given.answers:
        blocks += [
            f"### {code(answer.model)}",
            escaped(advice.question(answer)),
            f"**{escaped(advice.verdict(answer))}**",
            _bullets(advice.findings(answer)),
        ]
        if answer.plans:
            blocks.append(markdown_table(shown_columns(advice.PLAN_COLUMNS, answer.plans), answer.plans))
        for title, columns, shown in gpu_advice.projected_tables(answer):
            blocks += [escaped(title), markdown_table(columns, shown)]
        blocks.append(_bullets(advice.remarks(answer, common)))
    missing = advice.questions(given.unanswered)
    for title, lines in (("Notes on all models", common), ("No advice for", missing)):
        blocks += [f"### {title}", _bullets(lines)] if lines else []
    blocks += ["### Assumptions", _bullets(advice.assumptions(said))]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)


def backlogs_text(
    work: Backlog,
    jobs: Mapping[str, Sequence[Job]],
    notes: Sequence[Note],
    unanswered: Mapping[str, Sequence[Note]],
) -> str:
    """Render the options for a backlog of each model, notes on them, and why other models have none."""
    blocks = [backlog_text(work, each, model) for model, each in jobs.items()]
    blocks.append(text_list("notes", list(dict.fromkeys(plain(str(note)) for note in notes))))
    return "\n\n".join(filter(None, [*blocks, text_list("no advice for", advice.questions(unanswered))]))


def backlog_text(work: Backlog, jobs: Sequence[Job], model: str) -> str:
    """Render the options for a backlog of one model."""
    title = f"{plain(model)}\n  {units.count(work.items)} items within {units.duration(work.deadline)}"
    blocks = [title, text_table(advice.JOB_COLUMNS, jobs)]
    if any(job.usd_on_spot is not None for job in jobs):
        blocks.append("Spot machines can be reclaimed; work that is interrupted must be repeated.")
    return "\n\n".join(filter(None, blocks))

"""Pages of advice for the terminal and as Markdown: the output of ``infergate advise``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_infergate.core.advice.demand import Backlog
from pytest_infergate.core.advice.recommendation import Job
from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.advice_values import Recommendations
from pytest_infergate.report import advice
from pytest_infergate.report.columns import shown_columns
from pytest_infergate.report.markdown import code, escaped, markdown_table
from pytest_infergate.report.sanitize import plain
from pytest_infergate.report.text_table import text_list, text_table


def advice_text(given: Recommendations) -> str:
    """Every answer, what is missing to answer for the other models, and what all answers rest on."""
    common = advice.shared(given.answers)
    blocks = []
    if given.answers[1:]:
        blocks.append(text_table(advice.SUMMARY_COLUMNS, advice.summary_rows(given.answers)))
    for answer in given.answers:
        lines = [answer.model, advice.question(answer), advice.verdict(answer), *advice.findings(answer)]
        blocks.append("\n  ".join(map(plain, lines)))
        if answer.plans:
            blocks.append(text_table(shown_columns(advice.PLAN_COLUMNS, answer.plans), answer.plans))
            prices = dict.fromkeys(plain(advice.price(plan)) for plan in answer.plans)
            blocks.append(text_list("prices", list(prices)))
        blocks.append(text_list("notes", advice.remarks(answer, common)))
    blocks.append(text_list("notes on all", common))
    blocks.append(text_list("not answered", advice.questions(given.unanswered)))
    return "\n\n".join(filter(None, [*blocks, text_list("assumed", advice.ASSUMPTIONS)]))


def advice_markdown(given: Recommendations) -> str:
    """Every answer below a heading of its own."""
    common = advice.shared(given.answers)
    blocks = []
    if given.answers[1:]:
        blocks.append(markdown_table(advice.SUMMARY_COLUMNS, advice.summary_rows(given.answers)))
    for answer in given.answers:
        blocks += [
            f"### {code(answer.model)}",
            escaped(advice.question(answer)),
            f"**{escaped(advice.verdict(answer))}**",
            _bullets(advice.findings(answer)),
        ]
        if answer.plans:
            blocks.append(markdown_table(shown_columns(advice.PLAN_COLUMNS, answer.plans), answer.plans))
        blocks.append(_bullets(advice.remarks(answer, common)))
    for title, lines in (("On all", common), ("Not answered", advice.questions(given.unanswered))):
        blocks += [f"### {title}", _bullets(lines)] if lines else []
    blocks += ["### Assumed", _bullets(advice.ASSUMPTIONS)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)


def backlog_text(work: Backlog, jobs: Sequence[Job], model: str) -> str:
    """What working off a backlog of one model takes, for the terminal."""
    title = f"{plain(model)}\n  {units.significant(work.items)} items within {units.duration(work.deadline)}"
    blocks = [title, text_table(advice.JOB_COLUMNS, jobs)]
    if any(job.usd_on_spot is not None for job in jobs):
        blocks.append("Spot machines may be taken away, and what they were at is done again.")
    return "\n\n".join(blocks)

"""Figures under load in the terminal and on the page."""

import msgspec

from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.core.domain.measurement import Estimate, LoadFigures
from pytest_infergate.report import github, text
from pytest_infergate.report.html import render_html
from pytest_infergate.report.load_table import LOAD_COLUMNS, LOAD_TITLE, load_row, load_rows
from pytest_infergate.report.results_json import parse_results, render_results
from pytest_infergate.report.table import figure_table

LOAD = LoadFigures(
    load=Load(scenario="server", rate=50.0), seconds=20.0, queries=1000, answered=1000, requests=1000,
    p50=Estimate(value=0.011, low=0.010, high=0.012), p95=Estimate(value=0.030, low=0.028, high=0.033),
    p99=Estimate(value=0.050, low=0.040), limit=0.04, within=970, max_batch=8, mean_batch=1.25, busy=0.4,
    longest_queue=9, predicted_p95=0.025, predicted_slow_p95=0.035,
)  # fmt: skip


def served(sample, **fields):
    """A session with one case that was served under load."""
    result, verdict = sample.spending(sample.case(), None)
    figures = msgspec.structs.replace(LOAD, **fields)
    measured = msgspec.structs.replace(result.measurement, load=figures)
    return sample.session([(msgspec.structs.replace(result, measurement=measured), verdict)])


def load_lines(session, width):
    rows = load_rows((result.nodeid, result) for result in session.cases)
    return text.figure_lines(LOAD_TITLE, LOAD_COLUMNS, rows, width)


def test_prediction_and_measurement_are_side_by_side(sample):
    head, _, line = load_lines(served(sample), 140).splitlines()[1:]
    assert head.split() == [
        "case", "load", "answered", "p50", "p95", "predicted", "p99", "rate", "goodput", "batch", "queue", "busy",
    ]  # fmt: skip
    shown = line.split("  ")
    for figure in (
        "50.0/s",
        "11.0 ms",
        "30.0 ms",
        "25.0 ms to 35.0 ms",
        "50.0 ms",
        "48.5/s (97.0 %)",
        "1.25 of 8",
        "40 %",
    ):
        assert figure in line, shown


def test_a_narrow_terminal_keeps_the_prediction(sample):
    lines = load_lines(served(sample), 80).splitlines()
    assert "predicted" in lines[1]
    assert "busy" not in lines[1]


def test_a_run_without_load_says_nothing(sample):
    assert load_lines(sample.session([sample.spending(sample.case(), None)]), 100) == ""
    assert figure_table(LOAD_TITLE, LOAD_COLUMNS, []) is None


def test_the_page_has_bounds(sample):
    page = render_html(served(sample))
    assert "<td>30.0 ms <small>28.0 ms to 33.0 ms</small></td><td>25.0 ms to 35.0 ms</td>" in page
    assert "<td>50.0 ms <small>40.0 ms or more</small></td>" in page


def test_the_summary_and_the_comment_have_the_table(sample, snapshot):
    session = served(sample)
    page = github.markdown_summary(session)
    section = page[page.index("### Under load") :].partition("\n\n<details>")[0]
    assert section == snapshot
    assert section in github.comment(session, (1, 1))
    assert "Under load" not in github.markdown_summary(sample.session([sample.spending(sample.case(), None)]))


def test_results_files_keep_the_figures(sample):
    session = served(sample)
    again = parse_results(render_results(session), "r.json")
    assert again.cases[0].measurement.load == session.cases[0].measurement.load


def test_figures_of_a_foreign_file():
    odd = msgspec.structs.replace(LOAD, seconds=0.0, queries=0, answered=-3, mean_batch=float("nan"))
    row = load_row("x", odd)
    assert (row.rate, row.goodput) == ("0/s", "-")


def test_percentiles_that_no_query_exceeds_are_not_shown():
    shown = [load_row("x", msgspec.structs.replace(LOAD, queries=count)) for count in (1, 19, 20, 99, 100)]
    assert [row.p50 for row in shown] == ["-", "11.0 ms", "11.0 ms", "11.0 ms", "11.0 ms"]
    assert [row.p95 for row in shown] == ["-", "-", "30.0 ms", "30.0 ms", "30.0 ms"]
    assert [row.p99 for row in shown] == ["-", "-", "-", "-", "50.0 ms"]


def test_unanswered_requests_are_counted():
    assert load_row("x", msgspec.structs.replace(LOAD, answered=400)).requests == "400 of 1,000"

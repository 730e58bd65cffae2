"""Times of streams in the terminal, on the page and in comments."""

import msgspec
from core_values import latency

from pytest_infergate.core.domain.measurement import Estimate, Stream
from pytest_infergate.report import github, text
from pytest_infergate.report.html import render_html
from pytest_infergate.report.results_json import parse_results, render_results
from pytest_infergate.report.stream_table import STREAM_COLUMNS, STREAM_TITLE, stream_rows


def estimate(value):
    return Estimate(value=value, low=0.9 * value, high=1.1 * value)


CHAT = Stream(
    items=48.0, prompt_tokens=32.0, output_tokens=48.0, per_token=0.0017, growth=1.018,
    first_item=latency(0.0038, 30, p50=estimate(0.0038), p95=estimate(0.0044)),
    between_items=latency(0.0016, 1410, p50=estimate(0.0016), p95=estimate(0.0018)),
)  # fmt: skip
FRAMES = Stream(items=3.5, first_item=latency(0.2, 3))


def streamed(sample, *streams):
    """A session with one case for each stream."""
    cases = []
    for index, stream in enumerate(streams):
        result, verdict = sample.spending(sample.case(batch_size=index + 1), None)
        measured = msgspec.structs.replace(result.measurement, stream=stream)
        cases.append((msgspec.structs.replace(result, measurement=measured), verdict))
    return sample.session(cases)


def table(session, width=160):
    rows = stream_rows((result.nodeid, result) for result in session.cases)
    return text.figure_lines(STREAM_TITLE, STREAM_COLUMNS, rows, width)


def test_tokens_of_prompt_and_output_are_apart(sample, snapshot):
    assert table(streamed(sample, CHAT)) == snapshot


def test_streams_without_tokens_have_items(sample, snapshot):
    assert table(streamed(sample, CHAT, FRAMES)) == snapshot


def test_a_narrow_terminal_keeps_the_times(sample):
    head = table(streamed(sample, CHAT, FRAMES), 90).splitlines()[1]
    assert "ITL p95" in head
    assert "growth" not in head


def test_a_run_without_streams_has_no_table(sample):
    session = streamed(sample, None)
    assert table(session) == ""
    assert "TTFT" not in render_html(session)
    assert "TTFT" not in github.markdown_summary(session)


def test_the_page_has_bounds_and_says_what_the_names_mean(sample):
    page = render_html(streamed(sample, CHAT))
    assert "<td>3.80 ms <small>3.42 ms to 4.18 ms</small></td>" in page
    assert "<dt>TTFT, ITL, TPOT</dt>" in page


def test_the_summary_and_the_comment_have_the_table(sample, snapshot):
    session = streamed(sample, CHAT)
    page = github.markdown_summary(session)
    section = page[page.index("### Streams") :].partition("\n\n<details>")[0]
    assert section == snapshot
    assert section in github.comment(session, (1, 1))


def test_results_files_keep_the_figures(sample):
    session = streamed(sample, CHAT)
    again = parse_results(render_results(session), "r.json")
    stream = again.cases[0].measurement.stream
    assert (stream.prompt_tokens, stream.output_tokens, stream.growth) == (32.0, 48.0, 1.018)
    assert stream.between_items.count == 1410

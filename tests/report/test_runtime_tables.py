"""Errors, conversions and the fastest runtime in every renderer; nothing of it in runs without them."""

import json
import math

import msgspec
import pytest
from pages import Page
from sessions import MAIN, every_stored_kind, with_runtimes

from pytest_infergate.core.domain.measurement import Parity
from pytest_infergate.report import columns, github, html, junit, results_json, rows, runtime_tables, text
from pytest_infergate.report.charts import line_charts


def keys(session):
    return [column.key for column in columns.case_columns(rows.rows(session))]


def test_errors_have_a_column_where_any_case_has_one(sample):
    assert "error" in keys(with_runtimes(sample))
    assert "error" not in keys(every_stored_kind(sample))
    shown = {row.nodeid: row.error for row in rows.rows(with_runtimes(sample))}
    assert shown["tests/test_text.py::test_minilm[cpu-onnxruntime-float32]"] == "3.7e-07"
    assert shown["tests/test_text.py::test_minilm[cpu-float32]"] == "0"
    assert shown["tests/test_text.py::test_plain[cpu]"] == "-"


def test_a_run_without_runtimes_says_nothing_of_them(sample):
    session = every_stored_kind(sample)
    assert runtime_tables.runtimes_by_test(session) == {}
    assert runtime_tables.runtime_lines(session) == []
    assert 'id="runtimes"' not in html.render_html(session)
    assert "\nruntimes:" not in text.terminal_summary(session)
    assert "| error |" not in github.markdown_summary(session)


def test_markdown_has_the_errors(sample):
    page = github.markdown_summary(with_runtimes(sample))
    assert "| error |" in page
    assert "3.7e" in page


def test_names_have_all_axes_of_the_run(sample):
    parity, pairs = Parity(error=1e-7), []
    for size in (1, 8):
        for runtime in ("eager", "compile"):
            case = sample.case(runtime=runtime, dtype="float32", batch_size=size)
            nodeid = f"{case.test}[cpu-{runtime}-float32-b{size}]"
            changes = {"nodeid": nodeid, "measurement": sample.measurement(parity=parity)}
            pairs.append(sample.pair(case, result=changes))
    session = sample.session(pairs)
    (found,) = runtime_tables.runtimes_by_test(session).values()
    assert [row.label for row in found.rows][:2] == ["cpu-compile-float32-b1", "cpu-compile-float32-b8"]
    assert sorted(one.title for one in found.choices) == ["cpu-b1", "cpu-b8"]
    places = {line.partition("]")[0] for line in runtime_tables.runtime_lines(session)}
    assert places == {f"{pairs[0][0].case.test}[cpu-b{size}" for size in (1, 8)}


def test_only_columns_that_some_case_fills(sample):
    case = sample.case(runtime="compile")
    parity = Parity(error=1e-7)
    session = sample.session([sample.pair(case, result={"measurement": sample.measurement(parity=parity)})])
    (found,) = runtime_tables.runtimes_by_test(session).values()
    assert [column.key for column in found.columns] == ["case", "p50", "error", "agrees"]
    assert found.choices == []


def test_a_paired_run_has_errors_and_no_choice(sample):
    """Its workers run with settings that no service has."""
    session = msgspec.structs.replace(with_runtimes(sample), against=MAIN)
    assert runtime_tables.choices(msgspec.structs.replace(session, against=None))
    assert runtime_tables.choices(session) == ()


def chart_of(session, index=0):
    choice = runtime_tables.choices(session)[index]
    names = [runtime_tables.runtime_name(one.case) for one in choice.cases]
    return line_charts.error_by_time(names, choice)


def test_the_chart_marks_the_fastest_and_what_differs(sample):
    drawn = chart_of(with_runtimes(sample))
    places = {line.label: line.points[0] for line in drawn.lines}
    # A disturbed time has no place in the chart, and a line of the table.
    assert set(places) == {
        "eager float32", "compile float32", "onnxruntime float32", "openvino float32", "openvino bfloat16",
        "eager int8",
    }  # fmt: skip
    assert {line.label: line.mark for line in drawn.lines if line.mark} == {
        "openvino float32": "apart",
        "eager int8": "apart",  # with too low accuracy
        "openvino bfloat16": "best",
    }
    assert [symbol for symbol, _ in drawn.keys] == ["best", "apart"]
    assert len(drawn.cells) == 7
    styles = {line.label: (line.style, line.hollow) for line in drawn.lines}
    assert styles["openvino float32"] == (3, False)
    assert styles["openvino bfloat16"] == (3, True)
    # An error of zero is at the bottom, on its own line.
    assert drawn.rows[0] == (places["eager float32"][1], "0")
    heights = [float(y) for _, y in places.values()]
    assert max(heights) == float(places["eager float32"][1])
    assert all(0 <= height <= line_charts.HEIGHT for height in heights)


@pytest.mark.parametrize("error", [5e-324, 1e-101, 1e300, -1.0, math.inf, math.nan])
def test_a_figure_of_a_foreign_file_does_not_end_the_page(sample, error):
    session = with_runtimes(sample)
    strange = Parity(error=error, cosine=error, same_top=error)
    cases = tuple(
        msgspec.structs.replace(one, measurement=msgspec.structs.replace(one.measurement, parity=strange))
        if one.case.runtime == "compile"
        else one
        for one in session.cases
    )
    session = msgspec.structs.replace(session, cases=cases)
    assert Page(html.render_html(session)).text
    assert text.terminal_summary(session)


def test_zero_has_a_line_only_where_an_error_is_zero(sample):
    session = with_runtimes(sample)
    cases = tuple(one for one in session.cases if one.measurement.parity and one.measurement.parity.error)
    drawn = chart_of(msgspec.structs.replace(session, cases=cases))
    assert drawn.lines
    assert [label for _, label in drawn.rows if label == "0"] == []


def test_equal_outputs_are_drawn(sample):
    session = with_runtimes(sample)
    same = Parity(error=0.0)
    cases = tuple(
        msgspec.structs.replace(one, measurement=msgspec.structs.replace(one.measurement, parity=same))
        for one in session.cases
    )
    drawn = chart_of(msgspec.structs.replace(session, cases=cases))
    assert len({line.points[0][1] for line in drawn.lines}) == 1
    assert [line.mark for line in drawn.lines if line.mark] == ["apart", "best"]  # apart by its accuracy


def test_one_reason_of_many_cases_is_one_sentence(sample):
    cases = tuple(
        msgspec.structs.replace(
            one, measurement=msgspec.structs.replace(one.measurement, contention=0.1 + index / 50)
        )
        for index, one in enumerate(with_runtimes(sample).cases[:7])
    )
    lines = runtime_tables.runtime_lines(msgspec.structs.replace(with_runtimes(sample), cases=cases))
    assert [line.count("float32") + line.count("bfloat16") for line in lines if "not ranked" in line] == [5]
    assert len(lines) == 3  # and those that differ in the output, and in the accuracy


def test_names_of_a_merged_session_state_the_machine(sample):
    session = with_runtimes(sample)
    other = tuple(
        msgspec.structs.replace(one, hardware=sample.hardware(cpu_model="Other CPU")) for one in session.cases
    )
    merged = msgspec.structs.replace(session, cases=(*session.cases, *other))
    found = runtime_tables.runtimes_by_test(merged)["tests/test_text.py::test_minilm"]
    assert len({choice.title for choice in found.choices}) == 4
    assert len({row.label for row in found.rows}) == 22
    assert len(set(runtime_tables.runtime_lines(merged))) == len(runtime_tables.runtime_lines(merged))


def test_properties_of_a_converted_case(sample):
    (result,) = [
        one
        for one in with_runtimes(sample).cases
        if one.nodeid.endswith("test_minilm[cpu-openvino-bfloat16]")
    ]
    found = dict(junit.properties(result))
    assert found["infergate.error"] == "0.008"
    assert found["infergate.cosine"] == "0.99991"
    assert found["infergate.conversion_s"] == "7.28"
    plain = dict(junit.properties(sample.result()))
    assert not [name for name in plain if "error" in name or "conversion" in name]


def test_a_results_file_keeps_errors_and_conversions(sample):
    session = with_runtimes(sample)
    content = results_json.render_results(session)
    read = results_json.parse_results(content, "results.json")
    assert [one.measurement.parity for one in read.cases] == [one.measurement.parity for one in session.cases]
    assert [one.measurement.conversion for one in read.cases] == [
        one.measurement.conversion for one in session.cases
    ]
    defined = json.loads(results_json.results_schema())["$defs"]
    assert set(defined["Parity"]["properties"]) >= {"error", "cosine", "same_top", "difference"}
    assert set(defined["Conversion"]["properties"]) == {"export", "build", "load", "size", "cached"}
    assert [one.measurement.accuracy for one in read.cases] == [
        one.measurement.accuracy for one in session.cases
    ]
    # A file of an earlier version has none of them.
    data = json.loads(content)
    for one in data["cases"]:
        one["measurement"].pop("parity", None)
        one["measurement"].pop("accuracy", None)
        one["measurement"].pop("conversion", None)
    earlier = results_json.parse_results(json.dumps(data), "results.json")
    assert all(one.measurement.parity is None for one in earlier.cases)
    assert runtime_tables.runtime_lines(earlier) == []

"""A paired run in files and properties."""

from __future__ import annotations

import json

import jsonschema
import msgspec
import pytest
from sessions import (
    MAIN,
    differs,
    every_paired_kind,
    hostile_paired,
    judged,
    paired,
    time,
    uncompared,
)

from pytest_infergate.core.domain.outcome import Against, Verdict
from pytest_infergate.errors import StorageError
from pytest_infergate.report import github, html, junit, results_json, text


def schema_of_results():
    return jsonschema.Draft202012Validator(json.loads(results_json.results_schema()))


def test_a_paired_session_reads_back_and_meets_the_schema(sample):
    for session in (every_paired_kind(sample), hostile_paired(sample)):
        written = results_json.render_results(session)
        assert schema_of_results().is_valid(json.loads(written))
        assert results_json.render_results(results_json.parse_results(written, "r.json")) == written


def test_every_report_names_outputs_that_were_not_compared(sample):
    note = sample.note("outputs not compared: a generator", code="outputs-not-compared")
    case = judged(sample)
    pair = case[0], msgspec.structs.replace(case[1], notes=(note,))
    session = paired(sample, [pair])
    for written in (
        text.terminal_summary(session),
        html.render_html(session),
        github.markdown_summary(session),
        results_json.render_results(session),
        str(junit.properties(*pair)),
    ):
        assert "outputs not compared: a generator" in written.replace("\\", "")


def test_what_a_run_was_compared_with_is_kept(sample):
    for against in (
        None,
        Against(),
        Against(python="/old/python", launches=1, seconds=2.5),
        msgspec.structs.replace(MAIN, accepted={"test_*": "worth it", "test_b": ""}),
    ):
        session = paired(sample, [judged(sample)], against)
        assert results_json.parse_results(results_json.render_results(session), "r.json").against == against


def test_a_file_of_before_paired_runs_has_no_opponent(sample):
    data = json.loads(results_json.render_results(sample.session([sample.pair()])))
    data.pop("against", None)
    assert schema_of_results().is_valid(data)
    assert results_json.parse_results(json.dumps(data), "r.json").against is None


def test_a_broken_opponent_is_refused(sample):
    data = json.loads(results_json.render_results(paired(sample, [judged(sample)])))
    for value in ("main", {"launches": "7"}, {"accepted": {"a": 1}}):
        data["against"] = value
        assert not schema_of_results().is_valid(data)
        with pytest.raises(StorageError, match=r"r\.json: \$\.against"):
            results_json.parse_results(json.dumps(data), "r.json")


def test_the_properties_of_a_paired_case(sample):
    result, verdict = judged(
        sample,
        verdict=Verdict.REGRESSED,
        comparisons=(time(sample, Verdict.REGRESSED, 0.087), sample.counter(now=104), differs(sample)),
        failed=True,
    )
    found = junit.properties(result, verdict)
    assert found[-4:] == [
        ("infergate.verdict", "regressed"),
        ("infergate.failed", "true"),
        ("infergate.p50_change_percent", "8.7"),
        ("infergate.operators_change_percent", "4"),
    ]
    assert dict(found)["infergate.p50_ms"] == "40"


def test_a_case_without_a_base_has_no_change(sample):
    result, verdict = judged(sample, verdict=Verdict.NO_BASELINE, comparisons=(uncompared(sample),))
    found = dict(junit.properties(result, verdict))
    assert found["infergate.verdict"] == "no-baseline"
    assert not [name for name in found if "change" in name]


def test_the_properties_of_hostile_cases_are_plain(sample):
    session = hostile_paired(sample)
    for result, verdict in zip(session.cases, session.gate.verdicts, strict=True):
        assert all(value.isprintable() for _, value in junit.properties(result, verdict))

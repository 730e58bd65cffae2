from __future__ import annotations

import functools
import json
import math

import jsonschema
import msgspec
import pytest
from json_changes import put
from sessions import ASKED, SWEEP, advised, answer, unmet

from pytest_infergate.core.domain.measurement import Counters, Energy, Estimate, OperatorWork, Peaks
from pytest_infergate.core.domain.outcome import Outcome, Verdict
from pytest_infergate.core.domain.records import CounterKey, CounterRecord, Tally
from pytest_infergate.core.domain.values import SCHEMA_VERSION
from pytest_infergate.core.gate import counter_changes
from pytest_infergate.errors import StorageError
from pytest_infergate.report import results_json


@functools.cache
def validator():
    schema = json.loads(results_json.results_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def valid(text):
    return validator().is_valid(json.loads(text))


COUNTED = Counters(
    totals={"flops": 10**12, "operators": 5},
    weights={"float32": 4},
    operators=(OperatorWork(operator="aten::clone", place="layers.{0-3}", calls=1, bytes=8),),
    architecture="AVX2",
    varying={"operators": (4, 5)},
)


def sessions(sample):
    note = sample.note("why", "do this")
    return {
        "empty": sample.session(),
        "measured": sample.many(3),
        "skipped": sample.session(
            [
                sample.pair(
                    verdict=Verdict.NOT_MEASURED,
                    result={"outcome": Outcome.SKIPPED, "hardware": None, "reason": note},
                    notes=(note,),
                )
            ]
        ),
        "changed": sample.session(
            new=(sample.case(),),
            missing=(sample.case(batch_size=2),),
            renamed=((sample.case(), sample.case(threads=1)),),
            deselected=(note,),
            reasons=("because",),
        ),
        "counters": sample.session(
            [
                sample.pair(
                    verdict=Verdict.REGRESSED,
                    result={"measurement": sample.measurement(counters=COUNTED)},
                    comparisons=(
                        sample.counter(before=1, now=5, causes=(sample.cause(),)),
                        sample.counter("graph_breaks", 0, 1),
                        sample.unsettled(Verdict.NO_BASELINE, "FLOPs not on record yet"),
                    ),
                )
            ]
        ),
        "energy": sample.session(
            [
                sample.pair(
                    result={
                        "measurement": sample.measurement(
                            energy=Energy(
                                joules=0.5,
                                source="rapl",
                                scope="package",
                                seconds=2.0,
                                calls=9,
                                idle_watts=3.5,
                            )
                        ),
                        "peaks": Peaks(flops={"float32": 1.2e11}, bandwidth=2.5e10),
                    }
                )
            ]
        ),
        "budget": sample.session(
            [
                sample.pair(
                    verdict=Verdict.OVER_BUDGET,
                    budgets=(sample.check(value=None, verdict=Verdict.OVER_BUDGET, note=note),),
                )
            ]
        ),
        "advice": advised(sample.many(1), answer(sweeps=(SWEEP,)), unmet(), unanswered=ASKED),
    }


def test_a_file_reads_back_and_meets_the_schema(sample):
    for name, session in sessions(sample).items():
        text = results_json.render_results(session)
        assert valid(text), name
        assert results_json.render_results(results_json.parse_results(text, "r.json")) == text
        assert results_json.parse_results(text.encode(), "r.json") == results_json.parse_results(
            "\ufeff" + text, "r.json"
        )


def test_what_was_written_is_what_is_read(sample):
    session = sample.session([sample.pair(comparisons=(sample.memory(),))])
    latency = session.cases[0].measurement.latency
    read = results_json.parse_results(results_json.render_results(session), "r.json")
    assert read.gate == session.gate
    assert read.environment == session.environment
    assert read.cases[0].measurement.latency.p95.value == 0.04343
    assert latency.p95.value != 0.04343
    assert math.isclose(
        read.cases[0].measurement.latency.percentiles[50], latency.percentiles[50], rel_tol=1e-4
    )


def test_advice_is_read_as_it_was_written(sample):
    """Demands that a deployment cannot serve have no cost: such gaps keep their place."""
    session = advised(sample.session(), answer(sweeps=(SWEEP,)), unmet(), unanswered=ASKED)
    read = results_json.parse_results(results_json.render_results(session), "r.json")
    assert read.advice == session.advice
    assert read.advice.answers[0].costs[-1].usd_per_month == (None, 587.5)


def test_advice_whose_parts_do_not_fit_together_is_refused(sample):
    data = json.loads(results_json.render_results(advised(sample.session(), answer(sweeps=(SWEEP,)))))
    for change in (
        put("advice", "answers", 0, "costs", 1, "usd_per_month", [1.0]),
        put("advice", "answers", 0, "sweeps", 0, "throughput", [1.0]),
        put("advice", "answers", 0, "plans", 0, "scaled", {"instances": [], "usd_per_month": 1.0}),
        put("advice", "answers", 0, "demand", "rate", 0.0),
    ):
        broken = json.loads(json.dumps(data))
        change(broken)
        with pytest.raises(StorageError, match=r"^r\.json: \$\.advice\.answers\["):
            results_json.parse_results(json.dumps(broken), "r.json")


def test_the_text_is_sorted_indented_and_ends_in_a_newline(sample):
    text = results_json.render_results(sample.session())
    assert text.startswith('{\n "cases": [],\n "created": "2026-07-01T12:00:00Z",\n')
    assert f'\n "schema_version": {SCHEMA_VERSION},\n' in text
    assert text.endswith("}\n")


def test_compared_counters_are_written_as_they_are_read(sample):
    records = [
        CounterRecord(case=sample.case(), tallies=(Tally(key=CounterKey(), counters={"flops": total}),))
        for total in (1, 2)
    ]
    rows = counter_changes.compare_counters(*records, {}, 0.01)
    text = results_json.render_results(
        sample.session([sample.pair(verdict=Verdict.REGRESSED, comparisons=rows)])
    )
    assert results_json.render_results(results_json.parse_results(text, "r.json")) == text


def test_every_text_is_written_whatever_it_holds(sample):
    text = results_json.render_results(sample.hostile_session())
    assert valid(text)
    assert results_json.render_results(results_json.parse_results(text, "r.json")) == text


def read_back(sample, **fields):
    """A session of one case as it is read again."""
    text = results_json.render_results(sample.session([sample.pair(**fields)]))
    assert valid(text)
    return results_json.parse_results(text, "r.json")


NOT_FINITE = (math.nan, math.inf, -math.inf)


def test_a_figure_that_is_no_number_is_left_out_with_a_note(sample, snapshot):
    notes = {}
    for value in NOT_FINITE:
        measurement = sample.measurement(enqueue=value, reference_work={"copy": value, "compute": 0.01})
        (result,) = read_back(sample, result={"measurement": measurement}).cases
        assert result.outcome is Outcome.MEASURED
        assert result.measurement.enqueue is None
        assert result.measurement.reference_work == {"compute": 0.01}
        (notes["optional figures"],) = result.measurement.notes
        latency = msgspec.structs.replace(sample.latency(), percentiles=(0.1, value))
        (result,) = read_back(sample, result={"measurement": sample.measurement(latency=latency)}).cases
        assert result.measurement.latency.percentiles == ()
        (notes["percentiles go as a whole"],) = result.measurement.notes
        row = msgspec.structs.replace(sample.time(), effect=value)
        (verdict,) = read_back(sample, comparisons=(row,)).gate.verdicts
        assert verdict.comparisons[0].effect is None
        (notes["a figure of a verdict"],) = verdict.notes
        assert {note.code for note in notes.values()} == {"not-finite"}
    assert {name: str(note) for name, note in notes.items()} == snapshot


def test_a_measurement_without_a_required_figure_is_invalid(sample):
    for value in NOT_FINITE:
        latency = msgspec.structs.replace(sample.latency(), p50=Estimate(value=value))
        (result,) = read_back(sample, result={"measurement": sample.measurement(latency=latency)}).cases
        assert (result.outcome, result.measurement) == (Outcome.INVALID, None)
        assert result.reason.code == "not-finite"
        assert "latency.p50.value" in result.reason.text


def changed(sample, change):
    data = json.loads(results_json.render_results(sample.session([sample.pair()])))
    change(data)
    return json.dumps(data)


CHANGES = {
    "a text for a number": put("cases", 0, "measurement", "throughput", "fast"),
    "an unknown outcome": put("cases", 0, "outcome", "great"),
    "an unknown field": put("cases", 0, "extra", 1),
    "a newer version": put("schema_version", SCHEMA_VERSION + 1),
    "a version that is a text": put("schema_version", "1"),
    "a version before the first": put("schema_version", 0),
    "no version": lambda data: data.pop("schema_version"),
    "no gate": lambda data: data.pop("gate"),
    "a number too large": put("cases", 0, "measurement", "memory", "weights", 10**40),
}
CONTENTS = {
    "nothing": "",
    "blanks": b"\xef\xbb\xbf \n",
    "UTF-16": b"\xff\xfe{\x00}\x00",
    "words": "hello",
    "two documents": '{"a": 1} {"b": 2}',
    "NaN": '{"a": NaN}',
    "cut off": '{"schema_version": 1, "cases": [{',
    "a list": "[]",
    "a number": "1",
    "deep objects": '{"a":' * 100_000,
    "deep lists": '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    "a newer version of all": '{"schema_version": 99, "all": {"is": "new"}}',
    "no sessions": '{"schema_version": 1, "sessions": []}',
}


def test_what_is_no_results_file_is_refused(sample, snapshot):
    contents = {**{name: changed(sample, change) for name, change in CHANGES.items()}, **CONTENTS}
    messages = []
    for name, content in contents.items():
        with pytest.raises(StorageError) as error:
            results_json.parse_results(content, "r.json")
        messages.append(f"{name}: {error.value}")
    assert "\n".join(messages) == snapshot


def test_a_merged_file_is_not_a_single_session(sample):
    merged = results_json.render_merged([sample.session(), sample.session([sample.pair()])])
    assert len(results_json.parse_all(merged, "all.json")) == 2
    with pytest.raises(StorageError, match=r"\b2\b"):
        results_json.parse_results(merged, "all.json")


def test_the_limit_of_a_merged_file_is_that_of_each_session(sample, monkeypatch):
    one = results_json.render_results(sample.session())
    merged = results_json.render_merged([sample.session()] * 3).encode()
    monkeypatch.setattr(results_json, "MAX_RESULTS_BYTES", len(one))
    assert len(merged) > 2 * len(one)
    assert len(results_json.parse_all(merged, "all.json")) == 3
    monkeypatch.setattr(results_json, "MAX_RESULTS_BYTES", len(one) // 2)
    for content in (merged, one.encode()):
        with pytest.raises(StorageError, match=r"r\.json: the results of one run must have at most 0 MB"):
            list(results_json.session_texts(content, "r.json"))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.replace("\n", ""),
        lambda text: "\ufeff" + text,
        lambda text: text.replace('"schema_version": 2', '"schema_version": 2, "schema_version": 2'),
        lambda text: text.replace('"tool_version": "', '"tool_version": "\\u0030', 1).replace("00.", "0.", 1),
    ],
    ids=["as written", "compact", "mark", "a field twice", "escaped"],
)
def test_the_text_of_a_session_does_not_depend_on_that_of_its_file(sample, change):
    session = sample.session([sample.pair()])
    text = results_json.render_results(session)
    (found,) = results_json.session_texts(change(text).encode(), "r.json")
    assert found == (results_json.parse_results(text, "r.json"), text.strip().encode())


def test_every_cut_of_a_file_is_refused(sample):
    text = results_json.render_results(sample.session([sample.pair()]))
    for end in range(0, len(text) - 2, 97):
        with pytest.raises(StorageError):
            results_json.parse_results(text[:end], "r.json")


def test_a_huge_file_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(results_json, "MAX_RESULTS_BYTES", 10**6)
    with pytest.raises(StorageError) as error:
        results_json.parse_results(b" " * 2_000_000, "r.json")
    assert "2 MB" in str(error.value)
    assert "1 MB" in str(error.value)


def test_the_schema_says_what_it_is_and_refuses_other_files():
    schema = json.loads(results_json.results_schema())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert f"version {SCHEMA_VERSION}" in schema["title"]
    assert "seconds" in schema["description"]
    assert not valid("{}")
    assert not valid(f'{{"schema_version": {SCHEMA_VERSION + 1}}}')
    assert "``" not in results_json.results_schema()

from __future__ import annotations

import functools
import json
import math

import jsonschema
import msgspec
import pytest
from json_changes import put

from pytest_infergate.core.domain.measurement import Counters, Energy, Estimate, OperatorWork, Peaks
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.outcome import Outcome, Verdict
from pytest_infergate.core.domain.records import CounterKey, CounterRecord, Tally
from pytest_infergate.core.gate import counter_changes
from pytest_infergate.errors import StorageError
from pytest_infergate.report import results

AGAIN = "write it again with --infer-json"


@functools.cache
def validator():
    schema = json.loads(results.results_schema())
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
    }


@pytest.mark.parametrize("name", ["empty", "measured", "skipped", "changed", "budget", "counters", "energy"])
def test_a_file_reads_back_and_meets_the_schema(sample, name):
    text = results.render_results(sessions(sample)[name])
    assert valid(text)
    assert results.render_results(results.parse_results(text, "r.json")) == text
    assert results.parse_results(text.encode(), "r.json") == results.parse_results("\ufeff" + text, "r.json")


def test_what_was_written_is_what_is_read(sample):
    session = sample.session([sample.pair(comparisons=(sample.memory(),))])
    latency = session.cases[0].measurement.latency
    read = results.parse_results(results.render_results(session), "r.json")
    assert read.gate == session.gate
    assert read.environment == session.environment
    assert read.cases[0].measurement.latency.p95.value == 0.04343
    assert latency.p95.value != 0.04343
    assert math.isclose(
        read.cases[0].measurement.latency.percentiles[50], latency.percentiles[50], rel_tol=1e-4
    )


def test_the_text_is_sorted_indented_and_ends_in_a_newline(sample):
    text = results.render_results(sample.session())
    assert text.startswith('{\n "cases": [],\n "created": "2026-07-01T12:00:00Z",\n')
    assert '\n "schema_version": 1,\n' in text
    assert text.endswith("}\n")


def test_compared_counters_are_written_as_they_are_read(sample):
    records = [
        CounterRecord(case=sample.case(), tallies=(Tally(key=CounterKey(), counters={"flops": total}),))
        for total in (1, 2)
    ]
    rows = counter_changes.compare_counters(*records, {}, 0.01)
    text = results.render_results(sample.session([sample.pair(verdict=Verdict.REGRESSED, comparisons=rows)]))
    assert results.render_results(results.parse_results(text, "r.json")) == text


def test_every_text_is_written_whatever_it_holds(sample):
    text = results.render_results(sample.hostile_session())
    assert valid(text)
    assert results.render_results(results.parse_results(text, "r.json")) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
class TestNumbersThatAreNone:
    def test_an_optional_figure_is_left_out_with_a_note(self, sample, value):
        measurement = sample.measurement(enqueue=value, reference_work={"copy": value, "compute": 0.01})
        result = self.read(sample, measurement)
        assert result.outcome is Outcome.MEASURED
        assert result.measurement.enqueue is None
        assert result.measurement.reference_work == {"compute": 0.01}
        assert result.measurement.notes == (
            Note(code="not-finite", text="left out, no finite number: enqueue, yardsticks[copy]"),
        )

    def test_percentiles_go_as_a_whole(self, sample, value):
        latency = msgspec.structs.replace(sample.latency(), percentiles=(0.1, value))
        result = self.read(sample, sample.measurement(latency=latency))
        assert result.measurement.latency.percentiles == ()
        assert result.measurement.notes[0].text == "left out, no finite number: latency.percentiles"

    def test_a_measurement_without_a_required_figure_is_invalid(self, sample, value):
        latency = msgspec.structs.replace(sample.latency(), p50=Estimate(value=value))
        result = self.read(sample, sample.measurement(latency=latency))
        assert (result.outcome, result.measurement) == (Outcome.INVALID, None)
        assert result.reason == Note(
            code="not-finite", text="no finite number: latency.p50.value", hint="measure it again"
        )

    def test_a_verdict_says_what_it_lost(self, sample, value):
        row = msgspec.structs.replace(sample.time(), effect=value)
        pair = sample.pair(comparisons=(row,))
        text = results.render_results(sample.session([pair]))
        (verdict,) = results.parse_results(text, "r.json").gate.verdicts
        assert verdict.comparisons[0].effect is None
        assert verdict.notes[0].text == "left out, no finite number: comparisons[0].effect"

    def read(self, sample, measurement):
        text = results.render_results(sample.session([sample.pair(result={"measurement": measurement})]))
        assert valid(text)
        return results.parse_results(text, "r.json").cases[0]


def changed(sample, change):
    data = json.loads(results.render_results(sample.session([sample.pair()])))
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            put("cases", 0, "measurement", "throughput", "fast"),
            f"r.json: $.cases[0].measurement.throughput: expected `float`, got `str`; {AGAIN}",
        ),
        (
            put("cases", 0, "outcome", "great"),
            f"r.json: $.cases[0].outcome: invalid enum value 'great'; {AGAIN}",
        ),
        (
            put("cases", 0, "extra", 1),
            f"r.json: $.cases[0]: object contains unknown field `extra`; {AGAIN}",
        ),
        (
            put("schema_version", 2),
            (
                "r.json: $.schema_version: 2, and this infergate reads up to 1: "
                "written by a newer infergate: upgrade with pip install -U pytest-infergate"
            ),
        ),
        (
            put("schema_version", "1"),
            f"r.json: $.schema_version: expected `int | null`, got `str`; {AGAIN}",
        ),
        (put("schema_version", 0), f"r.json: $.schema_version: 0, and the first is 1; {AGAIN}"),
        (
            lambda data: data.pop("schema_version"),
            f"r.json: $.schema_version: missing, so this is not a results file; {AGAIN}",
        ),
        (
            lambda data: data.pop("gate"),
            f"r.json: $: object missing required field `gate`, so this is not a results file; {AGAIN}",
        ),
        (
            put("cases", 0, "measurement", "memory", "weights", 10**40),
            f"r.json: $.cases[0].measurement.memory.weights: the number is absurdly large; {AGAIN}",
        ),
    ],
)
def test_a_file_that_does_not_meet_the_schema_is_refused(sample, change, message):
    with pytest.raises(StorageError) as error:
        results.parse_results(changed(sample, change), "r.json")
    assert str(error.value) == message


def test_a_newer_file_is_named_as_such_whatever_else_it_holds():
    with pytest.raises(StorageError, match="written by a newer infergate: upgrade"):
        results.parse_results('{"schema_version": 99, "all": {"is": "new"}}', "r.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", f"r.json: the file is empty; {AGAIN}"),
        (b"\xef\xbb\xbf \n", f"r.json: the file is empty; {AGAIN}"),
        (b"\xff\xfe{\x00}\x00", f"r.json: not UTF-8 at byte 0; {AGAIN}"),
        ("hello", f"r.json: not JSON: invalid character (byte 0); {AGAIN}"),
        ('{"a": 1} {"b": 2}', f"r.json: not JSON: trailing characters (byte 10); {AGAIN}"),
        ('{"a": NaN}', f"r.json: not JSON: invalid character (byte 6); {AGAIN}"),
        ('{"schema_version": 1, "cases": [{', f"r.json: the JSON ends too early, as if writing it had been cut off; {AGAIN}"),
        ("[]", f"r.json: $: expected `object`, got `array`, so this is not a results file; {AGAIN}"),
        ("1", f"r.json: $: expected `object`, got `int`, so this is not a results file; {AGAIN}"),
        ('{"a":' * 100_000, f"r.json: not a results file: its JSON is nested too deep; {AGAIN}"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", f"r.json: not a results file: its JSON is nested too deep; {AGAIN}"),
    ],
)  # fmt: skip
def test_what_is_no_results_file_is_refused(content, message):
    with pytest.raises(StorageError) as error:
        results.parse_results(content, "r.json")
    assert str(error.value) == message


def test_every_cut_of_a_file_is_refused(sample):
    text = results.render_results(sample.session([sample.pair()]))
    for end in range(0, len(text) - 2, 97):
        with pytest.raises(StorageError):
            results.parse_results(text[:end], "r.json")


def test_a_huge_file_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(results, "LARGEST_BYTES", 10**6)
    with pytest.raises(StorageError) as error:
        results.parse_results(b" " * 2_000_000, "r.json")
    assert str(error.value) == (
        "r.json: 2 MB is too large for a results file, which may have 1 MB; measure fewer cases a run"
    )


def test_the_schema_says_what_it_is_and_refuses_other_files():
    schema = json.loads(results.results_schema())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "infergate results, version 1"
    assert "Times in seconds" in schema["description"]
    assert not valid("{}")
    assert not valid('{"schema_version": 2}')
    assert "``" not in results.results_schema()

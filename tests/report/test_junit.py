from __future__ import annotations

from pytest_infergate.core.domain.measurement import Estimate
from pytest_infergate.core.domain.outcome import Outcome, Verdict
from pytest_infergate.core.domain.values import Note
from pytest_infergate.report import junit


def test_a_measured_case(sample):
    case = sample.case(dtype="float16", batch_size=8, threads=2)
    verdict = sample.verdict(
        Verdict.REGRESSED, case, failed=True, comparisons=(sample.time(Verdict.REGRESSED, 0.3),)
    )
    assert junit.properties(sample.result(case), verdict) == [
        ("infergate.device", "cpu"),
        ("infergate.runtime", "eager"),
        ("infergate.dtype", "float16"),
        ("infergate.batch_size", "8"),
        ("infergate.threads", "2"),
        ("infergate.outcome", "measured"),
        ("infergate.hardware", sample.hardware().id),
        ("infergate.calls", "412"),
        ("infergate.p50_ms", "40"),
        ("infergate.p90_ms", "42.647"),
        ("infergate.p95_ms", "43.43"),
        ("infergate.p99_ms", "44.935"),
        ("infergate.cold_start_ms", "120"),
        ("infergate.throughput_per_s", "25"),
        ("infergate.peak_memory_mb", "125.2"),
        ("infergate.verdict", "regressed"),
        ("infergate.failed", "true"),
        ("infergate.p50_change_percent", "30"),
    ]


def test_changes_of_counters(sample):
    rows = (sample.counter(now=104), sample.counter("graph_breaks", 0, 1), sample.memory(effect=0.25))
    properties = dict(junit.properties(sample.result(), sample.verdict(comparisons=rows)))
    assert {name: text for name, text in properties.items() if "change" in name} == {
        "infergate.operators_change_percent": "4",
        "infergate.peak_memory_bytes_change_percent": "25",
    }


def test_outputs_that_were_not_compared(sample):
    note = Note(code="outputs-not-compared", text="outputs not compared: output (generator)")
    properties = dict(junit.properties(sample.result(), sample.verdict(notes=(note,))))
    assert properties["infergate.outputs"] == note.text


def test_what_is_absent_is_left_out(sample):
    result = sample.result(outcome=Outcome.SKIPPED, hardware=None)
    assert junit.properties(result) == [
        ("infergate.device", "cpu"),
        ("infergate.runtime", "eager"),
        ("infergate.batch_size", "1"),
        ("infergate.outcome", "skipped"),
    ]


def test_no_property_is_infinite_or_in_scientific_notation(sample):
    infinite = Estimate(value=float("inf"))
    latency = sample.latency()
    measurement = sample.measurement(
        latency=type(latency)(count=1, mean=1.0, p50=infinite, p90=infinite, p95=infinite, p99=infinite),
        throughput=1e9,
        cold_start=1e-9,
    )
    values = dict(junit.properties(sample.result(measurement=measurement)))
    assert "infergate.p50_ms" not in values
    assert values["infergate.throughput_per_s"] == "1000000000"
    assert values["infergate.cold_start_ms"] == "0.000001"


def test_hostile_names_are_spelt_out(sample):
    session = sample.hostile_session()
    for result, verdict in zip(session.cases, session.gate.verdicts, strict=True):
        assert all(value.isprintable() for _, value in junit.properties(result, verdict))

"""Exports, each read by the tool or the schema that it is for."""

import csv
import io
import json
import random
import statistics
import subprocess
import sys

import jsonschema
import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pytest_infergate.core.domain.call_times import latency_of
from pytest_infergate.core.domain.measurement import Accuracy, Stream
from pytest_infergate.core.domain.outcome import Outcome, Verdict
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.report import exports
from pytest_infergate.report.exports import EXPORT_FORMATS, rendered_export

BMF = {
    "type": "object",
    "patternProperties": {
        ".+": {
            "type": "object",
            "patternProperties": {
                ".+": {
                    "type": "object",
                    "properties": {
                        name: {"type": "number"} for name in ("value", "lower_value", "upper_value")
                    },
                    "required": ["value"],
                    "additionalProperties": False,
                }
            },
        }
    },
}


@pytest.fixture
def session(sample):
    """A case that fails, and one that was skipped."""
    failed = sample.pair(sample.case(batch_size=8), Verdict.REGRESSED, failed=True)
    skipped = sample.pair(
        sample.case("tests/test_b.py::test_b"), Verdict.NOT_MEASURED, {"outcome": Outcome.SKIPPED}
    )
    return sample.session([failed, skipped])


def test_the_entries_of_github_action_benchmark(session):
    entries = json.loads(rendered_export([session], "customSmallerIsBetter"))
    assert {entry["name"].rpartition("] ")[2]: (entry["value"], entry["unit"]) for entry in entries} == {
        "p50 latency": (40.0, "ms"),
        "p95 latency": (pytest.approx(43.4, abs=0.1), "ms"),
        "peak memory": (125.2, "MB"),
    }
    assert entries[0]["range"] == "39.20 to 41.20"
    assert set(entries[2]) == {"name", "unit", "value"}  # an exact figure has no range
    (rate,) = json.loads(rendered_export([session], "customBiggerIsBetter", ["throughput_per_s"]))
    assert (rate["value"], rate["unit"]) == (25.0, "1/s")


@pytest.fixture
def streaming(sample):
    """A stream of ten tokens in half as many items, with an accuracy."""
    stream = Stream(
        items=5,
        output_tokens=10,
        first_item=latency_of((0.003,) * 120),
        between_items=latency_of((0.0004,) * 120),
    )
    accuracy = Accuracy(name="bleu", value=0.25, reference=0.26)
    measured = msgspec.structs.replace(sample.measurement(), stream=stream, accuracy=accuracy)
    return sample.session([sample.pair(result={"measurement": measured})])


def test_streams_and_accuracy_are_exported_where_a_case_has_them(streaming):
    rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(rendered_export([streaming], "csv")))}
    mean = streaming.cases[0].measurement.latency.mean
    assert {name: float(row["value"]) for name, row in list(rows.items())[3:]} == {
        "ttft_ms": 3.0,
        "itl_p95_ms": 0.4,
        "items_per_s": pytest.approx(5 / mean, rel=1e-4),
        "tokens_per_s": pytest.approx(10 / mean, rel=1e-4),
        "accuracy": 0.25,
    }
    (measures,) = json.loads(rendered_export([streaming], "bmf")).values()
    assert (measures["ttft-ms"]["value"], measures["accuracy"]["value"]) == (3.0, 0.25)
    families = {
        one.name for one in text_string_to_metric_families(rendered_export([streaming], "openmetrics"))
    }
    assert {"infergate_ttft_seconds", "infergate_items_per_second", "infergate_accuracy"} <= families
    (benchmark,) = json.loads(rendered_export([streaming], "pytest-benchmark"))["benchmarks"]
    assert benchmark["extra_info"]["itl_p95_ms"] == 0.4


@pytest.mark.parametrize(
    ("form", "named"),
    [
        (
            "customSmallerIsBetter",
            ["p50 latency", "p95 latency", "peak memory", "time to first item", "time between items"],
        ),
        ("customBiggerIsBetter", ["rate of items", "rate of tokens", "accuracy"]),
    ],
)
def test_a_format_of_one_direction_has_the_metrics_of_it(streaming, form, named):
    entries = json.loads(rendered_export([streaming], form))
    assert [entry["name"].rpartition("] ")[2] for entry in entries] == named


@pytest.mark.parametrize(
    ("form", "name"), [("customSmallerIsBetter", "throughput_per_s"), ("customBiggerIsBetter", "p50_ms")]
)
def test_a_metric_of_the_other_direction_is_refused(session, form, name):
    with pytest.raises(ConfigurationError, match=name):
        rendered_export([session], form, [name])


def test_the_metric_format_of_bencher(session):
    found = json.loads(rendered_export([session], "bmf", ["p50_ms", "throughput_per_s", "weights_mb"]))
    jsonschema.validate(found, BMF)
    (measures,) = found.values()
    # Nanoseconds and operations a second, as the built-in measures of these names are.
    assert measures["latency"] == {"value": 4e7, "lower_value": 3.92e7, "upper_value": 4.12e7}
    assert measures["throughput"]["value"] == 25.0
    assert measures["weights-mb"]["value"] == 90.0


def test_open_metrics_are_in_base_units(session):
    text = rendered_export(
        [session], "openmetrics", ["p95_ms", "peak_memory_mb", "throughput_per_s", "operators"]
    )
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {name: (family.unit, family.type) for name, family in families.items()} == {
        "infergate_p95_seconds": ("seconds", "gauge"),
        "infergate_peak_memory_bytes": ("bytes", "gauge"),
        "infergate_throughput_per_second": ("per_second", "gauge"),
        "infergate_case_failed": ("", "gauge"),
    }
    (time,) = families["infergate_p95_seconds"].samples
    assert time.value == pytest.approx(0.0434, rel=1e-2)
    assert time.labels["case"] == "tests/test_model.py::test_embedder[cpu-b8]"
    assert time.timestamp is None
    assert [one.value for one in families["infergate_case_failed"].samples] == [1.0, 0.0]


def test_open_metrics_have_the_time_of_the_run_on_request(session):
    text = rendered_export([session], "openmetrics", timestamps=True)
    (family, *_) = text_string_to_metric_families(text)
    (one,) = family.samples
    assert float(one.timestamp) == 1782907200.0


def test_a_table_has_a_row_for_each_figure(session):
    rows = list(csv.DictReader(io.StringIO(rendered_export([session], "csv"))))
    assert [row["metric"] for row in rows] == ["p50_ms", "p95_ms", "peak_memory_mb"]
    assert {row["batch_size"] for row in rows} == {"8"}
    assert float(rows[0]["value"]) == 40.0


def test_hostile_names_stay_text(sample):
    names = [*sample.hostile, "=HYPERLINK(1)", 'a"b\\c{x="y"} 1\n# EOF']
    pairs = [sample.pair(sample.case(f"{name}::t{index}")) for index, name in enumerate(names)]
    session = sample.session(pairs)
    for form in EXPORT_FORMATS:
        text = rendered_export([session], form, ["throughput_per_s"] if "Bigger" in form else ())
        assert "\x1b" not in text
        assert "\u202e" not in text
    families = list(text_string_to_metric_families(rendered_export([session], "openmetrics", ["p50_ms"])))
    assert [len(family.samples) for family in families] == [len(names)] * 2
    rows = list(csv.DictReader(io.StringIO(rendered_export([session], "csv", ["p50_ms"]))))
    assert len(rows) == len(names)
    assert not [row for row in rows if row["nodeid"].startswith(("=", "+", "-", "@"))]


def test_machines_are_in_the_names_if_there_are_several(sample):
    sessions = [
        sample.session([sample.pair(result={"hardware": sample.hardware(cores=cores)})]) for cores in (2, 4)
    ]
    entries = json.loads(rendered_export(sessions, "customSmallerIsBetter", ["p50_ms"]))
    assert len({entry["name"] for entry in entries}) == 2
    assert "-2c-" in entries[0]["name"]
    (alone,) = json.loads(rendered_export(sessions[:1], "customSmallerIsBetter", ["p50_ms"]))
    assert "-2c-" not in alone["name"]


def test_pytest_benchmark_compares_the_files(session, sample, tmp_path):
    pytest.importorskip("pytest_benchmark")
    slower = sample.session([sample.pair(result={"measurement": sample.measurement(0.08)})])
    for name, one in {"before": session, "after": slower}.items():
        (tmp_path / f"{name}.json").write_text(rendered_export([one], "pytest-benchmark"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", "before.json", "after.json", "--csv=out.csv"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Failed to load" not in done.stdout + done.stderr
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert sorted(float(row["median"]) for row in rows) == pytest.approx([0.04, 0.08])
    # Of a log-normal distribution with a spread of 5 %, as far as 101 percentiles show it.
    assert sorted(float(row["stddev"]) for row in rows) == pytest.approx([0.002, 0.004], rel=0.05)


def test_what_cannot_be_exported_is_refused(session, sample):
    counted = sample.session(
        [sample.pair(result={"measurement": sample.measurement(latency=None, throughput=None)})]
    )
    for sessions, form, names, message in (
        ([session], "csv", ["p51_ms"], "did you mean"),
        ([session], "csv", ["joules_per_item"], "no figure of joules_per_item"),
        ([counted], "pytest-benchmark", [], "percentiles"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            rendered_export(sessions, form, names)


@pytest.mark.parametrize("count", [11, 30, 300, 3000])
@pytest.mark.parametrize("slow", [0.0, 0.05])
def test_the_estimated_standard_deviation(count, slow):
    """Calls that vary by 30 %, a share of them three times as long."""
    generator = random.Random(count)
    errors = []
    for _ in range(10):
        calls = [
            generator.lognormvariate(0, 0.3) * (3 if generator.random() < slow else 1) for _ in range(count)
        ]
        errors.append(exports._spread(latency_of(tuple(calls))) / statistics.stdev(calls))
    assert statistics.median(errors) == pytest.approx(1, abs=0.05)
    assert all(0.8 < error < 1.2 for error in errors)

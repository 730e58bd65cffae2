"""The load of a marker or an option, and the terms that follow from it."""

import math

import pytest
from inputs import parsed

from pytest_infergate.config.case_terms import case_terms, seconds_under_load
from pytest_infergate.config.load_text import parse_load
from pytest_infergate.config.marker import Marker, parse_marker
from pytest_infergate.core.domain.load_values import Load
from pytest_infergate.errors import ConfigurationError

RATE = Load(scenario="server", rate=50.0)


@pytest.mark.parametrize(
    ("text", "load"),
    [
        ("50/s", RATE),
        (" 3000 / min", RATE),
        ("1/min", Load(scenario="server", rate=1 / 60)),
        ("single-stream", Load(scenario="single-stream")),
        ("8-Stream", Load(scenario="multi-stream", streams=8)),
        ("offline", Load(scenario="offline")),
    ],
)
def test_loads(text, load):
    assert parse_load(text) == load
    assert parse_load(load.text).scenario == load.scenario


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0/s",
        "-5/s",
        "nan/s",
        "inf/s",
        "1e5/s",
        "50",
        "50/week",
        "0-stream",
        "5000-stream",
        "stream",
        "50/s:periodic",
    ],
)
def test_what_is_no_load(text):
    with pytest.raises(ValueError, match="50/s, single-stream, 8-stream or offline"):
        parse_load(text)


def test_the_marker_and_the_option():
    marker = parse_marker([((), {"load": "50/s"})], ["cpu"])
    assert marker.load == RATE
    with pytest.raises(ConfigurationError, match=r"load=\.\.\.\): .*greater than 0/s"):
        parse_marker([((), {"load": "0/s"})], ["cpu"])


def test_the_command_line_takes_precedence(tmp_path):
    settings = parsed(tmp_path, command={"load": "offline"})
    assert case_terms(settings, Marker(load=RATE), "t").load == Load(scenario="offline")
    assert settings.given["--infer-load"] == "offline"


@pytest.mark.parametrize(
    ("command", "marker", "seconds"),
    [
        ({}, Marker(load=RATE), 20.0),
        ({"max_time": "5"}, Marker(load=RATE), 5.0),
        ({"max_time": "60"}, Marker(load=RATE), 20.0),
        ({"max_time": "60"}, Marker(load=RATE, budget={"load_p99_ms": 1.0}), 20.0),
        (
            {"max_time": "600"},
            Marker(load=Load(scenario="server", rate=9.18), budget={"load_p99_ms": 1.0}),
            100.0,
        ),
        ({}, Marker(load=Load(scenario="server", rate=9.18), budget={"load_p99_ms": 1.0}), 20.0),
        ({}, Marker(), 0.0),
    ],
)
def test_the_time_under_load(tmp_path, command, marker, seconds):
    assert case_terms(parsed(tmp_path, command=command), marker, "t").seconds_served == pytest.approx(seconds)


def test_scenarios_without_a_rate_take_the_time_that_a_budget_allows():
    assert seconds_under_load(Load(scenario="single-stream"), {"load_p95_ms": 1.0}) == math.inf
    assert seconds_under_load(Load(scenario="offline"), {"load_p95_ms": 1.0}) == 20.0


def test_only_one_batch_size_is_served(tmp_path):
    budget = {"load_p95_ms": 5.0, "p95_ms": 5.0}
    terms = case_terms(parsed(tmp_path), Marker(load=RATE, budget=budget), "t")
    other = terms.unserved()
    assert (other.load, other.seconds_served, dict(other.budgets)) == (RATE, 0.0, {"p95_ms": 5.0})
    without = case_terms(parsed(tmp_path), Marker(budget=budget), "t")
    assert dict(without.unserved().budgets) == budget

"""What ``infergate doctor`` prints."""

import json

from pytest_infergate.core.domain.machine_values import (
    Decidable,
    Diagnosis,
    Finding,
    FindingState,
    MachineReading,
    PairedReach,
    Slowdown,
    StoredReach,
)
from pytest_infergate.report.doctor_text import doctor_json, doctor_text

READING = MachineReading(system="Linux", cores=2)
DIAGNOSIS = Diagnosis(
    schema_version=1,
    tool_version="1.2.3",
    created="2026-12-01T00:00:00.000+00:00",
    reading=READING,
    models=("perceptron", "convolution"),
    launches=3,
    paired_launches=3,
    seconds=61.0,
    decidable=Decidable(
        counters=True,
        paired=(
            PairedReach(minutes=2.0, launches=10),
            PairedReach(minutes=5.0, launches=25, smallest=Slowdown(value=0.034, low=0.03, high=0.12)),
            PairedReach(minutes=10.0, launches=31, smallest=Slowdown(value=0.031, low=0.028)),
        ),
        stored=(
            StoredReach(sessions=1, smallest=Slowdown(value=1.33, low=1.33, high=1.33)),
            StoredReach(sessions=3, smallest=Slowdown(value=12.0, low=3.0, high=40.0)),
            StoredReach(sessions=12, smallest=Slowdown(value=0.19, low=0.17, high=0.6)),
        ),
        budget=0.53,
        budget_recorded=0.08,
    ),
    findings=(
        Finding(
            subject="CPU quota",
            state=FindingState.COSTS,
            seen="1.5 cores",
            cost="a call that has used it waits",
            hint="raise the quota",
        ),
        Finding(subject="turbo", state=FindingState.UNKNOWN, seen="this container does not show it"),
        Finding(subject="SMT", state=FindingState.GOOD, seen="off"),
    ),
)


def test_text(snapshot):
    assert doctor_text(DIAGNOSIS) == snapshot


def test_text_without_a_measurement(snapshot):
    bare = Diagnosis(
        schema_version=1,
        tool_version="1.2.3",
        created="now",
        reading=READING,
        missing=("all: torch is not installed",),
    )
    assert doctor_text(bare) == snapshot


def test_counters_that_vary_are_named():
    varying = Diagnosis(
        schema_version=1, tool_version="", created="", reading=READING,
        decidable=Decidable(counters=False, varying=("operators",)),
    )  # fmt: skip
    assert "here varied operators" in doctor_text(varying)


def test_json_has_every_figure():
    found = json.loads(doctor_json(DIAGNOSIS))
    assert found["decidable"]["paired"][1]["smallest"] == {"value": 0.034, "low": 0.03, "high": 0.12}
    assert found["findings"][0]["hint"] == "raise the quota"
    assert found["schema_version"] == 1

"""The examination of a machine: what is measured, what is missing, and real launches of one model."""

import os
import time

import pytest
from core_values import counted, measurement

from pytest_infergate.core.domain.machine_values import MachineReading
from pytest_infergate.doctor import examine as module
from pytest_infergate.doctor import trial_project
from pytest_infergate.doctor.examine import FULL, QUICK, Instruments, diagnose, examine
from pytest_infergate.doctor.trial_project import (
    MODELS,
    PairedTrial,
    TrialError,
    TrialProject,
    without_pytest_options,
)
from pytest_infergate.instruments.device import CpuTimes


class FakeTrials:
    """Launches with these medians; a text in their place is the reason why there are none."""

    def __init__(self, medians=(0.010, 0.0101, 0.0102), paired=(0.01, -0.01, 0.0), contention=0.02):
        self.medians = iter(medians)
        self.differences = paired
        self.contention = contention
        self.allowed = None

    def alone(self):
        median = next(self.medians)
        if isinstance(median, str):
            raise TrialError(median)
        one = measurement(median, contention=self.contention, counters=counted(flops=5))
        return dict.fromkeys(MODELS, one)

    def paired(self, seconds):
        self.allowed = seconds
        if isinstance(self.differences, str):
            raise TrialError(self.differences)
        return PairedTrial(dict.fromkeys(MODELS, self.differences), overhead=8.0, case=2.0)


class FakeMachine:
    """Time that passes, and what others take meanwhile."""

    def __init__(self):
        self.now = 0.0

    def clock(self):
        self.now += 10.0
        return self.now

    def cpu_times(self):
        return CpuTimes(self.now, 0.0, 0.0, cores=2, stolen=0.1 * self.now)

    def throttled(self):
        return 0.5 * self.now

    def instruments(self):
        return Instruments(self.cpu_times, self.throttled, self.clock)


def test_an_examination_has_every_launch(monkeypatch):
    monkeypatch.setattr(module, "SIMULATED_RUNS", 40)
    trials, lines = FakeTrials(), []
    found = examine(trials, FakeMachine().instruments(), FULL, lines.append)
    assert [model.name for model in found.models] == list(MODELS)
    assert [len(model.measurements) for model in found.models] == [3] * len(MODELS)
    assert (trials.allowed, found.paired_overhead, found.paired_case) == (27.0, 8.0, 2.0)
    assert (found.contention, found.seconds, found.missing) == (0.02, 10.0, ())
    assert len(lines) == 4
    diagnosis = diagnose(MachineReading(system="Linux", cores=2), found)
    assert (diagnosis.launches, diagnosis.paired_launches) == (3, 3)
    assert diagnosis.decidable.counters
    assert diagnosis.decidable.paired[-1].smallest.value > 0.02


def test_what_others_took_meanwhile_is_a_share_of_all_cores():
    class Machine(FakeMachine):
        def cpu_times(self):
            self.now += 1.0
            return super().cpu_times()

        def throttled(self):
            self.now += 1.0
            return super().throttled()

    found = examine(FakeTrials(), Machine().instruments(), QUICK, lambda _: None)
    assert found.stolen == pytest.approx(0.05)
    assert found.throttled_seconds == pytest.approx(1.0)
    assert [len(model.measurements) for model in found.models] == [2] * len(MODELS)


def test_what_fails_is_missing_with_its_reason():
    found = examine(
        FakeTrials(medians=(0.01, "no memory")), FakeMachine().instruments(), FULL, lambda _: None
    )
    assert found.missing == ("stored times and counters: no memory",)
    assert [len(model.differences) for model in found.models] == [3] * len(MODELS)
    found = examine(FakeTrials(paired="no signals"), FakeMachine().instruments(), FULL, lambda _: None)
    assert found.missing == ("paired runs: no signals",)
    assert found.paired_case is None
    found = examine(FakeTrials(paired=(0.01,)), FakeMachine().instruments(), FULL, lambda _: None)
    assert "one launch" in found.missing[0]
    found = examine(FakeTrials(("broken",), "broken"), FakeMachine().instruments(), FULL, lambda _: None)
    assert (found.models, len(found.missing)) == ((), 2)


def test_a_machine_without_readings():
    found = examine(
        FakeTrials(contention=None),
        Instruments(lambda: None, lambda: None, FakeMachine().clock),
        QUICK,
        lambda _: None,
    )
    assert (found.contention, found.stolen, found.throttled_seconds) == (None, None, None)


def test_options_of_other_tests_are_put_back(monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-n 4")
    with without_pytest_options():
        assert "PYTEST_ADDOPTS" not in os.environ
    assert os.environ["PYTEST_ADDOPTS"] == "-n 4"


@pytest.mark.torch
def test_each_model_is_built_and_can_be_called():
    pytest.importorskip("torch")
    from pytest_infergate.doctor.small_models import SMALL_MODELS

    assert tuple(SMALL_MODELS) == MODELS
    for build in SMALL_MODELS.values():
        model, inputs = build()
        assert len(model(inputs)) == len(inputs)


@pytest.mark.torch
@pytest.mark.slow
def test_real_launches_of_one_model(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_project, "MODELS", ("small_operators",))
    monkeypatch.setattr(trial_project, "CASE_SECONDS", 0.5)
    with without_pytest_options():
        project = TrialProject(tmp_path.resolve(), time.monotonic)
        (tmp_path / "test_models.py").write_text(
            (tmp_path / "test_models.py").read_text().replace(repr(MODELS), "('small_operators',)")
        )
        alone = project.alone()
        paired = project.paired(0.0)
    assert alone["small_operators"].counters.totals["flops"] == 80 * 2 * 16 * 64 * 64
    assert len(paired.differences["small_operators"]) == 1
    assert paired.overhead > 0
    assert paired.case > 0


def test_a_failing_launch_has_the_last_line_as_its_reason(tmp_path):
    project = TrialProject(tmp_path.resolve(), time.monotonic)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    with pytest.raises(TrialError, match="exit code 4"):
        project.alone()

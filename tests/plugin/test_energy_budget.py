"""Energy and peaks on the whole road: measured where asked for, promised, written."""

import json

import pytest
from inner_results import failures

METERED = """
from pytest_infergate.testing import FakeMeter

DEVICE.energy_meter = FakeMeter(DEVICE.fake_clock, watts=100, idle_watts=20)
"""
KNOWN_CPU = """
from pytest_infergate.core.domain.values import Hardware

DEVICE.hardware = lambda: Hardware(cpu_model="AMD EPYC 7763 64-Core Processor (25/1)", cores=4)
"""


@pytest.fixture
def metered(project):
    """A call takes 10 ms at 100 W: 1 J."""
    project.change(METERED)
    return project


# Promised


def test_budgets_on_energy(metered, snapshot):
    """Alone it makes the run measure energy, which a batch shares among its items."""
    metered.several(
        {
            "kept": "budget={'joules_per_item': 10}",
            "broken": "budget={'joules_per_item': 0.1}",
            "batch": "budget={'joules_per_item': 0.1}, batch_sizes=[100]",
            "no_time": "budget={'joules_per_item': 10}, max_time=1",
        }
    )
    result = metered.measure("--infer-json=r.json")
    decided = metered.decided("r.json")
    assert {name: one.failed for name, one in decided.items()} == {
        "kept": False,
        "broken": True,
        "batch[fake-b100]": False,
        "no_time": True,
    }
    assert {name for name, one in decided.items() if "budget-not-decided" in one.codes} == {"no_time"}
    assert "\n\n".join(failures(result).values()) == snapshot


def test_without_a_meter_nothing_is_decided_and_an_estimate_is_only_shown(project):
    project.test("budget={'joules_per_item': 10}")
    decided = project.verdicts()["model"]
    assert (decided.failed, "budget-not-decided" in decided.codes) == (True, True)
    project.change(KNOWN_CPU)
    project.test("budget={'joules_per_item': 10}", "assert infer(model).energy.source == 'estimate'")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*not decided: it needs a readable energy meter*J is an estimate*"])
    result.stdout.fnmatch_lines(["*gate_estimates = true in [[]tool.infergate]*"])
    result.stdout.fnmatch_lines(["case * energy/item *", "test_it.py::test_model* ~* mJ *"])


def test_an_estimate_decides_where_the_user_wants_it_to(project):
    project.change(KNOWN_CPU)
    (project.path / "pyproject.toml").write_text("[tool.infergate]\ngate_estimates = true\n")
    project.several({"kept": "budget={'joules_per_item': 10}", "broken": "budget={'joules_per_item': 0.001}"})
    assert project.failing() == ["broken"]


# Asked for


def test_energy_is_measured_where_it_is_asked_for(metered):
    metered.test(body="assert infer(model).energy is None")
    unasked = metered.measure()
    unasked.assert_outcomes(passed=1)
    unasked.stdout.no_fnmatch_line("* energy*")
    metered.test(
        "batch_sizes=[4]",
        "taken = infer(model).energy; assert abs(taken.joules - 1) < 1e-6; assert taken.seconds >= 2",
    )
    result = metered.measure("--infer-energy", "--infer-json=r.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["case * energy/item *", "test_it.py::test_model* 250 mJ *"])
    result.stdout.no_fnmatch_line("~*")
    (case,) = json.loads((metered.path / "r.json").read_text())["cases"]
    energy = case["measurement"]["energy"]
    assert (energy["source"], energy["scope"], energy["batch_size"]) == ("nvml", "board", 4)
    assert energy["joules"] == pytest.approx(1.0)
    assert energy["idle_watts"] == pytest.approx(20.0)
    assert case["peaks"] == {"bandwidth": 1e11, "flops": {"float32": 1e12}}
    (metered.path / "pytest.ini").write_text("[pytest]\ninfer_energy = true\n")
    metered.measure().assert_outcomes(passed=1)


def test_what_cannot_be_measured_is_a_note(project):
    project.test()
    assert "energy-unknown" in project.verdicts("--infer-energy")["model"].codes


# Peaks

COUNTING = """
DEVICE.asked = []
PROBES = DEVICE.probes
DEVICE.probes = lambda: DEVICE.asked.append(1) or PROBES()
"""


def test_peaks_are_taken_for_reports_once_for_each_device_and_number_of_threads(project):
    project.change(COUNTING)
    project.test(body="infer(model); assert not device.asked")
    project.measure().assert_outcomes(passed=1)
    project.test(
        "batch_sizes=[1, 2], threads=[1, 2]",
        "infer(model); assert len(device.asked) == min(2, infer.batch_size + infer.threads - 1)",
    )
    project.measure("--infer-json=r.json").assert_outcomes(passed=4)
    project.test(body="infer(model); assert len(device.asked) == 1")
    project.measure("--infer-report=r.html").assert_outcomes(passed=1)


def test_a_case_that_does_not_count_has_no_peaks(project):
    project.change(COUNTING)
    project.test(body="import asyncio; infer(asyncio.sleep, 0); assert not device.asked")
    project.measure("--infer-json=r.json").assert_outcomes(passed=1)

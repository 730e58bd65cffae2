"""Energy and peaks on the whole road: measured where asked for, promised, written."""

import json

import pytest

METERED = """
from pytest_infergate.testing import FakeMeter

DEVICE.energy_meter = FakeMeter(DEVICE.fake_clock, watts=100, idle_watts=20)
"""
KNOWN_CPU = """
from pytest_infergate.core.model import Hardware

DEVICE.hardware = lambda: Hardware(cpu_model="AMD EPYC 7763 64-Core Processor (25/1)", cores=4)
"""


def device(project, text):
    """Change the fake device."""
    project.pytester.makeconftest((project.path / "conftest.py").read_text() + text)


@pytest.fixture
def metered(project):
    """A call takes 10 ms at 100 W: 1 J."""
    device(project, METERED)
    return project


def written(project, *arguments):
    assert project.measure("--infer-json=r.json", *arguments).ret == 0
    (case,) = json.loads((project.path / "r.json").read_text())["cases"]
    return case


# Promised


def test_a_promise_about_energy_is_measured_and_kept(metered):
    metered.test("budget={'joules_per_item': 10}")
    result = metered.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*kept*no-baseline*"])


def test_a_promise_about_energy_that_is_broken(metered):
    metered.test("budget={'joules_per_item': 0.1}")
    result = metered.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*energy per item 1.00 J is over its budget of 100 mJ*"])


def test_the_energy_of_a_batch_is_shared_among_its_items(metered):
    metered.test("batch_sizes=[100], budget={'joules_per_item': 0.1}")
    metered.measure().assert_outcomes(passed=1)


def test_without_a_meter_nobody_can_check(project):
    project.test("budget={'joules_per_item': 10}")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*budget joules_per_item was not decided: it needs an energy meter that can be read: *RAPL of processors*",
        ]
    )


def test_an_estimate_is_shown_and_decides_nothing(project):
    device(project, KNOWN_CPU)
    project.test("budget={'joules_per_item': 10}")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*not decided: it needs an energy meter *J is an estimate*"])
    result.stdout.fnmatch_lines(["*gate_estimates = true in [[]tool.infergate]*"])


@pytest.mark.parametrize(("limit", "outcome"), [(10, "passed"), (0.001, "failed")])
def test_an_estimate_decides_where_the_user_wants_it_to(project, limit, outcome):
    device(project, KNOWN_CPU)
    (project.path / "pyproject.toml").write_text("[tool.infergate]\ngate_estimates = true\n")
    project.test(f"budget={{'joules_per_item': {limit}}}")
    project.measure().assert_outcomes(**{outcome: 1})


def test_a_case_without_the_time_for_it_is_not_decided(metered):
    metered.test("budget={'joules_per_item': 10}, max_time=1")
    result = metered.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*joules_per_item was not decided*"])


# Asked for


def test_energy_takes_time_and_is_not_measured_unasked(metered):
    metered.test(body="assert infer(model).energy is None")
    metered.measure().assert_outcomes(passed=1)


def test_energy_is_measured_where_it_is_asked_for(metered):
    metered.test(
        body="taken = infer(model).energy; assert abs(taken.joules - 1) < 1e-6; assert taken.seconds >= 2"
    )
    metered.measure("--infer-energy").assert_outcomes(passed=1)
    (metered.path / "pytest.ini").write_text("[pytest]\ninfer_energy = true\n")
    metered.measure().assert_outcomes(passed=1)


def test_what_was_measured_stands_in_the_table(metered):
    metered.test()
    result = metered.measure("--infer-energy")
    result.stdout.fnmatch_lines(["case * energy/item *", "test_it.py::test_model* 1.00 J *"])
    result.stdout.no_fnmatch_line("~*")
    metered.measure().stdout.no_fnmatch_line("*energy*")


def test_the_ini_value_alone_measures_nothing(metered):
    metered.test(body="assert not infer(model).measured")
    (metered.path / "pytest.ini").write_text("[pytest]\ninfer_energy = true\n")
    metered.run().assert_outcomes(passed=1)


def test_an_estimate_is_there_unasked(project):
    device(project, KNOWN_CPU)
    project.test(body="assert infer(model).energy.source == 'estimate'")
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["case * energy/item *", "test_it.py::test_model* ~* mJ *", "~ an estimate, not measured: *"]
    )
    result.stdout.no_fnmatch_line("*energy is*")


def test_what_cannot_be_measured_is_a_note(project):
    project.test()
    project.measure("--infer-energy").stdout.fnmatch_lines(["*energy is unknown here: *"])


# Written


def test_energy_and_peaks_stand_in_the_results(metered):
    metered.test("batch_sizes=[4]")
    case = written(metered, "--infer-energy")
    energy = case["measurement"]["energy"]
    assert (energy["source"], energy["scope"], energy["batch_size"]) == ("nvml", "board", 4)
    assert energy["joules"] == pytest.approx(1.0)
    assert energy["idle_watts"] == pytest.approx(20.0)
    assert case["peaks"] == {"bandwidth": 1e11, "flops": {"float32": 1e12}}


def test_peaks_are_taken_for_a_report_too_and_for_nothing_else(project):
    device(project, "\nDEVICE.probes = lambda: 1 // 0\n")
    project.test()
    project.measure().assert_outcomes(passed=1)
    project.measure("--infer-report=r.html").assert_outcomes(failed=1)


COUNTING = """
DEVICE.asked = []
PROBES = DEVICE.probes
DEVICE.probes = lambda: DEVICE.asked.append(1) or PROBES()
"""


def test_peaks_are_taken_once_for_each_device_and_number_of_threads(project):
    device(project, COUNTING)
    project.test("batch_sizes=[1, 2]", "infer(model); assert len(device.asked) == 1")
    project.measure("--infer-json=r.json").assert_outcomes(passed=2)
    project.test("threads=[1, 2]", "infer(model); assert len(device.asked) == infer.threads")
    project.measure("--infer-json=r.json").assert_outcomes(passed=2)


def test_a_case_that_does_not_count_has_no_peaks(project):
    device(project, COUNTING)
    project.test(body="import asyncio; infer(asyncio.sleep, 0); assert not device.asked")
    project.measure("--infer-json=r.json").assert_outcomes(passed=1)

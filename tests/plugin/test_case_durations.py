"""The forecast of a run: typical at first, then what each case took the last time."""

import json
from types import SimpleNamespace

import pytest

from pytest_infergate.plugin.case_durations import CaseDurations

NODEIDS = [f"test_it.py::test_model[fake-b{size}]" for size in (1, 2)]
TYPICAL = "6 s on an idle machine and 20 s on a busy one"


@pytest.fixture
def remembered(project):
    """Two cases, and the folder in which pytest's cache has what is remembered."""
    project.test("batch_sizes=[1, 2]")
    return project.path / ".pytest_cache" / "v" / "infergate"


def forecast(result):
    (line,) = (line for line in result.outlines if line.startswith("infergate: 2 cases"))
    return line.partition("about ")[2]


def test_the_first_run_is_typical_and_the_next_one_as_the_last(project, remembered):
    result = project.measure()
    assert forecast(result) == TYPICAL
    result.stdout.fnmatch_lines(["measured 2 cases in * s"])
    file = remembered / "seconds-times-10s"
    found = json.loads(file.read_text())
    assert list(found) == NODEIDS
    assert all(0 < seconds < 10 for seconds in found.values())
    file.write_text(json.dumps({NODEIDS[0]: 12.0, NODEIDS[1]: 30.0, "gone": 1000.0}))
    assert forecast(project.measure()) == "42 s"


def test_one_that_is_new_is_typical(project, remembered):
    remembered.mkdir(parents=True)
    (remembered / "seconds-times-10s").write_text(json.dumps({NODEIDS[0]: 12.0}))
    assert forecast(project.measure()) == "15 s on an idle machine and 22 s on a busy one"


def test_the_devices_are_those_of_the_cases(project):
    project.test("devices=['fake']")
    result = project.measure("--infer-devices=fake,cpu")
    result.stdout.fnmatch_lines(["infergate: 1 case on fake, about *"])


def test_runs_of_another_kind_are_remembered_apart(project, remembered):
    for options in [
        (), ("--infer-save",), ("--infer-max-time=1",), ("--infer-counters-only",), ("--infer-energy",),
    ]:  # fmt: skip
        project.measure(*options)
    assert {file.name for file in remembered.glob("seconds-*")} == {
        "seconds-counters",
        "seconds-times-10s",
        "seconds-times-10s-energy",
        "seconds-times-10s-save",
        "seconds-times-1s",
    }


def test_typical_is_less_with_a_shorter_limit_and_without_a_clock(project, remembered):
    assert forecast(project.measure("--infer-max-time=1.5")) == "3 s"
    assert forecast(project.measure("--infer-counters-only")) == "2 s"


@pytest.mark.parametrize("content", ["", "[]", '{"a": "b"}', "\0"])
def test_a_cache_with_anything_in_it_changes_nothing(project, remembered, content):
    remembered.mkdir(parents=True)
    (remembered / "seconds-times-10s").write_text(content)
    result = project.measure("-Werror")
    assert (forecast(result), result.ret) == (TYPICAL, 0)


def test_a_run_without_a_cache(project, remembered):
    result = project.measure("-p", "no:cacheprovider")
    assert (forecast(result), result.ret) == (TYPICAL, 0)
    assert not remembered.exists()


def test_cases_that_were_not_measured_are_not_remembered(project, remembered):
    project.test("batch_sizes=[1, 2]", body="assert infer.batch_size == 1; infer(model)")
    project.measure()
    assert list(json.loads((remembered / "seconds-times-10s").read_text())) == NODEIDS[:1]


def test_phases_are_summed_up_and_a_worker_of_xdist_remembers_nothing():
    written = {}
    cache = SimpleNamespace(get=lambda key, default: default, set=written.__setitem__)
    settings = SimpleNamespace(
        ini={"max_time": 2.0}, command={}, counters_only=False, energy=False, save=False
    )
    for config, expected in [
        (SimpleNamespace(cache=cache, workerinput={}), {}),
        (SimpleNamespace(cache=cache), {"infergate/seconds-times-2s": {"one": 6.5}}),
    ]:
        durations = CaseDurations(config, settings)
        for nodeid, seconds, data in [
            ("one", 4.0, None), ("one", 2.0, {"outcome": "measured"}), ("one", 0.5, None),
            ("skipped", 1.0, {"outcome": "skipped"}), ("plain", 9.0, None),
        ]:  # fmt: skip
            report = SimpleNamespace(nodeid=nodeid, duration=seconds, infergate=data)
            durations.pytest_runtest_logreport(report)
        durations.pytest_sessionfinish()
        assert written == expected

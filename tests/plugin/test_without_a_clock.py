"""`--infer-counters-only` as users see it: exact counters are recorded and gated, and nothing is timed."""

import json
from pathlib import Path

import pytest
from inner_results import failures

pytestmark = pytest.mark.slow

COUNTING = """
from pytest_infergate.instruments.device import DeviceCounters

DEVICE.counters = DeviceCounters({"operators": int(Path("operators").read_text()), "flops": 12})
DEVICE.allocations = 5
DEVICE.reference_work = lambda: pytest.fail("a reference workload ran")
"""


@pytest.fixture
def project(project):
    (project.path / "operators").write_text("3")
    project.change(COUNTING)
    project.test()
    return project


def counting(project, *arguments):
    return project.measure("--infer-counters-only", *arguments)


def saved(project, *arguments):
    result = counting(project, "--infer-save", *arguments)
    assert result.ret == 0, result.stdout.str()
    return result


def decided(project, *arguments):
    counting(project, "--infer-json=r.json", *arguments)
    return project.decided("r.json")


def test_counters_are_recorded_and_no_times(project):
    result = saved(project)
    result.stdout.fnmatch_lines(
        ["recorded the counters of 1 case into *.infergate?counters", "rewrote 1 file of counters in *"]
    )
    assert not (project.path / ".infergate/baselines").exists()
    assert "    operators 3\n" in (project.path / ".infergate/counters/test_it.py.txt").read_text()


def test_equal_work_is_decided(project):
    saved(project)
    assert decided(project, "--infer-strict")["model"].verdict == "equivalent"


def test_the_results_have_no_times(project):
    counting(project, "--infer-json=r.json")
    (case,) = json.loads((project.path / "r.json").read_text())["cases"]
    measured = case["measurement"]
    assert measured["counters"]["totals"]["operators"] == 3
    assert measured["memory"]["activations"] == 1_000_000
    assert not {"latency", "throughput", "cold_start", "warm_up", "reference_work"} & measured.keys()


def test_the_table_shows_counters_in_place_of_times(project):
    result = counting(project)
    (header,) = [line for line in result.outlines if line.startswith("case ")]
    assert header.split()[1:5] == ["operators", "FLOPs", "bytecodes", "peak"]
    assert "p50" not in header


def test_few_calls_are_made(project):
    """The first, one before the counters, those of memory and of Python, and the check for the same work."""
    # Attributes of a class are no state that is watched: a list would be.
    count = "class Calls: made = 0"
    body = "infer(lambda: setattr(Calls, 'made', Calls.made + 1)); assert Calls.made == 5"
    project.test(body=f"{count}\n                    {body}")
    counting(project).assert_outcomes(passed=1)


def test_one_more_operator_fails(project):
    saved(project)
    (project.path / "operators").write_text("4")
    result = counting(project)
    result.assert_outcomes(failed=1)
    assert "operators 4, was 3" in failures(result)["test_model[fake]"]


def test_a_quadratic_loop_fails(project):
    linear = "infer(lambda: dict.fromkeys(range(200)))"
    project.test(body=linear)
    saved(project)
    project.test(body="infer(lambda: [a for a in range(200) if not any(a == b for b in range(a))])")
    result = counting(project)
    result.assert_outcomes(failed=1)
    assert "Python bytecodes" in failures(result)["test_model[fake]"]
    project.test(body=f"{linear}; print('the test itself does not count')")
    counting(project).assert_outcomes(passed=1)


def test_counters_of_a_timed_run_are_the_same(project):
    saved(project)
    (project.path / "conftest.py").write_text(
        (project.path / "conftest.py").read_text().replace("DEVICE.reference_work", "unused")
    )
    assert project.verdicts("--infer-strict", "--infer-gate=off")["model"].codes == frozenset()
    before = (project.path / ".infergate/counters/test_it.py.txt").read_text()
    project.record()
    assert (project.path / ".infergate/counters/test_it.py.txt").read_text() == before
    assert decided(project, "--infer-strict")["model"].verdict == "equivalent"


def test_recorded_times_are_neither_read_nor_changed(project):
    folder = project.path / ".infergate/baselines"
    folder.mkdir(parents=True)
    (folder / "broken.json").write_text("not a baseline")
    saved(project)
    assert decided(project)["model"].verdict == "equivalent"
    assert [path.name for path in folder.iterdir()] == ["broken.json"]


def test_budgets_of_times_do_not_fail_and_those_of_counters_do(project):
    project.several(
        {
            "time": "budget={'p95_ms': 0.001, 'usd_per_million': 1}",
            "kept": "budget={'operators': 3, 'p50_ms': 1}",
            "over": "budget={'operators': 2}",
            "memory": "budget={'peak_memory_mb': 0.5}",
            "python": "budget={'bytecodes': 1}",
        }
    )
    result = counting(project)
    result.stdout.fnmatch_lines(
        [
            "*test_kept?fake?*  met: 1 not checked *",
            "*test_time?fake?*  2 not checked *",
            "gate FAILED: 3 of 5 cases decided, *, 3 budgets not checked",
        ]
    )
    found = decided(project)
    assert {name for name, one in found.items() if one.failed} == {"over", "memory", "python"}
    assert {name for name, one in found.items() if "not-timed" in one.codes} == {"time", "kept"}
    assert found["kept"].verdict == found["time"].verdict == "no-baseline"


def test_a_test_that_reads_times_only_where_there_are_some(project):
    project.test(
        body="""r = infer(model)
                    assert r.measured is False
                    assert r.counters["operators"] == 3
                    assert r.memory.activations == 1_000_000
                    assert repr(r) == "<Result, not measured>"
                    for read in ("latency", "throughput", "cold_start", "cost"):
                        with pytest.raises(Exception, match="--infer-counters-only"):
                            getattr(r, read)"""
    )
    counting(project).assert_outcomes(passed=1)


def test_a_case_with_nothing_to_gate_is_not_decided(project):
    project.test("tolerance={'counters': 'off', 'memory': 'off'}")
    found = decided(project)["model"]
    assert (found.verdict, found.failed) == ("no-baseline", False)
    assert "no-counters" in found.codes


def test_counters_that_varied_are_not_gated(project):
    project.test(body="calls = []; infer(lambda: calls.append([str(n) for n in range(100 * len(calls))]))")
    result = saved(project)
    assert "vary from call to call" in result.stdout.str()
    assert "bytecodes varies" in (project.path / ".infergate/counters/test_it.py.txt").read_text()
    assert decided(project)["model"].failed is False


def test_no_plan_is_made_without_times(project):
    project.test("demand='20/s'")
    (project.path / "pyproject.toml").write_text(
        "[tool.infergate.instances]\nfake = { usd_per_hour = 0.36 }\n"
    )
    result = counting(project, "--infer-report=r.html")
    result.assert_outcomes(passed=1)
    assert "it was counted, and not timed" in result.stdout.str()
    assert "test_model" in Path("r.html").read_text()


@pytest.mark.parametrize("option", ["--infer-workers=2", "--infer-energy", "--infer-paired-data=x.json"])
def test_options_of_times_are_refused(project, option):
    result = counting(project, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "cannot be combined with --infer-counters-only" in result.stderr.str()


def test_what_a_timed_run_refuses_is_counted(project):
    project.test(
        body="""import sys
                    sys.setprofile(lambda *_: None)
                    try:
                        infer(model)
                    finally:
                        sys.setprofile(None)"""
    )
    found = decided(project)["model"]
    assert found.verdict == "no-baseline"


def test_an_accelerator_counts_its_kernels(project):
    project.test(body="assert infer(model).counters['kernel_launches'] == 1")
    project.run("--infer-devices=accel", "--infer-counters-only").assert_outcomes(passed=1)


def test_a_call_that_launches_no_kernel_is_invalid(project):
    project.test(body="infer(lambda: 1)")
    project.run("--infer-devices=accel", "--infer-counters-only", "--infer-json=r.json")
    (found,) = project.decided("r.json").values()
    assert (found.verdict, found.failed) == ("invalid", False)

"""Exact counters on the whole road: recorded, compared, tolerated, promised."""

import json
import re
import shutil
import sys

import pytest
from inner_results import failures

from pytest_infergate.core.domain.values import Environment
from pytest_infergate.instruments import python_work
from pytest_infergate.runner import run

pytestmark = pytest.mark.slow

COUNTING = """

from pytest_infergate.core.domain.measurement import OperatorWork
from pytest_infergate.instruments.device import DeviceCounters


def counted(clones):
    rows = (
        OperatorWork(operator="aten::mm", place="head", calls=1, flops=2_000_000, bytes=30),
        OperatorWork(operator="aten::clone", place="layers.0", calls=clones, bytes=8000),
    )
    totals = {"operators": 1 + clones, "flops": 2_000_000, "host_device_copies": 0, "views": clones}
    return DeviceCounters(totals=totals, work=rows)


DEVICE.counters = counted(int(Path("clones").read_text()))
DEVICE.allocations = 5
"""


@pytest.fixture
def project(project, monkeypatch):
    """A project whose model does one product and two clones, on torch 2.13."""
    # Of another test: torch would tell its threads, and a part of it would load it a second time.
    for name in ("torch", "torch.utils._python_dispatch"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    project.change(COUNTING)
    runs_on(monkeypatch, "2.13.0+cpu")
    clones(project, 2)
    project.test()
    return project


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Where four recorded sessions are kept, once they were made: they are the same for every test."""
    return tmp_path_factory.mktemp("sessions") / ".infergate"


@pytest.fixture
def recorded(project, sessions):
    kept = project.path / ".infergate"
    if sessions.exists():
        shutil.copytree(sessions, kept)
        return project
    for _ in range(4):
        project.record()
    shutil.copytree(kept, sessions)
    return project


def runs_on(monkeypatch, torch):
    found = Environment(packages={"torch": torch}, virtual=False)
    monkeypatch.setattr(run, "software_environment", lambda: found)


def clones(project, count):
    (project.path / "clones").write_text(str(count))


def on_record(project, module="test_it.py"):
    return (project.path / ".infergate/counters" / f"{module}.txt").read_text()


def counters(project, *arguments):
    """Measure one case; verdict and code of the note of each metric."""
    project.measure("--infer-json=r.json", *arguments)
    (entry,) = json.loads((project.path / "r.json").read_text())["gate"]["verdicts"]
    return {one["metric"]: (one["verdict"], one.get("note", {}).get("code")) for one in entry["comparisons"]}


# Recorded and compared


def test_save_writes_a_file_beside_the_tests_name(project):
    result = project.record()
    result.stdout.fnmatch_lines(
        ["recorded 1 case into *.infergate?baselines", "rewrote 1 file of counters in *.infergate?counters"]
    )
    _, text = on_record(project).split("infergate counters 2\n\n")
    assert re.sub(r"bytecodes \d+\n    python_calls \d+", "bytecodes N\n    python_calls N", text) == (
        'case {"test": "test_it.py::test_model", "device": "fake"}\n'
        "  everywhere\n"
        "    flops 2000000\n"
        "    host_device_copies 0\n"
        f'  with {{"torch": "2.13.0", "python": "{python_work.PYTHON}"}}\n'
        "    bytecodes N\n"
        "    python_calls N\n"
        '  with {"torch": "2.13.0", "architecture": "fake"}\n'
        "    allocations 5\n"
        "    aten::clone 2\n"
        "    aten::mm 1\n"
        "    operators 3\n"
        "    peak_memory_bytes 1000000\n"
        "    views 2\n"
        "    aten::clone: 2 calls, 0 flops, 8000 bytes in layers.0\n"
        "    aten::mm: 1 call, 2000000 flops, 30 bytes in head\n"
        "  end of 15 lines\n"
        "\nend\n"
    )
    clones(project, 3)
    assert project.failing() == ["model"]  # one session on record is enough


def test_the_same_work_passes_and_is_not_written_again(recorded):
    before = on_record(recorded)
    result = recorded.measure("--infer-save")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*equivalent*", "gate passed: 1 of 1 case decided"])
    result.stdout.no_fnmatch_line("rewrote*")
    assert on_record(recorded) == before


def test_more_work_fails_the_test_and_names_operator_and_place(recorded, snapshot):
    clones(recorded, 4)
    result = recorded.measure()
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    assert failures(result)["test_model[fake]"] == snapshot
    result.stdout.fnmatch_lines(["gate FAILED: 1 of 1 case decided, 1 regressed"])


def test_the_tolerance_that_a_failure_offers_lets_it_pass(recorded):
    """Of a time, of counters, and of a counter that was 0; also if a later launch is a little slower."""
    recorded.change("DEVICE.allocations = 6")
    clones(recorded, 3)
    recorded.change("DEVICE.counters.totals['host_device_copies'] = 1")
    recorded.takes(0.030)
    given = "tolerance={'memory': '3%'}"
    recorded.test(given)
    (text,) = failures(recorded.measure()).values()
    offered = re.search(r"@pytest\.mark\.inference\((tolerance=.*)\)", text)[1]
    assert '"p50"' in offered
    assert '"operators"' in offered
    assert '"host_device_copies": "off"' in offered
    assert '"memory": "3%"' in offered
    recorded.test(offered)
    recorded.takes(0.033)
    assert recorded.failing() == []
    clones(recorded, 9)
    assert recorded.failing() == ["model"]


def test_less_work_is_told_whatever_the_verdict(recorded):
    """So that it is recorded and cannot grow back unseen."""
    conftest = (recorded.path / "conftest.py").read_text()

    def verdict(*options):
        decided = recorded.verdicts(*options)["model"]
        assert "less-work" in decided.codes
        return decided.verdict

    clones(recorded, 1)
    assert verdict() == "improved"
    assert recorded.failing() == []
    assert verdict("--infer-baseline=none") == "no-baseline"
    recorded.change("DEVICE.allocations = 6")
    assert verdict() == "regressed"
    recorded.pytester.makeconftest(conftest)
    recorded.change("DEVICE.architecture = lambda: 'other'; DEVICE.counters.totals['flops'] -= 1")
    assert verdict() == "improved"
    recorded.pytester.makeconftest(conftest)
    recorded.test("budget={'p50_ms': 1}")
    assert verdict() == "over-budget"
    recorded.test()
    recorded.takes(0.1)
    assert verdict() == "regressed"


def test_save_takes_other_work_as_right(recorded):
    for count in 4, 1:
        clones(recorded, count)
        assert "less-work" not in recorded.verdicts("--infer-save")["model"].codes
        assert f"    operators {1 + count}\n" in on_record(recorded)
        assert recorded.verdicts()["model"].verdict == "equivalent"


def test_views_are_shown_and_not_gated(recorded):
    recorded.change("DEVICE.counters.totals['views'] = 99")
    recorded.measure("--infer-strict").assert_outcomes(passed=1)


def test_more_flops_anywhere_are_a_regression_and_other_counters_need_their_keys(recorded, monkeypatch):
    clones(recorded, 9)
    recorded.change("DEVICE.architecture = lambda: 'other'")
    decided = counters(recorded)
    assert decided["flops"] == ("equivalent", None)
    assert decided["counters"] == ("incomparable", "incomparable")
    assert recorded.failing() == []
    assert recorded.failing("--infer-strict") == ["model"]
    runs_on(monkeypatch, "2.14.0")
    recorded.change("DEVICE.counters.totals['flops'] += 1")
    decided = counters(recorded)
    assert decided["flops"][0] == "regressed"
    assert recorded.failing() == ["model"]


def test_another_torch_does_not_compare_and_another_build_of_it_does(recorded, monkeypatch):
    clones(recorded, 9)
    runs_on(monkeypatch, "2.14.0")
    assert recorded.failing() == []
    assert recorded.failing("--infer-strict") == ["model"]
    runs_on(monkeypatch, "2.13.0+cu128")
    assert recorded.failing() == ["model"]


def test_save_keeps_what_other_machines_recorded(recorded):
    before, _ = on_record(recorded).split("  end of ")
    clones(recorded, 9)
    recorded.change("DEVICE.architecture = lambda: 'other'")
    recorded.record()
    assert on_record(recorded).startswith(before)
    assert recorded.verdicts()["model"].verdict == "equivalent"


def test_a_device_without_counters_is_measured_as_ever(project):
    project.change("DEVICE.counters = DeviceCounters(); DEVICE.allocations = DEVICE.activations = None")
    project.record()
    assert "    flops" not in on_record(project)
    decided = project.verdicts()["model"]
    assert (decided.failed, "no-counters" in decided.codes) == (False, False)


def test_counters_that_are_lost_are_incomparable(recorded):
    recorded.change("DEVICE.counters = DeviceCounters()")
    assert counters(recorded)["counters"] == ("incomparable", "incomparable")
    assert recorded.failing() == []
    assert recorded.failing("--infer-strict") == ["model"]


def test_a_device_that_cannot_count_is_a_note(project):
    project.change("def blind(call):\n    raise RuntimeError('no eyes')\n\nDEVICE.count = blind")
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*operators could not be counted: RuntimeError: no eyes*"])


VARIES = """
FIGURES = iter(range(1, 1000))
DEVICE.count = lambda call: counted(next(FIGURES))
"""


def test_what_varies_is_recorded_as_such_and_not_gated(project):
    project.change(VARIES)
    assert "varies" in project.verdicts("--infer-save")["model"].codes
    for _ in range(3):
        project.record()
    assert "    operators varies\n" in on_record(project)
    assert "    flops 2000000\n" in on_record(project)
    assert "varies" not in project.verdicts()["model"].codes  # without saving it is no news
    project.change("DEVICE.count = lambda call: counted(500)")
    project.measure("--infer-strict").assert_outcomes(passed=1)
    project.change("DEVICE.counters = counted(1); DEVICE.allocations = 6; del DEVICE.count")
    assert counters(project)["allocations"][0] == "regressed"
    project.change("DEVICE.count = lambda call: counted(2)")
    assert "varies" not in project.verdicts("--infer-save", "--infer-gate=off")["model"].codes
    assert "    operators 3\n" in on_record(project)  # exact again


def test_a_model_that_settles_while_it_is_timed_is_found_varying(project):
    settles = (
        "CALLS = []\nDEVICE.count = lambda call: CALLS.append(call()) or counted(2 if len(CALLS) < 4 else 1)"
    )
    project.change(settles)
    assert "varies" in project.verdicts("--infer-save")["model"].codes
    assert "    operators varies\n" in on_record(project)


def test_counters_are_taken_once_unless_they_are_recorded(project):
    project.change("DEVICE.counts = []\nDEVICE.count = lambda call: DEVICE.counts.append(1) or counted(2)")
    project.test(
        body="r = infer(model); assert len(device.counts) == 1; assert r.counters['operators'] == 3; "
        "assert dict(r.counters)['flops'] == 2_000_000; assert 'graphs' not in r.counters"
    )
    project.measure().assert_outcomes(passed=1)
    project.test(body="infer(model); assert len(device.counts) == 4")
    project.measure("--infer-save").assert_outcomes(passed=1)


# Tolerated

TOLERANCES = {
    "'5%'": True,
    "{'operators': '50%'}": True,
    "{'operators': '66%'}": True,
    "{'operators': '67%'}": False,
    "{'operators': 'off'}": False,
    "{'operators': False}": False,
    "{'counters': '100%'}": False,
    "{'counters': 'off'}": False,
    "{'counters': 'off', 'operators': '50%'}": True,
    "{'flops': 'off'}": True,
    "{'memory': 'off'}": True,
}


def test_a_marker_tolerates(project):
    """Two operators more than three."""
    tests = {f"{number:02}": f"tolerance={value}" for number, value in enumerate(TOLERANCES)}
    project.several(tests)
    project.record()
    clones(project, 4)
    failing = project.failing()
    assert {value: f"{number:02}" in failing for number, value in enumerate(TOLERANCES)} == TOLERANCES
    clones(project, 1)
    decided = project.verdicts()
    assert "less-work" in decided["00"].codes
    assert "less-work" not in decided["03"].codes  # within its tolerance


def test_memory_is_tolerated_by_its_own_name(project):
    tolerances = {
        "none": "{}",
        "off": "{'memory': 'off'}",
        "wide": "{'memory': '900%'}",
        "other": "{'operators': 'off'}",
    }
    project.several({name: f"tolerance={value}" for name, value in tolerances.items()})
    project.record()
    project.change("DEVICE.activations = 9_000_000")
    assert project.failing() == ["none", "other"]


WIDE, NARROW = "100%", "1%"


@pytest.mark.parametrize(
    ("ini", "command", "failing"),
    [
        (WIDE, None, ["marked_narrow", "narrow"]),
        (NARROW, None, ["marked_narrow", "narrow", "plain"]),
        (WIDE, NARROW, ["marked_narrow", "marked_wide", "narrow", "plain", "wide"]),
        (NARROW, "off", []),
    ],
)
def test_tolerance_of_command_over_marker_over_table_over_ini(project, ini, command, failing):
    project.several(
        {
            "plain": "",
            "wide": "",
            "narrow": "",
            "marked_wide": f"tolerance={{'operators': '{WIDE}'}}",
            "marked_narrow": f"tolerance={{'operators': '{NARROW}'}}",
        }
    )
    project.record()
    (project.path / "pytest.ini").write_text(f"[pytest]\ninfer_tolerance = operators={ini}\n")
    (project.path / "pyproject.toml").write_text(
        "[tool.infergate.tolerances]\n"
        f"'test_it.py::test_*wide' = {{operators = '{WIDE}'}}\n"
        f"'*narrow' = {{operators = '{NARROW}'}}\n"
        f"'*marked_wide' = {{operators = '{NARROW}'}}\n"
        f"'*marked_narrow' = {{operators = '{WIDE}'}}\n"
        "'test_other.py::*' = {operators = 'off'}\n"
    )
    clones(project, 4)
    assert project.failing(*([f"--infer-tolerance=operators={command}"] if command else [])) == failing


def test_tolerances_of_one_metric_leave_the_others(recorded):
    recorded.test("tolerance={'operators': 'off'}")
    clones(recorded, 4)
    recorded.takes(0.1)
    assert recorded.failing("--infer-tolerance=p50=900%") == []
    assert recorded.failing() == ["model"]


# Promised


def test_budgets_on_counters(project, snapshot):
    limits = {
        "kept": {"gflops": 0.002, "flops": 2_000_000, "operators": 3, "host_device_copies": 1},
        "gflops": {"gflops": 0.001},
        "operators": {"operators": 2},
        "allocations": {"allocations": 4},
        "copies": {"host_device_copies": 0},
        "weights": {"weights_mb": 1},
        "graphs": {"graph_breaks": 0},
        "kernels": {"kernel_launches": 9},
    }
    project.several({name: f"budget={limit}" for name, limit in limits.items()})
    project.change("DEVICE.counters.totals['host_device_copies'] = 1")
    result = project.measure("--infer-json=r.json")
    decided = project.decided("r.json")
    assert {name for name, one in decided.items() if one.failed} == limits.keys() - {"kept"}
    assert "\n".join(text.partition("\n")[0] for text in failures(result).values()) == snapshot
    undecided = {name for name, one in decided.items() if "budget-not-decided" in one.codes}
    assert undecided == {"weights", "graphs", "kernels"}


def test_an_accelerator_counts_what_its_profiler_sees(project):
    project.test(
        "budget={'kernel_launches': 1}",
        "assert infer(model).counters['kernel_launches'] == 1",
    )
    project.run("--infer-devices=accel").assert_outcomes(passed=1)


def test_the_folder_of_counters_can_be_chosen(project):
    project.record("--infer-counters=elsewhere")
    assert (project.path / "elsewhere/test_it.py.txt").is_file()
    assert not (project.path / ".infergate/counters").exists()
    clones(project, 4)
    assert project.failing("--infer-counters=elsewhere") == ["model"]
    assert project.failing() == []
    (project.path / "pytest.ini").write_text("[pytest]\ninfer_counters = elsewhere\n")
    assert project.failing() == ["model"]


# Cases that are gone


def test_a_lost_test_is_listed_and_taken_out_when_saving(project):
    project.test(file="test_gone.py")
    project.test(name="test_lost", file="test_both.py")
    project.record()
    (project.path / "test_gone.py").unlink()
    project.test(name="test_kept", file="test_both.py")
    project.measure("--infer-json=r.json")
    missing = json.loads((project.path / "r.json").read_text())["gate"]["missing"]
    assert {case["test"] for case in missing} == {"test_gone.py::test_model", "test_both.py::test_lost"}
    assert "test_lost" in on_record(project, "test_both.py")
    project.record("test_it.py")  # outside of the run
    assert "test_model" in on_record(project, "test_gone.py")
    project.record()
    assert "test_lost" not in on_record(project, "test_both.py")
    assert "test_kept" in on_record(project, "test_both.py")
    assert not (project.path / ".infergate/counters/test_gone.py.txt").exists()


def test_saving_a_part_of_the_suite_keeps_the_rest(project):
    project.test(file="test_other.py")
    project.record()
    before = on_record(project, "test_other.py")
    for options in (
        ["test_it.py"],
        ["-k", "test_it"],
        ["--deselect=test_other.py"],
        ["--ignore=test_other.py"],
    ):
        project.record(*options)
        assert on_record(project, "test_other.py") == before, options
    for content in "def broken(", "import pytest; pytest.importorskip('no_such_package')":
        (project.path / "test_other.py").write_text(content)
        for options in [], ["--continue-on-collection-errors"]:
            project.measure("--infer-save", *options)
            assert on_record(project, "test_other.py") == before, (content, options)


def test_saving_on_one_device_keeps_the_counters_of_others(project):
    project.run("--infer-devices=accel", "--infer-save")
    project.record()
    lines = on_record(project).splitlines()
    assert [json.loads(line[5:])["device"] for line in lines if line[:5] == "case "] == ["accel", "fake"]


TWO = """
from pathlib import Path

import pytest


@pytest.mark.inference
def test_kept(infer, model):
    infer(model)


@pytest.mark.inference
def test_mended(infer, model):
    infer(model)
    assert Path("mended").exists()
"""


def test_saving_under_last_failed_keeps_what_was_left_out(project):
    """But for modules that are deleted."""
    (project.path / "test_two.py").write_text(TWO)
    (project.path / "mended").touch()
    project.record()
    before = on_record(project, "test_two.py"), on_record(project)
    (project.path / "mended").unlink()
    project.measure().assert_outcomes(passed=2, failed=1)
    (project.path / "mended").touch()
    shutil.copytree(project.path / ".pytest_cache", project.path / "cache")
    project.record("--lf").assert_outcomes(passed=1)
    assert (on_record(project, "test_two.py"), on_record(project)) == before
    (project.path / "test_it.py").unlink()
    project.record("--lf", "-o", "cache_dir=cache").assert_outcomes(passed=1)
    assert not (project.path / ".infergate/counters/test_it.py.txt").exists()
    assert on_record(project, "test_two.py").count("\ncase ") == 2


# The same whatever ran before

DRAWS = """
    import random

    import pytest


    @pytest.fixture(scope="module")
    def weights():
        return random.random()


    @pytest.fixture(scope="module")
    def others():
        return random.random()


    def test_ordinary(weights):
        random.random()


    @pytest.mark.inference
    @pytest.mark.parametrize("number", [1, 2])
    def test_model(infer, model, weights, others, number):
        infer(model)
        with open("drawn", "a") as file:
            print(number, weights, others, random.random(), file=file)
"""


def drawn(project, *arguments):
    (project.path / "drawn").unlink(missing_ok=True)
    assert project.measure(*arguments).ret == 0
    return set((project.path / "drawn").read_text().splitlines())


def test_models_and_inputs_do_not_hang_on_which_tests_ran_before(project):
    project.pytester.makepyfile(test_it=DRAWS)
    whole = drawn(project)
    assert len(whole) == 2
    assert drawn(project, "-k", "test_model and 1") | drawn(project, "-k", "test_model and 2") == whole
    weights, others = next(iter(whole)).split()[1:3]
    assert weights != others


def test_ordinary_tests_keep_their_own_random_numbers(project):
    project.pytester.makepyfile(
        test_it=DRAWS,
        test_a="""
        import random

        import pytest


        @pytest.fixture
        def drawing():
            return random.random()


        def test_numbers(drawing):
            random.seed(7)
            first = random.random()
            random.seed(7)
            assert random.random() == first


        def test_a_fixture_draws_as_without_infergate(request):
            random.seed(7)
            drawn = request.getfixturevalue("drawing")
            random.seed(7)
            assert random.random() == drawn
        """,
    )
    project.measure().assert_outcomes(passed=5)

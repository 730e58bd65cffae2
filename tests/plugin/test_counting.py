"""Exact counters on the whole road: recorded, compared, tolerated, promised."""

import json
import shutil
import sys

import pytest

from pytest_infergate.core.domain.model import Environment

pytestmark = pytest.mark.slow

COUNTING = """

from pytest_infergate.core.model import OperatorWork
from pytest_infergate.devices.base import DeviceCounters


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
    monkeypatch.delitem(sys.modules, "torch", raising=False)  # of another test: it would tell its threads
    project.pytester.makeconftest((project.path / "conftest.py").read_text() + COUNTING)
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
    monkeypatch.setattr(
        "pytest_infergate.runner.run.software_environment",
        lambda: Environment(packages={"torch": torch}, virtual=False),
    )


def clones(project, count):
    (project.path / "clones").write_text(str(count))


def device(project, line):
    """Change the fake device."""
    project.pytester.makeconftest((project.path / "conftest.py").read_text() + f"\n{line}\n")


def table(project, text):
    (project.path / "pyproject.toml").write_text(text)


def on_record(project, module="test_it.py"):
    return (project.path / ".infergate/counters" / f"{module}.txt").read_text()


# Recorded and compared

LESS = "less work than on record (record it with --infer-save, so that it cannot grow back unseen)"


def test_save_writes_a_file_beside_the_tests_name(project):
    result = project.record()
    result.stdout.fnmatch_lines(
        ["recorded 1 case into *.infergate?baselines", "rewrote 1 file of counters in *.infergate?counters"]
    )
    _, text = on_record(project).split("infergate counters 1\n\n")
    assert text == (
        'case {"test": "test_it.py::test_model", "device": "fake"}\n'
        "  everywhere\n"
        "    flops 2000000\n"
        "    host_device_copies 0\n"
        '  with {"torch": "2.13.0", "architecture": "fake"}\n'
        "    allocations 5\n"
        "    aten::clone 2\n"
        "    aten::mm 1\n"
        "    operators 3\n"
        "    peak_memory_bytes 1000000\n"
        "    views 2\n"
        "    aten::clone: 2 calls, 0 flops, 8000 bytes in layers.0\n"
        "    aten::mm: 1 call, 2000000 flops, 30 bytes in head\n"
        "  end of 12 lines\n"
        "\nend\n"
    )


def test_the_same_work_passes_and_is_not_written_again(recorded):
    before = on_record(recorded)
    result = recorded.measure("--infer-save")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*equivalent*", "passed: 1 of 1 case decided"])
    result.stdout.no_fnmatch_line("rewrote*")
    assert on_record(recorded) == before


def test_more_work_fails_the_test_and_names_operator_and_place(recorded):
    clones(recorded, 4)
    result = recorded.measure()
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "regressed: operators 5 against 3: +2 aten::clone in layers.0",
            "*operators *5 against 3: +2*",
            "*record it with --infer-save",
            '*tolerance={"counters": "70%"}*',
            "FAILED: 1 of 1 case decided, 1 regressed",
        ]
    )


def test_one_session_on_record_is_enough(project):
    project.record()
    clones(project, 3)
    project.measure().assert_outcomes(failed=1)


def test_less_work_is_improved_and_told_how_to_accept(recorded):
    clones(recorded, 1)
    result = recorded.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*improved*", "passed: 1 of 1 case decided, 1 improved"])
    result.stdout.fnmatch_lines(["notes (1):", f"  test_it.py::test_model[[]fake[]]: {LESS}"])


@pytest.mark.parametrize(
    ("change", "options", "verdict"),
    [
        ("", ["--infer-baseline=none"], "no-baseline"),
        ("DEVICE.allocations = 6", [], "regressed"),
        ("DEVICE.architecture = lambda: 'other'; DEVICE.counters.totals['flops'] -= 1", [], "improved"),
    ],
)
def test_less_work_is_told_whatever_the_verdict(recorded, change, options, verdict):
    clones(recorded, 1)
    device(recorded, change)
    result = recorded.measure(*options)
    result.stdout.fnmatch_lines([f"test_it.py* {verdict}"])
    result.stdout.fnmatch_lines(["notes (*):", f"  test_it.py::test_model[[]fake[]]: {LESS}"])


def test_less_work_is_told_of_a_slower_case_and_of_one_over_its_budget(recorded):
    clones(recorded, 1)
    recorded.test("budget={'p50_ms': 1}")
    recorded.measure().stdout.fnmatch_lines(["*over-budget*", "notes (*):", f"*: {LESS}"])
    recorded.test()
    recorded.takes(0.1)
    recorded.measure().stdout.fnmatch_lines(["*p50 latency: regressed", "notes (*):", f"*: {LESS}"])


def test_less_work_within_the_tolerance_is_not_told(recorded):
    recorded.test("tolerance={'operators': '34%'}")
    clones(recorded, 1)
    recorded.measure().stdout.no_fnmatch_line("*less work*")


@pytest.mark.parametrize("count", [1, 4])
def test_save_takes_the_new_work_as_right(recorded, count):
    clones(recorded, count)
    result = recorded.record()
    result.stdout.fnmatch_lines(["rewrote 1 file of counters in *"])
    assert f"    operators {1 + count}\n" in on_record(recorded)
    recorded.measure().stdout.fnmatch_lines(["*equivalent*"])


def test_views_are_shown_and_not_gated(recorded):
    device(recorded, "DEVICE.counters.totals['views'] = 99")
    recorded.measure("--infer-strict").assert_outcomes(passed=1)


def test_more_flops_anywhere_are_a_regression(recorded, monkeypatch):
    device(recorded, "DEVICE.architecture = lambda: 'other'; DEVICE.counters.totals['flops'] += 1")
    runs_on(monkeypatch, "2.14.0")
    result = recorded.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["regressed: FLOPs 2.00 MFLOP against 2.00 MFLOP*"])


def test_another_architecture_does_not_compare(recorded):
    clones(recorded, 9)
    device(recorded, "DEVICE.architecture = lambda: 'other'")
    words = "*allocations, operators, peak memory* recorded with fake, this is other*"
    result = recorded.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([words, "passed: *"])
    strict = recorded.measure("--infer-strict")
    strict.assert_outcomes(failed=1)
    strict.stdout.fnmatch_lines(["incomparable: *", "*record them anew with --infer-save*"])


def test_another_torch_does_not_compare(recorded, monkeypatch):
    clones(recorded, 9)
    runs_on(monkeypatch, "2.14.0")
    result = recorded.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*operators*recorded with torch 2.13.0, this is 2.14.0*"])
    recorded.measure("--infer-strict").assert_outcomes(failed=1)


def test_another_build_of_the_same_torch_compares(recorded, monkeypatch):
    clones(recorded, 9)
    runs_on(monkeypatch, "2.13.0+cu128")
    recorded.measure().assert_outcomes(failed=1)


def test_save_keeps_what_other_machines_recorded(recorded):
    before, _ = on_record(recorded).split("  end of ")
    clones(recorded, 9)
    device(recorded, "DEVICE.architecture = lambda: 'other'")
    recorded.record()
    assert on_record(recorded).startswith(before)
    recorded.measure().stdout.fnmatch_lines(["*equivalent*"])


def test_a_device_without_counters_is_measured_as_ever(project):
    device(project, "DEVICE.counters = DeviceCounters(); DEVICE.allocations = DEVICE.activations = None")
    project.record()
    assert not list((project.path / ".infergate/counters").rglob("*.txt"))
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*not on record*")


def test_counters_that_are_lost_are_incomparable(recorded):
    device(recorded, "DEVICE.counters = DeviceCounters()")
    result = recorded.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*copies*, operators on record, and not counted by this run*"])
    recorded.measure("--infer-strict").assert_outcomes(failed=1)


RAISES = """
def blind(call):
    raise RuntimeError("no eyes")

DEVICE.count = blind
"""


def test_a_device_that_cannot_count_is_a_note(project):
    device(project, RAISES)
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*operators could not be counted: RuntimeError: no eyes (the case is measured and gated without them)*"
        ]
    )


VARIES = """
FIGURES = iter(range(1, 1000))
DEVICE.count = lambda call: counted(next(FIGURES))
"""


def test_what_varies_is_recorded_as_such_and_not_gated(project):
    device(project, VARIES)
    for _ in range(4):
        project.record()
    assert "    operators varies\n" in on_record(project)
    assert "    flops 2000000\n" in on_record(project)
    device(project, "DEVICE.count = lambda call: counted(500)")
    project.measure("--infer-strict").assert_outcomes(passed=1)
    device(project, "DEVICE.counters = counted(1); DEVICE.allocations = 6; del DEVICE.count")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["regressed: allocations 6 against 5*"])


def test_what_varies_is_a_note_when_saving(project):
    device(project, VARIES)
    result = project.record()
    words = "operators (2 to 5), views (1 to 4) vary from call to call: recorded as such, and not gated"
    result.stdout.fnmatch_lines(["notes (*):", f"  test_it.py::test_model[[]fake[]]: {words} (*)"])
    project.measure().stdout.no_fnmatch_line("*vary*")


def test_what_varied_once_is_exact_again_when_recorded_anew(project):
    device(project, VARIES)
    project.record()
    device(project, "DEVICE.count = lambda call: counted(2)")
    project.record().stdout.no_fnmatch_line("*vary*")
    assert "    operators 3\n" in on_record(project)


def test_counters_are_taken_once_unless_they_are_recorded(project):
    device(project, "DEVICE.counts = []\nDEVICE.count = lambda call: DEVICE.counts.append(1) or counted(2)")
    project.test(body="infer(model); assert len(device.counts) == 1")
    project.measure().assert_outcomes(passed=1)
    project.test(body="infer(model); assert len(device.counts) == 4")
    project.measure("--infer-save").assert_outcomes(passed=1)


def test_counters_reach_the_test(project):
    project.test(
        body="r = infer(model); assert r.counters['operators'] == 3; "
        "assert dict(r.counters)['flops'] == 2_000_000; assert 'graphs' not in r.counters"
    )
    project.measure().assert_outcomes(passed=1)


def test_counters_of_an_unmeasured_result_say_how_to_get_them(project):
    project.test(body="infer(model).counters")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*this run did not measure; run pytest with --infer-devices=cpu*"])


# Tolerated


@pytest.mark.parametrize(
    ("tolerance", "code"),
    [
        ("'5%'", 1),
        ("{'operators': '50%'}", 1),
        ("{'operators': '100%'}", 0),
        ("{'operators': 'off'}", 0),
        ("{'operators': False}", 0),
        ("{'counters': '100%'}", 0),
        ("{'counters': 'off'}", 0),
        ("{'counters': 'off', 'operators': '50%'}", 1),
        ("{'flops': 'off'}", 1),
        ("{'memory': 'off'}", 1),
    ],
)
def test_a_marker_tolerates(recorded, tolerance, code):
    recorded.test(f"tolerance={tolerance}")
    clones(recorded, 4)
    assert recorded.measure().ret == code


def test_up_to_its_tolerance_a_counter_is_equivalent(recorded):
    recorded.test("tolerance={'operators': '34%'}")
    clones(recorded, 3)
    recorded.measure().stdout.fnmatch_lines(["*equivalent*"])
    recorded.test("tolerance={'operators': '33%'}")
    recorded.measure().stdout.fnmatch_lines(["*regressed*"])


@pytest.mark.parametrize(
    ("tolerance", "code"),
    [("{}", 1), ("{'memory': 'off'}", 0), ("{'memory': '900%'}", 0), ("{'operators': 'off'}", 1)],
)
def test_memory_is_tolerated_by_its_own_name(recorded, tolerance, code):
    recorded.test(f"tolerance={tolerance}")
    device(recorded, "DEVICE.activations = 9_000_000")
    assert recorded.measure().ret == code


@pytest.mark.parametrize(
    ("pattern", "code"), [("*", 0), ("test_it.py::*", 0), ("*::test_model", 0), ("test_other.py::*", 1)]
)
def test_tolerances_by_pattern_come_from_the_table(recorded, pattern, code):
    table(recorded, f"[tool.infergate.tolerances]\n'{pattern}' = {{operators = 'off'}}\n")
    clones(recorded, 4)
    assert recorded.measure().ret == code


WIDE, NARROW = "100%", "1%"


@pytest.mark.parametrize(
    ("layers", "code"),
    [
        ((WIDE, None, None, None), 0),
        ((WIDE, NARROW, None, None), 1),
        ((NARROW, WIDE, None, None), 0),
        ((WIDE, WIDE, NARROW, None), 1),
        ((NARROW, NARROW, WIDE, None), 0),
        ((WIDE, WIDE, WIDE, NARROW), 1),
        ((NARROW, NARROW, NARROW, "off"), 0),
    ],
)
def test_command_over_marker_over_table_over_ini(recorded, layers, code):
    ini, pattern, marker, command = layers
    (recorded.path / "pytest.ini").write_text(f"[pytest]\ninfer_tolerance = operators={ini}\n")
    if pattern:
        table(recorded, f"[tool.infergate.tolerances]\n'*' = {{operators = '{pattern}'}}\n")
    recorded.test(f"tolerance={{'operators': '{marker}'}}" if marker else "")
    clones(recorded, 4)
    options = [f"--infer-tolerance=operators={command}"] if command else []
    assert recorded.measure(*options).ret == code


def test_tolerances_of_one_metric_leave_the_others(recorded):
    recorded.test("tolerance={'operators': 'off'}")
    clones(recorded, 4)
    recorded.takes(0.1)
    result = recorded.measure("--infer-tolerance=p50=900%")
    result.assert_outcomes(passed=1)
    recorded.measure().assert_outcomes(failed=1)


# Promised


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("{'gflops': 0.002, 'flops': 2_000_000, 'operators': 3, 'host_device_copies': 0}", None),
        ("{'gflops': 0.001}", "over-budget: FLOPs 2.00 MFLOP is over its budget of 1.00 MFLOP"),
        ("{'operators': 2}", "over-budget: operators 3 is over its budget of 2"),
        ("{'allocations': 4}", "over-budget: allocations 5 is over its budget of 4"),
        ("{'weights_mb': 1}", "*budget weights_mb was not decided: it needs a torch module*"),
        (
            "{'graph_breaks': 0}",
            "*budget graph_breaks was not decided: it needs a model under torch.compile*",
        ),
        ("{'kernel_launches': 9}", "*budget kernel_launches was not decided: it needs an accelerator*"),
    ],
)
def test_budgets_on_counters(project, budget, words):
    project.test(f"budget={budget}")
    result = project.measure()
    result.assert_outcomes(passed=int(words is None), failed=int(words is not None))
    result.stdout.fnmatch_lines([words or "*kept*no-baseline*"])


def test_a_copy_to_the_host_breaks_its_budget_at_once(project):
    project.test("budget={'host_device_copies': 0}")
    device(project, "DEVICE.counters.totals['host_device_copies'] = 1")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["over-budget: copies between host and device 1 is over its budget of 0"])


def test_an_accelerator_counts_what_its_profiler_sees(project):
    project.test(
        "budget={'kernel_launches': 1}",
        "assert infer(model).counters['kernel_launches'] == 1",
    )
    project.run("--infer-devices=accel").assert_outcomes(passed=1)


# Told before anything is measured


@pytest.mark.parametrize(
    "content",
    [
        "",
        "garbage",
        "\0",
        "infergate counters 2\n",
        "<<<<<<< HEAD\n",
        "infergate counters 1\n    flops 1\n",
        'infergate counters 1\ncase {"test": "test_it.py::test_model", "device": "fake"}\n',
    ],
)
def test_unreadable_counters_stop_the_run_and_are_left_alone(recorded, content):
    recorded.test(body="(infer(model), __import__('pathlib').Path('ran').touch())")
    file = recorded.path / ".infergate/counters/test_it.py.txt"
    file.write_text(content)
    for options in ([], ["--infer-save"]):
        result = recorded.measure(*options)
        assert result.ret == 4
        result.stderr.fnmatch_lines(["ERROR: *test_it.py.txt*"])
        assert "Traceback" not in result.stderr.str()
        assert file.read_text() == content
    assert not (recorded.path / "ran").exists()


def test_the_folder_of_counters_can_be_chosen(project):
    project.record("--infer-counters=elsewhere")
    assert (project.path / "elsewhere/test_it.py.txt").is_file()
    assert not (project.path / ".infergate/counters").exists()
    clones(project, 4)
    project.measure("--infer-counters=elsewhere").assert_outcomes(failed=1)
    project.measure().assert_outcomes(passed=1)
    (project.path / "pytest.ini").write_text("[pytest]\ninfer_counters = elsewhere\n")
    project.measure().assert_outcomes(failed=1)


@pytest.mark.parametrize("option", ["--infer-json", "--infer-report"])
def test_a_report_among_the_counters_is_refused(recorded, option):
    result = recorded.measure(f"{option}=.infergate/counters/x.txt")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [f"ERROR: {option}: *x.txt is in a folder of baselines or counters; give another"]
    )


def test_a_folder_that_cannot_be_written_is_known_before_anything_is_measured(project):
    project.test(body="(infer(model), __import__('pathlib').Path('ran').touch())")
    result = project.measure("--infer-save", "--infer-counters=conftest.py/x")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: cannot write *conftest.py*"])
    assert not (project.path / "ran").exists()


# Cases that are gone


def test_a_lost_test_is_listed_and_taken_out_when_saving(recorded):
    recorded.test(file="test_gone.py")
    recorded.test(name="test_lost", file="test_both.py")
    recorded.record()
    (recorded.path / "test_gone.py").unlink()
    recorded.test(name="test_kept", file="test_both.py")
    result = recorded.measure()
    result.stdout.fnmatch_lines_random(["*test_gone.py::test_model*", "*test_both.py::test_lost*"])
    assert "test_lost" in on_record(recorded, "test_both.py")
    recorded.record()
    assert "test_lost" not in on_record(recorded, "test_both.py")
    assert "test_kept" in on_record(recorded, "test_both.py")
    assert not (recorded.path / ".infergate/counters/test_gone.py.txt").exists()
    assert "missing" not in recorded.measure("--infer-baseline=none").stdout.str()


@pytest.mark.parametrize(
    "options", [["test_it.py"], ["-k", "test_it"], ["--deselect=test_other.py"], ["--ignore=test_other.py"]]
)
def test_saving_a_part_of_the_suite_keeps_the_rest(recorded, options):
    recorded.test(file="test_other.py")
    recorded.record()
    recorded.measure("--infer-save", *options)
    assert "test_model" in on_record(recorded, "test_other.py")


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


@pytest.fixture
def failing(recorded):
    """Three cases on record, of which one has failed since and is mended now."""
    (recorded.path / "test_two.py").write_text(TWO)
    (recorded.path / "mended").touch()
    recorded.record()
    (recorded.path / "mended").unlink()
    recorded.measure().assert_outcomes(passed=2, failed=1)
    (recorded.path / "mended").touch()
    return recorded


def test_saving_under_last_failed_keeps_what_was_left_out(failing):
    before = on_record(failing, "test_two.py"), on_record(failing)
    failing.record("--lf").assert_outcomes(passed=1)
    assert (on_record(failing, "test_two.py"), on_record(failing)) == before


def test_saving_under_last_failed_takes_out_modules_that_are_deleted(failing):
    (failing.path / "test_it.py").unlink()
    failing.record("--lf").assert_outcomes(passed=1)
    assert not (failing.path / ".infergate/counters/test_it.py.txt").exists()
    assert on_record(failing, "test_two.py").count("\ncase ") == 2


def test_a_deleted_module_outside_of_the_run_stays(recorded):
    recorded.test(file="test_other.py")
    recorded.record()
    (recorded.path / "test_other.py").unlink()
    recorded.record("test_it.py")
    assert "test_model" in on_record(recorded, "test_other.py")
    recorded.record()
    assert not (recorded.path / ".infergate/counters/test_other.py.txt").exists()


@pytest.mark.parametrize("content", ["def broken(", "import pytest; pytest.importorskip('no_such_package')"])
@pytest.mark.parametrize("options", [[], ["--continue-on-collection-errors"]])
def test_saving_keeps_the_counters_of_a_module_that_could_not_be_collected(recorded, content, options):
    recorded.test(file="test_other.py")
    recorded.record()
    (recorded.path / "test_other.py").write_text(content)
    recorded.measure("--infer-save", *options)
    assert "test_model" in on_record(recorded, "test_other.py")


def test_saving_on_one_device_keeps_the_counters_of_others(recorded):
    recorded.run("--infer-devices=accel", "--infer-save")
    recorded.record()
    devices = [
        json.loads(line[5:])["device"] for line in on_record(recorded).splitlines() if line[:5] == "case "
    ]
    assert devices == ["accel", "fake"]


# Beside pytest-xdist

WRITES = """
import os
from pytest_infergate.storage import counters

def logged(path, text, write=counters.atomic_write):
    with Path("writes").open("a") as log:
        log.write(f"{os.getpid()} {os.environ.get('PYTEST_XDIST_WORKER', 'controller')}\\n")
    write(path, text)

counters.atomic_write = logged
"""


def test_xdist_writes_each_file_once_in_the_controller(project, monkeypatch):
    pytest.importorskip("xdist")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # of this suite, where xdist runs it
    device(project, WRITES)
    project.test("batch_sizes=[1, 2, 3]")
    arguments = ("-p", "pytest_infergate.plugin.hooks", "-p", "xdist.plugin", "--infer-devices=fake", "-n2")
    result = project.pytester.runpytest_subprocess(*arguments, "--infer-save")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["rewrote 1 file of counters in *"])
    writes = (project.path / "writes").read_text().splitlines()
    assert [line.split()[1] for line in writes] == ["controller"]
    assert on_record(project).count("\ncase ") == 3
    clones(project, 4)
    result = project.pytester.runpytest_subprocess(*arguments)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["regressed: operators 5 against 3: +2 aten::clone in layers.0"])
    project.test("batch_sizes=[1, 2]")
    project.pytester.runpytest_subprocess(*arguments, "--infer-save").assert_outcomes(passed=2)
    assert on_record(project).count("\ncase ") == 2


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


        def test_a_fixture_leaves_the_numbers_alone(request):
            random.seed(7)
            request.getfixturevalue("drawing")
            found = random.random()
            random.seed(7)
            assert random.random() == found
        """,
    )
    project.measure().assert_outcomes(passed=5)


def test_a_model_that_settles_while_it_is_timed_is_found_varying(project):
    settles = (
        "CALLS = []\nDEVICE.count = lambda call: CALLS.append(call()) or counted(2 if len(CALLS) < 4 else 1)"
    )
    device(project, settles)
    project.record().stdout.fnmatch_lines(["*vary from call to call*"])
    assert "    operators varies\n" in on_record(project)

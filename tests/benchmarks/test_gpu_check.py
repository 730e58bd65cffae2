"""The steps of `make gpu-check` and their budget, on fakes; the rehearsal itself is nightly."""

import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def check():
    path = list(sys.path)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("gpu_check")
    finally:
        sys.path[:] = path


class World:
    """Steps that take the seconds of a table, and a clock that they move."""

    def __init__(self, check):
        self.check = check
        self.now = 50.0
        self.limits = {}

    def clock(self):
        return self.now

    def steps(self, *names, seconds=100.0, least=20.0, results=None):
        return [self.check.Step(name, lambda _: [], Path(), seconds, least, results) for name in names]

    def run(self, steps, takes, seconds=480.0, ends=None):
        def run(step, limit):
            self.limits[step.name] = limit
            self.now += min(takes[step.name], limit)
            end = (ends or {}).get(step.name, (0, "3 passed in 1 s"))
            if isinstance(end, Exception):
                raise end
            return (None, "") if takes[step.name] > limit else end

        return self.check.run_steps(steps, run, seconds, self.clock)


@pytest.fixture
def world(check):
    return World(check)


def test_steps_run_in_their_order_with_what_is_left_as_their_limit(world):
    done = world.run(world.steps("a", "b", "c"), {"a": 60, "b": 10, "c": 500}, seconds=160.0)
    assert [(one.name, one.outcome, one.seconds) for one in done] == [
        ("a", "done", 60),
        ("b", "done", 10),
        ("c", "cut short", 85),
    ]
    assert world.limits == {"a": 100, "b": 95, "c": 85}


def test_a_step_for_which_too_little_is_left_is_dropped_and_a_shorter_one_still_runs(world):
    steps = [*world.steps("a", "long", least=50), *world.steps("short", least=5)]
    done = world.run(steps, {"a": 60, "long": 60, "short": 5}, seconds=100.0)
    assert [one.outcome for one in done] == ["done", "dropped", "done"]
    assert "at least 50 s" in done[1].note


@pytest.mark.parametrize("seconds", [1, 30, 61, 480, 1000])
def test_the_budget_holds_whatever_the_steps_take(world, seconds):
    begin = world.now
    world.run(world.steps(*"abcdefgh", seconds=1000.0), dict.fromkeys("abcdefgh", 77.0), seconds)
    assert world.now - begin <= max(0, seconds - world.check.PAGE_SECONDS)


@pytest.mark.parametrize(
    ("end", "outcome", "note"),
    [
        ((1, "2 failed, 3 passed in 1 s"), "done", "2 failed, 3 passed"),
        ((5, "no tests ran"), "done", ""),
        ((4, "ERROR: no such device\n\n"), "failed", "exit code 4: ERROR: no such device"),
        ((-11, ""), "failed", "exit code -11: no output"),
        (OSError("no python"), "failed", "exit code -1: no python"),
    ],
)
def test_a_step_that_fails_ends_nothing(world, end, outcome, note):
    first, second = world.run(world.steps("a", "b"), {"a": 1, "b": 1}, ends={"a": end})
    assert (first.outcome, first.note) == (outcome, note)
    assert second.outcome == "done"


@pytest.mark.parametrize(("code", "outcome"), [(0, "failed"), (None, "failed")])
def test_a_step_without_its_results_failed(world, tmp_path, code, outcome):
    (step,) = world.steps("a", results=tmp_path / "a.json")
    assert world.check.judged(step, code, "1 passed")[0] == outcome
    (tmp_path / "a.json").write_text("{}")
    assert world.check.judged(step, code, "1 passed")[0] == ("done" if code == 0 else "cut short")


def test_the_reasons_are_those_of_the_summary_each_once(check):
    text = (
        "FAILED test_eager.py::test_eager[mojo-b1-vit - b16] - NotImplementedError: no such operator\n"
        "FAILED test_eager.py::test_eager[mojo-b2-vit] - NotImplementedError: no such operator\n"
        "SKIPPED [2] ../a.py:70: could not import 'transformers'\nPASSED\n"
    )
    assert check.reasons(text) == (
        "b16] - NotImplementedError: no such operator",
        "NotImplementedError: no such operator",
        "could not import 'transformers'",
    )


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "cpu", "mojo"])
def test_every_step_measures_on_the_device_and_writes_below_the_folder(check, tmp_path, device):
    steps = check.steps(device, tmp_path, small=device in ("cpu", "mojo"))
    assert [step.name for step in steps][:3] == ["eager", "gpu tests", "paired run"]
    assert sum(step.least for step in steps) <= check.SECONDS
    for step in steps:
        command = step.command(90.0)
        assert step.results.is_relative_to(tmp_path)
        assert step.least <= step.seconds
        assert (f"--infer-devices={device}" in command) is (step.name != "gpu tests")
        totals = [int(one.partition("=")[2]) for one in command if one.startswith("--infer-max-total=")]
        assert all(total < 90 for total in totals)
    assert ("mojo_device" in steps[1].command(90.0)) is (device == "mojo")


def test_a_step_that_hangs_is_interrupted_and_keeps_what_it_printed(check, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "END_SECONDS", 5.0)
    program = "import time\nprint('begun', flush=True)\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('wrote')"
    step = check.Step("hangs", lambda _: ["-c", program], tmp_path, 6, 1)
    code, text = check.process(step, 6.0, dict(check.os.environ), tmp_path / "log")
    assert code is None
    assert text.split() == ["begun", "wrote"]
    assert (tmp_path / "log").read_text() == text


def ended(process, seconds=20):
    """Whether a process ends in time, although no user waits for it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_what_ignores_the_interrupt_is_killed_with_its_children(check, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "END_SECONDS", 0.5)
    program = (
        "import signal, subprocess, sys, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\ntime.sleep(60)"
    )
    step = check.Step("stubborn", lambda _: ["-c", program], tmp_path, 6, 1)
    code, text = check.process(step, 2.5, dict(check.os.environ), tmp_path / "log")
    assert code is None
    assert ended(int(text))


def test_the_repository_of_the_paired_run_has_one_layer_more_of_twenty_in_one_model(check, tmp_path):
    check.prepare(tmp_path)
    difference = subprocess.run(
        ["git", "diff", "-U0"], cwd=tmp_path / "paired", capture_output=True, text=True, check=True
    ).stdout
    assert '-{"equal": 20, "slower": 20}' in difference
    assert '+{"equal": 20, "slower": 21}' in difference
    assert (tmp_path / "models" / "test_eager.py").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("NVIDIA H200", "nvidia-h200"), ("cuda:1", "cuda-1"), ("../x", "x"), ("", "device")],
)
def test_names_of_files(check, name, expected):
    assert check.slug(name) == expected


def test_gpu_tests_are_read_with_their_reasons(check, tmp_path):
    (tmp_path / "a.xml").write_text(
        '<testsuites><testsuite><testcase name="test_a"/><testcase name="test_b"><skipped message="no operator"/>'
        '</testcase><testcase name="test_c"><failure message="assert 1&#10;more"/></testcase><testcase name=""/>'
        "</testsuite></testsuites>"
    )
    assert [tuple(one) for one in check.gpu_test_results(tmp_path / "a.xml")] == [
        ("test_a", "passed", ""),
        ("test_b", "skipped", "no operator"),
        ("test_c", "failure", "assert 1"),
    ]
    assert check.gpu_test_results(tmp_path / "none.xml") == []
    (tmp_path / "a.xml").write_text("<testsuites><testsuite>")
    assert check.gpu_test_results(tmp_path / "a.xml") == []


def test_files_that_were_cut_off_are_left_out_and_the_page_is_written(check, tmp_path):
    machines = BENCHMARKS / "results" / "machines"
    (tmp_path / "eager.json").write_bytes((machines / "two-cores.json").read_bytes())
    (tmp_path / "compiled.json").write_text('{"schema_version": 2, "cases": [')
    done = [check.StepDone("eager", "done", 1.0), check.StepDone("compiled", "cut short", 2.0)]
    written = check.write(tmp_path, tmp_path / "out", "cpu", done)
    assert [path.name for path in written] == ["cpu.md", "cpu.json"]
    text = written[0].read_text()
    assert "## Models, compiled\n\nNot measured." in text
    assert check.parse_results(written[1].read_bytes(), "cpu.json").cases


def test_a_page_of_nothing_is_a_page(check, tmp_path):
    (written,) = check.write(
        tmp_path, tmp_path / "out", "cuda", [check.StepDone("eager", "failed", 1.0, "why")]
    )
    assert written.name == "cuda.md"
    assert "Nothing was measured." in written.read_text()

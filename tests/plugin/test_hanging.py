"""Models that never return: what becomes of their case, and of the run."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from inner_results import failures

from pytest_infergate.plugin.hanging import stack_of_main_thread

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs SIGALRM")
QUICKLY = """
from pytest_infergate.measure import call_limit
call_limit.CALL_SECONDS, call_limit.CAPS_PER_CALL = 3.0, 0.01
call_limit.CallLimit.__init__.__kwdefaults__["grace"] = 0.2
"""
TESTS = """
    import ctypes
    import time

    import pytest

    def forever():
        time.sleep(3600)

    def in_c():
        library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        library.pthread_mutex_lock(mutex)
        library.pthread_mutex_lock(mutex)

    @pytest.mark.inference
    def test_first(infer, model):
        infer(model)

    def test_plain():
        assert not "a failure of its own"

    @pytest.fixture
    def used():
        yield
        open("torn down", "w").close()

    @pytest.mark.inference
    def test_hangs(infer, used, capfd):
        infer({model})

    @pytest.mark.inference
    def test_last(infer, model):
        infer(model)
"""


@pytest.fixture
def limits(monkeypatch):
    """Limits of other tests are what they were."""
    from pytest_infergate.measure import call_limit

    monkeypatch.setattr(call_limit, "CALL_SECONDS", 1.5)
    monkeypatch.setattr(call_limit, "CAPS_PER_CALL", 0.01)


def outcomes(project):
    found = json.loads((project.path / "r.json").read_text())
    return {case["nodeid"].partition("::")[2]: case["outcome"] for case in found["cases"]}, found["gate"]


def test_a_call_that_hangs_fails_its_test_with_the_stack_and_the_others_go_on(project, limits):
    project.pytester.makepyfile(test_it=TESTS.replace("{model}", "forever"))
    result = project.measure("--infer-json=r.json")
    result.assert_outcomes(passed=2, failed=2)
    text = failures(result)["test_hangs[fake]"]
    assert ">       time.sleep(3600)" in text
    assert "CaseTimeoutError: call 1 must return within" in text
    found, gate = outcomes(project)
    assert found == {
        "test_first[fake]": "measured",
        "test_hangs[fake]": "failed",
        "test_last[fake]": "measured",
    }
    assert gate["reasons"] == ["1 case not-measured"]
    assert (project.path / "torn down").exists()


def test_its_time_is_spent(project, limits):
    project.pytester.makepyfile(test_it=TESTS.replace("{model}", "forever"))
    project.measure("--infer-json=r.json", "--infer-max-total=1.2").assert_outcomes(
        passed=1, failed=2, skipped=1
    )
    assert outcomes(project)[0]["test_last[fake]"] == "skipped"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="locks a mutex of glibc")
def test_a_call_that_hangs_in_c_ends_the_session_and_nothing_else_is_lost(project):
    """In a process of its own, which ends."""
    project.pytester.makepyfile(test_it=TESTS.replace("{model}", "in_c"))
    project.change(QUICKLY)
    result = project.pytester.runpytest_subprocess(
        "-p", "pytest_infergate.plugin.hooks", "--infer-devices=fake", "--infer-save", "--infer-json=r.json",
        "--junitxml=junit.xml",
    )  # fmt: skip
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*a failure of its own*", "*library.pthread_mutex_lock(mutex)", "*hangs *"])
    result.stderr.fnmatch_lines(["infergate: call 1 must return within*", '*test_it.py", line * in in_c'])
    found, gate = outcomes(project)
    assert found == {"test_first[fake]": "measured", "test_hangs[fake]": "failed"}
    assert "the run was interrupted" in gate["reasons"]
    (baseline,) = (project.path / ".infergate" / "baselines").glob("*.json")
    assert "test_first" in baseline.read_text()
    assert "test_hangs" not in baseline.read_text()
    assert "test_hangs" in (project.path / "junit.xml").read_text()
    assert not (project.path / "torn down").exists()


def test_the_stack_of_the_main_thread_begins_with_infergate():
    assert "stack_of_main_thread" in stack_of_main_thread()
    assert str(Path(os.sep, "pluggy")) not in stack_of_main_thread()

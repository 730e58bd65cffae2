"""Two holders and one lock. Who waits is seen from who got it, never from how long it took."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_infergate.measure import lock
from pytest_infergate.measure.lock import MachineLock

WAITING = re.compile(
    r"infergate: waited 0 s for (.+), which measures on this machine; --infer-lock=off measures beside it"
)
HOLDER = """
import sys
from pathlib import Path
from pytest_infergate.measure.lock import MachineLock

with MachineLock(Path(sys.argv[1])).held("alone", print, *sys.argv[2:]):
    print("held", flush=True)
    sys.stdin.readline()
"""
CPU, FIRST, SECOND, ORDINARY = ("alone", None), ("alone", "GPU-1"), ("alone", "GPU-2"), ("shared", None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "machine.lock"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.05)


def acquired(path, how, when_waiting, gpu=None):
    """What was said before the lock was had."""
    said = []

    def waiting(words):
        said.append(words)
        when_waiting()

    with MachineLock(path).held(how, waiting, gpu):
        return said


@contextlib.contextmanager
def process_holding(path, *gpu):
    """Another process that holds the lock alone."""
    arguments = [sys.executable, "-c", HOLDER, str(path), *gpu]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(arguments, text=True, cwd=Path(__file__).parents[2], **pipes) as other:
        try:
            assert other.stdout.readline() == "held\n"
            yield other
        finally:
            other.kill()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (CPU, CPU), (CPU, FIRST), (CPU, ORDINARY),
        (FIRST, CPU), (FIRST, FIRST), (FIRST, ORDINARY),
        (ORDINARY, CPU), (ORDINARY, FIRST),
    ],
)  # fmt: skip
def test_exclusive_excludes(path, theirs, ours):
    for _ in range(2):  # before and after the locks of GPUs have files
        with contextlib.ExitStack() as other:
            other.enter_context(MachineLock(path).held(theirs[0], pytest.fail, theirs[1]))
            [words] = acquired(path, ours[0], other.close, ours[1])
        assert WAITING.fullmatch(words)[1] == "another run"  # this process is not named to itself


@pytest.mark.parametrize(("theirs", "ours"), [(ORDINARY, ORDINARY), (FIRST, SECOND)])
def test_what_does_not_disturb_each_other_shares(path, theirs, ours):
    for one in (theirs, ours):
        assert acquired(path, one[0], pytest.fail, one[1]) == []
    with MachineLock(path).held(theirs[0], pytest.fail, theirs[1]):
        assert acquired(path, ours[0], lambda: pytest.fail("it need not wait"), ours[1]) == []


def test_a_gpu_is_new_to_tests_that_run(path):
    """A test that began when the GPU had no lock is waited for, although it holds none of it."""
    with contextlib.ExitStack() as ordinary, contextlib.ExitStack() as other_gpu:
        ordinary.enter_context(MachineLock(path).held("shared", pytest.fail))
        assert len(acquired(path, "alone", ordinary.close, "GPU-1")) == 1
        other_gpu.enter_context(MachineLock(path).held("alone", pytest.fail, "GPU-1"))
        assert len(acquired(path, "alone", other_gpu.close, "GPU-2")) == 1  # the first time only
    assert sorted(lock.name for lock in path.with_suffix(".gpus").iterdir()) == ["GPU-1.lock", "GPU-2.lock"]


def test_a_gpu_whose_lock_cannot_be_made_has_the_machine_alone(path):
    path.with_suffix(".gpus").write_text("a file")
    with contextlib.ExitStack() as other:
        other.enter_context(MachineLock(path).held("alone", pytest.fail, "GPU-1"))
        assert len(acquired(path, "alone", other.close, "GPU-2")) == 1


def test_another_process_excludes_and_lets_go_when_it_is_killed(path):
    with process_holding(path) as other:
        [words] = acquired(path, "alone", other.kill)
    named = "another run"
    if Path("/proc/locks").exists():
        named = f"process {other.pid} ({' '.join(other.args)}"[:70].replace("\n", "?")
    assert WAITING.fullmatch(words)[1].startswith(named)


def test_processes_on_two_gpus_run_at_once_and_let_go_when_they_are_killed(path):
    for name in ("GPU-1", "GPU-2"):
        assert acquired(path, "alone", pytest.fail, name) == []
    with process_holding(path, "GPU-1") as first, process_holding(path, "GPU-2") as second:
        said = acquired(path, "alone", first.kill, "GPU-1")
        assert len(said) == 1
        assert len(acquired(path, "alone", second.kill)) == 1
        assert acquired(path, "shared", lambda: pytest.fail("it need not wait")) == []


def test_the_message_is_repeated_until_the_lock_is_held(path):
    others = contextlib.ExitStack()
    others.enter_context(MachineLock(path).held("alone", pytest.fail))
    said = []

    def waiting(words):
        said.append(words)
        if len(said) == 3:
            others.close()

    with MachineLock(path).held("shared", waiting):
        assert len(said) == 3


def test_released_after_an_error(path):
    with pytest.raises(ZeroDivisionError), MachineLock(path).held("alone", pytest.fail):
        raise ZeroDivisionError
    assert acquired(path, "alone", lambda: pytest.fail("it need not wait")) == []


def test_one_lock_is_taken_again_and_again(path):
    machine = MachineLock(path)
    for how in ("alone", "shared", "alone", "alone", "shared"):
        with machine.held(how, pytest.fail):
            pass


@pytest.mark.parametrize(
    ("user", "name"), [("ci-bot/../x", "infergate-cibotx.lock"), (None, "infergate-anyone.lock")]
)
def test_the_lock_of_a_user_lies_among_temporary_files(monkeypatch, user, name):
    def getuser():
        if user is None:
            raise OSError("No username set in the environment")
        return user

    monkeypatch.setattr(lock.getpass, "getuser", getuser)
    assert lock._default_path().name == name
    assert lock._default_path().parent == Path(lock.tempfile.gettempdir())

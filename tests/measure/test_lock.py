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

with MachineLock(Path(sys.argv[1])).held("alone", print):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "machine.lock"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.05)


def acquired(path, how, when_waiting):
    """What was said before the lock was had."""
    said = []

    def waiting(words):
        said.append(words)
        when_waiting()

    with MachineLock(path).held(how, waiting):
        return said


@pytest.mark.parametrize(("theirs", "ours"), [("alone", "alone"), ("alone", "shared"), ("shared", "alone")])
def test_exclusive_excludes(path, theirs, ours):
    with contextlib.ExitStack() as other:
        other.enter_context(MachineLock(path).held(theirs, pytest.fail))
        [words] = acquired(path, ours, other.close)
    assert WAITING.fullmatch(words)[1] == "another run"  # this process is not named to itself


def test_shared_shares(path):
    with MachineLock(path).held("shared", pytest.fail):
        assert acquired(path, "shared", lambda: pytest.fail("it need not wait")) == []


def test_another_process_excludes_and_lets_go_when_it_is_killed(path):
    arguments = [sys.executable, "-c", HOLDER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(arguments, text=True, cwd=Path(__file__).parents[2], **pipes) as other:
        try:
            assert other.stdout.readline() == "held\n"
            [words] = acquired(path, "alone", other.kill)
        finally:
            other.kill()
    named = "another run"
    if Path("/proc/locks").exists():
        named = f"process {other.pid} ({' '.join(arguments)}"[:70].replace("\n", "?")
    assert WAITING.fullmatch(words)[1].startswith(named)


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

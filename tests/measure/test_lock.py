"""Two processes and one lock. Who waits is told by who got it, never by how long it took."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pytest_infergate.measure import lock
from pytest_infergate.measure.lock import MachineLock

WAITING = "infergate: waiting for another inference run on this machine to finish"
HOLDER = """
    import sys
    from pathlib import Path
    from pytest_infergate.measure.lock import MachineLock

    with MachineLock(Path(sys.argv[1])).held(sys.argv[2], lambda words: print(words, flush=True)):
        print("held", flush=True)
        sys.stdin.readline()
    print("released", flush=True)
"""


class Holder:
    """Another process that holds the lock until it is told to let go."""

    def __init__(self, path, how):
        arguments = [sys.executable, "-c", textwrap.dedent(HOLDER), str(path), how]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )

    def says(self):
        return self.process.stdout.readline().strip()

    def let_go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "machine.lock"


@pytest.fixture
def holder(path):
    started = []

    def start(how):
        started.append(Holder(path, how))
        assert started[-1].says() == "held"
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "SILENT_WAIT_SECONDS", 0.05)


def acquired(path, how, when_waiting):
    """What was said before the lock was had."""
    said = []

    def waiting(words):
        said.append(words)
        when_waiting()

    with MachineLock(path).held(how, waiting):
        return said


@pytest.mark.parametrize(("theirs", "ours"), [("alone", "alone"), ("alone", "shared"), ("shared", "alone")])
def test_exclusive_excludes(path, holder, theirs, ours):
    other = holder(theirs)
    assert acquired(path, ours, other.let_go) == [WAITING]
    assert other.says() == "released"


def test_shared_shares(path, holder):
    holder("shared")
    assert acquired(path, "shared", lambda: pytest.fail("it need not wait")) == []


def test_nobody_waits_for_a_lock_that_is_free(path, holder):
    other = holder("alone")
    other.let_go()
    assert other.says() == "released"
    assert acquired(path, "alone", lambda: pytest.fail("it need not wait")) == []


@pytest.mark.parametrize("how", ["alone", "shared"])
def test_a_holder_that_is_killed_lets_go(path, holder, how):
    other = holder(how)

    def kill():
        other.process.kill()

    assert acquired(path, "alone", kill) == [WAITING]


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

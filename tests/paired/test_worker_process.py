"""Real processes that speak the protocol in a few lines, in place of the plugin."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_infergate import __version__
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.paired import worker_process
from pytest_infergate.paired.worker_process import (
    FOLDER_VARIABLE,
    PROTOCOL,
    TEMPORARY_PREFIX,
    UnexpectedMessageError,
    WorkerLostError,
    WorkerProcess,
    WorkerSpec,
    temporary_folder,
    worker_environment,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
SPEAK = """
import json, os, signal, socket, subprocess, sys, time
end = socket.socket(fileno=int(sys.argv[1]))
lines = end.makefile("r")
def say(kind, **words):
    end.sendall(json.dumps({"is": kind, **words}).encode() + b"\\n")
def hear():
    return json.loads(lines.readline())
"""
HELLO = f"""
say("hello", protocol={PROTOCOL}, version={__version__!r})
begin = hear()
"""
SERVE = """
while (message := hear())["do"] != "end":
    say(message["do"], pid=os.getpid(), seconds=0.5, calls=message.get("calls"))
"""


def plan(place, **changes):
    default = WorkerSpec(
        side="base", python=sys.executable, folder=place, holder=place, begin={"args": ["-q"]}
    )
    return default._replace(**changes)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a worker with a script; whatever is left of it is killed."""
    started = []

    def start(script, **changes):
        monkeypatch.setattr(worker_process, "_BOOTSTRAP", SPEAK + script)
        started.append(WorkerProcess(plan(tmp_path, **changes), 1))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def state(process):
    """``R``, ``S``, ``T`` for stopped, ``Z``; nothing where it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def becomes(process, states):
    deadline = time.monotonic() + 5
    while state(process) not in states and time.monotonic() < deadline:
        time.sleep(0.005)
    return state(process) in states


def hurried(one, monkeypatch):
    monkeypatch.setattr(worker_process, "EXIT_TIMEOUT_SECONDS", 0.1)
    return one


# Greeting


def test_a_worker_is_told_what_to_run_and_says_what_it_found(start):
    one = start(HELLO + 'say("collected", nodeids=["a"], errors={}, args=begin["args"])')
    assert one.handshake() == {"is": "collected", "nodeids": ["a"], "errors": {}, "args": ["-q"]}


@pytest.mark.parametrize(
    ("protocol", "version"), [(PROTOCOL, "0.0.9"), (PROTOCOL + 1, __version__), (None, None)]
)
def test_another_version_is_refused(start, protocol, version):
    one = start(f'say("hello", protocol={protocol}, version={version!r})')
    words = f"has pytest-infergate {version}, this run {__version__}: install the same version in both"
    with pytest.raises(ConfigurationError) as error:
        one.handshake()
    assert str(error.value) == f"{sys.executable} {words}"


@pytest.mark.parametrize("module", ["pytest_infergate", "pytest_infergate.worker.entry_point"])
def test_an_interpreter_without_the_plugin_is_told_to_install_it(start, module):
    one = start(f'raise ModuleNotFoundError("No module named {module!r}")')
    with pytest.raises(ConfigurationError) as error:
        one.handshake()
    assert str(error.value) == (
        f"{sys.executable} has no pytest-infergate: install version {__version__} of it there"
    )


def test_another_module_that_is_missing_is_what_it_died_of(start):
    one = start(HELLO + "raise ModuleNotFoundError(\"No module named 'torch'\")")
    with pytest.raises(WorkerLostError, match=r"exit code 1: ModuleNotFoundError: No module named 'torch'$"):
        one.handshake()


def test_an_interpreter_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError) as error:
        WorkerProcess(plan(tmp_path, python="/no/python"), 1)
    assert str(error.value) == (
        "/no/python cannot be run: No such file or directory; give a Python interpreter"
    )


def test_a_file_that_is_no_interpreter(tmp_path):
    (tmp_path / "python").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be run: Permission denied"):
        WorkerProcess(plan(tmp_path, python=str(tmp_path / "python")), 1)


@linux
def test_an_interpreter_that_cannot_be_run_leaves_nothing_open(tmp_path):
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(ConfigurationError) as error:
        WorkerProcess(plan(tmp_path, python="/no/python"), 1)
    assert set(Path("/proc/self/fd").iterdir()) == before, error


# Being lost


@pytest.mark.parametrize("side", ["base", "candidate"])
def test_last_words_and_exit_code_of_a_worker_are_told(start, side):
    script = 'print("before"); print("ValueError: no", file=sys.stderr); print("after"); sys.exit(3)'
    with pytest.raises(WorkerLostError) as error:
        start(script, side=side).handshake()
    assert str(error.value) == f"the process of the {side} ended with exit code 3: ValueError: no"
    assert (error.value.side, error.value.killed) == (side, False)


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        ("", ""),
        ("one\\ntwo", ": two"),
        ("E   assert 1 == 2\\nlater", ": assert 1 == 2"),
        ("\\n  \\n", ""),
        ("Fatal Python error: Aborted\\n" + "  File x\\n" * 2000, ": Fatal Python error: Aborted"),
        ("E  SystemExit: 5\\n!!!!! KeyboardInterrupt !!!!!\\n=== 1 passed ===", ": KeyboardInterrupt"),
    ],
    ids=["nothing", "lines", "pytest", "blank", "crash", "interrupt"],
)
def test_the_last_words_are_the_line_that_tells_most(start, printed, words):
    with pytest.raises(WorkerLostError) as error:
        start(f'print("{printed}"); sys.exit(3)').handshake()
    assert str(error.value) == f"the process of the base ended with exit code 3{words}"


@pytest.mark.parametrize(("number", "killed"), [("SIGKILL", True), ("SIGTERM", False), ("SIGSEGV", False)])
def test_a_signal_is_told_by_its_name(start, number, killed):
    one = start(f"signal.signal(signal.SIGTERM, signal.SIG_DFL); os.kill(os.getpid(), signal.{number})")
    with pytest.raises(WorkerLostError, match=f"the process of the base was killed by {number}") as error:
        one.receive()
    assert error.value.killed is killed


def test_silence_is_told(start):
    one = start("hear()")
    with pytest.raises(WorkerLostError, match=r"the process of the base did not answer in 0 s$") as error:
        one.receive(0.05)
    assert not error.value.killed


def test_a_worker_that_greets_nobody_is_lost(start, monkeypatch):
    monkeypatch.setattr(worker_process, "ANSWER_TIMEOUT_SECONDS", 0.05)
    with pytest.raises(WorkerLostError, match="did not answer in"):
        start("hear()").handshake()


def test_what_is_no_message_is_no_answer(start):
    one = start('end.sendall(b"junk\\n"); sys.exit(4)')
    with pytest.raises(WorkerLostError, match="ended with exit code 4"):
        one.receive()


def test_a_worker_that_hung_up_is_told_from_one_that_ended(start, monkeypatch):
    one = start("lines.close(); end.close(); time.sleep(60)")
    original = one._process.wait
    monkeypatch.setattr(one._process, "wait", lambda timeout=None: original(timeout and min(timeout, 0.05)))
    with pytest.raises(WorkerLostError, match=r"^the process of the base ended$"):
        one.receive()
    monkeypatch.undo()


def test_nobody_is_told_who_is_gone(start):
    one = start("sys.exit(5)")
    one._process.wait()
    with pytest.raises(WorkerLostError, match="exit code 5"):
        one.send({"do": "case"})


# Talking


def test_a_worker_that_prints_megabytes_is_heard(start):
    one = start('print("x" * 5_000_000, flush=True); say("ready"); hear()')
    assert one.receive(10) == {"is": "ready"}


def test_what_a_worker_prints_stays_out_of_the_run(start, capfd):
    one = start(
        'print("noise", flush=True); print("more", file=sys.stderr, flush=True); say("ready"); hear()'
    )
    one.receive(10)
    assert capfd.readouterr() == ("", "")


def test_an_answer_of_another_kind_is_told_with_its_sender(start):
    one = start(SERVE)
    with pytest.raises(UnexpectedMessageError, match="heard 'case'") as error:
        one.ask({"do": "case"}, "ready")
    assert error.value.worker is one
    assert error.value.message["is"] == "case"


def test_a_worker_runs_where_it_should_with_its_environment(start, tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    one = start(
        f'say("here", cwd=os.getcwd(), holder=os.environ[{FOLDER_VARIABLE!r}]); hear()', folder=folder
    )
    assert one.receive(10) == {"is": "here", "cwd": str(folder), "holder": str(tmp_path)}


# Stopping


@linux
def test_rest_stops_and_wake_resumes(start):
    one = start(SERVE)
    process = one.ask({"do": "pid"}, "pid")["pid"]
    one.suspend()
    assert becomes(process, "T")
    one.send({"do": "more"})
    with pytest.raises(WorkerLostError, match="did not answer"):
        one.receive(0.05)
    one.resume()
    assert one.receive(10)["is"] == "more"
    assert becomes(process, "RS")


@linux
def test_children_of_a_worker_stop_with_it(start):
    one = start('child = subprocess.Popen(["sleep", "60"]); say("child", pid=child.pid)' + SERVE)
    child = one.receive(10)["pid"]
    one.suspend()
    assert becomes(child, "T")
    one.resume()
    assert becomes(child, "RS")


@linux
def test_a_turn_wakes_asks_and_stops(start):
    one = start(SERVE)
    process = one.ask({"do": "pid"}, "pid")["pid"]
    one.suspend()
    assert one.timed_block(3) == 0.5
    assert becomes(process, "T")


@linux
def test_a_turn_that_strays_leaves_its_worker_awake(start):
    one = start('hear(); say("report")' + SERVE)
    with pytest.raises(UnexpectedMessageError):
        one.timed_block(3)
    process = one.ask({"do": "pid"}, "pid")["pid"]
    assert becomes(process, "RS")


# Ending


@pytest.mark.parametrize("resting", [False, True], ids=["awake", "stopped"])
def test_a_worker_leaves_when_it_is_asked(start, resting):
    one = start(SERVE)
    one.ask({"do": "pid"}, "pid")
    if resting:
        one.suspend()
    one.leave()
    one.end()
    assert one._process.returncode == 0


def test_a_worker_may_clean_up_before_it_leaves(start, tmp_path):
    one = start(SERVE + f'time.sleep(0.1); open({str(tmp_path / "tidy")!r}, "w").close()')
    one.ask({"do": "pid"}, "pid")
    one.leave()
    one.end()
    assert (tmp_path / "tidy").exists()


def test_a_worker_that_ignores_it_is_killed(start, monkeypatch):
    one = hurried(start('say("ready"); time.sleep(60)'), monkeypatch)
    one.receive(10)
    one.leave()
    one.end()
    assert one._process.returncode == -signal.SIGKILL


def test_a_worker_that_is_gone_already_is_ended_too(start):
    one = start("sys.exit(3)")
    one._process.wait()
    one.leave()
    one.end()
    assert one._process.returncode == 3


@linux
@pytest.mark.parametrize("resting", [False, True], ids=["awake", "stopped"])
def test_a_child_that_a_worker_leaves_behind_is_killed(start, resting):
    one = start('child = subprocess.Popen(["sleep", "60"]); say("child", pid=child.pid)' + SERVE)
    child = one.receive(10)["pid"]
    if resting:
        one.suspend()
    one.leave()
    one.end()
    assert becomes(child, ["", "Z"])


@linux
def test_an_interrupt_while_a_worker_leaves_kills_it(start, monkeypatch):
    one = start('say("ready"); time.sleep(60)')
    one.receive(10)
    original = one._process.wait

    def wait(timeout=None):
        if timeout is not None:
            raise KeyboardInterrupt
        return original()

    monkeypatch.setattr(one._process, "wait", wait)
    one.leave()
    with pytest.raises(KeyboardInterrupt):
        one.end()
    assert becomes(one._process.pid, ["", "Z"])


# Its environment


def test_threads_and_memory_behave_the_same_in_each_launch(tmp_path, monkeypatch):
    for name in (*worker_process.THREADS, *worker_process.MALLOC):
        monkeypatch.delenv(name, raising=False)
    found = worker_environment(plan(tmp_path), 1)
    assert {**found, **worker_process.THREADS, **worker_process.MALLOC} == found
    assert found["PWD"] == found[FOLDER_VARIABLE] == str(tmp_path)


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "OMP_PROC_BIND", "MALLOC_TOP_PAD_", "ANYTHING"])
def test_variables_of_the_user_are_the_users(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "mine")
    assert worker_environment(plan(tmp_path), 1)[name] == "mine"


@pytest.mark.parametrize("name", ["PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID"])
def test_variables_of_the_outer_pytest_are_dropped(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "outer")
    assert name not in worker_environment(plan(tmp_path), 1)


def test_the_seed_moves_hashes_and_the_stack(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "5")
    one, other = (worker_environment(plan(tmp_path), seed) for seed in (1, 2))
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"PYTHONHASHSEED", "PYTEST_INFERGATE_PADDING"}
    assert (one["PYTHONHASHSEED"], other["PYTHONHASHSEED"]) == ("1", "2")
    lengths = [len(one["PYTEST_INFERGATE_PADDING"]), len(other["PYTEST_INFERGATE_PADDING"])]
    assert lengths[1] - lengths[0] == 16


@pytest.mark.parametrize("seed", [0, 96, 2**32 - 1, 2**40])
def test_every_seed_is_one_for_hashes(tmp_path, seed):
    assert 0 <= int(worker_environment(plan(tmp_path), seed)["PYTHONHASHSEED"]) < 2**32 - 1


def test_paths_of_any_length_make_environments_of_one_size(tmp_path):
    def size(folder):
        found = worker_environment(plan(tmp_path, folder=folder), 7)
        return sum(len(name) + len(value) for name, value in found.items())

    assert size(Path("/a")) == size(Path("/a/much/longer/path/to/the/same")) == size(Path("/" + "x" * 1000))


def test_a_python_path_is_handed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/outer")
    assert worker_environment(plan(tmp_path), 1)["PYTHONPATH"] == "/outer"
    assert worker_environment(plan(tmp_path, begin={"pythonpath": "/own"}), 1)["PYTHONPATH"] == "/own"


# The folder of a run


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def dead():
    """The number of a process that is over."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def left_behind(place, owner):
    folder = place / f"{TEMPORARY_PREFIX}{owner}-abc"
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "output").write_text("")
    return folder


def test_the_folder_says_who_made_it(place):
    made = temporary_folder()
    assert made.parent == place
    assert made.name.startswith(f"{TEMPORARY_PREFIX}{os.getpid()}-")
    assert made.is_dir()
    assert temporary_folder() != made
    assert made.is_dir()


def test_the_folder_of_a_dead_run_is_removed(place, dead):
    left = left_behind(place, dead)
    temporary_folder()
    assert not left.exists()


@pytest.mark.parametrize("owner", ["living", "", "x", "12x", "-1"])
def test_other_folders_stay(place, owner):
    left = left_behind(place, os.getppid() if owner == "living" else owner)
    temporary_folder()
    assert (left / "inside" / "output").exists()


def test_a_number_that_no_process_can_have_is_no_owner(place):
    left_behind(place, 10**30)
    assert temporary_folder().is_dir()


@linux
def test_processes_of_a_dead_run_are_killed_and_no_others(place, dead):
    left = left_behind(place, dead)
    command = [sys.executable, "-c", "print(flush=True); input()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    other = {**os.environ, FOLDER_VARIABLE: f"{left}x"}
    with (
        subprocess.Popen(command, env={**os.environ, FOLDER_VARIABLE: str(left)}, **pipes) as orphan,
        subprocess.Popen(command, env=other, **pipes) as stranger,
    ):
        try:
            orphan.stdout.readline()
            stranger.stdout.readline()
            temporary_folder()
            assert orphan.wait(5) == -signal.SIGKILL
            assert stranger.poll() is None
        finally:
            orphan.kill()
            stranger.kill()


def test_git_forgets_the_worktree_of_a_dead_run(place, dead):
    def git(*arguments):
        name = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(
            ["git", *name, *arguments], cwd=place / "repository", capture_output=True, text=True, check=True
        )
        return done.stdout

    (place / "repository").mkdir()
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    left = left_behind(place, dead)
    git("worktree", "add", "--detach", "-q", str(left / "base---"))
    assert str(left) in git("worktree", "list")
    temporary_folder()
    assert not left.exists()
    assert str(left) not in git("worktree", "list", "--porcelain")

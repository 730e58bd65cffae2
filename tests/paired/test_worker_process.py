"""Real processes that speak the protocol in a few lines, in place of the plugin."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_infergate import __version__
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.paired import worker_process
from pytest_infergate.paired.protocol import (
    PROTOCOL_VERSION,
    BlockTimed,
    CasesCollected,
    CollectCases,
    CountWork,
    Done,
    PhaseReported,
    RunWarmUp,
    WarmedUp,
    WorkCounted,
)
from pytest_infergate.paired.run_folder import FOLDER_VARIABLE
from pytest_infergate.paired.worker_handle import UnexpectedEventError, WorkerLostError, ask
from pytest_infergate.paired.worker_process import WorkerProcess, WorkerSpec, worker_environment

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
say("hello", protocol={PROTOCOL_VERSION}, version={__version__!r})
begin = hear()
"""
SERVE = """
while (command := hear())["do"] != "leave":
    if command["do"] == "timeblock":
        say("blocktimed", seconds=0.5)
    else:
        say("warmedup", calls=os.getpid(), seconds=0)
"""
COLLECT = CollectCases(
    arguments=("-q",),
    source="/source",
    target="/target",
    remap=True,
    own_folder="/own",
    cache=True,
    sys_path=None,
    project_path=("/source/src",),
)


def spec(place, **changes):
    default = WorkerSpec(role="base", python=sys.executable, folder=place, run_folder=place, collect=COLLECT)
    return default._replace(**changes)


def process_of(one):
    """Id of a process that serves."""
    return ask(one, RunWarmUp(None), WarmedUp).calls


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a worker with a script; whatever is left of it is killed."""
    started = []

    def start(script, **changes):
        monkeypatch.setattr(worker_process, "_BOOTSTRAP", SPEAK + script)
        started.append(WorkerProcess(spec(tmp_path, **changes), 1))
        return started[-1]

    yield start
    for one in started:
        one.kill()


class Ended:
    """A process that is not one: it said and printed something, and ended with a code, or still runs."""

    pid = 2**31 - 1  # of no process

    def __init__(self, said, printed, code, *, hung_up):
        self.said, self.printed, self.code, self.hung_up = said, printed, code, hung_up

    def __call__(self, arguments, *, stdout, pass_fds, **_):
        os.write(stdout.fileno(), self.printed.encode())
        self.end = socket.socket(fileno=os.dup(pass_fds[0]))
        self.end.sendall(self.said)
        if self.hung_up or self.code is not None:
            self.end.close()
        return self

    def wait(self, timeout=None):
        if self.code is None and timeout is not None:
            raise subprocess.TimeoutExpired("python", timeout)
        return self.code


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """A worker whose process is an `Ended`."""
    made = []

    def ended(*messages, said=b"", printed="", code=3, hung_up=False, **changes):
        lines = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
        process = Ended(lines + said, printed, code, hung_up=hung_up)
        with monkeypatch.context() as patch:
            patch.setattr(worker_process.subprocess, "Popen", process)
            made.append((WorkerProcess(spec(tmp_path, **changes), 1), process))
        return made[-1][0]

    yield ended
    for one, process in made:
        one.kill()
        process.end.close()


def lost(one, **options):
    """How a worker was lost."""
    with pytest.raises(WorkerLostError) as error:
        one.receive(**options)
    return error.value


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


# Handshake


def test_a_worker_is_asked_to_collect_and_reports_what_it_found(start):
    one = start(HELLO + 'say("casescollected", nodeids=begin["arguments"], errors={"do": begin["do"]})')
    assert one.handshake() == CasesCollected(("-q",), {"do": "collectcases"})


@pytest.mark.parametrize(
    "hello",
    [
        {"is": "hello", "protocol": PROTOCOL_VERSION, "version": "0.0.9"},
        {"is": "hello", "protocol": PROTOCOL_VERSION + 1, "version": __version__},
        {"is": "hello", "protocol": 1, "version": "0.1.0", "of": "a field of another version"},
        {"is": "hello"},
        {"is": "done"},
    ],
    ids=["version", "protocol", "both", "neither", "no hello"],
)
def test_another_version_is_refused(ended, hello):
    version, protocol = hello.get("version"), hello.get("protocol")
    with pytest.raises(ConfigurationError) as error:
        ended(hello, code=None).handshake()
    assert str(error.value).startswith(sys.executable)
    for found in (f"{version} (protocol {protocol})", f"{__version__} (protocol {PROTOCOL_VERSION})"):
        assert found in str(error.value)


def anonymous(error):
    """The message of an error without the interpreter and the version of this run."""
    return str(error.value).replace(sys.executable, "PYTHON").replace(__version__, "VERSION")


def test_interpreters_that_are_refused(ended, snapshot):
    one = ended({"is": "hello", "protocol": PROTOCOL_VERSION, "version": "0.0.9"}, code=None)
    with pytest.raises(ConfigurationError) as error:
        one.handshake()
    assert anonymous(error) == snapshot(name="another version")

    for module in ("pytest_infergate", "pytest_infergate.worker.entry_point"):
        with pytest.raises(ConfigurationError) as error:
            ended(printed=f"ModuleNotFoundError: No module named {module!r}", code=1).handshake()
        assert anonymous(error) == snapshot(name="without")


def test_another_module_that_is_missing_is_what_it_died_of(start):
    one = start(HELLO + "raise ModuleNotFoundError(\"No module named 'torch'\")")
    with pytest.raises(WorkerLostError, match=r"exit code 1: ModuleNotFoundError: No module named 'torch'$"):
        one.handshake()


def test_an_interpreter_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError) as error:
        WorkerProcess(spec(tmp_path, python="/no/python"), 1)
    assert str(error.value).startswith("/no/python ")
    assert "No such file or directory" in str(error.value)


def test_a_file_that_is_no_interpreter(tmp_path):
    (tmp_path / "python").write_text("")
    with pytest.raises(ConfigurationError, match="Permission denied"):
        WorkerProcess(spec(tmp_path, python=str(tmp_path / "python")), 1)


@linux
def test_an_interpreter_that_cannot_be_run_leaves_nothing_open(tmp_path):
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(ConfigurationError) as error:
        WorkerProcess(spec(tmp_path, python="/no/python"), 1)
    assert set(Path("/proc/self/fd").iterdir()) == before, error


# Being lost


def test_last_words_and_exit_code_of_a_process_are_reported(start):
    script = 'print("before"); print("ValueError: no", file=sys.stderr); print("after"); sys.exit(3)'
    error = lost(start(script, role="candidate"))
    assert str(error) == "the process of the candidate ended with exit code 3: ValueError: no"
    assert (error.role, error.killed) == ("candidate", False)


LAST_WORDS = {
    "": "",
    "one\ntwo\n": ": two",
    "E   assert 1 == 2\nlater\n": ": assert 1 == 2",
    "\n  \n": "",
    "Fatal Python error: Aborted\n" + "  File x\n" * 2000: ": Fatal Python error: Aborted",
    "E  SystemExit: 5\n!!!!! KeyboardInterrupt !!!!!\n=== 1 passed ===\n": ": KeyboardInterrupt",
}


def test_the_last_words_are_the_line_that_says_most(ended):
    for role in ("base", "candidate"):
        for printed, words in LAST_WORDS.items():
            error = lost(ended(printed=printed, role=role))
            assert str(error) == f"the process of the {role} ended with exit code 3{words}", printed
            assert (error.role, error.killed) == (role, False)


def test_a_process_that_is_killed_is_reported_with_its_signal(start):
    error = lost(start("os.kill(os.getpid(), signal.SIGKILL)"))
    assert (str(error), error.killed) == ("the process of the base was killed by SIGKILL", True)


def test_only_sigkill_is_what_the_system_sends_where_memory_runs_out(ended):
    for number, killed in (("SIGKILL", True), ("SIGTERM", False), ("SIGSEGV", False)):
        error = lost(ended(code=-getattr(signal, number)))
        assert str(error) == f"the process of the base was killed by {number}"
        assert error.killed is killed
    assert str(lost(ended(code=-200))) == "the process of the base was killed by signal 200"


def test_silence_is_reported(ended):
    error = lost(ended(code=None), seconds=0.01)
    assert (str(error), error.killed) == ("the process of the base did not answer in 0 s", False)
    with pytest.raises(WorkerLostError, match="did not answer in"):
        ended(code=None, answer_timeout=0.01).handshake()


@pytest.mark.parametrize(
    ("line", "named"),
    [(b"junk", "line 1 column 1"), (b'{"is": "dance"}', "dance"), (b'{"is": "blocktimed"}', "seconds")],
)
def test_an_unreadable_message_says_what_is_wrong_with_it(ended, line, named):
    error = lost(ended(said=line + b"\n", code=None))
    assert (error.role, error.killed) == ("base", False)
    assert str(error).startswith("the process of the base ")
    assert named in str(error)
    assert __version__ in str(error)


def test_what_another_version_sends_first_is_refused_too(ended):
    with pytest.raises(WorkerLostError, match="cannot read"):
        ended({"hello": 3}, code=None).handshake()


def test_a_process_that_hung_up_may_still_run(ended):
    assert str(lost(ended(code=None, hung_up=True))) == "the process of the base ended"


def test_a_message_to_a_process_that_is_gone(ended):
    with pytest.raises(WorkerLostError, match="exit code 5"):
        ended(code=5).send(CountWork())


# Talking


def test_a_worker_that_prints_megabytes_is_heard(start):
    one = start('print("x" * 5_000_000, flush=True); say("done"); hear()')
    assert one.receive(10) == Done()


def test_what_a_worker_prints_stays_out_of_the_run(start, capfd):
    one = start('print("noise", flush=True); print("more", file=sys.stderr, flush=True); say("done"); hear()')
    one.receive(10)
    assert capfd.readouterr() == ("", "")


def test_an_answer_of_another_kind_comes_with_its_sender(start):
    one = start(SERVE)
    with pytest.raises(UnexpectedEventError, match="WarmedUp") as error:
        ask(one, CountWork(), WorkCounted)
    assert error.value.worker is one
    assert error.value.event == WarmedUp(one._process.pid, 0)


def test_a_worker_runs_where_it_should_with_its_environment(start, tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    one = start(
        f'say("phasereported", when=os.getcwd(), outcome=os.environ[{FOLDER_VARIABLE!r}], serialised="")'
        "; hear()",
        folder=folder,
    )
    assert one.receive(10) == PhaseReported(when=str(folder), outcome=str(tmp_path), serialised="")


# Stopping


@linux
def test_suspend_stops_and_resume_lets_it_run(start):
    one = start(SERVE)
    process = process_of(one)
    one.suspend()
    assert becomes(process, "T")
    one.send(RunWarmUp(None))
    with pytest.raises(WorkerLostError, match="did not answer"):
        one.receive(0.05)
    one.resume()
    assert one.receive(10) == WarmedUp(process, 0)
    assert becomes(process, "RS")


@linux
def test_a_worker_that_is_suspended_has_stopped_with_all_its_threads(start):
    spin = """
import threading
def spin():
    while True: pass
threading.Thread(target=spin, daemon=True).start()
"""
    one = start(spin + SERVE)
    tasks = Path(f"/proc/{process_of(one)}/task")
    for _ in range(20):
        one.suspend()
        # At once: the next block begins now.
        states = {task.joinpath("stat").read_text().rpartition(")")[2].split()[0] for task in tasks.iterdir()}
        one.resume()
        assert states == {"T"}


@linux
def test_a_worker_that_cannot_stop_is_not_waited_for(start, monkeypatch):
    monkeypatch.setattr(worker_process, "STOP_SECONDS", 0.01)
    one = start(SERVE)
    process_of(one)
    with monkeypatch.context() as patch:
        patch.setattr(one, "_signal", lambda _: None)
        one.suspend()


@linux
def test_the_exit_code_of_a_worker_that_ended_before_it_was_suspended_is_kept(start):
    one = start("sys.exit(7)")
    time.sleep(0.3)
    one.suspend()
    with pytest.raises(WorkerLostError, match="exit code 7"):
        one.handshake()


@linux
def test_children_of_a_worker_stop_with_it(start):
    one = start(
        'child = subprocess.Popen(["sleep", "60"]); say("warmedup", calls=child.pid, seconds=0)' + SERVE
    )
    child = one.receive(10).calls
    one.suspend()
    assert becomes(child, "T")
    one.resume()
    assert becomes(child, "RS")


@linux
def test_a_block_resumes_and_suspends(start):
    one = start(SERVE)
    process = process_of(one)
    one.suspend()
    assert one.timed_block(3) == BlockTimed(0.5)
    assert becomes(process, "T")


@linux
def test_a_block_that_fails_leaves_its_worker_running(start):
    one = start('hear(); say("done")' + SERVE)
    with pytest.raises(UnexpectedEventError):
        one.timed_block(3)
    process = process_of(one)
    assert becomes(process, "RS")


# Ending


def test_a_worker_that_is_stopped_leaves_when_it_is_asked(start):
    one = start(SERVE)
    process_of(one)
    one.suspend()
    one.leave()
    one.end()
    assert one._process.returncode == 0


def test_a_worker_may_clean_up_before_it_leaves(start, tmp_path):
    one = start(SERVE + f'time.sleep(0.1); open({str(tmp_path / "tidy")!r}, "w").close()')
    process_of(one)
    one.leave()
    one.end()
    assert (tmp_path / "tidy").exists()
    assert one._process.returncode == 0


def test_a_worker_that_ignores_it_is_killed(start, monkeypatch):
    one = hurried(start('say("done"); time.sleep(60)'), monkeypatch)
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
@pytest.mark.parametrize(
    "resting", [pytest.param(False, marks=pytest.mark.nightly), True], ids=["awake", "stopped"]
)
def test_a_child_that_a_worker_leaves_behind_is_killed(start, resting):
    one = start(
        'child = subprocess.Popen(["sleep", "60"]); say("warmedup", calls=child.pid, seconds=0)' + SERVE
    )
    child = one.receive(10).calls
    if resting:
        one.suspend()
    one.leave()
    one.end()
    assert becomes(child, ["", "Z"])


@linux
def test_an_interrupt_while_a_worker_leaves_kills_it(start, monkeypatch):
    one = start('say("done"); time.sleep(60)')
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
    found = worker_environment(spec(tmp_path), 1)
    assert {**found, **worker_process.THREADS, **worker_process.MALLOC} == found
    assert found["PWD"] == found[FOLDER_VARIABLE] == str(tmp_path)


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "OMP_PROC_BIND", "MALLOC_TOP_PAD_", "ANYTHING"])
def test_variables_of_the_user_are_the_users(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "mine")
    assert worker_environment(spec(tmp_path), 1)[name] == "mine"


@pytest.mark.parametrize("name", ["PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID"])
def test_variables_of_the_outer_pytest_are_dropped(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "outer")
    assert name not in worker_environment(spec(tmp_path), 1)


def test_the_seed_moves_hashes_and_the_stack(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "5")
    one, other = (worker_environment(spec(tmp_path), seed) for seed in (1, 2))
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"PYTHONHASHSEED", "PYTEST_INFERGATE_PADDING"}
    assert (one["PYTHONHASHSEED"], other["PYTHONHASHSEED"]) == ("1", "2")
    lengths = [len(one["PYTEST_INFERGATE_PADDING"]), len(other["PYTEST_INFERGATE_PADDING"])]
    assert lengths[1] - lengths[0] == 16


@pytest.mark.parametrize("seed", [0, 96, 2**32 - 1, 2**40])
def test_every_seed_is_one_for_hashes(tmp_path, seed):
    assert 0 <= int(worker_environment(spec(tmp_path), seed)["PYTHONHASHSEED"]) < 2**32 - 1


def test_paths_of_any_length_make_environments_of_one_size(tmp_path):
    def size(folder):
        found = worker_environment(spec(tmp_path, folder=folder), 7)
        return sum(len(name) + len(value) for name, value in found.items())

    assert size(Path("/a")) == size(Path("/a/much/longer/path/to/the/same")) == size(Path("/" + "x" * 1000))


def test_a_python_path_is_handed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/outer")
    assert worker_environment(spec(tmp_path), 1)["PYTHONPATH"] == "/outer"

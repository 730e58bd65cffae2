"""The local launcher and the command, with real processes and a stand-in for pytest."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fleet_parts import StandIn, as_json, results

from pytest_infergate.core.domain.values import Hardware
from pytest_infergate.fleet.attempt_processes import attempt_processes
from pytest_infergate.fleet.attempts import AttemptFolder, Claim, Order
from pytest_infergate.fleet.job_runner import run_attempt
from pytest_infergate.fleet.local_launcher import LocalLauncher
from pytest_infergate.git import run_git

pytestmark = [
    pytest.mark.skipif(
        not Path("/proc/self/environ").exists(), reason="processes of a job are listed on Linux only"
    ),
    pytest.mark.slow,
]
CLASSES = """
    python = {python!r}
    time_limit = "20s"
    [classes.a]
    [classes.b]
    [classes.c]
"""
ONE, TWO = (Hardware(cpu_model=name, cores=4) for name in ("First CPU", "Second CPU"))


class LocalFleet:
    """A repository with a fleet file whose classes run the stand-in."""

    def __init__(self, folder):
        self.folder = folder / "project"
        self.folder.mkdir()
        self.stand_in = StandIn(folder / "stand-in")
        self.file = self.folder / "fleet.toml"
        self.file.write_text(CLASSES.format(python=str(self.stand_in.path)))
        (self.folder / "test_it.py").write_text("x = 1\n")
        for name in "abc":
            self.stand_in.leaves(name, results(Hardware(cpu_model=f"{name} CPU", cores=4)))
        for command in (
            ["init", "-q"],
            ["add", "."],
            ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"],
        ):
            assert run_git(self.folder, *command).succeeded

    def start(self, *arguments):
        command = [sys.executable, "-m", "pytest_infergate", "fleet", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )  # fmt: skip

    def command(self, *arguments):
        """Run a command, and give its exit code and output."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def run(self, *arguments):
        return self.command("run", "fleet.toml", *arguments)

    @property
    def merged(self):
        (path,) = self.folder.glob("fleet.results/*/results.json")
        return as_json(path)

    def left_running(self):
        return [process for path in self.stand_in.runs for process in attempt_processes(Path(path))]


@pytest.fixture
def fleet(tmp_path):
    return LocalFleet(tmp_path)


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_fleet_is_measured_merged_and_reported_once(fleet):
    code, out, err = fleet.run("--", "test_it.py")
    assert code == 0, err
    assert [Path(path).parents[1].name for path in fleet.stand_in.runs] == ["a", "b", "c"]
    assert [session["cases"][0]["hardware"]["cpu_model"] for session in fleet.merged["sessions"]] == [
        "a CPU", "b CPU", "c CPU",
    ]  # fmt: skip
    assert "3 of 3 cases" in out
    assert "no advice: " in out
    (page,) = fleet.folder.glob("fleet.results/*/report.html")
    assert "a CPU" in page.read_text()
    code, _, err = fleet.run("--", "test_it.py")
    assert (code, len(fleet.stand_in.runs)) == (0, 3)
    assert "started" not in err
    # Nothing of it shows in git.
    assert run_git(fleet.folder, "status", "--porcelain").output == ""
    code, out, _ = fleet.command("status", "fleet.toml", "--", "test_it.py")
    assert out.splitlines()[0] == "a  measured  measured on 4 cores of a CPU in 0 s"
    code, _, _ = fleet.run("--again", "--only=b", "--", "test_it.py")
    assert (code, len(fleet.stand_in.runs)) == (0, 4)


def test_a_class_without_results_fails_the_fleet_and_is_run_alone_afterwards(fleet):
    (fleet.stand_in.folder / "b.json").unlink()
    code, out, err = fleet.run("--", "test_it.py")
    assert code == 1
    assert "2 of 2 cases" in out
    assert "[2/3] FAILED b: pytest ended with exit code 0 and wrote no results" in err
    assert "the stand-in ends" in err
    assert "to measure what is missing: infergate fleet run fleet.toml --only=b -- test_it.py" in err
    fleet.stand_in.leaves("b", results(ONE))
    code, out, err = fleet.run("--only=b", "--", "test_it.py")
    assert (code, len(fleet.stand_in.runs)) == (0, 4), err


def test_two_classes_that_are_the_same_machine_are_an_error_after_which_nothing_is_lost(fleet):
    for name in "ab":
        fleet.stand_in.leaves(name, results(ONE, passed=name == "a"))
    code, _, err = fleet.run()
    assert code == 4
    assert "was measured twice on first-cpu-4c" in err
    assert "fleet.results" in err
    assert len(list(fleet.folder.glob("fleet.results/*/*/*/attempt-1/results.json"))) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_fleet_leaves_nothing_running(fleet, number):
    fleet.stand_in.takes(30)
    process = fleet.start("run", "fleet.toml")
    wait_until(lambda: fleet.stand_in.runs)
    assert fleet.left_running()
    # Some services send a signal to each process and to their group.
    process.send_signal(number)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert fleet.left_running() == []
    assert "ending 1 job ..." in err
    assert "interrupted; the same command measures what is missing" in err
    fleet.stand_in.takes(0)
    assert fleet.run()[0] == 0
    assert len(fleet.stand_in.runs) == 4


def test_a_second_controller_is_refused_and_a_killed_one_is_succeeded(fleet):
    fleet.stand_in.takes(60)
    process = fleet.start("run", "fleet.toml")
    wait_until(lambda: fleet.stand_in.runs)
    code, _, err = fleet.run()
    assert code == 4
    assert f"is in use by process {process.pid} on " in err
    process.kill()
    process.communicate()
    process = fleet.start("run", "fleet.toml")
    assert any("a: still running, waiting for it" in line for line in iter(process.stderr.readline, ""))
    fleet.stand_in.takes(0)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(fleet.stand_in.runs) == 3


def test_what_a_killed_controller_left_running_can_be_ended(fleet):
    fleet.stand_in.takes(30)
    process = fleet.start("run", "fleet.toml")
    wait_until(lambda: fleet.stand_in.runs)
    process.kill()
    process.communicate()
    _, out, _ = fleet.command("status", "fleet.toml")
    assert "a  running   local job " in out
    assert fleet.command("cancel", "fleet.toml")[0] == 0
    assert fleet.left_running() == []


def test_a_job_that_takes_too_long_ends_with_its_processes(fleet):
    fleet.file.write_text(fleet.file.read_text().replace("20s", "0.5s"))
    fleet.stand_in.takes(30)
    code, _, err = fleet.run("--only=a")
    assert code == 1
    assert "[1/1] FAILED a: it did not end within its time limit of 0 s" in err
    assert fleet.left_running() == []


def test_a_killed_job_is_reported(fleet):
    fleet.stand_in.takes(30)
    process = fleet.start("run", "fleet.toml", "--only=a")
    wait_until(lambda: fleet.stand_in.runs)
    for job in fleet.left_running():
        if b"job_runner" in Path("/proc", str(job), "cmdline").read_bytes():
            os.kill(job, signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert "[1/1] FAILED a: its process was ended by signal 9 (out of memory, or killed)" in err
    assert fleet.left_running() == []


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("[classes.d]\ncores = 4096", "class d: cores must be at most "),
        ("[classes.d]\nlocal = { partition = 'x' }", "class d: local takes no terms, got 'partition'"),
    ],
)
def test_terms_that_this_machine_cannot_keep(fleet, line, text):
    fleet.file.write_text(f"{fleet.file.read_text()}\n{line}")
    code, _, err = fleet.run()
    assert code == 4
    assert text in err
    assert fleet.stand_in.runs == []


def test_results_of_rendered_jobs_are_added_and_checked(fleet):
    fleet.file.write_text(fleet.file.read_text().replace("[classes.b]", "[classes.b]\ncpu = 'EPYC'"))
    revision = fleet.command("status", "fleet.toml")[2].split()[1].rstrip(",")
    source = fleet.folder.parent / "copied"
    source.mkdir()
    for name in "abc":
        kept = revision if name != "c" else "1a2b3c4d5e6f"
        (source / f"{name}.all.{kept}.json").write_text(results(Hardware(cpu_model=f"{name} CPU", cores=4)))
    code, out, err = fleet.command("add", "fleet.toml", str(source))
    assert code == 1
    assert "added 2 of 3 results" in err
    assert f"c.all.1a2b3c4d5e6f.json is left out: no job of revision {revision} has this name" in err
    assert "failed: b: wrong hardware: measured on a CPU 'b CPU', and the class has 'EPYC'" in err
    assert "gate passed" in out
    # What was added is not measured again.
    code, _, err = fleet.run("--only=a")
    assert fleet.stand_in.runs == []
    code, out, _ = fleet.command("status", "fleet.toml")
    assert out.splitlines()[0] == "a  measured  measured on 4 cores of a CPU"


def test_a_job_of_another_host_counts_as_running(tmp_path):
    folder = AttemptFolder(tmp_path)
    assert folder.try_claim(Claim(handle="1", host="elsewhere", started=0))
    assert LocalLauncher().states({"1": folder})["1"].state == "running"
    (tmp_path / "claim.json").unlink()
    assert folder.try_claim(Claim(handle="1", host=socket.gethostname(), started=0))
    assert LocalLauncher().states({"1": folder})["1"].state == "gone"


# The job itself


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    folder = AttemptFolder(tmp_path / "a" / "all" / "attempt-1")
    stand_in = StandIn(tmp_path / "stand-in")

    def written(**changes):
        order = {
            "command": (str(stand_in.path),), "folder": str(tmp_path), "env": {}, "cores": None, "time_limit": 20.0,
            "revision": "no-revision", "fleet_file": str(tmp_path / "fleet.toml"),
        }  # fmt: skip
        folder.write_order(Order(**{**order, **changes}))
        return folder

    return written


def test_a_job_refuses_another_revision(attempt):
    folder = attempt(revision="1a2b3c4d5e6f")
    run_attempt(folder.path, "7")
    ended = folder.ended()
    assert ended.code is None
    assert "contains revision no-revision and the fleet measures 1a2b3c4d5e6f" in ended.problem
    assert not folder.log.exists()


def test_a_job_refuses_a_machine_with_fewer_cores(attempt):
    folder = attempt(cores=4096)
    run_attempt(folder.path, "7")
    assert "the class has 4,096 cores, and " in folder.ended().problem


def test_an_interpreter_that_is_missing(attempt):
    folder = attempt(command=("/no/python",))
    run_attempt(folder.path, "7")
    assert folder.ended().problem == "/no/python cannot be run: No such file or directory"


def test_a_withdrawn_attempt_is_left_alone(attempt, capsys):
    folder = attempt()
    assert folder.try_claim(Claim(handle="withdrawn", host="", started=0))
    run_attempt(folder.path, "7")
    assert folder.ended() is None
    assert "nothing is measured" in capsys.readouterr().err


def test_an_attempt_is_run_once_but_by_the_job_that_its_cluster_requeued(attempt):
    folder = attempt()
    run_attempt(folder.path, "7")
    assert folder.ended().code == 0
    (folder.path / "ended.json").unlink()
    run_attempt(folder.path, "8")
    assert folder.ended() is None
    run_attempt(folder.path, "7")
    assert folder.ended().code == 0

"""The Slurm launcher on a real Slurm that runs on the loopback interface; a stand-in takes the place of pytest."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from fleet_parts import CPU, FakeFleet, StandIn, results
from local_slurm import missing_slurm, running
from sessions import GPU

from pytest_infergate.errors import ConfigurationError, InfergateError
from pytest_infergate.fleet import fleet_run
from pytest_infergate.fleet.attempt_processes import attempt_processes
from pytest_infergate.fleet.fleet_file import MachineClass
from pytest_infergate.fleet.fleet_run import FleetController
from pytest_infergate.fleet.slurm_launcher import SlurmLauncher

pytest.importorskip("submitit")
needs_slurm = pytest.mark.skipif(bool(missing_slurm()), reason=missing_slurm() or "there")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running(tmp_path_factory.mktemp("slurm")) as started:
        yield started.start()


class SlurmFleet(FakeFleet):
    """A fleet file whose classes run the stand-in on the cluster, on a real clock."""

    def __init__(self, folder, text):
        self.stand_in = StandIn(folder / "stand-in")
        (folder / "python").write_text(
            f'#!/bin/sh\ncase "$2" in pytest) exec {self.stand_in.path} "$@";; esac\nexec {sys.executable} "$@"\n'
        )
        (folder / "python").chmod(0o755)
        super().__init__(
            folder, f'launcher = "slurm"\ntime_limit = "30s"\npython = "{folder / "python"}"\n{text}'
        )
        self.revision = "no-revision"
        self.launchers = {"slurm": SlurmLauncher(folder / "kept")}
        for name in "abc":
            self.stand_in.leaves(name, results(CPU, f"tests/test_a.py::{name}"))

    def controller(self):
        return FleetController(self.place, self.launchers, self.said.append)

    def texts(self, **options):
        return {name: one.text for name, one in self.run(**options).items()}


@pytest.fixture
def fleet(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(cluster.config))
    monkeypatch.setattr(SlurmLauncher, "poll_seconds", 0.4)
    yield lambda text: SlurmFleet(tmp_path, text)
    wait_until(lambda: cluster.queue() == [])


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@needs_slurm
def test_each_class_is_an_array_on_the_node_of_its_terms(fleet):
    found = fleet("""
        [parts]
        x = ["x.py"]
        y = ["y.py"]
        [classes.a]
        cores = 1
        slurm = { constraint = "large", setup = ["export FROM_SETUP=1"], options = { comment = "measure" } }
        [classes.b]
        gpu = "L4"
        parts = ["x"]
        slurm = { gres = "gpu:l4:1", exclusive = true }
    """)
    found.stand_in.leaves("a", results(CPU.__class__(cpu_model="Test CPU", cores=1)))
    found.stand_in.leaves("b", results(GPU))
    statuses = found.run()
    assert {name: one.status.value for name, one in statuses.items()} == {
        "a/x": "measured", "a/y": "measured", "b/x": "measured",
    }, [one.text for one in statuses.values()]  # fmt: skip
    scripts = [
        path.read_text()
        for path in (found.place.folder / "slurm").glob("*submission.sh")
        if not path.is_symlink()
    ]
    assert sum("#SBATCH --array=0-1%2" in script for script in scripts) == 1
    assert all("#SBATCH --exclusive" in script for script in scripts if "gpu:l4:1" in script)
    assert any("export FROM_SETUP=1" in script and "--comment=measure" in script for script in scripts)
    records = [job.folder.record() for job in found.jobs()]
    assert [record.handle.partition("_")[2] for record in records] == ["0", "1", ""]
    (log,) = [
        path.read_text() for path in (found.place.folder / "slurm").glob(f"{records[2].handle}_*log.out")
    ]
    assert "Job completed successfully" in log


@needs_slurm
@pytest.mark.parametrize(
    ("terms", "text"),
    [
        ("partition = 'mian'", "sbatch refused the job: invalid partition specified: mian. Batch job submission failed: Invalid partition name specified; partition must be one of main, urgent, got 'mian'. Hint: did you mean 'main'?"),
        ("constraint = 'genova'", "constraint must be one of genoa, large, milan, got 'genova'. Hint: did you mean 'genoa'?"),
        ("gres = 'gpu:t4:1'", "gres must be one of "),
    ],
)  # fmt: skip
def test_a_class_that_slurm_refuses_does_not_stop_the_others(fleet, terms, text):
    found = fleet(f"[classes.a]\nslurm = {{ {terms} }}\n[classes.b]")
    texts = found.texts()
    assert text in texts["a"]
    assert "measured on" in texts["b"]


@needs_slurm
def test_jobs_that_slurm_ends_are_reported(fleet, cluster):
    found = fleet("""
        [classes.a]
        memory = "100MB"
        [classes.b]
        time_limit = "10s"
    """)
    found.stand_in.takes(30)
    # One takes more memory than it may, the other is cancelled.
    script = found.stand_in.path.read_text().replace(
        "time.sleep(", "x = bytearray(3 * 10**8 * ('/a/' in sys.argv[-1])); time.sleep("
    )
    found.stand_in.path.write_text(script)
    original = found.said

    class Cancelling(list):
        def append(self, line):
            super().append(line)
            if line == "b: running":
                wait_until(lambda: any("/b/" in run for run in found.stand_in.runs))
                cluster.client("scancel", found.jobs()[1].folder.record().handle)

    found.said = Cancelling(original)
    texts = found.texts()
    assert "exceeded memory limit" in texts["a"] or "out of memory" in texts["a"], texts
    assert texts["b"].startswith("its Slurm job was cancelled"), texts


@needs_slurm
def test_a_requeued_job_is_measured_once_more_and_counts_once(fleet, cluster):
    found = fleet("[classes.a]\nslurm = { options = { requeue = true } }")
    found.stand_in.takes(60)
    wait = []

    class Requeueing(list):
        def append(self, line):
            super().append(line)
            if line == "a: running" and not wait:
                wait_until(lambda: found.stand_in.runs)
                wait.append(1)
                handle = found.jobs()[0].folder.record().handle
                cluster.client("scontrol", "requeue", handle)
                # Slurm lets a requeued job wait for two minutes; a node refuses one that comes back at once.
                wait_until(lambda: any("PENDING" in row for row in cluster.queue()))
                found.stand_in.takes(0)
                cluster.client("scontrol", "update", f"jobid={handle}", "starttime=now+3")

    found.said = Requeueing()
    assert "measured on" in found.texts()["a"]
    assert len(found.stand_in.runs) == 2
    assert len(set(found.stand_in.runs)) == 1


@needs_slurm
def test_preemption_and_the_failure_of_a_node_are_reported(fleet, cluster, monkeypatch):
    monkeypatch.setattr(fleet_run, "GONE_SECONDS", 0.5)
    alone = "exclusive = true, options = { no-requeue = true }"
    found = fleet(
        f"[classes.a]\nslurm = {{ nodelist = 'small', {alone} }}\n"
        f"[classes.b]\nslurm = {{ nodelist = 'gpu', {alone} }}"
    )
    found.stand_in.takes(60)
    urgent = ("-p", "urgent", "-w", "small", "--exclusive", "-o", "/dev/null", "--wrap", "true")

    class Disturbing(list):
        def append(self, line):
            super().append(line)
            if sum(one.endswith(": running") for one in self) == 2 and line.endswith(": running"):
                wait_until(lambda: len(found.stand_in.runs) == 2)
                cluster.client("sbatch", *urgent)
                cluster.client("scontrol", "update", "nodename=gpu", "state=down", "reason=test")

    found.said = Disturbing()
    try:
        texts = found.texts()
    finally:
        cluster.client("scontrol", "update", "nodename=gpu", "state=resume")
    assert texts["a"].startswith("its Slurm job was preempted by one of higher priority, and not requeued")
    assert texts["b"].startswith("its node failed")
    assert len(found.stand_in.runs) == 2


@needs_slurm
def test_an_interrupt_empties_the_queue_and_a_kill_loses_nothing(fleet, cluster, tmp_path):
    found = fleet(
        "[classes.a]\n[classes.b]\nslurm = { exclusive = true, nodelist = 'small' }\n[classes.c]\nslurm = { exclusive = true, nodelist = 'small' }"
    )
    found.stand_in.takes(4)
    command = [sys.executable, "-m", "pytest_infergate", "fleet", "run", "fleet.toml", "--folder=kept"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    wait_until(lambda: len(found.stand_in.runs) == 2)
    process.kill()
    process.communicate()
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    wait_until(lambda: len(found.stand_in.runs) == 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert "a: still running, waiting for it" in err
    assert process.returncode == 130
    assert cluster.queue() == []
    assert len(found.stand_in.runs) == 3


@needs_slurm
@pytest.mark.nightly
def test_a_job_on_a_node_that_never_answers_is_given_up(fleet, cluster, monkeypatch):
    monkeypatch.setattr("pytest_infergate.fleet.fleet_run.ANSWER_SECONDS", 2.0)
    found = fleet(
        "[classes.a]\ntime_limit = '4s'\nslurm = { nodelist = 'gpu', options = { no-requeue = true } }"
    )
    found.stand_in.takes(60)
    stopped = []

    class Stopping(list):
        def append(self, line):
            super().append(line)
            if line == "a: running":
                wait_until(lambda: found.stand_in.runs)
                cluster.stop_node("gpu")
                (process,) = attempt_processes(Path(found.stand_in.runs[0]))
                status = Path("/proc", str(process), "status").read_text()
                stopped.extend((int(status.partition("PPid:")[2].split()[0]), process))
                for each in stopped:
                    os.kill(each, signal.SIGSTOP)

    found.said = Stopping()
    try:
        text = found.texts()["a"]
        assert "did not answer within the time limit" in text or "node failed" in text
    finally:
        for each in stopped:
            os.kill(each, signal.SIGKILL)
        cluster.start_node("gpu")
        wait_until(lambda: cluster.idle() == 3, 60)


# Without a cluster


def test_without_clients_of_slurm(tmp_path, monkeypatch):
    found = FakeFleet(tmp_path, 'launcher = "slurm"\n[classes.a]')
    found.launchers = {"slurm": SlurmLauncher(tmp_path)}
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(
        ConfigurationError,
        match=r"class a: slurm needs sbatch, squeue, scancel, sinfo, srun on the path. Hint: run this on a login node",
    ):
        found.run()
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        ConfigurationError, match=r"slurm needs submitit. Hint: pip install 'pytest-infergate\[fleet\]'"
    ):
        found.run()


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        ("partitoin = 'x'", "class a: slurm: key must be one of partition, constraint, .*, got 'partitoin'. Hint: did you mean 'partition'"),
        ("exclusive = 'yes'", "class a: slurm: exclusive must be true or false, got 'yes'"),
        ("setup = 'module load'", "class a: slurm: setup must be a list of shell commands, got 'module load'"),
    ],
)  # fmt: skip
def test_mistakes_in_terms(tmp_path, terms, text):
    found = FakeFleet(tmp_path, f'launcher = "slurm"\n[classes.a]\nslurm = {{ {terms} }}')
    found.launchers = {"slurm": SlurmLauncher(tmp_path)}
    with pytest.raises(ConfigurationError, match=text):
        found.run()


@pytest.mark.parametrize(
    ("gpus", "gres", "text"),
    [
        (1, "gpu:2", "class a: gpus must be the number of GPUs in gres 'gpu:2', got 1. Hint: write gpus = 2"),
        (2, "gpu:l4", "Hint: write gpus = 1"),
        (2, "shard:2,gpu:l4:4", "Hint: write gpus = 4"),
        (2, "gpu:l4:2,shard:1", ""),
        (1, "gpu", ""),
        (2, "shard:1", ""),
    ],
)
def test_gres_and_gpus_are_one_number(monkeypatch, tmp_path, gpus, gres, text):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    machine = MachineClass(name="a", gpu="L4", gpus=gpus, terms={"slurm": {"gres": gres}})
    with pytest.raises(ConfigurationError, match=text) if text else nullcontext():
        SlurmLauncher(tmp_path).check(machine)


CLIENT = """#!/bin/sh
echo "$0 $@" >> {folder}/calls
case "$0" in *{name}) cat {folder}/output; exit $(cat {folder}/code);; esac
"""


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Clients of Slurm that print what a test says."""
    folder = tmp_path / "clients"
    folder.mkdir()

    def written(name, output, code=0):
        for each in ("squeue", "sacct", "scancel", "sinfo"):
            (folder / each).write_text(CLIENT.format(folder=folder, name=name))
            (folder / each).chmod(0o755)
        (folder / "output").write_text(output)
        (folder / "code").write_text(str(code))

    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return written


@pytest.mark.parametrize(
    ("row", "state", "reason"),
    [
        ("7|PENDING|Priority", "queued", "Priority"),
        ("7|PENDING|None", "queued", ""),
        ("7|CONFIGURING|None", "running", ""),
        ("7|COMPLETING|None", "running", ""),
        ("7|CANCELLED|None", "gone", "its Slurm job was cancelled"),
        (
            "7|PREEMPTED|None",
            "gone",
            "its Slurm job was preempted by one of higher priority, and not requeued",
        ),
        ("7|OUT_OF_MEMORY|OutOfMemory", "gone", "its Slurm job ran out of memory (request more with memory)"),
        ("7|NODE_FAIL|None", "gone", "its node failed"),
        ("7|FAILED|NonZeroExitCode", "gone", "its Slurm job ended: FAILED (NonZeroExitCode)"),
        ("8|RUNNING|None", "gone", "its Slurm job is not in the queue any more, and left no results"),
        ("nonsense", "gone", "its Slurm job is not in the queue any more, and left no results"),
    ],
)
def test_states_of_slurm(client, tmp_path, row, state, reason):
    client("squeue", row)
    assert SlurmLauncher(tmp_path).states({"7": None}) == {"7": (state, reason)}


def test_accounting_knows_jobs_that_the_queue_has_forgotten(client, tmp_path):
    client("sacct", "TIMEOUT\n")
    assert (
        SlurmLauncher(tmp_path).states({"7": None})["7"].reason
        == "its Slurm job exceeded the time limit of Slurm"
    )


def test_a_controller_that_is_down_is_no_state(client, tmp_path):
    client("squeue", "", code=1)
    with pytest.raises(InfergateError, match="squeue failed"):
        SlurmLauncher(tmp_path).states({"7": None})


def test_the_jobs_of_a_batch(client, tmp_path):
    client("squeue", "7_0|0\n7_3|3\n")
    assert SlurmLauncher(tmp_path).find("x") == {0: "7_0", 3: "7_3"}
    client("squeue", "9|N/A\n")
    assert SlurmLauncher(tmp_path).find("x") == {0: "9"}
    assert "--name=x" in (Path(tmp_path) / "clients" / "calls").read_text()

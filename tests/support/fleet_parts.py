"""A fleet for tests: a launcher without processes, a clock that only sleeping advances, and a stand-in for pytest."""

import json
import stat
import sys
from pathlib import Path

import msgspec

from pytest_infergate.core.domain.outcome import CaseResult, CaseVerdict, Outcome, Policy, Session, Verdict
from pytest_infergate.core.domain.values import Case, Environment, Hardware
from pytest_infergate.core.gate import decide
from pytest_infergate.errors import ConfigurationError, StorageError
from pytest_infergate.fleet.attempts import Claim, Ended
from pytest_infergate.fleet.fleet_file import read_fleet
from pytest_infergate.fleet.fleet_jobs import FleetPlace, fleet_jobs
from pytest_infergate.fleet.fleet_run import FleetController
from pytest_infergate.fleet.launchers import JobState
from pytest_infergate.report import results_json

CPU = Hardware(cpu_model="Test CPU", cores=4)


def results(hardware=CPU, test="tests/test_a.py::test_model", passed=True):
    """The content of a results file with one measured case."""
    case = Case(test=test, device="cpu")
    verdict = CaseVerdict(
        case=case, nodeid=case.name, failed=not passed,
        verdict=Verdict.EQUIVALENT if passed else Verdict.OVER_BUDGET,
    )  # fmt: skip
    return results_json.render_results(
        Session(
            tool_version="0.1.0",
            created="2026-07-01T12:00:00Z",
            environment=Environment(),
            cases=(CaseResult(case=case, nodeid=case.name, outcome=Outcome.MEASURED, hardware=hardware),),
            gate=decide.gate_session([verdict], Policy()),
        )
    )


STAND_IN = """#!{python}
import os, sys, time
from pathlib import Path

here = Path({folder!r})
with (here / "runs").open("a") as file:
    file.write(os.environ["INFERGATE_FLEET_ATTEMPT"] + "\\n")
begin = time.monotonic()
while time.monotonic() < begin + float((here / "seconds").read_text() or 0):
    time.sleep(0.02)
target = next(word.partition("=")[2] for word in sys.argv if word.startswith("--infer-json="))
name = Path(target).parents[2].name
content = here / (name + ".json")
if content.exists():
    Path(target).write_text(content.read_text())
print("the stand-in ends")
sys.exit(int((here / "code").read_text()))
"""


class StandIn:
    """An interpreter that runs no pytest, but leaves what pytest would leave."""

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        self.folder, self.path = folder, folder / "python"
        self.path.write_text(STAND_IN.format(python=sys.executable, folder=str(folder)))
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)
        self.takes(0)
        self.ends(0)

    def takes(self, seconds):
        """Let runs take so long, also the one that goes on."""
        (self.folder / "seconds").write_text(str(seconds))

    def ends(self, code):
        (self.folder / "code").write_text(str(code))

    def leaves(self, machine, content):
        (self.folder / f"{machine}.json").write_text(content)

    @property
    def runs(self):
        """Attempts that were run, in their order."""
        path = self.folder / "runs"
        return path.read_text().splitlines() if path.exists() else []


class Clock:
    """A clock that stands still but for `sleep`, which also lets planned events happen."""

    def __init__(self):
        self.now = 1000.0
        self.events = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        due = [event for event in self.events if event[0] <= self.now]
        self.events = [event for event in self.events if event[0] > self.now]
        for _, act in due:
            act()
        assert self.now < 10**6, "the fleet waits forever"

    def after(self, seconds, act):
        self.events.append((self.now + seconds, act))


class FakeLauncher:
    """Jobs that only exist in the records of the test."""

    poll_seconds = 1.0

    def __init__(self, clock, name="local", capacity=None):
        self.clock, self.name, self.capacity = clock, name, capacity
        self.jobs = {}
        self.batches = []
        self.cancelled = []
        self.refusal = self.outage = None
        self.submitted = lambda handle, attempt: None
        self.most = 0

    def check(self, machine):
        if machine.terms.get(self.name, {}).get("wrong"):
            raise ConfigurationError("wrong")

    def start(self, machine, attempts, batch):
        if self.refusal:
            raise StorageError(self.refusal)
        handles = []
        for index, attempt in enumerate(attempts):
            handle = f"{len(self.batches)}_{index}"
            self.jobs[handle] = [attempt, JobState("queued"), batch, index]
            handles.append(handle)
        self.batches.append(tuple(attempts))
        self.most = max(self.most, sum(job[1].state != "gone" for job in self.jobs.values()))
        for handle, attempt in zip(handles, attempts, strict=True):
            self.submitted(handle, attempt)
        return handles

    def states(self, started):
        if self.outage:
            raise StorageError(self.outage)
        return {
            handle: self.jobs[handle][1] if handle in self.jobs else JobState("gone") for handle in started
        }

    def find(self, batch):
        return {job[3]: handle for handle, job in self.jobs.items() if job[2] == batch}

    def cancel(self, started):
        for handle in started:
            self.cancelled.append(handle)
            if handle in self.jobs:
                self.jobs[handle][1] = JobState("gone", "cancelled")

    # What happens to a job.

    def begins(self, handle):
        attempt = self.jobs[handle][0]
        assert attempt.try_claim(Claim(handle=handle, host="node", started=self.clock()))
        self.jobs[handle][1] = JobState("running")

    def ends(self, handle, content=None, code=0, problem=""):
        attempt = self.jobs[handle][0]
        attempt.results.write_text(results() if content is None else content)
        attempt.write_ended(Ended(code=None if problem else code, problem=problem, seconds=5.0))
        self.jobs[handle][1] = JobState("gone")

    def vanishes(self, handle, reason=""):
        self.jobs[handle][1] = JobState("gone", reason)

    def measures(self, queue=1.0, seconds=5.0, content=results):
        """Let every job that is submitted from now on run to its end."""

        def submitted(handle, attempt):
            machine = attempt.path.parents[1].name
            self.clock.after(queue, lambda: self.begins(handle))
            self.clock.after(
                queue + seconds, lambda: self.ends(handle, content(test=f"tests/test_a.py::{machine}"))
            )

        self.submitted = submitted


class FakeFleet:
    """A fleet file in a folder, run by a fake launcher on a fake clock."""

    def __init__(self, folder, text):
        self.file = folder / "fleet.toml"
        self.clock = Clock()
        self.launcher = FakeLauncher(self.clock)
        self.launchers = {"local": self.launcher}
        self.said = []
        self.write(text)
        self.revision = "1a2b3c4d5e6f"

    def write(self, text):
        self.file.write_text(text)

    @property
    def place(self):
        folder = self.file.parent
        return FleetPlace(file=self.file, work=folder, folder=folder / "kept", revision=self.revision)

    def jobs(self, *arguments):
        return fleet_jobs(read_fleet(self.file, self.launchers), self.place, arguments)

    def controller(self):
        return FleetController(self.place, self.launchers, self.said.append, self.clock, self.clock.sleep)

    def run(self, *arguments, only=()):
        """Run the fleet, and give the status of each job by its name."""
        from pytest_infergate.fleet.fleet_jobs import selected_jobs

        jobs = self.jobs(*arguments)
        self.controller().run(jobs, selected_jobs(jobs, only))
        return self.status(*arguments)

    def status(self, *arguments):
        from pytest_infergate.fleet.job_status import job_status

        return {job.name: job_status(job, job.folder.record()) for job in self.jobs(*arguments)}


def as_json(path):
    return json.loads(Path(path).read_bytes())


def changed(path, **fields):
    """Change fields of a JSON file."""
    Path(path).write_bytes(msgspec.json.encode({**as_json(path), **fields}))

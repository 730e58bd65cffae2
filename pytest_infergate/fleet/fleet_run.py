"""The controller of a fleet: start what is missing, wait for it, and leave nothing running.

It may be killed at any moment. What it knows is in the folders of the jobs, so that the next call adopts the
jobs that still run, takes back those that did not start, and measures only what is missing.
"""

from __future__ import annotations

import dataclasses
import secrets
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

import msgspec

from pytest_infergate.core.domain import units
from pytest_infergate.errors import ConfigurationError, InfergateError
from pytest_infergate.fleet.attempts import WITHDRAWN, AttemptFolder, Claim, JobFolder, JobRecord, last_lines
from pytest_infergate.fleet.fleet_jobs import FleetJob, FleetPlace
from pytest_infergate.fleet.job_status import JobStatus, Status, claimed, job_status
from pytest_infergate.fleet.launchers import FleetLauncher, JobState

HEARTBEAT_SECONDS = 60.0
"""Time without news after which a line says what runs."""
ANSWER_SECONDS = 60.0
"""Time after its limit in which a job must write how it ended."""
GONE_SECONDS = 3.0
"""Time after which a job that is gone without results has failed: a shared file system may be late."""
INTERRUPTED = "it was interrupted"
MAX_OUTAGE_SECONDS = 600.0
"""Time for which a launcher may fail to answer before the run ends."""


@dataclasses.dataclass
class ActiveJob:
    """A job that was started and has not ended."""

    job: FleetJob
    record: JobRecord
    handle: str
    since: float
    """Time of its submission or of its start, whichever is later."""
    state: str = "queued"
    reason: str = ""
    gone: float | None = None
    """When it was found to be gone."""

    @property
    def attempt(self) -> AttemptFolder:
        """The folder of the attempt that runs."""
        return self.job.folder.attempt(self.record.attempt)


class FleetController:
    """Runs the jobs of a fleet; only one at a time may work on a folder, see `attempts.controlling`."""

    def __init__(
        self,
        place: FleetPlace,
        launchers: Mapping[str, FleetLauncher],
        echo: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._place = place
        self._launchers = launchers
        self._echo = echo
        self._clock = clock
        self._sleep = sleep
        self._active: list[ActiveJob] = []
        self._waiting: list[FleetJob] = []
        self._asked: dict[str, float] = {}
        self._answered: dict[str, float] = {}
        self._news = clock()
        self._total = 0
        self._settled = 0

    def run(self, jobs: Sequence[FleetJob], selected: Sequence[FleetJob]) -> None:
        """Run the selected jobs that have no results, and wait for those of the fleet that already run.

        An exception, also that of Ctrl-C, ends all jobs. Raises `InfergateError` if the files of the fleet
        cannot be read or written, or a launcher does not answer.
        """
        with _signals_interrupt():
            try:
                self._recover(jobs)
                running = {active.job.name for active in self._active}
                wanted = [job for job in selected if job.name not in running]
                self._waiting = [job for job in wanted if self._status(job).status is not Status.MEASURED]
                for machine in {job.machine.name: job.machine for job in self._waiting}.values():
                    self._launchers[machine.launcher].check(machine)
                self._total = len(self._waiting) + len(self._active)
                while self._waiting or self._active:
                    self._start()
                    self._settle()
                    self._beat()
                    if self._active:
                        # Looking at the folders of all jobs is work for a shared file system.
                        launchers = (self._launchers[name] for name in self._by_launcher())
                        self._sleep(min(launcher.poll_seconds for launcher in launchers) / 2)
            except BaseException:
                self.end_all()
                raise

    def adopt(self, jobs: Sequence[FleetJob]) -> int:
        """Find the jobs that an earlier call left running, and return their number."""
        self._recover(jobs)
        return len(self._active)

    def end_all(self) -> None:
        """End all jobs that run or wait in a queue."""
        if not self._active:
            return
        self._echo(f"ending {units.plural(len(self._active), 'job')} ...")
        for name, group in self._by_launcher().items():
            with self._warned(f"jobs of {name} may still run"):
                self._launchers[name].cancel({active.handle: active.attempt for active in group})
        for active in self._active:
            # The disk may be full, which is no reason to leave a job running.
            with self._warned(f"{active.job.name}: its end was not recorded"):
                self._withdraw(active.attempt)
                self._write(active, failure=INTERRUPTED)
        self._active = []

    @contextmanager
    def _warned(self, what: str) -> Iterator[None]:
        """Say what an error prevents, and go on."""
        try:
            yield
        except InfergateError as error:
            self._echo(f"{what}: {error}")

    def _status(self, job: FleetJob) -> JobStatus:
        return job_status(job, job.folder.record())

    def _recover(self, jobs: Sequence[FleetJob]) -> None:
        """Adopt the jobs that an earlier controller left behind, and end those that nothing waits for."""
        by_folder = {job.folder.path: job for job in jobs}
        for path in sorted(self._place.folder.glob("*/*/*/job.json")):
            folder = JobFolder(path.parent)
            record = folder.record()
            if record is None or record.failure or folder.attempt(record.attempt).ended() is not None:
                continue
            job = by_folder.get(path.parent)
            launcher = self._launchers.get(record.launcher)
            if launcher is None:
                raise ConfigurationError(
                    f"{path} was started by the launcher {record.launcher!r}, which is not installed"
                )
            attempt = folder.attempt(record.attempt)
            handle = self._found_handle(record, attempt, launcher)
            if handle is None:
                folder.write(msgspec.structs.replace(record, failure=INTERRUPTED))
            elif job is None or record.digest != job.digest:
                self._withdraw(attempt)
                launcher.cancel({handle: attempt})
                folder.write(msgspec.structs.replace(record, failure=f"{INTERRUPTED}: the fleet has changed"))
            else:
                record = msgspec.structs.replace(record, handle=handle)
                folder.write(record)
                self._active.append(ActiveJob(job, record, handle, self._clock()))
                self._say(f"{job.name}: still {'running' if claimed(attempt) else 'queued'}, waiting for it")

    def _found_handle(self, record: JobRecord, attempt: AttemptFolder, launcher: FleetLauncher) -> str | None:
        """Return the handle of a job that may still run; ``None`` if it does not, and never will."""
        handle = record.handle
        if handle is None:
            # The controller was killed while it started the job. It is ours if it has not begun.
            if self._withdraw(attempt):
                found = launcher.find(record.batch).get(record.index)
                if found is not None:
                    launcher.cancel({found: attempt})
                return None
            claim = attempt.claim()
            handle = None if claim is None else claim.handle
        if handle is None or handle == WITHDRAWN:
            return None
        if launcher.states({handle: attempt})[handle].state != "gone":
            return handle
        # Whatever the job left running is ended, and it cannot start any more.
        launcher.cancel({handle: attempt})
        return None if self._withdraw(attempt) or attempt.ended() is None else handle

    def _withdraw(self, attempt: AttemptFolder) -> bool:
        """Take an attempt back, and return whether that was in time."""
        if not attempt.path.exists():
            return True
        return attempt.try_claim(Claim(handle=WITHDRAWN, host="", started=self._clock()))

    def _start(self) -> None:
        """Start jobs as far as their launchers have room: those of a class together."""
        groups: defaultdict[str, list[FleetJob]] = defaultdict(list)
        for job in self._waiting:
            groups[job.machine.name].append(job)
        for group in groups.values():
            machine = group[0].machine
            launcher = self._launchers[machine.launcher]
            busy = sum(active.record.launcher == launcher.name for active in self._active)
            room = len(group) if launcher.capacity is None else max(0, launcher.capacity - busy)
            if group[:room]:
                self._launch(launcher, group[:room])

    def _launch(self, launcher: FleetLauncher, jobs: Sequence[FleetJob]) -> None:
        batch = f"infergate-{jobs[0].machine.name}-{secrets.token_hex(6)}"
        self._waiting = [job for job in self._waiting if job not in jobs]
        started: list[tuple[FleetJob, JobRecord]] = []
        for index, job in enumerate(jobs):
            number = job.folder.next_attempt()
            job.folder.attempt(number).write_order(job.order(self._place))
            record = JobRecord(
                digest=job.digest,
                attempt=number,
                launcher=launcher.name,
                batch=batch,
                index=index,
                submitted=self._clock(),
            )
            job.folder.write(record)
            started.append((job, record))
        attempts = [job.folder.attempt(record.attempt) for job, record in started]
        try:
            handles = launcher.start(jobs[0].machine, attempts, batch)
        except InfergateError as error:
            for (job, record), attempt in zip(started, attempts, strict=True):
                self._withdraw(attempt)
                job.folder.write(msgspec.structs.replace(record, failure=str(error)))
                self._report(job)
            return
        except BaseException:
            # An interrupt: what has been started by now is ended like all others.
            for (job, record), attempt in zip(started, attempts, strict=True):
                handle = self._found_handle(record, attempt, launcher)
                if handle is not None:
                    self._active.append(ActiveJob(job, record, handle, self._clock()))
            raise
        # Known here before they are written: if that fails, the jobs are ended like all others.
        for (job, record), handle in zip(started, handles, strict=True):
            self._active.append(ActiveJob(job, record, handle, self._clock()))
        for active in self._active[-len(handles) :]:
            self._write(active, handle=active.handle)
            verb = "started" if launcher.capacity else f"queued as {launcher.name} job {active.handle}"
            self._say(f"{active.job.name}: {verb}")

    def _settle(self) -> None:
        """Look after the jobs that were started."""
        for active in list(self._active):
            if active.attempt.ended() is not None:
                self._finish(active)
        now = self._clock()
        for name, group in self._by_launcher().items():
            launcher = self._launchers[name]
            if now < self._asked.get(name, 0.0) + launcher.poll_seconds:
                continue
            self._asked[name] = now
            try:
                states = launcher.states({active.handle: active.attempt for active in group})
            except InfergateError as error:
                if now > self._answered.setdefault(name, now) + MAX_OUTAGE_SECONDS:
                    raise
                self._say(f"{name} does not answer, trying again: {error}")
                continue
            self._answered[name] = now
            for active in group:
                self._judge(active, states[active.handle], now)

    def _judge(self, active: ActiveJob, seen: JobState, now: float) -> None:
        """Apply what a launcher knows about a job, and its limits."""
        machine, attempt = active.job.machine, active.attempt
        if seen.state != "gone":
            active.gone = None
            if seen.state != active.state:
                # A job that its cluster requeued waits again, and has its whole time again.
                if active.state == "running" or seen.reason == "":
                    active.since = now
                active.state = seen.state
                if self._launchers[active.record.launcher].capacity is None:
                    self._say(f"{active.job.name}: {seen.state}{f' ({seen.reason})' if seen.reason else ''}")
            active.reason = seen.reason
            limit = machine.time_limit + ANSWER_SECONDS if seen.state == "running" else machine.queue_limit
            if now > active.since + limit:
                self._give_up(active)
            return
        if attempt.ended() is not None:
            self._finish(active)
        elif active.gone is None:
            active.gone = now
        elif now >= active.gone + GONE_SECONDS:
            self._launchers[active.record.launcher].cancel({active.handle: attempt})
            self._withdraw(attempt)
            self._write(active, failure=seen.reason or "it ended without results")
            self._finish(active)

    def _give_up(self, active: ActiveJob) -> None:
        """End a job that exceeded a limit which it should have kept by itself."""
        machine = active.job.machine
        if active.state == "running":
            text = (
                f"its machine did not answer within the time limit of {units.duration(machine.time_limit)} "
                f"and {units.duration(ANSWER_SECONDS)} more"
            )
        else:
            reason = f" ({active.reason})" if active.reason else ""
            text = f"it did not start within the queue limit of {units.duration(machine.queue_limit)}{reason}"
        self._withdraw(active.attempt)
        self._launchers[active.record.launcher].cancel({active.handle: active.attempt})
        self._write(active, failure=text)
        self._finish(active)

    def _finish(self, active: ActiveJob) -> None:
        self._active.remove(active)
        self._report(active.job)

    def _report(self, job: FleetJob) -> None:
        self._settled += 1
        found = self._status(job)
        failed = " FAILED" if found.status is Status.FAILED else ""
        remark = f"; {found.remark}" if found.remark else ""
        self._say(f"[{self._settled}/{self._total}]{failed} {found.line}{remark}")

    def _beat(self) -> None:
        """Say from time to time that the run goes on."""
        if not self._active or self._clock() < self._news + HEARTBEAT_SECONDS:
            return
        states = Counter(active.state for active in self._active)
        longest = min(self._active, key=lambda active: active.since)
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items(), reverse=True))
        waiting = f", {len(self._waiting)} not started" if self._waiting else ""
        output = "".join(f": {line}" for line in last_lines(longest.attempt.log, 1))
        self._say(
            f"{self._settled} of {self._total} ended, {counts}{waiting}; "
            f"{longest.job.name} for {units.duration(self._clock() - longest.since)}{output}"
        )

    def _say(self, text: str) -> None:
        self._news = self._clock()
        self._echo(text)

    def _write(self, active: ActiveJob, *, handle: str | None = None, failure: str = "") -> None:
        active.record = msgspec.structs.replace(
            active.record, handle=handle or active.record.handle or active.handle, failure=failure
        )
        active.job.folder.write(active.record)

    def _by_launcher(self) -> dict[str, list[ActiveJob]]:
        groups: defaultdict[str, list[ActiveJob]] = defaultdict(list)
        for active in self._active:
            groups[active.record.launcher].append(active)
        return dict(groups)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let the signals of a cancelled CI job and of a closed terminal end the run as Ctrl-C does.

    Only the first one does: the next would interrupt the ending of jobs, and leave them running.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    before = {
        number: handler
        for name in names
        # Those that are ignored stay so, as under nohup.
        if (number := getattr(signal, name, None)) is not None
        and (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

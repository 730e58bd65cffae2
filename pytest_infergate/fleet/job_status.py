"""The status of each job, as its folder shows it."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.fleet.arrivals import arrival
from pytest_infergate.fleet.attempts import WITHDRAWN, AttemptFolder, JobRecord
from pytest_infergate.fleet.fleet_jobs import FleetJob


class Status(str, enum.Enum):
    """What became of a job."""

    MEASURED = "measured"
    FAILED = "failed"
    RUNNING = "running"
    QUEUED = "queued"
    MISSING = "missing"

    @property
    def active(self) -> bool:
        """Whether the job may still write results."""
        return self in (Status.RUNNING, Status.QUEUED)


class JobStatus(NamedTuple):
    """A job and what became of it."""

    job: FleetJob
    status: Status
    text: str = ""
    """The measured machine, or the reason of a failure."""
    remark: str = ""
    results: Path | None = None
    """The results file, if it counts."""
    machines: tuple[str, ...] = ()
    """Ids of the measured hardware classes."""

    @property
    def line(self) -> str:
        """One line about the job; the end of a log may follow in lines of its own."""
        return ": ".join(filter(None, (self.job.name, self.text or self.status.value)))


def job_status(job: FleetJob, record: JobRecord | None) -> JobStatus:
    """Return the status of a job. Raises `StorageError` if a file of its folder is damaged."""
    if record is None:
        return JobStatus(job, Status.MISSING)
    if record.digest != job.digest:
        return JobStatus(job, Status.MISSING, "its results are of other terms or arguments")
    attempt = job.folder.attempt(record.attempt)
    ended = attempt.ended()
    if ended is not None:
        found = arrival(job.machine, attempt, ended)
        if found.problem:
            return JobStatus(job, Status.FAILED, found.problem)
        where = f"measured on {found.hardware}" if found.hardware else "ended"
        text = where if found.seconds is None else f"{where} in {units.duration(found.seconds)}"
        return JobStatus(job, Status.MEASURED, text, found.remark, attempt.results, found.machines)
    if record.failure:
        return JobStatus(job, Status.FAILED, record.failure)
    return JobStatus(job, Status.RUNNING if claimed(attempt) else Status.QUEUED)


def claimed(attempt: AttemptFolder) -> bool:
    """Return whether a job has started on the attempt."""
    claim = attempt.claim()
    return claim is not None and claim.handle != WITHDRAWN

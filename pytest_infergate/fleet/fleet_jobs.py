"""The jobs of a fleet: each part of the tests once on each machine class."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pytest_infergate.core.domain.spelling import not_one_of
from pytest_infergate.errors import ConfigurationError, StorageError
from pytest_infergate.fleet.attempts import Ended, JobFolder, JobRecord, Order
from pytest_infergate.fleet.code_revision import code_revision
from pytest_infergate.fleet.fleet_file import WHOLE_SUITE, Fleet, MachineClass
from pytest_infergate.storage.atomic import atomic_write

ADDED = "added"
"""The launcher in the record of results that something else measured."""


@dataclasses.dataclass(frozen=True)
class FleetJob:
    """One pytest process of a fleet."""

    machine: MachineClass
    part: str
    arguments: tuple[str, ...]
    """Arguments for pytest: those of the class, of the part and of the command line."""
    folder: JobFolder

    @property
    def name(self) -> str:
        """Name of the class, and of the part if there are several: ``one-core/voice``."""
        return self.machine.name if self.part == WHOLE_SUITE else f"{self.machine.name}/{self.part}"

    def results_name(self, revision: str) -> str:
        """Return the name of the results file of a job that something else runs."""
        return f"{self.machine.name}.{self.part}.{revision}.json"

    @property
    def digest(self) -> str:
        """Digest of everything that decides what is measured: other terms are another measurement."""
        content = msgspec.json.encode([self.machine, self.part, self.arguments], order="sorted")
        return hashlib.sha256(content).hexdigest()[:16]

    def order(self, place: FleetPlace) -> Order:
        """Return what the job runs."""
        threads = self.machine.threads
        options = () if threads is None else (f"--infer-threads={threads}",)
        python = self.machine.python or sys.executable
        return Order(
            command=(python, "-m", "pytest", *options, *self.arguments),
            folder=str(place.work),
            env=self.machine.env,
            cores=self.machine.cores,
            time_limit=self.machine.time_limit,
            revision=place.revision,
            fleet_file=str(place.file),
        )


@dataclasses.dataclass(frozen=True)
class FleetPlace:
    """Where a fleet runs and keeps its results."""

    file: Path
    """The fleet file."""
    work: Path
    """Folder in which pytest is run."""
    folder: Path
    """Folder of all results."""
    revision: str

    @classmethod
    def of(cls, file: Path, folder: Path | None, work: Path) -> FleetPlace:
        """Return the place of a fleet file; without a folder, ``NAME.results`` beside the file."""
        file = file.resolve()
        kept = file.with_suffix(".results") if folder is None else folder.resolve()
        return cls(file=file, work=work, folder=kept, revision=code_revision(work, file))

    @property
    def results(self) -> Path:
        """Folder of the results of this revision."""
        return self.folder / self.revision

    def other_revisions(self) -> list[str]:
        """Return the revisions that have results in the folder, except this one."""
        if not self.folder.is_dir():
            return []
        found = (path.parent.parent.parent.name for path in self.folder.glob("*/*/*/job.json"))
        return sorted(set(found) - {self.revision})


def fleet_jobs(fleet: Fleet, place: FleetPlace, arguments: Sequence[str]) -> tuple[FleetJob, ...]:
    """Return the jobs of a fleet, in the order of its file. Raises `ConfigurationError`."""
    for argument in arguments:
        if argument.partition("=")[0] == "--infer-json":
            raise ConfigurationError("--infer-json is set by this command. Hint: leave it out")
    return tuple(
        FleetJob(
            machine=machine,
            part=part,
            arguments=(*machine.arguments, *own, *arguments),
            folder=JobFolder(place.results / machine.name / part),
        )
        for machine in fleet.classes
        for part, own in fleet.parts.items()
        if part in (machine.parts or fleet.parts)
    )


def selected_jobs(jobs: Sequence[FleetJob], only: Sequence[str]) -> tuple[FleetJob, ...]:
    """Return the jobs of some classes, or of single parts of a class as ``one-core/voice``."""
    known = dict.fromkeys(name for job in jobs for name in (job.machine.name, job.name))
    for name in only:
        if name not in known:
            raise ConfigurationError(not_one_of("--only", name, known))
    return tuple(job for job in jobs if not only or {job.name, job.machine.name} & set(only))


def add_results(
    jobs: Sequence[FleetJob], place: FleetPlace, source: Path
) -> tuple[list[FleetJob], list[str]]:
    """Take over the results of jobs that something else ran, from files with the names of `results_name`.

    Return the jobs that have them, and the names of JSON files that belong to no job. Raises `StorageError`.
    """
    names = {job.results_name(place.revision): job for job in jobs}
    found = {path.name: path for path in sorted(source.glob("*.json"))}
    added = []
    for name, job in names.items():
        if name not in found:
            continue
        number = job.folder.next_attempt()
        attempt = job.folder.attempt(number)
        attempt.write_order(job.order(place))
        try:
            content = found[name].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"cannot read {found[name]}: {error}") from None
        atomic_write(attempt.results, content)
        attempt.write_ended(Ended(code=0))
        record = JobRecord(
            digest=job.digest, attempt=number, launcher=ADDED, batch="", index=0, submitted=time.time()
        )
        job.folder.write(record)
        added.append(job)
    return added, [name for name in found if name not in names]

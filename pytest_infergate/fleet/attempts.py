"""The folder of a job: its attempts, each with its order, claim, end, log and results.

Everything that a second call needs is on disk before it happens, so that the controlling process may be
killed at any moment. An attempt measures once: the first that links its claim has it, the job itself to run,
or the controller to withdraw it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from pytest_infergate.core.domain.values import Struct
from pytest_infergate.errors import StorageError
from pytest_infergate.storage.atomic import atomic_write, unwritable

WITHDRAWN: Final = "withdrawn"
"""Handle in the claim of an attempt that the controller took back before it started."""
_LOG_LINES: Final = 3
_LOG_BYTES: Final = 4096
_Record = TypeVar("_Record", bound=Struct)


class Order(Struct, frozen=True, kw_only=True):
    """What a job runs."""

    command: tuple[str, ...]
    folder: str
    """Folder in which the command is run."""
    env: dict[str, str]
    cores: int | None
    time_limit: float
    revision: str
    """Revision of the code, as `code_revision` returns it; the job refuses to measure another one."""
    fleet_file: str


class Claim(Struct, frozen=True, kw_only=True):
    """Who has an attempt."""

    handle: str
    host: str
    started: float
    """Seconds since the epoch."""


class Ended(Struct, frozen=True, kw_only=True):
    """How an attempt ended by itself."""

    code: int | None
    """Exit code of pytest, negative for a signal; ``None`` if it was not run or exceeded its limit."""
    problem: str = ""
    """Why there is no exit code; empty if there is one."""
    seconds: float | None = None
    """``None`` for results of a job that something else ran."""


class JobRecord(Struct, frozen=True, kw_only=True):
    """What the controller knows about the latest attempt of a job."""

    digest: str
    """Digest of the terms and arguments of the job."""
    attempt: int
    launcher: str
    batch: str
    """Name under which the attempt was submitted, which no other submission has."""
    index: int
    """Place of the attempt in its batch."""
    submitted: float
    """Seconds since the epoch."""
    handle: str | None = None
    """Handle of the launcher; ``None`` until it is known."""
    failure: str = ""
    """Why the attempt has no results, if the job could not write that itself."""


class AttemptFolder:
    """The folder of one attempt."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def results(self) -> Path:
        """Results of pytest."""
        return self.path / "results.json"

    @property
    def log(self) -> Path:
        """Output of pytest."""
        return self.path / "pytest.log"

    def order(self) -> Order:
        """Return what is to be run. Raises `StorageError`."""
        return _required(self.path / "order.json", Order)

    def write_order(self, order: Order) -> None:
        """Create the folder with its order. Raises `StorageError`."""
        write_record(self.path / "order.json", order)

    def claim(self) -> Claim | None:
        """Return who has the attempt; ``None`` before it is claimed."""
        return read_record(self.path / "claim.json", Claim)

    def ended(self) -> Ended | None:
        """Return how the attempt ended; ``None`` as long as it did not."""
        return read_record(self.path / "ended.json", Ended)

    def write_ended(self, ended: Ended) -> None:
        """Write how the attempt ended. Raises `StorageError`."""
        write_record(self.path / "ended.json", ended)

    def try_claim(self, claim: Claim) -> bool:
        """Claim the attempt, and return whether it is ours.

        A job that its cluster requeued has the handle of its earlier life, and may go on. Raises
        `StorageError` if the folder cannot be written.
        """
        target = self.path / "claim.json"
        temporary = self.path / f".claim-{secrets.token_hex(6)}"
        try:
            temporary.write_bytes(msgspec.json.encode(claim))
            try:
                # A link appears with its content, or fails if another process was first, on NFS as well.
                os.link(temporary, target)
            except FileExistsError:
                earlier = self.claim()
                if earlier is None or earlier.handle != claim.handle or claim.handle == WITHDRAWN:
                    return False
                temporary.replace(target)
        except OSError as error:
            raise unwritable(target, error) from error
        finally:
            with suppress(OSError):
                temporary.unlink()
        return True


class JobFolder:
    """The folder of one job."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self) -> JobRecord | None:
        """Return what is known about the latest attempt; ``None`` before the first."""
        return read_record(self.path / "job.json", JobRecord)

    def write(self, record: JobRecord) -> None:
        """Replace what is known. Raises `StorageError`."""
        write_record(self.path / "job.json", record)

    def attempt(self, number: int) -> AttemptFolder:
        """Return the folder of an attempt, from 1."""
        return AttemptFolder(self.path / f"attempt-{number}")

    def forget(self) -> None:
        """Let the job count as not measured; its attempts are kept. Raises `StorageError`."""
        try:
            (self.path / "job.json").unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def next_attempt(self) -> int:
        """Return the number of an attempt whose folder does not exist."""
        number = 1
        while self.attempt(number).path.exists():
            number += 1
        return number


def write_record(path: Path, record: Struct) -> None:
    """Write a record, and the folders above it. Raises `StorageError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    atomic_write(path, msgspec.json.format(msgspec.json.encode(record).decode(), indent=2) + "\n")


def read_record(path: Path, kind: type[_Record]) -> _Record | None:
    """Read a record; ``None`` if it is missing. Raises `StorageError` if it is not what was written."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{path} is not what infergate wrote: {error}. Hint: remove the folder {path.parent}"
        ) from None


def _required(path: Path, kind: type[_Record]) -> _Record:
    record = read_record(path, kind)
    if record is None:
        raise StorageError(f"{path} is missing")
    return record


@contextmanager
def controlling(folder: Path) -> Iterator[None]:
    """Hold the lock of a fleet, and create its folder.

    Raises `StorageError` if another process has it. The system releases the lock when its holder dies.
    """
    from filelock import FileLock, Timeout

    path, holder = folder / ".lock", folder / ".controller"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / ".gitignore").exists():
            (folder / ".gitignore").write_text("# Results of infergate fleet, which are not committed.\n*\n")
        lock = FileLock(path, timeout=0)
        lock.acquire()
    except Timeout:
        with suppress(OSError):
            other = holder.read_text(encoding="utf-8").strip()
            raise StorageError(
                f"{folder} is in use by {other}. Hint: wait for it, or watch it with infergate fleet status"
            ) from None
        raise StorageError(f"{folder} is in use by another infergate fleet run") from None
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        with suppress(OSError):
            holder.write_text(f"process {os.getpid()} on {os.uname().nodename}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def last_lines(log: Path, count: int) -> list[str]:
    """Return the last lines of a log that are not blank; none if it cannot be read."""
    try:
        size = log.stat().st_size
        with log.open("rb") as file:
            file.seek(max(0, size - _LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()][-count:]


def log_end(log: Path) -> str:
    """Return the end of a log for a message, and where the log is; empty without a log."""
    lines = last_lines(log, _LOG_LINES)
    return "".join(f"\n    {line}" for line in [*lines, f"see {log}"]) if lines else ""

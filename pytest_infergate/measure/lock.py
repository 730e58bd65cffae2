"""A machine-wide lock: inference cases hold it exclusively, all other tests of such a run share it.

A lock among inference cases only is not enough: beside ordinary tests, a case measures 1.6 to 1.9 times too
slow. Cases on different GPUs may share the machine with each other, and with nothing else: each of them holds
the lock of its GPU, which other tests share, and shares the lock of the machine.
"""

from __future__ import annotations

import getpass
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_infergate.core.domain import units
from pytest_infergate.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from filelock import ReadWriteLock

# Cases of the same run wait for each other all the time, usually shorter; a message then would only be noise.
WAIT_SECONDS = 5.0
COMMAND_CHARACTERS = 80
# Environment variable with the path of the lock while it is held. Processes that are started meanwhile
# inherit it.
HELD_VARIABLE = "PYTEST_INFERGATE_LOCK"


class MachineLock:
    """The lock of this user on this machine. The system releases it when its holder dies.

    Raises `StorageError` if the file of the lock cannot be used.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or _default_path()
        self._folder = self.path.with_suffix(".gpus")
        """Contains the lock of each GPU on which a case has run."""
        self._gpus: dict[str, ReadWriteLock] = {}
        self._lock = self._opened(self.path)

    def _opened(self, path: Path) -> ReadWriteLock:
        from filelock import ReadWriteLock

        try:
            return ReadWriteLock(path, is_singleton=False)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def check(self) -> None:
        """Check before any test runs that the lock can be acquired in this run.

        Raises `ConfigurationError` inside a test of another measuring run, and `StorageError` if the file of
        the lock cannot be used.
        """
        from filelock import Timeout

        if os.environ.get(HELD_VARIABLE) == str(self.path):
            raise ConfigurationError(
                "a pytest run inside a test of a measuring run cannot measure: it would wait forever for the "
                "lock of the outer run. Hint: add --infer-disable to the inner run"
            )
        try:
            self._lock.acquire_read(timeout=0)
        except Timeout:
            return
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        self._lock.release()

    def _unusable(self, error: Exception) -> StorageError:
        return StorageError(
            f"cannot lock the machine with {self.path}: {error}. Hint: delete it, or set TMPDIR"
        )

    @contextmanager
    def held(
        self, how: Literal["alone", "shared"], waiting: Callable[[str], None], gpu: str | None = None
    ) -> Iterator[float]:
        """Hold the lock; `waiting` is called with a message every few seconds until it is acquired.

        With the UUID of a `gpu`, cases that are alone on other GPUs may run meanwhile. The value of the
        context is the time that was waited in seconds; 0 without a message.
        """
        if gpu is not None and not self._made_known(gpu, waiting):
            gpu = None
        seconds = 0.0
        with ExitStack() as locks:
            # Several processes of pytest-xdist share the lock, so that their ordinary tests still run in
            # parallel.
            whole = self._lock.acquire_write if how == "alone" and gpu is None else self._lock.acquire_read
            seconds += _acquire(whole, self.path, waiting)
            locks.callback(self._lock.release)
            # In one order everywhere and after that of the machine, so that no two wait for each other.
            names = [gpu] if gpu is not None else self._known() if how == "shared" else []
            for name in names:
                lock = self._gpu(name)
                acquire = lock.acquire_write if how == "alone" else lock.acquire_read
                seconds += _acquire(acquire, self._gpu_path(name), waiting)
                locks.callback(lock.release)
            os.environ[HELD_VARIABLE] = str(self.path)
            locks.callback(os.environ.pop, HELD_VARIABLE, None)
            yield seconds

    def _known(self) -> list[str]:
        """Return the GPUs that have a lock."""
        return sorted(path.stem for path in self._folder.glob("*.lock"))

    def _made_known(self, gpu: str, waiting: Callable[[str], None]) -> bool:
        """Create the lock of a GPU while nothing else runs: a test that began before does not share it.

        Return whether there is one.
        """
        path = self._gpu_path(gpu)
        with suppress(OSError):
            if not path.exists():
                with self.held("alone", waiting):
                    self._folder.mkdir(exist_ok=True)
                    path.touch()
            return True
        return False

    def _gpu_path(self, gpu: str) -> Path:
        return self._folder / f"{gpu}.lock"

    def _gpu(self, gpu: str) -> ReadWriteLock:
        if gpu not in self._gpus:
            self._gpus[gpu] = self._opened(self._gpu_path(gpu))
        return self._gpus[gpu]


def _acquire(acquire: Callable[..., object], path: Path, waiting: Callable[[str], None]) -> float:
    """Acquire a lock, and return the seconds that were waited if there was a message, and 0 otherwise."""
    from filelock import Timeout

    begin = time.monotonic()
    seconds = 0.0
    while True:
        try:
            acquire(timeout=WAIT_SECONDS)
            break
        except Timeout:
            seconds = time.monotonic() - begin
            waited = units.duration(seconds)
            holder = lock_holders(path) or "another run"
            waiting(
                f"infergate: waited {waited} for {holder}, which measures on this machine; "
                "--infer-lock=off measures beside it"
            )
    return time.monotonic() - begin if seconds else 0.0


def lock_holders(path: Path) -> str:
    """Return process ids and commands of other processes that hold the lock; empty if they are unknown."""
    found: dict[int, str] = {}
    with suppress(OSError, ValueError):  # only Linux has the list
        inode = str(path.stat().st_ino)
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            # Those that wait themselves have an arrow, and processes outside of the container no id.
            if "->" in fields or fields[5].rpartition(":")[2] != inode or int(fields[4]) <= 0:
                continue
            process = int(fields[4])
            if process != os.getpid():
                found[process] = _command(process)
    return " and ".join(f"process {process}{command}" for process, command in found.items())


def _command(process: int) -> str:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    shown = "".join(character if character.isprintable() else "?" for character in " ".join(words).strip())
    return f" ({shown[:COMMAND_CHARACTERS]}{'...' if len(shown) > COMMAND_CHARACTERS else ''})"


def _default_path() -> Path:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "anyone"
    return Path(tempfile.gettempdir()) / f"infergate-{''.join(filter(str.isalnum, user))}.lock"

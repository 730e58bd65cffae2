"""A worker process: started in the environment of its launch, suspended between blocks, always ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from pytest_infergate import __version__
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.paired import channel
from pytest_infergate.paired.protocol import (
    PROTOCOL_VERSION,
    BlockTimed,
    CasesCollected,
    CollectCases,
    Command,
    Event,
    Hello,
    Leave,
    MessageError,
    TimeBlock,
)
from pytest_infergate.paired.run_folder import FOLDER_VARIABLE
from pytest_infergate.paired.worker_handle import Role, WorkerLostError, ask

ANSWER_TIMEOUT_SECONDS: Final = 600.0
"""Longest wait for an answer: loading a model may take minutes, and so may one call."""
EXIT_TIMEOUT_SECONDS: Final = 5.0
# Without these, glibc maps large activations again in some launches and not in others: launches of identical
# code differed by 35 to 58 %.
MALLOC: Final = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "2147483648",
    "MALLOC_TOP_PAD_": "67108864",
}
# Without these, threads of one process may share a core by chance. How threads wait is left to the user: with
# OMP_WAIT_POLICY=passive a model of small operators took four times as long as in the user's process.
THREADS: Final = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}
_LOG_BYTES = 64_000
"""Of the end of a worker's output, in which the reason of its end is looked for."""
_ERROR_PREFIXES = ("E  ", "!!!", "Fatal Python error")
"""Beginnings of lines in which pytest and Python report why they end."""
# An empty entry is the folder that it runs in, which may contain another tree's package.
_BOOTSTRAP = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from pytest_infergate.worker.entry_point import serve; serve(int(sys.argv[1]))"
)
_CAN_STOP = hasattr(signal, "SIGSTOP") and hasattr(os, "killpg")
STOP_SECONDS: Final = 1.0
"""Longest wait until all threads of a process are stopped."""
_STOP_CHECK_SECONDS = 20e-6


class WorkerSpec(NamedTuple):
    """How the workers of one role are started."""

    role: Role
    python: str
    """Its interpreter."""
    folder: Path
    """Where it runs: the invocation folder, or the same place in the worktree of the base."""
    run_folder: Path
    collect: CollectCases
    """The first command."""
    variables: Mapping[str, str] | None = None
    """Of its environment, in place of `THREADS` and `MALLOC`; those that the user set win in any case."""
    answer_timeout: float = ANSWER_TIMEOUT_SECONDS
    """Longest wait for an answer in seconds."""


class WorkerProcess:
    """One process, with all its output in a file of its own. Implements `PairedWorker`."""

    def __init__(self, spec: WorkerSpec, seed: int) -> None:
        self.spec = spec
        ours, theirs = socket.socketpair()
        self._channel = channel.run_channel(ours)
        # A file, not a pipe: the run does not read while the process is timed, and a full pipe would stop it.
        self._log = tempfile.TemporaryFile(dir=spec.run_folder)  # noqa: SIM115 - open as long as the worker
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, or the one that the user named
                [spec.python, "-c", _BOOTSTRAP, str(theirs.fileno())],
                cwd=spec.folder,
                env=worker_environment(spec, seed),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # its children get its signals, and Ctrl-C stays with the run
            )
        except OSError as error:
            self._channel.close()
            self._log.close()
            raise ConfigurationError(
                f"{spec.python} cannot be run: {error.strerror or error}; give a Python interpreter"
            ) from error
        finally:
            theirs.close()
        self._stopped = False

    def handshake(self) -> CasesCollected:
        """Compare versions, and wait until the tests are collected.

        Raises `ConfigurationError` for an interpreter without this plugin or with another version of it,
        `WorkerLostError` if the process ends meanwhile.
        """
        try:
            hello = self.receive()
        except WorkerLostError as error:
            if "pytest_infergate" in str(error) and "No module named" in str(error):
                raise ConfigurationError(
                    f"{self.spec.python} has no pytest-infergate: install version {__version__} of it there"
                ) from None
            raise
        version, protocol = (hello.version, hello.protocol) if isinstance(hello, Hello) else (None, None)
        if (version, protocol) != (__version__, PROTOCOL_VERSION):
            raise ConfigurationError(
                f"{self.spec.python} has pytest-infergate {version} (protocol {protocol}), this run has "
                f"{__version__} (protocol {PROTOCOL_VERSION}): install the same version in both"
            )
        return ask(self, self.spec.collect, CasesCollected)

    def send(self, command: Command) -> None:
        """Send a command, which a suspended process reads when it is resumed."""
        try:
            self._channel.send(command)
        except channel.ClosedError:
            raise self._lost("ended") from None

    def receive(self, seconds: float | None = None) -> Event:
        """Wait for the next event. Raises `WorkerLostError`."""
        seconds = self.spec.answer_timeout if seconds is None else seconds
        try:
            return self._channel.receive(seconds)
        except channel.SilentError:
            raise self._lost(f"did not answer in {seconds:.0f} s") from None
        except channel.ClosedError:
            raise self._lost("ended") from None
        except MessageError as error:
            text = f"the process of the {self.spec.role} cannot be understood: {error}"
            raise WorkerLostError(self.spec.role, text) from None

    def timed_block(self, calls: int) -> BlockTimed:
        """Resume it, let it time so many calls, suspend it. Raises `UnexpectedEventError`."""
        self.resume()
        block = ask(self, TimeBlock(calls), BlockTimed)
        self.suspend()
        return block

    def resume(self) -> None:
        """Let it run."""
        if self._stopped:
            self._signal(signal.SIGCONT)
            self._stopped = False

    def suspend(self) -> None:
        """Stop it with its threads and children, where the system has the signals for that."""
        # A process that only waits for a message may still have threads that spin. The kernel stops them when
        # the main thread gets the processor, for which the other side competes: blocks that began before
        # shared a core with a spinning thread, and took twice as long.
        if not _CAN_STOP or self._stopped:
            return
        self._signal(signal.SIGSTOP)
        self._stopped = True
        if hasattr(os, "waitid"):
            until = time.monotonic() + STOP_SECONDS
            # Without WNOWAIT, the exit code of a process that has ended would be lost.
            states = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
            with suppress(ChildProcessError):
                while os.waitid(os.P_PID, self._process.pid, states) is None and time.monotonic() < until:
                    time.sleep(_STOP_CHECK_SECONDS)

    def leave(self) -> None:
        """Ask it to end, so that its fixtures are torn down."""
        self.resume()
        with suppress(channel.ClosedError):
            self._channel.send(Leave())
        # In the middle of a case it does not expect the command, and ends when nothing more can come.
        self._channel.finish_sending()

    def end(self) -> None:
        """Wait until it has ended; kill it and its children after `EXIT_TIMEOUT_SECONDS`."""
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=EXIT_TIMEOUT_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and its children at once."""
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        self._process.wait()
        self._channel.close()
        self._log.close()

    def _signal(self, number: int) -> None:
        try:
            if _CAN_STOP:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)
        except (ProcessLookupError, PermissionError):
            pass  # it has ended, and its children too

    def _lost(self, how: str) -> WorkerLostError:
        """The error for a lost process, with how it ended and the reason in its output."""
        # The connection may break shortly before the exit code is known.
        try:
            code = self._process.wait(timeout=1 if how == "ended" else 0)
        except subprocess.TimeoutExpired:
            code = None
        if code is not None and code < 0:
            names = {number.value: number.name for number in signal.Signals}
            how = f"was killed by {names.get(-code, f'signal {-code}')}"
        elif code is not None:
            how = f"ended with exit code {code}"
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - _LOG_BYTES))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        # The last error explains more than the last line, which is often pytest's summary.
        errors = [line for line in lines if line.startswith(_ERROR_PREFIXES) or "Error" in line]
        reason = "".join(f": {line.removeprefix('E  ').strip('! ')}" for line in (errors or lines)[-1:])
        text = f"the process of the {self.spec.role} {how}{reason}"
        return WorkerLostError(self.spec.role, text, killed=code == -getattr(signal, "SIGKILL", 9))


def worker_environment(spec: WorkerSpec, seed: int) -> dict[str, str]:
    """The environment of a worker: the same on both sides of a launch, and another in every launch.

    Variables that the user set are kept.
    """
    dropped = ("PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID")
    inherited = {name: value for name, value in os.environ.items() if name not in dropped}
    # The size of the environment moves the stack, and with it the speed of a process. The padding makes up
    # for paths of different lengths, and draws another place of the stack in every launch.
    padding = 2000 + 16 * (seed % 97) - len(str(spec.folder))
    return {
        **({**THREADS, **MALLOC} if spec.variables is None else spec.variables),
        **inherited,
        "PYTHONHASHSEED": str(seed % 4294967295),  # the largest that Python takes
        "PWD": str(spec.folder),
        FOLDER_VARIABLE: str(spec.run_folder),
        "PYTEST_INFERGATE_PADDING": "x" * max(0, padding),
    }

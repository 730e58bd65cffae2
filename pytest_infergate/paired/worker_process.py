"""A worker process as the run holds it: started, asked, stopped between its turns, and never left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from pytest_infergate import __version__
from pytest_infergate.core.gate.paired import GpuState
from pytest_infergate.errors import ConfigurationError, InfergateError
from pytest_infergate.paired import channel
from pytest_infergate.paired.worktree import remove

PROTOCOL: Final = 1
"""Grows when messages change their meaning."""
FOLDER_VARIABLE: Final = "PYTEST_INFERGATE_PAIRED"
"""Names, in the environment of everything that belongs to a run, the run's own folder."""
TEMPORARY_PREFIX = "infergate-paired-"
ANSWER_TIMEOUT_SECONDS = 600.0
"""Longest wait for an answer: loading a model may take minutes, and so may one call."""
EXIT_TIMEOUT_SECONDS = 5.0
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "2147483648",
    "MALLOC_TOP_PAD_": "67108864",
}
"""Without these, launches of models with large activations differ by half: mapped anew or not."""
THREADS = {"OMP_WAIT_POLICY": "passive", "OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}
"""Without these, threads of a process end up on one core by chance, and identical code differs by a third."""
_LOG_BYTES = 64_000
_TELLING = ("E  ", "!!!", "Fatal Python error")
"""Beginnings of lines in which pytest and Python say why they end."""
_BOOTSTRAP = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from pytest_infergate.worker.entry_point import serve; serve(int(sys.argv[1]))"
)
_CAN_STOP = hasattr(signal, "SIGSTOP") and hasattr(os, "killpg")


class WorkerLostError(InfergateError):
    """A worker died, or did not answer in time."""

    def __init__(self, side: str, words: str, *, killed: bool = False) -> None:
        super().__init__(words)
        self.side = side
        self.killed = killed
        """As the system does where memory runs out."""


class UnexpectedMessageError(InfergateError):
    """A worker said something else than what it was asked: its test is ending."""

    def __init__(self, worker: Any, message: dict[str, Any]) -> None:
        super().__init__(f"expected an answer, heard {message.get('is')!r}")
        self.worker = worker
        self.message = message


class WorkerSpec(NamedTuple):
    """How the workers of one side are started."""

    side: str
    python: str
    folder: Path
    """Where it runs: the invocation folder, or the same place in the base's worktree."""
    holder: Path
    begin: Mapping[str, Any]
    """What it is told first: arguments, settings, how to find the project."""
    variables: Mapping[str, str] | None = None
    """Environment in place of the one that paired sides have, where the user set none of it."""


class WorkerProcess:
    """One process. Everything that it prints goes to a file of its own."""

    def __init__(self, plan: WorkerSpec, seed: int) -> None:
        self.plan = plan
        ours, theirs = channel.pair()
        self._channel = ours
        self._log = tempfile.TemporaryFile(dir=plan.holder)  # noqa: SIM115 - open as long as the worker
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, or the one that the user named
                [plan.python, "-c", _BOOTSTRAP, str(theirs.fileno())],
                cwd=plan.folder,
                env=worker_environment(plan, seed),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            self._channel.close()
            self._log.close()
            raise ConfigurationError(
                f"{plan.python} cannot be run: {error.strerror or error}; give a Python interpreter"
            ) from error
        finally:
            theirs.close()
        self._stopped = False
        self._gpu_states: list[GpuState] = []

    def handshake(self) -> dict[str, Any]:
        """Hear what it collected, after checking that it speaks our language.

        Raises `ConfigurationError` for an interpreter without this plugin or with another version,
        `WorkerLostError` where it dies over its imports.
        """
        try:
            hello = self._received(ANSWER_TIMEOUT_SECONDS)
        except WorkerLostError as error:
            if "pytest_infergate" in str(error) and "No module named" in str(error):
                raise ConfigurationError(
                    f"{self.plan.python} has no pytest-infergate: install version {__version__} of it there"
                ) from None
            raise
        spoken = hello.get("protocol"), hello.get("version")
        if spoken != (PROTOCOL, __version__):
            raise ConfigurationError(
                f"{self.plan.python} has pytest-infergate {hello.get('version')}, this run {__version__}: "
                "install the same version in both"
            )
        self.send(dict(self.plan.begin))
        return self._received(ANSWER_TIMEOUT_SECONDS)

    def send(self, message: dict[str, Any]) -> None:
        """Send, to whoever is awake or will be."""
        try:
            self._channel.send(message)
        except channel.ClosedError:
            raise self._lost("ended") from None

    def receive(self, seconds: float = ANSWER_TIMEOUT_SECONDS) -> dict[str, Any]:
        """Wait for its next message. Raises `WorkerLostError`."""
        return self._received(seconds)

    def ask(
        self, message: dict[str, Any], kind: str, seconds: float = ANSWER_TIMEOUT_SECONDS
    ) -> dict[str, Any]:
        """Tell, and wait for an answer of this kind. Raises `WorkerStrayedError` for another."""
        self.send(message)
        answer = self._received(seconds)
        if answer.get("is") != kind:
            raise UnexpectedMessageError(self, answer)
        return answer

    def timed_block(self, calls: int) -> float:
        """Wake it, let it time so many calls, stop it; mean seconds a call."""
        self.resume()
        answer = self.ask({"do": "turn", "calls": calls}, "turn")
        self.suspend()
        if "board" in answer:
            self._gpu_states.append(msgspec.convert(answer["board"], GpuState))
        return float(answer["seconds"])

    def gpu_states(self) -> tuple[GpuState, ...]:
        """What its accelerator told after each turn since this was asked last."""
        told, self._gpu_states = tuple(self._gpu_states), []
        return told

    def resume(self) -> None:
        """Let it run."""
        if self._stopped:
            self._signal(signal.SIGCONT)
            self._stopped = False

    def suspend(self) -> None:
        """Stop it and its threads and children: one that only waits still spins. Nothing without signals."""
        if _CAN_STOP and not self._stopped:
            self._signal(signal.SIGSTOP)
            self._stopped = True

    def leave(self) -> None:
        """Ask it to leave: its fixtures are torn down."""
        self.resume()
        with suppress(channel.ClosedError):
            self._channel.send({"do": "end"})

    def end(self) -> None:
        """Wait until it has left, and kill what is left of it after a while."""
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
            pass  # it is gone, and its children too

    def _received(self, seconds: float) -> dict[str, Any]:
        try:
            return self._channel.receive(seconds)
        except channel.SilentError:
            raise self._lost(f"did not answer in {seconds:.0f} s") from None
        except channel.ClosedError:
            raise self._lost("ended") from None

    def _lost(self, how: str) -> WorkerLostError:
        """Say how it was lost, and its last words."""
        try:
            code = self._process.wait(timeout=1 if how == "ended" else 0)
        except subprocess.TimeoutExpired:
            code = None
        if code is not None:
            how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        words = f"the process of the {self.plan.side} {how}{self._last_words()}"
        return WorkerLostError(self.plan.side, words, killed=code == -getattr(signal, "SIGKILL", 9))

    def _last_words(self) -> str:
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - _LOG_BYTES))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if line.startswith(_TELLING) or "Error" in line]
        words = (errors or lines)[-1:]
        return f": {words[0].removeprefix('E  ').strip('! ')}" if words else ""


def worker_environment(plan: WorkerSpec, seed: int) -> dict[str, str]:
    """What a worker finds: the same on both sides of a pair, and different from pair to pair.

    Threads that wait sleep and stay on their core (measured: docs/method.md); variables that the user set
    are the user's. The padding moves the stack, and makes up for a
    path of another length.
    """
    dropped = ("PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID")
    inherited = {name: value for name, value in os.environ.items() if name not in dropped}
    padding = 2000 + 16 * (seed % 97) - len(str(plan.folder))
    return {
        **({**THREADS, **MALLOC} if plan.variables is None else plan.variables),
        **inherited,
        **({"PYTHONPATH": plan.begin["pythonpath"]} if plan.begin.get("pythonpath") else {}),
        "PYTHONHASHSEED": str(seed % 4294967295),
        "PWD": str(plan.folder),
        FOLDER_VARIABLE: str(plan.holder),
        "PYTEST_INFERGATE_PADDING": "x" * max(0, padding),
    }


def temporary_folder() -> Path:
    """Make the folder of one run, whose name says who made it; folders of the dead are reaped."""
    place = Path(tempfile.gettempdir()).resolve()
    for left in place.glob(f"{TEMPORARY_PREFIX}*"):
        _reap(left)
    return Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{os.getpid()}-", dir=place))


def _reap(left: Path) -> None:
    """Kill what still belongs to a run whose process is gone, and remove its folder and worktree."""
    owner = left.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
    if not owner.isdecimal() or _alive(int(owner)):
        return
    if sys.platform == "linux":
        mark = f"{FOLDER_VARIABLE}={left}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # gone, or somebody else's
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
    for pointer in left.glob("base*/.git"):
        repository = _repository(pointer)
        if repository is not None:
            remove(repository, pointer.parent)
    shutil.rmtree(left, ignore_errors=True)


def _repository(pointer: Path) -> Path | None:
    """The ``.git`` folder that a worktree points to: ``gitdir: /repo/.git/worktrees/name``."""
    try:
        place = Path(pointer.read_text(encoding="utf-8").removeprefix("gitdir: ").strip())
    except (OSError, ValueError):
        return None
    return place.parents[1] if len(place.parents) > 1 and place.parents[1].is_dir() else None


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

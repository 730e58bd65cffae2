"""Jobs on this machine, one after the other: two at a time would disturb each other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pytest_infergate.errors import ConfigurationError
from pytest_infergate.fleet.attempt_processes import MARK, end_processes
from pytest_infergate.fleet.attempts import AttemptFolder
from pytest_infergate.fleet.fleet_file import MachineClass, checked_terms
from pytest_infergate.fleet.launchers import JobState


class LocalLauncher:
    """Starts each job as a process that goes on if the controller is killed."""

    name = "local"
    capacity: int | None = 1
    poll_seconds = 0.2

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def check(self, machine: MachineClass) -> None:
        """Check the number of cores, which is known here before anything is measured."""
        checked_terms(machine, self.name, {})
        affinity = getattr(os, "sched_getaffinity", None)
        usable = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
        if machine.cores is not None and machine.cores > usable:
            raise ConfigurationError(
                f"class {machine.name}: cores must be at most {usable}, which this process may use, "
                f"got {machine.cores}"
            )

    def start(self, machine: MachineClass, attempts: Sequence[AttemptFolder], batch: str) -> list[str]:  # noqa: ARG002
        """Start a process for each attempt."""
        handles = []
        for attempt in attempts:
            with (attempt.path / "job.log").open("ab") as log:
                process = subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-m", "pytest_infergate.fleet.job_runner", str(attempt.path)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, MARK: str(attempt.path)},
                    # Ctrl-C in the terminal goes to the controller alone, which ends its jobs in order.
                    start_new_session=True,
                )
            self._processes[str(process.pid)] = process
            handles.append(str(process.pid))
        return handles

    def states(self, started: Mapping[str, AttemptFolder]) -> Mapping[str, JobState]:
        """Return which processes run."""
        return {
            handle: JobState("running")
            if self._runs(handle, attempt)
            else JobState("gone", self._ending(handle))
            for handle, attempt in started.items()
        }

    def find(self, batch: str) -> Mapping[int, str]:  # noqa: ARG002
        """Return nothing: a process whose attempt was withdrawn ends by itself."""
        return {}

    def cancel(self, started: Mapping[str, AttemptFolder]) -> None:
        """End the processes of the jobs, and those that they have started."""
        for handle, attempt in started.items():
            end_processes(attempt.path)
            process = self._processes.get(handle)
            if process is None:
                continue
            # Systems without a list of processes know those of our own session.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _runs(self, handle: str, attempt: AttemptFolder) -> bool:
        process = self._processes.get(handle)
        if process is not None:
            return process.poll() is None
        if not Path("/proc/self").exists():
            with suppress(OSError, ValueError):
                os.kill(int(handle), 0)
                return True
            return False
        claim = attempt.claim()
        if claim is not None and claim.host != socket.gethostname():
            return True  # as far as this machine can see; its time limit ends it
        # Another process may have the number by now.
        with suppress(OSError):
            words = Path("/proc", handle, "cmdline").read_bytes().split(b"\0")
            return str(attempt.path).encode() in words
        return False

    def _ending(self, handle: str) -> str:
        process = self._processes.get(handle)
        code = None if process is None else process.returncode
        if code is None:
            return "its process ended without results"
        if code < 0:
            killed = " (out of memory, or killed)" if code == -signal.SIGKILL else ""
            return f"its process was ended by signal {-code}{killed}"
        return f"its process ended with exit code {code} and no results"

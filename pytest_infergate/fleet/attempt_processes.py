"""The processes of an attempt on this machine, found by a variable that all of them inherit."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

MARK: Final = "INFERGATE_FLEET_ATTEMPT"
"""Environment variable with the folder of the attempt."""
_PROC: Final = Path("/proc")


def attempt_processes(folder: Path) -> list[int]:
    """Return the ids of the processes of an attempt but this one; only Linux has the list."""
    wanted = f"{MARK}={folder}".encode()
    found = []
    for entry in _PROC.glob("[0-9]*"):
        # Processes of other users cannot be read, and any may end at any moment.
        with suppress(OSError):
            if int(entry.name) != os.getpid() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def end_processes(folder: Path, grace: float = 5.0) -> None:
    """End the processes of an attempt: politely at first, and by SIGKILL those that remain after `grace`."""
    number, deadline = signal.SIGTERM, time.monotonic() + grace
    while processes := attempt_processes(folder):
        for process in processes:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, number)
        if number == signal.SIGTERM:
            while attempt_processes(folder) and time.monotonic() < deadline:
                time.sleep(0.05)
            number = signal.SIGKILL
        elif time.monotonic() > deadline + grace:
            return
        else:
            time.sleep(0.05)

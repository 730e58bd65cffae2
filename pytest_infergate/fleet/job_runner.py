"""The job itself, on the machine that it measures: claim the attempt, run pytest, write how it ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from pytest_infergate.core.domain import units
from pytest_infergate.fleet.attempt_processes import MARK, end_processes
from pytest_infergate.fleet.attempts import AttemptFolder, Claim, Ended, Order
from pytest_infergate.fleet.code_revision import code_revision

INTERRUPT_SECONDS = 10.0
"""Time that pytest gets to end after its limit."""


def run_attempt(path: Path, handle: str) -> None:
    """Run an attempt; `handle` is that of the launcher. An attempt that another process has is left alone."""
    folder = AttemptFolder(path)
    begin = time.time()
    if not folder.try_claim(Claim(handle=handle, host=socket.gethostname(), started=begin)):
        print(f"{path} was withdrawn, or another job has it: nothing is measured", file=sys.stderr)  # noqa: T201
        return
    # A job that is cancelled or preempted writes no end: its cluster may start it again.
    signal.signal(signal.SIGTERM, _stop)
    order = folder.order()
    problem = _unsuitable(order)
    code = None
    if not problem:
        try:
            code, problem = _run(order, folder)
        finally:
            end_processes(path)
    folder.write_ended(Ended(code=code, problem=problem, seconds=time.time() - begin))


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _unsuitable(order: Order) -> str:
    """Return why this machine cannot run the job, and limit the process to the cores of its class."""
    found = code_revision(Path(order.folder), Path(order.fleet_file))
    if found != order.revision:
        return (
            f"{order.folder} contains revision {found} and the fleet measures {order.revision}: "
            "the code was changed after the job was submitted"
        )
    if order.cores is None:
        return ""
    if not hasattr(os, "sched_setaffinity"):
        return "cores needs a system that can bind a process to cores, which is Linux"
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < order.cores:
        host = socket.gethostname()
        return f"the class has {units.plural(order.cores, 'core')}, and {host} offers {len(usable)}"
    os.sched_setaffinity(0, usable[: order.cores])
    return ""


def _run(order: Order, folder: AttemptFolder) -> tuple[int | None, str]:
    """Run pytest, and return its exit code or why there is none."""
    command = [*order.command, f"--infer-json={folder.results}"]
    with folder.log.open("ab") as log:
        try:
            process = subprocess.Popen(  # noqa: S603 - pytest, and the arguments of the user
                command,
                cwd=order.folder,
                env={**os.environ, **order.env, MARK: str(folder.path)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            return None, f"{command[0]} cannot be run: {error.strerror or error}"
        try:
            return process.wait(order.time_limit), ""
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(INTERRUPT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return None, f"it did not end within its time limit of {units.duration(order.time_limit)}"


if __name__ == "__main__":
    run_attempt(Path(sys.argv[1]), str(os.getpid()))

"""Whether other processes, or the hypervisor, took the processors away while a case was timed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pytest_infergate.core.model import Note
from pytest_infergate.devices.base import CpuTimes

NOTICEABLE = 0.1
"""Cores that others may take from a case before its time is no longer its own."""
_STAT = Path("/proc/stat")


def cpu_times() -> CpuTimes | None:
    """Read the clocks; ``None`` where the system does not tell, as off Linux."""
    try:
        text = _STAT.read_text(encoding="ascii", errors="replace")
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return None
    busy = busy_ticks(text)
    cores = sum(line[:3] == "cpu" and line[3:4].isdigit() for line in text.splitlines())
    own = os.times()
    used = own.user + own.system + own.children_user + own.children_system
    return None if busy is None else CpuTimes(time.monotonic(), busy / ticks, used, cores)


def busy_ticks(stat: str) -> int | None:
    """All but idle and waiting, stolen time included, from the first line of ``/proc/stat``."""
    words = stat.partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu":  # noqa: PLR2004 - up to steal, in kernels since 2.6.11
        return None
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, words[1:9])
    return user + nice + system + irq + soft + steal


def taken(before: CpuTimes | None, after: CpuTimes | None, threads: int) -> float | None:
    """Cores that others took from a case of so many threads, beyond those that it leaves idle."""
    if before is None or after is None or after.wall <= before.wall:
        return None
    others = (after.machine - before.machine) - (after.own - before.own)
    spare = max(0, after.cores - threads)
    return max(0.0, others / (after.wall - before.wall) - spare)


def disturbed(cores: float | None) -> bool:
    """Whether so much was taken that the time says more about the others than about the case."""
    return cores is not None and cores > NOTICEABLE


def notes(cores: float | None) -> tuple[Note, ...]:
    """Say so, where it is."""
    if cores is None or not disturbed(cores):
        return ()
    return (
        Note(
            code="disturbed",
            text=f"other processes took {cores:.1f} cores from the case while it was timed",
            cure="measure on a machine that does nothing else meanwhile",
        ),
    )

"""CPU contention: the processor time that other processes or the hypervisor took while a case was timed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate.contention import CONTENDED, IDLE
from pytest_infergate.instruments.device import CpuTimes

_STAT = Path("/proc/stat")


def cpu_times() -> CpuTimes | None:
    """Read the processor time of the machine and of this process; ``None`` except on Linux."""
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
    """Sum all but idle and I/O wait time from the first line of ``/proc/stat``; `None` if it is malformed.

    Time stolen by the hypervisor is included, because the case could not use it either.
    """
    fields = stat.partition("\n")[0].split()
    if len(fields) < 9 or fields[0] != "cpu":  # noqa: PLR2004 - up to steal, since Linux 2.6.11
        return None
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields[1:9])
    return user + nice + system + irq + soft + steal


def contention(before: CpuTimes | None, after: CpuTimes | None, threads: int) -> float | None:
    """Return the share of the processor time of a case with `threads` threads that others took.

    ``None`` if either reading is missing.
    """
    if before is None or after is None or after.wall <= before.wall:
        return None
    others = (after.machine - before.machine) - (after.own - before.own)
    # Others may use the cores that the case leaves idle without slowing it down.
    spare = max(0, after.cores - threads)
    cores = max(0.0, others / (after.wall - before.wall) - spare)
    return cores / min(threads, after.cores)


def contention_notes(share: float | None) -> tuple[Note, ...]:
    """Return a note if the share is above `CONTENDED`, from which on times are no longer corrected."""
    if share is None or share <= CONTENDED:
        return ()
    text = f"other processes took {share:.0%} of the case's processor time while it was timed"
    return (Note(code=NoteCode.CPU_CONTENTION, text=text, hint=IDLE),)

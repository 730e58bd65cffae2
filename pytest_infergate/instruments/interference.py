"""Whether other processes, or the hypervisor, took the processors away while a case was timed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.gate.stored import CONTENDED, IDLE
from pytest_infergate.instruments.device import CpuTimes

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


def contention(before: CpuTimes | None, after: CpuTimes | None, threads: int) -> float | None:
    """Share of the processor time of so many threads that others took.

    Cores that the case leaves idle are free to them. ``None`` where the clocks are not known.
    """
    if before is None or after is None or after.wall <= before.wall:
        return None
    others = (after.machine - before.machine) - (after.own - before.own)
    spare = max(0, after.cores - threads)
    cores = max(0.0, others / (after.wall - before.wall) - spare)
    return cores / min(threads, after.cores)


def contention_notes(share: float | None) -> tuple[Note, ...]:
    """Say so, where it is too much."""
    if share is None or share <= CONTENDED:
        return ()
    text = f"other processes took {share:.0%} of the case's processor time while it was timed"
    return (Note(code=NoteCode.CPU_CONTENTION, text=text, hint=IDLE),)

"""CPU contention: the processor time that other processes or the hypervisor took while a case was timed."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pytest_infergate.core.domain.measurement import CONTENDED, Contention
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.core.gate.contention import IDLE, MAX_CONTENTION
from pytest_infergate.instruments.device import CpuTimes

_STAT = Path("/proc/stat")
_TASKS = Path("/proc/self/task")
# A child that ends between two readings would be counted twice, or not at all: then they are repeated.
_ATTEMPTS = 3
# Processor time is counted in ticks of 10 ms, for this process and for all: in a shorter time, a few of them
# would pass for contention.
SHORTEST_COUNTED = 0.5
# Cores that child processes must occupy before the case's waiting for a core counts as contention.
BUSY_CHILDREN = 0.1


def cpu_times() -> CpuTimes | None:
    """Read the processor time of this process and of the cores it may use; ``None`` except on Linux."""
    try:
        text = _STAT.read_text(encoding="ascii", errors="replace")
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return None
    usable = core_ticks(text, cores_of_threads())
    if usable is None:
        return None
    for _ in range(_ATTEMPTS):
        ended, living, own = os.times(), descendant_ticks(os.getpid()), os.times()
        if ended[2:4] == own[2:4]:
            break
    return CpuTimes(
        time.monotonic(),
        usable.busy / ticks,
        sum(own[:4]) + living / ticks,
        cores=usable.cores,
        stolen=usable.stolen / ticks,
        waited=waited_seconds(),
        children=sum(own[2:4]) + living / ticks,
    )


def cores_of_threads() -> set[int]:
    """Return the cores that some thread of this process may use: OpenMP binds threads to one core each."""
    cores = set(os.sched_getaffinity(0))
    for task in _TASKS.iterdir():
        with suppress(OSError):  # it may have ended
            cores |= os.sched_getaffinity(int(task.name))
    return cores


def descendant_ticks(pid: int, processes: Path = _STAT.parent) -> int:
    """Sum the processor time of the living descendants of a process, and of their children that have ended.

    `processes` is the folder of the process table, which is read only if this process has children.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return 0
    children: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir(processes)):  # noqa: PTH208 - names, not paths
        # The name of a command, which comes first, may contain spaces and parentheses.
        fields = _words(processes / name / "stat", b")")
        if fields:
            used[int(name)] = sum(map(int, fields[11:15]))
            children.setdefault(int(fields[1]), []).append(int(name))
    total, found = 0, children.get(pid, [])
    while found:
        child = found.pop()
        total += used[child]
        found += children.get(child, [])
    return total


def waited_seconds() -> float | None:
    """Return for how long the living threads of this process have waited for a core; ``None`` if unknown."""
    try:
        tasks = [_TASKS / name / "schedstat" for name in os.listdir(_TASKS)]  # noqa: PTH208 - as above
    except OSError:
        return None
    # Nanoseconds that a thread ran, nanoseconds that it was ready to run and waited, number of slices.
    waited = [int(words[1]) for task in tasks if (words := _words(task, b"\n"))]
    return sum(waited) / 1e9 if waited else None


def _words(path: Path, after: bytes) -> list[bytes]:
    """Return the words behind the last `after` of a file, or of all of it; none if its process has ended."""
    try:
        text = path.read_bytes().strip()
    except OSError:
        return []
    return text.rpartition(after)[2].split()


class CoreTicks(NamedTuple):
    """Processor time of some cores since the machine was started."""

    busy: int
    stolen: int
    """By the hypervisor; a part of `busy`, because the case could not use it either."""
    cores: int


def core_ticks(stat: str, allowed: Collection[int]) -> CoreTicks | None:
    """Sum all but idle and I/O wait time of the allowed cores in ``/proc/stat``; `None` if it is malformed.

    Other cores neither take time from a process that is pinned nor give it any.
    """
    busy = stolen = count = 0
    for line in stat.splitlines():
        name, *fields = line.split() or [""]
        if not (name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in allowed):
            continue
        if len(fields) < 8:  # noqa: PLR2004 - up to steal, since Linux 2.6.11
            return None
        user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields[:8])
        busy += user + nice + system + irq + soft + steal
        stolen += steal
        count += 1
    return CoreTicks(busy, stolen, count) if count else None


def contention(before: CpuTimes | None, after: CpuTimes | None, threads: int) -> float | None:
    """Return the share of the processor time of a case with `threads` threads that others took.

    ``None`` if either reading is missing. In less than `SHORTEST_COUNTED` seconds, it is the share for which
    the threads waited, if that is known.
    """
    if before is None or after is None or after.wall <= before.wall:
        return None
    waiting = _waiting(before, after, threads)
    if waiting is not None and after.wall - before.wall < SHORTEST_COUNTED:
        return waiting
    others = (after.machine - before.machine) - (after.own - before.own)
    # Others may use the cores that the case leaves idle without slowing it down.
    spare = max(0, after.cores - threads)
    cores = max(0.0, others / (after.wall - before.wall) - spare)
    share = cores / min(threads, after.cores)
    if after.children - before.children > BUSY_CHILDREN * (after.wall - before.wall):
        # Child processes may work for the case or beside it. What the case waits for decides.
        share = max(share, waiting or 0.0)
    return share


def _waiting(before: CpuTimes, after: CpuTimes, threads: int) -> float | None:
    """Return the share of the time for which a thread waited for a core, from 0 to 1; ``None`` if unknown."""
    if before.waited is None or after.waited is None:
        return None
    waited = (after.waited - before.waited) / min(threads, after.cores)
    return min(max(waited / (after.wall - before.wall), 0.0), 1.0)


def during(before: CpuTimes | None, after: CpuTimes | None, threads: int) -> Contention:
    """Return what others took of a case with `threads` threads between two readings."""
    if before is None or after is None or after.wall <= before.wall:
        return Contention()
    waiting = _waiting(before, after, threads)
    stolen = (after.stolen - before.stolen) / (after.wall - before.wall)
    left = None if waiting is None else max(0.0, 1 - waiting - stolen)
    return Contention(share=contention(before, after, threads), left=left)


def undisturbed(
    before: CpuTimes | None, after: CpuTimes | None, mean: float, calls: int, waited: float | None = None
) -> float | None:
    """Return what remains of the mean time of a call without waiting for a core, at least 0.

    `waited` is the time for which threads waited during the calls; by default, between the readings. The time
    that the hypervisor took counts as waiting. ``None`` if anything of this is unknown.
    """
    if before is None or after is None or after.wall <= before.wall:
        return None
    if waited is None:
        if before.waited is None or after.waited is None:
            return None
        waited = after.waited - before.waited
    stolen = (after.stolen - before.stolen) / (after.wall - before.wall)
    return max(0.0, mean * (1 - stolen) - waited / calls)


def contention_notes(
    share: float | None, first_call: float | None = None, later_passes: float | None = None
) -> tuple[Note, ...]:
    """Return a note on shares that are considerable.

    Spreads are wider from `CONTENDED` on. Of the first call and the passes after the sampling, only budgets
    are judged, which `MAX_CONTENTION` decides.
    """
    shares = (
        (share, CONTENDED, "while it was timed"),
        (first_call, MAX_CONTENTION, "in its first call"),
        (later_passes, MAX_CONTENTION, "in the passes after the sampling"),
    )
    found = [f"{taken:.0%} {when}" for taken, least, when in shares if taken is not None and taken > least]
    if not found:
        return ()
    text = f"other processes took this share of the case's processor time: {', '.join(found)}"
    return (Note(code=NoteCode.CPU_CONTENTION, text=text, hint=IDLE),)

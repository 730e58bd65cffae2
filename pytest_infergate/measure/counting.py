"""The counters of one case: passes of their own, never in a timed call, all from the same random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from pytest_infergate.core.domain.measurement import Counters
from pytest_infergate.core.domain.metrics import COUNTERS
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.gate.counter_changes import collapsed
from pytest_infergate.instruments.device import Device, DeviceCounters, DeviceMemory
from pytest_infergate.measure import memory
from pytest_infergate.measure.seed import seed_all

_T = TypeVar("_T")
_COMPILED = Note(
    code=NoteCode.COMPILED,
    text="torch.compile is at work in the model or in a part of it: operators, FLOPs and bytes are not "
    "counted, what the compiler made is",
)


class Counted(NamedTuple):
    """What the passes brought."""

    counters: Counters
    memory: DeviceMemory
    notes: tuple[Note, ...]


def counted(
    call: Callable[[], object],
    device: Device,
    *,
    compiled: Mapping[str, int],
    weights: Mapping[str, int] | None,
    repetitions: int = 1,
) -> Counted:
    """Count one call, `repetitions` times; the figures are those of the first, the others prove them exact.

    `compiled` is what the compiler counted, empty for an eager model: a compiled one would show the
    operators that it no longer runs. `weights` are the bytes of the model by dtype, where they are known.
    A pass that fails loses its counters, and a note says why.
    """
    rounds = [_round(call, device, eager=not compiled) for _ in range(repetitions)]
    operators, allocated = rounds[0]
    fixed = dict(compiled) if weights is None else {**compiled, "weight_bytes": sum(weights.values())}
    totals = [
        {**fixed, **seen.totals, **_memory(taken, fixed.get("weight_bytes", 0))} for seen, taken in rounds
    ]
    varied = varying(totals)
    return Counted(
        counters=Counters(
            totals=totals[0],
            weights=dict(weights or {}),
            operators=collapsed(operators.work),
            architecture=device.architecture(),
            varying=varied,
        ),
        memory=allocated,
        notes=tuple(note for note in (*operators.notes, allocated.note, varies(varied)) if note),
    )


def varies(varied: Mapping[str, tuple[int, int]]) -> Note | None:
    """Say which counters are not exact; ``None`` where all are."""
    if not varied:
        return None
    shown = (f"{COUNTERS[name].text} ({low:,} to {high:,})" for name, (low, high) in varied.items())
    return Note(
        code=NoteCode.VARIES,
        text=f"{', '.join(shown)} vary from call to call: recorded as such, and not gated",
        hint="look for state that is carried from call to call, or randomness that is not seeded",
    )


def varying(totals: Sequence[Mapping[str, int]]) -> dict[str, tuple[int, int]]:
    """Counters that repetitions do not agree on: the least and the most."""
    found = {}
    for name in totals[0]:
        values = [repetition[name] for repetition in totals if name in repetition]
        if min(values) != max(values):
            found[name] = min(values), max(values)
    return found


def _round(call: Callable[[], object], device: Device, *, eager: bool) -> tuple[DeviceCounters, DeviceMemory]:
    counters = (
        _attempt(lambda: device.count(call), lambda note: DeviceCounters(notes=(note,)), "operators")
        if eager
        else DeviceCounters(notes=(_COMPILED,))
    )
    return counters, _attempt(lambda: device.memory(call), lambda note: DeviceMemory(note=note), "memory")


def _attempt(take: Callable[[], _T], lost: Callable[[Note], _T], what: str) -> _T:
    """Take a pass from seeded random numbers; a note instead where it fails."""
    restore = seed_all()
    try:
        return take()
    except Exception as error:  # noqa: BLE001 - whatever the model raises when somebody looks
        text = f"{what} could not be counted: {type(error).__name__}: {memory.message(error).splitlines()[0]}"
        return lost(
            Note(code=NoteCode.NOT_COUNTED, text=text, hint="the case is measured and gated without them")
        )
    finally:
        restore()


def _memory(taken: DeviceMemory, weights: int) -> dict[str, int]:
    found = {}
    if taken.allocations is not None:
        found["allocations"] = taken.allocations
    if taken.activations is not None:
        found["peak_memory_bytes"] = taken.activations + weights
    return found

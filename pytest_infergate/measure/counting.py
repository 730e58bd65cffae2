"""Exact counters of one case, taken in passes of their own and never in a timed call.

A clock on a shared machine cannot see 5 %; a counter detects a single operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from pytest_infergate.core.domain.measurement import Counters, Memory
from pytest_infergate.core.domain.metrics import COUNTERS
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.places import collapse_places
from pytest_infergate.core.domain.units import bytes_
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.device import Device, DeviceCounters, DeviceMemory, UsedMemory
from pytest_infergate.instruments.python_work import PYTHON, PythonWork, count_python, unknown_python
from pytest_infergate.instruments.timed_calls import RepeatedCall
from pytest_infergate.measure import timing_guard
from pytest_infergate.measure.guarded_device import PASSED_ON, error_line

MAX_UNFOUND_BYTES = 65_536
"""Used tensors of this size in all may be missing in the weights."""
_T = TypeVar("_T")
_COMPILED = Note(
    code=NoteCode.COMPILED,
    text="torch.compile is active in the model or in a part of it: the counters are those of the compiler; "
    "operators, FLOPs and bytes are not counted",
)
_NO_WORK = Note(
    code=NoteCode.NO_WORK,
    text="the call runs no operator of torch, although the model has weights: if it reads an earlier result, "
    "from a file for instance, all figures and the output are of this reading",
    hint="empty its cache in the callable, or give it a new folder in each test",
)


# The allocator of an accelerator is one for all threads.
_OTHER_THREADS = Note(
    code=NoteCode.MEMORY_UNSEEN, text="the allocations of other threads on the CPU cannot be observed"
)


class CountedCall(NamedTuple):
    """Counters and memory of one call."""

    counters: Counters
    memory: DeviceMemory
    notes: tuple[Note, ...]
    """What could not be counted, and which counters vary."""


def count_call(  # noqa: C901 - one branch for each thing that may not be counted
    call: RepeatedCall,
    device: Device,
    *,
    compiled: Mapping[str, int],
    weights: Mapping[str, int] | None,
    unfound: Callable[[Sequence[UsedMemory]], int] = lambda _: 0,
    repetitions: int = 1,
    brief: bool = False,
) -> CountedCall:
    """Count one call `repetitions` times; the first counts, the others show which counters vary.

    With `brief`, for which half of the calls are enough, neither memory nor Python's own work is counted.

    `compiled` are the counters of the compiler, empty for an eager model. `weights` are the bytes of the
    model by dtype, if they are known. `unfound` returns how many bytes of used memory are neither weights nor
    arguments; if they are more than `MAX_UNFOUND_BYTES`, the weights are unknown. If a pass fails, its
    counters are missing, and a note has the reason.
    """
    fixed = dict(compiled) if weights is None else {**compiled, "weight_bytes": sum(weights.values())}
    python = PythonWork()
    unseen: tuple[Note, ...] = ()
    # A tracer runs Python of its own.
    if (tracer := timing_guard.tracer_note()) is not None and not compiled:
        python = PythonWork(note=unknown_python("a tracer is active", tracer.hint))
    rounds: list[tuple[DeviceCounters, DeviceMemory, PythonWork]] = []
    totals: list[dict[str, int]] = []

    def operators_of_call() -> DeviceCounters:
        return _attempt(call, device.count, lambda note: DeviceCounters(notes=(note,)), "operators")

    for repetition in range(repetitions):
        # A compiled model would show the operators that it was traced from, which it does not run any more.
        operators = DeviceCounters(notes=(_COMPILED,)) if compiled else operators_of_call()
        if repetition == 0 and (size := confirmed_unfound(operators, operators_of_call, unfound)):
            weights, fixed, unseen = None, dict(compiled), (unseen_weights_note(size),)
        if brief:
            allocated = DeviceMemory()
        elif operators.other_threads and not device.asynchronous:
            allocated = DeviceMemory(note=_OTHER_THREADS)
        else:
            allocated = _attempt(call, device.memory, lambda note: DeviceMemory(note=note), "memory")
        if operators.other_threads:
            python = PythonWork(note=unknown_python("the call works in other threads as well"))
        # A compiled model runs code objects of the compiler. What was not counted once would not be now.
        if not (compiled or brief) and python.note is None:
            python = _attempt(call, count_python, lambda note: PythonWork(note=note), "Python's own work")
        counts = {**fixed, **operators.totals, **python.totals}
        if allocated.allocations is not None:
            counts["allocations"] = allocated.allocations
        # Activations alone would pass for the peak of a model whose weights are known.
        if allocated.activations is not None and not unseen:
            counts["peak_memory_bytes"] = allocated.activations + fixed.get("weight_bytes", 0)
        rounds.append((operators, allocated, python))
        totals.append(counts)
    operators, allocated, python = rounds[0]
    idle = (_NO_WORK,) if weights and operators.totals.get("operators") == 0 else ()
    differing = varying_counters(totals)
    found = (*operators.notes, *unseen, *idle, allocated.note, python.note, varying_note(differing))
    return CountedCall(
        counters=Counters(
            totals=totals[0],
            weights=dict(weights or {}),
            operators=collapse_places(operators.work),
            architecture=device.architecture(),
            python=PYTHON,
            at_least=python.at_least,
            varying=differing,
            counted=not brief,
        ),
        memory=allocated,
        notes=tuple(filter(None, found)),
    )


def confirmed_unfound(
    operators: DeviceCounters,
    count: Callable[[], DeviceCounters],
    unfound: Callable[[Sequence[UsedMemory]], int],
) -> int:
    """Return the bytes that `unfound` returns for what a call used, and another as well; 0 if they are few.

    What a call reads from a file or makes of an array is elsewhere in another call, because `operators` keeps
    it.
    """
    if unfound(operators.used) <= MAX_UNFOUND_BYTES:
        return 0
    places = {(memory.device, memory.start) for memory in count().used}
    size = unfound([memory for memory in operators.used if (memory.device, memory.start) in places])
    return size if size > MAX_UNFOUND_BYTES else 0


def unseen_weights_note(size: int) -> Note:
    """Return the note on weights that are unknown, because the call uses `size` bytes that were not found."""
    return Note(
        code=NoteCode.WEIGHTS_UNSEEN,
        text=f"weights are unknown: the call uses {bytes_(size)} of tensors that are neither among its "
        "arguments nor found in the model",
        hint="pass inputs as arguments, and keep weights in modules or objects that the callable refers to",
    )


def case_memory(exact: CountedCall, host_peak: int | None) -> Memory:
    """Combine the memory of the weights, the device and the process, in bytes."""
    return Memory(
        weights=exact.counters.totals.get("weight_bytes"),
        activations=exact.memory.activations,
        reserved=exact.memory.reserved,
        host_peak=host_peak,
    )


def uncounted_call(weights: Mapping[str, int] | None, hidden: Note | None = None) -> CountedCall:
    """Return the counters of a call for which there was no time: those of its weights, or why not."""
    known = {} if weights is None else {"weight_bytes": sum(weights.values())}
    counters = Counters(totals=known, weights=dict(weights or {}), counted=False)
    return CountedCall(counters, DeviceMemory(), () if hidden is None else (hidden,))


def with_recount(early: CountedCall, late: CountedCall) -> CountedCall:
    """Mark the counters that a count after the timing does not confirm as varying.

    A later run may find the model in that state, so that these counters are not exact.
    """
    differing = dict(early.counters.varying)
    for name, (low, high) in varying_counters([early.counters.totals, late.counters.totals]).items():
        known = differing.get(name, (low, high))
        differing[name] = min(low, known[0]), max(high, known[1])
    if differing == early.counters.varying:
        return early
    kept = [note for note in early.notes if note.code != NoteCode.VARIES]
    return early._replace(
        counters=msgspec.structs.replace(early.counters, varying=differing),
        notes=(*kept, *filter(None, (varying_note(differing),))),
    )


def with_device_work(counters: Counters, repetitions: Sequence[Mapping[str, int]]) -> Counters:
    """Add the counters of a device's work, if a profiler observed it."""
    if not repetitions:
        return counters
    return msgspec.structs.replace(
        counters,
        totals={**counters.totals, **repetitions[0]},
        varying={**counters.varying, **varying_counters(repetitions)},
    )


def varying_note(varied: Mapping[str, tuple[int, int]]) -> Note | None:
    """Return a note on the counters that vary; ``None`` if all are exact."""
    if not varied:
        return None
    shown = (f"{COUNTERS[name].text} ({low:,} to {high:,})" for name, (low, high) in varied.items())
    return Note(
        code=NoteCode.VARIES,
        text=f"{', '.join(shown)} vary from call to call: they are recorded as varying and not gated",
        hint="look for state that is kept from call to call, or for randomness that is not seeded",
    )


def varying_counters(totals: Sequence[Mapping[str, int]]) -> dict[str, tuple[int, int]]:
    """Return the counters on which repetitions differ, each with its lowest and highest value."""
    ranges = {}
    for name in totals[0]:
        values = [repetition[name] for repetition in totals if name in repetition]
        if min(values) != max(values):
            ranges[name] = min(values), max(values)
    return ranges


def _attempt(
    call: RepeatedCall, take: Callable[[RepeatedCall], _T], failed: Callable[[Note], _T], what: str
) -> _T:
    """Run a pass; if it fails, return `failed` of a note."""
    call.prepare()  # so that restoring the inputs is not counted
    try:
        return take(call)
    except PASSED_ON:
        raise
    except Exception as error:  # noqa: BLE001 - a model may raise anything under an observer
        text = f"{what} could not be counted: {error_line(error)}"
        hint = "the case is measured and gated without these counters"
        return failed(Note(code=NoteCode.NOT_COUNTED, text=text, hint=hint))

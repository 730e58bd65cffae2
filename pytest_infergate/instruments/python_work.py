"""Count the work of Python itself in one call: calls of Python functions, and bytecodes.

Only what the calling thread runs is counted, without infergate's own frames. Counts have no noise: the same
code in the same state gives the same figures on every machine with one minor version of Python.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note

# Each bytecode takes 0.1 to 0.3 us while it is counted. The limit is a number and not a time, so that a call
# is counted on every machine or on none.
MAX_BYTECODES: Final = 5_000_000
"""Number of bytecodes after which the count ends."""
PYTHON: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"
"""Minor version of this interpreter: each has bytecodes of its own."""
_OWN_FILES = f"{Path(__file__).parents[1]}{os.sep}"
# It restores arguments before a call, also by code of others.
_RESTORING = str(Path(__file__).parents[1] / "measure" / "restore.py")
# 3 and 4 have no purpose of their own in PEP 669.
_TOOL_IDS = (3, 4, 5, 2, 1, 0)
_SETTRACE = sys.settrace


class PythonWork(NamedTuple):
    """Python's work in one call, by the names of `core.domain.metrics.COUNTERS`."""

    totals: dict[str, int] = {}  # noqa: RUF012 - never changed
    """Empty if the work was not counted to its end."""
    at_least: dict[str, int] = {}  # noqa: RUF012 - never changed
    """Counts up to `MAX_BYTECODES`, for a call that has more."""
    note: Note | None = None
    """Why totals are missing."""


class _Count(NamedTuple):
    """What was counted of one call until the end, or until the limit."""

    calls: int
    bytecodes: int
    full: bool
    """Whether the limit was reached."""


def count_python(call: Callable[[], object], limit: int = MAX_BYTECODES) -> PythonWork:
    """Run one call and count the calls of Python functions, and the bytecodes that they execute.

    Each resumption of a generator or coroutine counts as a call. A call that starts threads, or sets a
    tracer, is not counted. Exceptions of the call are passed on.
    """
    lost: list[str] = []
    with _without_collections(), _interference(lost):
        if sys.gettrace() is not None:
            lost.append("a tracer is active")
        else:
            count = _monitored(call, limit) if hasattr(sys, "monitoring") else _traced(call, limit)
    if lost:
        return PythonWork(note=unknown_python(lost[0]))
    figures = {"python_calls": count.calls, "bytecodes": count.bytecodes}
    if not count.full:
        return PythonWork(totals=figures)
    why = f"one call executes more than {units.count(limit)} bytecodes"
    hint = "the gate notices only whether far fewer were recorded"
    return PythonWork(at_least=figures, note=unknown_python(why, hint))


def unknown_python(why: str, hint: str = "the case is gated without these counters") -> Note:
    """Return a note on why Python's own work is unknown."""
    return Note(code=NoteCode.NOT_COUNTED, text=f"Python's own work was not counted: {why}", hint=hint)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Disable garbage collection, which may call Python at any moment."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _interference(lost: list[str]) -> Iterator[None]:
    """Notice what makes a count wrong: new threads, and tracers that the call sets, even for a part of it.

    The work of new threads is not counted, and how long a call waits for them is not exact.
    """
    own, settrace, in_threads = threading.get_ident(), sys.settrace, threading.gettrace()

    def in_new_thread(_frame: object, _event: str, _arg: object) -> None:
        lost.append("the call starts threads")
        settrace(None)  # the new thread continues without a tracer

    def noticed(function: Any) -> None:
        if threading.get_ident() == own:
            lost.append("the call sets a tracer of its own")
        settrace(function)

    threading.settrace(in_new_thread)  # type: ignore[arg-type, unused-ignore]
    sys.settrace = noticed
    try:
        yield
    finally:
        sys.settrace = settrace
        threading.settrace(in_threads)  # type: ignore[arg-type, unused-ignore]


def _traced(call: Callable[[], object], limit: int) -> _Count:
    """Count with a trace function, before Python 3.12."""
    calls = bytecodes = restoring = 0
    settrace = _SETTRACE

    def in_restoring(_frame: object, event: str, _arg: object) -> None:
        nonlocal restoring
        restoring -= event == "return"

    def in_frame(frame: Any, event: str, _arg: object) -> None:
        nonlocal bytecodes
        if event == "opcode":
            bytecodes += 1
            if bytecodes >= limit:
                settrace(None)
        elif event == "return":
            frame.f_trace_opcodes = False  # a generator may be resumed under another tracer

    def on_call(frame: Any, _event: str, _arg: object) -> Callable[..., None] | None:
        nonlocal calls, restoring
        file = frame.f_code.co_filename
        frame.f_trace_lines = False
        if file == _RESTORING:
            restoring += 1
            return in_restoring
        if restoring or file.startswith(_OWN_FILES):
            return None
        calls += 1
        frame.f_trace_opcodes = True
        return in_frame

    # Not in a context manager, whose frames would be counted.
    settrace(on_call)
    try:
        output = call()
    finally:
        settrace(None)
    del output  # what its finalizers do in Python is not a part of the call
    return _Count(calls, bytecodes, bytecodes >= limit)


def _monitored(call: Callable[[], object], limit: int) -> _Count:
    """Count with `sys.monitoring`, from Python 3.12 on."""
    calls = bytecodes = restoring = 0
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
    events = monitoring.events
    tool = next(tool for tool in _TOOL_IDS if monitoring.get_tool(tool) is None)
    current, own = threading.get_ident, threading.get_ident()

    def on_call(code: Any, *_: object) -> None:
        nonlocal calls, restoring
        if current() == own:
            restoring += code.co_filename == _RESTORING
            calls += not (restoring or code.co_filename.startswith(_OWN_FILES))

    def on_return(code: Any, *_: object) -> None:
        nonlocal restoring
        restoring -= current() == own and code.co_filename == _RESTORING

    def on_bytecode(code: Any, *_: object) -> None:
        nonlocal bytecodes
        if current() == own and not restoring and not code.co_filename.startswith(_OWN_FILES):
            bytecodes += 1
            if bytecodes >= limit:
                monitoring.set_events(tool, 0)

    callbacks: dict[int, Callable[..., None]] = {
        **dict.fromkeys((events.PY_START, events.PY_RESUME, events.PY_THROW), on_call),
        **dict.fromkeys((events.PY_RETURN, events.PY_YIELD, events.PY_UNWIND), on_return),
        events.INSTRUCTION: on_bytecode,
    }
    monitoring.use_tool_id(tool, "infergate")
    try:
        for event, callback in callbacks.items():
            monitoring.register_callback(tool, event, callback)
        monitoring.set_events(tool, sum(callbacks))
        output = call()
    finally:
        monitoring.set_events(tool, 0)
        for event in callbacks:
            monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)
    del output  # what its finalizers do in Python is not a part of the call
    return _Count(calls, bytecodes, bytecodes >= limit)

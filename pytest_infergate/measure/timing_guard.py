"""Conditions that make the times of a case invalid."""

from __future__ import annotations

import inspect
import io
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any, Final

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.measurement import Measurement, Peaks
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.nested import Graph
from pytest_infergate.measure.torch_compile import graph_count

_NO_COVERAGE = "disable it for inference tests; with pytest-cov, use --no-cov"
# Winograd's algorithm needs a quarter of the counted operations, and narrow dtypes are faster than those of
# the probes. A time without waiting is wrong by orders of magnitude.
FASTER_THAN_PEAK: Final = 10
_WAIT: Final = "check that the device is waited for: synchronize() must return only when all work is done"
_FUTURES: Final = (
    ("concurrent.futures", "Future"),
    ("multiprocessing.pool", "AsyncResult"),
    ("torch", "Future"),
)
"""Classes of results that a thread, process or device makes, by module."""
_EXISTING: Final[tuple[Any, ...]] = (
    [], (), set(), "", "é", b"", bytearray(), range(0), range(2**64), {}, {}.values(), {}.items()
)  # fmt: skip
# Iterators over what exists already, and over numbers.
_FINISHED: Final[tuple[Any, ...]] = (
    io.IOBase, itertools.count, itertools.repeat, type(reversed([])),
    *(type(iter(each)) for each in _EXISTING),
)  # fmt: skip


def tracer_note() -> Note | None:
    """Return a note on an active coverage tracer, debugger or profiler, which slows each Python line down."""
    tracer = sys.gettrace() or sys.getprofile()
    if tracer is not None:
        named = tracer if hasattr(tracer, "__qualname__") else type(tracer)
        return _tracing(f"{named.__module__}.{named.__qualname__}")
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is not None:
        for tool in range(6):  # tool ids of PEP 669
            name = monitoring.get_tool(tool)
            if name is not None and monitoring.get_events(tool):
                return _tracing(str(name))
    profiling = getattr(sys.modules.get("torch.autograd"), "_profiler_enabled", None)
    if profiling is not None and profiling():
        return _tracing("torch.profiler", hint="measure outside the context of the profiler")
    return None


def _tracing(name: str, hint: str = _NO_COVERAGE) -> Note:
    return Note(code=NoteCode.TRACER, text=f"a tracer was active while timing: {name}", hint=hint)


def unfinished_output_note(output: object) -> Note | None:
    """Return a note if something in an output has work that is done later or never.

    That is a coroutine, a future or another awaitable anywhere, and an iterator inside of the output. An
    output that is an iterator itself is a stream, which is consumed.
    """
    futures = [getattr(sys.modules.get(module), name, None) for module, name in _FUTURES]
    unfinished = (Awaitable, AsyncIterator, *(kind for kind in futures if kind is not None))
    graph, found = Graph(output), []
    for value in (*graph.leaves, *(node for node, _ in graph.nodes.values())):
        kind = type(value)
        iterator = issubclass(kind, Iterator) and not issubclass(kind, _FINISHED) and value is not output
        if iterator or issubclass(kind, unfinished):
            found.append(value)
        if inspect.iscoroutine(value):
            value.close()  # otherwise Python warns that it was never awaited
    if not found:
        return None
    place = graph.place_of(found[0])
    holds = "returned" if place == "output" else f"returned, in {place},"
    return Note(
        code=NoteCode.UNFINISHED_OUTPUT,
        text=f"the call {holds} a {type(found[0]).__name__} before its work was done",
        hint="pass infer a callable that makes a list of it"
        if isinstance(found[0], Iterator)
        else "in a test that is an ordinary function, pass infer a callable that waits for the result: "
        "lambda: asyncio.run(model(x))",
    )


def too_fast_note(measurement: Measurement, peaks: Peaks | None) -> Note | None:
    """Return a note if calls took less time than their kernels, or than their FLOPs at the device's peak."""
    if measurement.latency is None:
        return None
    seconds, flops = measurement.latency.p50.value, measurement.counters.totals.get("flops")
    kernels = measurement.device_time
    if kernels is not None and kernels > FASTER_THAN_PEAK * seconds:
        return Note(
            code=NoteCode.TOO_FAST,
            text=f"a call took {units.seconds(seconds)}, and its kernels {units.seconds(kernels)}",
            hint=_WAIT,
        )
    if peaks is None or not peaks.flops or not flops:
        return None
    fastest = max(peaks.flops.values())
    if flops <= FASTER_THAN_PEAK * fastest * seconds:
        return None
    return Note(
        code=NoteCode.TOO_FAST,
        text=f"a call of {flops:.3g} FLOPs took {seconds:.3g} s, and the device reaches {fastest:.3g} FLOP/s",
        hint=_WAIT,
    )


def contradiction_note(measurement: Measurement) -> Note | None:
    """Return a note if a part of a call took longer than calls as a whole.

    The part is the time until it returns, or that of its kernels. Streams that overlap, and noise, make the
    times of parts larger than the median: they are compared with the slowest of all calls.
    """
    if measurement.latency is None:
        return None
    slowest = measurement.latency.percentiles[-1]
    parts = {"until it returned": measurement.enqueue, "in its kernels": measurement.device_time}
    longer = [f"{units.seconds(part)} {name}" for name, part in parts.items() if part and part > slowest]
    if not longer:
        return None
    return Note(
        code=NoteCode.TIMES_DISAGREE,
        text=f"a call took {' and '.join(longer)}, and the slowest call {units.seconds(slowest)} as a whole",
        hint="kernels of several streams overlap, another process disturbed one of the passes, or "
        "synchronize() does not wait",
    )


class GraphCounter:
    """Counts the graphs that torch.compile makes from now on."""

    def __init__(self) -> None:
        self._begin = graph_count()

    def since(self) -> int:
        """Return the number of graphs made since the last query."""
        begin, self._begin = self._begin, graph_count()
        return self._begin - begin


def recompiled_note(warm_up_graphs: int, measured_graphs: int) -> Note | None:
    """Return a note if torch.compile was still compiling when timing began."""
    # Dynamo stops compiling a function after this many graphs, and the function then runs uncompiled. Where
    # the warm-up reached the limit, the sampling times an uncompiled model without a further graph.
    limit = getattr(sys.modules.get("torch._dynamo.config"), "recompile_limit", None)
    if measured_graphs > 0:
        text = f"torch.compile made {units.plural(measured_graphs, 'more graph')} while measuring"
    elif limit is not None and warm_up_graphs >= limit - 1:
        text = (
            f"torch.compile made {units.plural(warm_up_graphs, 'more graph')} while warming up; "
            f"it stops compiling at a limit of {limit}"
        )
    else:
        return None
    return Note(
        code=NoteCode.RECOMPILED,
        text=text,
        hint="keep shapes fixed within a case, or mark dynamic dimensions before the first call",
    )

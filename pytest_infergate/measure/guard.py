"""What must not be going on while a case is timed, and what went on although it must not."""

from __future__ import annotations

import sys

from pytest_infergate.core.model import Note

_NO_COVERAGE = "switch it off for inference tests, with pytest-cov: --no-cov"


def active_tracer() -> Note | None:
    """Name the coverage tracer, debugger or profiler that would slow every Python line, if there is one."""
    tracer = sys.gettrace() or sys.getprofile()
    if tracer is not None:
        owner = type(tracer).__module__ if not hasattr(tracer, "__module__") else tracer.__module__
        return _tracing(f"{owner}.{getattr(tracer, '__qualname__', type(tracer).__qualname__)}")
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is not None:
        for tool in range(6):
            name = monitoring.get_tool(tool)
            if name is not None and monitoring.get_events(tool):
                return _tracing(str(name))
    return None


def _tracing(name: str) -> Note:
    return Note(code="tracer", text=f"a tracer was active while timing: {name}", cure=_NO_COVERAGE)


def compilations() -> int:
    """Graphs that torch.compile has made so far in this process; 0 where it was never loaded."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return 0 if dynamo is None else int(dynamo.counters["stats"]["unique_graphs"])

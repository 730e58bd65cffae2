"""What must not be going on while a case is timed, and what went on although it must not."""

from __future__ import annotations

import concurrent.futures
import inspect
import sys
from collections.abc import AsyncIterator

from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.measure.compiler import graphs_made

_NO_COVERAGE = "switch it off for inference tests, with pytest-cov: --no-cov"


def active_tracer() -> Note | None:
    """Name the coverage tracer, debugger or profiler that would slow every Python line, if there is one."""
    tracer = sys.gettrace() or sys.getprofile()
    if tracer is not None:
        named = tracer if hasattr(tracer, "__qualname__") else type(tracer)
        return _tracing(f"{named.__module__}.{named.__qualname__}")
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is not None:
        for tool in range(6):
            name = monitoring.get_tool(tool)
            if name is not None and monitoring.get_events(tool):
                return _tracing(str(name))
    if _torch_profiles():
        return _tracing("torch.profiler", hint="measure outside the profiler's context")
    return None


def _tracing(name: str, hint: str = _NO_COVERAGE) -> Note:
    return Note(code=NoteCode.TRACER, text=f"a tracer was active while timing: {name}", hint=hint)


def _torch_profiles() -> bool:
    autograd = sys.modules.get("torch.autograd")
    enabled = getattr(autograd, "_profiler_enabled", None)
    return enabled is not None and bool(enabled())


def unfinished(output: object) -> Note | None:
    """Say that a call handed out a promise and did its work later, or never."""
    if inspect.isawaitable(output) or isinstance(output, (AsyncIterator, concurrent.futures.Future)):
        if inspect.iscoroutine(output):
            output.close()  # else Python warns that nobody awaited it
        return Note(
            code=NoteCode.UNFINISHED_OUTPUT,
            text=f"the call returned a {type(output).__name__} before its work was done",
            hint="give infer a callable that waits for the result, such as one around asyncio.run",
        )
    return None


class Compilations:
    """Counts graphs that torch.compile makes from now on; 0 where it is never loaded."""

    def __init__(self) -> None:
        self._begin = graphs_made()

    def since(self) -> int:
        """Graphs made since the last time this was asked."""
        begin, self._begin = self._begin, graphs_made()
        return self._begin - begin


def recompiled(warming: int, measuring: int) -> Note | None:
    """Say that torch.compile was not done when timing began.

    A model that is compiled anew by every call is given up after so many times and runs uncompiled.
    """
    limit = _limit()
    if measuring > 0:
        text = f"torch.compile made {measuring} more graphs while measuring"
    elif limit is not None and warming >= limit - 1:
        text = f"torch.compile made {warming} more graphs while warming up, at a limit of {limit} it gives up"
    else:
        return None
    return Note(
        code=NoteCode.RECOMPILED,
        text=text,
        hint="keep shapes fixed within a case, or mark dynamic dimensions before the first call",
    )


def _limit() -> int | None:
    """How many graphs dynamo makes of one function before it gives up; `None` where it is not known."""
    config = sys.modules.get("torch._dynamo.config")
    return getattr(config, "recompile_limit", None)

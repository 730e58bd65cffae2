"""Detects work of torch in other threads of Python, which a dispatch mode does not see. Imports torch."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch._C._profiler import _ExperimentalConfig
from torch.autograd import _profiler_enabled  # type: ignore[attr-defined]
from torch.autograd.profiler import profile

from pytest_infergate.instruments.profiling import quiet


@contextmanager
def operators_of_other_threads() -> Iterator[set[str]]:
    """Collect, until exit, the names of operators that other threads of Python run.

    Threads of torch itself do not count: the parts of an operator, forked functions of TorchScript, and
    gradients are counted with the thread that asks for them. Nothing is found while another profiler is
    active.
    """
    found: set[str] = set()
    if _profiler_enabled():
        yield found
        return
    own = threading.get_native_id()
    threads: set[int | None] = set()
    former = threading.getprofile()

    def started(*event: Any) -> None:
        """Record a thread in its first event, and set what profiles it without us."""
        threads.add(threading.get_native_id())
        sys.setprofile(former)
        if former is not None:
            former(*event)

    threading.setprofile(started)
    try:
        config = _ExperimentalConfig(profile_all_threads=True)
        with quiet(), profile(use_kineto=True, experimental_config=config) as recorded:
            yield found
    finally:
        threading.setprofile(former)
    # Threads of a pool are older than the call.
    threads |= {thread.native_id for thread in threading.enumerate()}
    results = recorded.kineto_results
    events = () if results is None else results.events()
    found |= {event.name() for event in events if event.device_resource_id() in threads - {own}}

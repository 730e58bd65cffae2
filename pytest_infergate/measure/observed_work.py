"""The work of one call as torch's profiler sees it. Imports torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.autograd import _profiler_enabled  # type: ignore[attr-defined]
from torch.autograd.profiler import profile

from pytest_infergate.instruments.profiling import quiet
from pytest_infergate.measure.same_work import ObservedWork


def observed(call: Callable[[], Any]) -> tuple[Any, ObservedWork | None]:
    """Call once; return the result and its work, or `None` where the profiler cannot be used.

    The profiler adds about a microsecond to each operator. It is lighter than counting in the dispatcher,
    and observes the first call without changing which kernels run.
    """
    if _profiler_enabled():
        return call(), None
    with quiet(), profile(use_kineto=True, record_shapes=True, with_flops=True) as recorded:
        result = call()
    if recorded.kineto_results is None:
        return result, None
    events = recorded.kineto_results.events()
    return result, ObservedWork(len(events), sum(event.flops() for event in events))

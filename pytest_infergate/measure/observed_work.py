"""The work of one call as torch's profiler sees it. Imports torch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import _profiler_enabled  # type: ignore[attr-defined]
from torch.autograd.profiler import profile

from pytest_infergate.instruments import flops
from pytest_infergate.instruments.profiling import quiet
from pytest_infergate.measure.same_work import ObservedWork

_is_product = functools.cache(flops.is_product)


def observed(call: Callable[[], Any], *, sizes: bool) -> tuple[Any, ObservedWork | None]:
    """Call once; return the result and its work, or `None` where the profiler cannot be used.

    The profiler is lighter than counting in the dispatcher, and does not change which kernels run. It adds
    less than a microsecond to each operator, and some microseconds with `sizes`, which FLOPs need.
    """
    if _profiler_enabled():
        return call(), None
    with quiet(), profile(use_kineto=True, record_shapes=sizes, with_flops=sizes) as recorded:
        result = call()
    if recorded.kineto_results is None:
        return result, None
    events = recorded.kineto_results.events()
    # In fused parts of a graph, oneDNN multiplies without operators.
    sized = sizes and not torch.jit.onednn_fusion_enabled()  # type: ignore[no-untyped-call]
    return result, ObservedWork(
        operators=len(events),
        products=sum(_is_product(event.name()) for event in events),
        flops=sum(event.flops() for event in events) if sized else None,
    )

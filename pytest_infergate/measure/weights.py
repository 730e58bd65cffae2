"""Bytes of the weights of a model. Imports torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch._subclasses import FakeTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from pytest_infergate.measure.module_search import Held


def weight_bytes(found: Held) -> dict[str, int] | None:
    """Return the bytes of memory that tensors hold, by dtype; `None` if they are unknown.

    Memory counts once, whether several tensors share it or one is expanded, and whole if a tensor shows a
    part of it. Unknown are packed weights, layouts without a storage, lazy modules before their first call,
    and callables without any module or tensor.
    """
    if not found.complete or not (found.modules or found.tensors):
        return None
    if any(torch.nn.parameter.is_lazy(tensor) for tensor in found.tensors):
        return None
    spans: list[_Span] = []
    for tensor in found.tensors:
        own = [_span(part) for part in _parts(tensor)]
        spans += filter(None, own)
        if None in own:
            return None
    sizes: Counter[str] = Counter()
    reached: dict[object, int] = {}
    # In the order of addresses, so that memory which overlaps counts once.
    for span in sorted(spans, key=lambda span: span.start):
        begin = max(span.start, reached.get(span.memory, 0))
        reached[span.memory] = max(begin, span.end)
        sizes[span.dtype] += reached[span.memory] - begin
    return dict(sorted(sizes.items()))


class _Span(NamedTuple):
    """A piece of memory."""

    memory: object
    """The device, or the storage itself if it has no address."""
    start: int
    end: int
    dtype: str


def _parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the tensors that a tensor consists of: itself, or its values and indices, or those it wraps."""
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from _parts(getattr(tensor, name))
    elif tensor.layout is torch.sparse_coo:
        yield from (tensor._indices(), tensor._values())  # noqa: SLF001 - values() requires a coalesced tensor
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        yield from (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        yield from (tensor.ccol_indices(), tensor.row_indices(), tensor.values())
    else:
        yield tensor
        if tensor.is_quantized and "channel" in str(tensor.qscheme()):
            yield from (tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points())


def _span(tensor: torch.Tensor) -> _Span | None:
    """Return the memory of a tensor; `None` if it is unknown."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    try:
        storage = tensor.untyped_storage()
        size, start = storage.nbytes(), 0 if isinstance(tensor, FakeTensor) else storage.data_ptr()
    except (NotImplementedError, RuntimeError):  # opaque layouts, such as that of oneDNN
        return None
    if start or not size:
        return _Span(tensor.device, start, start + size, dtype)
    if tensor.is_meta or isinstance(tensor, FakeTensor):  # without memory, but of a known size
        return _Span(storage._cdata, 0, size, dtype)  # noqa: SLF001 - has no public name
    return None  # a class that keeps its data elsewhere


def is_lazy(module: torch.nn.Module) -> bool:
    """Return whether a module has parameters whose shapes are unknown until its first input."""
    own = (*module._parameters.values(), *module._buffers.values())  # noqa: SLF001 - buffers() would recurse
    return any(tensor is not None and torch.nn.parameter.is_lazy(tensor) for tensor in own)

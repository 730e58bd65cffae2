"""Bytes of the weights of a model. Imports torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch._subclasses import FakeTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.device import UsedMemory
from pytest_infergate.instruments.nested import loaded
from pytest_infergate.instruments.tensors import past_class, sparse_parts
from pytest_infergate.measure.module_search import Held

_NOTHING = Held()
CONSIDERABLE_BYTES = 1_000_000
"""Tensors that may be weights, or inputs, decide about the weights if they have this size together."""


def weight_bytes(found: Held, given: Held = _NOTHING) -> dict[str, int] | None:
    """Return the bytes of memory that tensors hold, by dtype; `None` if they are unknown.

    Memory counts once, whether several tensors share it or one is expanded, and whole if a tensor shows a
    part of it. Unknown are packed weights, layouts without a storage, lazy modules before their first call,
    callables without any module or tensor, those that close over large tensors, which may be inputs, and
    objects that hide memory.
    `given` is what the arguments of the call refer to: their tensors are inputs.
    """
    if any(map(torch.nn.parameter.is_lazy, found.tensors)):
        return None
    spans = _spans(found.tensors)
    inputs = _Known(_spans((*given.shared, *given.tensors, *given.closed)))
    shared = inputs.others(_spans(found.shared))
    closed = _Known(spans).others(inputs.others(_spans(found.closed)))
    if _size(shared) >= CONSIDERABLE_BYTES:
        spans += shared
    if found.hidden or not found.complete or not (found.modules or spans) or None in spans:
        return None
    if _size(closed) >= CONSIDERABLE_BYTES:
        return None
    # A template on the meta device beside the weights holds no memory; a whole model there is described.
    held = [span for span in spans if span is not None and span.start]
    return dict(sorted(_by_dtype(held or spans).items()))


def hidden_note(found: Held) -> Note | None:
    """Return a note on what holds memory that cannot be seen; ``None`` if nothing does."""
    if not found.hidden:
        return None
    return Note(
        code=NoteCode.WEIGHTS_UNSEEN,
        text=f"weights are unknown: the model holds memory that may be weights in {', '.join(found.hidden)}",
        hint="limit host_memory_mb instead of weights and peak memory, or keep such objects elsewhere",
    )


def unfound_bytes(found: Held, given: Held, used: Iterable[UsedMemory]) -> int:
    """Return the bytes of memory that a call used and that is neither found nor that of its arguments.

    Large tensors that the callable closes over may be weights as well as inputs: they are not found.
    """
    spans = _spans((*given.tensors, *given.shared, *given.closed, *found.tensors, *found.shared))
    closed = _Known(spans).others(_spans(found.closed))
    known = _Known(spans if _size(closed) >= CONSIDERABLE_BYTES else (*spans, *closed))
    return sum(
        size
        for device, start, size, _ in used
        if not known.includes(_Span(torch.device(device), start, start + size, ""))
    )


class _Span(NamedTuple):
    """A piece of memory."""

    memory: object
    """The device, or the storage itself if it has no address."""
    start: int
    end: int
    dtype: str


class _Known:
    """Pieces of memory."""

    def __init__(self, spans: Iterable[_Span | None]) -> None:
        self._spans = list(filter(None, spans))
        self._starts = {(span.memory, span.start) for span in self._spans}

    def includes(self, other: _Span) -> bool:
        """Return whether any piece overlaps another."""
        return (other.memory, other.start) in self._starts or any(
            span.memory == other.memory and span.start < other.end and other.start < span.end
            for span in self._spans
        )

    def others(self, spans: Iterable[_Span | None]) -> list[_Span | None]:
        """Return the spans that do not overlap any of these."""
        return [span for span in spans if span is None or not self.includes(span)]


def _spans(values: Iterable[Any]) -> list[_Span | None]:
    """Return the memory of tensors and of arrays of NumPy; ``None`` for what is unknown."""
    spans: list[_Span | None] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            with past_class():
                spans += map(_span, _parts(value))
            continue
        array = _owner(value)
        address = array.__array_interface__["data"][0]
        reach = [(count - 1) * stride for count, stride in zip(array.shape, array.strides, strict=True)]
        start = address + sum(min(0, each) for each in reach)
        end = address + sum(max(0, each) for each in reach) + array.itemsize if array.size else start
        spans.append(_Span(torch.device("cpu"), start, end, str(array.dtype)))
    return spans


def _owner(array: Any) -> Any:
    """Return the array whose memory a view keeps."""
    kind = loaded("numpy").ndarray
    while True:
        base = array.base
        if not isinstance(base, kind):
            base = getattr(base, "base", None)  # numpy.lib.stride_tricks puts an object in between
        if not isinstance(base, kind):
            return array
        array = base


def _size(spans: Iterable[_Span | None]) -> int:
    return sum(_by_dtype(spans).values())


def _by_dtype(spans: Iterable[_Span | None]) -> Counter[str]:
    """Return the bytes of memory by dtype, each piece once."""
    sizes: Counter[str] = Counter()
    reached: dict[object, int] = {}
    # In the order of addresses, so that memory which overlaps counts once.
    for span in sorted(filter(None, spans), key=lambda span: span.start):
        begin = max(span.start, reached.get(span.memory, 0))
        reached[span.memory] = max(begin, span.end)
        sizes[span.dtype] += reached[span.memory] - begin
    return sizes


def _parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the tensors that a tensor consists of: itself, or its values and indices, or those it wraps."""
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from _parts(getattr(tensor, name))
    elif parts := sparse_parts(tensor):
        yield from parts
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

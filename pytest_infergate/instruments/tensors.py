"""Tensors and arrays in nested values: moving, copying and describing them. Does not import torch."""

from __future__ import annotations

import array
import copy
import io
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from pytest_infergate.instruments.nested import Graph, as_array, is_array, is_tensor, loaded

if TYPE_CHECKING:
    import torch


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield all tensors that a value holds, in order."""
    graph = Graph(value)
    fixed = _fixed_on_cpu(graph)
    yield from (leaf for leaf in graph.leaves if is_tensor(leaf) and id(leaf) not in fixed)


def _fixed_on_cpu(graph: Graph) -> set[int]:
    """Return the ids of tensors that torch requires on the CPU: the batch sizes of packed sequences."""
    rnn = sys.modules.get("torch.nn.utils.rnn")
    if rnn is None:
        return set()
    return {
        id(value.batch_sizes) for value, _ in graph.nodes.values() if isinstance(value, rnn.PackedSequence)
    }


def to_device(
    value: Any,
    device: str,
    dtype: torch.dtype | None = None,
    stored: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Any:
    """Move all tensors to a device, and cast floating ones if a dtype is given.

    `stored` returns a moved tensor in the memory format that it should have.

    What holds a moved tensor is copied: containers and plain objects, such as a key-value cache.
    """
    graph = Graph(value)
    fixed = _fixed_on_cpu(graph)

    def move(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta and device != "meta":  # there is nothing to move
            return tensor
        moved = tensor.to(device, dtype if dtype is not None and tensor.is_floating_point() else None)
        return moved if stored is None else stored(moved)

    return graph.rebuilt(
        lambda leaf: first_possible(leaf, move) if is_tensor(leaf) and id(leaf) not in fixed else leaf
    )


def clone_tensors(value: Any) -> Any:
    """Copy a result on its device, before the next call overwrites it (CUDA graphs, buffers and caches do).

    Copied are tensors and arrays with their attributes, buffers, containers and plain objects. Not copied are
    modules, classes, functions, files, locks and what else belongs to the process, and tensors whose class
    refuses it.
    """

    def copied(leaf: Any) -> Any:
        if is_tensor(leaf):
            return with_gradient(leaf, loaded("torch").clone)
        return _copied_array(leaf)

    return Graph(value).rebuilt(copied, fresh=True)


def gradient_of(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the gradient that a tensor holds, which may be what a model computes, such as forces."""
    with past_class():
        return tensor.grad if tensor.is_leaf else None


def with_gradient(tensor: torch.Tensor, way: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return a copy of a tensor with a copy of its gradient; the tensor itself if it cannot be copied."""
    gradient = gradient_of(tensor)
    if gradient is None:
        return first_possible(tensor, way, copy.deepcopy, or_itself=True)
    copied = first_possible(tensor, lambda each: way(each.detach()), copy.deepcopy, or_itself=True)
    if copied is not tensor:
        copied.grad = way(gradient.detach())
    return copied


def copy_to_cpu(value: Any) -> Any:
    """Copy a result to the CPU as normal tensors, which a test may change and differentiate through.

    Other values are copied as by `clone_tensors`. To be called outside inference mode, in which the copies
    would be inference tensors again.
    """

    def copied(leaf: Any) -> Any:
        if not is_tensor(leaf):
            return _copied_array(leaf)
        return with_gradient(leaf, on_cpu)

    def on_cpu(tensor: torch.Tensor) -> torch.Tensor:
        plain = tensor.detach()
        if plain.layout is loaded("torch")._mkldnn:  # noqa: SLF001 - has no public name
            plain = plain.to_dense()
        return plain if plain.is_meta else plain.to("cpu", copy=True)

    return Graph(value).rebuilt(copied, fresh=True)


def first_possible(
    tensor: torch.Tensor, *ways: Callable[[torch.Tensor], torch.Tensor], or_itself: bool = False
) -> torch.Tensor:
    """Return the result of the first way to copy or move a tensor that it does not refuse, in its class.

    If its class refuses all of them, they are tried past its functions. If none is possible, the tensor
    itself is returned, or the error of the first way is raised. That of memory which runs out always is.
    """
    refused: list[Exception] = []
    for context in (nullcontext, past_class):
        for way in ways:
            try:
                with context():
                    return _in_class_of(tensor, way(tensor))
            except Exception as error:  # noqa: PERF203 - the code of any class
                if not is_refusal(error):
                    raise
                refused.append(error)
    if or_itself:
        return tensor
    raise refused[0]


def past_class() -> AbstractContextManager[Any]:
    """Return a context in which classes of tensors cannot refuse or change operators and attributes.

    Those with operators of their own, such as classes that wrap tensors, still can.
    """
    torch = loaded("torch")
    context: AbstractContextManager[Any] = (
        nullcontext() if torch is None else torch._C.DisableTorchFunctionSubclass()  # noqa: SLF001 - see above
    )
    return context


def is_refusal(error: Exception) -> bool:
    """Return whether an exception may mean that a tensor refuses an operator, and not a lack of memory."""
    return not isinstance(error, MemoryError) and "memory" not in str(error).lower()


def _in_class_of(original: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in the subclass of another: operators of some subclasses return plain tensors.

    A copy of a parameter stays a plain tensor, because it is the result of an operator.
    """
    torch, kind = loaded("torch"), type(original)
    # A class with its own implementation knows when it returns a plain tensor.
    lost = type(tensor) is not kind and kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__
    return tensor.as_subclass(kind) if lost and not isinstance(original, torch.nn.Parameter) else tensor


def _copied_array(leaf: Any) -> Any:  # noqa: PLR0911 - one for each kind
    """Copy an array, a record or a buffer; return anything else unchanged."""
    numpy = loaded("numpy")
    if is_array(leaf) and not leaf.dtype.hasobject:
        return leaf.copy(order="K")
    if numpy is not None and isinstance(leaf, (numpy.ndarray, numpy.void)):
        # A record is a view of its array. Objects in its fields may refuse to be copied.
        with suppress(Exception):
            return copy.deepcopy(leaf)
        return leaf.copy()
    if isinstance(leaf, (bytearray, array.array)) or type(leaf) in (io.BytesIO, io.StringIO):
        return copy.copy(leaf)
    ctypes: Any = sys.modules.get("ctypes")
    if ctypes is not None and isinstance(
        leaf, (ctypes.Array, ctypes.Structure, ctypes.Union, ctypes.c_int.__base__)
    ):
        # Memory that it keeps alive for its pointers would not be kept by a copy.
        return leaf if leaf._objects else type(leaf).from_buffer_copy(leaf)  # noqa: SLF001 - has no public name
    if isinstance(leaf, memoryview):
        copied: Any = memoryview(bytearray(leaf))
        with suppress(ValueError):  # records and complex numbers, which only numpy can read
            return copied if copied.format == leaf.format else copied.cast(leaf.format, leaf.shape)
        return leaf if numpy is None else memoryview(numpy.array(leaf))
    return leaf


def signature(value: Any) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Return shape and dtype of each tensor and array.

    A nested tensor, which has no shape, has that of its values. The dtype of an array begins with ``numpy.``.
    """
    found: list[tuple[tuple[int, ...], str]] = []
    for leaf in Graph(value).leaves:
        if is_tensor(leaf):
            with past_class():
                shape = (leaf.values() if leaf.is_nested else leaf).size()
                found.append((tuple(shape), str(leaf.dtype).removeprefix("torch.")))
        elif is_array(leaf):
            found.append((leaf.shape, f"numpy.{leaf.dtype}"))
    return tuple(found)


def count_nan(value: Any) -> tuple[int, int]:
    """Return how many floating and complex values are NaN, and how many there are.

    They are elements of tensors, arrays, buffers and tables, and numbers of Python.
    """
    nan = total = 0
    graph = Graph(value)
    for leaf in [*graph.leaves, *_columns(graph)]:
        if is_tensor(leaf):
            tensors_nan, numbers = _nan_of(leaf)
            nan, total = nan + tensors_nan, total + numbers
        elif (elements := as_array(leaf)) is not None:
            for column in [elements[name] for name in elements.dtype.names or ()] or [elements]:
                if column.dtype.kind in "fc":
                    nan += int(loaded("numpy").isnan(column).sum())
                    total += column.size
        elif isinstance(leaf, (array.array, memoryview)):
            view: Any = memoryview(leaf)
            if view.format in ("f", "d") and view.c_contiguous and view.nbytes:
                flat = view.cast("B").cast(view.format)
                nan, total = nan + sum(map(operator.ne, flat, flat)), total + len(flat)
        elif isinstance(leaf, (float, complex)):
            nan += leaf != leaf  # noqa: PLR0124 - NaN alone is unequal to itself
            total += 1
    return nan, total


def _columns(graph: Graph) -> Iterator[Any]:
    """Yield the columns of floating and complex values of the tables of pandas, as arrays."""
    pandas: Any = sys.modules.get("pandas")
    for value, _ in graph.nodes.values() if pandas is not None else ():
        if isinstance(value, (pandas.DataFrame, pandas.Series)):
            for column in (
                [value] if isinstance(value, pandas.Series) else [item for _, item in value.items()]
            ):
                # Columns of some types have missing values beside NaN, which asarray would make NaN.
                missing = getattr(column.dtype, "na_value", None) is pandas.NA
                if not missing and getattr(column.dtype, "kind", "") in ("f", "c"):
                    yield loaded("numpy").asarray(column)


def _nan_of(tensor: torch.Tensor) -> tuple[int, int]:
    try:
        with past_class():
            values = _values(tensor)
            floating = values.is_floating_point() or values.is_complex()
            if floating and values.layout is loaded("torch").strided and not values.is_meta:
                return int(values.isnan().sum()), values.numel()
    except Exception as error:
        if not is_refusal(error):
            raise
    return 0, 0


def _values(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values of a nested or sparse tensor, which do support arithmetic."""
    if tensor.is_nested:
        return tensor.values()
    if tensor.layout is loaded("torch")._mkldnn:  # noqa: SLF001 - has no public name
        return tensor.to_dense()
    parts = sparse_parts(tensor)
    return parts[-1] if parts else tensor


def sparse_parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the indices of a sparse tensor and, as the last, its values; nothing for other tensors."""
    torch = loaded("torch")
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()  # noqa: SLF001 - values() requires a coalesced tensor
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return ()


def size_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor; for a sparse one, those of its values and indices."""
    parts = sparse_parts(tensor)
    return sum(part.nbytes for part in parts) if parts else tensor.nbytes


def devices_of(value: Any) -> frozenset[torch.device]:
    """Return the devices of all tensors."""
    with past_class():
        return frozenset(tensor.device for tensor in tensors(value))


def same_device(first: torch.device, second: torch.device) -> bool:
    """Return whether two names refer to one device, as ``cuda`` and ``cuda:0`` do."""
    return first.type == second.type and (first.index or 0) == (second.index or 0)

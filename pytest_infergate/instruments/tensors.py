"""Tensors in nested containers: moving, casting, copying and describing them. Imports torch."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence


def map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Apply `change` to each tensor in nested tuples, lists, mappings, sets and dataclasses.

    Containers that hold changed tensors are rebuilt with their own type. Everything else is returned as the
    same object, so that what a model recognises by identity stays recognisable.
    """
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, torch.nn.Module):  # a module may also be a dataclass
        return value
    if isinstance(value, Mapping):
        return _map_mapping(value, change)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _map_sequence(value, change)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _map_dataclass(value, change)
    return value


def _map_sequence(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    # torch requires the batch sizes of a packed sequence on the CPU, no matter where its values are.
    fixed = value.batch_sizes if isinstance(value, PackedSequence) else None
    items = [item if item is fixed else map_tensors(item, change) for item in value]
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _map_mapping(value: Mapping[Any, Any], change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    old = dict(value.items())
    new = {key: map_tensors(item, change) for key, item in old.items()}
    if all(new[key] is old[key] for key in old):
        return value
    if type(value) is dict:
        return new
    if not isinstance(value, MutableMapping):
        make: Any = type(value)  # such as mappingproxy, which is constructed from a dictionary
        return make(new)
    # Subclasses may have state besides their items, as BatchEncoding and ModelOutput of transformers do.
    rebuilt: Any = copy.copy(value)
    for key, item in new.items():
        rebuilt[key] = item
    return rebuilt


def _map_dataclass(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    old = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    new = {name: map_tensors(item, change) for name, item in old.items()}
    changed = [name for name in old if new[name] is not old[name]]
    if not changed:
        return value
    rebuilt = copy.copy(value)
    for name in changed:  # past the __setattr__ of frozen dataclasses
        object.__setattr__(rebuilt, name, new[name])
    return rebuilt


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield all tensors of nested containers, in order."""
    collected: list[torch.Tensor] = []

    def collect(tensor: torch.Tensor) -> torch.Tensor:
        collected.append(tensor)
        return tensor

    map_tensors(value, collect)
    yield from collected


def _map_distinct(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Apply `change` once to each distinct tensor.

    One tensor in several places stays one: attention selects its fast path by the identity of ``x, x, x``.
    """
    changed: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def change_once(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in changed:
            # The original is kept alive, because the id of a deleted tensor may be reused.
            changed[id(tensor)] = tensor, change(tensor)
        return changed[id(tensor)][1]

    return map_tensors(value, change_once)


def to_device(value: Any, device: str, dtype: torch.dtype | None = None) -> Any:
    """Move all tensors to a device, and cast floating ones if a dtype is given."""

    def move(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, dtype if dtype is not None and tensor.is_floating_point() else None)

    return _map_distinct(value, move)


def clone_tensors(value: Any) -> Any:
    """Copy a result on its device, before the next call overwrites it (CUDA graphs and caches do)."""
    return _map_distinct(value, torch.clone)


def copy_to_cpu(value: Any) -> Any:
    """Copy a result to the CPU as normal tensors, which a test may change and differentiate through.

    To be called outside inference mode, in which the copies would be inference tensors again.
    """

    def copy_to_cpu(tensor: torch.Tensor) -> torch.Tensor:
        plain = tensor.detach()
        if plain.layout is torch._mkldnn:  # type: ignore[attr-defined] # noqa: SLF001 - has no public name
            plain = plain.to_dense()
        return plain.to("cpu", copy=True)

    return _map_distinct(value, copy_to_cpu)


def signature(value: Any) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Return shape and dtype of each tensor; for a nested tensor, which has no shape, that of its values."""
    return tuple(
        (
            tuple((tensor.values() if tensor.is_nested else tensor).shape),
            str(tensor.dtype).removeprefix("torch."),
        )
        for tensor in tensors(value)
    )


def count_nan(value: Any) -> tuple[int, int]:
    """Return how many elements of floating and complex tensors are NaN, and how many elements they have."""
    nan = total = 0
    for tensor in map(_values, tensors(value)):
        floating = tensor.is_floating_point() or tensor.is_complex()
        if floating and tensor.layout is torch.strided and not tensor.is_meta:
            nan += int(torch.isnan(tensor).sum())
            total += tensor.numel()
    return nan, total


def _values(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values of a nested or sparse tensor, which do support arithmetic."""
    if tensor.is_nested:
        return tensor.values()
    if tensor.layout is torch.sparse_coo:
        return tensor._values()  # noqa: SLF001 - values() requires a coalesced tensor
    return tensor


def size_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor; for a sparse one, those of its values and indices."""
    if tensor.layout is torch.sparse_coo:
        return tensor._values().nbytes + tensor._indices().nbytes  # noqa: SLF001 - see above
    return tensor.nbytes


def devices_of(value: Any) -> frozenset[torch.device]:
    """Return the devices of all tensors."""
    return frozenset(tensor.device for tensor in tensors(value))


def same_device(first: torch.device, second: torch.device) -> bool:
    """Return whether two names refer to one device, as ``cuda`` and ``cuda:0`` do."""
    return first.type == second.type and (first.index or 0) == (second.index or 0)

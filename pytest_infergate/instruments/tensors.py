"""Tensors wherever they are nested: moved, cast, brought home, described. Needs a loaded torch."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence


def map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Rebuild a nest of tuples, lists, mappings, sets and dataclasses with every tensor changed.

    Anything else is passed through as the very same object; a container without tensors too.
    """
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, torch.nn.Module):  # which may be a dataclass as well
        return value
    if isinstance(value, Mapping):
        return _map_mapping(value, change)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _map_sequence(value, change)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _map_dataclass(value, change)
    return value


def _map_sequence(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    # These lie on the CPU, wherever the rest does.
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
        make: Any = type(value)  # mappingproxy and its like are made of a dictionary
        return make(new)
    # Subclasses hold more than their items (transformers' BatchEncoding and ModelOutput do).
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
    for name in changed:
        object.__setattr__(rebuilt, name, new[name])
    return rebuilt


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor of a nest, in order."""
    found: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, note)
    yield from found


def _map_distinct(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Change each tensor once: what was one tensor stays one, as attention over ``x, x, x`` looks for."""
    changed: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def once(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in changed:
            changed[id(tensor)] = tensor, change(tensor)  # the old one is held: ids of the dead return
        return changed[id(tensor)][1]

    return map_tensors(value, once)


def to_device(value: Any, device: str, dtype: torch.dtype | None = None) -> Any:
    """Move every tensor, and cast the floating ones where a dtype is given."""

    def move(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, dtype if dtype is not None and tensor.is_floating_point() else None)

    return _map_distinct(value, move)


def held_fast(value: Any) -> Any:
    """Copy a result where it lies, before the next call may overwrite it (CUDA graphs and caches do)."""
    return _map_distinct(value, torch.clone)


def brought_home(value: Any) -> Any:
    """Copy a result to the CPU as normal tensors that a test may use, change and differentiate through.

    To be called outside inference mode, in which a copy would be an inference tensor again.
    """
    return _map_distinct(value, _home)


def _home(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.detach()
    if plain.layout is torch._mkldnn:  # type: ignore[attr-defined] # noqa: SLF001 - has no other name
        plain = plain.to_dense()
    return plain.to("cpu", copy=True)


def signature(value: Any) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Shape and dtype of every tensor of a nest; of a nested tensor, the shape of its values."""
    return tuple(
        (
            tuple((tensor.values() if tensor.is_nested else tensor).shape),
            str(tensor.dtype).removeprefix("torch."),
        )
        for tensor in tensors(value)
    )


def count_nan(value: Any) -> tuple[int, int]:
    """How many elements of the floating tensors are NaN, and how many there are."""
    nan = total = 0
    for tensor in map(_plain, tensors(value)):
        floating = tensor.is_floating_point() or tensor.is_complex()
        if floating and tensor.layout is torch.strided and not tensor.is_meta:
            nan += int(torch.isnan(tensor).sum())
            total += tensor.numel()
    return nan, total


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a nested or sparse tensor, which has no shape of its own or cannot be computed with."""
    if tensor.is_nested:
        return tensor.values()
    if tensor.layout is torch.sparse_coo:
        return tensor._values()  # noqa: SLF001 - values() wants it coalesced
    return tensor


def size_bytes(tensor: torch.Tensor) -> int:
    """Bytes that a tensor takes, of a sparse one those of its values and indices."""
    if tensor.layout is torch.sparse_coo:
        return tensor._values().nbytes + tensor._indices().nbytes  # noqa: SLF001 - see above
    return tensor.nbytes


def devices_of(value: Any) -> frozenset[torch.device]:
    """Devices on which the tensors of a nest lie."""
    return frozenset(tensor.device for tensor in tensors(value))


def same_device(one: torch.device, other: torch.device) -> bool:
    """Whether two names mean one device: ``cuda`` and ``cuda:0`` do."""
    return one.type == other.type and (one.index or 0) == (other.index or 0)

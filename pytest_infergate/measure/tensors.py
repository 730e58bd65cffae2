"""Tensors wherever they are nested: moved, cast, brought home, described. Needs a loaded torch."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch


def map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Rebuild a nest of tuples, lists, mappings, sets and dataclasses with every tensor changed.

    Anything else is passed through as the very same object; a container without tensors too.
    """
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return _map_mapping(value, change)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _map_sequence(value, change)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _map_dataclass(value, change)
    return value


def _map_sequence(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    items = [map_tensors(item, change) for item in value]
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _map_mapping(value: Mapping[Any, Any], change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    items = {key: map_tensors(item, change) for key, item in value.items()}
    if all(items[key] is value[key] for key in items):
        return value
    if type(value) is dict:
        return items
    # Subclasses hold more than their items (transformers' BatchEncoding and ModelOutput do).
    rebuilt: Any = copy.copy(value)
    for key, item in items.items():
        rebuilt[key] = item
    return rebuilt


def _map_dataclass(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    rebuilt = copy.copy(value)
    changed = False
    for field in dataclasses.fields(value):
        old = getattr(value, field.name, None)
        new = map_tensors(old, change)
        if new is not old:
            object.__setattr__(rebuilt, field.name, new)
            changed = True
    return rebuilt if changed else value


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor of a nest, in order."""
    found: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, note)
    yield from found


def to_device(value: Any, device: str, dtype: torch.dtype | None = None) -> Any:
    """Move every tensor, and cast the floating ones where a dtype is given."""

    def move(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, dtype if dtype is not None and tensor.is_floating_point() else None)

    return map_tensors(value, move)


def brought_home(value: Any) -> Any:
    """Copy a result to the CPU as normal tensors that a test may use, change and differentiate through.

    To be called outside inference mode, in which a copy would be an inference tensor again.
    """
    return map_tensors(value, lambda tensor: tensor.detach().to("cpu", copy=True))


def signature(value: Any) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Shape and dtype of every tensor of a nest."""
    return tuple((tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for tensor in tensors(value))


def count_nan(value: Any) -> tuple[int, int]:
    """How many elements of the floating tensors are NaN, and how many there are."""
    nan = total = 0
    for tensor in tensors(value):
        if (tensor.is_floating_point() or tensor.is_complex()) and tensor.layout is torch.strided:
            nan += int(torch.isnan(tensor).sum())
            total += tensor.numel()
    return nan, total


def devices_of(value: Any) -> frozenset[torch.device]:
    """Devices on which the tensors of a nest lie."""
    return frozenset(tensor.device for tensor in tensors(value))

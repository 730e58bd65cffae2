"""Which state of a model or callable changes from one call to the next. Imports torch."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable
from typing import Any

import torch

from pytest_infergate.instruments.nested import ATOMS, as_array
from pytest_infergate.instruments.tensors import past_class, size_bytes
from pytest_infergate.measure.restore import SavedState
from pytest_infergate.measure.saved_parts import SavedAttributes, SavedItems, cell_access, equal_tensors

# Larger buffers and arrays are not copied to be compared.
LARGEST_BUFFER = 1 << 26
# Containers inside of each other beyond this depth count as changed.
_DEPTH = 8


class _State(SavedState):
    """What is compared, without parameters: no call of inference changes them."""

    def __init__(self, roots: Any) -> None:
        self.counts: list[tuple[Any, str]] = []
        self.names: dict[int, str] = {}
        """What refers to an object, by its id: variables of functions, attributes and keys."""
        super().__init__(roots, modules=True)
        for part in self.parts:
            if isinstance(part, (SavedAttributes, SavedItems)):
                for key, item in _entries(part).items():
                    self.names.setdefault(id(item), str(key))

    def _save(self, value: Any, folded: bool) -> None:
        if isinstance(value, itertools.count):
            self.counts.append((value, repr(value)))
        elif isinstance(value, itertools.cycle):
            self.iterators.append(value)  # where it is cannot be seen
        elif isinstance(value, (types.FunctionType, types.MethodType)):
            if isinstance(value, types.FunctionType):
                for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                    self.names |= {id(cell): name, id(cell_access(cell)[0]()): name}
            self._save_function(value)
        elif not isinstance(value, torch.nn.Parameter):
            with past_class():
                size = size_bytes(value) if isinstance(value, torch.Tensor) else getattr(value, "nbytes", 0)
            if size <= LARGEST_BUFFER:
                super()._save(value, folded)


def watch(*roots: object) -> Callable[[], tuple[str, ...]]:
    """Save the state of modules and callables; what is returned names what changed since.

    Seen are buffers, attributes of modules and of the objects that they hold, and what functions close over.
    Parameters, globals, attributes of classes and buffers above 64 MiB are not. A new object of equal value
    is no change.
    """
    saved = _State(roots)

    def advanced() -> tuple[str, ...]:
        found = {type(each).__name__ for each in saved.iterators}
        found |= {saved.names.get(id(each), "count") for each, text in saved.counts if repr(each) != text}
        for part in saved.parts:
            if not part.changed():
                continue
            name = saved.names.get(id(part.value), type(part.value).__name__)
            if isinstance(part, SavedAttributes):
                found |= _unlike(_entries(part), _entries(SavedAttributes(part.value)))
            elif isinstance(part, SavedItems):
                keys = _unlike(_entries(part), _entries(SavedItems(part.value, part.kind)))
                # The buffers of a module are known by their own names.
                found |= keys if name.startswith("_") else {name} if keys else set()
            else:
                found.add(name)
        return tuple(sorted(found))

    return advanced


def _entries(part: SavedAttributes | SavedItems) -> dict[Any, Any]:
    if isinstance(part, SavedAttributes):
        return {**part.attributes, **{slot.__name__: value for slot, value in part.slots.items()}}
    return dict(part.kept if issubclass(part.kind, dict) else enumerate(part.kept))


def _unlike(before: dict[Any, Any], now: dict[Any, Any]) -> set[str]:
    """Return the keys whose values differ, or are on one side only."""
    missing = object()
    return {
        str(key)
        for key in before.keys() | now.keys()
        if not _alike(before.get(key, missing), now.get(key, missing))
    }


def _alike(before: Any, now: Any, depth: int = 0) -> bool:  # noqa: PLR0911 - one for each kind
    if before is now:
        return True
    if type(before) is not type(now) or depth > _DEPTH:
        return False
    if isinstance(now, torch.Tensor):
        return now.layout is torch.strided and before.shape == now.shape and equal_tensors(before, now)
    if isinstance(now, (list, tuple)):
        pairs = zip(before, now, strict=False)
        return len(before) == len(now) and all(_alike(*pair, depth + 1) for pair in pairs)
    if isinstance(now, dict):
        return before.keys() == now.keys() and all(_alike(before[key], now[key], depth + 1) for key in now)
    array = as_array(now)
    if array is not None:
        return bool(array.tobytes() == as_array(before).tobytes())
    return type(now) in ATOMS and bool(before == now)

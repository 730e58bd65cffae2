"""Which state of a model or callable changes from one call to the next. Imports torch."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch

from pytest_infergate.instruments.nested import ATOMS, as_array
from pytest_infergate.instruments.tensors import clone_tensors, past_class, size_bytes
from pytest_infergate.measure.restore import SavedState
from pytest_infergate.measure.same_work import PARAMETER
from pytest_infergate.measure.saved_parts import SavedAttributes, SavedItems, cell_access, equal_tensors

# Larger buffers and arrays are not copied to be compared.
LARGEST_BUFFER = 1 << 26
# Containers inside of each other beyond this depth count as changed.
_DEPTH = 8


class _State(SavedState):
    """What is compared. Of parameters, only the number of their changes in place is."""

    def __init__(self, roots: Any) -> None:
        self.counts: list[tuple[Any, str]] = []
        self.versions: list[tuple[torch.Tensor, int, str]] = []
        """Tensors that are not copied: how often each was changed in place, and its name if it is known."""
        self.scripted: list[tuple[torch.jit.ScriptModule, str, Any]] = []
        """Attributes of TorchScript, by name, with their values."""
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
        elif isinstance(value, torch.jit.ScriptModule):
            self._save_scripted(value)
        elif isinstance(value, torch.nn.Parameter):
            self._save_version(value, "")
        else:
            with past_class():
                size = size_bytes(value) if isinstance(value, torch.Tensor) else getattr(value, "nbytes", 0)
            if size <= LARGEST_BUFFER:
                super()._save(value, folded)

    def _save_version(self, tensor: torch.Tensor, name: str) -> None:
        with past_class():
            if not tensor.is_inference():  # which has none
                self.versions.append((tensor, tensor._version, name))  # noqa: SLF001 - has no public name

    def _save_scripted(self, module: torch.jit.ScriptModule) -> None:
        """Save what the code of a module of TorchScript reads and sets, whose objects are those of C++."""
        self._pending += [(part, False) for part in module.children()]
        for name, tensor in module.named_buffers(recurse=False):
            self._save_version(tensor, name)
        for name, tensor in module.named_parameters(recurse=False):
            self._save_version(tensor, f"{PARAMETER} {name}")
        graphs = [module._c._get_method(name).graph for name in module._c._method_names()]  # noqa: SLF001 - the only way
        for name in sorted({name for graph in graphs for name in _attributes_in(graph)}):
            value = getattr(module, name, None)
            if isinstance(value, (bool, int, float, str, list, tuple, dict)):
                self.scripted.append((module, name, clone_tensors(value)))
            elif isinstance(value, torch.Tensor):
                # One that is replaced is another object of C++ with its own count.
                self.scripted.append((module, name, value))


def watch(*roots: object) -> Callable[[], tuple[str, ...]]:
    """Save the state of modules and callables; what is returned names what changed since.

    Seen are buffers, attributes of modules and of the objects that they hold, what functions close over, and
    parameters that are changed in place. Globals, attributes of classes, changes of parameters through
    ``.data`` and buffers above 64 MiB are not. A new object of equal value is no change.
    """
    saved = _State(roots)

    def advanced() -> tuple[str, ...]:
        found = {type(each).__name__ for each in saved.iterators}
        found |= {saved.names.get(id(each), "count") for each, text in saved.counts if repr(each) != text}
        with past_class():
            found |= {
                name or f"{PARAMETER} {saved.names.get(id(tensor), 'without a name')}"
                for tensor, version, name in saved.versions
                if tensor._version != version  # noqa: SLF001 - see above
            }
        found |= {
            name for module, name, value in saved.scripted if not _alike(value, getattr(module, name, None))
        }
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


def _attributes_in(graph: Any) -> Iterator[str]:
    """Yield the names of attributes that a graph of TorchScript reads or sets, those of blocks included."""
    pending = list(graph.nodes())
    while pending:
        node = pending.pop()
        pending += (inner for block in node.blocks() for inner in block.nodes())
        if node.kind() in ("prim::GetAttr", "prim::SetAttr"):
            yield node.s("name")


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

"""Saves the caller's module and tensors before a case, and restores them afterwards. Imports torch."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_CONTAINERS = (dict, OrderedDict, defaultdict, list, set, deque)


@contextmanager
def module_restored(module: torch.nn.Module) -> Iterator[None]:
    """Restore, on exit, what moving or running a module may have changed.

    Restored for the module and all modules inside it: the storage of parameters and of their gradients,
    buffers and tensor attributes with their contents, plain attributes, children, hooks, the contents of
    their own lists, dictionaries and sets, training flags, and the class. State outside of the modules is not
    restored.
    """
    states = [_State(part) for part in module.modules()]
    with ExitStack() as stack:
        for state in states:
            stack.callback(state.restore)
        yield


@contextmanager
def contents_restored(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Restore, on exit, the values of tensors that a call changed in place."""
    contents = [_Content(tensor) for tensor in tensors]
    with ExitStack() as stack:
        for content in contents:
            stack.callback(content.restore)
        yield


def version(tensor: torch.Tensor) -> int | None:
    """Return how often a tensor was changed in place; `None` for inference tensors, which have no count."""
    return None if tensor.is_inference() else tensor._version  # noqa: SLF001 - has no public name


class _State:
    """Saved state of one module without its children."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.kind = type(module)
        self.attributes = dict(vars(module))
        self.slots = dict(_slots(module))
        values = [*self.attributes.values(), *self.slots.values()]
        self.containers = [(container, copy.copy(container)) for container in _containers(values)]
        own_tensors = [value for value in values if isinstance(value, torch.Tensor)]
        for container, _ in self.containers:
            own_tensors += [item for item in _items(container) if isinstance(item, torch.Tensor)]
        parameters = {id(p): p for p in own_tensors if isinstance(p, torch.nn.Parameter)}.values()
        self.storages = [_Storage(parameter) for parameter in parameters]
        # The values of parameters are saved only if the module overrides train or eval, which may fold
        # weights: a copy of all parameters would double the memory.
        folds = self.kind.train is not torch.nn.Module.train or self.kind.eval is not torch.nn.Module.eval
        self.contents = [
            _Content(tensor) for tensor in own_tensors if folds or not isinstance(tensor, torch.nn.Parameter)
        ]

    def restore(self) -> None:
        # Past the module's own __setattr__, which registers parameters or (in a compiled module) forwards.
        if type(self.module) is not self.kind:
            object.__setattr__(self.module, "__class__", self.kind)
        attributes = vars(self.module)
        attributes.clear()
        attributes.update(self.attributes)
        for name, value in self.slots.items():
            object.__setattr__(self.module, name, value)
        for container, kept in self.containers:
            container.clear()
            (container.extend if isinstance(container, (list, deque)) else container.update)(kept)
        for storage in self.storages:
            storage.restore()
        for content in self.contents:
            content.restore()


def _containers(values: Iterable[Any]) -> list[Any]:
    """Return the plain containers among values and inside of each other, each once."""
    distinct: dict[int, Any] = {}
    pending = list(values)
    while pending:
        value = pending.pop()
        if type(value) in _CONTAINERS and id(value) not in distinct:
            distinct[id(value)] = value
            pending += _items(value)
    return list(distinct.values())


def _items(container: Any) -> list[Any]:
    return list(container.values() if isinstance(container, dict) else container)


class _Storage:
    """Saved storage of a parameter and of its gradient."""

    def __init__(self, parameter: torch.nn.Parameter) -> None:
        self.parameter = parameter
        self.data = parameter.data
        self.gradient = parameter.grad
        self.gradient_data = None if self.gradient is None else self.gradient.data

    def restore(self) -> None:
        _put_back(self.parameter, self.data)
        if self.gradient is not None and self.gradient_data is not None:
            _put_back(self.gradient, self.gradient_data)
        self.parameter.grad = self.gradient


class _Content:
    """Saved values of a tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.version = version(tensor)
        empty = tensor.is_meta or torch.nn.parameter.is_lazy(tensor) or _freed(tensor)
        self.values = None if empty else tensor.detach().clone()

    def restore(self) -> None:
        if self.values is None or not self._changed(self.values):
            return
        # An inference tensor can only be changed in inference mode. Others are changed outside of it, so that
        # autograd records the change.
        with torch.inference_mode() if self.tensor.is_inference() else torch.no_grad():
            if not _freed(self.tensor) and _shape(self.tensor) == _shape(self.values):
                self.tensor.copy_(self.values)
            else:
                self.tensor.data = self.values

    def _changed(self, values: torch.Tensor) -> bool:
        """Compare versions, and values as well: changes through ``.data`` and NumPy have no version."""
        if _freed(self.tensor) or (self.version is not None and version(self.tensor) != self.version):
            return True
        try:
            return not torch.equal(self.tensor, values)
        except (AttributeError, RuntimeError):  # sparse, nested and eight-bit tensors
            return False


def _freed(tensor: torch.Tensor) -> bool:
    """Return whether the memory of a tensor was released, as sharding does; reading it would crash."""
    try:
        return tensor.untyped_storage().nbytes() == 0 and tensor.numel() > 0
    except RuntimeError:  # tensors without a storage, for instance sparse ones
        return False


def _shape(tensor: torch.Tensor) -> torch.Size | None:
    return None if tensor.is_nested else tensor.shape


def _put_back(tensor: torch.Tensor, data: torch.Tensor) -> None:
    if _place(tensor) != _place(data):
        tensor.data = data


def _place(tensor: torch.Tensor) -> object:
    """Return a key of the memory and layout of a tensor; unequal to all others if they are unknown."""
    try:
        pointer = tensor.data_ptr()
        return tensor.device, tensor.dtype, tensor.shape, tensor.stride(), pointer or object()
    except RuntimeError:  # sparse and nested tensors
        return object()


def _slots(module: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that a module keeps in slots instead of its dictionary."""
    for kind in type(module).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in {"__dict__", "__weakref__"} and hasattr(module, name):
                yield name, getattr(module, name)

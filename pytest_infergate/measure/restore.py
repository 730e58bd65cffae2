"""Saves what modules and arguments hold, and restores it. Imports torch."""

from __future__ import annotations

import enum
import io
import operator
import random
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Protocol

import torch
from torch.utils._python_dispatch import _disable_current_modes

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note

# Plain objects of these packages have state outside of their attributes, or belong to the process.
_OPAQUE = frozenset(
    (
        "torch",
        "logging",
        "threading",
        "multiprocessing",
        "concurrent",
        "asyncio",
        "weakref",
        "_pytest",
        "pytest",
    )
)
_ATOMS = (
    type(None), bool, int, float, complex, str, bytes, type, enum.Enum, types.ModuleType, types.FunctionType,
    types.BuiltinFunctionType, types.MethodType, torch.dtype, torch.device,
)  # fmt: skip
# More objects than any model or input has; what is beyond them is not saved.
MAX_OBJECTS = 200_000


class _Part(Protocol):
    """One saved object."""

    value: Any

    def changed(self) -> bool: ...

    def restore(self) -> None: ...


class SavedState:
    """What a graph of objects held when this was made.

    Saved are containers and their subclasses, the attributes of plain objects, tensors and NumPy arrays with
    their contents, random generators and the positions of files. Functions, classes and threads are not.
    """

    def __init__(self, roots: Any, *, modules: bool) -> None:
        self.parts: list[_Part] = []
        self._modules = modules
        # Kept alive, because the id of a deleted object may be reused.
        self._seen: dict[tuple[int, bool], Any] = {}
        self._pending: list[tuple[Any, bool]] = [(roots, False)]
        while self._pending and len(self._seen) < MAX_OBJECTS:
            value, folded = self._pending.pop()
            if not isinstance(value, _ATOMS) and (id(value), folded) not in self._seen:
                self._seen[id(value), folded] = value
                self._save(value, folded)

    def restore(self) -> None:
        """Restore all objects; if one cannot be restored, the others are."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.callback(part.restore)

    def _save(self, value: Any, folded: bool) -> None:
        """Save one object. `folded` is whether a change of mode may change the values of parameters."""
        part = _stated(value) or _container(value)
        if isinstance(value, torch.Tensor):
            self._save_tensor(value, folded)
        elif isinstance(value, torch.nn.Module):
            if self._modules:
                # The values of parameters are saved only if the module overrides train or eval, which may
                # fold weights: a copy of all parameters would double the memory.
                kind = type(value)
                folds = kind.train is not torch.nn.Module.train or kind.eval is not torch.nn.Module.eval
                self._save_attributes(value, folds)
        elif isinstance(value, (tuple, frozenset)):
            self._pending += [(item, folded) for item in value]
        elif part is not None:
            self.parts.append(part)
            self._pending += [(item, folded) for item in part.items()]
            self._save_attributes(value, folded)
        elif type(value).__module__.partition(".")[0] not in _OPAQUE:
            self._save_attributes(value, folded)

    def _save_tensor(self, value: torch.Tensor, folded: bool) -> None:
        weight = isinstance(value, torch.nn.Parameter) and self._modules
        if weight:
            self.parts.append(_Storage(value))
        if not weight or folded:
            self.parts.append(_Content(value))
        if type(value) is torch.Tensor:
            self._save_attributes(value, folded)

    def _save_attributes(self, value: Any, folded: bool) -> None:
        saved = _Attributes(value)
        if not isinstance(getattr(value, "__dict__", None), dict) and not saved.slots:
            return
        if not self._modules and any(isinstance(item, torch.nn.Module) for item in saved.items()):
            return  # a pipeline around a model, whose state is kept from call to call like that of the model
        self.parts.append(saved)
        self._pending += [(item, folded) for item in saved.items()]


@contextmanager
def module_restored(module: torch.nn.Module) -> Iterator[None]:
    """Restore, on exit, what moving or running a module may have changed.

    Restored for the module, all modules inside it and the plain objects that they hold: the storage of
    parameters and of their gradients, buffers and tensor attributes with their contents, plain attributes,
    children, hooks, the contents of lists, dictionaries and sets, training flags, and the class.
    """
    state = SavedState(module, modules=True)
    try:
        yield
    finally:
        state.restore()


class KeptArguments:
    """The arguments of repeated calls, which are restored before each of them (see `RepeatedCall`).

    Modules among the arguments, and objects that hold one, keep their state from call to call, as the model
    does.
    """

    def __init__(self, arguments: Any) -> None:
        self._arguments = arguments
        self._state = SavedState(arguments, modules=False)
        self._changing: list[_Part] = []

    @property
    def changing(self) -> bool:
        """Whether a call was seen to change an argument."""
        return bool(self._changing)

    def settle(self) -> bool:
        """Find what the calls so far changed, and restore it; return whether all was known to change."""
        # What is restored is not part of a call that is being counted.
        with _disable_current_modes():
            found = [part for part in self._state.parts if part.changed()]
            for part in found:
                part.restore()
        known = {id(part) for part in self._changing}
        new = [part for part in found if id(part) not in known]
        self._changing += new
        return not new

    def renew(self) -> None:
        """Restore what calls were seen to change."""
        for part in self._changing:
            part.restore()

    def restore(self) -> None:
        """Restore all arguments."""
        self._state.restore()

    def consumed_note(self) -> Note | None:
        """Return a note if an argument is an iterator, which the first call exhausts."""
        pending = [self._arguments]
        while pending:
            value = pending.pop()
            if isinstance(value, (tuple, list)):
                pending += value
            elif isinstance(value, dict):
                pending += value.values()
            elif isinstance(value, Iterator) and not isinstance(value, io.IOBase):
                break
        else:
            return None
        return Note(
            code=NoteCode.ARGUMENT_CONSUMED,
            text=f"an argument is a {type(value).__name__}, which later calls find exhausted",
            hint="pass a list, or measure a callable that makes the iterator",
        )

    def changed_note(self) -> Note | None:
        """Return a note on arguments that the calls change; ``None`` if they stay as they are."""
        if not self._changing:
            return None
        kinds = ", ".join(sorted({type(part.value).__name__ for part in self._changing}))
        return Note(
            code=NoteCode.INPUTS_CHANGED,
            text=f"the call changes its arguments ({kinds}); they are restored before each call, untimed",
            hint="a caller that reuses them passes other values the next time: copy them inside the model",
        )


@contextmanager
def arguments_kept(*arguments: Any) -> Iterator[KeptArguments]:
    """Keep the arguments of calls, and restore them on exit."""
    kept = KeptArguments(arguments)
    try:
        yield kept
    finally:
        kept.restore()


class _Attributes:
    """Saved attributes and class of an object; its dictionary may have other keys later."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.kind = type(value)
        self.attributes = dict(getattr(value, "__dict__", ()))
        self.slots = dict(_slots(value))

    def items(self) -> list[Any]:
        return [*self.attributes.values(), *self.slots.values()]

    def changed(self) -> bool:
        now = getattr(self.value, "__dict__", {})
        return (
            type(self.value) is not self.kind
            or not _same(now.values(), self.attributes.values())
            or now.keys() != self.attributes.keys()
            or not _same(dict(_slots(self.value)).values(), self.slots.values())
        )

    def restore(self) -> None:
        # Past the object's own __setattr__: that of a module registers parameters or (in a compiled module)
        # forwards, and that of a frozen dataclass raises.
        if type(self.value) is not self.kind:
            object.__setattr__(self.value, "__class__", self.kind)
        if self.attributes or getattr(self.value, "__dict__", None):
            attributes = vars(self.value)
            attributes.clear()
            attributes.update(self.attributes)
        for name, item in self.slots.items():
            object.__setattr__(self.value, name, item)


class _Container:
    """Saved items of a list, dictionary, set, deque or bytearray."""

    def __init__(self, value: Any, kind: Any) -> None:
        self.value = value
        self.kind = kind
        self.kept = self._items()

    def items(self) -> list[Any]:
        return [item for pair in self.kept for item in pair] if issubclass(self.kind, dict) else self.kept

    def changed(self) -> bool:
        now = self._items()
        if not issubclass(self.kind, dict):
            return not _same(now, self.kept)
        return len(now) != len(self.kept) or not all(
            _same(pair, kept) for pair, kept in zip(now, self.kept, strict=True)
        )

    def restore(self) -> None:
        # By the methods of the base class: those of a subclass may check or copy their items.
        self.kind.clear(self.value)
        if issubclass(self.kind, dict):
            for key, item in self.kept:
                self.kind.__setitem__(self.value, key, item)
        elif issubclass(self.kind, set):
            self.kind.update(self.value, self.kept)
        else:
            self.kind.extend(self.value, self.kept)

    def _items(self) -> list[Any]:
        iterated = (
            self.kind.items(self.value) if issubclass(self.kind, dict) else self.kind.__iter__(self.value)
        )
        return list(iterated)


def _container(value: Any) -> _Container | None:
    for kind in (OrderedDict, dict, list, set, deque, bytearray):
        if isinstance(value, kind):
            return _Container(value, kind)
    return None


class _Stated:
    """Saved state of an object with functions that read and write it: generators, arrays, files."""

    def __init__(self, value: Any, read: Any, write: Any, equal: Any = operator.eq) -> None:
        self.value, self.read, self.write, self.equal = value, read, write, equal
        self.state = read()

    def items(self) -> list[Any]:
        return []

    def changed(self) -> bool:
        return not self.equal(self.read(), self.state)

    def restore(self) -> None:
        self.write(self.state)


def _stated(value: Any) -> _Stated | None:
    """Return the state of a generator, file or array; ``None`` for other objects and read-only arrays."""
    methods = [
        (torch.Generator, "get_state", "set_state", torch.equal),
        (random.Random, "getstate", "setstate", operator.eq),
        (io.IOBase, "tell", "seek", operator.eq),
    ]
    if isinstance(value, io.BytesIO):
        state: Any = value  # contents, position and attributes; the last are saved like those of others
        return _Stated(value, lambda: (*state.__getstate__()[:2], None), state.__setstate__)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        methods.append((numpy.random.RandomState, "get_state", "set_state", _equal_texts))
        if isinstance(value, numpy.ndarray) and value.flags.writeable:
            return _Stated(value, value.copy, lambda kept: _write_array(value, kept), _equal_arrays)
        if isinstance(value, numpy.random.Generator):
            bits = value.bit_generator
            return _Stated(
                value, lambda: bits.state, lambda state: setattr(bits, "state", state), _equal_texts
            )
    for kind, read, write, equal in methods:
        if isinstance(value, kind):
            with suppress(OSError, ValueError):  # a pipe has no position
                return _Stated(value, getattr(value, read), getattr(value, write), equal)
    return None


def _write_array(array: Any, kept: Any) -> None:
    if array.shape != kept.shape:
        array.resize(kept.shape, refcheck=False)
    array[...] = kept


def _equal_arrays(now: Any, then: Any) -> bool:
    return bool(now.shape == then.shape and now.tobytes() == then.tobytes())


def _equal_texts(now: Any, then: Any) -> bool:
    """Compare states that contain arrays of NumPy, whose comparison is an array again."""
    return repr(now) == repr(then)


def _same(first: Any, second: Any) -> bool:
    """Return whether two collections hold the same objects in the same order."""
    return len(first) == len(second) and all(map(operator.is_, first, second))


class _Storage:
    """Saved memory of a parameter and of its gradient."""

    def __init__(self, parameter: torch.Tensor) -> None:
        self.value = parameter
        self.data = parameter.data
        self.gradient = parameter.grad
        self.gradient_data = None if self.gradient is None else self.gradient.data

    def changed(self) -> bool:
        return True

    def restore(self) -> None:
        _put_back(self.value, self.data)
        if self.gradient is not None and self.gradient_data is not None:
            _put_back(self.gradient, self.gradient_data)
        self.value.grad = self.gradient


class _Content:
    """Saved values of a tensor, and the memory that holds them."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.value = tensor
        self.version = _version(tensor)
        self.requires_grad = tensor.requires_grad
        empty = tensor.is_meta or torch.nn.parameter.is_lazy(tensor) or _freed(tensor)
        self.memory = None if empty else tensor.detach()
        self.values = None if empty else tensor.detach().clone()

    def changed(self) -> bool:
        """Compare versions, and values as well: changes through ``.data`` and NumPy have no version."""
        if self.values is None or self.memory is None:
            return False
        if _freed(self.value) or self.value.requires_grad is not self.requires_grad:
            return True
        if self.version is not None and _version(self.value) != self.version:
            return True
        try:
            return _place(self.value) != _place(self.memory) or not _equal(self.value, self.values)
        except (AttributeError, RuntimeError):  # sparse, nested and eight-bit tensors
            return False

    def restore(self) -> None:
        if self.values is None or self.memory is None or not self.changed():
            return
        # An inference tensor can only be changed in inference mode. Others are changed outside of it, so that
        # autograd records the change.
        with torch.inference_mode(self.value.is_inference()), torch.no_grad():
            if _freed(self.memory):
                self.value.data = self.values.clone()
            else:
                if _strided(self.value):
                    _put_back(self.value, self.memory)
                self.value.copy_(self.values)
            if self.value.is_leaf and self.value.requires_grad is not self.requires_grad:
                self.value.requires_grad_(self.requires_grad)
        self.version = _version(self.value)


def _equal(tensor: torch.Tensor, values: torch.Tensor) -> bool:
    if torch.equal(tensor, values):
        return True
    # NaN is unequal to itself.
    return (
        tensor.is_floating_point()
        and torch.equal(tensor.nan_to_num(0.0), values.nan_to_num(0.0))
        and torch.equal(tensor.isnan(), values.isnan())
    )


def _version(tensor: torch.Tensor) -> int | None:
    """Return how often a tensor was changed in place; `None` for inference tensors, which have no count."""
    return None if tensor.is_inference() else tensor._version  # noqa: SLF001 - has no public name


def _strided(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested


def _freed(tensor: torch.Tensor) -> bool:
    """Return whether the memory of a tensor was released, as sharding does; reading it would crash."""
    try:
        return tensor.untyped_storage().nbytes() == 0 and tensor.numel() > 0
    except RuntimeError:  # tensors without a storage, for instance sparse ones
        return False


def _put_back(tensor: torch.Tensor, data: torch.Tensor) -> None:
    with suppress(RuntimeError, NotImplementedError):
        if _place(tensor) == _place(data):
            return
    tensor.data = data.detach()


def _place(tensor: torch.Tensor) -> object:
    """Return a key of storage and layout of a tensor. Raises `RuntimeError` for sparse and nested ones."""
    storage = tensor.untyped_storage()._cdata  # noqa: SLF001 - the only identity; data_ptr() of others is 0
    return tensor.device, tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset(), storage


def _slots(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that an object keeps in slots instead of its dictionary."""
    for kind in type(value).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in {"__dict__", "__weakref__"} and hasattr(value, name):
                yield name, getattr(value, name)

"""Single objects as they were at one moment: attributes, items, states and tensors. Imports torch."""

from __future__ import annotations

import array
import io
import operator
import random
import sys
import threading
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

import torch

from pytest_infergate.instruments.nested import own_attributes
from pytest_infergate.instruments.tensors import is_refusal, past_class


class SavedPart(Protocol):
    """One saved object."""

    value: Any

    def changed(self) -> bool:
        """Return whether the object differs from what was saved."""

    def restore(self) -> None:
        """Make the object what was saved."""


class SavedAttributes:
    """Saved attributes and class of an object; its dictionary may have other keys later."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.kind = type(value)
        self.attributes, self.slots = own_attributes(value)

    def items(self) -> list[Any]:
        """Return what the object held."""
        return [*self.attributes.values(), *self.slots.values()]

    def changed(self) -> bool:
        """Return whether the object differs from what was saved."""
        now, slots = own_attributes(self.value)
        return (
            type(self.value) is not self.kind
            or not _same(now.values(), self.attributes.values())
            or now.keys() != self.attributes.keys()
            or not _same(slots.values(), self.slots.values())
        )

    def restore(self) -> None:
        """Make the object what was saved."""
        # Past the object's own __setattr__: that of a module registers parameters or (in a compiled module)
        # forwards, and that of a frozen dataclass raises.
        if type(self.value) is not self.kind:
            object.__setattr__(self.value, "__class__", self.kind)
        if self.attributes or getattr(self.value, "__dict__", None):
            attributes = vars(self.value)
            attributes.clear()
            attributes.update(self.attributes)
        for slot, item in self.slots.items():
            slot.__set__(self.value, item)


class SavedItems:
    """Saved items of a list, dictionary, set, deque or bytearray."""

    def __init__(self, value: Any, kind: Any) -> None:
        self.value = value
        self.kind = kind
        self.kept = self._items()

    def items(self) -> list[Any]:
        """Return what the object held."""
        return [item for pair in self.kept for item in pair] if issubclass(self.kind, dict) else self.kept

    def changed(self) -> bool:
        """Return whether the object differs from what was saved."""
        now = self._items()
        if not issubclass(self.kind, dict):
            return not _same(now, self.kept)
        return len(now) != len(self.kept) or not all(
            _same(pair, kept) for pair, kept in zip(now, self.kept, strict=True)
        )

    def restore(self) -> None:
        """Make the object what was saved."""
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


def saved_items(value: Any) -> SavedItems | None:
    """Save the items of a container; ``None`` for other objects."""
    for kind in (OrderedDict, dict, list, set, deque):
        if isinstance(value, kind):
            return SavedItems(value, kind)
    return None


class SavedStateOf:
    """Saved state of an object with functions that read and write it: generators, arrays, files."""

    def __init__(
        self, value: Any, read: Any, write: Any, equal: Any = operator.eq, items: Iterable[Any] = ()
    ) -> None:
        self.value, self.read, self.write, self.equal = value, read, write, equal
        self.state = read()
        self._items = list(items)

    def items(self) -> list[Any]:
        """Return what the object held."""
        return self._items

    def changed(self) -> bool:
        """Return whether the object differs from what was saved."""
        return not self.equal(self.read(), self.state)

    def restore(self) -> None:
        """Make the object what was saved."""
        self.write(self.state)


def saved_state_of(value: Any) -> SavedStateOf | None:  # noqa: C901, PLR0911, PLR0912 - one for each kind
    """Return the state of a generator, file or array; ``None`` for other objects and read-only arrays."""
    methods = [
        (torch.Generator, "get_state", "set_state", torch.equal),
        (random.Random, "getstate", "setstate", operator.eq),
    ]
    if isinstance(value, getattr(sys.modules.get("tokenizers"), "Tokenizer", ())):
        return _saved_tokenizer(value)
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series)):
        # What it holds is in an object that is written in C, and replaced as a whole.
        return SavedStateOf(
            value,
            lambda: value.copy(deep=True),
            lambda kept: object.__setattr__(value, "_mgr", kept.copy(deep=True)._mgr),  # noqa: SLF001
            lambda now, then: now.equals(then) and now.axes[-1].equals(then.axes[-1]),
        )
    image = sys.modules.get("PIL.Image")
    if image is not None and isinstance(value, image.Image):
        # Before it is loaded, an image is its attributes, among them the file.
        loaded = getattr(value, "_im", None) is not None
        return SavedStateOf(value, value.tobytes, lambda kept: _write_image(value, kept)) if loaded else None
    if isinstance(value, threading.Event):
        return SavedStateOf(value, value.is_set, lambda kept: value.set() if kept else value.clear())
    if isinstance(value, (bytearray, memoryview)):
        # In place: a view of the buffer, of NumPy for instance, forbids another length.
        view: Any = value
        if isinstance(value, memoryview):
            if value.readonly or not value.c_contiguous:
                return None
            view = value.cast("B")
        return SavedStateOf(value, lambda: bytes(view), lambda kept: _write_bytes(view, kept))
    if isinstance(value, array.array):
        return SavedStateOf(value, lambda: value[:], lambda kept: value.__setitem__(slice(None), kept))
    if isinstance(value, io.BytesIO):
        state: Any = value  # contents, position and attributes; the last are saved like those of others
        return SavedStateOf(value, lambda: (*state.__getstate__()[:2], None), state.__setstate__)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        methods.append((numpy.random.RandomState, "get_state", "set_state", _equal_texts))
        if isinstance(value, (numpy.ndarray, numpy.void)) and value.flags.writeable:
            held = value if isinstance(value, numpy.ndarray) else numpy.asarray(value)  # of the same memory
            columns = [held[name] for name in held.dtype.names or ()] or [held]
            items = [item for column in columns if column.dtype.kind == "O" for item in column.flat]
            return SavedStateOf(value, held.copy, lambda kept: _write_array(held, kept), _equal_arrays, items)
        if isinstance(value, (numpy.random.Generator, numpy.random.BitGenerator)):
            bits = value.bit_generator if isinstance(value, numpy.random.Generator) else value
            return SavedStateOf(
                value, lambda: bits.state, lambda state: setattr(bits, "state", state), _equal_texts
            )
    if isinstance(value, io.IOBase):
        with suppress(OSError, ValueError):  # a pipe has no position
            return SavedStateOf(value, lambda: _position(value), lambda kept: _seek(value, kept), operator.eq)
    for kind, read, write, equal in methods:
        if isinstance(value, kind):
            # A generator of the system has no state.
            with suppress(OSError, ValueError, NotImplementedError):
                return SavedStateOf(value, getattr(value, read), getattr(value, write), equal)
    return None


def _position(file: io.IOBase) -> int | None:
    return None if file.closed else file.tell()


def _seek(file: io.IOBase, position: int | None) -> None:
    if position is not None and not file.closed:  # a call may close it
        file.seek(position)


def _saved_tokenizer(value: Any) -> SavedStateOf:
    padding, truncation = value.padding, value.truncation

    def write(state: bytes) -> None:
        # These a call sets. To write all of the state takes 20 times as long, and empties caches.
        value.enable_padding(**padding) if padding else value.no_padding()
        value.enable_truncation(**truncation) if truncation else value.no_truncation()
        if value.__getstate__() != state:
            value.__setstate__(state)

    return SavedStateOf(value, value.__getstate__, write)


def cell_access(cell: types.CellType) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """Return functions that read and write a variable of a closure, which may have no value yet."""

    def read() -> Any:
        try:
            return cell.cell_contents
        except ValueError:
            return None

    return read, lambda kept: setattr(cell, "cell_contents", kept)


def _write_image(image: Any, kept: bytes) -> None:
    with suppress(ValueError):  # it has another size until its attributes are restored
        image.frombytes(kept)


def _write_bytes(buffer: Any, kept: bytes) -> None:
    if len(buffer) == len(kept):
        with memoryview(buffer) as view:
            view[:] = kept
    else:
        buffer[:] = kept


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


class SavedMemory:
    """Saved memory of a parameter and of its gradient."""

    def __init__(self, parameter: torch.Tensor) -> None:
        self.value = parameter
        self.data = parameter.data
        self.gradient = parameter.grad
        self.gradient_data = None if self.gradient is None else self.gradient.data

    def changed(self) -> bool:
        """Return whether the object differs from what was saved."""
        return True

    def restore(self) -> None:
        """Make the object what was saved."""
        _put_back(self.value, self.data)
        if self.gradient is not None and self.gradient_data is not None:
            _put_back(self.gradient, self.gradient_data)
        self.value.grad = self.gradient


def saved_content(tensor: torch.Tensor) -> SavedPart | None:
    """Save the values of a tensor, or else all of its memory; ``None`` if neither can be copied."""
    try:
        with past_class():
            return SavedContent(tensor)
    except Exception as error:
        if not is_refusal(error):
            raise
    try:
        return SavedStateOf(
            tensor,
            lambda: _bytes(tensor).clone(),
            lambda kept: _bytes(tensor).copy_(kept),
            torch.equal,
        )
    except Exception as error:
        if not is_refusal(error):
            raise
    return None


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    with past_class():
        storage = tensor.untyped_storage()
        if storage.nbytes() and not storage.data_ptr():
            raise ValueError("the class keeps its values elsewhere")
        return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


class SavedContent:
    """Saved values of a tensor, and the memory that holds them.

    Raises an error for a tensor that cannot be copied or written, such as one with several values in one
    place.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        kind = type(tensor)
        self.value = tensor
        self.version = _version(tensor)
        self.requires_grad = tensor.requires_grad
        empty = tensor.is_meta or torch.nn.parameter.is_lazy(tensor) or _freed(tensor)
        self.memory = None if empty else tensor.detach()
        if not empty and _strided(tensor) and torch._debug_has_internal_overlap(tensor) == 1:  # noqa: SLF001
            raise ValueError("several values in one place cannot be written")
        self.values = None if empty else tensor.detach().clone()
        if self.values is not None and kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
            self.values.copy_(self.values)
        self.placed = empty or not of_device(tensor)

    def changed(self) -> bool:
        """Compare versions, and values as well: changes through ``.data`` and NumPy have no version."""
        if self.values is None or self.memory is None:
            return False
        with past_class():
            if _freed(self.value) or self.value.requires_grad is not self.requires_grad:
                return True
            if self.version is not None and _version(self.value) != self.version:
                return True
            try:
                moved = self.placed and _place(self.value) != _place(self.memory)
                return moved or not equal_tensors(self.value, self.values)
            except Exception:  # noqa: BLE001 - sparse and nested tensors, and the code of any class
                return False

    def restore(self) -> None:
        """Make the object what was saved."""
        if self.values is None or self.memory is None or not self.changed():
            return
        # An inference tensor can only be changed in inference mode. Others are changed outside of it, so that
        # autograd records the change.
        with past_class(), torch.inference_mode(self.value.is_inference()), torch.no_grad():
            if _freed(self.memory):
                self.value.data = self.values.clone()
            else:
                if self.placed and _strided(self.value):
                    _put_back(self.value, self.memory)
                self.value.copy_(self.values)
            if self.value.is_leaf and self.value.requires_grad is not self.requires_grad:
                self.value.requires_grad_(self.requires_grad)
            self.version = _version(self.value)


def of_device(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has a class of its device, whose attributes are its memory."""
    kind = type(tensor)
    with past_class():
        if kind in (torch.Tensor, torch.nn.Parameter) or tensor.device.type in ("cpu", "meta"):
            return False
        return kind is type(torch.empty(0, device=tensor.device))


def equal_tensors(tensor: torch.Tensor, values: torch.Tensor) -> bool:
    """Return whether two tensors hold the same values; NaN equals NaN."""
    try:
        same = torch.equal(tensor, values)
    except NotImplementedError:  # some devices cannot compare
        if tensor.device.type == "cpu":
            raise
        return equal_tensors(tensor.detach().cpu(), values.cpu())
    if same:
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

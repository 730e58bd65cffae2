"""Objects that may hold memory which no search can see. Does not import torch."""

from __future__ import annotations

import array
import ctypes
import io
import math
import mmap
import pickle
import struct
import sys
import types
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from multiprocessing.process import BaseProcess
from subprocess import Popen
from typing import Any, Final

from pytest_infergate.instruments.nested import package_of

HIDDEN_BYTES: Final = 1_000_000
"""Size from which on objects may be weights, together."""
LARGE_BUFFER: Final = 65_536
"""Size from which on one buffer counts; texts and names are smaller."""
_BUFFERS = (bytes, bytearray, array.array, memoryview, mmap.mmap, io.BytesIO, ctypes.Array, ctypes.Structure)
_POINTERS = (ctypes.c_void_p, ctypes._Pointer)  # noqa: SLF001 - has no public name
# Pointers of SWIG; weights that torch's compiler put into a library.
_SHOW_NOTHING = frozenset({"SwigPyObject", "AOTICompiledModel"})
_PROCESSES = (Popen, BaseProcess)
_WORD = struct.calcsize("P")
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
TEXTS = frozenset({"tokenizers", "sentencepiece", "tiktoken", "regex", "_regex", "pydantic_core"})
"""Packages whose objects hold vocabularies and schemas, which are no weights, and show nothing of them."""
# Their memory is known otherwise.
_KNOWN = sys.stdlib_module_names | {"torch", "numpy", "pandas"} | TEXTS


def measure_of(kind: type) -> Callable[[Any], float] | None:
    """Return what returns the hidden bytes of an object, infinite if unknown; ``None`` if it hides none."""
    torch, pandas = sys.modules.get("torch"), sys.modules.get("pandas")
    if kind.__name__ in _SHOW_NOTHING or (torch is not None and issubclass(kind, torch.ScriptObject)):
        return lambda _: math.inf
    if pandas is not None and issubclass(kind, (pandas.DataFrame, pandas.Series)):
        return lambda table: float(sum(table.memory_usage() if table.ndim > 1 else [table.memory_usage()]))
    if issubclass(kind, _BUFFERS):
        return buffer_bytes
    if issubclass(kind, _POINTERS):
        return lambda pointer: math.inf if pointer else 0.0
    if issubclass(kind, _PROCESSES):
        return lambda process: math.inf if _runs(process) else 0.0
    return pickled_bytes if is_native(kind) else None


def hidden_in(values: Collection[Any]) -> dict[str, float]:
    """Return the hidden bytes by name of class, infinite if unknown; none if they are few together.

    A pointer has the class of what holds it.
    """
    measures = {kind: measure_of(kind) for kind in set(map(type, values))}
    sizes = {id(value): measure(value) for value in values if (measure := measures[type(value)]) is not None}
    if sum(sizes.values()) < HIDDEN_BYTES:
        return {}
    pointers = (kind for kind in measures if kind.__name__ in _SHOW_NOTHING or issubclass(kind, _POINTERS))
    owners = holders(values, tuple(pointers))
    found: defaultdict[str, float] = defaultdict(float)
    for value in values:
        if size := sizes.get(id(value)):
            kind = type(owners.get(id(value), value))
            module = getattr(kind, "__module__", "builtins")  # which some classes of extensions lack
            found[f"{module}.{kind.__qualname__}".removeprefix("builtins.")] += size
    return dict(found)


def holders(values: Collection[Any], pointers: tuple[type, ...]) -> dict[int, Any]:
    """Return the objects with pointers among their attributes, by the ids of the pointers."""
    found: dict[int, Any] = {}
    for value in values if pointers else ():
        with suppress(AttributeError):
            attributes = object.__getattribute__(value, "__dict__")
            found |= {id(item): value for item in attributes.values() if isinstance(item, pointers)}
    return found


def _runs(process: Any) -> bool:
    """Return whether a child process runs, as far as its object knows: to ask the system may reap it."""
    return getattr(getattr(process, "_popen", process), "returncode", 0) is None


def buffer_bytes(value: Any) -> float:
    """Return the bytes of a buffer; 0 if it is small, closed or released."""
    with suppress(ValueError, BufferError, TypeError):
        size = memoryview(value.getbuffer() if isinstance(value, io.BytesIO) else value).nbytes
        return float(size) if size >= LARGE_BUFFER else 0.0
    return 0.0


def is_native(kind: type) -> bool:
    """Return whether an extension module defines the memory of a class, or of one that it inherits from."""
    part: type | None = kind
    while part is not None and part is not object:
        base = part.__base__ or object
        own = vars(part)
        # What a class of Python adds to an object.
        words = ("__dict__" in own) + ("__weakref__" in own)
        if "__slots__" in own:
            words += sum(isinstance(item, types.MemberDescriptorType) for item in own.values())
        package = package_of(part)
        # Extension modules written in Rust name no module of theirs.
        known = package in _KNOWN and not (package == "builtins" and part.__flags__ & _HEAP_TYPE)
        if not known and part.__basicsize__ - base.__basicsize__ > words * _WORD:
            return True
        part = base
    return False


class _EnoughError(Exception):
    """So much was written that the rest does not matter."""


class _Sink:
    """A file that counts what is written to it."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: Any) -> None:
        self.size += memoryview(data).nbytes
        if self.size >= HIDDEN_BYTES:
            raise _EnoughError


def pickled_bytes(value: Any) -> float:
    """Return the bytes of an object's pickled state; infinite from `HIDDEN_BYTES` on, or if it has none."""
    with suppress(AttributeError):
        if isinstance(object.__getattribute__(value, "__qualname__"), str):
            return 0.0  # a function
    sink = _Sink()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pickle.Pickler(sink, 5, buffer_callback=lambda buffer: sink.write(buffer.raw())).dump(value)
    except Exception:  # noqa: BLE001 - including what the object raises
        return math.inf
    return float(sink.size)

"""An output as plain data, which is written by one worker and read by the other without running its code."""

from __future__ import annotations

import array
import copyreg
import enum
import functools
import io
import os
import sys
import types
import warnings
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, Final, NamedTuple

import msgspec

from pytest_infergate.instruments.nested import ATOMS, Graph, Parts, as_array, is_tensor, loaded, parts
from pytest_infergate.instruments.tensors import gradient_of

MAX_VALUES: Final = 1_000_000
"""Values that an output may hold, those of tensors, arrays and lists of numbers or text not included."""
MAX_ARRAY_BYTES: Final = 2**32 - 2**16
"""Bytes of an array of numpy that a file can hold, with room for its header."""
OPAQUE: Final = "not compared"
FACTORY: Final = ".default_factory"
"""The step to what makes the missing values of a mapping, which only some mappings have."""
CLASS: Final = ".__class__"
FIELDS: Final = "._fields"
"""The step to the names of the fields of a named tuple."""
# Classes of these modules are values, and their repr is the value.
_VALUE_MODULES: Final = frozenset({"datetime", "decimal", "fractions", "ipaddress", "uuid", "zoneinfo"})
_METHODS: Final[tuple[Any, ...]] = (
    types.FunctionType, classmethod, staticmethod, functools.partialmethod, functools.singledispatchmethod,
    types.BuiltinFunctionType, types.MethodDescriptorType, types.ClassMethodDescriptorType,
    types.WrapperDescriptorType,
)  # fmt: skip
_INT64: Final = range(-(2**63), 2**63)


class Described(msgspec.Struct, array_like=True):
    """One value. Two values are compared if their kinds are equal."""

    kind: str
    value: Any = None
    """Of numbers and text; the size of containers, the class of objects, the bytes of arrays, the index of a
    tensor, the type of what cannot be read."""
    steps: list[str] = []
    """How each child is reached, such as ``['scores']`` or ``.logits``."""
    children: list[int] = []
    """Indices of other values."""
    computed: dict[str, bool] = {}
    """Steps to attributes that a property of the class computes when they are first read, and keeps; false
    where they may have been given instead."""


class _Content(NamedTuple):
    """One value, and those that it holds by the step to them."""

    kind: str
    value: Any = None
    children: dict[str, Any] = {}  # noqa: RUF012 - never changed
    covered: frozenset[str] = frozenset()
    """Steps to attributes whose content is part of another child, if they cannot be read themselves."""


class Description:
    """Everything that an output holds. A value is described once, however often it occurs."""

    def __init__(self, nodes: list[Described], tensors: list[Any]) -> None:
        self.nodes = nodes
        self.tensors = tensors

    @classmethod
    def of(cls, output: Any) -> Description:
        """Describe an output. Tensors and arrays are copied."""
        self = cls([], [])
        with warnings.catch_warnings():  # reading an attribute or a tensor of an old kind may warn
            warnings.simplefilter("ignore")
            self._describe(output)
        return self

    def _describe(self, output: Any) -> None:
        # Values are kept alive, because the id of a deleted object may be reused.
        indices: dict[int, tuple[int, Any]] = {}
        covering: list[tuple[Described, frozenset[str]]] = []
        pending = [(output, self._add())]
        while pending:
            value, index = pending.pop()
            node = self.nodes[index]
            content = self._content(value) if index < MAX_VALUES else _Content(OPAQUE, "too many values")
            node.kind, node.value = content.kind, content.value
            if content.covered:
                covering.append((node, content.covered))
            for step, child in content.children.items():
                known = None if type(child) in ATOMS else indices.get(id(child))
                if known is None:
                    known = self._add(), child
                    pending.append((child, known[0]))
                    if type(child) not in ATOMS:
                        indices[id(child)] = known
                node.steps.append(step)
                node.children.append(known[0])
            node.computed = _computed(type(value), node.steps)
        for node, covered in covering:
            kept = [(step, child) for step, child in zip(node.steps, node.children, strict=True)
                    if step not in covered or self.nodes[child].kind != OPAQUE]  # fmt: skip
            node.steps, node.children = [step for step, _ in kept], [child for _, child in kept]

    def write(self, path: str) -> None:
        """Write to a file, and tensors to one beside it."""
        Path(path).write_bytes(msgspec.msgpack.encode(self.nodes))
        if self.tensors:
            loaded("torch").save(self.tensors, f"{path}.tensors")

    @classmethod
    def read(cls, path: str, renamed: tuple[str, str] | None = None) -> Description:
        """Read what was written, with the folder of the base `renamed` to that of the candidate in texts.

        Tensors are left out if torch is not loaded: nothing is equal to them.
        """
        nodes = msgspec.msgpack.decode(Path(path).read_bytes(), type=list[Described])
        if renamed is not None:
            old, new = map(os.fsencode, renamed)
            for node in nodes:
                node.steps = [step.replace(*renamed) for step in node.steps]
                if node.kind in ("text", "path"):
                    node.value = node.value.replace(old, new)
                elif node.kind == "list of text":
                    node.value = [text.replace(old, new) for text in node.value]
        torch, tensors = loaded("torch"), []
        if torch is not None and any(node.kind == "tensor" for node in nodes):
            # Restricted to tensors, although the file was written by the other worker of this run.
            tensors = torch.load(f"{path}.tensors", weights_only=True)
        return cls(nodes, tensors)

    def _add(self) -> int:
        self.nodes.append(Described(OPAQUE))
        return len(self.nodes) - 1

    def _content(self, value: Any) -> _Content:
        try:
            if isinstance(value, _Unread):
                return _Content(OPAQUE, value.type_name)
            if is_tensor(value):
                return self._tensor(value)
            return _plain(value) or _array(value) or _held(value)
        except Exception:  # noqa: BLE001 - the code of any class
            return _Content(OPAQUE, type_name(value))

    def _tensor(self, tensor: Any) -> _Content:
        """A dense tensor on the CPU, which can be written and subtracted."""
        torch = loaded("torch")
        if tensor.is_nested:
            return _Content("nested tensor", children=_numbered(tensor.unbind()))
        kind = torch.Tensor if isinstance(tensor, torch.nn.Parameter) else type(tensor)
        children = {CLASS: kind, ".layout": tensor.layout} | _own(tensor)
        gradient = gradient_of(tensor)
        if gradient is not None:
            children[".grad"] = gradient
        plain = tensor.detach()
        if type(plain) is not torch.Tensor:
            plain = plain.as_subclass(torch.Tensor)
        if plain.is_quantized:
            children[".dtype"] = plain.dtype
            plain = plain.dequantize()
        layout = str(plain.layout).removeprefix("torch.")
        if layout in _SPARSE:
            found = {f".{name.strip('_')}()": getattr(plain, name)() for name in _SPARSE[layout]}
            return _Content(f"{layout} tensor", children=children | {".shape": list(plain.shape)} | found)
        if plain.layout is not torch.strided:
            plain = plain.to_dense()
        # A copy, because a file of a view would contain all that it is a view of.
        self.tensors.append(plain.to("cpu").contiguous().clone())
        return _Content("tensor", len(self.tensors) - 1, children)


def type_name(value: Any) -> str:
    """Return the name of a type, with its module unless it is a built-in one."""
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return _text(f"{module}{kind.__qualname__}")


def _text(text: str) -> str:
    """Return text that can be encoded; names may contain lone surrogates."""
    return text.encode(errors="backslashreplace").decode()


def _numbered(items: Any) -> dict[str, Any]:
    return {f"[{index}]": item for index, item in enumerate(items)}


_SPARSE: Final[dict[str, tuple[str, ...]]] = {
    "sparse_coo": ("_indices", "_values", "is_coalesced"),  # without "_", they must be coalesced
    **dict.fromkeys(("sparse_csr", "sparse_bsr"), ("crow_indices", "col_indices", "values")),
    **dict.fromkeys(("sparse_csc", "sparse_bsc"), ("ccol_indices", "row_indices", "values")),
}
"""Methods that return all of a sparse tensor, by layout: entries may be zero, or several in one place."""
_PLAIN: Final[tuple[tuple[Any, str, Callable[[Any], Any]], ...]] = (
    (int, "int", lambda value: int(value) if int(value) in _INT64 else hex(value)),
    (float, "float", float),
    (complex, "complex", lambda value: [value.real, value.imag]),
    (str, "text", lambda value: str.encode(value, errors="surrogatepass")),
    ((bytes, bytearray, memoryview), "bytes", bytes),
    (os.PathLike, "path", os.fsencode),
    (type, "class", lambda value: _text(value.__qualname__)),
)
"""Types whose values hold nothing, with the kind and the value that describe them."""


def _plain(value: Any) -> _Content | None:
    """Describe numbers, text, names and other values that hold nothing."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        return _Content("enum", _text(f"{kind.__name__}.{value.name}"), {".value": value.value})
    if value is None or kind is bool:
        return _Content(kind.__name__, value)
    if as_array(value) is not None:  # numbers of numpy may be subclasses of those of Python
        return None
    for types_, name, described in _PLAIN:
        if isinstance(value, types_):
            # What pathlib keeps in slots are texts that it has made already.
            bare = kind in ATOMS or isinstance(value, (type, PurePath))
            return _Content(name, described(value), {} if bare else _own(value))
    numpy, torch = loaded("numpy"), loaded("torch")
    names: tuple[Any, ...] = (range,) if torch is None else (range, torch.dtype, torch.device, torch.layout)
    names += () if numpy is None else (numpy.dtype,)
    if isinstance(value, names) or kind.__module__ in _VALUE_MODULES:
        return _Content(type_name(value), _text(repr(value)))
    return None


def _array(value: Any) -> _Content | None:
    """Describe an array, or a scalar of numpy."""
    found, numpy = as_array(value), loaded("numpy")
    if found is None:
        return None
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(found, masked.MaskedArray):
        mask, filled = masked.getmaskarray(found), numpy.where(masked.getmaskarray(found), 0, found.data)
        more = {".fill_value": found.fill_value, ".hardmask": found.hardmask}
        return _Content("masked array", children={".mask": mask, ".data": filled} | more)
    dtype = found.dtype
    mapped = isinstance(found, numpy.memmap)  # the same values in a file
    children = {CLASS: numpy.ndarray} if mapped else {CLASS: type(found)} | _own(value)
    if dtype.kind in "OT":  # objects, and strings of any length
        return _Content("array of objects", list(found.shape), _numbered(found.ravel().tolist()) | children)
    if dtype.names is not None:
        fields = {f"[{name!r}]": numpy.asarray(found)[name] for name in dtype.names}
        return _Content("structured array", list(found.shape), fields | children | {FIELDS: dtype.names})
    if dtype.kind == "V" and dtype.type is not numpy.void:
        found = found.astype(numpy.float32)  # bfloat16 and other types that numpy itself does not have
    if found.nbytes > MAX_ARRAY_BYTES:
        return _Content(OPAQUE, "an array of 4 GiB or more")
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.asarray(found), allow_pickle=False)
    return _Content("array", [str(dtype), buffer.getvalue()], children)


def _held(value: Any) -> _Content:  # noqa: C901 - one for each kind
    """Describe what holds other values: containers and objects."""
    if isinstance(value, weakref.ref):
        return _Content("weakref", children={"()": value()})
    more: dict[str, Any] = {}
    if isinstance(value, array.array):
        value, more = value.tolist(), {".typecode": value.typecode}
    elif isinstance(value, deque) and value.maxlen is not None:
        more = {".maxlen": value.maxlen}
    elif isinstance(value, defaultdict):
        more = {FACTORY: value.default_factory}
    if type(value).__module__ not in ("builtins", "collections", "array"):
        more[CLASS] = type(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            more[FIELDS] = value._fields
    held = parts(value)
    if isinstance(value, (set, frozenset)):
        content = _set(value)
    elif held is None or not held.container:
        return _object(value, held)
    elif held.keys is not None:
        items = {}
        for index, (key, item) in enumerate(zip(held.keys, held.items, strict=True)):
            step = _key(key)
            if step is None or f"[{step}]" in items:
                items[f".keys()[{index}]"], step = key, f"key {index}"
            items[f"[{step}]"] = item
        content = _Content("mapping", [len(held.items), isinstance(value, OrderedDict)], items)
    else:
        content = _sequence(held)
    return content._replace(children=content.children | ({} if held is None else _attributes(held)) | more)


def _own(value: Any) -> dict[str, Any]:
    """Return the attributes that a number, text, tensor or array has besides its value."""
    held = parts(value)
    return {} if held is None else _attributes(held)


def _attributes(held: Parts) -> dict[str, Any]:
    return {_text(f".{name}"): item for name, item in held.attributes.items()}


def _key(key: Any) -> str | None:
    """Return the text of a key of a mapping; ``None`` if its place has to be that in the mapping."""
    if type(key) in ATOMS:
        return _text(repr(key))
    if isinstance(key, str):
        return _text(str.__repr__(key))
    if isinstance(key, enum.Enum):
        return _text(f"{type(key).__name__}.{key.name}")
    if isinstance(key, tuple):
        found = [_key(item) for item in key]
        return None if None in found else f"({', '.join(map(str, found))})"
    plain = None if as_array(key) is not None else _plain(key)
    return None if plain is None or plain.children else str(plain.value)


def _sequence(held: Parts) -> _Content:
    """Describe items in their order.

    A list of numbers or text is one value, which takes less memory than one value for each.
    """
    kinds, items = set(map(type, held.items)), held.items
    kind = kinds.pop() if len(kinds) == 1 and not held.state and not held.members else None
    if kind is str:
        return _Content("list of text", [item.encode(errors="surrogatepass") for item in items])
    if kind in (float, bool) or (kind is int and min(items) in _INT64 and max(items) in _INT64):
        return _Content(f"list of {kind.__name__}", items)
    return _Content("sequence", len(items), _numbered(items))


def _set(value: Any) -> _Content:
    """Describe a set in an order that does not depend on addresses and hashes."""

    def order(item: Any) -> tuple[bool, float, bytes]:
        described = Description.of(item)
        if described.tensors:
            raise TypeError("tensors have no order")
        number = isinstance(item, (int, float)) and item == item  # noqa: PLR0124 - NaN has no order
        return number, float(item) if number else 0.0, msgspec.msgpack.encode(described.nodes)

    items = list(value) if len(value) <= 1 else sorted(value, key=order)
    return _Content("set", len(items), {f"{{{index}}}": item for index, item in enumerate(items)})


def _object(value: Any, held: Parts | None) -> _Content:
    """Describe an object by its attributes, and by what its class saves of it for a copy.

    Neither is complete: a class written in C has no attributes, and one written in Python may leave
    something out of its copies.
    """
    kind = type(value)
    torch = loaded("torch")
    unread: tuple[Any, ...] = (
        io.IOBase, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType,
        *(() if torch is None else (torch.nn.Module,)),
    )  # fmt: skip
    if isinstance(value, unread):
        return _Content(OPAQUE, type_name(value))
    children = {} if held is None else _attributes(held)
    try:
        saved = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - the code of any class
        # What it holds besides its attributes is unknown.
        unknown = _Content("object", kind.__name__, children | {"": _Unread(type_name(value))})
        return unknown if children else _Content(OPAQUE, type_name(value))
    if isinstance(value, BaseException):
        children[".__cause__"] = value.__cause__
    if isinstance(saved, str):  # the name of a global variable
        return _Content("object", _text(f"{kind.__name__} {saved}"), children)
    own = kind in copyreg.dispatch_table or any(
        getattr(kind, name, None) is not getattr(object, name, None)
        for name in ("__reduce_ex__", "__reduce__", "__getstate__")
    )
    if not own:
        # Threads and the like, whose attributes are not read, and objects that hold nothing but compute.
        if (held is None and saved[2]) or (not children and _computes(kind)):
            return _Content(OPAQUE, type_name(value))
        return _Content("object", kind.__name__, children)
    state = dict(_saved(saved))
    if kept := _computed(kind, children):  # they are attributes already
        names = frozenset(step[1:] for step in kept)
        state = {step: _without(part, names) for step, part in state.items()}
    # What is written in C saves its content as bytes. Functions and modules do not.
    covered = frozenset(step for step, child in children.items() if not isinstance(child, unread))
    saves_bytes = any(type(each) is bytes for each in Graph(list(state.values())).leaves)
    return _Content("object", kind.__name__, children | state, covered if saves_bytes else frozenset())


def _computes(kind: Any) -> bool:
    """Return whether a class computes values on demand, which are not part of what its objects hold."""
    names = ("__iter__", "__getitem__", "__getattr__", "__next__")
    return any(
        name in names or isinstance(member, (property, functools.cached_property))
        for base in kind.__mro__[:-1]
        for name, member in vars(base).items()
    )


def _computed(kind: Any, steps: Iterable[str]) -> dict[str, bool]:
    """Return the steps to attributes that a class may compute when they are first read; see `Described`."""
    found = {}
    for step in (each for each in steps if each.startswith(".")):
        name = step[1:]
        member = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
        # A value of the object comes before such a property, and after one that can be set.
        replaceable = hasattr(type(member), "__get__") and not hasattr(type(member), "__set__")
        if replaceable and not isinstance(member, _METHODS):
            found[step] = isinstance(member, functools.cached_property)
    return found


def _without(state: Any, names: frozenset[str]) -> Any:
    """Return a state that a class saves, or the dictionary of the object in it, without some attributes."""
    if type(state) is not dict:
        return state
    return {key: _without(item, names) if key == "__dict__" else item for key, item in state.items()
            if key not in names}  # fmt: skip


class _Unread(NamedTuple):
    """In place of what an object holds that cannot be read."""

    type_name: str


def _saved(saved: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the parts of what ``__reduce__`` returned, without the function that makes the copy."""
    _, arguments, state, items, pairs = (*saved, None, None, None)[:5]  # the class may leave out the last
    yield ".__reduce__()[1]", arguments
    yield ".__reduce__()[2]", state
    yield ".__reduce__()[3]", None if items is None else list(items)
    yield ".__reduce__()[4]", None if pairs is None else list(pairs)

"""Values nested in containers and plain objects. Imports neither torch nor numpy."""

from __future__ import annotations

import array
import copy
import enum
import functools
import io
import sys
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any, Final, Literal, NamedTuple

ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Types of values that hold nothing else and never change."""
# Subclasses come before their bases, whose methods would leave out a part of what they hold.
_CONTAINERS: Final[tuple[Any, ...]] = (OrderedDict, defaultdict, dict, list, deque, set, tuple, frozenset)
_VIEWS: Final[tuple[Any, ...]] = tuple(
    type(getattr(mapping(), name)())
    for mapping in (dict, OrderedDict)
    for name in ("keys", "values", "items")
)
_BOUND: Final[tuple[Any, ...]] = (types.MethodType, types.BuiltinMethodType)
_NUMBERS_AND_TEXT: Final[tuple[Any, ...]] = (int, float, complex, str, bytes)
_WHOLE: Final[tuple[Any, ...]] = (
    type, enum.Enum, bytearray, memoryview, array.array, io.IOBase, weakref.ref, types.ModuleType,
    functools.partial, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.CodeType,
    types.FrameType, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, types.TracebackType,
)  # fmt: skip
# Objects of these packages belong to the process: a copy would share locks, threads and files with them.
_PROCESS: Final = frozenset(
    {"asyncio", "concurrent", "logging", "multiprocessing", "socket", "subprocess", "threading", "_pytest"}
)


class Parts(NamedTuple):
    """What a value holds. Only the values themselves are read: no property, hook or method of the user."""

    items: list[Any]
    """Of a container, in its order."""
    keys: list[Any] | None = None
    """Of the items, if the container is a mapping."""
    state: dict[str, Any] = {}  # noqa: RUF012 - never changed
    """Of the object's dictionary, if it has one."""
    members: dict[Any, Any] = {}  # noqa: RUF012 - never changed
    """Of slots, by descriptor."""
    container: bool = True
    """Whether it is a container, even if it is empty, and not a plain object."""
    leaf: bool = False
    """Whether it is a value by itself, such as a tensor or text, that has attributes besides."""

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes by name, without those that are items of the same name, as in ModelOutput."""
        found = {descriptor.__name__: value for descriptor, value in self.members.items()} | self.state
        if self.keys:
            items = dict(zip(self.keys, self.items, strict=True))
            found = {name: value for name, value in found.items() if items.get(name, found) is not value}
        return found

    @property
    def object_keys(self) -> list[Any]:
        """Keys that hold something: the copy of such a key has to be the key of the copy."""
        return [key for key in self.keys or () if type(key) not in ATOMS]

    def values(self) -> Iterator[Any]:
        """Items, then keys that are not plain numbers or text, then attributes."""
        yield from self.items
        yield from self.object_keys
        if self.state or self.members:
            yield from self.attributes.values()


@functools.lru_cache(maxsize=2048)
def _container(kind: Any) -> Any:
    """Return the built-in container that a type is or extends; ``None`` for other types."""
    return next((base for base in _CONTAINERS if issubclass(kind, base)), None)


@functools.lru_cache(maxsize=2048)
def _is_whole(kind: Any) -> bool:
    """Return whether values of a type are taken as they are: arrays, modules of a model, functions, files."""
    torch, numpy = loaded("torch"), loaded("numpy")
    whole = _WHOLE
    if torch is not None:
        whole = (*whole, torch.nn.Module)
    if numpy is not None:
        whole = (*whole, numpy.generic)
    if issubclass(kind, torch.Tensor if torch is not None else ()):
        # Attributes of a tensor with its own implementation belong to it, and are in each copy of it.
        return kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
    if issubclass(kind, numpy.ndarray if numpy is not None else ()):
        masked = sys.modules.get("numpy.ma")
        return masked is not None and issubclass(kind, masked.MaskedArray)  # as above
    return issubclass(kind, whole) or hasattr(kind, "__dlpack__") or package_of(kind) in _PROCESS


@functools.lru_cache(maxsize=2048)
def _descriptors(kind: Any) -> tuple[Any, ...]:
    """Return the descriptors of slots, those of base classes first."""
    return tuple(
        member
        for base in reversed(kind.__mro__)
        if "__slots__" in vars(base)  # members of other classes are written in C, and may be addresses
        for member in vars(base).values()
        if isinstance(member, types.MemberDescriptorType)
    )


def parts(value: Any) -> Parts | None:
    """Return what a container or plain object holds; ``None`` for a value that is taken as a whole."""
    kind: Any = type(value)
    if kind in ATOMS:
        return None
    array_of_objects = is_array(value) and value.dtype.hasobject and not value.dtype.names
    if _is_whole(kind):
        return Parts(list(value.flat)) if array_of_objects else None
    base, keys, items = _container(kind), None, []
    if base is not None and issubclass(base, dict):
        pairs = list(base.items(value))
        keys, items = [key for key, _ in pairs], [item for _, item in pairs]
    elif kind is types.MappingProxyType:
        keys, items = list(value), list(value.values())
    elif base is not None:
        items = list(base.__iter__(value))
    elif kind in _VIEWS:
        items = list(value)
    elif array_of_objects:
        items = list(value.flat)
    state, members = own_attributes(value)
    container = base is not None or kind is types.MappingProxyType or kind in _VIEWS or array_of_objects
    leaf = not container and (is_tensor(value) or is_array(value) or issubclass(kind, _NUMBERS_AND_TEXT))
    return Parts(items, keys, state, members, container, leaf) if container or state or members else None


def package_of(kind: type) -> str:
    """Return the name of the package of a class; empty if it has none, as some classes of extensions."""
    return str(getattr(kind, "__module__", None) or "").partition(".")[0]


def own_attributes(value: Any) -> tuple[dict[str, Any], dict[Any, Any]]:
    """Return the dictionary of an object, and the values of its slots by descriptor."""
    found = None
    with suppress(Exception):  # there is none, or it is a property of the class
        found = object.__getattribute__(value, "__dict__")
    members = {}
    kind: Any = type(value)
    for member in _descriptors(kind):
        with suppress(AttributeError):  # a slot without a value
            members[member] = member.__get__(value)
    return dict(found) if isinstance(found, dict) else {}, members


def loaded(name: Literal["torch", "numpy"]) -> Any:
    """Return a library if it is loaded, without importing it: before, there are no values of it."""
    module = sys.modules.get(name)
    # A module whose import is going on, or has failed, is incomplete.
    return module if hasattr(module, {"torch": "compile", "numpy": "ndarray"}[name]) else None


def is_array(value: Any) -> bool:
    """Return whether a value is an array of numpy."""
    numpy = loaded("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor of torch."""
    torch = loaded("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def as_array(value: Any) -> Any:
    """Return an array of numpy, a scalar of it or an array of another library as one; else ``None``."""
    numpy = loaded("numpy")
    if numpy is None or is_tensor(value):
        return None
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        return numpy.asanyarray(value)
    if hasattr(type(value), "__dlpack__"):
        with suppress(Exception):  # an array of an accelerator, which numpy cannot read
            return numpy.asarray(value)
    return None


class Graph:
    """All values that a value holds, each container and object once, however they refer to each other."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.leaves: list[Any] = []
        """Values without parts, in order, as often as they occur."""
        self.nodes: dict[int, tuple[Any, Parts]] = {}
        """By id, values with parts after those that they hold. They are kept alive: ids may be reused."""
        opened: dict[int, bool] = {}  # and whether it is a leaf as well
        stack: list[tuple[Any, Parts, Iterator[Any]]] = [(None, Parts([]), iter((root,)))]
        while stack:
            value, held, remaining = stack[-1]
            for child in remaining:
                inner = None if id(child) in opened else parts(child)
                if opened.get(id(child), inner is None or inner.leaf):
                    self.leaves.append(child)
                if inner is not None:
                    opened[id(child)] = inner.leaf
                    stack.append((child, inner, inner.values()))
                    break
            else:
                stack.pop()
                if stack:
                    self.nodes[id(value)] = value, held

    def place_of(self, wanted: Any) -> str:
        """Return the shortest way from the root, which is ``output``, to a value."""
        pending, seen = deque([(self.root, "output")]), set()
        while pending:
            value, place = pending.popleft()
            if value is wanted:
                return place
            if id(value) in seen or id(value) not in self.nodes:
                continue
            seen.add(id(value))
            held = self.nodes[id(value)][1]
            for index, (key, item) in enumerate(zip(held.keys or count(), held.items, strict=False)):
                pending.append((item, f"{place}[{key!r}]" if type(key) in ATOMS else f"{place}[key {index}]"))
            pending += [(item, f"{place}.{name}") for name, item in held.attributes.items()]
        return "output"

    def rebuilt(self, change: Callable[[Any], Any], *, fresh: bool = False) -> Any:
        """Return the root with `change` applied once to each distinct leaf.

        Containers and objects that hold a changed leaf are rebuilt with their own type, without a call of
        their constructor; with `fresh`, all that can change are. Everything else stays the same object, so
        that what a model recognises by identity stays recognisable.
        """
        results: dict[int, Any] = {}
        for leaf in self.leaves:
            if type(leaf) not in ATOMS and id(leaf) not in results:
                results[id(leaf)] = change(leaf)
        leaves = {id(leaf): leaf for leaf in self.leaves if type(leaf) not in ATOMS}
        new = {key: result for key, result in results.items() if result is not leaves[key]}
        if fresh:
            copied = (key for key, (value, _) in self.nodes.items() if copies_itself(value))
            new |= {key: copy.deepcopy(self.nodes[key][0]) for key in copied}
        reached = list(new)
        if fresh:
            reached += [
                key
                for key, (value, held) in self.nodes.items()
                if not issubclass(type(value), (tuple, frozenset)) or held.state or held.members
            ]
        self._fill(self._shells(reached, new), new)
        return new.get(id(self.root), self.root)

    def _shells(self, reached: list[int], new: dict[int, Any]) -> set[int]:
        """Return the ids of all that hold what is reached; their copies, yet to be filled, are put in `new`.

        Tuples and other immutable values cannot be filled: they are made with their items.
        """
        holders: defaultdict[int, list[int]] = defaultdict(list)
        for key, (_, held) in self.nodes.items() if reached else ():
            for child in (*held.items, *held.object_keys, *held.state.values(), *held.members.values()):
                if type(child) not in ATOMS:
                    # A part that refers to what holds it has to refer to the copy.
                    holders[id(referred(child))].append(key)
        found: set[int] = set()
        while reached:
            key = reached.pop()
            if key in found:
                continue
            if key in self.nodes and key not in new and not _is_immutable(self.nodes[key][0]):
                shell = shell_of(*self.nodes[key])
                if shell is None:  # it stays as it is, and so do those that hold it
                    continue
                new[key] = shell
            found.add(key)
            reached += holders[key]
        return found

    def _fill(self, found: set[int], new: dict[int, Any]) -> None:
        """Fill the copies, and make the immutable values among what was found."""
        immutable = [key for key in self.nodes if key in found and key not in new]
        # A cycle goes through a mutable value, which exists already: one of the others can always be made.
        unmade = set(immutable)
        while unmade:
            left = len(unmade)
            for key in immutable:
                value, held = self.nodes[key]
                if key in unmade and unmade.isdisjoint(map(id, (*held.items, *held.object_keys))):
                    new[key] = immutable_like(value, held, new)
                    unmade.remove(key)
            if len(unmade) == left:  # views and proxies of a dictionary that holds them stay as they are
                kept = {key for key in unmade if not isinstance(self.nodes[key][0], (tuple, frozenset))}
                unmade -= kept
                found -= kept
        for key, (value, held) in self.nodes.items():
            if key in found and not copies_itself(value):
                fill(new[key], value, held, new)


def of_pandas(value: Any) -> bool:
    """Return whether a value is one of pandas, which keeps what it holds in objects written in C."""
    return package_of(type(value)) == "pandas"


def copies_itself(value: Any) -> bool:
    """Return whether only the class of a value can copy it: tables of pandas and images of Pillow."""
    image = sys.modules.get("PIL.Image")
    return of_pandas(value) or (image is not None and isinstance(value, image.Image))


def referred(value: Any) -> Any:
    """Return what a weak reference refers to, the object of a bound method, and any other value itself."""
    if type(value) is weakref.ref:
        return value()
    return value.__self__ if type(value) in _BOUND else value


def _is_immutable(value: Any) -> bool:
    kind: Any = type(value)
    return _container(kind) in (tuple, frozenset) or kind is types.MappingProxyType or kind in _VIEWS


def immutable_like(value: Any, held: Parts, new: dict[int, Any]) -> Any:
    """Return a tuple, frozenset, mapping proxy or view of the same type with other items."""
    kind: Any = type(value)
    items = [new.get(id(item), item) for item in held.items]
    if kind is types.MappingProxyType:
        return kind({new.get(id(key), key): item for key, item in zip(held.keys or (), items, strict=True)})
    if kind in _VIEWS:
        mapping: Any = OrderedDict if kind.__name__.startswith("odict") else dict
        name = kind.__name__.partition("_")[2]
        made = (
            mapping.fromkeys(items)
            if name == "keys"
            else mapping(items if name == "items" else enumerate(items))
        )
        return getattr(made, name)()
    try:
        return _container(kind).__new__(kind, items)
    except TypeError:  # results of torch, such as torch.return_types.max
        with suppress(Exception):
            return kind(items)
    return value


def shell_of(value: Any, held: Parts) -> Any:
    """Return a value of the same type with the same attributes, empty if it is a container.

    ``None`` for an object that cannot be copied, and for a tensor or array, which only a change of it copies.
    """
    kind: Any = type(value)
    if is_tensor(value) or is_array(value):
        return value.copy() if held.container else None
    base = _container(kind)
    try:
        kind = without_finaliser(kind) if hasattr(kind, "__del__") else kind
        if held.leaf:
            atom = next(each for each in _NUMBERS_AND_TEXT if issubclass(kind, each))
            shell = atom.__new__(kind, *atom.__getnewargs__(value))
        else:
            shell = (base or object).__new__(kind)
        if kind is not type(
            value
        ):  # what it owns is released at the end of the original, after that of the copy
            weakref.finalize(shell, id, value).atexit = False
    except Exception:  # noqa: BLE001 - the code of any class
        # A part of it is written in C, which has its own way of copying.
        shell = copied_by_its_class(value)
        if shell is None:
            return None
    if base is deque:
        deque.__init__(shell, (), value.maxlen)
    elif base is defaultdict:
        object.__setattr__(shell, "default_factory", value.default_factory)
    elif base is not None:
        base.clear(shell)
    _set_attributes(shell, held, {})
    return shell


@functools.lru_cache(maxsize=2048)
def without_finaliser(kind: Any) -> Any:
    """Return a subclass that looks the same, and releases nothing at the end of an object."""
    names = {name: getattr(kind, name) for name in ("__doc__", "__module__", "__qualname__")}
    slots = () if kind.__weakrefoffset__ else ("__weakref__",)
    return type(kind.__name__, (kind,), names | {"__slots__": slots, "__del__": lambda _: None})


def copied_by_its_class(value: Any) -> Any:
    """Return a copy that the class of an object makes; ``None`` if it makes none."""
    if hasattr(value, "__del__"):
        return None
    try:
        copied = copy.copy(value)
    except Exception:  # noqa: BLE001 - the code of any class
        return None
    if isinstance(value, BaseException):
        copied.__cause__, copied.__context__ = value.__cause__, value.__context__
        copied.__suppress_context__, copied.__traceback__ = value.__suppress_context__, value.__traceback__
    return None if copied is value else copied


def fill(target: Any, value: Any, held: Parts, new: dict[int, Any]) -> None:
    """Give a rebuilt value its items and attributes."""
    items = [new.get(id(item), item) for item in held.items]
    kind: Any = type(value)
    base = _container(kind)
    if is_array(target) and not held.leaf:
        for index, item in zip(loaded("numpy").ndindex(target.shape), items, strict=True):
            target[index] = item
    elif base is not None and issubclass(base, dict):
        for key, item in zip(held.keys or (), items, strict=True):
            base.__setitem__(target, new.get(id(key), key), item)
    elif base is set:
        set.update(target, items)
    elif base in (list, deque):
        base.extend(target, items)
    _set_attributes(target, held, new)


def _set_attributes(target: Any, held: Parts, new: dict[int, Any]) -> None:
    """Set attributes past the ``__setattr__`` of the class, which may refuse or check them."""

    def renewed(item: Any) -> Any:
        if type(item) is weakref.ref and id(item()) in new:
            return weakref.ref(new[id(item())])
        # A sorted container keeps methods of its list.
        if type(item) in _BOUND and id(item.__self__) in new:
            owner = new[id(item.__self__)]
            return (
                types.MethodType(item.__func__, owner)
                if hasattr(item, "__func__")
                else getattr(owner, item.__name__)
            )
        return new.get(id(item), item)

    if held.state:
        attributes = object.__getattribute__(target, "__dict__")
        attributes.update({name: renewed(item) for name, item in held.state.items()})
    for member, item in held.members.items():
        with suppress(AttributeError, TypeError):  # read-only members of classes in C
            member.__set__(target, renewed(item))

"""The modules and tensors that a callable refers to. Imports torch."""

from __future__ import annotations

import builtins
import contextvars
import dis
import functools
import gc
import itertools
import sys
import threading
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, NamedTuple

import torch

from pytest_infergate.measure.hidden_memory import HIDDEN_BYTES, LARGE_BUFFER, TEXTS, hidden_in
from pytest_infergate.measure.saved_parts import of_device

MAX_SEARCHED = 100_000
"""Number of objects after which a search ends."""
_OWN_NAMES = frozenset(vars(torch.nn.Module()))
_LEAVES = (str, int, float, complex, type(None), torch.dtype, torch.device, types.CodeType)
# Objects of these packages hold no models of the user, or hold those of all tests, as pytest's own do.
_PACKAGES = {"torch", "numpy", "pytest", "_pytest", "pluggy", "pytest_infergate"}
_FOREIGN = (sys.stdlib_module_names | _PACKAGES | TEXTS) - {
    "_weakrefset",
    "argparse",
    "collections",
    "concurrent",
    "functools",
    "multiprocessing",
    "queue",
    "types",
    "weakref",
}
# Methods that code calls without their names.
_IMPLICIT = frozenset(
    f"__{name}__"
    for name in ("contains", "enter", "exit", "get", "getattr", "getattribute", "getitem", "iter", "len")
) | {"__matmul__", "__next__", "__rmatmul__"}
# Methods of a class that its use calls; the last one is that of a function with a gradient of its own.
_OF_CLASSES = frozenset(("__call__", "__init__", "__new__", "forward"))
# Objects of the standard library that show or iterate over others.
_EMPTY: tuple[Iterable[Any], ...] = ([], (), set(), {}, {}.values(), {}.items())
_VIEWS: tuple[type, ...] = (
    *map(type, ({}.keys(), {}.values(), {}.items(), types.MappingProxyType({}))),
    *(type(iter(items)) for items in _EMPTY),
    *(map, filter, zip, enumerate, reversed, staticmethod, classmethod, types.CellType),
    *(itertools.chain, itertools.cycle, itertools.islice, itertools.repeat),
)


class Held(NamedTuple):
    """What targets refer to."""

    modules: tuple[torch.nn.Module, ...] = ()
    """Outermost modules, those kept without being registered, and parts whose code is followed."""
    tensors: tuple[torch.Tensor, ...] = ()
    """Parameters, buffers, constants of TorchScript, and tensors in attributes and hooks of modules and of
    objects whose methods are called."""
    shared: tuple[Any, ...] = ()
    """Tensors of globals, classes and caches, and all arrays of NumPy, which may be weights."""
    closed: tuple[Any, ...] = ()
    """Tensors and arrays that the callable itself closes over, which may be inputs."""
    hidden: tuple[str, ...] = ()
    """Names of classes whose objects hold memory that the search cannot see."""
    complete: bool = True
    """``False`` if there are too many objects."""


def module_of(target: object) -> torch.nn.Module | None:
    """Return the module of a target: itself, the owner of a bound method, or that of a partial's function."""
    if isinstance(target, torch.nn.Module):
        return target
    if isinstance(target, functools.partial):
        return module_of(target.func)
    owner = getattr(target, "__self__", None)
    return owner if isinstance(owner, torch.nn.Module) else None


class _Origin(Enum):
    """How an object was reached."""

    OWNED = "an attribute of a module, or of an object whose methods are called"
    SHARED = "a global, an attribute of a class, or a cache"
    CLOSED = "a variable, default or argument of the callable itself"


class _Reference(NamedTuple):
    """An object on the way."""

    value: Any
    origin: _Origin
    names: frozenset[str] = frozenset()
    """The names in the code that refers to it."""


def held(*targets: object) -> Held:
    """Search what targets refer to: attributes, closures, globals and methods by name, decorators, caches.

    The code of functions is followed: their globals, the modules that they import, and the methods that they
    name. Attributes of objects are searched to any depth, also in containers. Objects of the standard library
    other than containers and references, of torch, NumPy and pytest are not searched.
    """
    modules: dict[int, torch.nn.Module] = {}
    found: dict[_Origin, list[Any]] = {origin: [] for origin in _Origin}
    # Values are kept alive, because the id of a deleted object may be reused.
    seen: dict[object, Any] = {}
    floats: set[int] = set()
    numpy = sys.modules.get("numpy")
    numbers = (float,) if numpy is None else (float, numpy.floating)
    pending = deque(_Reference(target, _root(target)) for target in targets)
    while pending and len(seen) < MAX_SEARCHED:
        value, origin, names = pending.popleft()
        kind = type(value)
        key = _key(value, origin, names)
        if issubclass(kind, numbers):
            floats.add(id(value))
        if issubclass(kind, _LEAVES) or key in seen or (kind is bytes and len(value) < LARGE_BUFFER):
            continue
        seen[key] = value
        if issubclass(kind, torch.nn.Module):
            modules[id(value)] = value
        elif issubclass(kind, torch.Tensor):
            found[origin].append(value)
        elif _is_array(kind):
            found[_Origin.CLOSED if origin is _Origin.CLOSED else _Origin.SHARED].append(value)
        # By its type, because `__class__` of a proxy may raise.
        pending += _references.dispatch(kind)(value, origin, names)
    # An object is seen once for each way to it.
    hidden = hidden_in({id(value): value for value in seen.values()}.values())
    if len(floats) * sys.getsizeof(0.0) >= HIDDEN_BYTES:
        hidden["float"] = len(floats)
    return Held(
        tuple(modules.values()),
        tuple(found[_Origin.OWNED]),
        tuple(found[_Origin.SHARED]),
        tuple(found[_Origin.CLOSED]),
        tuple(sorted(hidden)),
        complete=not pending,
    )


def _root(target: object) -> _Origin:
    functions = (types.FunctionType, functools.partial)
    return _Origin.CLOSED if issubclass(type(target), functions) else _Origin.OWNED


def _key(value: Any, origin: _Origin, names: frozenset[str]) -> object:
    """Return what makes a reference a new one. Methods are new objects, functions have names of their own."""
    kind = type(value)
    if kind is types.MethodType:
        return id(value.__func__), id(value.__self__), origin
    return id(value), origin, None if issubclass(kind, (types.FunctionType, torch.Tensor)) else names


def _is_array(kind: type) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(kind, numpy.ndarray)


def _of_user(module: Any) -> bool:
    """Return whether a module is one of the user or of another package."""
    return str(module or "").partition(".")[0] not in _FOREIGN


def _searched(kind: type) -> bool:
    """Return whether attributes of a class are searched."""
    if issubclass(kind, (torch.optim.Optimizer, torch.utils.data.Dataset)):
        return True  # what a model needs for itself: the state of an optimiser is as large as its weights
    # Some classes of extensions have no module.
    return _of_user(getattr(kind, "__module__", "builtins"))


@functools.singledispatch
def _references(value: Any, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    """Yield what an object refers to: its attributes, and its methods that are named where it is used."""
    if _is_array(type(value)) and value.dtype == object:
        yield from (_Reference(item, origin, names) for item in value.flat)
    if _searched(type(value)):
        own = dict(_static(value, "__dict__", {}))
        for name, item in dict(_of_class(type(value))).items():
            if isinstance(item, types.MemberDescriptorType):  # an attribute in a slot
                own[name] = _static(value, name, None)
            elif not isinstance(item, (type, types.FunctionType)):
                own.setdefault(name, item)
        yield from (_Reference(item, origin, names) for item in own.values())
        yield from _methods(value, origin, names)


def _methods(value: Any, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    """Yield the methods and properties of an object that are called by name, or without one."""
    for name, item in dict(_of_class(type(value))).items():
        if not (name in names or name in _IMPLICIT or name == "__call__"):
            continue
        code = item.fget if isinstance(item, property) else item
        if isinstance(item, (functools.cached_property, functools.partialmethod)):
            code = item.func
        if not isinstance(code, types.FunctionType):
            continue
        # A batch of inputs has methods and properties too, such as items().
        if code is not item or name in _IMPLICIT or issubclass(type(value), Mapping):
            yield _Reference(code, origin)
            yield _Reference(value, origin, _names(code.__code__))
        else:
            yield _Reference(types.MethodType(code, value), origin)


@_references.register(torch.nn.Module)
def _(value: torch.nn.Module, _: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    for part in value.modules():
        kept: list[Any] = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        if not issubclass(type(part), torch.nn.Module):
            yield _Reference(part, _Origin.OWNED, names)  # a weak proxy of a module
        elif isinstance(part, torch.jit.ScriptModule):
            kept += _of_script(part._c)  # noqa: SLF001 - the state of TorchScript has no public name
        else:
            kept += (item for name, item in vars(part).items() if name not in _OWN_NAMES)
            kept += (item for _, item in _of_class(type(part)) if not _is_code(item))
            kept += (*part._forward_hooks.values(), *part._forward_pre_hooks.values())  # noqa: SLF001
            yield from _methods(part, _Origin.OWNED, names | {"forward"})
        yield from (_Reference(item, _Origin.OWNED, names) for item in kept)


@_references.register(torch.jit.ScriptFunction)
def _(value: Any, *_: object) -> Iterator[_Reference]:
    yield from (_Reference(item, _Origin.OWNED) for item in _constants(value.inlined_graph))


@_references.register(torch.Tensor)
def _(value: torch.Tensor, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    if not of_device(value):
        yield from (_Reference(item, origin, names) for item in _static(value, "__dict__", {}).values())


@_references.register(types.FunctionType)
def _(value: types.FunctionType, origin: _Origin, _: object) -> Iterator[_Reference]:
    names = _names(value.__code__)
    for cell in value.__closure__ or ():
        with suppress(ValueError):  # a variable that is not assigned yet
            yield _Reference(cell.cell_contents, origin, names)
    given = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *vars(value).values())
    yield from (_Reference(item, origin, names) for item in given)
    known = value.__globals__
    if not _of_user(known.get("__name__")):
        return
    used, imported = _outside(value.__code__)
    package = str(known.get("__package__") or "")
    for name in used:
        yield _Reference(known.get(name, vars(builtins).get(name)), _Origin.SHARED, names)
    for name in imported:
        # A relative import has the name that follows the dots.
        above = itertools.accumulate(package.split("."), "{}.{}".format)
        for full in (name, *(f"{parent}.{name}".rstrip(".") for parent in above)):
            yield _Reference(sys.modules.get(full), _Origin.SHARED, names)


@_references.register(functools.partial)
def _(value: functools.partial[Any], origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    held_by = (value.func, *value.args, *value.keywords.values())
    yield from (_Reference(item, origin, names) for item in held_by)


@_references.register(types.MethodType)
def _(value: types.MethodType, origin: _Origin, _: object) -> Iterator[_Reference]:
    yield _Reference(value.__func__, origin)
    code = getattr(value.__func__, "__code__", None)
    yield _Reference(value.__self__, _Origin.OWNED, _names(code))


@_references.register(types.BuiltinMethodType)
@_references.register(types.MethodWrapperType)
def _(value: Any, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    yield _Reference(value.__self__, origin, names)


@_references.register(functools._lru_cache_wrapper)  # noqa: SLF001 - has no public name
def _(value: Any, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    # The results in the cache have no other way to them.
    found = (item for item in gc.get_referents(value) if not isinstance(item, type))
    yield from (_Reference(item, _Origin.SHARED, names) for item in found if item is not vars(value))
    yield _Reference(value.__wrapped__, origin)


@_references.register(dict)
@_references.register(list)
@_references.register(tuple)
@_references.register(set)
@_references.register(frozenset)
@_references.register(deque)
def _(value: Any, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    items = (*dict.keys(value), *dict.values(value)) if isinstance(value, dict) else tuple(value)
    yield from (_Reference(item, origin, names) for item in items)
    yield from _references.dispatch(object)(value, origin, names)


@_references.register(weakref.ReferenceType)
def _(value: Any, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    yield _Reference(value(), origin, names)


@_references.register(weakref.ProxyType)
@_references.register(weakref.CallableProxyType)
def _(value: Any, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    with suppress(ReferenceError):  # the object is gone
        yield _Reference(value.__init__.__self__, origin, names)


@_references.register(threading.local)
def _(value: Any, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    # The attributes in each thread.
    known = (item for item in gc.get_referents(value) if isinstance(item, dict))
    yield from (_Reference(item, origin, names) for item in (*known, vars(value)))
    yield from _methods(value, origin, names)


@_references.register(contextvars.ContextVar)
def _(value: Any, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    yield _Reference(value.get(None), origin, names)


@_references.register(types.GeneratorType)
def _(value: Any, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    if value.gi_frame is not None:
        # A tensor may be a weight as well as the input or the output of the last call.
        for item in (*value.gi_frame.f_locals.values(), value.gi_yieldfrom):
            is_leaf = isinstance(item, torch.Tensor) or _is_array(type(item))
            yield _Reference(item, _Origin.CLOSED if is_leaf else origin, names | _names(value.gi_code))


def _shown(value: Any, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    found = (item for item in gc.get_referents(value) if not isinstance(item, (type, types.ModuleType)))
    yield from (_Reference(item, origin, names) for item in found)


for _kind in _VIEWS:
    _references.register(_kind, _shown)


@_references.register(type)
@_references.register(types.ModuleType)
def _(value: Any, origin: _Origin, names: frozenset[str]) -> Iterator[_Reference]:
    is_class = isinstance(value, type)
    if _of_user(value.__module__ if is_class else value.__name__):
        found = dict(_of_class(value)) if is_class else vars(value)
        if is_class:
            names |= _OF_CLASSES
            found |= found.get("_member_map_", {})  # of an enum
        for item in (found[name] for name in names if name in found):
            # A function of a class may be a class method.
            bound = is_class and isinstance(item, types.FunctionType)
            yield _Reference(types.MethodType(item, value) if bound else item, origin, names)


def _of_script(inner: Any) -> Iterator[Any]:
    """Yield the constants of a scripted module, and the attributes that its methods use."""
    for method in inner._method_names():  # noqa: SLF001
        graph = inner._get_method(method).inlined_graph  # noqa: SLF001
        yield from _constants(graph)
        names = {node.s("name") for node in graph.findAllNodes("prim::GetAttr")}
        values = (inner.getattr(name) for name in sorted(names) if inner.hasattr(name))
        yield from (value for value in values if not isinstance(value, torch._C.ScriptModule))  # noqa: SLF001


def _constants(graph: Any) -> Iterator[Any]:
    """Yield the tensors and objects in a graph of TorchScript, into which freezing puts parameters."""
    for node in graph.findAllNodes("prim::Constant"):
        if node.hasAttribute("value"):
            yield node.output().toIValue()
    yield from (node.t("value") for node in graph.findAllNodes("prim::ConstantMKLDNNTensor"))


def _is_code(value: object) -> bool:
    return isinstance(value, (types.FunctionType, type))


def _of_class(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a class and of its bases, those that take precedence last."""
    for base in reversed(kind.__mro__):
        if _searched(base):
            for name, item in tuple(vars(base).items()):
                yield name, item.__func__ if isinstance(item, (classmethod, staticmethod)) else item


def _static(value: object, name: str, default: Any) -> Any:
    """Return an attribute without running a `__getattr__` of the user."""
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return default


def _names(code: types.CodeType | None) -> frozenset[str]:
    """Return the names of globals and attributes in code, and in the functions and lambdas inside of it."""
    if code is None:
        return frozenset()
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return frozenset(code.co_names).union(*map(_names, inner))


@functools.lru_cache(maxsize=4096)
def _outside(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the globals that code uses, and of the modules that it imports."""
    used, imported = set(), set()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            used.add(step.argval)
        elif step.opname == "IMPORT_NAME":
            imported.add(step.argval)
    inner = [_outside(part) for part in code.co_consts if isinstance(part, types.CodeType)]
    return (
        frozenset(used).union(*(names for names, _ in inner)),
        frozenset(imported).union(*(names for _, names in inner)),
    )

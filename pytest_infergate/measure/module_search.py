"""The modules and tensors that a callable refers to. Imports torch."""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import torch

MAX_SEARCHED = 100_000
"""Number of objects after which a search ends."""
_OWN_NAMES = frozenset(vars(torch.nn.Module()))
_LEAVES = (str, bytes, int, float, complex, type(None), torch.dtype, torch.device)
# Objects of these packages hold no models of the user, or hold those of all tests, as pytest's own do.
_PACKAGES = {"torch", "numpy", "pytest", "_pytest", "pluggy", "pytest_infergate"}
_FOREIGN = (sys.stdlib_module_names | _PACKAGES) - {"collections", "queue", "types"}


class Held(NamedTuple):
    """What a target refers to."""

    modules: tuple[torch.nn.Module, ...] = ()
    """Outermost modules, and modules that others keep without registering them."""
    tensors: tuple[torch.Tensor, ...] = ()
    """Parameters, buffers, constants of TorchScript, and tensors in attributes of modules and of objects
    whose methods are called. What a function closes over or names is not among them: it may be an input."""
    complete: bool = True
    """``False`` if an opaque object of TorchScript was found, or if there are too many objects."""


def module_of(target: object) -> torch.nn.Module | None:
    """Return the module of a target: itself, the owner of a bound method, or that of a partial's function."""
    if isinstance(target, torch.nn.Module):
        return target
    if isinstance(target, functools.partial):
        return module_of(target.func)
    owner = getattr(target, "__self__", None)
    return owner if isinstance(owner, torch.nn.Module) else None


class _Reference(NamedTuple):
    """An object on the way, and how it was reached."""

    value: Any
    owned: bool = False
    """Whether it is in an attribute of a module, or of an object whose methods are called."""
    names: frozenset[str] = frozenset()
    """The names in the code that refers to it."""


def held(target: object) -> Held:
    """Search what a target refers to: attributes, closures, globals and methods by name, decorators, caches.

    Attributes of objects are searched to any depth, also in lists, tuples, sets and dictionaries. Objects of
    the standard library, torch, NumPy and pytest are not searched.
    """
    modules: list[torch.nn.Module] = []
    tensors: list[torch.Tensor] = []
    # Values are kept alive, because the id of a deleted object may be reused.
    seen: dict[object, Any] = {}
    pending = deque([_Reference(target, owned=True)])
    while pending and len(seen) < MAX_SEARCHED:
        value, owned, names = pending.popleft()
        kind = type(value)
        key = (id(value), owned, names if _searched(kind) else None)
        if issubclass(kind, _LEAVES) or key in seen:
            continue
        seen[key] = value
        if issubclass(kind, torch.nn.Module):
            modules.append(value)
        elif issubclass(kind, torch.Tensor) and owned:
            tensors.append(value)
        # By its type, because `__class__` of a proxy may raise.
        pending += _references.dispatch(kind)(value, owned, names)
    opaque = any(issubclass(type(value), torch.ScriptObject) for value in seen.values())
    return Held(tuple(modules), tuple(tensors), complete=not (pending or opaque))


def _searched(kind: type) -> bool:
    """Return whether attributes of a class are searched: one of the user or of another package."""
    return _of_user(kind.__module__)


def _of_user(module: str | None) -> bool:
    return (module or "").partition(".")[0] not in _FOREIGN


@functools.singledispatch
def _references(value: object, owned: bool, names: frozenset[str]) -> Iterator[_Reference]:
    """Yield what an object refers to: its attributes, and its methods that are named where it is used."""
    if not _searched(type(value)):
        return
    own = dict(_static(value, "__dict__", {}))
    for name, item in dict(_of_class(type(value))).items():
        if isinstance(item, types.MemberDescriptorType):  # an attribute in a slot
            own[name] = _static(value, name, None)
        elif isinstance(item, types.FunctionType):
            # A batch of inputs has methods too, such as items().
            if name == "__call__" or (name in names and not isinstance(value, Mapping)):
                yield _Reference(types.MethodType(item, value))
        elif not isinstance(item, type):
            own.setdefault(name, item)
    yield from (_Reference(item, owned, names) for item in own.values())


@_references.register(torch.nn.Module)
def _(value: torch.nn.Module, *_: object) -> Iterator[_Reference]:
    for part in value.modules():
        kept: list[Any] = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        if isinstance(part, torch.jit.ScriptModule):
            kept += _of_script(part._c)  # noqa: SLF001 - the state of TorchScript has no public name
        else:
            found = (*vars(part).items(), *_of_class(type(part)))
            kept += (item for name, item in found if name not in _OWN_NAMES and not _is_code(item))
            kept += (*part._forward_hooks.values(), *part._forward_pre_hooks.values())  # noqa: SLF001
        yield from (_Reference(item, owned=True) for item in kept)


@_references.register(torch.jit.ScriptFunction)
def _(value: Any, *_: object) -> Iterator[_Reference]:
    yield from (_Reference(item, owned=True) for item in _constants(value.inlined_graph))


@_references.register(torch.Tensor)
def _(value: torch.Tensor, owned: bool, names: frozenset[str]) -> Iterator[_Reference]:
    yield from (_Reference(item, owned, names) for item in _static(value, "__dict__", {}).values())


@_references.register(types.FunctionType)
def _(value: types.FunctionType, *_: object) -> Iterator[_Reference]:
    names = _names(value.__code__)
    for cell in value.__closure__ or ():
        with suppress(ValueError):  # a variable that is not assigned yet
            yield _Reference(cell.cell_contents, names=names)
    given = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *vars(value).values())
    known = value.__globals__ if _of_user(value.__module__) else {}
    named = (known[name] for name in names if name in known)
    yield from (_Reference(item, names=names) for item in (*given, *named))


@_references.register(functools.partial)
def _(value: functools.partial[Any], *_: object) -> Iterator[_Reference]:
    yield from map(_Reference, (value.func, *value.args, *value.keywords.values()))


@_references.register(types.MethodType)
def _(value: types.MethodType, *_: object) -> Iterator[_Reference]:
    yield _Reference(value.__func__)
    code = getattr(value.__func__, "__code__", None)
    yield _Reference(value.__self__, owned=True, names=_names(code))


@_references.register(functools._lru_cache_wrapper)  # noqa: SLF001 - has no public name
def _(value: Any, *_: object) -> Iterator[_Reference]:
    # The results in the cache have no other way to them.
    found = (item for item in gc.get_referents(value) if not isinstance(item, type))
    yield from (_Reference(item) for item in found if item is not vars(value))
    yield _Reference(value.__wrapped__)


@_references.register(dict)
@_references.register(list)
@_references.register(tuple)
@_references.register(set)
@_references.register(frozenset)
@_references.register(deque)
def _(value: Any, owned: bool, names: frozenset[str]) -> Iterator[_Reference]:
    items = tuple(dict.values(value) if isinstance(value, dict) else value)
    yield from (_Reference(item, owned, names) for item in items)


@_references.register(type)
@_references.register(types.ModuleType)
def _(value: Any, owned: bool, names: frozenset[str]) -> Iterator[_Reference]:
    is_class = isinstance(value, type)
    if _of_user(value.__module__ if is_class else value.__name__):
        found = dict(_of_class(value)) if is_class else vars(value)
        for item in (found[name] for name in names if name in found):
            # A function of a class may be a class method.
            bound = is_class and isinstance(item, types.FunctionType)
            yield _Reference(types.MethodType(item, value) if bound else item, owned, names)


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

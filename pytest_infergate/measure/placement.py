"""The caller's model made ready for one case, and left as it was found. Needs a loaded torch."""

from __future__ import annotations

import copy
import functools
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.errors import InfergateError
from pytest_infergate.instruments import tensors
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.measure.restore import contents_kept, left_as_found, version


class NotAnInstanceError(InfergateError):
    """A class of modules was handed in where one of its instances was meant."""


class Placed(NamedTuple):
    """A call that runs on the case's device."""

    call: Callable[[], Any]
    from_host: Callable[[], Any] | None
    """The same call with its inputs copied in and its outputs copied out; `None` where nothing is moved."""
    weights: dict[str, int] | None
    """Bytes of parameters and buffers by dtype; `None` for a plain callable, or where a module hides them."""
    moved: bool = False
    """Whether it was put on the device here, so that an output elsewhere is the module's own doing."""
    scripted: bool = False
    """Whether TorchScript is within, which rewrites itself during its first calls."""
    notes: tuple[Note, ...] = ()
    spoiled: Callable[[], Note | None] = lambda: None
    """To be asked when all calls are made: whether they changed their own inputs."""


def module_of(target: object) -> torch.nn.Module | None:
    """The module behind a target: itself, the owner of a bound method, or what a partial wraps."""
    if isinstance(target, torch.nn.Module):
        return target
    if isinstance(target, functools.partial):
        return module_of(target.func)
    owner = getattr(target, "__self__", None)
    return owner if isinstance(owner, torch.nn.Module) else None


@contextmanager
def placed(invocation: Invocation, device: str | None, dtype: str | None = None) -> Iterator[Placed]:
    """Make a module (or a bound method or partial of one) ready on a device, in eval and inference mode.

    On exit the caller's module and tensors are as they were: see `left_as_found`.
    A plain callable is taken as it is: nothing moved, no mode set.
    Raises `NotAnInstanceError` for a class of modules, which would be built by every call.
    """
    target, args, kwargs = invocation
    if isinstance(target, type) and issubclass(target, torch.nn.Module):
        name = target.__name__
        raise NotAnInstanceError(
            f"infer was given the class {name}: give it a module, as in infer({name}(...), x)"
        )
    module = module_of(target)
    if module is None or device is None:
        inside = list(_modules_within(target, set()))
        scripted = isinstance(target, torch.jit.ScriptFunction) or any(map(_scripted, inside))
        yield Placed(invocation.bound(), None, None, scripted=scripted, notes=_callable_notes(inside))
        return
    kind = None if dtype is None else getattr(torch, dtype)
    own = module if kind is None and _can_be_restored(module, device) else _copied(module)
    entry = _rebuilt(target, own, device, kind)
    on_host = Invocation(entry, *tensors.to_device((args, kwargs), "cpu", kind))
    on_device = Invocation(entry, *tensors.to_device((args, kwargs), device, kind))
    inputs = [*tensors.tensors(on_device[1:]), *tensors.tensors(_bound(entry))]
    callers = {id(tensor) for tensor in tensors.tensors((args, kwargs, _bound(target)))}
    versions = [(tensor, version(tensor)) for tensor in inputs]
    with (
        contents_kept(tensor for tensor in inputs if id(tensor) in callers),
        nullcontext() if own is not module else left_as_found(module),
    ):
        _prepare(own, device, kind)

        def from_host() -> Any:
            arrived = Invocation(entry, *tensors.to_device(on_host[1:], device))
            return tensors.to_device(arrived.bound()(), "cpu")

        with torch.inference_mode():
            yield Placed(
                on_device.bound(),
                None if torch.device(device).type == "cpu" else from_host,
                weight_bytes(own),
                moved=True,
                scripted=_scripted(own),
                spoiled=lambda: _spoiled(versions),
            )


def _rebuilt(
    target: Any, module: torch.nn.Module, device: str, dtype: torch.dtype | None
) -> Callable[..., Any]:
    """The target with its module replaced and the tensors of its partial arguments moved."""
    if isinstance(target, functools.partial):
        args, keywords = tensors.to_device((target.args, dict(target.keywords)), device, dtype)
        return functools.partial(_rebuilt(target.func, module, device, dtype), *args, **keywords)
    if isinstance(target, torch.nn.Module):
        return module
    function = getattr(target, "__func__", None)
    if function is None:
        return getattr(module, target.__name__)  # type: ignore[no-any-return]
    return types.MethodType(function, module)


def _bound(target: object) -> list[Any]:
    """Arguments that partials, one inside the other, hold ready."""
    if not isinstance(target, functools.partial):
        return []
    return [target.args, target.keywords, _bound(target.func)]


def _can_be_restored(module: torch.nn.Module, device: str) -> bool:
    """Whether a module can be run itself and be put back after; else a copy of it must run.

    The state of TorchScript cannot be read, a lazy module cannot forget its first input, and tensors
    that wrap others are swapped when they move.
    """
    if _scripted(module) or any(map(is_lazy, module.modules())):
        return False
    wrap = any(is_traceable_wrapper_subclass(tensor) for tensor in module.parameters())
    return not wrap or _lies_on(module, device)


def _scripted(module: torch.nn.Module) -> bool:
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


def is_lazy(module: torch.nn.Module) -> bool:
    """Whether a module waits for its first input to know the shapes of its parameters."""
    held = (*module._parameters.values(), *module._buffers.values())  # noqa: SLF001 - buffers() would recurse
    return any(tensor is not None and torch.nn.parameter.is_lazy(tensor) for tensor in held)


def _copied(module: torch.nn.Module) -> torch.nn.Module:
    """A deep copy, attributes that were computed with gradients on included, which torch refuses to copy."""
    computed = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    return copy.deepcopy(module, computed)


def _prepare(module: torch.nn.Module, device: str, dtype: torch.dtype | None) -> None:
    """Set eval mode and move, but only where that changes something: some modules refuse to be moved."""
    with suppress(NotImplementedError):  # an exported program keeps the mode of its export
        module.eval()
    if dtype is not None:
        module.to(device=device, dtype=dtype)
    elif not _lies_on(module, device):
        module.to(device)


def _lies_on(module: torch.nn.Module, device: str) -> bool:
    """Whether a module has parameters or buffers, and all of them lie on a device."""
    held = [*module.parameters(), *module.buffers()]
    wanted = torch.device(device)
    return bool(held) and all(tensors.same_device(tensor.device, wanted) for tensor in held)


def _spoiled(versions: list[tuple[torch.Tensor, int | None]]) -> Note | None:
    if all(version(tensor) == before for tensor, before in versions):
        return None
    return Note(
        code=NoteCode.INPUTS_CHANGED,
        text="the model changed its inputs in place, so that each call computed with what the last one left",
        hint="copy them inside the model, or measure a callable that makes them anew",
    )


def weight_bytes(module: torch.nn.Module) -> dict[str, int] | None:
    """Bytes of the parameters and buffers by dtype, shared ones once; `None` where a module hides some.

    Hidden are the packed weights of quantised modules, and those of a lazy module before its first call.
    """
    parts = list(module.modules())
    if any(is_lazy(part) for part in parts):
        return None
    plain = [part for part in parts if not isinstance(part, torch.jit.ScriptModule)]
    if any(isinstance(value, torch.ScriptObject) for part in plain for value in vars(part).values()):
        return None
    held = {_identity(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    sizes: Counter[str] = Counter()
    for tensor in held.values():
        sizes[str(tensor.dtype).removeprefix("torch.")] += tensors.size_bytes(tensor)
    return dict(sorted(sizes.items()))


def _identity(tensor: torch.Tensor) -> object:
    """Equal for tensors that show the same memory, be they one object or two."""
    try:
        pointer = 0 if tensor.is_nested else tensor.data_ptr()
    except RuntimeError:  # sparse tensors
        pointer = 0
    return (tensor.device, pointer, tensor.shape, tensor.stride()) if pointer else id(tensor)


def _callable_notes(inside: Iterable[torch.nn.Module]) -> tuple[Note, ...]:
    """Say what a plain callable should have set on the modules that it reaches, and did not."""
    if not any(module.training for module in inside):
        return ()
    text = "a module inside the callable was in training mode"
    return (Note(code=NoteCode.TRAINING_MODE, text=text, hint="call .eval() on it before measuring"),)


def _modules_within(target: Any, seen: set[int]) -> Iterator[torch.nn.Module]:
    """Modules that a callable reaches: by closure, bound arguments, globals, decorators, its attributes."""
    if id(target) in seen:
        return
    seen.add(id(target))
    if isinstance(target, torch.nn.Module):
        yield target
    elif isinstance(target, types.FunctionType):
        for value in _reached(target):
            yield from _modules_within(value, seen)
    elif isinstance(target, functools.partial):
        for value in (target.func, *target.args, *target.keywords.values()):
            yield from _modules_within(value, seen)
    elif isinstance(target, types.MethodType):
        yield from _modules_within(target.__func__, seen)
        yield from _attributes(target.__self__)
    elif not isinstance(target, type):
        yield from _attributes(target)


def _reached(function: types.FunctionType) -> Iterator[Any]:
    """What a function closes over and wraps, and the modules that it names among its globals."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a name not bound yet
            yield cell.cell_contents
    yield getattr(function, "__wrapped__", None)
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, torch.nn.Module):
            yield value


def _attributes(owner: Any) -> Iterator[torch.nn.Module]:
    values = getattr(owner, "__dict__", {}).values()
    yield from (value for value in values if isinstance(value, torch.nn.Module))

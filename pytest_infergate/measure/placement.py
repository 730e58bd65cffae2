"""The caller's model made ready for one case, and left as it was found. Needs a loaded torch."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

import torch

from pytest_infergate.core.model import Note
from pytest_infergate.errors import InfergateError
from pytest_infergate.measure import tensors
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.measure.restore import Contents, left_as_found

HIDDEN_WEIGHTS = torch.ScriptObject
"""What packs the weights of quantised modules, so that nobody can count them."""


class NotAnInstanceError(InfergateError):
    """A class of modules was handed in where one of its instances was meant."""


class Placed(NamedTuple):
    """A call that runs on the case's device."""

    call: Callable[[], Any]
    from_host: Callable[[], Any] | None
    """The same call with its inputs copied in and its outputs copied out; `None` where nothing is moved."""
    weights: int | None
    """Bytes of parameters and buffers; `None` for a plain callable, and where a module hides them."""
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
        raise NotAnInstanceError(f"infer was given the class {name}: give it a module, as in infer({name}(...), x)")
    module = module_of(target)
    if module is None or device is None:
        yield Placed(invocation.bound(), None, None, _callable_notes(target))
        return
    kind = None if dtype is None else getattr(torch, dtype)
    own = module if kind is None and _can_be_restored(module, device) else _copied(module)
    given = Contents(tensors.tensors((args, kwargs)))
    with given.kept(), nullcontext() if own is not module else left_as_found(module):
        _prepare(own, device, kind)
        entry = _rebuilt(target, own, device, kind)
        on_host = Invocation(entry, *tensors.to_device((args, kwargs), "cpu", kind))
        on_device = Invocation(entry, *tensors.to_device((args, kwargs), device, kind))
        inputs = Versions(tensors.tensors(on_device[1:]))

        def from_host() -> Any:
            arrived = Invocation(entry, *tensors.to_device(on_host[1:], device))
            return tensors.to_device(arrived.bound()(), "cpu")

        with torch.inference_mode():
            yield Placed(
                on_device.bound(),
                None if torch.device(device).type == "cpu" else from_host,
                weight_bytes(own),
                spoiled=inputs.spoiled,
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


PLACEHOLDER_MIDDLE


def _callable_notes(target: Callable[..., Any]) -> tuple[Note, ...]:
    """Say what a plain callable should have set and did not."""
    training = any(module.training for module in _modules_within(target))
    if not training:
        return ()
    text = "a module inside the callable was in training mode"
    return (Note(code="training-mode", text=text, cure="call .eval() on it before measuring"),)


def _modules_within(target: Any) -> Iterator[torch.nn.Module]:
    """Modules that a function reaches by its closure, its arguments bound by partial, or its globals."""
    if isinstance(target, functools.partial):
        yield from _modules_within(target.func)
        yield from (value for value in target.args if isinstance(value, torch.nn.Module))
        return
    function = getattr(target, "__func__", target)
    code = getattr(function, "__code__", None)
    if code is None:
        return
    for cell in getattr(function, "__closure__", None) or ():
        try:
            value = cell.cell_contents
        except ValueError:  # a name not bound yet
            continue
        if isinstance(value, torch.nn.Module):
            yield value
    scope = getattr(function, "__globals__", {})
    yield from (scope[name] for name in code.co_names if isinstance(scope.get(name), torch.nn.Module))

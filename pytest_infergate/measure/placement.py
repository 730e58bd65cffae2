"""The caller's model made ready for one case, and left as it was found. Needs a loaded torch."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch

from pytest_infergate.core.model import Note
from pytest_infergate.measure import tensors
from pytest_infergate.measure.invocation import Invocation


class Placed(NamedTuple):
    """A call that runs on the case's device."""

    call: Callable[[], Any]
    from_host: Callable[[], Any] | None
    """The same call with its inputs copied in and its outputs copied out; `None` where nothing is moved."""
    weights: int | None
    """Bytes of parameters and buffers; `None` for a plain callable."""
    notes: tuple[Note, ...] = ()


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

    On exit the caller's module is as it was: device, dtype, training flags, buffers, attributes.
    A plain callable is taken as it is: nothing moved, no mode set.
    """
    target, args, kwargs = invocation
    module = module_of(target)
    if module is None or device is None:
        yield Placed(invocation.bound(), None, None, _callable_notes(target))
        return
    kind = None if dtype is None else getattr(torch, dtype)
    # A copy is what dtype needs (a cast loses bits) and what TorchScript needs (its state cannot be read).
    own = copy.deepcopy(module) if kind is not None or isinstance(module, torch.jit.ScriptModule) else module
    with nullcontext() if own is not module else left_as_found(module):
        own.eval()
        own.to(device=device, dtype=kind)
        entry = _rebuilt(target, own, device, kind)
        on_host = Invocation(entry, *tensors.to_device((args, kwargs), "cpu", kind))
        on_device = Invocation(entry, *tensors.to_device((args, kwargs), device, kind))

        def from_host() -> Any:
            arrived = Invocation(entry, *tensors.to_device(on_host[1:], device))
            return tensors.to_device(arrived.bound()(), "cpu")

        with torch.inference_mode():
            yield Placed(
                on_device.bound(),
                None if torch.device(device).type == "cpu" else from_host,
                weight_bytes(own),
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


def weight_bytes(module: torch.nn.Module) -> int:
    """Bytes of the parameters and buffers, shared ones once."""
    seen = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return sum(tensor.nbytes for tensor in seen.values())


@contextmanager
def left_as_found(module: torch.nn.Module) -> Iterator[None]:
    """Put back, on exit, what running a module elsewhere or a stateful forward may have changed.

    Restored: the storage of every parameter, buffers and tensor attributes with their contents, plain
    attributes, training flags. Not seen: state outside the module, and contents of its own containers.
    """
    states = [_State(part) for part in module.modules()]
    try:
        yield
    finally:
        for state in states:
            state.restore()


class _State:
    """One module without its children, remembered."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.attributes = dict(vars(module))
        self.parameters = [
            (name, parameter, parameter.data)
            for name, parameter in module._parameters.items()  # noqa: SLF001 - no public way to put one back
            if parameter is not None
        ]
        self.buffers = dict(module._buffers)  # noqa: SLF001
        held = [*self.buffers.values(), *self.attributes.values()]
        self.contents = [(tensor, _copy(tensor)) for tensor in held if isinstance(tensor, torch.Tensor)]

    def restore(self) -> None:
        attributes = vars(self.module)
        for name in [name for name in attributes if name not in self.attributes]:
            del attributes[name]
        attributes.update(self.attributes)
        for name, parameter, data in self.parameters:
            if parameter.data is not data and parameter.data.data_ptr() != data.data_ptr():
                parameter.data = data
            self.module._parameters[name] = parameter  # noqa: SLF001
        self.module._buffers.clear()  # noqa: SLF001
        self.module._buffers.update(self.buffers)  # noqa: SLF001
        for tensor, content in self.contents:
            if content is not None and tensor._version != content[0]:  # noqa: SLF001
                with torch.no_grad():
                    tensor.copy_(content[1])


def _copy(tensor: torch.Tensor) -> tuple[int, torch.Tensor] | None:
    """Version and content of a tensor that a forward might change in place."""
    if tensor.is_inference() or torch.nn.parameter.is_lazy(tensor):
        return None
    return tensor._version, tensor.detach().clone()  # noqa: SLF001


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

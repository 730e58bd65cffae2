"""Places the caller's model on the device of a case, and restores it afterwards. Imports torch."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

import torch
from torch.nn.parameter import UninitializedBuffer
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from pytest_infergate.core.domain.dtypes import dtype_parts
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.errors import InfergateError
from pytest_infergate.instruments import tensors
from pytest_infergate.instruments.device import UsedMemory
from pytest_infergate.instruments.operator_counters import paths_of
from pytest_infergate.measure.advancing_state import watch
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.measure.module_search import Held, held, module_of
from pytest_infergate.measure.number_formats import adapt, autocasting, channels_last, products_rounded
from pytest_infergate.measure.output_checks import uncopied_notes
from pytest_infergate.measure.restore import KeptArguments, arguments_kept, module_restored
from pytest_infergate.measure.same_work import Watch
from pytest_infergate.measure.weights import hidden_note, is_lazy, unfound_bytes, weight_bytes


class NotAnInstanceError(InfergateError):
    """A class of modules was passed instead of one of its instances."""


class NotCopiedError(InfergateError):
    """A module that has to be copied cannot be."""


class Placed(NamedTuple):
    """A call that runs on the case's device."""

    call: Callable[[], Any]
    from_host: Callable[[], Any] | None
    """The same call including copies of inputs and outputs; `None` if nothing is copied."""
    served: Invocation
    """The call as a server makes it, from inputs on the host to outputs there."""
    on_device: Invocation
    """The target on the device, and its arguments there."""
    arguments: KeptArguments
    """What each call is given."""
    weights: Callable[[], dict[str, int] | None]
    """Returns the bytes that the target holds in tensors now, by dtype; `None` if they are unknown."""
    unfound: Callable[[Sequence[UsedMemory]], int]
    """Returns how many bytes of used memory are neither held by the target nor by the arguments."""
    hidden: Callable[[], Note | None]
    """Returns a note on what held memory that cannot be seen when `weights` was called last."""
    watch: Watch
    """Watches the state of what is called."""
    moved: bool = False
    """Whether model and inputs were moved, so that an output elsewhere is due to the module itself."""
    inference_mode: bool = False
    """Whether it runs in inference mode because infergate says so."""
    unsettled: bool = False
    """Whether its first calls do other work: TorchScript is optimised, and lazy modules are filled."""
    notes: tuple[Note, ...] = ()


@contextmanager
def placed(
    invocation: Invocation,
    device: str | None,
    dtype: str | None = None,
    wrapped: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None,
) -> Iterator[Placed]:
    """Prepare a module, or a bound method or partial of one, on a device, in eval mode and its grad mode.

    On exit the caller's module and arguments are restored (see `restore`). A plain callable is not changed:
    nothing is moved or cast and no grad mode is set; autocast and TF32 are, and its arguments are restored.
    What `wrapped` returns for the target on the device is called in place of it. Raises `NotAnInstanceError`
    for a class of modules, which each call would construct, and `ConversionError` for a module that `dtype`,
    one of `DTYPES`, does not suit.
    """
    target, args, kwargs, grad_mode, *_ = invocation
    if isinstance(target, type) and issubclass(target, torch.nn.Module):
        name = target.__name__
        raise NotAnInstanceError(
            f"infer must be called with a module, got the class {name}. Hint: infer({name}(...), x)"
        )
    module, parts = module_of(target), dtype_parts(dtype)
    if module is None or device is None:
        whole = target if wrapped is None else wrapped(target)
        called = invocation._replace(target=whole if device is None else autocasting(whole, parts, device))
        with arguments_kept(args, kwargs, _bound(target)) as arguments, products_rounded(parts):
            yield _unchanged(invocation, called, arguments)
        return
    kind = None if parts.cast is None else getattr(torch, parts.cast)
    stored = channels_last if parts.channels_last else None
    changed = kind is not None or parts.int8 is not None or parts.channels_last
    own = module if not changed and _can_be_restored(module, device) else _copied(module)
    move = functools.partial(tensors.to_device, device=device, dtype=kind, stored=stored)
    entry = _with_module(target, own, move)
    on_host = move((args, kwargs), device="cpu")
    on_device = Invocation(entry, *move((args, kwargs)))
    with (
        # Both are given to the call: containers without tensors are not copied to the device.
        arguments_kept(args, kwargs, _bound(target), *on_device[1:3], _bound(entry)) as arguments,
        nullcontext() if own is not module else module_restored(module) as restored,
    ):
        _prepare(own, device, kind)
        adapt(own, parts)
        whole = autocasting(entry if wrapped is None else wrapped(entry), parts, device)
        called = on_device._replace(target=whole)

        def copied(*args: Any, **kwargs: Any) -> Any:
            inputs = tensors.to_device((args, kwargs), device)
            return tensors.to_device(Invocation(called.target, *inputs).bound()(), "cpu")

        from_host = Invocation(copied, *on_host)
        on_cpu = torch.device(device).type == "cpu"
        with getattr(torch, grad_mode)(), paths_of(own), products_rounded(parts):
            yield Placed(
                called.bound(),
                None if on_cpu else from_host.bound(),
                called if on_cpu else from_host,
                on_device,
                arguments,
                *_weights(entry, on_device.args, on_device.kwargs),
                moved=True,
                inference_mode=grad_mode == "inference_mode",
                unsettled=_scripted(own) or any(map(is_lazy, own.modules())),
                notes=uncopied_notes([*arguments.unsaved, *getattr(restored, "unsaved", ())]),
            )


def _unchanged(invocation: Invocation, called: Invocation, arguments: KeptArguments) -> Placed:
    """Return `called` for a plain callable, with a note if a module inside of it is in training mode."""
    target = invocation.target
    found = held(target)
    scripted = isinstance(target, torch.jit.ScriptFunction) or any(map(_scripted, found.modules))
    notes = uncopied_notes(arguments.unsaved)
    if any(module.training and _has_modes(module) for module in found.modules):
        text = "a module inside the callable was in training mode"
        hint = "call .eval() on it before measuring"
        notes = (Note(code=NoteCode.TRAINING_MODE, text=text, hint=hint), *notes)
    return Placed(
        called.bound(),
        None,
        called,
        invocation,
        arguments,
        *_weights(target, invocation.args, invocation.kwargs),
        unsettled=scripted,
        notes=notes,
    )


def _weights(
    target: object, *arguments: object
) -> tuple[
    Callable[[], dict[str, int] | None],
    Callable[[Sequence[UsedMemory]], int],
    Callable[[], Note | None],
    Watch,
]:
    """Return what finds the weights of a target, used memory beside them, hidden memory, and changed state.

    What a target binds belongs to it: only the arguments of the call are inputs.
    """

    def search() -> tuple[Held, Held]:
        given = held(arguments)
        return held(target, *given.modules), given

    note: Note | None = None

    def weights() -> dict[str, int] | None:
        nonlocal note
        found, given = search()
        note = hidden_note(found)
        return weight_bytes(found, given)

    return (
        weights,
        lambda used: unfound_bytes(*search(), used),
        lambda: note,
        lambda: watch(target, *search()[0].modules),
    )


def _with_module(target: Any, module: torch.nn.Module, move: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return the target with its module replaced, and with the tensors among partial arguments moved."""
    if isinstance(target, functools.partial):
        args, keywords = move((target.args, dict(target.keywords)))
        return functools.partial(_with_module(target.func, module, move), *args, **keywords)
    if isinstance(target, torch.nn.Module):
        return module
    function = getattr(target, "__func__", None)
    if function is None:
        return getattr(module, target.__name__)  # type: ignore[no-any-return]
    return types.MethodType(function, module)


def _bound(target: object) -> list[Any]:
    """Return the arguments bound by a partial and by the partials inside of it."""
    if not isinstance(target, functools.partial):
        return []
    return [target.args, target.keywords, _bound(target.func)]


def _can_be_restored(module: torch.nn.Module, device: str) -> bool:
    """Return whether a module can be run and restored; otherwise a copy of it runs."""
    # The state of TorchScript cannot be read, and a lazy module cannot return to its state before the first
    # input.
    if _scripted(module) or any(map(is_lazy, module.modules())):
        return False
    if _is_on(module, device):
        return True
    # Tensors that wrap others are replaced when they move, instead of getting another storage, as are those
    # that move to a device whose tensors are of another class.
    wrap = any(is_traceable_wrapper_subclass(tensor) for tensor in module.parameters())
    return not wrap and type(torch.empty(0, device=device)) is torch.Tensor


def _has_modes(module: torch.nn.Module) -> bool:
    """Return whether training mode can make a difference: it makes none to an activation function."""
    code = getattr(type(module).forward, "__code__", None)
    bare = not any(True for _ in (*module.children(), *module.parameters(), *module.buffers()))
    return not bare or code is None or "training" in code.co_names


def _scripted(module: torch.nn.Module) -> bool:
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


def _copied(module: torch.nn.Module) -> torch.nn.Module:
    """Return a deep copy, including what torch refuses to copy, such as lazy buffers and computed tensors.

    Raises `NotCopiedError` if another part of the module cannot be copied.
    """
    memo: dict[int, Any] = {}
    for value in tensors.tensors([vars(part) for part in module.modules()]):
        if isinstance(value, UninitializedBuffer):
            memo[id(value)] = UninitializedBuffer(device=value.device, dtype=value.dtype)  # type: ignore[call-arg]
            vars(memo[id(value)]).update(vars(value))
        elif not isinstance(value, torch.nn.Parameter):
            try:
                copy.deepcopy(value, memo)
            except Exception as error:
                if not tensors.is_refusal(error):
                    raise
                memo[id(value)] = tensors.first_possible(
                    value, lambda tensor: tensor.detach().clone(), or_itself=True
                )
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:
        if not tensors.is_refusal(error):
            raise
        lazy = any(map(is_lazy, module.modules()))
        raise NotCopiedError(
            f"{type(module).__name__} must be copied to be measured "
            f"{'before its first call' if lazy else 'on this device and in this dtype'}, "
            f"which raised {type(error).__name__}: {error}. Hint: "
            f"{'call it once before infer' if lazy else 'pass a model that is there already'}, or leave the "
            "part that cannot be copied out of its attributes"
        ) from error


def _prepare(module: torch.nn.Module, device: str, dtype: torch.dtype | None) -> None:
    """Set eval mode, and move the module only if necessary: some modules refuse to be moved."""
    with suppress(NotImplementedError):  # an exported program has the mode of its export
        module.eval()
    if dtype is not None:
        module.to(device=device, dtype=dtype)
    elif not _is_on(module, device):
        module.to(device)


def _is_on(module: torch.nn.Module, device: str) -> bool:
    """Return whether a module has parameters or buffers, and all of them are on a device.

    Buffers on the meta device hold nothing that could be moved.
    """
    expected = torch.device(device)
    with tensors.past_class():
        buffers = [buffer for buffer in module.buffers() if not buffer.is_meta or expected.type == "meta"]
        places = [tensor.device for tensor in (*module.parameters(), *buffers)]
    return bool(places) and all(tensors.same_device(place, expected) for place in places)

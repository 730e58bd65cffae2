"""What one call hands to torch's dispatcher, operator by operator. Needs a loaded torch.

Composite operators are taken apart, so that the same work reads the same with and without inference mode.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass_type

from pytest_infergate.core.domain.measurement import OperatorWork
from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.instruments import flops
from pytest_infergate.instruments.device import DeviceCounters
from pytest_infergate.instruments.tensors import size_bytes

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd  # noqa: SLF001
_GATHERS = frozenset(
    (
        "aten::embedding",
        "aten::index",
        "aten::index_select",
        "aten::gather",
        "aten::take",
        "aten::_embedding_bag",
    )
)
"""Operators that read no more of their first argument than they write."""
_SCATTERS = frozenset(
    f"aten::{name}_"
    for name in ("index_put", "index_copy", "index_add", "scatter", "scatter_add", "index_fill")
)
"""Operators that write no more of their first argument than their last one brings."""
_OVERWRITES = frozenset(("aten::copy_", "aten::fill_", "aten::zero_"))
"""Operators that write their first argument without reading it."""
_ALLOCATES = frozenset(
    f"aten::{name}" for name in ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty")
)
_ALSO_VIEWS = frozenset(("aten::_unsafe_view", "aten::_reshape_alias", "aten::lift_fresh"))
"""Operators that move nothing, though their schema does not say so."""
_TOTALS = (
    "flops", "operators", "views", "bytes_read", "bytes_written", "host_device_copies", "dtype_casts",
)  # fmt: skip
_COPIES = frozenset(("aten::_to_copy", "aten::copy_"))
_ROUND_TRIPS = frozenset((torch.Tensor.cpu, torch.Tensor.cuda, torch.Tensor.tolist))


def counters(call: Callable[[], object], device: str) -> DeviceCounters:
    """Run one call, on the CPU two, and count its operators; `device` is ``cpu`` or ``cuda``.

    On the CPU what asks for the host or another device by name counts as a copy too: there it costs
    nothing and dispatches nothing, on an accelerator each one is a copy.
    """
    with _paths() as path, _autocast(device) as autocast, _Dispatched(path, autocast, device) as seen:
        call()
    totals, work = dict(seen.totals), seen.work()
    if device == "cpu":
        with _paths() as path, _RoundTrips(path) as trips:
            call()
        totals["host_device_copies"] += sum(trips.calls.values())
        work += trips.work()
    if not work and not totals["views"]:
        text = "no operator of torch was seen: the work is done elsewhere, or by another thread"
        return DeviceCounters(notes=(Note(code=NoteCode.OPERATORS_UNSEEN, text=text),))
    notes = []
    if seen.uncovered:
        names = ", ".join(sorted(seen.uncovered))
        text = f"FLOPs leave out {names}: no formula is known, and a custom operator hides what it calls"
        notes.append(Note(code=NoteCode.FLOPS_UNCOVERED, text=text))
    return DeviceCounters(totals, work, tuple(notes))


class _Operator(NamedTuple):
    """What must be known of an operator before its calls are counted, looked up once."""

    name: str
    composite: bool
    view: bool
    formula: Callable[..., int] | None
    writes: tuple[tuple[int, str], ...]
    """Positions and names of the arguments that it changes."""
    outs: frozenset[str]
    """Names of those that it does not read before."""
    fresh: bool
    """Whether it returns new memory."""
    copies: bool


@functools.cache
def _described(operator: Any) -> _Operator:
    schema = operator._schema  # noqa: SLF001 - the only description there is
    name = schema.name
    writes = tuple(
        (position, argument.name)
        for position, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    aliased = [returned.alias_info is not None for returned in schema.returns]
    inplace_view = torch.Tag.inplace_view in operator.tags
    return _Operator(
        name=name,
        composite=torch._C._dispatch_has_kernel_for_dispatch_key(  # noqa: SLF001
            operator.name(), "CompositeImplicitAutograd"
        ),
        view=inplace_view or name in _ALSO_VIEWS or (bool(aliased) and all(aliased) and not writes),
        formula=flops.formula(operator.overloadpacket),
        writes=writes,
        outs=frozenset(argument.name for argument in schema.arguments if argument.is_out),
        fresh=not all(aliased) and name not in _ALLOCATES,
        copies=name in _COPIES,
    )


@functools.cache
def _wraps(kind: type) -> bool:
    """Whether tensors of a class hold others, to which their operators come down."""
    return is_traceable_wrapper_subclass_type(kind)


class _Dispatched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    supports_higher_order_operators = True

    def __init__(self, path: Callable[[], str], autocast: Callable[[], ExitStack], device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._path = path
        self._autocast = autocast
        self._device = device
        self._calls: Counter[tuple[str, str]] = Counter()
        self._flops: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()
        self.totals: Counter[str] = Counter(dict.fromkeys(_TOTALS, 0))
        self.uncovered: set[str] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else every operator would load and ask the compiler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(map(_wraps, types)):
            return NotImplemented  # it hands its inner tensors to us
        if not isinstance(func, torch._ops.OpOverload):  # noqa: SLF001 - control flow with branches of its own
            self.uncovered.add(str(func))
            return func(*args, **kwargs)
        if func.namespace == "prim":  # a tensor that is not of this machine was asked for its device
            return func(*args, **kwargs)
        operator = _described(func)
        if operator.composite and not any(tensor.is_nested for tensor in _tensors(args)):
            # Nested tensors have kernels of their own where others are taken apart.
            with self, self._autocast():
                return func._op_dk(_COMPOSITE, *args, **kwargs)  # noqa: SLF001 - its own parts, not its decomposition
        result = func(*args, **kwargs)
        if operator.view:
            self.totals["views"] += 1
        else:
            self._add(operator, args, kwargs, result)
        return result

    def _add(self, operator: _Operator, args: Any, kwargs: Any, result: Any) -> None:
        place = self._path(), operator.name
        self._calls[place] += 1
        named = (value for name, value in kwargs.items() if name not in operator.outs)
        given = [*_tensors(args), *_tensors(named)]
        returned = list(_tensors((result,))) if operator.fresh else []
        changed = list(
            _tensors(
                args[position] if position < len(args) else kwargs.get(name)
                for position, name in operator.writes
            )
        )
        written = _bytes(returned) + _bytes(changed)
        if operator.name in _GATHERS:
            read = written + _bytes(given[1:])
        elif operator.name in _SCATTERS:
            written = _bytes(given[-1:])
            read = _bytes(given[1:])
        else:
            read = _bytes(given[1:] if operator.name in _OVERWRITES else given)
        self.totals["operators"] += 1
        self.totals["bytes_read"] += read
        self.totals["bytes_written"] += written
        self._bytes[place] += read + written
        if operator.formula is not None:
            flop = int(operator.formula(*args, **kwargs, out_val=result))
            self._flops[place] += flop
            self.totals["flops"] += flop
        elif flops.uncovered(operator.name):
            self.uncovered.add(operator.name)
        if operator.copies:
            source, target = (given[0], returned[0]) if returned else (given[-1], given[0])
            self.totals["host_device_copies"] += source.device.type != target.device.type
            self.totals["dtype_casts"] += source.dtype is not target.dtype
        elif operator.name == "aten::_local_scalar_dense":
            self.totals["host_device_copies"] += given[0].device.type == self._device

    def work(self) -> tuple[OperatorWork, ...]:
        """One row an operator and module path."""
        return tuple(
            OperatorWork(
                operator=operator,
                place=path,
                calls=calls,
                flops=self._flops[path, operator],
                bytes=self._bytes[path, operator],
            )
            for (path, operator), calls in self._calls.items()
        )


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """Tensors among arguments, and in lists among them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _bytes(values: list[torch.Tensor]) -> int:
    return sum(map(_moved, values))


def _moved(tensor: torch.Tensor) -> int:
    """Bytes of a tensor, those that an expanded one shows twice counted once."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        return size_bytes(tensor)
    if tensor.is_contiguous():
        return tensor.nbytes
    elements = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= length if stride or not length else 1
    return elements * tensor.element_size()


class _RoundTrips(TorchFunctionMode):
    def __init__(self, path: Callable[[], str]) -> None:
        super().__init__()
        self._path = path
        self.calls: Counter[tuple[str, str]] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        named = (*args[1:2], kwargs.get("device")) if func is torch.Tensor.to else ()
        result = func(*args, **kwargs)
        # Given as text it names a place; a device object was most likely read off another tensor.
        if func in _ROUND_TRIPS or any(isinstance(value, str) for value in named):
            left = isinstance(result, torch.Tensor) and result.device.type != args[0].device.type
            if not left:  # else the dispatcher saw it
                self.calls[f"Tensor.{func.__name__}", self._path()] += 1
        return result

    def work(self) -> tuple[OperatorWork, ...]:
        """One row a method and module path."""
        return tuple(
            OperatorWork(operator=method, place=path, calls=calls)
            for (method, path), calls in self.calls.items()
        )


@contextmanager
def _autocast(device: str) -> Iterator[Callable[[], ExitStack]]:
    """Follow which autocast is on; the callable makes a context in which it is on again.

    Within a dispatch mode torch has switched it off, so that the parts of a composite operator would not
    be cast, and nothing there can tell that it was on.
    """
    kind: Any = torch.autocast
    enter, leave = kind.__enter__, kind.__exit__
    outside = {
        name: torch.get_autocast_dtype(name) for name in {device, "cpu"} if torch.is_autocast_enabled(name)
    }
    active: list[dict[str, torch.dtype | None]] = [dict(outside)]

    def entered(self: Any) -> Any:
        active.append({**active[-1], self.device: self.fast_dtype if self._enabled else None})
        return enter(self)

    def left(self: Any, *error: Any) -> Any:
        active.pop()
        return leave(self, *error)

    def again() -> ExitStack:
        stack = ExitStack()
        for name, dtype in active[-1].items():
            if dtype is not None:
                cast = kind(name, dtype=dtype, cache_enabled=torch.is_autocast_cache_enabled())
                enter(cast)
                stack.push(functools.partial(leave, cast))
        return stack

    kind.__enter__, kind.__exit__ = entered, left
    try:
        yield again
    finally:
        kind.__enter__, kind.__exit__ = enter, leave


@contextmanager
def _paths() -> Iterator[Callable[[], str]]:
    """Follow which module is running; the callable tells its path, empty outside of any module.

    The path is as ``named_modules`` has it, ``encoder.layer.3.attention``; that of the outermost module is
    the name of its class, which also stands before the paths inside any further outermost module.
    """
    names: dict[int, str] = {}
    roots: list[torch.nn.Module] = []  # held: ids of the dead return
    stack: list[str] = [""]
    thread = threading.get_ident()

    def enter(module: torch.nn.Module, _: Any) -> None:
        if threading.get_ident() != thread:
            return
        if id(module) not in names:
            kind = type(module).__name__
            prefix = f"{kind}." if roots else ""
            roots.append(module)
            for path, part in module.named_modules():
                names.setdefault(id(part), f"{prefix}{path}" if path else kind)
        stack.append(names[id(module)])

    def leave(_: torch.nn.Module, __: Any, ___: Any) -> None:
        if threading.get_ident() == thread and len(stack) > 1:
            stack.pop()

    hooks = (
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    )
    try:
        yield lambda: stack[-1]
    finally:
        for hook in hooks:
            hook.remove()

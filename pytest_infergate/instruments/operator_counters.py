"""Count the operators that one call dispatches in torch. Imports torch.

Composite operators are decomposed, so that the same work has the same counters with and without inference
mode.
"""

from __future__ import annotations

import functools
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_infergate.core.domain.measurement import OperatorWork
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments import flops
from pytest_infergate.instruments.device import DeviceCounters
from pytest_infergate.instruments.other_threads import operators_of_other_threads
from pytest_infergate.instruments.tensors import size_bytes
from pytest_infergate.instruments.used_tensors import UsedTensors, observed_inside, tensors_in, wraps_others

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd  # noqa: SLF001
# Operators that read no more of their first argument than they write: an embedding does not read its whole
# table.
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
# Operators that write no more of their first argument than their last argument provides.
_SCATTERS = frozenset(
    f"aten::{name}_"
    for name in ("index_put", "index_copy", "index_add", "scatter", "scatter_add", "index_fill")
)
# Operators that write their first argument without reading it.
_OVERWRITES = frozenset(("aten::copy_", "aten::fill_", "aten::zero_"))
# Operators that only allocate: the memory that they return is not written yet.
_ALLOCATES = re.compile(r"(aten|prims)::(empty(_\w+)?|new_empty(_strided)?|_empty_\w+|_efficientzerotensor)")
# Operators that return no tensor, but compute with the values of one. Others only ask for its layout.
_READS_VALUES = frozenset(
    f"aten::{name}"
    for name in (
        "_assert_async",
        "_choose_qparams_per_tensor",
        "_cslt_sparse_mm_search",
        "_linalg_check_errors",
        "_local_scalar_dense",
        "_nested_tensor_from_mask_left_aligned",
        "equal",
    )
)
# Operators that move no data, although their schema does not declare a view.
_ALSO_VIEWS = frozenset(("aten::_unsafe_view", "aten::_reshape_alias", "aten::lift_fresh"))
# Operators of TorchScript that the dispatcher does not see, and groups of operators that are one kernel.
_FUSED = re.compile(r"(prim|tensorexpr)::(mkldnn\w*|MKLDNN\w*|\w*(Fusion|TensorExpr|Static)\w*|Group)")
_TOTALS = (
    "flops", "operators", "views", "bytes_read", "bytes_written", "host_device_copies", "dtype_casts",
)  # fmt: skip
_COPIES = frozenset(("aten::_to_copy", "aten::copy_"))
_ROUND_TRIPS = frozenset((torch.Tensor.cpu, torch.Tensor.cuda, torch.Tensor.tolist))


def counters(call: Callable[[], object], device: str) -> DeviceCounters:
    """Run one call, on the CPU two, and count its operators; `device` is a kind such as ``cuda``."""
    with ExitStack() as stack:
        others = stack.enter_context(operators_of_other_threads())
        undispatched = stack.enter_context(_undispatched())
        path, autocast = stack.enter_context(_paths()), stack.enter_context(_autocast(device))
        dispatched = stack.enter_context(_Dispatched(path, autocast, device))
        call()
    totals, work = dict(dispatched.totals), dispatched.work()
    if device == "cpu":
        # On the CPU a call such as x.cpu() dispatches nothing, but is a copy on an accelerator. It is counted
        # as one, so that a test on the CPU finds the round trip before production does.
        with _paths() as path, _RoundTrips(path) as trips:
            call()
        totals["host_device_copies"] += sum(trips.calls.values())
        work += trips.work()
    used = tuple(dispatched.memory.used.values())
    text = hint = ""
    if others:
        text = (
            f"another thread runs {_listed(others)}, and operators are only counted in the thread of the call"
        )
        hint = (
            "run the model in the thread of the call; generate of transformers takes streamer=infer.streamer"
        )
    elif undispatched:
        text = f"TorchScript runs {_listed(undispatched)} without torch's dispatcher"
    elif not work and not dispatched.observed:
        text = "no operator of torch was observed: the work is done outside torch, or in another process"
    if text:
        # Counts of a part would pass for those of the whole.
        text = f"operators, FLOPs and bytes are unknown: {text}"
        note = Note(code=NoteCode.OPERATORS_UNSEEN, text=text, hint=hint)
        return DeviceCounters(notes=(note,), other_threads=bool(others), used=used)
    notes = []
    if dispatched.uncovered:
        text = (
            f"FLOPs do not include {_listed(dispatched.uncovered)}: no formula is known, "
            "and calls inside of a custom operator cannot be observed"
        )
        notes.append(Note(code=NoteCode.FLOPS_UNCOVERED, text=text))
    return DeviceCounters(totals, work, tuple(notes), used=used)


def _listed(names: set[str]) -> str:
    first = sorted(names)[:8]
    return f"{', '.join(first)} and {len(names) - 8} more" if len(names) > 8 else ", ".join(first)  # noqa: PLR2004


class _Operator(NamedTuple):
    """Properties of an operator that its counting needs, looked up once."""

    name: str
    composite: bool
    view: bool
    formula: Callable[..., int] | None
    writes: tuple[tuple[int, str], ...]
    """Positions and names of the arguments that it writes."""
    outs: frozenset[str]
    """Names of the arguments that it writes without reading them."""
    fresh: bool
    """Whether it returns newly written memory."""
    idle: bool
    """Whether it does no work."""
    copies: bool
    """Whether it copies, to another device, dtype or place."""


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
    tensors = any("Tensor" in str(returned.type) for returned in schema.returns)
    query = name.startswith("aten::") and not (tensors or writes or name in _READS_VALUES)
    return _Operator(
        name=name,
        composite=torch._C._dispatch_has_kernel_for_dispatch_key(  # noqa: SLF001
            operator.name(), "CompositeImplicitAutograd"
        ),
        view=inplace_view or name in _ALSO_VIEWS or (bool(aliased) and all(aliased) and not writes),
        formula=flops.formula(operator.overloadpacket),
        writes=writes,
        outs=frozenset(argument.name for argument in schema.arguments if argument.is_out),
        fresh=not all(aliased),
        idle=_ALLOCATES.fullmatch(name) is not None or query,
        copies=name in _COPIES,
    )


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
        self.observed = False
        """Whether there was any operator, also one that does no work."""
        self.memory = UsedTensors()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise every operator would load torch's compiler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, self.observed = kwargs or {}, True
        if any(map(wraps_others, types)):
            return NotImplemented  # the wrapper calls the operator again on its inner tensors
        if not isinstance(func, torch._ops.OpOverload):  # noqa: SLF001 - control flow, whose branches are not operators
            self.uncovered.add(str(func))
            return func(*args, **kwargs)
        if func.namespace in ("prim", "profiler"):  # no work: a query for the device of a tensor, or a label
            return func(*args, **kwargs)
        operator = _described(func)
        if operator.composite and not any(tensor.is_nested for tensor in tensors_in(args)):
            # Nested tensors have kernels of their own for operators that are composite for other tensors.
            with self, self._autocast():
                return func._op_dk(_COMPOSITE, *args, **kwargs)  # noqa: SLF001 - the parts of the kernel, not those of a decomposition for the compiler
        result = observed_inside(func, args, kwargs, self.memory)
        # A view of a sparse tensor may be a copy.
        dense = all(tensor.layout is torch.strided for tensor in tensors_in(args))
        if not (operator.idle or (operator.view and dense)):
            self.memory.use(tensors_in((*args, *kwargs.values())))
        if operator.view:
            self.totals["views"] += 1
        elif not operator.idle:
            self._add(operator, args, kwargs, result)
        if not operator.view:
            self.memory.made(tensors_in((result,)))
        return result

    def _add(self, operator: _Operator, args: Any, kwargs: Any, result: Any) -> None:
        """Count one call: bytes by the arguments and results of the operator, FLOPs by its formula."""
        place = self._path(), operator.name
        self._calls[place] += 1
        named = (value for name, value in kwargs.items() if name not in operator.outs)
        given = [*tensors_in(args), *tensors_in(named)]
        returned = list(tensors_in((result,))) if operator.fresh else []
        changed = list(
            tensors_in(
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
            # A product of complex numbers is four products of real ones, and as many additions.
            factor = 4 if any(tensor.is_complex() for tensor in given) else 1
            flop = factor * int(operator.formula(*args, **kwargs, out_val=result))
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
        """Return one row for each operator and module path."""
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


def _bytes(values: list[torch.Tensor]) -> int:
    """Return the bytes of tensors in memory: an expanded tensor counts each element once."""
    total = 0
    for tensor in values:
        if tensor.layout is not torch.strided or tensor.is_nested:
            total += size_bytes(tensor)
        elif tensor.is_contiguous():
            total += tensor.nbytes
        else:
            sizes = zip(tensor.shape, tensor.stride(), strict=True)
            # An expanded dimension has stride 0 and repeats one element; an empty dimension leaves nothing.
            elements = math.prod(length if stride or not length else 1 for length, stride in sizes)
            total += elements * tensor.element_size()
    return total


class _RoundTrips(TorchFunctionMode):
    """Counts calls that request the host or another device by name, and that move nothing on the CPU."""

    def __init__(self, path: Callable[[], str]) -> None:
        super().__init__()
        self._path = path
        self.calls: Counter[tuple[str, str]] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        named = (*args[1:2], kwargs.get("device")) if func is torch.Tensor.to else ()
        result = func(*args, **kwargs)
        # A text names a place. A device object was most likely read from another tensor, which is on that
        # device.
        if func in _ROUND_TRIPS or any(isinstance(value, str) for value in named):
            moved = isinstance(result, torch.Tensor) and result.device.type != args[0].device.type
            if not moved:  # otherwise the dispatcher has counted it
                self.calls[f"Tensor.{func.__name__}", self._path()] += 1
        return result

    def work(self) -> tuple[OperatorWork, ...]:
        """Return one row for each method and module path."""
        return tuple(
            OperatorWork(operator=method, place=path, calls=calls)
            for (method, path), calls in self.calls.items()
        )


@contextmanager
def _undispatched() -> Iterator[set[str]]:
    """Collect the operators of TorchScript that run without the dispatcher, such as those of oneDNN.

    Seen are scripted modules, and the scripted function or method that ran last.
    """
    found: set[str] = set()

    def look(module: object = None, *_: object) -> None:
        if not isinstance(module, (torch.jit.ScriptModule, type(None))):
            return
        pending = list(torch._C._last_executed_optimized_graph().nodes())  # noqa: SLF001 - its public name is not exported
        while pending:
            node = pending.pop()
            pending += (inner for block in node.blocks() for inner in block.nodes())
            if _FUSED.fullmatch(node.kind()):
                found.add(node.kind())

    _no_script().nothing(0)  # so that no graph of an earlier call is seen
    hook = register_module_forward_hook(look)
    try:
        yield found
        look()
    finally:
        hook.remove()


@functools.cache
def _no_script() -> Any:
    return torch.jit.CompilationUnit("def nothing(x: int) -> int:\n    return x\n")


@contextmanager
def _autocast(device: str) -> Iterator[Callable[[], ExitStack]]:
    """Track the active autocast; the yielded callable returns a context in which it is active again.

    torch switches autocast off inside a dispatch mode. The parts of a composite operator would therefore not
    be cast, and nothing inside the mode shows whether autocast was on. Its methods are replaced until exit to
    record that.
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


_MODEL: ContextVar[torch.nn.Module | None] = ContextVar("model", default=None)


@contextmanager
def paths_of(model: torch.nn.Module) -> Iterator[None]:
    """Name places inside of a model by their paths, also where a method of it is called and not itself."""
    token = _MODEL.set(model)
    try:
        yield
    finally:
        _MODEL.reset(token)


@contextmanager
def _paths() -> Iterator[Callable[[], str]]:
    """Track the running module; the yielded callable returns its path, which is empty outside of all modules.

    A path is that of ``named_modules``, as in ``encoder.layer.3.attention``. The path of an outermost module
    is the name of its class, which is also the prefix of the paths inside every outermost module but the
    first. The first is that of `paths_of`, if it is given, whether it is called itself or not.
    """
    names: dict[int, str] = {}
    roots: list[torch.nn.Module] = []  # kept alive, because the id of a deleted module may be reused
    stack: list[str] = [""]
    thread = threading.get_ident()

    def name(module: torch.nn.Module) -> None:
        kind = type(module).__name__
        prefix = f"{kind}." if roots else ""
        roots.append(module)
        for path, part in module.named_modules():
            names.setdefault(id(part), f"{prefix}{path}" if path else kind)

    def enter(module: torch.nn.Module, _: Any) -> None:
        # The hooks are global. A module that runs in another thread would put its path into our stack.
        if threading.get_ident() != thread:
            return
        if id(module) not in names:
            name(module)
        stack.append(names[id(module)])

    def leave(_: torch.nn.Module, __: Any, ___: Any) -> None:
        if threading.get_ident() == thread and len(stack) > 1:
            stack.pop()

    model = _MODEL.get()
    if model is not None:
        name(model)
    hooks = (
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    )
    try:
        yield lambda: stack[-1]
    finally:
        for hook in hooks:
            hook.remove()

"""The first module whose output differs from that of the reference, in a case whose output does."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import torch

from pytest_infergate.core.domain.values import Case
from pytest_infergate.measure import placement
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.measure.item_streams import is_stream
from pytest_infergate.measure.module_search import module_of
from pytest_infergate.outputs.reference_parity import computed_in
from pytest_infergate.outputs.value_differences import Sides, array_difference
from pytest_infergate.runtimes.runtime import Runtime, WrappingRuntime, mode_of

MAX_BYTES: Final = 2_000_000_000
"""Bytes of outputs of modules that are kept; later ones are not compared."""

Outputs = dict[tuple[str, int], list[torch.Tensor]]
"""Tensors that modules returned, by path and number of the call, in the order in which they returned."""


ITSELF: Final = "the model itself"
"""Stands for the outermost module, if the outputs of all others agree."""


class Divergence(NamedTuple):
    """A case whose output differs, and how it is run again."""

    case: Case
    device: str
    """As torch names it."""
    runtime: Runtime | None
    """What wraps the model; ``None`` for eager PyTorch."""
    tolerance: float | None
    """Share of the largest value of a tensor; ``None``: that of the dtype."""

    def first_module(self, invocation: Invocation, restore: Callable[[], None]) -> str | None:
        """Return the path of the first module whose output differs beyond the tolerance.

        `restore` is called before each call. ``None`` if no output of a module differs: a compiler fuses
        modules otherwise whose outputs are asked for. Raises what the model or the compiler raises.
        """
        case, wrapped = self.case, None
        restore()
        expected = _module_outputs(invocation, "cpu", None, None)
        restore()
        if isinstance(self.runtime, WrappingRuntime):
            wrapped = functools.partial(self.runtime.wrapped, mode=mode_of(case.runtime))
            torch.compiler.reset()  # what was compiled before calls no hooks
        try:
            found = _module_outputs(invocation, self.device, case.dtype, wrapped)
        finally:
            if wrapped is not None:
                torch.compiler.reset()
        on_cpu = torch.device(self.device).type == "cpu"
        sides = Sides("in the reference", "here", computed_in(case.dtype, on_cpu=on_cpu))
        for (path, call), before in expected.items():
            for old, new in zip(before, found.get((path, call), ()), strict=False):
                if array_difference(old, new, self.tolerance, sides=sides) is not None:
                    return path or ITSELF
        return None


def _module_outputs(
    invocation: Invocation,
    device: str,
    dtype: str | None,
    wrapped: Callable[[Callable[..., Any]], Callable[..., Any]] | None,
) -> Outputs:
    """Call a model once, and return copies of what its modules return."""
    returned: list[tuple[str, list[torch.Tensor]]] = []
    with placement.placed(invocation, device, dtype, wrapped) as placed, ExitStack() as hooks:
        module = module_of(placed.on_device.target)
        for path, part in () if module is None else module.named_modules():

            def keep(_part: Any, _given: Any, output: Any, path: str = path) -> None:
                returned.append((path, list(_copies(output))))

            hooks.callback(part.register_forward_hook(keep).remove)
        output = placed.call()
        if is_stream(output):
            for _ in output:
                pass
    outputs: Outputs = {}
    counts: dict[str, int] = {}
    size = 0
    for path, copies in returned:
        size += sum(copy.nbytes for copy in copies)
        if size > MAX_BYTES:
            break
        counts[path] = counts.get(path, 0) + 1
        outputs[path, counts[path]] = [copy.detach().cpu() for copy in copies]
    return outputs


def _copies(output: Any) -> Iterator[torch.Tensor]:
    """Yield copies of the tensors in an output: later modules may change them in place.

    Kept simple, because compilers of Python trace it.
    """
    if isinstance(output, torch.Tensor):
        yield output.clone()
    elif isinstance(output, (list, tuple)):
        for part in output:
            yield from _copies(part)
    elif isinstance(output, Mapping):
        for part in output.values():
            yield from _copies(part)

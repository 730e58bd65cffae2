"""The call of a case, ready to be measured: placed on its device, and wrapped or converted by its runtime."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_infergate.core.domain.dtypes import dtype_parts
from pytest_infergate.core.domain.measurement import Conversion
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Case, Note
from pytest_infergate.errors import ConversionError
from pytest_infergate.instruments.device import Device
from pytest_infergate.measure.case import Subject, Watched
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.measure.tokens import prompt_tokens
from pytest_infergate.runtimes.runtime import (
    ExportingRuntime,
    RemoteRuntime,
    Runtime,
    WrappingRuntime,
    mode_of,
)

if TYPE_CHECKING:
    from pytest_infergate.measure.placement import Placed
    from pytest_infergate.measure.same_work import ObservedWork

# The profiling executor of TorchScript observes the first call and rewrites the graph in the second. Counted
# before, such a model would have other counters than in its later calls.
SETTLING_CALLS = 2


class PreparedCase(NamedTuple):
    """The call of a case, ready to be measured."""

    subject: Subject
    placed: Placed
    conversion: Conversion | None = None


def plain_subject(case: Case, invocation: Invocation) -> Subject:
    """Return what is measured of a callable as it is. Does not import torch."""
    return Subject(
        invocation.bound(),
        batch_size=case.batch_size,
        streamer=invocation.streamer,
        prompt=prompt_tokens(invocation.args, invocation.kwargs, case.batch_size),
    )


@contextmanager
def _called_remotely(case: Case, invocation: Invocation, runtime: RemoteRuntime) -> Iterator[PreparedCase]:
    """Prepare the call of a server: weights, work and state of what the test passed are not those of it."""
    from pytest_infergate.measure import placement

    called = invocation._replace(target=runtime.remote(invocation.target, mode_of(case.runtime)))
    with placement.placed(called, None) as placed:
        subject = plain_subject(case, called)._replace(
            arguments=placed.arguments,
            unrepeatable=placed.arguments.consumed_note(),
            uncounted=Note(
                code=NoteCode.NOT_COUNTED,
                text=f"operators, FLOPs, memory and energy of {case.runtime} are unknown: it is a server",
                hint="budgets on them are limits for the local cases of the same test",
            ),
        )
        yield PreparedCase(subject, placed._replace(notes=()))


def check_dtype(case: Case, invocation: Invocation) -> None:
    """Raise `ConversionError` if nothing applies the dtype of a case, whose figures would be of another."""
    if case.dtype is None:
        return
    parts = dtype_parts(case.dtype)
    if parts.cast and not parts.channels_last and invocation.own_dtype:
        return
    if "torch" in sys.modules:
        from pytest_infergate.measure.module_search import module_of

        in_each_call = (parts.autocast or parts.tf32) and not parts.channels_last
        if in_each_call or module_of(invocation.target) is not None:
            return
    raise ConversionError(
        "a dtype is applied to a module, got another callable. Hint: pass the module or one of its methods, "
        "or read infer.dtype, and build the model in it"
    )


@contextmanager
def prepared(
    case: Case,
    device: Device,
    invocation: Invocation,
    runtime: Runtime | None = None,
    watched: Watched = lambda _: nullcontext(),
) -> Iterator[PreparedCase]:
    """Prepare the model that a test passed to `infer`, and restore it on exit. Imports torch.

    `watched` limits the time of what converts it in this process.

    Raises `ConversionError` if it cannot be converted for its runtime, or does not have the dtype.
    """
    if isinstance(runtime, ExportingRuntime):
        from pytest_infergate.runtimes.converted_call import converted

        with converted(case, device, invocation, runtime, watched) as made:
            yield PreparedCase(*made)
        return
    if isinstance(runtime, RemoteRuntime):
        with _called_remotely(case, invocation, runtime) as ready:
            yield ready
        return
    check_dtype(case, invocation)
    import torch

    from pytest_infergate.measure import placement
    from pytest_infergate.measure.gradient_use import gradient_use_refused
    from pytest_infergate.measure.observed_work import observed

    wrapped = None
    if isinstance(runtime, WrappingRuntime):
        wrapped = functools.partial(runtime.wrapped, mode=mode_of(case.runtime))
    with placement.placed(invocation, device.torch_name, case.dtype, wrapped) as placed:

        def observe(call: Callable[[], Any], *, sizes: bool) -> tuple[Any, ObservedWork | None]:
            with gradient_use_refused(disabled=placed.inference_mode):
                return observed(call, sizes=sizes)

        yield PreparedCase(
            plain_subject(case, invocation)._replace(
                call=placed.call,
                from_host=placed.from_host,
                weights=placed.weights,
                unfound=placed.unfound,
                hidden=placed.hidden,
                watch=placed.watch,
                threads=torch.get_num_threads(),
                settling=SETTLING_CALLS if placed.unsettled else 0,
                arguments=placed.arguments,
                unrepeatable=placed.arguments.consumed_note(),
                observe=observe,
            ),
            placed,
        )

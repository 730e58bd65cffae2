"""The eager runtime: places a model on the device of its case, sets threads, and calls it as PyTorch does."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pytest_infergate.core.domain.measurement import Conversion, Measurement
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Case, Note
from pytest_infergate.instruments import tensors
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.timed_calls import Inputs
from pytest_infergate.measure import memory, output_checks
from pytest_infergate.measure.case import Effort, MeasuredSubject, Subject, measure
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.measure.passes import is_stream, stream_items
from pytest_infergate.runtimes.runtime import ExportingRuntime, Runtime, WrappingRuntime, mode_of

if TYPE_CHECKING:
    from pytest_infergate.measure.placement import Placed
    from pytest_infergate.measure.same_work import ObservedWork


# The profiling executor of TorchScript observes the first call and rewrites the graph in the second. Counted
# before, such a model would have other counters than in its later calls.
SETTLING_CALLS = 2
Course = Callable[[Subject, Device, Effort, tuple[Note, ...]], MeasuredSubject]
"""What is done with a case after it is prepared: measuring, or counting only."""


def out_of_memory_note(error: Exception, case: Case) -> Note:
    """Return a note on a case that ran out of memory."""
    lines = memory.error_text(error).strip().splitlines() or [type(error).__name__]
    text = f"out of memory on {case.device} at batch size {case.batch_size}: {lines[0]}"
    return Note(code=NoteCode.OUT_OF_MEMORY, text=text, hint="use a smaller batch or a larger device")


class PreparedCase(NamedTuple):
    """The call of a case, ready to be measured."""

    subject: Subject
    placed: Placed
    conversion: Conversion | None = None


@contextmanager
def prepared(
    case: Case, device: Device, invocation: Invocation, runtime: Runtime | None = None
) -> Iterator[PreparedCase]:
    """Prepare the model that a test passed to `infer`, and restore it on exit. Imports torch.

    Raises `ConversionError` if it cannot be converted for its runtime.
    """
    if isinstance(runtime, ExportingRuntime):
        from pytest_infergate.runtimes.converted_call import converted

        with converted(case, device, invocation, runtime) as made:
            yield PreparedCase(*made)
        return
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
            Subject(
                call=placed.call,
                from_host=placed.from_host,
                batch_size=case.batch_size,
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


Further = Callable[[Invocation, Inputs | None, Measurement], Measurement]
"""What is measured beside: of the call from inputs on the host, and what restores its inputs."""


def measure_invocation(
    case: Case,
    device: Device,
    effort: Effort,
    invocation: Invocation,
    course: Course = measure,
    *,
    further: Further = lambda _call, _inputs, measurement: measurement,
    runtime: Runtime | None = None,
) -> MeasuredSubject:
    """Take a case through `course`, with notes on what makes its figures doubtful or invalid.

    `further` follows if the figures are valid. Raises `ConversionError` if the model cannot be converted for
    `runtime`.
    """
    # A suite without torch is measured without importing it.
    if "torch" not in sys.modules and case.runtime == "eager":
        plain = course(Subject(invocation.bound(), batch_size=case.batch_size), device, effort, ())
        last = plain.output if plain.last is None else plain.last
        invalid = plain.invalid or output_checks.unsound_output_note(plain.output, last, None)
        if plain.measurement is not None and invalid is None:
            plain = plain._replace(measurement=further(invocation, None, plain.measurement))
        return plain._replace(invalid=invalid)

    with prepared(case, device, invocation, runtime) as (subject, placed, conversion):
        before = (*placed.notes, *filter(None, (output_checks.torch_state_note(),)))
        measured = course(subject, device, effort, before)
        measurement, invalid = measured.measurement, measured.invalid
        if invalid is None:
            last = measured.output if measured.last is None else measured.last
            # The output of a module that was moved may be on another device, if the module moves it.
            device_name = None if placed.moved else device.torch_name
            invalid = output_checks.unsound_output_note(measured.output, last, device_name)
        if measurement is not None:
            measurement = msgspec.structs.replace(measurement, conversion=conversion)
        if measurement is not None and invalid is None:
            measurement = further(placed.served, placed.arguments, measurement)
        wanted = invocation.grad_mode == "enable_grad"
        gradients = None if wanted else output_checks.gradients_note(measured.output)
        after = filter(None, (gradients, placed.arguments.changed_note()))
    output = tensors.copy_to_cpu(measured.output)
    if measurement is not None:
        returned = {id(tensor) for tensor in tensors.tensors(measured.output)}
        same = [tensor for tensor in tensors.tensors(output) if id(tensor) in returned]
        notes = (*measurement.notes, *after, *output_checks.uncopied_notes(same))
        measurement = msgspec.structs.replace(measurement, notes=notes)
    return MeasuredSubject(output, measurement, measured.samples, invalid)


def run_once(case: Case, invocation: Invocation) -> Any:
    """Call the model once on the CPU and return its output, as in a run that does not measure."""
    if "torch" not in sys.modules:
        return _collected(invocation.bound()())

    from pytest_infergate.measure import placement
    from pytest_infergate.measure.gradient_use import gradient_use_refused

    with (
        placement.placed(invocation, "cpu", case.dtype) as placed,
        gradient_use_refused(disabled=placed.inference_mode),
        torch_threads(case.threads),
    ):
        # Copied before the arguments and buffers are restored, with which it may share memory.
        output = _collected(placed.call())
    return tensors.copy_to_cpu(output)


def _collected(output: Any) -> Any:
    """Copy an output. A stream becomes the list of its items, each copied before the next one is made."""
    if is_stream(output):
        return stream_items(output)
    return tensors.clone_tensors(output)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Set the number of threads of torch's operators until exit; ``None`` leaves it unchanged."""
    if count is None or "torch" not in sys.modules:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

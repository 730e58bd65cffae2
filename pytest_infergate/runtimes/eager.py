"""The eager runtime: places a model on the device of its case, sets threads, and calls it as PyTorch does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import msgspec

from pytest_infergate.core.domain.measurement import Measurement, Memory
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import REMOTE_DEVICE, Case, Note
from pytest_infergate.instruments import tensors
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.timed_calls import Inputs
from pytest_infergate.measure import memory, output_checks
from pytest_infergate.measure.case import Effort, MeasuredSubject, Subject, Watched, measure
from pytest_infergate.measure.guarded_device import error_line
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.measure.item_streams import is_stream, stream_items
from pytest_infergate.measure.same_work import with_kept_state
from pytest_infergate.measure.seed import generator_states
from pytest_infergate.runtimes.accuracy import AccuracyPlan, CaseModel
from pytest_infergate.runtimes.prepared_case import check_dtype, plain_subject, prepared
from pytest_infergate.runtimes.runtime import ExportingRuntime, RemoteRuntime, Runtime, mode_of

Course = Callable[[Subject, Device, Effort, tuple[Note, ...]], MeasuredSubject]
"""What is done with a case after it is prepared: measuring, or counting only."""


def out_of_memory_note(error: Exception, case: Case) -> Note:
    """Return a note on a case that ran out of memory."""
    lines = memory.error_text(error).strip().splitlines() or [type(error).__name__]
    text = f"out of memory on {case.device} at batch size {case.batch_size}: {lines[0]}"
    return Note(code=NoteCode.OUT_OF_MEMORY, text=text, hint="use a smaller batch or a larger device")


Further = Callable[[Invocation, Inputs | None, Measurement], Measurement]
"""What is measured beside: of the call from inputs on the host, and what restores its inputs."""
Compared = Callable[[Any, Measurement], Measurement]
"""Adds how the output differs from that of the reference."""


class MeasuringPlan(NamedTuple):
    """How a case is measured, and what follows if its figures are valid."""

    course: Course = measure
    runtime: Runtime | None = None
    """What executes the model; ``None`` for eager PyTorch."""
    further: Further = lambda _call, _inputs, measurement: measurement
    compared: Compared = lambda _output, measurement: measurement
    accuracy: AccuracyPlan | None = None
    """What the user calls accuracy; ``None`` if it is not asked for."""


def measure_invocation(
    case: Case,
    device: Device,
    effort: Effort,
    invocation: Invocation,
    plan: MeasuringPlan = MeasuringPlan(),  # noqa: B008 - never changed
) -> MeasuredSubject:
    """Take a case through its course, with notes on what makes its figures doubtful or invalid.

    Raises `ConversionError` if the model cannot be converted for its runtime, or does not have the dtype.
    """
    # A suite without torch is measured without importing it.
    if "torch" not in sys.modules and case.runtime == "eager":
        check_dtype(case, invocation)
        return _measured_plainly(case, device, effort, invocation, plan)

    watched = effort.watched
    with prepared(case, device, invocation, plan.runtime, watched) as (subject, placed, conversion):
        before = (*placed.notes, *filter(None, (output_checks.torch_state_note(case.threads),)))
        measured = plan.course(subject, device, effort, before)
        measurement, invalid = measured.measurement, measured.invalid
        if invalid is None:
            last = measured.output if measured.last is None else measured.last
            # The output of a module that was moved may be on another device, if the module moves it.
            device_name = None if placed.moved else device.torch_name
            invalid = output_checks.unsound_output_note(measured.output, last, device_name)
        if measurement is not None and invalid is None:
            measurement = plan.further(placed.served, placed.arguments, measurement)
            if plan.accuracy is not None:
                model = _case_model(case, device, plan.runtime, subject, placed.served)
                measurement = plan.accuracy.scored(model, measurement)
        wanted = invocation.grad_mode == "enable_grad"
        gradients = None if wanted else output_checks.gradients_note(measured.output)
        threads = output_checks.threads_note(subject.threads)
        after = filter(None, (gradients, placed.arguments.changed_note(), threads))
    output = subject.structured(tensors.copy_to_cpu(measured.output))
    if measurement is not None:
        returned = {id(tensor) for tensor in tensors.tensors(measured.output)}
        same = [tensor for tensor in tensors.tensors(output) if id(tensor) in returned]
        known = measurement.notes if placed.moved else map(with_kept_state, measurement.notes)
        notes = (*known, *after, *output_checks.uncopied_notes(same))
        measurement = msgspec.structs.replace(measurement, conversion=conversion, notes=notes)
        if case.device == REMOTE_DEVICE:  # this process is the client
            measurement = msgspec.structs.replace(
                measurement, memory=Memory(), page_faults=None, threads=None
            )
        if invalid is None:
            measurement = plan.compared(output, measurement)
            if plan.accuracy is not None and has_reference(case, invocation):
                measurement = plan.accuracy.beside_reference(case, invocation, measurement)
    return MeasuredSubject(output, measurement, measured.samples, invalid)


def _measured_plainly(
    case: Case, device: Device, effort: Effort, invocation: Invocation, plan: MeasuringPlan
) -> MeasuredSubject:
    """Take a callable through its course without torch."""
    plain = plan.course(plain_subject(case, invocation), device, effort, ())
    last = plain.output if plain.last is None else plain.last
    invalid = plain.invalid or output_checks.unsound_output_note(plain.output, last, None)
    if plain.measurement is not None and invalid is None:
        found = plan.further(invocation, None, plain.measurement)
        if plan.accuracy is not None:
            found = plan.accuracy.scored(CaseModel(case, invocation.target), found)
        plain = plain._replace(measurement=found)
    return plain._replace(invalid=invalid)


def _case_model(
    case: Case, device: Device, runtime: Runtime | None, subject: Subject, served: Invocation
) -> CaseModel:
    """Return what a function of accuracy is given: the placed or converted model."""
    if not isinstance(runtime, ExportingRuntime):
        return CaseModel(case, served.target, subject.structured)
    cast = case.dtype not in runtime.own_precision
    where = device.torch_name or "cpu"
    return CaseModel(case, served.target, subject.structured, device=where, cast=cast, fixed=served)


def comparison_with_reference(
    case: Case,
    invocation: Invocation,
    tolerance: float | None,
    watched: Watched,
    diverging: Callable[[Callable[[], None]], str | None] = lambda _: None,
) -> Compared:
    """Return what compares an output with that of the reference, computed in a call that is `watched`.

    `diverging` returns the first module whose output differs, if the output of the model does; it is given
    what restores random generators.
    To be called before the case draws random numbers, so that the reference draws the same.
    """
    restore = generator_states()

    def compared(output: Any, measurement: Measurement) -> Measurement:
        from pytest_infergate.outputs.reference_parity import reference_parity

        later = generator_states()
        restore()
        try:
            with watched(lambda: 0):
                reference = run_once(msgspec.structs.replace(case, device="cpu", dtype=None), invocation)
        except Exception as error:  # noqa: BLE001 - a model may need its device, or more memory
            note = Note(
                code=NoteCode.OUTPUTS_NOT_COMPARED,
                text=f"outputs were not compared with those of eager PyTorch on the CPU: {error_line(error)}",
            )
            return msgspec.structs.replace(measurement, notes=(*measurement.notes, note))
        finally:
            later()
        parity = reference_parity(
            reference, output, case.dtype, on_cpu=case.device == "cpu", tolerance=tolerance
        )
        if parity.difference is not None:
            # The difference is known without it; a compiler may refuse hooks.
            with suppress(Exception), watched(lambda: 0):
                parity = msgspec.structs.replace(parity, first_module=diverging(restore))
            later()
        return msgspec.structs.replace(measurement, parity=parity)

    return compared


def has_reference(case: Case, invocation: Invocation) -> bool:
    """Return whether a case has an output of another case to agree with.

    A plain callable runs eagerly on the device and in the dtype that it chooses itself, or calls a server.
    """
    if case.runtime != "eager" and case.device != REMOTE_DEVICE:
        return True
    if "torch" not in sys.modules or (case.device == "cpu" and case.dtype is None):
        return False
    from pytest_infergate.measure.module_search import module_of

    return module_of(invocation.target) is not None


def run_once(case: Case, invocation: Invocation, runtime: Runtime | None = None) -> Any:
    """Call the model once on the CPU and return its output, as in a run that does not measure.

    A server, if `runtime` is one, is called instead.
    """
    if isinstance(runtime, RemoteRuntime):
        remote = runtime.remote(invocation.target, mode_of(case.runtime))
        return _collected(invocation._replace(target=remote).bound()())
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
    """Set the number of threads of torch's operators until exit; ``None`` leaves it unchanged.

    On exit, it is as before, also if a call has changed it.
    """
    if "torch" not in sys.modules:
        yield
        return
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)

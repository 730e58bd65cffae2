"""One call of a user's model prepared for measuring: placement, threads, and running out of memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_infergate.core.domain.model import Case, Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.instruments.device import Device
from pytest_infergate.measure import memory
from pytest_infergate.measure.case import Effort, MeasuredSubject, Subject, measure
from pytest_infergate.measure.invocation import Invocation

if TYPE_CHECKING:
    from pytest_infergate.measure.placement import Placed


SETTLING_CALLS = 2
"""After these TorchScript has rewritten itself."""


def out_of_memory_note(error: Exception, case: Case) -> Note:
    """Say that memory ran out, and where."""
    words = memory.error_text(error).strip().splitlines() or [type(error).__name__]
    text = f"out of memory on {case.device} at batch size {case.batch_size}: {words[0]}"
    return Note(code=NoteCode.OUT_OF_MEMORY, text=text, hint="use a smaller batch or a bigger device")


@contextmanager
def prepared(case: Case, device: Device, invocation: Invocation) -> Iterator[tuple[Subject, Placed]]:
    """Make ready what a test handed to `infer`. Needs a loaded torch."""
    import torch

    from pytest_infergate.measure import placement

    with placement.placed(invocation, device.torch_name, case.dtype) as placed:
        yield (
            Subject(
                call=placed.call,
                from_host=placed.from_host,
                batch_size=case.batch_size,
                weights=placed.weights,
                threads=torch.get_num_threads(),
                settling=SETTLING_CALLS if placed.scripted else 0,
            ),
            placed,
        )


def measure_invocation(case: Case, device: Device, effort: Effort, invocation: Invocation) -> MeasuredSubject:
    """Measure what a test passed to `infer`."""
    if "torch" not in sys.modules:
        return measure(Subject(invocation.bound(), batch_size=case.batch_size), device, effort)

    from pytest_infergate.instruments import tensors
    from pytest_infergate.measure import soundness

    with prepared(case, device, invocation) as (subject, placed):
        unusual = soundness.torch_state_note()
        run = measure(subject, device, effort, (*placed.notes, *filter(None, (unusual,))))
        invalid = run.invalid
        if invalid is None:
            streamed = run.measurement is not None and run.measurement.stream is not None
            last = run.output if streamed else placed.call()
            invalid = soundness.unsound_output_note(
                run.output, last, None if placed.moved else device.torch_name
            )
        found = (soundness.gradients_note(run.output), placed.spoiled())
    measurement = run.measurement
    if measurement is not None:
        notes = (*measurement.notes, *filter(None, found))
        measurement = msgspec.structs.replace(measurement, notes=notes)
    return MeasuredSubject(tensors.copy_to_cpu(run.output), measurement, run.samples, invalid)


def run_once(invocation: Invocation) -> Any:
    """Call the model once on the CPU, as the fixture does where nothing is measured."""
    if "torch" not in sys.modules:
        return _collected(invocation.bound()())

    from pytest_infergate.instruments import tensors
    from pytest_infergate.measure import placement

    with placement.placed(invocation, "cpu") as placed:
        output = _collected(placed.call())
    return tensors.copy_to_cpu(output)


def _collected(output: Any) -> Any:
    """A stream as the list of its items."""
    return list(output) if isinstance(output, Iterator) else output


def torch_threads(count: int | None) -> AbstractContextManager[None]:
    """Set the number of threads inside a torch operator, restored after; ``None`` leaves it."""
    return nullcontext() if count is None or "torch" not in sys.modules else _threads(count)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

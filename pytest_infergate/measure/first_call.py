"""The first call of a case, which shows whether its result is a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments import tensors
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.timed_calls import RepeatedCall
from pytest_infergate.measure import timing_guard
from pytest_infergate.measure.item_streams import Emit, complete_call, consumed, pulled, pushed
from pytest_infergate.measure.same_work import SameWork

if TYPE_CHECKING:
    from pytest_infergate.measure.case import Subject


class FirstCall(NamedTuple):
    """The first call of a case."""

    output: Any
    """A copy of what it returned; of a stream, a list of copies of the items."""
    emit: Emit | None
    """Makes a call of a stream, and passes its items on; ``None`` if it is not a stream."""
    seconds: float
    """Until the result was complete."""
    work: SameWork
    """Compares later calls with it."""
    invalid: Note | None
    """Why the call cannot be measured."""


def first_call(subject: Subject, call: RepeatedCall, device: Device) -> FirstCall:
    """Call once. If the call returns a stream, `call` is made one that consumes it."""
    work = SameWork(subject.observe, subject.watch, settling=bool(subject.settling))
    output, stream, seconds = work.first_call(lambda: complete_call(call, device))
    emit = None
    if stream:
        work.items_copied()
        call.call, emit = consumed(subject.call), pulled(subject.call)
    elif subject.streamer is not None and subject.streamer.used:
        emit = pushed(subject.call, subject.streamer)
    invalid = subject.unrepeatable or timing_guard.unfinished_output_note(output)
    # Later calls may overwrite its memory, and its arguments are restored. The copy is no work of the call.
    copied = output if stream else tensors.clone_tensors(output)
    return FirstCall(copied, emit, seconds, work, invalid)

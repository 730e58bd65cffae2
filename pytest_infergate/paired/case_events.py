"""What the events of a worker mean for the case that it runs."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.paired.protocol import (
    CaseInvalid,
    Done,
    Event,
    Finish,
    NotConverted,
    OutOfMemory,
    PhaseReported,
    Ready,
    SideMeasured,
)
from pytest_infergate.paired.trial import Trial
from pytest_infergate.paired.worker_handle import PairedWorker, Side, UnexpectedEventError, WorkerLostError


def record(event: Event, side: Side, trial: Trial) -> None:
    """Record one event of a side."""
    candidate = side == "candidate"
    match event:
        case SideMeasured() if trial.measurements.get(side) is None:
            # Only the first launch counts the work, so that its measurement is the complete one.
            trial.measurements[side] = event.measurement
        case CaseInvalid() if candidate:
            trial.invalid = event.note
        case CaseInvalid():
            trial.no_base = trial.no_base or event.note
        case OutOfMemory() if trial.memory_conflict or (not trial.separate and trial.no_base is None):
            # Two models at once may be one too many: each side may still fit by itself.
            trial.separate = trial.memory_conflict = True
        case OutOfMemory() | NotConverted() if candidate:
            trial.infeasible = event.note
        case OutOfMemory() | NotConverted():
            trial.no_base = trial.no_base or event.note
        case PhaseReported() if candidate:
            trial.incoming_reports.append(event)
        case PhaseReported() if event.outcome != "passed":  # of the base, whose reports are not shown
            text = f"the test {event.outcome} on the base: {event.reason}"
            hint = AT_ONCE if event.when == "setup" else ""
            lose_base(trial, Note(code=NoteCode.BASE_FAILED, text=text, hint=hint))
        case Done() if candidate:
            # A launch in which the test failed is not hidden by a later one.
            trial.reports = trial.reports if trial.failed else trial.incoming_reports
            trial.incoming_reports = []


AT_ONCE = (
    "the base and the candidate hold their fixtures at the same time, so none may take a fixed port, file "
    "or name: let the system choose the port"
)


def lose_base(trial: Trial, note: Note) -> None:
    """Note that a case has no base, unless that only shows that memory is short for both sides."""
    if trial.no_base is None and not trial.memory_conflict:
        trial.no_base = note


def reaches_infer(side: Side, worker: PairedWorker, trial: Trial) -> bool:
    """Wait until a test is inside of `infer`; false if it ended before."""
    while not isinstance(event := worker.receive(), Ready):
        record(event, side, trial)
        if isinstance(event, Done):
            if side == "base":
                text = "the test did not reach infer on the base"
                lose_base(trial, Note(code=NoteCode.BASE_ENDED, text=text))
            return False
    return True


def finish_test(side: Side, worker: PairedWorker, trial: Trial) -> None:
    """Let a test go on from `infer` to its end."""
    worker.send(Finish())
    _record_to_end(side, worker, worker.receive(), trial)


def on_unexpected_event(
    error: UnexpectedEventError, sides: Mapping[Side, PairedWorker], trial: Trial
) -> None:
    """Follow a side whose model failed while it was timed to the end of its test."""
    side = next(side for side, worker in sides.items() if worker is error.worker)
    error.worker.resume()  # it may have been suspended between two blocks
    _record_to_end(side, error.worker, error.event, trial)
    if side == "base":
        lose_base(
            trial, Note(code=NoteCode.BASE_ENDED, text="the call failed on the base while it was timed")
        )


def on_worker_lost(error: WorkerLostError, trial: Trial) -> None:
    """Note what a lost process means for the case that it was running."""
    trial.incoming_reports = []
    if error.killed and not trial.separate and trial.no_base is None:
        # The system kills processes when memory runs out: each side may still fit by itself.
        trial.separate = trial.memory_conflict = True
    elif error.role == "base":
        trial.no_base = Note(code=NoteCode.BASE_LOST, text=str(error))
    else:
        trial.lost = Note(
            code=NoteCode.PROCESS_LOST, text=str(error), hint="run this test alone, without the gate"
        )


def _record_to_end(side: Side, worker: PairedWorker, event: Event, trial: Trial) -> None:
    record(event, side, trial)
    while not isinstance(event, Done):
        event = worker.receive()
        record(event, side, trial)

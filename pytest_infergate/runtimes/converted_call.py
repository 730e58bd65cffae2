"""A model that is converted for a runtime, as a call that is measured like any other. Imports torch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pytest_infergate.core.domain.measurement import Conversion
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Case, Note
from pytest_infergate.instruments.device import Device
from pytest_infergate.measure import placement
from pytest_infergate.measure.case import Subject
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.runtimes.conversion import Conversions
from pytest_infergate.runtimes.exported_model import exported
from pytest_infergate.runtimes.runtime import ExportingRuntime, Placing, mode_of


def conversions_folder() -> Path:
    """Return where converted models are kept: ``INFERGATE_CACHE``, or below the cache folder of the user."""
    own = os.environ.get("INFERGATE_CACHE")
    if own:
        return Path(own) / "conversions"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "infergate" / "conversions"


@contextmanager
def converted(
    case: Case, device: Device, invocation: Invocation, runtime: ExportingRuntime
) -> Iterator[tuple[Subject, placement.Placed, Conversion]]:
    """Convert a model, or load what an earlier run made of it; the caller's model and arguments are restored.

    Raises `ConversionError` with the reason in one line.
    """
    name = device.torch_name or "cpu"
    threads = torch.get_num_threads()
    placing = Placing(name, case.dtype, threads, mode_of(case.runtime))
    dtype = None if case.dtype in runtime.own_precision else case.dtype
    begin = time.monotonic()
    with placement.placed(invocation, name, dtype) as placed:
        target, args, kwargs, _ = placed.on_device
        model = exported(target, args, kwargs)
    export = time.monotonic() - begin
    files = Conversions(conversions_folder()).files(runtime, model, placing)
    begin = time.monotonic()
    engine = runtime.load(files.folder, placing)
    conversion = Conversion(
        export=export,
        build=files.seconds,
        load=time.monotonic() - begin,
        size=files.size,
        cached=files.cached,
    )
    call = Invocation(model.called_by(engine.run), args, kwargs)
    weights = model.weights()
    uncounted = Note(
        code=NoteCode.NOT_COUNTED,
        text=f"operators, FLOPs and memory of {runtime.name} cannot be counted",
        hint="the eager case of the same test is gated by its counters",
    )
    with placement.placed(call, None) as ready:
        subject = Subject(
            call=ready.call,
            batch_size=case.batch_size,
            weights=lambda: weights,
            threads=threads,
            arguments=ready.arguments,
            unrepeatable=ready.arguments.consumed_note(),
            uncounted=uncounted,
        )
        yield subject, ready._replace(notes=engine.notes), conversion

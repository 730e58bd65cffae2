"""A model that is converted for a runtime, as a call that is measured like any other. Imports torch."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch.utils import _pytree as pytree

from pytest_infergate.core.domain.dtypes import dtype_parts
from pytest_infergate.core.domain.measurement import Conversion
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Case, Note
from pytest_infergate.errors import CaseTimeoutError, ConversionError, StorageError
from pytest_infergate.instruments import tensors
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.timed_calls import RepeatedCall
from pytest_infergate.measure import memory, placement
from pytest_infergate.measure.case import Subject, Watched
from pytest_infergate.measure.invocation import Invocation
from pytest_infergate.measure.number_formats import autocast, unwrap_weights
from pytest_infergate.outputs.reference_parity import reference_parity
from pytest_infergate.runtimes.conversion import Conversions
from pytest_infergate.runtimes.exported_model import exported, first_line
from pytest_infergate.runtimes.runtime import ExportingRuntime, Placing, mode_of
from pytest_infergate.storage.user_cache import user_cache


def conversions_folder() -> Path:
    """Return where converted models are kept: ``INFERGATE_CACHE``, or below the cache folder of the user."""
    try:
        return user_cache("conversions")
    except StorageError as error:
        raise ConversionError(str(error)) from None


@contextmanager
def converted(
    case: Case, device: Device, invocation: Invocation, runtime: ExportingRuntime, watched: Watched
) -> Iterator[tuple[Subject, placement.Placed, Conversion]]:
    """Convert a model, or load what an earlier run made of it; the caller's model and arguments are restored.

    `watched` limits the time of what runs in this process. Raises `ConversionError` with the reason in one
    line.
    """
    name = device.torch_name or "cpu"
    threads = torch.get_num_threads()
    placing = Placing(name, case.dtype, threads, mode_of(case.runtime))
    dtype = None if case.dtype in runtime.own_precision else case.dtype
    begin = time.monotonic()
    with placement.placed(invocation, name, dtype) as placed:
        target, args, kwargs = placed.on_device[:3]
        with _limited(watched, "torch.export", on_cpu=name == "cpu"):
            unwrap_weights(target, dtype_parts(dtype))
            around = functools.partial(autocast, dtype_parts(case.dtype), name)
            model = exported(target, args, kwargs, around)
        export = time.monotonic() - begin
        with _limited(watched, "the call in eager PyTorch", on_cpu=name == "cpu"):
            _check_state(placed, case)
    files = Conversions(conversions_folder()).files(runtime, model, placing)
    begin = time.monotonic()
    with _limited(watched, "loading the converted model"):
        engine = runtime.load(files.folder, placing)
    load = time.monotonic() - begin
    conversion = Conversion(
        export=export, build=files.seconds, load=load, size=files.size, cached=files.cached
    )
    # Engines read the memory of inputs, which tensors that require gradients refuse.
    args, kwargs = pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs))
    call = Invocation(model.called_by(engine.run, args, kwargs), args, kwargs)
    with placement.placed(call, None) as ready:
        subject = Subject(
            call=ready.call,
            batch_size=case.batch_size,
            weights=lambda: engine.weights or model.weights(),
            threads=threads,
            arguments=ready.arguments,
            unrepeatable=ready.arguments.consumed_note(),
            uncounted=_uncounted_note(runtime),
            structured=model.structured,
        )
        yield subject, ready._replace(notes=engine.notes), conversion


def _check_state(placed: placement.Placed, case: Case) -> None:
    """Raise `ConversionError` if an output depends on the calls before, which a converted model forgets."""
    call, advanced = RepeatedCall(placed.call, placed.arguments), placed.watch()
    first = tensors.copy_to_cpu(call())
    names = advanced()
    if not names:
        return
    second = tensors.copy_to_cpu(call())
    if reference_parity(first, second, case.dtype, on_cpu=case.device == "cpu").difference is not None:
        raise ConversionError(
            f"each call changes {', '.join(names)}, on which the next output depends, and a converted model "
            "does not keep it"
        )


def _uncounted_note(runtime: ExportingRuntime) -> Note:
    text = f"operators, FLOPs and memory of {runtime.name} cannot be counted"
    hint = "the eager case of the same test is gated by its counters"
    return Note(code=NoteCode.NOT_COUNTED, text=text, hint=hint)


@contextmanager
def _limited(watched: Watched, what: str, *, on_cpu: bool = False) -> Iterator[None]:
    """Limit the time of a step, whose failure is the reason for which the model is not converted.

    On a CPU, its memory is limited too: drivers of accelerators reserve address space that takes no memory.
    """
    growth = memory.growth_limited() if on_cpu else nullcontext()
    try:
        # Of packages about themselves; a suite may make errors of warnings.
        with watched(lambda: 0), growth, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ConversionError:
        raise
    except CaseTimeoutError:
        raise ConversionError(f"{what} did not return") from None
    except Exception as error:
        raise ConversionError(f"{what} failed: {first_line(error)}") from error

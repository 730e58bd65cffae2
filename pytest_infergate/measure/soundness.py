"""Whether what a call returned is fit to be timed. Needs a loaded torch."""

from __future__ import annotations

from typing import Any

import torch

from pytest_infergate.core.domain.model import Note
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.instruments import tensors


def unsound(first: Any, last: Any, device: str | None) -> Note | None:
    """Say what is wrong with the first and last result of a case; `None` where nothing is.

    Wrong are: tensors on another device than the case's, NaN, shapes that change from call to call.
    """
    return _elsewhere(first, device) or _nan(first) or _drift(first, last)


def _elsewhere(output: Any, device: str | None) -> Note | None:
    if device is None:
        return None
    wanted = torch.device(device)
    strays = [found for found in tensors.devices_of(output) if not tensors.same_device(found, wanted)]
    if not strays:
        return None
    return Note(
        code=NoteCode.WRONG_DEVICE,
        text=f"the output lies on {strays[0]}, the case is {wanted.type}",
        hint="give infer the module itself, or move model and inputs to infer.device inside the callable",
    )


def _nan(output: Any) -> Note | None:
    nan, total = tensors.count_nan(output)
    if not nan:
        return None
    return Note(
        code=NoteCode.NAN_OUTPUT,
        text=f"the output holds NaN: {nan} of {total} values",
        hint="check inputs and dtype: such values can be much faster or slower than real ones",
    )


def _drift(first: Any, last: Any) -> Note | None:
    before, after = tensors.signature(first), tensors.signature(last)
    if before == after:
        return None
    return Note(
        code=NoteCode.SHAPE_CHANGED,
        text=f"the output changed from {_words(before)} to {_words(after)} between calls",
        hint="reset the model's state inside the callable, so that every call does the same work",
    )


def _words(signature: tuple[tuple[tuple[int, ...], str], ...]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for shape, dtype in signature) or "no tensor"


def unusual() -> Note | None:
    """Say which states of torch, that are the whole process's, are not as torch starts with.

    A test that leaves one behind changes the operators of every model after it.
    """
    found = {
        f"default dtype {torch.get_default_dtype()}": torch.get_default_dtype() is not torch.float32,
        "a function mode or default device": torch._C._len_torch_function_stack() > 0,  # noqa: SLF001
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "autocast": torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled(),
        "fast paths of attention off": not torch.backends.mha.get_fastpath_enabled(),
        "oneDNN off": torch.backends.mkldnn.is_available() and not torch.backends.mkldnn.enabled,  # type: ignore[no-untyped-call]
    }
    states = [words for words, set_ in found.items() if set_]
    if not states:
        return None
    return Note(
        code=NoteCode.TORCH_STATE,
        text=f"torch is not as it starts: {', '.join(states)}",
        hint="if another test left it so, undo it there: other operators run than alone",
    )


def gradients(output: Any) -> Note | None:
    """Say that gradients were being recorded, which costs time and memory that no service spends."""
    if not any(tensor.requires_grad for tensor in tensors.tensors(output)):
        return None
    return Note(
        code=NoteCode.GRADIENTS_ON,
        text="gradients were on while timing",
        hint="wrap the call in torch.inference_mode(), or give infer the module itself",
    )

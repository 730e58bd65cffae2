"""Checks of what a call returned, and of torch's global state. Does not import torch."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments import tensors
from pytest_infergate.instruments.nested import loaded

_FIRST_THREADS: Final[dict[str, int]] = {}
"""The number of threads of torch in the first case of the process that does not set them."""


def unsound_output_note(first: Any, last: Any, device: str | None) -> Note | None:
    """Return why the first and last result of a case make its times invalid; `None` if they are sound.

    Checked are the device of the tensors (unless `device` is ``None``), NaN in tensors, arrays, tables and
    numbers, and shapes of tensors and arrays that change between calls.
    """
    torch = loaded("torch")
    if device is not None and torch is not None:
        expected = torch.device(device)
        others = [name for name in tensors.devices_of(first) if not tensors.same_device(name, expected)]
        if others:
            return Note(
                code=NoteCode.WRONG_DEVICE,
                text=f"the output is on {others[0]}, but the device of the case is {expected.type}",
                hint="pass infer the module itself, or move model and inputs to infer.device inside the "
                "callable",
            )
    for output, which in ((first, "output"), (last, "output of a later call")):
        nan, total = (0, 0) if output is first and which != "output" else tensors.count_nan(output)
        if nan:
            return Note(
                code=NoteCode.NAN_OUTPUT,
                text=f"the {which} contains NaN: {nan} of {total} values",
                hint="check inputs and dtype: NaN can be much faster or slower to compute than real values",
            )
    before, after = tensors.signature(first), tensors.signature(last)
    if before != after:
        return Note(
            code=NoteCode.SHAPE_CHANGED,
            text=f"the output changed from {_text(before)} to {_text(after)} between calls",
            hint="reset the state of the model inside the callable, so that each call does the same work",
        )
    return None


def uncopied_notes(uncopied: Iterable[Any]) -> tuple[Note, ...]:
    """Return a note on tensors that cannot be copied, if there are any."""
    kinds = ", ".join(sorted({type(tensor).__name__ for tensor in uncopied}))
    text = f"tensors of the class {kinds} cannot be copied: what calls change in them is not restored, "
    text += "and shows in outputs"
    hint = "make sure that calls do not change them, or implement clone() and copy_() for the class"
    return (Note(code=NoteCode.TENSOR_NOT_COPIED, text=text, hint=hint),) if kinds else ()


def _text(signature: tuple[tuple[tuple[int, ...], str], ...]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for shape, dtype in signature) or "no tensor or array"


def torch_state_note(threads: int | None = None) -> Note | None:
    """Return a note on global settings of torch that differ from their defaults; `None` if none do.

    `threads` are those that the case sets. Without them, they must be as many as in the first case.
    """
    torch = loaded("torch")
    if torch is None:
        return None
    now = torch.get_num_threads()
    first = now if threads is not None else _FIRST_THREADS.setdefault("torch", now)
    smallest, precision = sys.float_info.min, torch.get_float32_matmul_precision()
    cuda, cudnn, onednn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    attention = (
        cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled(),
        cuda.cudnn_sdp_enabled(),
    )  # fmt: skip
    # A test that does not restore such a setting changes the operators of all models after it.
    settings = {
        f"default dtype {torch.get_default_dtype()}": torch.get_default_dtype() is not torch.float32,
        "a function mode or default device": torch._C._len_torch_function_stack() > 0,  # noqa: SLF001
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "autocast": torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled(),
        "fast paths of attention disabled": not torch.backends.mha.get_fastpath_enabled(),
        "kernels of attention disabled": not all(attention),
        "oneDNN disabled": onednn.is_available() and not onednn.enabled,
        "oneDNN deterministic": onednn.deterministic,
        "cuDNN disabled": not cudnn.enabled,
        "cuDNN benchmark": cudnn.benchmark,
        "cuDNN deterministic": cudnn.deterministic,
        "cuDNN without TF32": not cudnn.allow_tf32,
        f"precision of float32 products {precision}": precision != "highest",
        "subnormal numbers are flushed to zero": smallest / 2 == 0,
        "detection of anomalies": torch.is_anomaly_enabled(),
        f"{now} threads instead of {first}": now != first,
    }
    changed = [name for name, differs in settings.items() if differs]
    if not changed:
        return None
    return Note(
        code=NoteCode.TORCH_STATE,
        text=f"torch global state was changed: {', '.join(changed)}",
        hint="if another test changed it, restore it there: the case runs other operators than alone",
    )


def threads_note(before: int | None) -> Note | None:
    """Return a note if the call has set another number of threads than `before`, the one of the case."""
    torch = loaded("torch")
    now = before if torch is None else torch.get_num_threads()
    if before is None or now == before:
        return None
    return Note(
        code=NoteCode.TORCH_STATE,
        text=f"the call sets the number of threads of torch to {now}, of {before}: later calls run on {now}",
        hint="set it once before the tests, or by threads= in the marker",
    )


def gradients_note(output: Any) -> Note | None:
    """Return a note if gradients were recorded, which takes time and memory that a service does not spend."""
    # Parameters require gradients as well, and an output may refer to them.
    with tensors.past_class():
        recorded = any(tensor.requires_grad and not tensor.is_leaf for tensor in tensors.tensors(output))
    if not recorded:
        return None
    return Note(
        code=NoteCode.GRADIENTS_ON,
        text="gradients were recorded while timing",
        hint="wrap the call in torch.inference_mode(), or pass infer the module itself",
    )

"""Whether both sides compute the same: a change may be faster because it computes something else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

# Relative to the largest value of a tensor, not to each value: a small one may be the difference of large
# ones, whose rounding another order of summation changes.
TOLERANCES: Final = {"float64": 1e-7, "float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
"""By dtype, the largest difference as a share of the largest value of the base's tensor."""
DEFAULT_TOLERANCE: Final = 0.1
"""Of the other floating dtypes, which have eight bits or fewer."""


def keep(output: Any, path: str) -> None:
    """Write the tensors of an output to a file, in the order in which they are nested."""
    if "torch" not in sys.modules:  # without it there are no tensors, and importing it takes seconds
        Path(path).touch()
        return
    import torch

    torch.save(_tensors(output), path)


def output_difference(output: Any, path: str, tolerance: float | None = None) -> str | None:
    """Describe how an output differs from the base's in a file; ``None`` if it does not.

    `tolerance` replaces that of the dtype. Integers and booleans must be equal.
    """
    if "torch" not in sys.modules or not Path(path).stat().st_size:
        return None
    import torch

    # The file was written by the other worker of this run; weights_only restricts it to tensors all the same.
    before = torch.load(path, weights_only=True)
    now = _tensors(output)
    if len(before) != len(now):
        return f"the base returned {len(before)} tensors, the candidate {len(now)}"
    for index, (old, new) in enumerate(zip(before, now, strict=True)):
        found = _difference(old, new, tolerance)
        if found is not None:
            return f"output {index}: {found}" if len(now) > 1 else f"the output: {found}"
    return None


def _tensors(output: Any) -> list[torch.Tensor]:
    """The tensors of an output as dense tensors on the CPU, which can be written and subtracted."""
    import torch

    from pytest_infergate.instruments import tensors

    found: list[torch.Tensor] = []
    for nested in tensors.tensors(output):
        for tensor in nested.unbind() if nested.is_nested else [nested]:
            plain = tensor.detach()
            if type(plain) is not torch.Tensor:
                plain = plain.as_subclass(torch.Tensor)
            if plain.is_quantized:
                plain = plain.dequantize()
            if plain.layout is not torch.strided:
                plain = plain.to_dense()
            # A copy, because the model may write to its output buffer in the next call.
            found.append(plain.to("cpu").contiguous().clone())
    return found


def _difference(old: torch.Tensor, new: torch.Tensor, tolerance: float | None) -> str | None:
    if old.shape != new.shape:
        return f"shape {tuple(old.shape)} on the base, {tuple(new.shape)} now"
    if old.dtype != new.dtype:
        return f"{_name(old)} on the base, {_name(new)} now"
    if not old.numel():
        return None
    if old.is_floating_point() or old.is_complex():
        dtype_tolerance = TOLERANCES.get(_name(old), DEFAULT_TOLERANCE)
        return _floating_difference(old, new, dtype_tolerance if tolerance is None else tolerance)
    unequal = int((old != new).sum())
    return f"{unequal:,} of {old.numel():,} values differ" if unequal else None


def _floating_difference(old: torch.Tensor, new: torch.Tensor, tolerance: float) -> str | None:
    import torch

    wide = torch.complex128 if old.is_complex() else torch.float64
    before, after = old.to(wide), new.to(wide)
    finite = torch.isfinite(before) & torch.isfinite(after)
    # Infinities and NaN may be part of a result, for example of a mask, if both sides have them.
    same = (before == after) | (torch.isnan(before) & torch.isnan(after))
    unequal = int((~finite & ~same).sum())
    if unequal:
        return f"{unequal:,} of {old.numel():,} values are not finite on one side"
    if not bool(finite.any()):
        return None
    scale = float(before[finite].abs().max())
    largest = float((before - after)[finite].abs().max())
    # An output of zeros must stay one: its scale tolerates nothing.
    if largest <= tolerance * scale:
        return None
    share = "" if scale == 0 else f", {largest / scale:.1%} of the largest value"
    return f"values differ by up to {largest:.3g}{share}; allowed is {tolerance:g} of it in {_name(old)}"


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")

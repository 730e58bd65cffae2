"""Whether both sides compute the same: a change that is faster because it computes something else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

TOLERANCES = {"float64": 1e-7, "float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
"""By dtype: largest difference, as a share of the largest value of the base's tensor."""
LOOSEST = 0.1
"""Of a floating dtype that is not listed: eight bits and fewer."""


def keep(output: Any, path: str) -> None:
    """Write the tensors of an output to a file, in the order in which they are nested."""
    if "torch" not in sys.modules:
        Path(path).touch()
        return
    import torch

    torch.save(_tensors(output), path)


def output_difference(output: Any, path: str, tolerance: float | None = None) -> str | None:
    """Say how an output differs from the base's that was kept in a file; ``None`` where it does not.

    `tolerance` replaces that of the dtype. Integers and booleans must be equal.
    """
    if "torch" not in sys.modules or not Path(path).stat().st_size:
        return None
    import torch

    # Written by the other worker of this very run; weights_only keeps it to tensors all the same.
    before = torch.load(path, weights_only=True)
    now = _tensors(output)
    if len(before) != len(now):
        return f"the base returned {len(before)} tensors, the candidate {len(now)}"
    for index, (old, new) in enumerate(zip(before, now, strict=True)):
        found = _differs(old, new, tolerance)
        if found is not None:
            return f"output {index}: {found}" if len(now) > 1 else f"the output: {found}"
    return None


def _tensors(output: Any) -> list[torch.Tensor]:
    from pytest_infergate.instruments import tensors

    found: list[torch.Tensor] = []
    for tensor in tensors.tensors(output):
        found += tensor.unbind() if tensor.is_nested else [tensor]
    return [_plain(tensor) for tensor in found]


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    plain = tensor.detach()
    if type(plain) is not torch.Tensor:
        plain = plain.as_subclass(torch.Tensor)
    if plain.is_quantized:
        plain = plain.dequantize()
    if plain.layout is not torch.strided:
        plain = plain.to_dense()
    return plain.to("cpu").contiguous().clone()


def _differs(old: torch.Tensor, new: torch.Tensor, tolerance: float | None) -> str | None:
    if old.shape != new.shape:
        return f"shape {tuple(old.shape)} on the base, {tuple(new.shape)} now"
    if old.dtype != new.dtype:
        return f"{_name(old)} on the base, {_name(new)} now"
    if not old.numel():
        return None
    if old.is_floating_point() or old.is_complex():
        return _far_apart(old, new, TOLERANCES.get(_name(old), LOOSEST) if tolerance is None else tolerance)
    unequal = int((old != new).sum())
    return f"{unequal:,} of {old.numel():,} values differ" if unequal else None


def _far_apart(old: torch.Tensor, new: torch.Tensor, allowed: float) -> str | None:
    import torch

    wide = torch.complex128 if old.is_complex() else torch.float64
    before, after = old.to(wide), new.to(wide)
    finite = torch.isfinite(before) & torch.isfinite(after)
    same = (before == after) | (torch.isnan(before) & torch.isnan(after))
    odd = int((~finite & ~same).sum())
    if odd:
        return f"{odd:,} of {old.numel():,} values are not finite on one side"
    if not bool(finite.any()):
        return None
    scale = float(before[finite].abs().max())
    largest = float((before - after)[finite].abs().max())
    if largest <= allowed * scale:
        return None
    share = "" if scale == 0 else f", {largest / scale:.1%} of the largest value"
    return f"values differ by up to {largest:.3g}{share}; allowed is {allowed:g} of it in {_name(old)}"


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")

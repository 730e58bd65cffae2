"""Yardsticks: fixed work, interleaved with a case, whose time tells how fast the machine is right now.

Three kinds of speed, since noisy neighbours take them apart: arithmetic, memory bandwidth, dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


def torch_yardsticks(device: str) -> Mapping[str, Callable[[], object]]:
    """Build the three yardsticks on a torch device, a millisecond or so each on today's machines."""
    import torch

    accelerated = not device.startswith("cpu")
    side = 2048 if accelerated else 256
    elements = (1 << 26) if accelerated else (1 << 21)
    # The dtype is said, since users may set another default.
    single = torch.float32
    matrix = torch.ones(side, side, device=device, dtype=single)
    product = torch.empty(side, side, device=device, dtype=single)
    source = torch.zeros(elements, device=device, dtype=single)
    target = torch.zeros(elements, device=device, dtype=single)
    tiny = torch.zeros(8, device=device, dtype=single)

    def dispatch() -> None:
        for _ in range(200):
            tiny.add_(1.0)

    return {
        "compute": lambda: torch.mm(matrix, matrix, out=product),
        "copy": lambda: target.copy_(source),
        "dispatch": dispatch,
    }

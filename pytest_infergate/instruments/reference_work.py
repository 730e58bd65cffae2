"""Yardsticks: fixed work, interleaved with a case, whose time tells how fast the machine is right now.

Kinds of speed that noisy neighbours take apart: arithmetic, memory bandwidth, dispatch and, on the CPU,
waking the threads of an operator, which costs a small model more than its arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

WIDE = 1 << 16
"""Elements from which on torch splits an elementwise operator among threads: twice its grain of 32,768."""


def torch_reference_work(device: str) -> Mapping[str, Callable[[], object]]:
    """Build the yardsticks on a torch device, a millisecond or so each on today's machines."""
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

    reference_work: dict[str, Callable[[], object]] = {
        "compute": lambda: torch.mm(matrix, matrix, out=product),
        "copy": lambda: target.copy_(source),
        "dispatch": dispatch,
    }
    if not accelerated:
        wide = torch.zeros(WIDE, device=device, dtype=single)

        def threads() -> None:
            for _ in range(20):
                wide.add_(1.0)

        reference_work["threads"] = threads
    return reference_work

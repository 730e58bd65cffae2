"""Reference workloads: fixed work, interleaved with a case, whose times show the machine's current speed.

They cover speeds that noisy neighbours affect differently: arithmetic, memory bandwidth, dispatch and, on the
CPU, waking the threads of an operator, which costs a small model more than its arithmetic.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Elements from which on torch splits an elementwise operator among threads: twice its grain size of 32,768.
# More elements would measure bandwidth again, fewer would wake no thread.
MULTITHREADED_ELEMENTS = 1 << 16
# Kinds of devices that are fast enough for the larger workloads. What a plugin adds may be slower: as on the
# CPU, its workloads then take about as long as elsewhere the larger ones.
FAST_KINDS = frozenset(("cuda", "xpu", "mps"))


def square_product(matrix: torch.Tensor, product: torch.Tensor) -> Callable[[], object]:
    """Return what multiplies a matrix by itself, into `product` if the device can write into a tensor."""
    import torch

    run = functools.partial(torch.mm, matrix, matrix, out=product)
    try:
        run()
    except NotImplementedError:
        return functools.partial(torch.mm, matrix, matrix)
    return run


def torch_reference_work(device: str) -> Mapping[str, Callable[[], object]]:
    """Build the reference workloads of a torch device by name; each takes about a millisecond.

    The log of a median is corrected by the mean of their logs. On two shared virtual cores, over seven cases
    and nine sessions, that reduced the standard deviation of launch medians from 9.8 to 5.8 %. Without
    ``threads`` it was 6.8 %, with ``copy`` alone 13.5 %: one workload alone does more harm than good
    (docs/method.md, "Reference workloads").
    """
    import torch

    # Large enough for about a millisecond, and small enough that they do not delay the case; an accelerator
    # needs more elements, or the launch of the kernel would dominate.
    fast = device.partition(":")[0] in FAST_KINDS
    side = 2048 if fast else 256
    elements = (1 << 26) if fast else (1 << 21)
    # Explicit, because users may set another default dtype.
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
        "compute": square_product(matrix, product),
        "copy": lambda: target.copy_(source),
        "dispatch": dispatch,
    }
    if device.startswith("cpu"):
        wide = torch.zeros(MULTITHREADED_ELEMENTS, device=device, dtype=single)

        def threads() -> None:
            for _ in range(20):
                wide.add_(1.0)

        reference_work["threads"] = threads
    return reference_work

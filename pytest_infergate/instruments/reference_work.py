"""Reference workloads: fixed work, interleaved with a case, whose times show the machine's current speed.

They cover speeds that noisy neighbours affect differently: arithmetic, memory bandwidth, dispatch and, on the
CPU, waking the threads of an operator, which costs a small model more than its arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

# Elements from which on torch splits an elementwise operator among threads: twice its grain size of 32,768.
# More elements would measure bandwidth again, fewer would wake no thread.
MULTITHREADED_ELEMENTS = 1 << 16


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
    accelerated = not device.startswith("cpu")
    side = 2048 if accelerated else 256
    elements = (1 << 26) if accelerated else (1 << 21)
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
        "compute": lambda: torch.mm(matrix, matrix, out=product),
        "copy": lambda: target.copy_(source),
        "dispatch": dispatch,
    }
    if not accelerated:
        wide = torch.zeros(MULTITHREADED_ELEMENTS, device=device, dtype=single)

        def threads() -> None:
            for _ in range(20):
                wide.add_(1.0)

        reference_work["threads"] = threads
    return reference_work

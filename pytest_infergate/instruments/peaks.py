"""How fast a device can be at best: the machine's own figures, not those of a data sheet."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Final

from pytest_infergate.core.domain.measurement import Peaks
from pytest_infergate.instruments.device import Device, Probe, Probes
from pytest_infergate.instruments.sampler import time_calls

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

PROBE_SECONDS: Final = 0.3
"""Time for each probe; the best of its repetitions counts."""
LEAST_REPETITIONS: Final = 2
MOST_REPETITIONS: Final = 10_000
"""A probe that takes no time at all would else be repeated for ever."""

ELEMENTS: Final = 1 << 24
"""Of the buffers that are copied on the CPU, 4 bytes each: together more than most caches hold. malloc maps
such buffers by themselves and learns nothing from them, so that later cases find the heap that they would
find without."""
ACCELERATOR_ELEMENTS: Final = 1 << 27
SIDE: Final = 1024
"""Of the matrices on the CPU. All matrices lie within the buffers."""
MANY_THREADS: Final = 16
WIDE_SIDE: Final = 2048
"""The same where so many threads share a product."""
ACCELERATOR_SIDE: Final = 4096
HALF_SIDE: Final = 8192
"""Of products in the half dtypes, on units that are many times as fast."""
COPIES: Final = 8
"""On an accelerator, between two synchronisations, whose own time a single copy would show."""
_UNABLE: Final = (RuntimeError, TypeError, MemoryError)
"""How torch says that a device cannot do something, or has no memory for it."""


def peaks(device: Device) -> Peaks | None:
    """Time the device's probes; ``None`` where it has none, or no memory for them.

    A dtype in which it cannot multiply is left out.
    """
    try:
        probes = device.probes()
    except _UNABLE:
        return None
    rates = {dtype: _rate(probe, device) for dtype, probe in probes.products.items()}
    bandwidth = None if probes.copy is None else _rate(probes.copy, device)
    del probes
    if device.asynchronous:
        device.release()
    if bandwidth is None:
        return None
    flops = {dtype: rate for dtype, rate in rates.items() if rate is not None}
    return Peaks(flops=flops, bandwidth=bandwidth)


def _rate(probe: Probe, device: Device) -> float | None:
    """Work a second of the best repetition; the first, which pays for what is new, does not count."""
    best, spent, repetitions = math.inf, 0.0, 0
    try:
        time_calls(probe.run, device, 1)
        while repetitions < LEAST_REPETITIONS or (spent < PROBE_SECONDS and repetitions < MOST_REPETITIONS):
            (seconds,) = time_calls(probe.run, device, 1)
            best, spent, repetitions = min(best, seconds), spent + seconds, repetitions + 1
    except _UNABLE:
        return None
    return probe.work / best if best > 0 else None


def torch_probes(device: str) -> Probes:
    """Build the probes on a torch device.

    Products in float32 run with whatever precision the user set for them, as the model does.
    """
    import torch

    accelerated = not device.startswith("cpu")
    elements = ACCELERATOR_ELEMENTS if accelerated else ELEMENTS
    # Ones, since pages of zeros that nobody wrote would share one page of memory.
    source = torch.ones(elements, device=device, dtype=torch.float32)
    target = torch.ones(elements, device=device, dtype=torch.float32)
    times = COPIES if accelerated else 1

    def copy() -> None:
        for _ in range(times):
            target.copy_(source)

    sides = {torch.float32: WIDE_SIDE if torch.get_num_threads() >= MANY_THREADS else SIDE}
    if accelerated:
        sides = {torch.float32: ACCELERATOR_SIDE, torch.bfloat16: HALF_SIDE, torch.float16: HALF_SIDE}
    products = dict(_products(source, target, sides.items()))
    return Probes(products, Probe(copy, 2.0 * source.nbytes * times))


def _products(
    source: torch.Tensor, target: torch.Tensor, sides: Iterable[tuple[torch.dtype, int]]
) -> Iterable[tuple[str, Probe]]:
    """Products by dtype, side by side in the buffers, of random numbers: what is all alike takes less power.

    The user's random numbers go on as if nothing had been drawn.
    """
    import torch

    generator = torch.Generator(device=source.device).manual_seed(0)
    start = 0
    for dtype, side in sides:
        end = start + side * side * dtype.itemsize // source.itemsize
        try:
            matrix, product = (whole[start:end].view(dtype).view(side, side) for whole in (source, target))
            matrix.normal_(generator=generator)
        except _UNABLE:
            continue
        start = end
        run = functools.partial(torch.mm, matrix, matrix, out=product)
        yield str(dtype).removeprefix("torch."), Probe(run, 2.0 * side**3)

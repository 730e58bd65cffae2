"""Peak rates of a device, measured on the machine itself.

Data sheets are not used: they mix sparse and dense peaks, and state what neither this clock nor this
container reaches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pytest_infergate.core.domain.measurement import Peaks
from pytest_infergate.instruments.device import Device, InstrumentError, Probe, Probes
from pytest_infergate.instruments.reference_work import FAST_KINDS, square_product
from pytest_infergate.instruments.timed_calls import time_calls

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

# Time for each probe, of which the best repetition counts: a peak is what the device can do undisturbed.
PROBE_SECONDS: Final = 0.3
MIN_REPETITIONS: Final = 2
# A probe that takes no measurable time would otherwise be repeated forever.
MAX_REPETITIONS: Final = 10_000

# Elements of the two buffers that are copied on the CPU, 4 bytes each: together 128 MiB, more than most
# caches hold. malloc maps buffers of this size separately and does not adapt its thresholds to them, so that
# later cases find the heap that they would find without probes.
ELEMENTS: Final = 1 << 24
ACCELERATOR_ELEMENTS: Final = 1 << 27
# Side of the square matrices. All matrices are views of the buffers, for the same reason.
SIDE: Final = 1024
# From this number of threads on, a product of `SIDE` is too small to keep all of them busy.
MANY_THREADS: Final = 16
MANY_THREADS_SIDE: Final = 2048
ACCELERATOR_SIDE: Final = 4096
# The matrix units of the half dtypes are many times faster, and need a larger product to reach their peak.
HALF_SIDE: Final = 8192
# Copies between two synchronisations on an accelerator; the time of the synchronisation would show in a
# single copy.
COPIES: Final = 8
# What torch raises if a device does not support an operation, or has no memory for it.
_UNABLE: Final = (RuntimeError, TypeError, MemoryError, InstrumentError)


def peaks(device: Device) -> Peaks | None:
    """Measure peak rates by the probes of a device: FLOP/s by dtype, and bytes/s of a copy.

    ``None`` if the device has no probes, or no memory for them. Dtypes that it cannot multiply are left out.
    """
    try:
        probes = device.probes()
    except _UNABLE:
        return None
    rates = {dtype: _rate(probe, device) for dtype, probe in probes.products.items()}
    bandwidth = None if probes.copy is None else _rate(probes.copy, device)
    # The buffers are freed before the cache is released, so that the next case finds all memory.
    del probes
    if device.asynchronous:
        device.release()
    if bandwidth is None:
        return None
    flops = {dtype: rate for dtype, rate in rates.items() if rate is not None}
    return Peaks(flops=flops, bandwidth=bandwidth)


def _rate(probe: Probe, device: Device) -> float | None:
    """Return the work per second of the best repetition; `None` if the device cannot run the probe."""
    best, spent, repetitions = math.inf, 0.0, 0
    try:
        time_calls(probe.run, device, 1)  # compiles kernels and touches memory for the first time
        while repetitions < MIN_REPETITIONS or (spent < PROBE_SECONDS and repetitions < MAX_REPETITIONS):
            (seconds,) = time_calls(probe.run, device, 1)
            best, spent, repetitions = min(best, seconds), spent + seconds, repetitions + 1
    except _UNABLE:
        return None
    return probe.work / best if best > 0 else None


def torch_probes(device: str) -> Probes:
    """Build the probes of a torch device: products, on accelerators also in the half dtypes, and a copy.

    Products in float32 use the precision that the user set (TF32 for instance), as the model does.
    """
    import torch

    accelerated = device.partition(":")[0] in FAST_KINDS
    elements = ACCELERATOR_ELEMENTS if accelerated else ELEMENTS
    # Not zeros: unwritten pages of zeros share one page of physical memory, which would stay in the caches.
    source = torch.ones(elements, device=device, dtype=torch.float32)
    target = torch.ones(elements, device=device, dtype=torch.float32)
    copies = COPIES if accelerated else 1

    def copy() -> None:
        for _ in range(copies):
            target.copy_(source)

    sides = {torch.float32: MANY_THREADS_SIDE if torch.get_num_threads() >= MANY_THREADS else SIDE}
    if accelerated:
        sides = {torch.float32: ACCELERATOR_SIDE, torch.bfloat16: HALF_SIDE, torch.float16: HALF_SIDE}
    products = dict(_products(source, target, sides.items()))
    return Probes(products, Probe(copy, 2.0 * source.nbytes * copies))


def _products(
    source: torch.Tensor, target: torch.Tensor, sides: Iterable[tuple[torch.dtype, int]]
) -> Iterable[tuple[str, Probe]]:
    """Yield a product for each dtype that the device supports, on adjacent views of the buffers."""
    import torch

    # Random numbers, because operands that are all alike take less power, which raises the clock of some
    # devices. From a generator of its own, so that the user's sequence of random numbers does not change.
    try:
        generator = torch.Generator(device=source.device).manual_seed(0)
    except NotImplementedError:
        generator = None
    start = 0
    for dtype, side in sides:
        end = start + side * side * dtype.itemsize // source.itemsize
        try:
            parts = (whole[start:end] for whole in (source, target))
            # Not every device can view a tensor as another dtype, or even as its own.
            cast = (part if dtype is part.dtype else part.view(dtype) for part in parts)
            matrix, product = (part.view(side, side) for part in cast)
            if generator is None:
                host = torch.Generator().manual_seed(0)
                matrix.copy_(torch.randn(side, side, generator=host))
            else:
                matrix.normal_(generator=generator)
            run = square_product(matrix, product)
        except _UNABLE:
            continue
        start = end
        yield str(dtype).removeprefix("torch."), Probe(run, 2.0 * side**3)

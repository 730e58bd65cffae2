"""CPU contention: how much of a time other processes can explain (docs/method.md, "CPU contention")."""

from __future__ import annotations

import math
from typing import Final

from pytest_infergate.core.domain.measurement import Measurement

# One busy process on two cores takes a third of a case on two threads, and raised the p95 of a transformer
# layer from 7 to 96 ms. Reference workloads do not correct that: they slow down by other factors.
MAX_CONTENTION: Final = 0.25
"""Share from which on no time is corrected, and nothing is decided that contention can explain."""
# With 1 to 20 busy processes on two cores, medians of a transformer layer on two threads were up to 3.8 times
# longer than the share explains, or by more than that if the reference workloads were as well.
FAR_BEYOND: Final = 4.0
"""Factor beyond what contention explains from which on a time is decided nevertheless."""
IDLE: Final = "measure on a machine that is otherwise idle"
REFERENCE_SECONDS: Final = 1e-3
"""Time that no reference workload exceeds by much on an idle machine."""
# Processor time is counted in ticks of 10 ms: larger shares cannot be distinguished from 1.
_LARGEST_SHARE = 0.999


def heavy(share: float | None) -> bool:
    """Return whether a share of contention is so large that a time says more about the other processes."""
    return share is not None and share > MAX_CONTENTION


def explained(share: float | None) -> float:
    """Return the factor by which contention of a share lengthens the work of a case, at least 1."""
    return 1 / (1 - min(max(share or 0.0, 0.0), _LARGEST_SHARE))


def typical_seconds(measurement: Measurement, slowdown: float | None = None) -> float | None:
    """Return the part of a typical call's time that contention cannot explain; ``None`` if it is unknown.

    That is the time without waiting for a processor, or the median without what slowed down the reference
    workloads, whichever is longer. `slowdown` is the factor of the workload that became slowest, infinite if
    there is none; by default it is taken from what these workloads take by design.
    """
    if measurement.undisturbed is None:
        return None
    if slowdown is None:
        slowdown = max(measurement.reference_work.values(), default=math.inf) / REFERENCE_SECONDS
    factor = FAR_BEYOND * explained(measurement.contention) * max(1.0, slowdown)
    return max(measurement.undisturbed, measurement.call_times.p50.value / factor)

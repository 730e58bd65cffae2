"""The timed region, and the alternation of a case with its yardsticks.

Inside the timed region stand two clock reads and the call (on an asynchronous device, one
synchronisation more): no attribute look-up, no Python wrapper, no allocation of ours.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

from pytest_infergate.core.domain.stats import quantile_estimate
from pytest_infergate.instruments.device import Device

REFERENCE_INTERVAL_SECONDS = 0.025
"""Length of a turn of the case between two turns of the yardsticks; at least one call."""
MAX_CALLS_PER_INTERVAL = 1000
MAX_SAMPLES = 1_000_000
"""Enough for any quantile; a call that takes no time at all would else be sampled for ever."""
MIN_SAMPLES = 20
MIN_SAMPLING_SECONDS = 1.0
MEDIAN_PRECISION = 0.01
"""Relative interval of the median at which sampling may stop."""


def timed(call: Callable[[], object], clock: Callable[[], int], count: int) -> list[int]:
    """Time `count` calls that are done when they return; nanoseconds each."""
    times = [0] * count
    for index in range(count):
        start = clock()
        call()
        stop = clock()
        times[index] = stop - start
    return times


def timed_synchronised(
    call: Callable[[], object], clock: Callable[[], int], synchronize: Callable[[], None], count: int
) -> list[int]:
    """Time `count` calls on an asynchronous device, idle before each; nanoseconds each."""
    times = [0] * count
    synchronize()
    for index in range(count):
        start = clock()
        call()
        synchronize()
        stop = clock()
        times[index] = stop - start
    return times


def time_calls(call: Callable[[], object], device: Device, count: int) -> list[float]:
    """Time `count` calls on a device with it synchronised before and after; seconds each."""
    if device.asynchronous:
        nanoseconds = timed_synchronised(call, device.clock, device.synchronize, count)
    else:
        nanoseconds = timed(call, device.clock, count)
    return [time / 1e9 for time in nanoseconds]


class Samples(NamedTuple):
    """Call times of a case and median times of its yardsticks, in seconds."""

    calls: tuple[float, ...]
    issued: int
    """Calls made in all, those that were dropped included."""
    reference_work: dict[str, float]


def sample(
    call: Callable[[], object],
    device: Device,
    reference_work: Mapping[str, Callable[[], object]],
    expected: float,
    *,
    max_seconds: float,
    needed: int = 0,
) -> Samples:
    """Alternate turns of the case with turns of the yardsticks until the median is known well enough.

    `expected` is the time of one call as the warm-up saw it; `needed` is how many calls the budgets ask
    for. Stops at the precision and the need, at `max_seconds`, or at `MOST_CALLS`.
    The first call after the yardsticks, which emptied the caches, is dropped where a turn has several.
    """
    per_interval = min(
        MAX_CALLS_PER_INTERVAL, max(1, round(REFERENCE_INTERVAL_SECONDS / max(expected, 1e-9)))
    )
    drop = 1 if per_interval > 1 else 0
    issued = 0
    calls: list[float] = []
    speeds: dict[str, list[float]] = {name: [] for name in reference_work}
    begin = device.clock()
    next_check = MIN_SAMPLING_SECONDS
    while True:
        for name, reference in reference_work.items():
            speeds[name] += time_calls(reference, device, 1)
        calls += time_calls(call, device, per_interval + drop)[drop:]
        issued += per_interval + drop
        elapsed = (device.clock() - begin) / 1e9
        if elapsed >= max_seconds or len(calls) >= MAX_SAMPLES:
            break
        if elapsed >= next_check:
            if _precise(calls, needed):
                break
            next_check = elapsed * 1.25
    return Samples(tuple(calls), issued, {name: median(times) for name, times in speeds.items()})


def _precise(calls: list[float], needed: int) -> bool:
    if len(calls) < max(MIN_SAMPLES, needed):
        return False
    centre = quantile_estimate(sorted(calls), 0.5)
    if centre.low is None or centre.high is None:
        return False
    return centre.high - centre.low <= MEDIAN_PRECISION * centre.value


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Collect garbage now and not while timing; restored after."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

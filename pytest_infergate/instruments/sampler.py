"""Sampling: blocks of the case interleaved with the reference workloads."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

from pytest_infergate.core.domain.stats import quantile_estimate
from pytest_infergate.instruments.device import Device, InstrumentError
from pytest_infergate.instruments.timed_calls import time_calls

# Length of a block of the case between two runs of the reference workloads; at least one call. The speed of a
# shared machine changes within a second, so that the workloads must be close to the calls that they correct;
# with all four at about a millisecond each they still take only a seventh of the time.
REFERENCE_INTERVAL_SECONDS = 0.025
# Limits the memory and the time of one block for calls of a few microseconds.
MAX_CALLS_PER_INTERVAL = 1000
# More than any supported percentile needs. A call that takes no measurable time would otherwise be sampled
# forever.
MAX_SAMPLES = 1_000_000
# The interval of a median exists from 7 calls on, where it may be narrow by chance.
MIN_SAMPLES = 20
# Neighbours on a shared host come and go within seconds: a shorter sample would show a single state of the
# machine.
MIN_SAMPLING_SECONDS = 1.0
# Relative width of the 99 % interval of the median at which sampling may stop. Medians of two process
# launches differ by more (17 to 23 % were measured on a shared machine), so that further calls in this
# process add nothing.
MEDIAN_PRECISION = 0.01


class Samples(NamedTuple):
    """Call times of a case and median times of its reference workloads, in seconds."""

    calls: tuple[float, ...]
    issued: int
    """Number of all calls, including those that were dropped."""
    reference_work: dict[str, float]
    waited: float | None = None
    """Seconds for which threads waited for a core during the issued calls; ``None`` if that is unknown."""
    seconds: float = 0.0
    """Seconds of the whole sampling."""


def sample(
    call: Callable[[], object],
    device: Device,
    reference_work: Mapping[str, Callable[[], object]],
    expected: float,
    *,
    max_seconds: float,
    min_calls: int = 0,
    waited: Callable[[], float | None] = lambda: None,
) -> Samples:
    """Interleave blocks of the case with the reference workloads until the median is precise enough.

    `expected` is the time of one call in seconds, as the warm-up measured it; `min_calls` is the number of
    calls that the budgets need. Sampling stops once the median is precise and the budgets have their calls,
    at `max_seconds`, or at `MAX_SAMPLES`. `waited` returns the cumulative time for which threads waited.
    """
    per_interval = min(
        MAX_CALLS_PER_INTERVAL, max(1, round(REFERENCE_INTERVAL_SECONDS / max(expected, 1e-9)))
    )
    # The reference workloads evict the model from the caches, so that the first call after them is slower. It
    # is dropped, unless a block has no other.
    drop = 1 if per_interval > 1 else 0
    issued = 0
    calls: list[float] = []
    speeds: dict[str, list[float]] = {name: [] for name in reference_work}
    begin = device.clock()
    next_check = MIN_SAMPLING_SECONDS
    readings: list[float | None] = []
    while True:
        for name in tuple(speeds):
            try:
                speeds[name] += time_calls(reference_work[name], device, 1)
            except InstrumentError:  # noqa: PERF203 - its times so far are of another part of the sampling
                del speeds[name]
        readings.append(waited())
        calls += time_calls(call, device, per_interval + drop)[drop:]
        readings.append(waited())
        issued += per_interval + drop
        elapsed = (device.clock() - begin) / 1e9
        if elapsed >= max_seconds or len(calls) >= MAX_SAMPLES:
            break
        if elapsed >= next_check:
            if _precise(calls, min_calls):
                break
            # At growing intervals, because each check sorts all calls.
            next_check = elapsed * 1.25
    medians = {name: median(times) for name, times in speeds.items()}
    known = [reading for reading in readings if reading is not None]
    waiting = sum(known[1::2]) - sum(known[::2]) if len(known) == len(readings) else None
    return Samples(tuple(calls), issued, medians, waiting, elapsed)


def _precise(calls: list[float], min_calls: int) -> bool:
    if len(calls) < max(MIN_SAMPLES, min_calls):
        return False
    centre = quantile_estimate(sorted(calls), 0.5)
    if centre.low is None or centre.high is None:
        return False
    return centre.high - centre.low <= MEDIAN_PRECISION * centre.value


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Collect garbage on entry and disable the collector until exit: a collection would be timed.

    All objects of before are frozen, so that a collection in between looks at new ones only.
    """
    enabled, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()
        if enabled:
            gc.enable()

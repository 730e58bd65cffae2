"""Warm-up: call until the times are steady, by a state machine that is fed with plain call times."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from pytest_infergate.core.domain.measurement import WarmUp
from pytest_infergate.instruments.device import Device
from pytest_infergate.instruments.timed_calls import time_calls

MIN_WARM_UP_CALLS = 3
# Two windows of half of this are the least that can agree.
MIN_WARM_UP_SECONDS = 0.3
# A call below a microsecond would otherwise need this many to reach `MIN_WARM_UP_SECONDS`.
MAX_WARM_UP_CALLS = 200_000
# Two successive windows whose medians agree this closely are steady. Within one process a median is known to
# about 1 % after a second or more; 3 % leaves room for the noise of short windows.
AGREEMENT = 0.03


class SteadyState:
    """Decides when call times are steady: once the medians of two successive windows agree.

    A window has at least `MIN_WARM_UP_CALLS` calls and half of `MIN_WARM_UP_SECONDS`.
    """

    def __init__(self, cap_seconds: float) -> None:
        self._cap = cap_seconds
        self._window: list[float] = []
        self._window_seconds = 0.0
        self._last_median: float | None = None
        self._calls = 0
        self._seconds = 0.0
        self._steady = False

    def add(self, seconds: float) -> None:
        """Add the time of one call."""
        self._calls += 1
        self._seconds += seconds
        self._window.append(seconds)
        self._window_seconds += seconds
        if len(self._window) < MIN_WARM_UP_CALLS or self._window_seconds < MIN_WARM_UP_SECONDS / 2:
            return
        current = median(self._window)
        if self._last_median is not None:
            self._steady = abs(current - self._last_median) <= AGREEMENT * self._last_median
        self._last_median = current
        self._window = []
        self._window_seconds = 0.0

    @property
    def finished(self) -> bool:
        """Whether the warm-up ends; never before the first call."""
        capped = self._seconds >= self._cap or self._calls >= MAX_WARM_UP_CALLS
        return self._steady or (capped and self._calls > 0)

    def result(self) -> WarmUp:
        """Return calls, seconds and whether the times became steady."""
        return WarmUp(calls=self._calls, seconds=self._seconds, steady=self._steady)


def warm_up(call: Callable[[], object], device: Device, cap_seconds: float) -> WarmUp:
    """Call until the times are steady, or until they sum up to `cap_seconds`."""
    state = SteadyState(cap_seconds)
    while not state.finished:
        state.add(time_calls(call, device, 1)[0])
    return state.result()

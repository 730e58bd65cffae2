"""The stopping rule of the warm-up: a state machine fed with plain call times."""

from __future__ import annotations

from statistics import median

from pytest_infergate.core.domain.measurement import WarmUp

MIN_WARM_UP_CALLS = 3
MIN_WARM_UP_SECONDS = 0.3
MAX_WARM_UP_CALLS = 200_000
"""Enough for anything: a call below a microsecond would else take this long to reach `LEAST_SECONDS`."""
AGREEMENT = 0.03
"""Two successive windows whose medians agree this closely are steady."""


class SteadyState:
    """Fed one call time after another; says when two successive windows agree, or the cap is reached.

    A window holds at least `LEAST_CALLS` calls and half of `LEAST_SECONDS`.
    """

    def __init__(self, cap_seconds: float) -> None:
        self._cap = cap_seconds
        self._window: list[float] = []
        self._window_seconds = 0.0
        self._before: float | None = None
        self._calls = 0
        self._seconds = 0.0
        self._steady = False

    def add(self, seconds: float) -> None:
        """Take one call time."""
        self._calls += 1
        self._seconds += seconds
        self._window.append(seconds)
        self._window_seconds += seconds
        if len(self._window) < MIN_WARM_UP_CALLS or self._window_seconds < MIN_WARM_UP_SECONDS / 2:
            return
        now = median(self._window)
        if self._before is not None:
            self._steady = abs(now - self._before) <= AGREEMENT * self._before
        self._before = now
        self._window = []
        self._window_seconds = 0.0

    @property
    def finished(self) -> bool:
        """Whether to stop warming up; never before the first call."""
        capped = self._seconds >= self._cap or self._calls >= MAX_WARM_UP_CALLS
        return self._steady or (capped and self._calls > 0)

    def result(self) -> WarmUp:
        """What it took."""
        return WarmUp(calls=self._calls, seconds=self._seconds, steady=self._steady)

"""The timed region, and calls that are repeated with the same inputs.

The timed region contains two clock reads and the call (on an asynchronous device also one synchronisation):
no attribute look-up, no Python wrapper, no allocation by infergate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from pytest_infergate.instruments.device import Device

_NOT_TIMED = -1


class Inputs(Protocol):
    """What a repeated call is given, such as its arguments, and is restored before each of its calls."""

    @property
    def changing(self) -> bool:
        """Whether a call was seen to change them."""

    def settle(self) -> bool:
        """Find what the calls so far changed, and restore it; return whether all was known to change."""

    def renew(self) -> None:
        """Restore what calls were seen to change; much cheaper than `settle`."""


class RepeatedCall:
    """A call that is made again and again, each time with the inputs of the first one.

    Inputs are restored before a call, outside of the timed region.
    """

    def __init__(self, call: Callable[[], Any], *inputs: Inputs | None) -> None:
        self.call = call
        """The call itself."""
        self._inputs = [each for each in inputs if each is not None]
        self.passed = 0
        """Number of calls that returned."""
        # Timed calls are preceded by `renew`, which is enough once the inputs were settled after a call.
        self._settled = self._settled_for_timing = True

    def __call__(self) -> Any:
        """Restore the inputs, and call."""
        self.prepare()
        self._settled = self._settled_for_timing = False
        result = self.call()
        self.passed += 1
        return result

    def prepare(self) -> bool:
        """Restore the inputs now; return whether all changes were expected.

        An observer of the next call then sees the call alone.
        """
        expected = True
        for each in self._inputs if not self._settled else ():
            expected = each.settle() and expected
        self._settled = self._settled_for_timing = True
        return expected

    @property
    def renew(self) -> Callable[[], None] | None:
        """What restores the inputs before a timed call; ``None`` if the calls leave them as they are."""
        changing = [each.renew for each in self._inputs if each.changing]

        def renew_all() -> None:
            for renew in changing:
                renew()

        return renew_all if changing else None

    def instead(self, call: Callable[[], Any]) -> RepeatedCall:
        """Return another call with the same inputs."""
        self.prepare()
        return RepeatedCall(call, *self._inputs)

    def issue(self, count: int) -> None:
        """Make calls without timing them."""
        renew = self._renewing()
        for _ in range(count):
            if renew is not None:
                renew()
            self.call()
            self.passed += 1

    def times(self, device: Device, count: int) -> list[float]:
        """Time calls; see `time_calls`."""
        renew = self._renewing()
        times: list[float] = []
        for block in [1] * count if renew is not None else [count]:
            if renew is not None:
                renew()
            nanoseconds = [_NOT_TIMED] * block
            try:
                times += _times(self.call, device, nanoseconds)
            finally:
                self.passed += block - nanoseconds.count(_NOT_TIMED)
        return times

    def _renewing(self) -> Callable[[], None] | None:
        if not self._settled_for_timing:
            self.prepare()
        self._settled = False
        return self.renew

    @contextmanager
    def counted_in_errors(self) -> Iterator[None]:
        """Add to an exception which of the calls raised it: the test itself contains only one."""
        try:
            yield
        except Exception as error:
            if self.passed:
                before = "call 1" if self.passed == 1 else f"calls 1 to {self.passed}"
                text = (
                    f"infergate repeats the call: raised in call {self.passed + 1}; {before} passed. "
                    "Hint: each call must do the same work, whatever earlier calls left behind"
                )
                # Python 3.10 has no add_note, but pytest shows these notes there too.
                error.__notes__ = [*getattr(error, "__notes__", ()), text]  # type: ignore[attr-defined]
            raise


def timed(call: Callable[[], object], clock: Callable[[], int], times: list[int]) -> None:
    """Time calls that are done when they return; fill `times` with the nanoseconds of each."""
    for index in range(len(times)):
        start = clock()
        call()
        stop = clock()
        times[index] = stop - start


def timed_synchronised(
    call: Callable[[], object], clock: Callable[[], int], synchronize: Callable[[], None], times: list[int]
) -> None:
    """Time calls on an asynchronous device, which is idle before each; fill `times` with nanoseconds."""
    synchronize()
    for index in range(len(times)):
        start = clock()
        call()
        synchronize()
        stop = clock()
        times[index] = stop - start


def time_calls(call: Callable[[], object], device: Device, count: int) -> list[float]:
    """Time `count` calls with the device synchronised before and after each; return seconds of each."""
    if not isinstance(call, RepeatedCall):
        return _times(call, device, [_NOT_TIMED] * count)
    return call.times(device, count)


def _times(call: Callable[[], object], device: Device, nanoseconds: list[int]) -> list[float]:
    if device.asynchronous:
        timed_synchronised(call, device.clock, device.synchronize, nanoseconds)
    else:
        timed(call, device.clock, nanoseconds)
    return [time / 1e9 for time in nanoseconds]

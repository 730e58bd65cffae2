"""Search for the last value that has a property which all later values lack."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeVar

SLOW: Final = 2
"""Number of interpolated values after which the range must be half as wide."""

_T = TypeVar("_T", int, float)


def integer_between(low: int, high: int) -> int | None:
    """Return the integer in the middle of two others; ``None`` if they are adjacent."""
    return (low + high) // 2 if high - low > 1 else None


def last_that_holds(
    holds: Callable[[_T], bool], low: _T, high: _T, middle: Callable[[_T, _T], _T | None]
) -> _T:
    """Halve the range between `low`, which holds, and `high`, which does not, and return the lower end.

    Neither end is evaluated. `middle` returns a value strictly between two others, or ``None`` once the range
    is narrow enough.
    """
    while (value := middle(low, high)) is not None:
        if holds(value):
            low = value
        else:
            high = value
    return low


def last_near(holds: Callable[[int], bool], near: int, low: int, high: int) -> int:
    """Search like `last_that_holds`, with few evaluations if the last integer that holds is near `near`."""
    stride, at = 1, min(max(near, low + 1), high - 1)
    while high - low > 1:
        if not low < at < high:
            at = (low + high) // 2
        if holds(at):
            low, at = at, at + stride
        else:
            high, at = at, at - stride
        stride *= 2
    return low


def last_below(
    value: Callable[[int], float], low: int, high: int, ends: tuple[float, float], close: float = 0.0
) -> int:
    """Return the last integer, from `low` on, at which a rising function is at most 0, by few evaluations.

    `ends` are its values at `low`, at most 0, and at `high`, above 0. An integer whose value is at most 0 and
    at least ``-close`` ends the search. The next one is interpolated, or the middle if that narrows the range
    too little.
    """
    before, beyond = ends
    slow = 0
    while high - low > 1:
        at = (low + high) // 2
        if slow < SLOW and -math.inf < before < beyond < math.inf:
            at = low + math.floor(-before / (beyond - before) * (high - low))
            at = min(max(at, low + 1), high - 1)
        found, width = value(at), high - low
        if found > 0:
            high, beyond = at, found
        else:
            low, before = at, found
            if found >= -close:
                break
        slow = slow + 1 if high - low > width / 2 else 0
    return low

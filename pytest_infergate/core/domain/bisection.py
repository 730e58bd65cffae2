"""Search for the last value that has a property which all later values lack."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

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

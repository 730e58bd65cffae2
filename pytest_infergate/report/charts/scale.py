"""The logarithmic scale of all charts, and its ticks.

Horizontal positions are percentages, so that text keeps its size at any width. Paths have coordinates in a
box that is `BOX` units wide, which the page stretches to the width of the chart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from pytest_infergate.core.domain.values import Struct

BOX: Final = 1000
"""Width of the stretched box."""
_TICKS: Final = 6
"""Maximum number of ticks of a scale."""
# Steps of 1, 2 and 5 leave a narrow scale with one or two ticks.
_DECADES: Final = 6.0
"""Scales whose ends differ by less than this factor get evenly spaced ticks."""
_NICE: Final = (1, 2, 2.5, 5, 10)
"""Steps between evenly spaced ticks, times a power of ten."""


class LogScale(Struct, frozen=True, kw_only=True):
    """A logarithmic scale from positive figures to a share of its length, 0 to 1."""

    low: float
    high: float
    """Greater than `low`."""
    begin: float
    """Share that stays empty before the lowest figure."""
    end: float
    """Share that stays empty after the highest figure."""

    def shares(self, values: Iterable[float]) -> list[float]:
        """Return the positions of figures; those within the scale are between `begin` and 1 - `end`."""
        factor = (1 - self.begin - self.end) / math.log(self.high / self.low)
        return [self.begin + factor * math.log(value / self.low) for value in values]

    def share(self, value: float) -> float:
        """Return the position of one figure."""
        return self.shares([value])[0]

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round figures within the scale: 1-2-5 steps over wide scales, even steps over narrow ones."""
        if self.high / self.low < _DECADES:
            step = (self.high - self.low) / (_TICKS - 1)
            power = 10.0 ** math.floor(math.log10(step))
            step = next(nice * power for nice in _NICE if nice * power >= step)
            start, stop = math.ceil(self.low / step), math.floor(self.high / step)
            return tuple(index * step for index in range(start, stop + 1))
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for steps in ((1, 2, 5), (1, 3), (1,)):
            places = [step * 10.0**power for power in range(first, last + 1) for step in steps]
            inside = [place for place in places if self.low <= place <= self.high]
            if len(inside) <= _TICKS:
                break
        return tuple(inside[:: math.ceil(len(inside) / _TICKS)])


def spanning(low: float, high: float, *, begin: float, end: float, closest: float, room: float) -> LogScale:
    """Make a scale that contains the figures from `low` to `high`.

    If their ratio is below `closest`, there would be no tick between them: the scale is then extended by a
    factor of `room` on either side.
    """
    factor = room if high / low < closest else 1.0
    return LogScale(low=low / factor, high=high * factor, begin=begin, end=end)

"""Measured service times by batch size, as distributions that a simulation draws from."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.model import Struct

PERCENTILES: Final = 101
"""Percentiles that tell a distribution: the 0th to the 100th."""
BEND: Final = 0.005
"""Least share of the way from the 99th percentile to the maximum that the mean of the slowest calls has."""
LAST_INTERVAL: Final = PERCENTILES - 2
"""Index of the interval between the 99th percentile and the maximum."""


class Curve(NamedTuple):
    """Distribution of the service time of one batch size: straight lines between its percentiles."""

    values: tuple[float, ...]
    tail: float = 1.0
    """Power by which the last line, the slowest hundredth of calls, is bent."""

    @property
    def mean(self) -> float:
        """Mean of the distribution."""
        reach = self.values[-1] - self.values[LAST_INTERVAL]
        return (_body(self.values) + self.values[LAST_INTERVAL] + reach / (self.tail + 1)) / (PERCENTILES - 1)

    def quantile(self, u: float) -> float:
        """The service time that a share `u` of calls stays below."""
        position = u * (PERCENTILES - 1)
        below = min(int(position), LAST_INTERVAL)
        share = position - below
        if below == LAST_INTERVAL:
            share **= self.tail
        return self.values[below] + share * (self.values[below + 1] - self.values[below])


class ServiceTimes(Struct, frozen=True, kw_only=True):
    """Seconds in which one worker serves a batch, by batch size, as measured.

    Raises `ValueError` for sizes that do not ascend, and for times that are no percentiles above 0.
    """

    batch_sizes: tuple[int, ...]
    percentiles: tuple[tuple[float, ...], ...]
    """Of each size: the 0th to the 100th."""
    means: tuple[float, ...] = ()
    """Of each size, where they are known: they tell how the slowest hundredth of calls is spread."""

    def __post_init__(self) -> None:
        sizes = self.batch_sizes
        if not sizes or sizes[0] < 1 or any(low >= high for low, high in pairwise(sizes)):
            raise ValueError(f"batch sizes {list(sizes)}: they must be at least one, from 1 on and ascending")
        if len(self.percentiles) != len(sizes) or len(self.means) not in (0, len(sizes)):
            curves, means = units.plural(len(self.percentiles), "distribution"), len(self.means)
            wanted = units.plural(len(sizes), "batch size")
            raise ValueError(f"{curves} and {units.plural(means, 'mean')} for {wanted}")
        for size, values in zip(sizes, self.percentiles, strict=True):
            if len(values) != PERCENTILES:
                raise ValueError(f"batch size {size} has {len(values)} percentiles, not {PERCENTILES}")
            ascending = all(low <= high for low, high in pairwise(values))
            if not (values[0] > 0 and ascending and math.isfinite(values[-1])):
                raise ValueError(f"the percentiles of batch size {size} are not ascending times above zero")
        if not all(math.isfinite(mean) and mean > 0 for mean in self.means):
            raise ValueError(f"means {list(self.means)}: they must be times above zero")

    @property
    def largest(self) -> int:
        """Largest batch size that was measured; nothing is known above."""
        return self.batch_sizes[-1]

    def measured(self, batch: int) -> bool:
        """Whether this very batch size was measured."""
        return batch in self.batch_sizes

    def interpolated(self, batch: int) -> bool:
        """Whether the times of a batch size lie between two that were measured.

        A batch below the smallest is taken to be filled up to it, which is an upper bound.
        """
        return self.batch_sizes[0] < batch < self.largest and not self.measured(batch)

    def mean(self, batch: int) -> float:
        """Mean service time of a batch size."""
        return self.curve(batch).mean

    def quantile(self, batch: int, u: float) -> float:
        """Service time that a share `u` of the calls of a batch size stays below."""
        if not 0 <= u <= 1:
            raise ValueError(f"a quantile of {u} is not a share from 0 to 1")
        return self.curve(batch).quantile(u)

    def curve(self, batch: int) -> Curve:
        """Distribution at a batch size, between two measured sizes linear in it, quantile by quantile.

        Raises `ValueError` for a size above the largest that was measured.
        """
        if not 1 <= batch <= self.largest:
            raise ValueError(f"nothing is known of a batch of {batch}: measured were up to {self.largest}")
        above = bisect_left(self.batch_sizes, batch)
        high = self.batch_sizes[above]
        if batch == high or above == 0:
            return _curve(self.percentiles[above], self.means[above] if self.means else None)
        low = self.batch_sizes[above - 1]
        share = (batch - low) / (high - low)
        ends = zip(self.percentiles[above - 1], self.percentiles[above], strict=True)
        mean = _between(self.means[above - 1], self.means[above], share) if self.means else None
        return _curve(tuple(_between(first, last, share) for first, last in ends), mean)


def _between(first: float, last: float, share: float) -> float:
    return first + share * (last - first)


def _body(values: Sequence[float]) -> float:
    """Sum of the means of the first 99 of the hundred intervals."""
    return math.fsum(values[: LAST_INTERVAL + 1]) - (values[0] + values[LAST_INTERVAL]) / 2


def _curve(values: tuple[float, ...], mean: float | None) -> Curve:
    """Bend the last line so that the whole has its mean; straight, one slow call would weigh too much."""
    reach = values[-1] - values[LAST_INTERVAL]
    if mean is None or reach <= 0:
        return Curve(values)
    place = ((PERCENTILES - 1) * mean - _body(values) - values[LAST_INTERVAL]) / reach
    return Curve(values, 1 / min(max(place, BEND), 1 - BEND) - 1)

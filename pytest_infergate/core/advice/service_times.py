"""Measured service times by batch size, as distributions that a simulation draws from."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.values import Struct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PERCENTILES: Final = 101
"""Number of percentiles of a distribution: the 0th to the 100th."""
# Keeps the power of the last line finite if the mean is at one of its ends.
BEND: Final = 0.005
"""Smallest share of the way from the 99th percentile to the maximum where the mean of the last line is."""
LAST_INTERVAL: Final = PERCENTILES - 2
"""Index of the interval between the 99th percentile and the maximum."""
# Rows of more sizes, or of more requests, would fill the memory with times that no batch takes.
DRAWN_AT_ONCE: Final = 64
"""Largest batch size whose times are drawn for all requests at once."""
DRAWN_REQUESTS: Final = 50_000
"""Number of requests up to which they are; of more requests, only the times of single ones."""
# Separates the random numbers of service times from those of arrivals with the same seed.
_SERVICE: Final = 2


class Curve(NamedTuple):
    """Distribution of the service time of one batch size: straight lines between its percentiles."""

    values: tuple[float, ...]
    tail: float = 1.0
    """Power that bends the last line, the slowest hundredth of calls."""

    @property
    def mean(self) -> float:
        """Mean of the distribution."""
        reach = self.values[-1] - self.values[LAST_INTERVAL]
        before = _sum_before_last(self.values) + self.values[LAST_INTERVAL]
        return (before + reach / (self.tail + 1)) / (PERCENTILES - 1)

    def quantile(self, u: float) -> float:
        """Return the service time that a share `u` of calls stays below."""
        position = u * (PERCENTILES - 1)
        below = min(int(position), LAST_INTERVAL)
        share = position - below
        if below == LAST_INTERVAL:
            # The last line is bent so that a single slow call does not count as a hundredth of all calls.
            share **= self.tail
        return self.values[below] + share * (self.values[below + 1] - self.values[below])

    def quantiles(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `quantile` of each share, which must be less than 1."""
        import numpy as np

        values = np.array(self.values)
        positions = shares * (PERCENTILES - 1)
        below = positions.astype(np.int64)
        share = positions - below
        last = below == LAST_INTERVAL
        share[last] **= self.tail
        found: NDArray[np.float64] = values[below] + share * (values[below + 1] - values[below])
        return found


class ServiceTimes(Struct, frozen=True, kw_only=True):
    """Seconds in which one worker serves a batch, as measured, by batch size.

    Raises `ValueError` for batch sizes that do not ascend, and for percentiles that do not ascend from above
    0.
    """

    batch_sizes: tuple[int, ...]
    percentiles: tuple[tuple[float, ...], ...]
    """The 0th to the 100th percentile of each batch size."""
    means: tuple[float, ...] = ()
    """Mean of each batch size, if known. It determines how the slowest hundredth of calls is distributed."""

    def __post_init__(self) -> None:
        sizes = self.batch_sizes
        if not sizes or sizes[0] < 1 or any(low >= high for low, high in pairwise(sizes)):
            raise ValueError(
                f"batch sizes must be at least one number, ascending from 1 on, got {list(sizes)}"
            )
        if len(self.percentiles) != len(sizes) or len(self.means) not in (0, len(sizes)):
            wanted = units.plural(len(sizes), "batch size")
            curves, means = len(self.percentiles), units.plural(len(self.means), "mean")
            raise ValueError(
                f"{wanted} must have as many distributions and as many or no means, got "
                f"{units.plural(curves, 'distribution')} and {means}"
            )
        for size, values in zip(sizes, self.percentiles, strict=True):
            if len(values) != PERCENTILES:
                raise ValueError(f"batch size {size} must have {PERCENTILES} percentiles, got {len(values)}")
            ascending = all(low <= high for low, high in pairwise(values))
            if not (values[0] > 0 and ascending and math.isfinite(values[-1])):
                raise ValueError(f"percentiles of batch size {size} must be ascending times greater than 0")
        if not all(math.isfinite(mean) and mean > 0 for mean in self.means):
            raise ValueError(f"means must be times greater than 0, got {list(self.means)}")

    @property
    def largest(self) -> int:
        """Largest measured batch size. Nothing is assumed above it."""
        return self.batch_sizes[-1]

    def measured(self, batch: int) -> bool:
        """Return whether exactly this batch size was measured."""
        return batch in self.batch_sizes

    def interpolated(self, batch: int) -> bool:
        """Return whether the times of a batch size are interpolated between two measured sizes."""
        # A batch below the smallest measured size is assumed to take as long as that one, an upper bound.
        return self.batch_sizes[0] < batch < self.largest and not self.measured(batch)

    def mean(self, batch: int) -> float:
        """Return the mean service time of a batch size."""
        return self.curve(batch).mean

    def quantile(self, batch: int, u: float) -> float:
        """Return the service time that a share `u` of the calls of a batch size stays below."""
        if not 0 <= u <= 1:
            raise ValueError(f"a quantile must be a share from 0 to 1, got {u}")
        return self.curve(batch).quantile(u)

    def curve(self, batch: int) -> Curve:
        """Return the distribution of a batch size; between two measured sizes every quantile is linear in it.

        Raises `ValueError` for a size above the largest measured one.
        """
        if not 1 <= batch <= self.largest:
            raise ValueError(
                f"a batch must be at least 1 and at most {self.largest}, as measured, got {batch}"
            )
        above = bisect_left(self.batch_sizes, batch)
        high = self.batch_sizes[above]
        # Measured itself, or below the smallest measured size.
        if batch == high or above == 0:
            return _curve(self.percentiles[above], self.means[above] if self.means else None)
        low = self.batch_sizes[above - 1]
        share = (batch - low) / (high - low)
        ends = zip(self.percentiles[above - 1], self.percentiles[above], strict=True)
        mean = _between(self.means[above - 1], self.means[above], share) if self.means else None
        return _curve(tuple(_between(first, last, share) for first, last in ends), mean)


class DrawnTimes(dict[int, list[float]]):
    """Seconds of each request as the first of a batch, by the size of the batch: ``drawn[size][request]``.

    One uniform number is drawn for each request, whatever the server and the demand are, so that these are
    compared under equal luck.
    """

    def __init__(self, service: ServiceTimes, requests: int, seed: int) -> None:
        import numpy as np

        super().__init__()
        self.at_once = DRAWN_AT_ONCE if requests <= DRAWN_REQUESTS else 1
        self._service = service
        self._shares = np.random.default_rng((seed, _SERVICE)).random(requests)
        self._arrays: dict[int, NDArray[np.float64]] = {}
        self._curves: dict[int, Curve] = {}

    def __missing__(self, size: int) -> list[float]:
        """Draw the times of a batch size that is used for the first time."""
        self[size] = self.array(size).tolist()
        return self[size]

    def array(self, size: int) -> NDArray[np.float64]:
        """Return the seconds of each request as the first of a batch of a size."""
        if size not in self._arrays:
            self._arrays[size] = self._service.curve(size).quantiles(self._shares)
        return self._arrays[size]

    def of_sizes(self, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the seconds of each request as the first of a batch of its own size, at most `at_once`."""
        import numpy as np

        found: NDArray[np.float64] = self.array(1).copy()
        for size in range(2, int(sizes.max()) + 1):
            np.copyto(found, self.array(size), where=sizes == size)
        return found

    def one(self, request: int, size: int) -> float:
        """Return the seconds of one request as the first of a batch of a size, without drawing the others."""
        if size not in self._curves:
            self._curves[size] = self._service.curve(size)
        return self._curves[size].quantile(float(self._shares[request]))


@lru_cache(maxsize=4)
def drawn_times(service: ServiceTimes, requests: int, seed: int) -> DrawnTimes:
    """Draw the service times of so many requests, once for all simulations of these."""
    return DrawnTimes(service, requests, seed)


def _between(first: float, last: float, share: float) -> float:
    return first + share * (last - first)


def _sum_before_last(values: Sequence[float]) -> float:
    """Return the sum of the means of the first 99 of the hundred intervals."""
    return math.fsum(values[: LAST_INTERVAL + 1]) - (values[0] + values[LAST_INTERVAL]) / 2


def _curve(values: tuple[float, ...], mean: float | None) -> Curve:
    """Bend the last line of a distribution so that the whole has its mean."""
    reach = values[-1] - values[LAST_INTERVAL]
    # Without the mean the line stays straight, and one slow call has too much weight.
    if mean is None or reach <= 0:
        return Curve(values)
    # Where the mean of the last line must be for the whole to have its mean.
    place = ((PERCENTILES - 1) * mean - _sum_before_last(values) - values[LAST_INTERVAL]) / reach
    return Curve(values, 1 / min(max(place, BEND), 1 - BEND) - 1)

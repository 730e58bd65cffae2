"""Measured service times by batch size, for a simulation: in recorded order, or as distributions."""

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
CLOCK_NOISE: Final = 1e-9
"""Share of a recording by which rounding may shift a start, which must not skip a call."""
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


# Simulations look service times up in caches, and hashing thousands of calls takes long.
class ServiceTimes(Struct, frozen=True, kw_only=True, cache_hash=True):
    """Seconds in which one worker serves a batch, as measured, by batch size.

    Raises `ValueError` for batch sizes that do not ascend, for percentiles that do not ascend from above 0,
    and for calls that take no time.
    """

    batch_sizes: tuple[int, ...]
    percentiles: tuple[tuple[float, ...], ...]
    """The 0th to the 100th percentile of each batch size."""
    means: tuple[float, ...] = ()
    """Mean of each batch size, if known. It determines how the slowest hundredth of calls is distributed."""
    calls: tuple[tuple[float, ...], ...] = ()
    """Calls of each batch size in recorded order; empty for a size, or altogether, if it is unknown."""

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
        if len(self.calls) not in (0, len(sizes)):
            raise ValueError(f"calls must be those of {len(sizes)} batch sizes, got {len(self.calls)}")
        if not all(math.isfinite(call) and call > 0 for calls in self.calls for call in calls):
            raise ValueError("calls must be times greater than 0")

    @property
    def largest(self) -> int:
        """Largest measured batch size. Nothing is assumed above it."""
        return self.batch_sizes[-1]

    def scaled(self, factor: float) -> ServiceTimes:
        """Return these times, each multiplied by a factor."""
        rows = (
            tuple(tuple(factor * time for time in times) for times in kind)
            for kind in (self.percentiles, self.calls)
        )
        percentiles, calls = rows
        means = tuple(factor * mean for mean in self.means)
        return ServiceTimes(batch_sizes=self.batch_sizes, percentiles=percentiles, means=means, calls=calls)

    def order_of(self, batch: int) -> int | None:
        """Return the batch size whose calls give the order of those of a server with at most `batch` items.

        It is the largest one, because batches are full while requests wait. ``None`` if no order is known.
        """
        known = [size for size, calls in zip(self.batch_sizes, self.calls, strict=False) if calls]
        return max((size for size in known if size <= batch), default=None)

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

    def __init__(self, service: ServiceTimes, requests: int, seed: int, slowdown: float = 1.0) -> None:
        import numpy as np

        super().__init__()
        self.at_once = DRAWN_AT_ONCE if requests <= DRAWN_REQUESTS else 1
        self._service = service
        self._slowdown = slowdown
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
            self._arrays[size] = self._slowdown * self._service.curve(size).quantiles(self._shares)
        return self._arrays[size]

    def of_sizes(self, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the seconds of each request as the first of a batch of its own size, at most `at_once`."""
        import numpy as np

        found: NDArray[np.float64] = self.array(1).copy()
        for size in range(2, int(sizes.max()) + 1):
            np.copyto(found, self.array(size), where=sizes == size)
        return found

    def one(self, request: int, size: int, _start: float = 0.0) -> float:
        """Return the seconds of one request as the first of a batch of a size, without drawing the others."""
        if size not in self._curves:
            self._curves[size] = self._service.curve(size)
        return self._slowdown * self._curves[size].quantile(float(self._shares[request]))


@lru_cache(maxsize=8)
def drawn_times(service: ServiceTimes, requests: int, seed: int, slowdown: float = 1.0) -> DrawnTimes:
    """Draw the service times of so many requests, once for all simulations of these."""
    return DrawnTimes(service, requests, seed, slowdown)


class CallOrders(dict[int, "NDArray[np.float64]"]):
    """Seconds of the batches of each size in one order, that of the recorded calls of the size `of`.

    Calls of other sizes follow each other as their ranks do, because a machine that is slow for a while is
    slow for batches of all sizes. Sizes that were not measured have the scaled times of the nearest one.
    """

    def __init__(self, service: ServiceTimes, of: int) -> None:
        import numpy as np

        super().__init__()
        self._service = service
        self._recorded = {
            size: np.array(calls)
            for size, calls in zip(service.batch_sizes, service.calls, strict=False)
            if calls
        }
        self[of] = self._recorded[of]
        self.length = len(self[of])
        ends = np.cumsum(self[of])
        self.span = float(ends[-1])
        """Seconds of all calls."""
        self.begins: list[float] = [0.0, *ends[:-1].tolist()]
        self._shares = (np.argsort(np.argsort(self[of], kind="stable")) + 0.5) / self.length

    def __missing__(self, size: int) -> NDArray[np.float64]:
        """Order the times of a batch size that is used for the first time."""
        import numpy as np

        if size in self._recorded:
            ordered = np.sort(self._recorded[size])
            self[size] = ordered[(self._shares * ordered.size).astype(np.int64)]
        else:
            nearest = min(self._recorded, key=lambda other: (abs(other - size), -other))
            self[size] = self[nearest] * (self._service.mean(size) / self._service.mean(nearest))
        return self[size]


@lru_cache(maxsize=8)
def call_orders(service: ServiceTimes, of: int) -> CallOrders:
    """Order the times of all batch sizes once for all simulations."""
    return CallOrders(service, of)


class RecordedTimes:
    """Seconds of the batches of one simulation in recorded order, to be asked for each batch in turn.

    A batch has the next call. While a worker rests, the recording goes on, so that a slow phase lasts as
    long as it did. It begins at a place that the seed chooses, and again at its end. Workers take turns, and
    each has a place of its own, because a slow phase of one machine is not one of all.
    """

    def __init__(self, orders: CallOrders, workers: int, seed: int, slowdown: float = 1.0) -> None:
        import numpy as np

        first = int(np.random.default_rng((seed, _SERVICE)).integers(orders.length))
        self._places = [
            (first + worker * orders.length // workers) % orders.length for worker in range(workers)
        ]
        self._free = [0.0] * workers
        """When each worker has answered its last batch."""
        self._orders = orders
        self._slowdown = slowdown
        self._rows: dict[int, list[float]] = {}

    def next(self, number: int, size: int, start: float) -> float:
        """Return the seconds of the batch with a number, which starts at a moment."""
        if size not in self._rows:
            self._rows[size] = (self._slowdown * self._orders[size]).tolist()
        orders = self._orders
        worker = number % len(self._places)
        place, rest = self._places[worker], start - self._free[worker]
        if rest > 0:
            later = orders.begins[place] + rest / self._slowdown - CLOCK_NOISE * orders.span
            place = bisect_left(orders.begins, later if later < orders.span else later % orders.span)
            if place == orders.length:  # the last call is under way
                place = 0
        seconds = self._rows[size][place]
        self._places[worker] = place + 1 if place + 1 < orders.length else 0
        self._free[worker] = start + seconds
        return seconds


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

"""How much each reference workload says about the time of a case, fitted to the case's recorded sessions.

The log of a time is corrected by a weighted sum of the logs of the reference times. Before anything is known,
the weights are equal. A ridge regression moves them as far as the sessions on record show (docs/method.md,
"Reference workloads").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from pytest_infergate.core.domain import stats

# The error in sessions left out fell from 7.1 to 6.1 % with three sessions already, and to 5.6 with five.
FIT_SESSIONS: Final = 5
"""Number of recorded sessions from which on weights are fitted."""
# The standard deviation of one of four weights if every mixture of workloads is equally likely.
WEIGHT_SPREAD: Final = 0.19
"""Standard deviation of a weight before anything is known of the case."""
NOISE: Final = 0.03
"""Standard deviation of a corrected log time by which sessions are weighed against equal weights."""
_RIDGE: Final = (NOISE / WEIGHT_SPREAD) ** 2

_Matrix = list[list[float]]


class SpeedFit(NamedTuple):
    """Fitted weights, and how well they predict."""

    weights: tuple[float, ...]
    """At least 0, in the order of the workloads."""
    products: tuple[tuple[float, ...], ...]
    """Sums of products of the reference logs about their means, with the ridge."""
    variance: float
    """Variance of a corrected log time, from sessions that were left out of the fit one at a time."""

    def correction(self, factors: Sequence[float]) -> float:
        """Return the log of the factor by which a case is slower if the workloads are by these logs."""
        return math.fsum(weight * factor for weight, factor in zip(self.weights, factors, strict=True))

    def uncertainty(self, factors: Sequence[float]) -> float:
        """Return the standard deviation of that correction, because the weights are not known exactly.

        It is large for factors that the recorded sessions do not have.
        """
        solved = _solved([list(row) for row in self.products], factors)
        square = math.fsum(one * other for one, other in zip(solved, factors, strict=True))
        return NOISE * math.sqrt(max(0.0, square))


def fit_speeds(times: Sequence[float], speeds: Sequence[Sequence[float]]) -> SpeedFit | None:
    """Fit the weights of the reference workloads to the sessions of a case; ``None`` if they are too few.

    `times` are log times, and `speeds` the log times of the workloads, a row for each session.
    """
    count = len(times)
    if count < FIT_SESSIONS or not speeds[0]:
        return None
    products, weights = _fitted(times, speeds)
    differences = []
    for index in range(count):
        others = [*times[:index], *times[index + 1 :]]
        rows = [*speeds[:index], *speeds[index + 1 :]]
        _, without = _fitted(others, rows)
        means = [stats.mean(column) for column in zip(*rows, strict=True)]
        moved = (
            weight * (speed - mean) for weight, speed, mean in zip(without, speeds[index], means, strict=True)
        )
        differences.append(times[index] - stats.mean(others) - math.fsum(moved))
    # A session that is left out differs from the mean of the others by its own spread and that of the mean.
    variance = math.fsum(one**2 for one in differences) * (count - 1) / count**2
    return SpeedFit(tuple(weights), tuple(map(tuple, products)), variance)


def _fitted(times: Sequence[float], speeds: Sequence[Sequence[float]]) -> tuple[_Matrix, list[float]]:
    """Return the products of the speeds with the ridge, and the weights."""
    middle = stats.mean(times)
    means = [stats.mean(column) for column in zip(*speeds, strict=True)]
    rows = [[speed - mean for speed, mean in zip(row, means, strict=True)] for row in speeds]
    columns = list(zip(*rows, strict=True))
    size = len(columns)
    products = [
        [math.fsum(a * b for a, b in zip(one, other, strict=True)) for other in columns] for one in columns
    ]
    wanted = [math.fsum(a * (time - middle) for a, time in zip(one, times, strict=True)) for one in columns]
    for index in range(size):
        products[index][index] += _RIDGE
        wanted[index] += _RIDGE / size
    # More work in a reference workload never makes a case faster: such weights are 0, the lowest one first.
    kept = list(range(size))
    weights = [0.0] * size
    while kept:
        found = _solved([[products[i][j] for j in kept] for i in kept], [wanted[i] for i in kept])
        if min(found) >= 0:
            for index, weight in zip(kept, found, strict=True):
                weights[index] = weight
            break
        del kept[found.index(min(found))]
    return products, weights


def _solved(matrix: _Matrix, vector: Sequence[float]) -> list[float]:
    """Solve a symmetric positive definite system by elimination, which needs no pivots then."""
    rows = [[*row, value] for row, value in zip(matrix, vector, strict=True)]
    for step, row in enumerate(rows):
        pivot = [value / row[step] for value in row]
        rows[step] = pivot
        for other in range(len(rows)):
            if other != step:
                factor = rows[other][step]
                rows[other] = [
                    value - factor * scaled for value, scaled in zip(rows[other], pivot, strict=True)
                ]
    return [row[-1] for row in rows]

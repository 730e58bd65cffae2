"""How much each reference workload says about the time of a case, fitted to the case's recorded sessions.

The log of a time is corrected by a weighted sum of the logs of the reference times. Before anything is known,
the weights are equal. A ridge regression moves them as far as the sessions on record show (docs/method.md,
"Reference workloads").
"""

from __future__ import annotations

import math
import operator
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
        return _product(self.weights, factors)

    def uncertainty(self, factors: Sequence[float]) -> float:
        """Return the standard deviation of that correction, because the weights are not known exactly.

        It is large for factors that the recorded sessions do not have.
        """
        solved = _solved([list(row) for row in self.products], factors)
        return NOISE * math.sqrt(max(0.0, _product(solved, factors)))


def fit_speeds(times: Sequence[float], speeds: Sequence[Sequence[float]]) -> SpeedFit | None:
    """Fit the weights of the reference workloads to the sessions of a case; ``None`` if they are too few.

    `times` are log times, and `speeds` the log times of the workloads, a row for each session.
    """
    count = len(times)
    if count < FIT_SESSIONS or not speeds[0]:
        return None
    middle = stats.mean(times)
    centred = [time - middle for time in times]
    means = [stats.mean(column) for column in zip(*speeds, strict=True)]
    rows = [[speed - mean for speed, mean in zip(row, means, strict=True)] for row in speeds]
    columns = list(zip(*rows, strict=True))
    products = [[_product(one, other) for other in columns] for one in columns]
    wanted = [_product(one, centred) for one in columns]
    for index in range(len(columns)):
        products[index][index] += _RIDGE
        wanted[index] += _RIDGE / len(columns)
    # Without a session, the mean of the others moves as well, which multiplies its share by this.
    share = count / (count - 1)
    differences = []
    for row, time in zip(rows, centred, strict=True):
        without = _weights(
            [
                [value - share * one * other for value, other in zip(line, row, strict=True)]
                for line, one in zip(products, row, strict=True)
            ],
            [value - share * one * time for value, one in zip(wanted, row, strict=True)],
        )
        differences.append(share * (time - _product(without, row)))
    # A session that is left out differs from the mean of the others by its own spread and that of the mean.
    variance = math.fsum(one**2 for one in differences) / count / share
    return SpeedFit(tuple(_weights(products, wanted)), tuple(map(tuple, products)), variance)


def _product(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(map(operator.mul, one, other))


def _weights(products: _Matrix, wanted: Sequence[float]) -> list[float]:
    """Return the weights of least squares that are at least 0."""
    # More work in a reference workload never makes a case faster: such weights are 0, the lowest one first.
    kept = list(range(len(wanted)))
    weights = [0.0] * len(wanted)
    while kept:
        found = _solved([[products[i][j] for j in kept] for i in kept], [wanted[i] for i in kept])
        if min(found) >= 0:
            for index, weight in zip(kept, found, strict=True):
                weights[index] = weight
            break
        del kept[found.index(min(found))]
    return weights


def _solved(matrix: _Matrix, vector: Sequence[float]) -> list[float]:
    """Solve a symmetric positive definite system by elimination, which needs no pivots then."""
    rows = [[*row, value] for row, value in zip(matrix, vector, strict=True)]
    for step, row in enumerate(rows):
        pivot = [value / row[step] for value in row]
        rows[step] = pivot
        for other in range(len(rows)):
            if other != step:
                factor = rows[other][step]
                rows[other] = [a - factor * b for a, b in zip(rows[other], pivot, strict=True)]
    return [row[-1] for row in rows]

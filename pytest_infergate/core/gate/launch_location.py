"""The mean log ratio of a case over its launches, and its uncertainty with that of the other cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.values import Struct

# Simulated with one launch in twenty off by 10 %, clamping one launch in ten confirms +3 % in 93 % of runs,
# the plain mean in 83 %. Clamping any number would confirm 99 %, but call identical code regressed in 12 to
# 25 % of runs on a machine with two modes, where this rule and the mean do so in 0.4 to 1.2 %.
OUTLIER_CUTOFF: Final = 2.5
"""Robust standard deviations from the median beyond which a launch is clamped."""
LAUNCHES_PER_OUTLIER: Final = 10
"""Number of launches among which one may be clamped; more outliers are modes of the machine."""
MIN_OUTLIER_SPREAD: Final = 0.004
"""Smallest robust standard deviation (log scale), because launches may agree by chance."""
# With the spread of other cases, 356 recorded cases of identical code needed 4.3 launches instead of 5.9.
MAX_SPREAD_RATIO: Final = 1.5
"""Ratio of a case's own spread to that of the others up to which the case resembles them."""
MIN_POOLED_DEGREES: Final = 10
"""Degrees of freedom that the spread of the other cases needs to be used."""
_MAD_TO_DEVIATION: Final = 1.4826
"""Standard deviation of a normal sample over the median of its absolute deviations."""


class Spread(Struct, frozen=True, kw_only=True):
    """By how much launches differ from the mean of their own case, over several cases."""

    squares: float = 0.0
    """Sum of the squared differences, log scale."""
    degrees: int = 0


class Location(Struct, frozen=True, kw_only=True):
    """The mean of the log ratios of some launches, with its standard error."""

    value: float
    error: float
    """Standard error by these launches alone."""
    degrees: int
    joint_error: float = math.inf
    """Standard error by the launches of all cases, at least `error`; infinite if the others are not used."""
    joint_degrees: int = 0

    def half_width(self, level: float) -> float:
        """Return the distance of the bound at a one-sided level, the smaller of own and joint bound."""
        # Student's t, because few launches know little of their own spread.
        own = stats.student_quantile(1 - level, self.degrees) * self.error
        if math.isinf(self.joint_error):
            return own
        return min(own, stats.student_quantile(1 - level, self.joint_degrees) * self.joint_error)


def location(differences: Sequence[float], others: Spread | None = None) -> Location:
    """Return mean and standard error of log ratios, of which one in ten may be clamped as an outlier.

    `others` is the spread of the other cases of the run. Raises `ValueError` for fewer than two launches.
    """
    if len(differences) < 2:  # noqa: PLR2004 - a single launch has no spread
        raise ValueError(f"a location needs at least two launches, got {len(differences)}")
    centre = median(differences)
    spread = _MAD_TO_DEVIATION * median(abs(value - centre) for value in differences)
    # The median and its deviations resist the outliers that they are to find.
    reach = OUTLIER_CUTOFF * max(spread, MIN_OUTLIER_SPREAD)
    outliers = sum(abs(value - centre) > reach for value in differences)
    few = outliers <= len(differences) // LAUNCHES_PER_OUTLIER
    used = [min(max(value, centre - reach), centre + reach) if few else value for value in differences]
    own = Location(
        value=stats.mean(used), error=math.sqrt(stats.variance(used) / len(used)), degrees=len(used) - 1
    )
    if others is None or others.degrees < MIN_POOLED_DEGREES:
        return own
    pooled = math.sqrt(others.squares / others.degrees / len(used))
    if own.error > MAX_SPREAD_RATIO * pooled:
        return own
    return msgspec.structs.replace(
        own, joint_error=max(own.error, pooled), joint_degrees=own.degrees + others.degrees
    )


def spreads_of_others(cases: Sequence[Sequence[float]]) -> list[Spread]:
    """Return for each case the spread of all other cases, from the log ratios of their launches."""
    squares = [(len(case) - 1) * stats.variance(case) if len(case) > 1 else 0.0 for case in cases]
    degrees = [max(0, len(case) - 1) for case in cases]
    return [
        # Rounding may leave a tiny negative difference of sums.
        Spread(squares=max(0.0, sum(squares) - own), degrees=sum(degrees) - count)
        for own, count in zip(squares, degrees, strict=True)
    ]

"""Quantiles and their bounds, spreads, and the Student and binomial distributions behind them.

The functions do not depend on what a figure means. SciPy is imported on first use, when a case is judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_infergate.core.domain.bisection import integer_between, last_that_holds
from pytest_infergate.core.domain.measurement import Estimate

# At 99 %, an upper bound needs 7 calls for p50, 44 for p90, 90 for p95 and 459 for p99 (docs/method.md).
CONFIDENCE = 0.99
"""One-sided confidence of every percentile bound that is shown or judged."""
POWER = 0.9
"""Probability with which a slowdown of the smallest detectable effect is called regressed."""
# Far beyond what a clock can measure. Within these bounds, logarithms, sums and ratios of times are finite.
MIN_SECONDS, MAX_SECONDS = 1e-10, 86_400.0
MAX_SHARE = 1e6
"""Bound of a share or a ratio that a file may contain."""


def quantile(ordered: Sequence[float], p: float) -> float:
    """Interpolate linearly between the order statistics of a sorted sample (Hyndman and Fan's type 7).

    Raises `ValueError` for an empty sample.
    """
    if not ordered:
        raise ValueError("a quantile needs at least one value")
    # The same definition as numpy and R use by default.
    position = p * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def samples_needed(p: float, confidence: float = CONFIDENCE) -> int:
    """Return the smallest sample size whose maximum is an upper bound of the p-quantile.

    All n independent samples lie below the quantile with probability p^n, so p^n <= 1 - confidence is needed.
    """
    return math.ceil(math.log1p(-confidence) / math.log(p))


def quantile_estimate(ordered: Sequence[float], p: float, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate the p-quantile of a sorted sample with one-sided, distribution-free bounds on both sides.

    Samples are assumed to be independent. A bound is ``None`` if the sample is too small for it.
    Source: David and Nagaraja, Order Statistics, 2003, section 7.1.
    """
    n = len(ordered)
    lower = _largest_rank_below(n, p, confidence)
    # The upper bound of the p-quantile is the mirror image of the lower bound of the (1-p)-quantile.
    upper = _largest_rank_below(n, 1 - p, confidence)
    return Estimate(
        value=quantile(ordered, p),
        low=None if lower is None else ordered[lower],
        high=None if upper is None else ordered[n - 1 - upper],
    )


def _largest_rank_below(n: int, p: float, confidence: float) -> int | None:
    """Return the largest 0-based rank r with P(X_(r) <= q_p) >= confidence, by the binomial distribution."""
    from scipy.special import bdtr

    def low_enough(rank: int) -> bool:
        # X_(rank) exceeds q_p exactly if at most `rank` samples fall below q_p.
        return float(bdtr(rank, n, p)) <= 1 - confidence

    if n == 0 or not low_enough(0):
        return None
    return last_that_holds(low_enough, 0, n, integer_between)


TAIL_CALLS = samples_needed(0.99)
"""The fewest calls whose largest is an upper bound of p99: in fewer, a slow hundredth may be unseen."""


def student_quantile(p: float, degrees: float) -> float:
    """Return the p-quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, p))


def positive(value: float) -> bool:
    """Return whether a figure is finite and greater than 0, so that it has a logarithm."""
    return math.isfinite(value) and value > 0


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean."""
    # `fsum` does not depend on the order of the values, so that merging sessions in any order gives equal
    # figures.
    return math.fsum(values) / len(values)


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of figures greater than 0."""
    return math.exp(mean([math.log(value) for value in values]))


def variance(values: Sequence[float]) -> float:
    """Return the unbiased variance; 0 for a single value."""
    if len(values) < 2:  # noqa: PLR2004 - a single value has no spread
        return 0.0
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1)


def deviation_bounds(squares: float, degrees: int, confidence: float = 0.8) -> tuple[float, float]:
    """Return both bounds of a standard deviation from the sum of squares of normal deviations."""
    from scipy.special import chdtri

    tail = (1 - confidence) / 2
    low, high = float(chdtri(degrees, tail)), float(chdtri(degrees, 1 - tail))
    return math.sqrt(squares / low), math.sqrt(squares / high)


def trimmed_mean(values: Sequence[float], share: float = 0.2) -> float:
    """Return the mean without the `share` smallest and the `share` largest of the values."""
    ordered = sorted(values)
    drop = int(share * len(ordered))
    return mean(ordered[drop : len(ordered) - drop])


def pooled_spread(values: Sequence[float], prior: float, weight: float) -> tuple[float, float]:
    """Pool the variance of a sample with a prior; return the standard deviation and its degrees of freedom.

    `prior` is a standard deviation that counts for `weight` observations. Raises `ValueError` for a single
    value without a prior.
    """
    return spread_with_prior(variance(values), len(values) - 1, prior, weight)


def spread_with_prior(found: float, observed: int, prior: float, weight: float) -> tuple[float, float]:
    """Pool a variance of so many degrees of freedom with a prior, as `pooled_spread` does."""
    # The prior gives way as values come in. The degrees of freedom stay at `weight` until there are more
    # values than that, so that the first values do not make a verdict more certain than the prior allows.
    prior_weight = max(0.0, weight - observed)
    degrees = prior_weight + observed
    if degrees == 0:
        raise ValueError("a spread needs two values or a prior")
    pooled = (prior_weight * prior**2 + observed * found) / degrees
    return math.sqrt(pooled), degrees

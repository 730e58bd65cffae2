"""Quantiles and their bounds, spreads, and the Student and binomial laws behind them.

Nothing here knows what a figure stands for. SciPy is imported when a case is judged, not before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_infergate.core.domain.measurement import Estimate

CONFIDENCE = 0.99
"""One-sided confidence of every bound that is shown or judged."""


def quantile(ordered: Sequence[float], p: float) -> float:
    """Linear interpolation between order statistics (Hyndman and Fan's type 7) of a sorted sample."""
    if not ordered:
        raise ValueError("a quantile needs at least one value")
    position = p * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def samples_needed(p: float, confidence: float = CONFIDENCE) -> int:
    """Fewest independent samples whose maximum bounds the p-quantile from above: p^n <= 1 - confidence."""
    return math.ceil(math.log1p(-confidence) / math.log(p))


def quantile_estimate(ordered: Sequence[float], p: float, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate the p-quantile of a sorted sample with one-sided, distribution-free bounds on either side.

    Samples are taken as independent. A bound that so few samples cannot give is ``None``.
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
    """Largest 0-based rank r with P(X_(r) <= q_p) >= confidence, from the binomial law."""
    from scipy.special import bdtr

    def too_high(rank: int) -> bool:
        # X_(rank) > q_p where at most `rank` samples fall below q_p.
        return float(bdtr(rank, n, p)) > 1 - confidence

    if n == 0 or too_high(0):
        return None
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if too_high(middle) else (middle, high)
    return low


def student_quantile(p: float, degrees: float) -> float:
    """Quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, p))


def student_tail(t: float, degrees: float) -> float:
    """P(T > t) of Student's t."""
    from scipy.special import stdtr

    return float(stdtr(degrees, -t))


def positive(value: float) -> bool:
    """Whether a figure has a logarithm: above 0 and finite."""
    return math.isfinite(value) and value > 0


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return math.fsum(values) / len(values)


def variance(values: Sequence[float]) -> float:
    """Unbiased variance; 0 for a single value."""
    if len(values) < 2:  # noqa: PLR2004 - one value has no spread
        return 0.0
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1)


def trimmed_mean(values: Sequence[float], share: float = 0.2) -> float:
    """Mean of what is left after dropping this share of the values at either end."""
    ordered = sorted(values)
    drop = int(share * len(ordered))
    return mean(ordered[drop : len(ordered) - drop])


def pooled_spread(values: Sequence[float], prior: float, weight: float) -> tuple[float, float]:
    """Standard deviation and degrees of freedom of a sample joined with a prior worth `weight` observations.

    The prior counts for less as values come in: the degrees of freedom stay at `weight` until there
    are more values than that, and the data then stands alone.
    """
    observed = len(values) - 1
    prior_weight = max(0.0, weight - observed)
    degrees = prior_weight + observed
    if degrees == 0:
        raise ValueError("a spread needs two values or a prior")
    pooled = (prior_weight * prior**2 + observed * variance(values)) / degrees
    return math.sqrt(pooled), degrees

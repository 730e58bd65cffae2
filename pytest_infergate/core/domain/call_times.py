"""Call times of a case, summarised."""

from __future__ import annotations

from pytest_infergate.core.domain.measurement import Latency
from pytest_infergate.core.domain.stats import mean, quantile, quantile_estimate


def latency_of(times: tuple[float, ...], *, tail: bool = False) -> Latency:
    """Summarise call times in seconds: mean, and percentiles with their bounds, beyond p99 with `tail`."""
    ordered = sorted(times)
    return Latency(
        count=len(ordered),
        mean=mean(ordered),
        p50=quantile_estimate(ordered, 0.50),
        p90=quantile_estimate(ordered, 0.90),
        p95=quantile_estimate(ordered, 0.95),
        p99=quantile_estimate(ordered, 0.99),
        percentiles=tuple(quantile(ordered, p / 100) for p in range(101)),
        p995=quantile_estimate(ordered, 0.995) if tail else None,
        p999=quantile_estimate(ordered, 0.999) if tail else None,
    )

"""How much one process launch differs from the next."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.records import BaselinePoint

VIRTUAL_SPREAD = 0.20
"""Standard deviation of raw launch medians (log scale) on a shared virtual machine: 17-23 % were measured."""
DEDICATED_SPREAD = 0.05
"""The same where no hypervisor is seen."""
LAUNCH_PRIOR_WEIGHT = 4.0
LAUNCH_CONFIDENCE = 0.95
"""One-sided, for the spread between launches."""


def launch_band(history: Sequence[BaselinePoint], *, virtual: bool) -> float:
    """Half-width, on the log scale, within which one launch says nothing about the next."""
    prior = VIRTUAL_SPREAD if virtual else DEDICATED_SPREAD
    levels = [math.log(point.p50) for point in history]
    spread, degrees = stats.pooled_spread(levels or [0.0], prior, LAUNCH_PRIOR_WEIGHT)
    return stats.student_quantile(LAUNCH_CONFIDENCE, degrees) * spread

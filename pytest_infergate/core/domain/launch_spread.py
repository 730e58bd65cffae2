"""The spread of call times between process launches of the same code."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.records import BaselinePoint

# One model launched 14 times on a shared virtual machine with two cores had medians with a coefficient of
# variation of 17-23 % (docs/method.md). A prior below that would fail budgets on identical code.
VIRTUAL_SPREAD = 0.20
"""Prior standard deviation of raw launch medians (log scale) under a hypervisor."""
DEDICATED_SPREAD = 0.05
"""Prior standard deviation of raw launch medians (log scale) if no hypervisor is detected."""
# Four observations: a handful of recorded sessions outweighs the prior, which describes machines in general.
LAUNCH_PRIOR_WEIGHT = 4.0
"""Number of observations that the prior counts for."""
LAUNCH_CONFIDENCE = 0.95
"""One-sided confidence of the launch band."""


def launch_band(history: Sequence[BaselinePoint], *, virtual: bool) -> float:
    """Return the half-width, on the log scale, by which another launch of the same code may differ.

    `history` holds the recorded sessions of the case; `virtual` is whether the machine has a hypervisor.
    """
    prior = VIRTUAL_SPREAD if virtual else DEDICATED_SPREAD
    # Raw medians: a budget limits the time as measured, not one corrected for the speed of the machine.
    levels = [math.log(point.p50) for point in history]
    spread, degrees = stats.pooled_spread(levels or [0.0], prior, LAUNCH_PRIOR_WEIGHT)
    return stats.student_quantile(LAUNCH_CONFIDENCE, degrees) * spread

"""Process launches of a paired run: the times of both sides, block by block, and the state of the GPU."""

from __future__ import annotations

import math
from typing import Final

from pytest_infergate.core.domain import stats
from pytest_infergate.core.domain.values import Struct

# Heavier code draws more power, so a power cap is an effect of the code and not of the machine.
OWN_REASONS: Final = ("power cap",)
"""Reasons for a throttled clock that the measured work itself causes."""
# On a shared machine calls jump between speeds, and a pair in which the speed jumped carries no information.
# On four sets of recorded blocks, trimming 30 % gave 3 to 10 % less spread than trimming 20 %.
TRIM: Final = 0.3
"""Share of the pairs of a launch that is dropped at either end."""


class GpuState(Struct, frozen=True, kw_only=True):
    """The state of an accelerator after a block."""

    clock_hz: float | None = None
    """Clock frequency of its arithmetic units."""
    throttled: tuple[str, ...] = ()
    """Reasons for a throttled clock, as text."""

    @property
    def throttled_externally(self) -> bool:
        """Whether something else than the work of the block itself throttled the clock."""
        return any(reason not in OWN_REASONS for reason in self.throttled)


class Launch(Struct, frozen=True, kw_only=True):
    """Pairs of interleaved blocks of one case in one launch: seconds per call of base and candidate."""

    base: tuple[float, ...]
    candidate: tuple[float, ...]
    base_gpu_states: tuple[GpuState, ...] = ()
    """State after each block, if the device reports it."""
    candidate_gpu_states: tuple[GpuState, ...] = ()

    @property
    def difference(self) -> float:
        """Trimmed mean of the log ratios of the pairs. Raises `ValueError` for times that are not above 0."""
        # Ratios of neighbouring blocks: a slow phase of the machine affects both blocks of a pair.
        return stats.trimmed_mean(self._ratios, TRIM)

    @property
    def error(self) -> float:
        """Standard error of `difference` by the blocks of this launch alone; infinite with fewer than 4."""
        ordered = sorted(self._ratios)
        cut = int(len(ordered) * TRIM)
        if not cut:
            return math.inf
        # The standard error of a trimmed mean is that of the winsorised sample, scaled by the share that is
        # kept.
        winsorised = [min(max(ratio, ordered[cut]), ordered[-cut - 1]) for ratio in ordered]
        return math.sqrt(stats.variance(winsorised) / len(winsorised)) / (1 - 2 * cut / len(winsorised))

    @property
    def _ratios(self) -> list[float]:
        return [
            math.log(after) - math.log(before)
            for before, after in zip(self.base, self.candidate, strict=True)
        ]

"""Change points of series by apache-otava, which is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

# It gives 0.9 false points a month in 1,000 simulated daily series with a spread of 2 % (docs/history.md).
MAX_P_VALUE: Final = 1e-4
"""Largest p-value of a change point."""
MIN_MAGNITUDE: Final = 0.02
"""Smallest relative change of a change point."""
WINDOW: Final = 200
"""Number of sessions that are searched at once; fewer know less about what was before a change."""
MISSING: Final = (
    "change points are not shown, because apache-otava is not installed. "
    "Hint: pip install 'pytest-infergate[history]'"
)
"""What is shown without the extra."""


def change_points(series: Sequence[Sequence[float]]) -> dict[int, list[int]] | None:
    """Return the indices at which each series changes its level, by the number of the series.

    ``None`` without apache-otava.
    """
    try:
        from otava.analysis import compute_change_points
    except ImportError:
        return None
    found: dict[int, list[int]] = {}
    for number, seconds in enumerate(series):
        if len(seconds) < 4:  # noqa: PLR2004 - two sessions on either side
            continue
        # Relative changes count, and otava works on windows of a list, but not of an array.
        centre = median(seconds)
        scaled = [value / centre for value in seconds]
        points, _ = compute_change_points(
            scaled, window_len=WINDOW, max_pvalue=MAX_P_VALUE, min_magnitude=MIN_MAGNITUDE
        )
        found[number] = sorted(int(point.index) for point in points)
    return found

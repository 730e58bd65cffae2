"""What the service times of a plan rest on."""

from __future__ import annotations

from pytest_infergate.core.domain.stats import TAIL_CALLS
from pytest_infergate.core.domain.values import Struct


class Sampled(Struct, frozen=True, kw_only=True):
    """What the service times of a plan rest on: the least of the batch sizes that its server uses."""

    calls: int
    """Fewest sampled calls of a batch size."""
    seconds: float | None = None
    """Shortest sampling of a batch size; ``None`` if it is unknown."""
    ordered: bool = False
    """Whether calls are simulated in recorded order; otherwise they are drawn independently of each other."""
    paced: float | None = None
    """Largest ratio of calls with rests, as at 30 % load, to calls back to back; ``None`` if not measured."""

    @property
    def tail_seen(self) -> bool:
        """Whether the slowest hundredth of calls was seen."""
        return self.calls >= TAIL_CALLS

    @property
    def promised(self) -> bool:
        """Whether a p95 under load can be promised."""
        return self.tail_seen and self.ordered

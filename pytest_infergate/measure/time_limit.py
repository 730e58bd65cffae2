"""The time that one case may take, and what there was no time for."""

from __future__ import annotations

from collections.abc import Callable

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note

# Calls of a slow model that warm-up, counters, sampling and the other passes take together.
CALLS_NEEDED = 30


class TimeLimit:
    """Seconds that remain for a case from now on."""

    def __init__(self, clock: Callable[[], int], seconds: float) -> None:
        self._clock = clock
        self._begin = clock()
        self.seconds = seconds
        self._dropped: list[str] = []

    def left(self) -> float:
        """Return the seconds that are left; 0 if none are."""
        return max(0.0, self.seconds - (self._clock() - self._begin) / 1e9)

    def allows(self, seconds: float, what: str) -> bool:
        """Return whether there are so many seconds left; if not, note that `what` was dropped."""
        allowed = seconds <= self.left()
        if not allowed and what not in self._dropped:
            self._dropped.append(what)
        return allowed

    def note(self, call_seconds: float) -> Note | None:
        """Return a note on what was dropped, if anything; `call_seconds` is the time of a call."""
        if not self._dropped:
            return None
        needed = max(2 * self.seconds, CALLS_NEEDED * call_seconds)
        return Note(
            code=NoteCode.TIME_LIMIT,
            text=f"the time limit of {self.seconds:.3g} s left no time for: "
            f"{', '.join(self._dropped)}; a call takes {units.seconds(call_seconds)}",
            hint=units.longer_limit(needed),
            max_time=needed,
        )

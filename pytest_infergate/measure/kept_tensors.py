"""Tensors that calls leave behind."""

from __future__ import annotations

import gc
import sys

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note

# Fewer calls may each leave a tensor by chance, in a cache that fills up once.
LEAST_CALLS = 3


class KeptTensors:
    """Counts the tensors that are alive since the collector was frozen (see `quiet_collector`)."""

    def __init__(self) -> None:
        self._before = _count()

    def note(self, calls: int) -> Note | None:
        """Return a note if as many tensors were added as calls were made since."""
        if calls < LEAST_CALLS:
            return None
        kept = _count() - self._before
        if kept < calls:
            return None
        return Note(
            code=NoteCode.TENSORS_KEPT,
            text=f"each call leaves tensors in memory: {kept:,} more after {calls:,} calls",
            hint="clear the list, cache or hook that keeps them inside the callable",
        )


def _count() -> int:
    kind = getattr(sys.modules.get("torch"), "Tensor", None)
    if kind is None:
        return 0
    gc.collect()
    return sum(issubclass(type(value), kind) for value in gc.get_objects())

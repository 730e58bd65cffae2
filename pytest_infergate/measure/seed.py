"""The same random numbers for every case, and the caller's own afterwards."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

SEED = 0


def seed_all() -> Callable[[], None]:
    """Seed random, and numpy and torch where they are loaded; return what restores their states."""
    restore: list[tuple[Callable[[Any], object], Any]] = [(random.setstate, random.getstate())]
    random.seed(SEED)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        restore.append((numpy.set_state, numpy.get_state()))
        numpy.seed(SEED)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        restore.append((torch.set_rng_state, torch.get_rng_state()))
        if torch.cuda.is_initialized():
            restore.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
        torch.manual_seed(SEED)

    def put_back() -> None:
        for set_state, state in restore:
            set_state(state)

    return put_back

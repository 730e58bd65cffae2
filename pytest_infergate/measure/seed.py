"""Seeds random number generators for a case, and restores their states afterwards."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

# A model and its inputs must not depend on the tests that ran before, or their counters would differ from run
# to run.
SEED = 0


def seed_all(seed: int = SEED) -> Callable[[], None]:
    """Seed random, and numpy and torch if they are loaded; return a function that restores their states."""
    restore: list[tuple[Callable[[Any], object], Any]] = [(random.setstate, random.getstate())]
    random.seed(seed)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        restore.append((numpy.set_state, numpy.get_state()))
        numpy.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        # The generators are seeded one by one, because torch.manual_seed loads the whole compiler.
        restore.append((torch.set_rng_state, torch.get_rng_state()))
        torch.default_generator.manual_seed(seed)
        for backend in (torch.cuda, torch.xpu):
            if backend.is_initialized():
                restore.append((backend.set_rng_state_all, backend.get_rng_state_all()))
            if not backend._is_in_bad_fork():  # noqa: SLF001 - torch.manual_seed checks the same
                backend.manual_seed_all(seed)
        if torch.backends.mps.is_available():
            restore.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))
            torch.mps.manual_seed(seed)

    def put_back() -> None:
        for set_state, state in restore:
            set_state(state)

    return put_back

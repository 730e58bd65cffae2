"""Seeds random number generators for a case, and restores their states afterwards."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

# A model and its inputs must not depend on the tests that ran before, or their counters would differ from run
# to run.
SEED = 0


def generator_states() -> Callable[[], None]:
    """Save the states of random, and of numpy and torch if loaded; return a function that restores them."""
    states: list[tuple[Callable[[Any], object], Any]] = [(random.setstate, random.getstate())]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        states.append((numpy.set_state, numpy.get_state()))
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        states.append((torch.set_rng_state, torch.get_rng_state()))
        states += [
            (backend.set_rng_state_all, backend.get_rng_state_all())
            for backend in (torch.cuda, torch.xpu)
            if backend.is_initialized()
        ]
        if torch.backends.mps.is_available():
            states.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))

    def restore() -> None:
        for set_state, state in states:
            set_state(state)

    return restore


def seed_all(seed: int = SEED) -> Callable[[], None]:
    """Seed random, and numpy and torch if they are loaded; return a function that restores their states."""
    restore = generator_states()
    random.seed(seed)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        # The generators are seeded one by one, because torch.manual_seed loads the whole compiler.
        torch.default_generator.manual_seed(seed)
        for backend in (torch.cuda, torch.xpu):
            if not backend._is_in_bad_fork():  # noqa: SLF001 - torch.manual_seed checks the same
                backend.manual_seed_all(seed)
        if torch.backends.mps.is_available():
            torch.mps.manual_seed(seed)
    return restore

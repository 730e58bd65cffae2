"""The same random numbers for every case, and the caller's own afterwards."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

SEED = 0


def seed_all(seed: int = SEED) -> Callable[[], None]:
    """Seed random, and numpy and torch where they are loaded; return what restores their states."""
    restore: list[tuple[Callable[[Any], object], Any]] = [(random.setstate, random.getstate())]
    random.seed(seed)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        restore.append((numpy.set_state, numpy.get_state()))
        numpy.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        restore += _seed_torch(torch, seed)

    def put_back() -> None:
        for set_state, state in restore:
            set_state(state)

    return put_back


def _seed_torch(torch: Any, seed: int) -> list[tuple[Callable[[Any], object], Any]]:
    """Seed every generator of torch, as ``torch.manual_seed`` does; that one loads the whole compiler."""
    restore = [(torch.set_rng_state, torch.get_rng_state())]
    torch.default_generator.manual_seed(seed)
    for backend in (torch.cuda, torch.xpu):
        if backend.is_initialized():
            restore.append((backend.set_rng_state_all, backend.get_rng_state_all()))
        if not backend._is_in_bad_fork():  # noqa: SLF001 - as torch.manual_seed asks
            backend.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        restore.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))
        torch.mps.manual_seed(seed)
    return restore

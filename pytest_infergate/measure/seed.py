"""Seeds random number generators for a case, and restores their states afterwards."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note

# A model and its inputs must not depend on the tests that ran before, or their counters would differ from run
# to run.
SEED = 0


def _generators() -> Iterator[tuple[str, Callable[[], Any], Callable[[Any], object]]]:
    """Yield the name of each global generator, and functions that return and set its state."""
    yield "random", random.getstate, random.setstate
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        yield "numpy.random", numpy.get_state, numpy.set_state
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        yield "torch", torch.get_rng_state, torch.set_rng_state
        for name in ("cuda", "xpu"):
            backend = getattr(torch, name)
            if backend.is_initialized():
                yield f"torch.{name}", backend.get_rng_state_all, backend.set_rng_state_all
        if torch.backends.mps.is_available():
            yield "torch.mps", torch.mps.get_rng_state, torch.mps.set_rng_state


def generator_states() -> Callable[[], None]:
    """Save the states of random, and of numpy and torch if loaded; return a function that restores them."""
    states = [(set_state, get_state()) for _, get_state, set_state in _generators()]

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


class SameNumbers:
    """Lets each repeated call draw the numbers of the first one: an input of `RepeatedCall`.

    Restored are the states of the global generators at its creation, if calls draw from them.
    """

    def __init__(self) -> None:
        self._states = {name: (set_state, get_state()) for name, get_state, set_state in _generators()}
        self._draws: dict[str, int] = {}
        """How often each generator was found changed. The first call alone may draw, for weights."""
        self._left: dict[str, Any] = {}
        """The states that the first call which draws left."""

    @property
    def changing(self) -> bool:
        """Whether a call was seen to draw."""
        return bool(self._draws)

    def settle(self) -> bool:
        """Find from which generators the calls so far drew, and restore them."""
        dispatch = sys.modules.get("torch.utils._python_dispatch")
        # To compare states is no work of a call that is being counted.
        with nullcontext() if dispatch is None else dispatch._disable_current_modes():  # noqa: SLF001
            for name, get_state, set_state in _generators():
                if name not in self._states:  # a library that the first call has loaded
                    self._states[name] = set_state, get_state()
                elif not _same(state := get_state(), self._states[name][1]):
                    self._draws[name] = self._draws.get(name, 0) + 1
                    self._left.setdefault(name, state)
        self.renew()
        return True

    def renew(self) -> None:
        """Restore the generators from which calls drew."""
        for name in self._draws:
            set_state, state = self._states[name]
            set_state(state)

    def finish(self) -> Note | None:
        """Leave the generators as one call does; return a note if later calls draw as well as the first."""
        self.settle()
        for name, state in self._left.items():
            self._states[name][0](state)
        drawn = [name for name, draws in self._draws.items() if draws > 1]
        if not drawn:
            return None
        return Note(
            code=NoteCode.RANDOM_NUMBERS,
            text=f"the call draws random numbers ({', '.join(drawn)}): each call draws those of the first, "
            "and all figures are of this draw",
            hint="if the work depends on them, as for a sampled text, measure several seeds as cases",
        )


def _same(state: Any, other: Any) -> bool:
    if isinstance(state, (list, tuple)) and not isinstance(state[0], int):
        return len(state) == len(other) and all(map(_same, state, other))
    equal = state == other
    return bool(equal.all()) if hasattr(equal, "all") else bool(equal)

"""Whether every call does the same work, as a repeated measurement presumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.timed_calls import RepeatedCall
from pytest_infergate.measure.seed import generator_states

# Largest factor between the work of two calls. Tables of positions or masks that the first call fills for
# later ones are small beside the products of a model, but may take as many operators as all the rest.
ALLOWED_CHANGE = 1.1
LEAST_OPERATORS_AFTER_FIRST = 0.5


class ObservedWork(NamedTuple):
    """What one call dispatched to torch from its own thread, composite operators and their parts alike."""

    operators: int
    flops: int
    """Of products, convolutions, sums and elementwise products, as torch's profiler counts them."""


Observe = Callable[[Callable[[], Any]], "tuple[Any, ObservedWork | None]"]
"""Calls once; returns the result and its work, or ``None`` if that cannot be observed."""


class SameWork:
    """Observes the first call and later ones. Each starts with the random generators of the first.

    The first call is not compared if calls are still `settling`.
    """

    def __init__(self, observe: Observe | None, *, settling: bool = False) -> None:
        self._observe = observe or (lambda call: (call(), None))
        self._settling = settling
        self._generators = generator_states()
        self._reference: ObservedWork | None = None
        self._name = ""
        self.last: Any = None
        """What the last of these calls returned."""

    def first_call(self, call: Callable[[], Any]) -> Any:
        """Make the first call, and return its result."""
        result, work = self._observe(call)
        self._reference, self._name = None if self._settling else work, "call 1"
        return result

    def again(self, call: RepeatedCall) -> Note | None:
        """Call once more; return a note if the work differs from that of the last observed call."""
        call.prepare()
        generators = generator_states()
        self._generators()
        try:
            self.last, work = self._observe(call)
        finally:
            generators()
        name = f"call {call.passed}"
        note = self._changed(work, name)
        self._reference, self._name = work, name
        return note

    def _changed(self, work: ObservedWork | None, name: str) -> Note | None:
        if self._reference is None or work is None:
            return None
        least = LEAST_OPERATORS_AFTER_FIRST if self._name == "call 1" else 1 / ALLOWED_CHANGE
        for what, old, new, share in (
            ("FLOPs", self._reference.flops, work.flops, 1 / ALLOWED_CHANGE),
            ("operators", self._reference.operators, work.operators, least),
        ):
            if not share * old <= new <= ALLOWED_CHANGE * old:
                return Note(
                    code=NoteCode.WORK_CHANGED,
                    text=f"the work of a call changes: {old:,} {what} in {self._name}, {new:,} in {name}",
                    hint="clear what a call leaves behind inside the callable; if later calls are meant to "
                    "use what the first one left, call the model once before infer",
                )
        return None

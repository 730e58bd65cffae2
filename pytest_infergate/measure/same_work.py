"""Whether every call does the same work, as a repeated measurement presumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.timed_calls import RepeatedCall
from pytest_infergate.measure.counting import CountedCall
from pytest_infergate.measure.time_limit import TimeLimit
from pytest_infergate.measure.torch_compile import Compilation, graph_count

# Largest factor between the work of two calls. Tables of positions or masks that the first call fills for
# later ones take no products, but may take as many operators as all the rest. A product that it keeps may be
# larger than all others: their sizes are not observed in the first call, where that would add a tenth to the
# cold start, and seconds and gigabytes for a model that writes a long text. TorchScript fuses operators after
# its first call, but the FLOPs of products remain.
ALLOWED_CHANGE = 1.1
LEAST_AFTER_FIRST = 0.5
BYTECODES_ALLOWED = 1000
# A first call that initialises kernels took up to 50 times as long as later ones, and a few milliseconds; in
# a new process, the libraries take some ten milliseconds more.
LONG_FIRST_FACTOR = 100
LONG_FIRST_CALL = 0.003
LONG_FIRST_OF_PROCESS = 0.1
# Sizes of more operators take seconds and gigabytes to observe.
MAX_SIZED_OPERATORS = 20_000
# Calls that are observed if each changes the state of the model. A stream of speech in chunks of 20 ms that
# is decoded every two seconds does other work in each 100th call.
STATE_CALLS = 128
PERIOD = "measure a whole period as one call, for instance a loop over the chunks of a stream"
PARAMETER = "parameter"
"""Begins the name of state that is not restored after a case."""


Watch = Callable[[], Callable[[], tuple[str, ...]]]
"""Saves the state of what is called, and returns what names that which changed since."""


class ObservedWork(NamedTuple):
    """What one call dispatched to torch from its own thread, composite operators and their parts alike."""

    operators: int | None
    products: int | None
    """Products of matrices, convolutions, attention and recurrent layers among them."""
    flops: int | None
    """As torch's profiler counts them; ``None`` if sizes were not observed."""


class Observe(Protocol):
    """Calls once; returns the result and its work, or ``None`` if that cannot be observed."""

    def __call__(self, call: Callable[[], Any], *, sizes: bool) -> tuple[Any, ObservedWork | None]:
        """Call; FLOPs are observed with `sizes` only."""


def unequal_python(before: int, now: int, call: int) -> Note | None:
    """Return a note if the bytecodes of an early call and of a later one differ."""
    allowed = max(BYTECODES_ALLOWED, (ALLOWED_CHANGE - 1) * before)
    if abs(now - before) <= allowed:
        return None
    return Note(
        code=NoteCode.WORK_CHANGED,
        text=f"the work of a call changes: {before:,} bytecodes of Python in an early call, "
        f"{now:,} in call {call}",
        hint="inside the callable, clear what a call leaves behind, and seed generators of its own",
    )


def first_call_notes(first_seconds: float, usual_seconds: float, *, first: bool) -> tuple[Note, ...]:
    """Return a note if the first call took so long that later ones may reuse its results.

    `first` is whether the case is the first of its process, in which libraries are initialised.
    """
    least = LONG_FIRST_OF_PROCESS if first else LONG_FIRST_CALL
    if first_seconds < max(least, LONG_FIRST_FACTOR * usual_seconds):
        return ()
    return (
        Note(
            code=NoteCode.FIRST_CALL_LONG,
            text=f"the first call took {units.seconds(first_seconds)}, a later one "
            f"{units.seconds(usual_seconds)}: if later calls reuse its results, all figures are of the reuse",
            hint="make each call compute its result, or ignore this if the first call only loads or compiles",
        ),
    )


def state_note(names: tuple[str, ...], calls: int) -> Note:
    """Return a note on state that changes with every call, of which `calls` did the same work."""
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004
    kept = any(name.startswith(PARAMETER) for name in names)
    return Note(
        code=NoteCode.STATE_ADVANCES,
        text=f"each call changes the state of the model ({listed}): {units.plural(calls, 'call')} in "
        "succession did the same work, and work of rarer calls is not in the figures"
        + ("; values of parameters are not restored after the case" if kept else ""),
        hint=f"if there is such work, {PERIOD}",
    )


def with_kept_state(note: Note) -> Note:
    """Add to a note on advancing state that nothing restores it: that of a callable that is no module."""
    if note.code != NoteCode.STATE_ADVANCES:
        return note
    kept = "make what is called in each test: a later one would find it as these calls left it"
    return msgspec.structs.replace(note, hint=f"{note.hint}; {kept}")


def _unobserved(call: Callable[[], Any], *, sizes: bool) -> tuple[Any, None]:  # noqa: ARG001
    return call(), None


class SameWork:
    """Observes the first call and later ones.

    While calls are `settling`, their operators change, and only the FLOPs of the first one are compared.
    """

    def __init__(
        self, observe: Observe | None, watch: Watch | None = None, *, settling: bool = False
    ) -> None:
        self._observe = observe or _unobserved
        self._watch = watch
        self._settling = settling
        self._reference: ObservedWork | None = None
        self._name = ""
        self.last: Any = None
        """What the last of these calls returned."""

    def first_call(self, call: Callable[[], Any]) -> Any:
        """Make the first call, and return its result."""
        result, work = self._observe(call, sizes=self._settling)
        if work is not None and self._settling:
            work = work._replace(operators=None, products=None)
        self._reference, self._name = work, "call 1"
        return result

    def items_copied(self) -> None:
        """Leave out the operators of the first call, which has copied the items of a stream."""
        if self._reference is not None:
            self._reference = self._reference._replace(operators=None)

    def again(self, call: RepeatedCall, *, advance: bool = True) -> Note | None:
        """Call once more; return a note if the work differs from that of the last observed call.

        Without `advance`, later calls are compared with the same call as this one.
        """
        call.prepare()
        known = self._reference
        few = known is None or (known.operators or 0) <= MAX_SIZED_OPERATORS
        self.last, work = self._observe(call, sizes=few)
        name = f"call {call.passed}"
        note = self._changed(work, name)
        if advance:
            self._reference, self._name = work, name
        return note

    def check(
        self, exact: CountedCall, call: RepeatedCall, compilation: Compilation, limit: TimeLimit
    ) -> tuple[CountedCall, Note | None]:
        """Call once more, and more often within `limit` if calls change the state of the model.

        Return the counters with a note on such state, or a note that makes the case invalid if calls do
        unequal work or changed other arguments than before.
        """
        if not call.prepare():
            invalid = Note(
                code=NoteCode.WORK_CHANGED,
                text="later calls changed arguments that the first ones had left as they were",
                hint="copy the arguments inside the callable",
            )
            return exact, invalid
        advanced = None if self._watch is None or not limit.seconds else self._watch()
        note, compiled = self.again(call), bool(compilation.counters())
        if compiled:
            # The operators of a first call are those that the model was traced from.
            note = None
        names = () if advanced is None or note is not None else advanced()
        if not names:
            return exact, note
        calls = 1
        while note is None and calls < STATE_CALLS and limit.left():
            graphs = graph_count()
            note = self.again(call, advance=False)
            if compiled and graph_count() != graphs:
                note = None
            calls += 1
        if note is not None:
            return exact, msgspec.structs.replace(note, hint=f"each call changes {names[0]}: {PERIOD}")
        return exact._replace(notes=(*exact.notes, state_note(names, calls))), None

    def _changed(self, work: ObservedWork | None, name: str) -> Note | None:
        if self._reference is None or work is None:
            return None
        lowest = 1 / ALLOWED_CHANGE
        first = self._name == "call 1"
        flops, products, operators = (LEAST_AFTER_FIRST, 1.0, LEAST_AFTER_FIRST) if first else (lowest,) * 3
        for what, old, new, share in (
            ("FLOPs", self._reference.flops, work.flops, flops),
            ("products", self._reference.products, work.products, products),
            ("operators", self._reference.operators, work.operators, operators),
        ):
            if old is not None and new is not None and not share * old <= new <= ALLOWED_CHANGE * old:
                return Note(
                    code=NoteCode.WORK_CHANGED,
                    text=f"the work of a call changes: {old:,} {what} in {self._name}, {new:,} in {name}",
                    hint="inside the callable, clear what a call leaves behind, and seed generators of "
                    "its own; if later calls are meant to use what the first left, call it once before infer",
                )
        return None

"""A limit on the time of one call, so that a model that never returns ends its case and not the whole run.

After the limit, an exception is raised where the call hangs. Code in C may not let Python raise it: after a
further grace period, the caller is asked to end the process from another thread. Code in C that even holds
the lock of the interpreter is ended, with the process, by a timer of `faulthandler`.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from pytest_infergate.core.domain import units
from pytest_infergate.errors import CaseTimeoutError

CALL_SECONDS: Final = 600.0
"""Limit of one call; the first may load and compile a model for minutes."""
CAPS_PER_CALL: Final = 10
"""The limit of a call is at least so many times the time limit of its case."""
GRACE_SECONDS: Final = 30.0
"""Time between the exception and the end of the process."""
FINISH_SECONDS: Final = 300.0
"""Time that the end of the process may take."""
_DEBUGGERS = frozenset({"bdb", "pdb", "pydevd", "debugpy"})


def call_seconds(max_seconds: float) -> float:
    """Return the limit of one call of a case that may take `max_seconds` seconds."""
    return max(CALL_SECONDS, CAPS_PER_CALL * max_seconds)


class CallLimit:
    """Ends what takes more than `seconds` seconds without a further call that returned.

    `end` gets a text, is called in another thread, and should not return. `stacks` is a file descriptor for
    the stacks of all threads; without it, nothing ends code in C that holds the lock of the interpreter.
    """

    def __init__(
        self,
        seconds: float,
        end: Callable[[str], None],
        *,
        grace: float = GRACE_SECONDS,
        stacks: int | None = None,
    ) -> None:
        self._seconds = seconds
        self._end = end
        self._grace = grace
        self._stacks = stacks
        self._raised: CaseTimeoutError | None = None
        # Held for good once the process is being ended: the main thread must not go on meanwhile.
        self._ending = threading.RLock()

    @contextmanager
    def watching(self, passed: Callable[[], int]) -> Iterator[None]:
        """Limit the calls until exit; `passed` returns how many have returned.

        In the main thread, raises `CaseTimeoutError` wherever a call hangs, and on exit if something else
        caught it. While a timeout of somebody else is set, nothing is limited: it ends the call.
        """
        handler = getattr(signal, "SIGALRM", None)
        if handler is not None and (
            signal.getsignal(handler) is not signal.SIG_DFL or any(signal.getitimer(signal.ITIMER_REAL))
        ):
            yield
            return
        done = threading.Event()
        arguments = (passed, done, threading.get_ident())
        watcher = threading.Thread(target=self.watch, args=arguments, daemon=True)
        with self.alarm(passed):
            watcher.start()
            try:
                yield
                if self._raised is not None:  # the model, or what observes it, went on
                    raise self._raised
            finally:
                with self._ending:
                    done.set()
                watcher.join()
                if self._stacks is not None:
                    faulthandler.cancel_dump_traceback_later()

    @contextmanager
    def alarm(self, passed: Callable[[], int]) -> Iterator[None]:
        """Raise in the main thread; signals reach no other one, and do not exist on every system."""
        if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
            yield
            return
        seen = passed()

        def on_alarm(_number: int, frame: FrameType | None) -> None:
            nonlocal seen
            __tracebackhide__ = True
            with self._ending:
                stuck = passed() == seen and not debugged(frame)
            seen = passed()
            if stuck:
                self._raised = CaseTimeoutError(self.text(seen))
                raise self._raised

        signal.signal(signal.SIGALRM, on_alarm)
        signal.setitimer(signal.ITIMER_REAL, self._seconds, self._seconds)
        try:
            yield
        finally:
            if signal.getsignal(signal.SIGALRM) is on_alarm:  # the model may have set a timeout of its own
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def watch(self, passed: Callable[[], int], done: threading.Event, thread: int) -> None:
        """Wait in a thread of its own until the calls are done, or one of them hangs."""
        while True:
            seen = passed()
            self.exit_later(self._seconds + 2 * self._grace)
            if done.wait(self._seconds):
                return
            if passed() != seen or debugged(sys._current_frames().get(thread)):  # noqa: SLF001 - its purpose
                continue
            if done.wait(self._grace):
                return
            with self._ending:
                if passed() == seen and not done.is_set():
                    self.exit_later(FINISH_SECONDS)
                    self._end(self.text(seen))

    def exit_later(self, seconds: float) -> None:
        """Show the stacks of all threads and end the process after some time, even if Python cannot run."""
        if self._stacks is not None:
            faulthandler.dump_traceback_later(seconds, file=self._stacks, exit=True)

    def text(self, passed: int) -> str:
        """Return the message about a call that hangs."""
        return (
            f"call {passed + 1} must return within {units.duration(self._seconds)}, and did not. "
            "Hint: the traceback shows where it hangs; if it needs so long, set --infer-max-time or max_time "
            f"to more than {units.duration(self._seconds / CAPS_PER_CALL)}, a tenth of this limit"
        )


def debugged(frame: FrameType | None) -> bool:
    """Return whether a thread waits in a debugger, by the stack of its frames."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False

"""The end of a session whose model hangs where no exception can be raised."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import pytest

from pytest_infergate.measure.call_limit import CallLimit, call_seconds
from pytest_infergate.plugin import xdist

OURS = f"{os.sep}pytest_infergate{os.sep}"
"""In the path of each module of this package."""


class HangingCalls:
    """Limits the calls of cases, and ends the session where a call cannot be ended alone."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._item: pytest.Item | None = None
        self._stacks: int | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """Keep stderr, in which the stacks of a hanging process are shown, before tests capture it."""
        # faulthandler has one timer in all, which this option of pytest uses.
        if not float(self._config.getini("faulthandler_timeout") or 0):
            with suppress(AttributeError, OSError, ValueError):  # there may be no stderr
                self._stacks = os.dup(sys.__stderr__.fileno())  # type: ignore[union-attr]

    def pytest_unconfigure(self) -> None:
        """Close the descriptor."""
        if self._stacks is not None:
            os.close(self._stacks)
            self._stacks = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Note which item runs."""
        self._item = item

    def watched(self, max_seconds: float) -> Callable[[Callable[[], int]], AbstractContextManager[None]]:
        """Return what limits the calls of a case that may take so many seconds."""
        return CallLimit(call_seconds(max_seconds), self.end, stacks=self._stacks).watching

    def end(self, text: str) -> None:
        """Report the case as failed, conclude the run without the cases that follow, and end the process.

        The main thread is inside of the model, so all of that happens in another one. A worker of
        pytest-xdist only ends: its controller gives the cases that follow to a new worker.
        """
        try:
            capture = self._config.pluginmanager.get_plugin("capturemanager")
            if capture is not None:
                capture.suspend(in_=True)
            sys.__stderr__.write(f"\ninfergate: {text}\n")  # type: ignore[union-attr]
            sys.__stderr__.flush()  # type: ignore[union-attr]
            faulthandler.dump_traceback(sys.__stderr__)  # type: ignore[arg-type]
            if not xdist.is_worker(self._config) and self._item is not None:
                end_session(self._item, text, stack_of_main_thread())
        except BaseException:  # noqa: BLE001 - the process must end
            traceback.print_exc(file=sys.__stderr__)
        finally:
            for stream in (sys.stdout, sys.__stdout__, sys.__stderr__):
                with suppress(AttributeError, OSError, ValueError):
                    stream.flush()  # type: ignore[union-attr]
            os._exit(pytest.ExitCode.INTERRUPTED)


def end_session(item: pytest.Item, text: str, stack: str) -> None:
    """Fail a test whose call hangs, and do what pytest does at the end of an interrupted session."""
    hook, plugins = item.config.hook, item.config.pluginmanager
    failed = pytest.CallInfo.from_call(lambda: pytest.fail(f"{text}\n\n{stack}", pytrace=False), "call")
    report = item.ihook.pytest_runtest_makereport(item=item, call=failed)
    item.ihook.pytest_runtest_logreport(report=report)
    ended = pytest.CallInfo.from_call(lambda: pytest.exit(f"{item.nodeid} hangs"), "call")
    hook.pytest_keyboard_interrupt(excinfo=ended.excinfo)
    status = item.session.exitstatus = pytest.ExitCode.INTERRUPTED
    # pytest's own plugin tears down the fixtures, which the model may still use.
    finish = plugins.subset_hook_caller("pytest_sessionfinish", [plugins.get_plugin("runner")])
    finish(session=item.session, exitstatus=status)


def stack_of_main_thread() -> str:
    """Return the frames of the main thread from the last one of infergate on."""
    frames = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident or 0])  # noqa: SLF001
    ours = [index for index, frame in enumerate(frames) if OURS in frame.filename]
    return "".join(traceback.format_list(frames[ours[-1] :] if ours else frames))

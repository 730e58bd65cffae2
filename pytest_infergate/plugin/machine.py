"""Who has the machine: one inference case alone, one on each GPU, or any number of other tests."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from pytest_infergate.core.domain import units
from pytest_infergate.errors import InfergateError
from pytest_infergate.measure.lock import MachineLock
from pytest_infergate.plugin.collection import case_of, parameter_of
from pytest_infergate.plugin.gpu_sharing import GpuSharing
from pytest_infergate.plugin.terminal import Terminal
from pytest_infergate.report.sanitize import plain_lines


class MachineHooks:
    """Hold the machine-wide lock for as long as an item runs.

    `timing` is whether cases are timed; others may run beside cases that are only counted. Without `locking`,
    all may run at once.
    """

    def __init__(
        self, terminal: Terminal, sharing: GpuSharing, *, timing: bool, locking: bool = True
    ) -> None:
        self.terminal = terminal
        self._sharing = sharing
        self._timing = timing
        self._locking = locking
        self._made: MachineLock | None = None
        self._waited = 0.0
        """Seconds, of the waits that are long enough for a message."""

    def _lock(self) -> MachineLock:
        if self._made is None:
            self._made = MachineLock()
        return self._made

    def check(self) -> None:
        """Check that the lock can be held. Raises as `MachineLock.check`."""
        if self._locking:
            self._lock().check()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Hold the machine, or the GPU, alone for an inference case that is timed; share it otherwise."""
        parameter = parameter_of(item)
        alone = self._timing and parameter is not None
        gpu = None
        if alone and self._locking and parameter is not None:
            gpu = self._sharing.gpu(case_of(item, parameter.axes), item.nodeid)
        with self._held(alone=alone, gpu=gpu):
            return (yield)

    @contextmanager
    def _held(self, *, alone: bool, gpu: str | None = None) -> Iterator[None]:
        if not self._locking:
            yield
            return
        with self._lock().held("alone" if alone else "shared", self.terminal.waiting, gpu) as seconds:
            self._waited += seconds
            self.terminal.waited()
            yield

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how long all cases have waited: a line for each of them would hide the results."""
        if self._waited:
            terminalreporter.write_line(
                f"waited {units.duration(self._waited)} in total for other runs that measure on this machine"
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the machine while other processes measure. What prevents them is a usage error."""
        try:
            with self._held(alone=self._timing):
                yield
        except InfergateError as error:
            raise pytest.UsageError(plain_lines(str(error))) from None
        finally:
            self.terminal.status("")

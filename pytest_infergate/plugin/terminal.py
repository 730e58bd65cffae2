"""What pytest's terminal shows: a line before the first test, progress, and the summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from typing import TYPE_CHECKING

import pytest

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.outcome import Session
from pytest_infergate.core.domain.values import Case
from pytest_infergate.plugin.collection import case_of, parameter_of
from pytest_infergate.report import text
from pytest_infergate.report.sanitize import plain_lines

if TYPE_CHECKING:
    from pytest_infergate.paired.interim_analysis import Progress

LOG_WIDTH = 120
"""Columns of the table where output goes to a log, which scrolls sideways."""


class Terminal:
    """Pytest's terminal, as far as there is one: a worker of pytest-xdist has none."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._status = ""
        self._waiting = False
        self._waited_before = False

    def _reporter(self) -> pytest.TerminalReporter | None:
        return self._config.pluginmanager.get_plugin("terminalreporter")

    def line(self, words: str) -> None:
        """Write a line of its own."""
        reporter = self._reporter()
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(plain_lines(words))

    def status(self, words: str) -> None:
        """Show words after the cursor, which keeps its place; an empty string erases them.

        Only on a terminal: a log cannot be erased.
        """
        self._status = words
        self._show(words)

    def _show(self, words: str) -> None:
        reporter = self._reporter()
        if reporter is None or not reporter.isatty:
            return
        room = reporter._tw.fullwidth - reporter._tw.width_of_current_line - 3  # noqa: SLF001
        shown = f"\0337  {words[:room]}\0338" if words and room > 0 else ""
        reporter._tw._file.write(f"\033[K{shown}")  # noqa: SLF001 - pytest's own line stays as it knows it
        reporter._tw._file.flush()  # noqa: SLF001

    def waiting(self, words: str) -> None:
        """Show how long a case has waited: once a run in a line of its own, then behind the cursor."""
        if self._waited_before:
            self._show(words)
        else:
            self.line(words)
        self._waiting = self._waited_before = True

    def waited(self) -> None:
        """Show the status again, if the run has waited."""
        if self._waiting:
            self._waiting = False
            self._show(self._status)

    def launches(self, progress: Progress) -> None:
        """Show how far a paired run is: on a terminal in one line that changes, in a log a line a launch."""
        words = (
            f"{units.plural(progress.launches, 'launch')}, {progress.decided} of "
            f"{units.plural(progress.cases, 'case')} decided"
        )
        if progress.confirming:
            words += f", {progress.confirming} being confirmed as slower"
        if progress.decided < progress.cases:
            words += f", about {units.duration(progress.seconds_left)} left"
        reporter = self._reporter()
        if reporter is not None and not reporter.isatty and reporter.verbosity >= 0:
            self.line(f"infergate: {words}")
        else:
            self.status(words)


class CaseProgress:
    """Hooks that show which case is being measured, and how long all of them will take."""

    def __init__(
        self,
        terminal: Terminal,
        cases: Collection[str],
        forecast: Callable[[], str],
        expected: Mapping[str, float],
    ) -> None:
        """Take the cases to be shown, and the seconds that those which run one by one should take."""
        self._terminal = terminal
        self._cases = cases
        self._forecast = forecast
        self._expected = expected
        self._done: dict[str, float] = {}
        """Seconds of the cases that have run, by node id."""

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say how many cases there are and how long they will take."""
        return [f"infergate: {self._forecast()}"] if self._cases else []

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Show progress behind what pytest itself has just shown."""
        if nodeid not in self._cases:
            return
        words = f"measuring {len(self._done) + 1} of {len(self._cases)}"
        left = seconds_left(self._expected, self._done)
        if left is not None:
            words += f", about {units.duration(left)} left"
        self._terminal.status(words)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Take the time of a case, which does not include the wait for the machine."""
        if item.nodeid not in self._cases:
            return (yield)
        begin = time.monotonic()
        try:
            return (yield)
        finally:
            self._done[item.nodeid] = time.monotonic() - begin
            self._terminal.status("")


def seconds_left(expected: Mapping[str, float], done: Mapping[str, float]) -> float | None:
    """Return how long the cases take that are not done yet; ``None`` without any expectation.

    If those that are done took longer than expected, so do the others.
    """
    if not expected:
        return None
    before = sum(expected.get(nodeid, 0.0) for nodeid in done)
    factor = sum(done[nodeid] for nodeid in done if nodeid in expected) / before if before else 1.0
    return factor * sum(seconds for nodeid, seconds in expected.items() if nodeid not in done)


class CaseListing:
    """The hook that lists cases instead of running them."""

    def __init__(
        self, terminal: Terminal, absence: Callable[[Case], str | None], without: Iterable[tuple[str, str]]
    ) -> None:
        """Take what says why a case would be skipped, and ids without a case with the reason."""
        self._terminal = terminal
        self._absence = absence
        self._without = without

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Print a line for each case, and why its test would be skipped or there is no case."""
        for item in session.items:
            parameter = parameter_of(item)
            if parameter is not None:
                reason = self._absence(case_of(item, parameter.axes))
                self._terminal.line(f"{item.nodeid}{'' if reason is None else f'  (skipped: {reason})'}")
        for nodeid, reason in self._without:
            self._terminal.line(f"{nodeid}  (no case: {reason})")
        return True


def write_summary(
    reporter: pytest.TerminalReporter,
    session: Session,
    problems: Iterable[str],
    written: Iterable[str],
    results: str | None = None,
) -> None:
    """Write the section of the terminal summary."""
    reporter.section("infergate", sep="=")
    width = reporter._tw.fullwidth  # noqa: SLF001 - there is no other way to know it
    width = width if reporter.isatty else max(width, LOG_WIDTH)
    summary = text.terminal_summary(session, width, results or "results.json")
    reporter.write_line(plain_lines(summary))
    for problem in problems:
        reporter.write_line(plain_lines(f"ERROR: {problem}"), red=True)
    for line in written:
        reporter.write_line(plain_lines(line))

"""What the terminal shows while a run waits for the machine."""

import io

import pytest
from _pytest.terminal import TerminalReporter

from pytest_infergate.plugin.terminal import Terminal


@pytest.fixture
def shown(pytestconfig):
    """A terminal, and what has been written to it since the last time; argument: whether it is one."""

    def make(isatty):
        stream = io.StringIO()
        reporter = TerminalReporter(pytestconfig, stream)
        reporter.isatty = isatty
        terminal = Terminal(pytestconfig)
        terminal._reporter = lambda: reporter

        def written():
            text = stream.getvalue()
            stream.seek(0)
            stream.truncate()
            return text

        return terminal, written

    return make


@pytest.mark.parametrize("isatty", [True, False])
def test_waiting_has_a_line_and_leaves_the_progress_as_it_was(shown, isatty):
    terminal, written = shown(isatty)
    terminal.status("measuring 3 of 9")
    assert ("measuring 3 of 9" in written()) is isatty
    terminal.waiting("waited 5 s")
    assert "waited 5 s\n" in written()
    terminal.waiting("waited 10 s")
    assert ("waited 10 s" in written()) is isatty
    terminal.waited()
    assert ("measuring 3 of 9" in written()) is isatty
    terminal.waited()
    assert written() == ""
    terminal.waiting("waited 5 s")
    assert "waited 5 s\n" in written()  # the next wait has its own line

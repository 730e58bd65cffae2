"""What the terminal shows while a run waits for the machine."""

import io
from contextlib import contextmanager

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
    terminal.waiting("waited 5 s")  # of the next case
    text = written()
    assert ("waited 5 s" in text) is isatty
    assert "\n" not in text


def test_the_summary_states_the_total_of_long_waits(project, monkeypatch):
    from pytest_infergate.measure import lock

    waits = iter([7.0, 0.0, 8.0])

    @contextmanager
    def held(_, how, waiting, gpu):
        seconds = next(waits)
        if seconds:
            waiting("waited 5 s for process 1")
        yield seconds

    monkeypatch.setattr(lock.MachineLock, "held", held)
    project.several({"one": "", "two": "", "three": ""})
    lines = [line for line in project.measure().outlines if "waited" in line]
    assert lines == [
        "waited 5 s for process 1",
        "waited 15 s in total for other runs that measure on this machine",
    ]

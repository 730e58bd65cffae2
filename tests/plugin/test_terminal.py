"""What the terminal shows: the time that is left, and colours."""

import pytest

from pytest_infergate.plugin.terminal import seconds_left


@pytest.mark.parametrize(
    ("expected", "done", "left"),
    [
        ({}, {}, None),
        ({}, {"a": 3.0}, None),
        ({"a": 3.0, "b": 5.0}, {}, 8.0),
        ({"a": 3.0, "b": 5.0}, {"a": 3.0}, 5.0),
        ({"a": 3.0, "b": 5.0}, {"a": 6.0}, 10.0),  # the machine is slower today
        ({"a": 3.0, "b": 3.0, "c": 3.0}, {"a": 10.0, "b": 2.0}, 6.0),  # without a record, their mean
        ({"a": 3.0, "b": 5.0}, {"a": 3.0, "b": 5.0}, 0.0),
        ({"a": 3.0, "b": 5.0}, {"absent": 0.001}, 8.0),  # a case that is skipped says nothing
        ({"a": 0.0, "b": 5.0}, {"a": 0.1}, 5.0),
    ],
)
def test_cases_that_are_done_correct_what_is_left(expected, done, left):
    assert seconds_left(expected, done) == left


@pytest.mark.parametrize(("variable", "coloured"), [("FORCE_COLOR", True), ("NO_COLOR", False)])
def test_the_summary_has_the_colours_that_pytest_has(project, monkeypatch, variable, coloured):
    project.test()
    monkeypatch.delenv("PY_COLORS", raising=False)  # pytester sets it
    monkeypatch.setenv("TERM", "xterm")
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "1")

    def fails(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fails)
        out = project.measure("--infer-markdown=r.md").stdout.str()
    assert "ERROR: " in out
    assert ("\x1b[31mERROR: " in out) is coloured
    assert ("\x1b[" in out) is coloured

"""A test shows what one call printed."""

import pytest

PRINTING = """
import sys
import warnings

import pytest

calls = []


def test_printing(infer, model):
    print("before")

    def call():
        calls.append(1)
        print("layer", len(calls), "of the model")
        print("to stderr", file=sys.stderr)
        return model()

    infer(call)
    print("after")
    assert False


def test_capturing(infer, model, capsys):
    def call():
        print("captured by the test")
        return model()

    infer(call)
    assert capsys.readouterr().out.count("captured by the test") > 10


def test_silent(infer, model):
    infer(model)
    assert False


def test_raising(infer, model):
    def call():
        print("about to fail")
        raise ValueError

    infer(call)


def test_raising_later(infer, model):
    def call():
        calls.append(1)
        print("later", len(calls))
        assert len(calls) < 100
        return model()

    calls.clear()
    infer(call)
"""


@pytest.mark.parametrize("capture", ["fd", "sys"])
def test_repeated_calls_leave_a_line(project, capture):
    project.pytester.makepyfile(PRINTING)
    result = project.measure(f"--capture={capture}")
    result.assert_outcomes(failed=4, passed=1)
    text = result.stdout.str()
    assert text.count("layer 1 of the model") == text.count("to stderr\n") == 1
    assert text.count("layer ") == 1
    assert text.count(" lines that repeated calls printed are left out]") == 3
    assert text.index("before\n") < text.index("layer 1 of the model") < text.index("after\n")
    assert text.count("about to fail\n") == 1
    printed = [line for line in result.outlines if line.startswith("later ")]
    assert printed == ["later 1", *(f"later {call}" for call in range(51, 101))]


def test_records_for_the_tools_of_torch_are_left_out(project):
    project.pytester.makepyfile("""
    import logging

    TRACE = logging.getLogger("torch.__trace")
    TRACE.propagate = False
    TRACE.setLevel(logging.DEBUG)


    def test_logging(infer, model):
        TRACE.debug("for %s", "tools")
        logging.getLogger("torch").warning("for %s", "readers")
        infer(model)
        assert False
    """)
    text = project.measure().stdout.str()
    assert ("for readers" in text, "for tools" in text) == (True, False)


def test_without_capture_nothing_is_left_out(project):
    project.pytester.makepyfile(PRINTING)
    text = project.measure("-s", "-k", "printing").stdout.str()
    assert text.count("of the model") > 10
    assert "left out" not in text

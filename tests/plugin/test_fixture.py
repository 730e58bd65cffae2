"""What `infer` raises: the model's exception, as the model left it."""

import functools
import traceback

import pytest

from pytest_infergate.core.domain.values import Case
from pytest_infergate.plugin.fixture import Infer
from pytest_infergate.plugin.modes import Inactive


def implicit():
    try:
        {}["weights"]
    except KeyError:
        raise RuntimeError("cannot load")  # noqa: B904


def explicit():
    try:
        {}["weights"]
    except KeyError as error:
        raise RuntimeError("cannot load") from error


def suppressed():
    try:
        {}["weights"]
    except KeyError:
        raise RuntimeError("cannot load") from None


def another_cause():
    try:
        {}["weights"]
    except KeyError:
        raise RuntimeError("cannot load") from ValueError("wrong file")


def reraised():
    try:
        implicit()
    except RuntimeError as error:
        raise error.with_traceback(None) from error.__cause__


def alone():
    raise RuntimeError("cannot load")


def raised(call):
    with pytest.raises(RuntimeError) as caught:
        call()
    return caught.value


def chain(error):
    """An exception and those that it hangs on, without their addresses."""
    if error is None:
        return None
    return repr(error), chain(error.__cause__), chain(error.__context__), error.__suppress_context__


@pytest.mark.parametrize("model", [implicit, explicit, suppressed, another_cause, reraised, alone])
def test_a_models_exception_keeps_its_chain_and_shows_no_frame_of_ours(model, pytestconfig):
    case = Case(test="t.py::test", device="cpu")
    infer = Infer(case, functools.partial(Inactive(pytestconfig).measure, case, "t.py::test[cpu]", None))
    error = raised(functools.partial(infer, model))
    assert chain(error) == chain(raised(model))
    hidden = [
        frame for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_globals["__name__"].startswith("pytest_infergate.") and not frame.f_globals.get("__tracebackhide__")
    ]  # fmt: skip
    assert hidden == []


@pytest.mark.parametrize("options", [(), ("--infer-devices=fake",)], ids=["plain", "measured"])
def test_a_failure_shows_the_exception_that_the_model_was_handling(project, options):
    project.pytester.makepyfile(
        """
        def test_model(infer):
            def load():
                try:
                    {}["weights"]
                except KeyError:
                    raise RuntimeError("cannot load")

            infer(load)
        """
    )
    result = project.run(*options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*KeyError: 'weights'", "During handling of the above exception*", "E*RuntimeError: cannot load"]
    )
    result.stdout.no_fnmatch_line("*pytest_infergate/*")


def test_a_model_that_is_not_callable_is_named_without_our_frames(project):
    project.pytester.makepyfile("def test_model(infer): infer(3, 'x')")
    result = project.run()
    result.stdout.fnmatch_lines(["E*TypeError: the model must be callable, got 3*"])
    result.stdout.no_fnmatch_line("*pytest_infergate/*")


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("[Long()] * 5", "an object of class list with Long, Long, Long, 2 more."),
        ("{'a': Long()}", "an object of class dict with str."),
        ("Long()", "an object of class Long."),
        ("None", "None."),
    ],
)
def test_what_is_given_instead_of_a_model_is_named_in_short(project, model, named):
    project.pytester.makepyfile(
        f"""
        class Long:
            def __repr__(self):
                return "long " * 1000

        def test_model(infer): infer({model})
        """
    )
    result = project.run("--tb=short")
    result.stdout.fnmatch_lines([f"E*TypeError: the model must be callable, got {named} Hint: infer(*"])


def test_a_figure_that_was_not_measured_shows_the_line_of_the_test_only(project):
    project.test(body="infer(model).latency.p50")
    result = project.run()
    result.stdout.fnmatch_lines(
        [">*infer(model).latency.p50", "E*NotMeasuredError: this run did not measure*"]
    )
    result.stdout.no_fnmatch_line("*pytest_infergate/*")

"""Markers that mean something else, are added late, or are on parameters; and ids of other runs."""

import json

import pytest

from pytest_infergate.config.marker import parse_marker
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.plugin.collection import import_hint

FOREIGN = '''
"""
>>> 1 + 1
2
"""
import unittest

import pytest

pytestmark = pytest.mark.inference(gpu=True)


@pytest.mark.inference("llama", weights=object())
def test_llama():
    pass


@pytest.mark.parametrize("size", [1, 2])
def test_sizes(size):
    pass


class TestOld(unittest.TestCase):
    @pytest.mark.inference
    def test_method(self):
        pass


@pytest.fixture
def infer():
    return 3


def test_own_fixture(infer):
    assert infer == 3
'''


@pytest.mark.parametrize("options", [(), ("--infer-devices=fake", "--infer-json=r.json")])
def test_a_marker_of_another_project_changes_nothing(project, options):
    project.test()  # one inference test, so that the hooks around items exist
    project.pytester.makepyfile(test_foreign=FOREIGN)
    collected = project.run("--collect-only", "-q", "--doctest-modules", "test_foreign.py", *options)
    # The doctest comes first or last, depending on the version of pytest.
    assert {line for line in collected.outlines if "::" in line} == {
        "test_foreign.py::test_foreign",
        "test_foreign.py::test_llama",
        "test_foreign.py::test_sizes[1]",
        "test_foreign.py::test_sizes[2]",
        "test_foreign.py::TestOld::test_method",
        "test_foreign.py::test_own_fixture",
    }
    result = project.run("--doctest-modules", *options)
    result.assert_outcomes(passed=7)
    if options:
        result.stdout.fnmatch_lines(["notes on other tests (1):"])
        result.stdout.no_fnmatch_line("deselected*")
        gate = json.loads((project.path / "r.json").read_text())["gate"]
        [note] = gate["deselected"]
        assert note["code"] == "unused-marker"
        assert note["text"].startswith("5 tests ")  # a doctest cannot use a fixture


LATE = """
import pytest


@pytest.mark.inference(max_time=0.5)
@pytest.mark.parametrize(
    "size", [1, pytest.param(2, marks=pytest.mark.inference(budget={"p50_ms": 0.001}, max_time=0.2))]
)
def test_sizes(infer, model, size):
    infer(model)


def test_hooked(infer, model):
    infer(model)
"""


def test_a_marker_that_comes_late_counts(project):
    """On a parameter of the user, and from a hook."""
    project.change(
        """
def pytest_collection_modifyitems(items):
    items[-1].add_marker(pytest.mark.inference(budget={"p95_ms": 0.001}))
"""
    )
    project.pytester.makepyfile(LATE)
    result = project.measure("--infer-json=r.json")
    result.assert_outcomes(passed=1, failed=2)
    cases = json.loads((project.path / "r.json").read_text())["cases"]
    assert [[budget["metric"] for budget in case.get("budgets", ())] for case in cases] == [
        ["p95_ms"],
        [],
        ["p50_ms"],
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [("batch_sizes=[4]", "must leave the cases"), ("budgett={}", "must be one of"), ("'llama'", "named")],
)
def test_a_late_marker_cannot_add_cases(project, arguments, words):
    project.test()
    project.change(
        f"""
def pytest_collection_modifyitems(items):
    items[0].add_marker(pytest.mark.inference({arguments}))
"""
    )
    result = project.measure()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{words}*"])


@pytest.mark.parametrize(
    ("named", "ran"),
    [
        ("fake-b8-x", "cpu 8 None"),
        ("accel-bfloat16-b8-t2-x", "cpu 8 2"),
        ("cpu-b1-x", "cpu 1 None"),  # the case of a plain run
    ],
)
def test_a_plain_run_accepts_the_ids_of_a_measured_one(project, named, ran):
    project.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.inference(batch_sizes=[1, 8])
        @pytest.mark.parametrize("user", ["x", "y"])
        def test_model(infer, user):
            print(f"RAN {infer.device} {infer.batch_size} {infer.threads}")
            infer(lambda: 1)
        """
    )
    nodeid = f"test_a_plain_run_accepts_the_ids_of_a_measured_one.py::test_model[{named}]"
    result = project.run("-v", "-s", nodeid)
    result.assert_outcomes(passed=1)
    assert f"{nodeid} RAN {ran}" in result.stdout.str()


@pytest.mark.parametrize("named", ["fake", "fake-b3", "fake-b8-z", "b8-x", "nothing-b8-x"])
def test_an_id_of_no_case_is_not_found(project, named):
    project.test("batch_sizes=[1, 8]")
    result = project.run(f"test_it.py::test_model[{named}]")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: not found: *"])


def test_failures_of_a_measured_run_are_repeated_by_a_plain_one(project):
    project.several({"a": "batch_sizes=[1, 8]", "b": ""}, body="assert infer(model) is None")
    project.measure().assert_outcomes(failed=3)
    result = project.run("--lf")
    result.assert_outcomes(failed=3)
    assert "test_it.py::test_a[fake-b8]" in result.stdout.str()


def test_setup_show_names_the_case(project):
    project.test("batch_sizes=[8]")
    result = project.measure("--setup-show")
    result.stdout.fnmatch_lines(["*SETUP    F infer*[[]fake-b8[]]"])


def test_torch_itself_has_a_hint_of_its_own(tmp_path):
    [(_, text)] = import_hint("torch", tmp_path)
    assert "pip install torch" in text
    assert import_hint("numpy", tmp_path) == []


def test_pytest_lists_each_argument_of_the_marker(project):
    with pytest.raises(ConfigurationError) as unknown:
        parse_marker([((), {"x": 1})], ())
    _, _, known = str(unknown.value).partition("must be one of ")
    [line] = [line for line in project.run("--markers").outlines if "mark.inference(" in line]
    listed = line.partition("(")[2].partition(")")[0].split(", ")
    assert sorted(listed) == sorted(known.partition(", got")[0].split(", "))

"""Collection errors that the user can do something about."""

import pytest
from inputs import parsed

from pytest_infergate.config.marker import Marker
from pytest_infergate.plugin.collection import parameters

INFERENCE = """
import pytest
from shop.model import Net

@pytest.mark.inference
def test_net(infer):
    infer(Net())
"""


@pytest.mark.parametrize(("place", "hinted"), [("shop", "pythonpath = ."), ("src/shop", "pythonpath = src")])
def test_a_project_that_is_not_installed_is_named(pytester, place, hinted):
    folder = pytester.mkpydir(place) if "/" not in place else pytester.path / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").touch()
    tests = pytester.mkdir("tests")
    (tests / "test_net.py").write_text(INFERENCE)
    (tests / "test_other.py").write_text("import shop.model\n")
    (tests / "test_absent.py").write_text(INFERENCE.replace("shop", "nothing_of_this_name"))
    result = pytester.runpytest("--import-mode=importlib")
    result.assert_outcomes(errors=3)
    printed = result.stdout.str()
    assert hinted in printed
    # A file without inference tests is none of our business, and an absent package has no hint.
    assert printed.count("pythonpath") == 1


# Budgets on what a runtime cannot count


def budgets(folder, runtimes):
    marker = Marker(budget={"p95_ms": 1.0, "gflops": 2.0, "peak_memory_mb": 3.0, "weights_mb": 4.0})
    settings = parsed(folder, {"devices": "fake", "runtimes": runtimes})
    made = parameters(marker, "t.py::test_a", settings, ("cpu",))
    return {one.axes.id: tuple(one.terms.budgets) for one in made if one.axes.deselected is None}


def test_limits_of_memory_and_work_are_for_cases_that_are_not_converted(tmp_path):
    every, known = ("p95_ms", "gflops", "peak_memory_mb", "weights_mb"), ("p95_ms", "weights_mb")
    assert budgets(tmp_path, "eager,onnxruntime") == {"cpu-eager": every, "cpu-onnxruntime": known}
    assert budgets(tmp_path, "onnxruntime,openvino") == {"cpu-onnxruntime": every, "cpu-openvino": every}

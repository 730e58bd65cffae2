"""Collection errors that the user can do something about."""

import pytest

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

"""Both sides of a paired run draw the same numbers while their tests are imported."""

import subprocess
import sys

import pytest

from pytest_infergate.worker.seeded_imports import SeededImports

INSTALLED = "from pytest_infergate.worker.seeded_imports import SeededImports; SeededImports().install();"


def drawn(code):
    return [subprocess.check_output([sys.executable, "-c", INSTALLED + code], text=True) for _ in range(2)]


def test_generators_are_seeded_when_they_are_loaded():
    pytest.importorskip("numpy")
    first, second = drawn("import random, numpy.random; print(random.random(), numpy.random.random())")
    assert first == second


@pytest.mark.torch
def test_torch_is_seeded_when_it_is_loaded():
    first, second = drawn("import torch; print(torch.rand(1)); print(torch.nn.Linear(1, 1).weight)")
    assert first == second


def test_each_test_module_begins_with_the_same_seed(pytester):
    pytester.makepyfile(
        test_a="import random; FIRST = random.random()\ndef test(): pass",
        test_b="""
            import random
            FIRST = random.random()
            def test():
                import test_a
                assert FIRST == test_a.FIRST
        """,
    )
    pytester.inline_run(plugins=[SeededImports()]).assertoutcome(passed=2)

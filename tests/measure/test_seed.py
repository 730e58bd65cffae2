import random
import sys

import pytest

from pytest_infergate.measure.seed import SEED, seed_all


def test_random_is_seeded_and_restored():
    random.seed(99)
    expected = random.random()
    random.seed(99)
    put_back = seed_all()
    first = random.random()
    put_back()
    assert random.random() == expected
    assert first == random.Random(SEED).random()


def test_each_case_sees_the_same_numbers():
    seen = []
    for _ in range(2):
        put_back = seed_all()
        seen.append([random.random() for _ in range(3)])
        put_back()
    assert seen[0] == seen[1]


def test_numpy_is_seeded_and_restored():
    numpy = pytest.importorskip("numpy")
    numpy.random.seed(99)
    expected = numpy.random.rand()
    numpy.random.seed(99)
    put_back = seed_all()
    first = numpy.random.rand()
    put_back()
    assert numpy.random.rand() == expected
    assert first == numpy.random.RandomState(SEED).rand()


def test_modules_that_are_not_loaded_stay_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delitem(sys.modules, "numpy.random", raising=False)
    seed_all()()
    assert "torch" not in sys.modules
    assert "numpy.random" not in sys.modules


def test_a_torch_that_is_half_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", type(sys)("torch"))
    seed_all()()

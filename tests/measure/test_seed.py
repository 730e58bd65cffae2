import random
import sys

import pytest

from pytest_infergate.instruments.timed_calls import RepeatedCall, time_calls
from pytest_infergate.measure.case import Effort, Subject, measure
from pytest_infergate.measure.counters_only import count_only
from pytest_infergate.measure.seed import SEED, SameNumbers, seed_all
from pytest_infergate.testing import FakeDevice


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


def draws():
    """Functions that draw from a global generator, by its name."""
    numpy, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
    return {
        "random": random.random,
        "numpy.random": numpy.random.rand,
        "torch": lambda: torch.rand(1).item(),
        "multinomial": lambda: torch.multinomial(torch.ones(1000), 1).item(),
    }


@pytest.mark.torch
@pytest.mark.parametrize("name", ["random", "numpy.random", "torch", "multinomial"])
def test_each_repeated_call_draws_the_numbers_of_the_first(name):
    draw, seen, device = draws()[name], [], FakeDevice()
    numbers = SameNumbers()
    call = RepeatedCall(lambda: seen.append(draw()), None, numbers)
    call()
    time_calls(call, device, 3)
    call()
    call.issue(2)
    call.prepare()
    assert draw() == seen[0]
    following = draw()
    note = numbers.finish()
    assert draw() == following  # as after a single call
    assert len(seen) == 7
    assert len(set(seen)) == 1
    assert note.code == "random-numbers"
    assert f"({'torch' if name == 'multinomial' else name})" in note.text


def test_numbers_that_only_the_first_call_draws_are_not_noted():
    weights = []
    numbers = SameNumbers()
    call = RepeatedCall(lambda: weights or weights.append(random.random()), numbers)
    for _ in range(3):
        call()
    assert numbers.finish() is None


def test_a_call_without_random_numbers_is_not_renewed():
    numbers = SameNumbers()
    call = RepeatedCall(lambda: None, numbers)
    call()
    call.prepare()
    assert call.renew is None
    assert numbers.finish() is None


def test_a_generator_that_the_first_call_loads_is_the_same_from_then_on(monkeypatch):
    numpy = pytest.importorskip("numpy")
    monkeypatch.delitem(sys.modules, "numpy.random")
    numbers, seen = SameNumbers(), []

    def draw():
        monkeypatch.setitem(sys.modules, "numpy.random", numpy.random)
        seen.append(numpy.random.rand())

    call = RepeatedCall(draw, numbers)
    for _ in range(4):
        call()
    assert seen[0] != seen[1] == seen[2] == seen[3]
    assert numbers.finish() is not None


@pytest.mark.parametrize("course", [measure, count_only])
def test_all_figures_of_a_sampled_text_are_of_one_draw(course):
    device, lengths = FakeDevice(), []

    def generate():
        text = ""
        while len(text) < 400 and random.random() > 0.02:
            text += "a"
            device.spend(0.001)
        lengths.append(len(text))
        return text

    random.seed(4)
    run = course(Subject(generate), device, Effort(5))
    assert len(run.output) == lengths[0] > 1
    assert set(lengths) == {lengths[0]}
    assert [note.code for note in run.measurement.notes] == ["random-numbers"]
    after = random.random()
    random.seed(4)
    generate()
    assert random.random() == after  # as after a single call

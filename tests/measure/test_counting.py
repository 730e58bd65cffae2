"""The passes of the counters, on a device that counts what it is told."""

import random

import pytest

from pytest_infergate.core.domain.measurement import OperatorWork
from pytest_infergate.instruments.device import DeviceCounters, DeviceMemory
from pytest_infergate.measure.counting import count_call, varying_counters
from pytest_infergate.testing import FakeDevice


@pytest.fixture
def device():
    device = FakeDevice()
    device.counters = DeviceCounters({"flops": 6, "operators": 2})
    device.allocations = 3
    return device


def take(device, call=lambda: None, compiled=None, weights=None, repetitions=1):
    return count_call(call, device, compiled=compiled or {}, weights=weights, repetitions=repetitions)


def test_the_counters_of_a_module(device):
    taken = take(device, weights={"bfloat16": 4, "float32": 8})
    assert taken.counters.totals == {
        "flops": 6,
        "operators": 2,
        "weight_bytes": 12,
        "allocations": 3,
        "peak_memory_bytes": 1_000_012,
    }
    assert taken.counters.weights == {"bfloat16": 4, "float32": 8}
    assert taken.counters.architecture == "fake"
    assert (taken.counters.varying, taken.notes) == ({}, ())
    assert taken.memory.activations == 1_000_000


def test_a_plain_callable_has_no_weights(device):
    taken = take(device)
    assert "weight_bytes" not in taken.counters.totals
    assert taken.counters.weights == {}
    assert taken.counters.totals["peak_memory_bytes"] == 1_000_000


def test_what_the_allocator_does_not_say_is_left_out(device):
    device.allocations = device.activations = None
    assert set(take(device).counters.totals) == {"flops", "operators"}


def test_a_compiled_model_is_not_counted_by_operator(device):
    device.count = lambda call: pytest.fail("it need not be called")
    assert take(device, compiled={"graphs": 1}).counters.totals["graphs"] == 1


def test_equal_places_stand_together(device):
    rows = tuple(OperatorWork(operator="aten::mm", place=f"layers.{n}", calls=1) for n in range(3))
    device.counters = DeviceCounters({"operators": 3}, rows)
    assert [row.place for row in take(device).counters.operators] == ["layers.{0-2}"]


def test_repetitions_that_do_not_agree(device):
    figures = iter([5, 9, 4])
    device.count = lambda call: DeviceCounters({"flops": 1, "operators": next(figures)})
    counters = take(device, repetitions=3).counters
    assert counters.totals["operators"] == 5
    assert counters.varying == {"operators": (4, 9)}


def test_a_counter_that_a_repetition_lacks():
    assert varying_counters([{"a": 1, "b": 2}, {"a": 1}]) == {}
    assert varying_counters([{"a": 1, "b": 2}, {"a": 3}]) == {"a": (1, 3)}


def test_every_pass_begins_with_the_same_random_numbers(device):
    seen = []
    random.seed(7)
    expected = random.Random(7).random()
    take(device, call=lambda: seen.append(random.random()), repetitions=3)
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert random.random() == expected


def test_a_pass_that_fails_is_noted_and_the_other_counts(device, snapshot):
    def fail(call):
        raise ValueError("no\nsuch thing")

    device.count = fail
    taken = take(device)
    (note,) = taken.notes
    assert note.code == "not-counted"
    assert str(note) == snapshot
    assert taken.counters.totals["allocations"] == 3


def test_memory_that_fails_is_noted(device):
    def fail(call):
        raise RuntimeError

    device.memory = fail
    taken = take(device)
    assert taken.memory == DeviceMemory(note=taken.notes[0])
    assert taken.notes[0].code == "not-counted"
    assert "RuntimeError: RuntimeError" in taken.notes[0].text
    assert taken.counters.totals == {"flops": 6, "operators": 2}

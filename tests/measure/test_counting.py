"""The passes of the counters, on a device whose counters are set."""

import pytest

from pytest_infergate.core.domain.measurement import OperatorWork
from pytest_infergate.core.domain.values import Note
from pytest_infergate.errors import CaseTimeoutError
from pytest_infergate.instruments import python_work
from pytest_infergate.instruments.device import DeviceCounters, DeviceMemory, UsedMemory
from pytest_infergate.instruments.timed_calls import RepeatedCall
from pytest_infergate.measure import counting, timing_guard
from pytest_infergate.measure.counting import count_call, varying_counters, with_device_work, with_recount
from pytest_infergate.testing import FakeDevice

PYTHON = {"python_calls", "bytecodes"}


@pytest.fixture
def device():
    device = FakeDevice()
    device.counters = DeviceCounters({"flops": 6, "operators": 2})
    device.allocations = 3
    return device


def take(device, call=lambda: None, compiled=None, weights=None, repetitions=1):
    return count_call(
        RepeatedCall(call), device, compiled=compiled or {}, weights=weights, repetitions=repetitions
    )


def test_the_counters_of_a_module(device):
    taken = take(device, weights={"bfloat16": 4, "float32": 8})
    assert taken.counters.totals == {
        "flops": 6,
        "operators": 2,
        "weight_bytes": 12,
        "allocations": 3,
        "peak_memory_bytes": 1_000_012,
        "python_calls": 1,
        "bytecodes": taken.counters.totals["bytecodes"],
    }
    assert taken.counters.python == python_work.PYTHON
    assert taken.counters.weights == {"bfloat16": 4, "float32": 8}
    assert taken.counters.architecture == "fake"
    assert (taken.counters.varying, taken.notes) == ({}, ())
    assert taken.memory.activations == 1_000_000


def test_a_plain_callable_has_no_weights(device):
    taken = take(device)
    assert "weight_bytes" not in taken.counters.totals
    assert taken.counters.weights == {}
    assert taken.counters.totals["peak_memory_bytes"] == 1_000_000


@pytest.mark.parametrize(
    ("operators", "weights", "noted"),
    [(0, {"float32": 4}, True), (1, {"float32": 4}, False), (0, None, False), (None, {"float32": 4}, False)],
)
def test_a_model_with_weights_whose_call_runs_no_operator_is_noted(device, operators, weights, noted):
    totals = {} if operators is None else {"operators": operators}
    device.counters = DeviceCounters(totals)
    counted = take(device, weights=weights)
    assert ("no-work" in [note.code for note in counted.notes]) is noted


def test_used_memory_that_is_not_found_makes_the_weights_unknown(device):
    def weights_of(size, *counts):
        rounds = iter(counts)
        device.count = lambda call: DeviceCounters({"operators": 2}, used=next(rounds))
        taken = count_call(
            RepeatedCall(lambda: None),
            device,
            compiled={},
            weights={"float32": 8},
            unfound=lambda used: size * len(used),
        )
        return (
            taken.counters.weights,
            taken.counters.totals.get("peak_memory_bytes"),
            [note.code for note in taken.notes],
        )

    here, there = ((UsedMemory("cpu", start, 8),) for start in (64, 128))
    known = {"float32": 8}, 1_000_008, []
    assert weights_of(65_536, here) == known
    # Elsewhere in another call: the call made it.
    assert weights_of(65_537, here, there) == known
    assert weights_of(65_537, here, here) == ({}, None, ["weights-unseen"])


def test_what_the_allocator_does_not_say_is_left_out(device):
    device.allocations = device.activations = None
    assert set(take(device).counters.totals) == {"flops", "operators", *PYTHON}


def test_the_work_of_python_is_counted_in_each_repetition(device):
    calls = iter([1, 9, 1, 5, 1, 9])  # the last pass of each repetition
    counters = take(device, call=lambda: [len(str(n)) for n in range(next(calls))], repetitions=3).counters
    low, high = counters.varying["bytecodes"]
    assert (counters.totals["bytecodes"], low < high) == (high, True)


def test_the_work_of_python_is_not_counted_under_a_tracer(device, monkeypatch):
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: Note(code="tracer", text="coverage"))
    taken = take(device)
    assert set(taken.counters.totals).isdisjoint(PYTHON)
    assert [note.code for note in taken.notes] == ["not-counted"]


def test_the_work_of_python_is_not_counted_beside_other_threads(device):
    device.counters = device.counters._replace(other_threads=True)
    taken = take(device, repetitions=2)
    assert set(taken.counters.totals).isdisjoint(PYTHON)
    assert sum("Python's own work" in note.text for note in taken.notes) == 1


def test_a_call_of_too_much_python_is_counted_once(device, monkeypatch):
    passes = []

    def count(call):
        passes.append(call)
        note = Note(code="not-counted", text="too much")
        return python_work.PythonWork(at_least={"bytecodes": 7}, note=note)

    monkeypatch.setattr(counting, "count_python", count)
    taken = take(device, repetitions=3)
    assert len(passes) == 1
    assert (taken.counters.at_least, taken.counters.varying) == ({"bytecodes": 7}, {})
    assert [note.code for note in taken.notes] == ["not-counted"]


def test_a_compiled_model_is_not_counted_by_operator(device):
    device.count = lambda call: pytest.fail("it need not be called")
    totals = take(device, compiled={"graphs": 1}).counters.totals
    assert totals["graphs"] == 1
    assert set(totals).isdisjoint(PYTHON)


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
    assert set(taken.counters.totals) == {"flops", "operators", *PYTHON}


# A count after the timing, and the work of a device


@pytest.mark.parametrize("kind", [CaseTimeoutError, pytest.exit.Exception])
def test_what_ends_a_test_or_the_session_is_passed_on(device, kind):
    def ends(_):
        raise kind("that is enough")

    device.count = ends
    with pytest.raises(kind, match="that is enough"):
        take(device)


def test_a_count_that_confirms_the_first_changes_nothing(device):
    early = take(device)
    assert with_recount(early, take(device)) is early


def test_what_a_later_count_does_not_confirm_varies(device):
    early = take(device)
    device.counters = DeviceCounters({"flops": 9, "operators": 2})
    late = take(device)
    taken = with_recount(early, late)
    assert taken.counters.totals == early.counters.totals
    assert taken.counters.varying == {"flops": (6, 9)}
    assert [note.code for note in taken.notes] == ["varies"]


def test_a_range_of_repetitions_is_widened_by_the_later_count_and_noted_once(device):
    figures = iter([5, 7, 6])
    device.count = lambda call: DeviceCounters({"operators": next(figures)})
    early = take(device, repetitions=2)
    assert early.counters.varying == {"operators": (5, 7)}
    inside = with_recount(early, take(device))
    assert inside is early
    device.count = lambda call: DeviceCounters({"operators": 9})
    taken = with_recount(early, take(device))
    assert taken.counters.varying == {"operators": (5, 9)}
    (note,) = taken.notes
    assert "5 to 9" in note.text


def test_the_work_of_a_device_is_that_of_the_first_repetition(device):
    counters = take(device).counters
    assert with_device_work(counters, ()) is counters
    work = with_device_work(
        counters, [{"kernel_launches": 3, "memcpys": 1}, {"kernel_launches": 4, "memcpys": 1}]
    )
    assert work.totals == {**counters.totals, "kernel_launches": 3, "memcpys": 1}
    assert work.varying == {"kernel_launches": (3, 4)}

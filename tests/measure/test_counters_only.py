"""The course of a case without a clock, on a device whose time does not matter."""

import pytest

from pytest_infergate.core.domain.values import Note
from pytest_infergate.instruments.device import DeviceCounters
from pytest_infergate.measure import timing_guard
from pytest_infergate.measure.case import Effort, Subject, measure
from pytest_infergate.measure.counters_only import count_only
from pytest_infergate.testing import FakeDevice


@pytest.fixture
def device():
    device = FakeDevice()
    device.counters = DeviceCounters({"operators": 2})
    return device


def stateful(device):
    """A model of a second whose Python work grows with each call."""
    calls = []

    def call():
        device.spend(1)
        calls.append([str(number) for number in range(len(calls))])

    return call


def test_counters_and_memory_without_any_time(device):
    run = count_only(Subject(lambda: "output", threads=2), device, Effort(10), (Note(code="any", text="x"),))
    measurement = run.measurement
    assert (run.output, run.invalid, run.samples) == ("output", None, ())
    assert measurement.counters.totals["operators"] == 2
    assert measurement.memory.activations == 1_000_000
    assert measurement.threads == 2
    assert (measurement.latency, measurement.throughput, measurement.cold_start) == (None, None, None)
    assert [note.code for note in measurement.notes] == ["any"]


def test_counters_are_those_of_a_measured_case(device, monkeypatch):
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: None)
    counted = count_only(Subject(stateful(device)), device, Effort(20)).measurement.counters
    measured = measure(Subject(stateful(device)), device, Effort(20)).measurement.counters
    assert counted.totals == measured.totals
    assert counted.totals["bytecodes"] > 0


def test_what_differs_between_repetitions_varies(device):
    counters = count_only(Subject(stateful(device)), device, Effort(60, repetitions=3)).measurement.counters
    assert counters.varying.keys() == {"bytecodes"}


def test_a_long_call_is_counted_once(device):
    run = count_only(Subject(lambda: device.spend(60)), device, Effort(10, repetitions=3))
    assert run.measurement.counters.totals["operators"] == 2
    assert device.fake_clock.now < 10 * 60e9
    assert [note.code for note in run.measurement.notes] == ["time-limit"]


def test_a_stream_is_counted_to_its_end(device):
    run = count_only(Subject(lambda: (str(number) for number in range(5))), device, Effort(10))
    assert run.output == ["0", "1", "2", "3", "4"]
    assert run.measurement.counters.totals["python_calls"] >= 6


def test_an_unfinished_output_is_invalid(device):
    async def later():
        return 1

    assert count_only(Subject(later), device, Effort(10)).invalid.code == "unfinished-output"


def test_the_kernels_of_an_accelerator_are_counted():
    device = FakeDevice("accel", asynchronous=True)
    run = count_only(Subject(lambda: device.spend(0.01)), device, Effort(10))
    assert run.measurement.counters.totals["kernel_launches"] == 1
    assert count_only(Subject(lambda: 1), device, Effort(10)).invalid.code == "no-kernel"


def test_an_exception_says_which_call_raised_it(device):
    calls = []

    def call():
        calls.append(1)
        if len(calls) == 2:
            raise LookupError("no")

    with pytest.raises(LookupError) as caught:
        count_only(Subject(call), device, Effort(10))
    assert "raised in call 2" in caught.value.__notes__[0]

"""Energy of calls on a fake clock, where power is exact."""

import math

import pytest

from pytest_infergate.core.domain.call_times import latency_of
from pytest_infergate.core.domain.measurement import Energy
from pytest_infergate.core.domain.values import Hardware
from pytest_infergate.instruments.device import DeviceState, Meter
from pytest_infergate.instruments.timed_calls import RepeatedCall
from pytest_infergate.measure import energy_window, timing_guard
from pytest_infergate.measure.case import Effort, Subject, measure
from pytest_infergate.measure.energy_window import EnergyWorkload, measured_energy, seconds_needed
from pytest_infergate.testing import FakeDevice, FakeMeter

MILAN = Hardware(cpu_model="AMD EPYC 7763 64-Core Processor (25/1)", cores=4)


@pytest.fixture
def device():
    device = FakeDevice()
    device.energy_meter = FakeMeter(device.fake_clock, watts=100, idle_watts=20)
    return device


@pytest.fixture
def bare(monkeypatch):
    """A device without a meter, on a CPU whose power is known."""
    device = FakeDevice()
    monkeypatch.setattr(device, "hardware", lambda: MILAN)
    return device


def load(device, seconds=0.010, **fields):
    return EnergyWorkload(RepeatedCall(lambda: device.spend(seconds)), latency_of((seconds,) * 10), **fields)


def codes(found):
    return [note.code for note in found.notes]


def test_a_fake_meter_is_a_meter(device):
    assert isinstance(device.meter(), Meter)


# The window


def test_a_call_takes_power_times_time(device):
    found = measured_energy(load(device, batch_size=8), device, 10, requested=True)
    assert found.notes == ()
    assert found.energy == Energy(
        joules=pytest.approx(100 * 0.010),
        source="nvml",
        scope="board",
        seconds=pytest.approx(2.0),
        calls=200,
        batch_size=8,
        idle_watts=pytest.approx(20),
    )


@pytest.mark.parametrize("seconds", [0.0001, 0.03, 0.7, 1.9])
def test_the_window_holds_whole_calls_for_two_seconds(device, seconds):
    found = measured_energy(load(device, seconds), device, 20, requested=True).energy
    assert found.seconds == pytest.approx(found.calls * seconds)
    assert 2 <= found.seconds < 2 + max(0.11, seconds)
    assert found.joules == pytest.approx(100 * seconds)


def test_a_call_longer_than_the_window_is_one(device):
    found = measured_energy(load(device, 2.4), device, 10, requested=True)
    assert (found.energy.calls, found.energy.seconds) == (1, pytest.approx(2.4))


def test_calls_warm_the_power_up_before_the_window(device):
    calls = []
    found = measured_energy(
        load(device)._replace(call=RepeatedCall(lambda: calls.append(device.spend(0.010)))),
        device,
        10,
        requested=True,
    )
    assert len(calls) == found.energy.calls + 30


def test_a_queue_is_waited_for():
    device = FakeDevice("accel", asynchronous=True, enqueue=0.0001)
    device.energy_meter = FakeMeter(device.fake_clock, watts=100)
    found = measured_energy(load(device), device, 10, requested=True).energy
    # 10 calls a turn, whose enqueuing hides behind the work of the call before.
    assert found.seconds == pytest.approx(found.calls * (0.010 + 0.0001 / 10))
    assert found.joules == pytest.approx(100 * found.seconds / found.calls)


def test_the_meter_is_read_and_the_device_rests_about_as_long_as_was_told(device):
    measured_energy(load(device), device, 10, requested=True)
    assert device.fake_clock.now / 1e9 == pytest.approx(seconds_needed(0.010))


@pytest.mark.parametrize(("each", "needed"), [(0.0, 3.0), (0.010, 3.3), (0.7, 3.1), (1.5, 4.0), (5.0, 6.0)])
def test_how_long_it_takes(each, needed):
    assert seconds_needed(each) == pytest.approx(needed)


# The time cap


@pytest.mark.parametrize(("cap", "measured"), [(9.5, True), (9.4, False), (0.1, False)])
def test_it_takes_a_share_of_the_time_cap_or_nothing(device, cap, measured):
    found = measured_energy(load(device), device, cap, requested=True)
    assert (found.energy is not None) is measured
    assert codes(found) == ([] if measured else ["energy-skipped"])


def test_what_is_skipped_says_how_much_time_it_needs(device, snapshot):
    (note,) = measured_energy(load(device), device, 5, requested=True).notes
    assert str(note) == snapshot
    assert device.kernels == 0


def test_what_is_skipped_is_estimated(bare):
    bare.energy_meter = FakeMeter(bare.fake_clock)
    found = measured_energy(load(bare), bare, 1, requested=True)
    assert found.energy.estimated
    assert codes(found) == ["energy-skipped"]


# Counters without information


def test_a_counter_that_breaks(device, monkeypatch, snapshot):
    readings = iter([1.0, 2.0, *[None] * 100])
    monkeypatch.setattr(device.energy_meter, "joules", lambda: next(readings))
    found = measured_energy(load(device), device, 10, requested=True)
    assert found.energy is None
    assert codes(found) == ["energy-unread"]
    assert str(found.notes[0]) == snapshot


@pytest.mark.parametrize("reading", [None, math.nan, math.inf, 5.0], ids=str)
def test_a_counter_that_counts_nothing(device, monkeypatch, reading):
    monkeypatch.setattr(device.energy_meter, "joules", lambda: reading)
    assert codes(measured_energy(load(device), device, 10, requested=True)) == ["energy-unread"]


def test_a_counter_that_falls(device, monkeypatch):
    readings = iter(range(1000, 0, -1))
    monkeypatch.setattr(device.energy_meter, "joules", lambda: float(next(readings)))
    assert codes(measured_energy(load(device), device, 10, requested=True)) == ["energy-unread"]


def test_idle_power_may_be_unknown(device, monkeypatch):
    rest = device.energy_meter.rest

    def break_down(seconds):
        rest(seconds)
        device.energy_meter.broken = True

    monkeypatch.setattr(device.energy_meter, "rest", break_down)
    found = measured_energy(load(device), device, 10, requested=True)
    assert found.energy.joules == pytest.approx(1.0)
    assert found.energy.idle_watts is None


def test_a_rest_without_time_has_no_power(device, monkeypatch):
    monkeypatch.setattr(device.energy_meter, "rest", lambda seconds: None)
    assert measured_energy(load(device), device, 10, requested=True).energy.idle_watts is None


def test_it_ends_for_a_call_that_takes_no_time(device, monkeypatch):
    monkeypatch.setattr(energy_window, "MAX_WINDOW_CALLS", 1000)
    found = measured_energy(load(device, 0.0), device, 10, requested=True)
    assert found.energy is None
    assert codes(found) == ["energy-unread"]


def test_an_unread_counter_leaves_the_estimate(bare):
    bare.energy_meter = FakeMeter(bare.fake_clock)
    bare.energy_meter.broken = True
    found = measured_energy(load(bare), bare, 10, requested=True)
    assert found.energy.estimated
    assert codes(found) == ["energy-unread"]


# What spoils it


def test_a_clock_that_was_held_down_is_noted(device, snapshot):
    device.energy_meter.reported_state = DeviceState(throttled=("power cap", "hardware slowdown"))
    (note,) = measured_energy(load(device), device, 10, requested=True).notes
    assert note.code == "throttled"
    assert str(note) == snapshot


@pytest.mark.parametrize("others", [1, 3])
def test_others_on_the_board_are_noted(device, others, snapshot):
    device.energy_meter.reported_state = DeviceState(others=others)
    (note,) = measured_energy(load(device), device, 10, requested=True).notes
    assert note.code == "energy-shared"
    assert str(note) == snapshot


def test_a_board_in_order_needs_no_note(device):
    device.energy_meter.reported_state = DeviceState(
        clock_hz=1.7e9, celsius=60.0, power_limit=700.0, others=0
    )
    assert measured_energy(load(device), device, 10, requested=True).notes == ()


def test_the_state_is_read_while_the_queue_is_worked_through(monkeypatch):
    device = FakeDevice("accel", asynchronous=True)
    device.energy_meter = FakeMeter(device.fake_clock)
    busy = []

    def state():
        now = device.fake_clock.now
        busy.append(device._idle_at > now)

    monkeypatch.setattr(device.energy_meter, "state", state)
    measured_energy(load(device), device, 10, requested=True)
    assert len(busy) > 5
    assert all(busy)


# Without a meter


def test_an_estimate_takes_no_time(bare):
    found = measured_energy(load(bare, threads=2), bare, 0.001, requested=False)
    assert (found.energy.source, found.energy.scope, found.energy.calls) == ("estimate", "vcpus", 10)
    assert found.notes == ()
    assert bare.kernels == 0


def test_an_estimate_where_a_measurement_was_asked_for_says_so(bare, snapshot):
    found = measured_energy(load(bare), bare, 10, requested=True)
    assert found.energy.estimated
    (note,) = found.notes
    assert note.code == "energy-estimated"
    assert str(note) == snapshot


def test_a_cpu_that_nobody_knows(snapshot):
    device = FakeDevice()
    assert measured_energy(load(device), device, 10, requested=False) == (None, ())
    (note,) = measured_energy(load(device), device, 10, requested=True).notes
    assert note.code == "energy-unknown"
    assert str(note) == snapshot


def test_an_accelerator_without_a_meter_is_not_estimated_from_its_host(bare, snapshot):
    bare.asynchronous = True
    assert measured_energy(load(bare), bare, 10, requested=False) == (None, ())
    (note,) = measured_energy(load(bare), bare, 10, requested=True).notes
    assert note.code == "energy-unknown"
    assert str(note) == snapshot


# As a part of a case


@pytest.fixture
def untraced(monkeypatch):
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: None)


def test_a_case_measures_energy_where_it_is_asked_to(device, untraced):
    subject = Subject(lambda: device.spend(0.010), batch_size=4)
    run = measure(subject, device, Effort(10, energy=True))
    assert run.measurement.energy.joules == pytest.approx(1.0)
    assert run.measurement.energy.batch_size == 4
    without = measure(subject, device, Effort(10))
    assert without.measurement.energy is None


def test_notes_of_the_energy_are_those_of_the_case(device, untraced):
    run = measure(Subject(lambda: device.spend(0.010)), device, Effort(3, energy=True))
    assert [note.code for note in run.measurement.notes] == ["energy-skipped"]


def test_a_stream_takes_energy_as_a_whole(device, untraced):
    def stream():
        for _ in range(4):
            device.spend(0.005)
            yield 1

    run = measure(Subject(stream), device, Effort(10, energy=True))
    assert run.measurement.energy.joules == pytest.approx(2.0)

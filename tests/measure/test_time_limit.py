import pytest

from pytest_infergate.instruments.device import DeviceCounters
from pytest_infergate.measure import memory, timing_guard
from pytest_infergate.measure.case import Effort, Subject, measure
from pytest_infergate.measure.time_limit import TimeLimit
from pytest_infergate.testing import FakeClock, FakeDevice


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(timing_guard, "tracer_note", lambda: None)
    monkeypatch.setattr(memory, "page_faults", lambda: 0)


def test_what_does_not_fit_is_named_once():
    clock = FakeClock()
    limit = TimeLimit(clock, 10)
    assert limit.allows(10, "counters")
    assert limit.note(1) is None
    clock.advance(7)
    assert limit.left() == 3
    assert not limit.allows(3.5, "sampling")
    assert not limit.allows(4, "sampling")
    assert limit.allows(3, "throughput")
    clock.advance(5)
    assert limit.left() == 0
    assert not limit.allows(0.1, "energy")
    note = limit.note(3.5)
    assert note.code == "time-limit"
    assert "sampling, energy;" in note.text
    assert "2min" in note.hint


class Slow:
    """A model of so many seconds, on a device whose observers call it as the real ones do."""

    def __init__(self, seconds):
        self.seconds, self.calls, self.device = seconds, 0, FakeDevice()
        self.device.memory = self.observing(self.device.memory)
        self.device.count = self.observing(self.device.count, calls=2)

    def observing(self, observe, calls=1):
        def run(call):
            for _ in range(calls - 1):
                call()
            return observe(call)

        return run

    def __call__(self):
        self.calls += 1
        self.device.spend(self.seconds)

    def run(self, cap, **effort):
        subject = Subject(self, observe=lambda call, sizes: (call(), None))
        return measure(subject, self.device, Effort(cap, **effort))


@pytest.mark.parametrize(
    ("seconds", "cap"), [(3, 1), (1, 0.6), (1, 1), (0.7, 1), (0.9, 10), (2, 10), (9, 10), (60, 10)]
)
@pytest.mark.parametrize("repetitions", [1, 3])
def test_a_case_takes_its_limit_and_two_calls_at_most(seconds, cap, repetitions):
    model = Slow(seconds)
    run = model.run(cap, repetitions=repetitions)
    assert model.device.fake_clock.now / 1e9 <= cap + 2 * seconds
    assert run.measurement.latency.p50.value == pytest.approx(seconds)
    assert run.measurement.throughput == pytest.approx(1 / seconds)
    assert "time-limit" in [note.code for note in run.measurement.notes]


def test_exact_counters_come_first_where_there_is_little_time():
    model = Slow(1.0)
    model.device.counters = DeviceCounters({"operators": 3})
    counted = [model.run(cap).measurement for cap in (6, 4, 2)]
    assert [bool(each.counters.totals) for each in counted] == [True, True, False]
    assert [each.counters.counted for each in counted] == [True, False, False]
    assert [each.memory.activations for each in counted] == [1_000_000, None, None]
    dropped = [next(note.text for note in each.notes if note.code == "time-limit") for each in counted]
    assert ["counters of memory" in text for text in dropped] == [False, True, True]
    assert ["operators" in text for text in dropped] == [False, False, True]


def test_a_case_with_enough_time_drops_nothing():
    run = Slow(0.05).run(10, repetitions=3)
    assert [note.code for note in run.measurement.notes] == []


def test_a_slow_first_call_takes_nothing_from_the_others():
    model = Slow(40.0)  # as a compiler does

    def call():
        model()
        model.seconds = 0.01

    run = measure(Subject(call), model.device, Effort(10))
    assert run.measurement.cold_start == 40
    assert run.measurement.latency.count >= 20
    assert [note.code for note in run.measurement.notes] == ["first-call-long"]


@pytest.mark.parametrize(("seconds", "calls"), [(0.001, 875), (0.005, 490), (0.1, 82)])
def test_the_tail_is_sampled_within_the_limit(seconds, calls):
    run = Slow(seconds).run(10, tail=True, limited=True)
    found = run.measurement
    assert found.latency.count == calls
    assert found.call_order.seconds == pytest.approx([seconds] * found.latency.count)
    assert found.call_order.run == found.latency.count
    assert found.latency.count * seconds <= found.call_order.span <= 10
    assert found.latency.p995.value == pytest.approx(seconds)
    codes = [note.code for note in found.notes]
    assert codes == (["tail-unseen"] if seconds == 0.1 else [])


def test_without_a_latency_limit_an_unseen_tail_breaks_no_promise():
    assert Slow(0.1).run(10, tail=True).measurement.notes == ()


def test_a_run_that_does_not_need_the_tail_pays_nothing():
    plain = Slow(0.005).run(10)
    assert plain.measurement.latency.count < 300
    assert plain.measurement.call_order is None
    assert plain.measurement.latency.p999 is None


def paced(seconds, cap, **effort):
    """Calls take 20 % longer after a rest."""
    model = Slow(seconds)
    rested = []

    def sleep(rest):
        rested.append(rest)
        model.device.fake_clock.advance(rest)

    def call():
        model()
        model.device.spend(0.2 * seconds if rested and rested[-1] else 0.0)
        rested.append(0.0)

    begin = model.device.fake_clock.now
    run = measure(Subject(call), model.device, Effort(cap, tail=True, paced=True, sleep=sleep, **effort))
    return run.measurement, [rest for rest in rested if rest], (model.device.fake_clock.now - begin) / 1e9


@pytest.mark.parametrize("seconds", [0.0001, 0.010, 0.1])
def test_calls_are_paced_as_at_a_low_load(seconds):
    measured, rests, _ = paced(seconds, 10)
    assert measured.call_order.paced == pytest.approx(1.2, rel=0.02)
    assert rests == pytest.approx([seconds * (1 / 0.3 - 1)] * len(rests), rel=0.02)
    assert sum(rests) + 1.3 * len(rests) * seconds <= max(1.5, 5 * seconds / 0.2)


def test_a_demand_with_slow_calls_takes_no_longer_than_the_limit():
    for seconds in (0.05, 0.12, 0.3, 2.0):
        measured, rests, took = paced(seconds, 10)
        assert took <= 10 + 3 * seconds
        assert (measured.call_order.paced is not None) == bool(rests) == (seconds <= 0.12)
